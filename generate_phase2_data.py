"""Make the preference triplets for Stage B: a prompt, a factual summary, and the same summary with one wrong fact.

In:  `train_set_processed.csv` and `validation_set_processed.csv` in --phase1_dir (id, clinical_note, model_summary,
     label, hallucination_type), or the same names ending in .jsonl, .json or .parquet. The test split is never read.
Out: `train_dpo.jsonl` and `val_dpo.jsonl` (prompt, clinical_note, chosen, rejected, id, source_id, edits),
     `left_out.jsonl` (factual summaries that state something their note does not) and `phase2_stats.json`, in
     --phase2_dir.

    python generate_phase2_data.py
    python generate_phase2_data.py --adversarial_ratio 2 --exclude_types fabricated_detail sex --num_workers 4

A summary labelled hallucinated is paired with a factual summary of the same note (type `phase1`). These pairs come
first. All other rejected texts are generated: each differs from its factual summary in one fact, and the script has
verified that the note supports the old fact and does not support the new one. The script chooses among the verified
negatives so that words, lengths and types of error are balanced over all pairs. Without the note, a rejected text then
looks like a chosen text. Files are read and written row by row. The output does not depend on --num_workers.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons, lexicon_settings
from language_model.prompt_format import build_prompt
from negatives.case import Corpus
from negatives.example_index import Example, ExampleIndex
from negatives.parallel_map import ordered_map
from negatives.phase1_pairs import PHASE1, phase1_pairs
from negatives.phase2_report import SplitReport, print_table
from negatives.registry import EDITORS
from negatives.selection import Selection, Trimming
from negatives.supply import MANY, Task, supply
from negatives.verification import Negative
from script_io.columns_flag import PHASE1_ROLES, add_columns_argument, column_names
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import atomic_write, scratch_folder, write_json
from script_io.phase1_csv import HALLUCINATED
from script_io.phase1_files import split_file
from script_io.progress import progress_bar
from script_io.tables import JSON_SUFFIXES, PARQUET_SUFFIXES, csv_lines

TYPES = (PHASE1, *EDITORS)
SPLITS = {"train": "train_set_processed.csv", "validation": "validation_set_processed.csv"}
OUTPUTS = {"train": "train_dpo.jsonl", "validation": "val_dpo.jsonl"}
# Rounds of selection. From the second round on, the choices of all other summaries are known. If many negatives are
# wanted per summary (over MANY), most offered negatives are taken, and more rounds change little
CHOICES, CHOICES_OF_MANY = 5, 2
LEFT_OUT, STATS = "left_out.jsonl", "phase2_stats.json"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    categories = "\n".join(f"  {name:18} {text}" for name, (_, text) in EDITORS.items())
    parser = ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        epilog=f"types:\n  {PHASE1:18} a hallucinated summary of the CSV, paired with a factual one\n{categories}",
    )
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--phase1_dir",
        type=Path,
        default=Path("phase1_data/sft"),
        help="folder of the Phase 1 files (default: phase1_data/sft)",
    )
    add_columns_argument(data, PHASE1_ROLES)
    add_lexicon_argument(data)
    made = parser.add_argument_group("Negatives")
    made.add_argument(
        "--adversarial_ratio",
        type=float,
        default=1.0,
        help="negatives to generate per factual summary, above 0; 0.5: one per two summaries (default: 1.0)",
    )
    made.add_argument(
        "--types", nargs="+", choices=TYPES, metavar="TYPE", help="make only these types, listed below (default: all)"
    )
    made.add_argument(
        "--exclude_types",
        nargs="+",
        choices=TYPES,
        metavar="TYPE",
        default=[],
        help="leave out these types, listed below (default: none)",
    )
    made.add_argument(
        "--seed", type=at_least(0), default=42, help="random seed; the same seed gives the same files (default: 42)"
    )
    made.add_argument(
        "--num_workers", type=int, default=1, help="worker processes; the output does not depend on them (default: 1)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--phase2_dir",
        type=Path,
        default=Path("phase2_data/dpo"),
        help="output folder for the triplets and their statistics (default: phase2_data/dpo)",
    )
    return parser.parse_args(argv)


def chosen_types(args: argparse.Namespace) -> list[str]:
    """Return the selected types, in the order of the registry. Raises InputError if none is left."""
    types = [name for name in TYPES if name in (args.types or TYPES) and name not in args.exclude_types]
    if not types:
        raise InputError("--types and --exclude_types leave no type; name another one with --types")
    return types


def wanted_negatives(ratio: float, rng: random.Random) -> int:
    """Return the whole part of `ratio`, plus 1 with the probability of its fraction."""
    return math.floor(ratio) + (rng.random() < ratio - math.floor(ratio))


def with_csv_lines(
    examples: Iterable[Example], path: Path, columns: Mapping[str, str]
) -> Iterator[tuple[Example, int]]:
    """Yield each example with its line in a CSV of the table, so that every kind of table gives the same negatives."""
    if path.suffix.lower() not in (*JSON_SUFFIXES, *PARQUET_SUFFIXES):
        yield from ((example, example.line) for example in examples)
        return
    rows = csv_lines(path, columns)  # in the order of the examples
    for example in examples:
        yield example, next(line for number, line in rows if number == example.line)


def tasks(index: ExampleIndex, split: str, types: Sequence[str], args: argparse.Namespace) -> Iterator[Task]:
    """Yield the factual summaries that need negatives or can be paired with a hallucinated summary."""
    makes_any = any(name != PHASE1 for name in types)
    total = index.sizes[split].factual
    path, columns = split_file(args.phase1_dir, SPLITS[split]), column_names(args.columns, PHASE1_ROLES)
    examples = progress_bar(index.factual(split), label=f"{split} negatives", total=total, unit="summary")
    for example, line in with_csv_lines(examples, path, columns):
        seed = f"{args.seed}|{split}|{line}|{example.row_id}"
        wanted = wanted_negatives(args.adversarial_ratio, random.Random(seed)) if makes_any else 0
        if wanted or (PHASE1 in types and index.hallucinated_of(split, example.note)):
            yield Task(example, wanted, f"{seed}|negatives")


def select_negatives(
    index: ExampleIndex,
    split: str,
    types: Sequence[str],
    args: argparse.Namespace,
    offers: IO[bytes],
    left_out: IO[str],
) -> tuple[Selection, SplitReport]:
    """Select negatives for each summary of a split in one pass.

    Writes (task, negatives offered, negatives taken) of each sound summary to `offers`, and the errors of each unsound
    summary to `left_out`.
    """
    categories = [name for name in types if name != PHASE1]
    selection, report = Selection(categories), SplitReport(index.sizes[split])
    sample = ((example.note, example.summary) for example in index.sample(split, args.seed))
    work = partial(supply, corpus=Corpus.from_summaries(sample), categories=categories)
    set_up = partial(add_lexicons, args.lexicon_dir)
    for task, offer in ordered_map(work, tasks(index, split, types, args), args.num_workers, set_up):
        labelled = index.hallucinated_of(split, task.example.note)
        disputed = (("label", task.example.summary, HALLUCINATED),) if task.example.summary in labelled else ()
        if errors := offer.errors or disputed:
            index.mark_unsound(task.example)
            report.leave_out(task.example.row_id)
            write_errors(left_out, split, task.example, errors)
            continue
        offered = [negative for negative in offer.negatives if negative.rejected not in labelled]
        taken = selection.take(task.example.summary, offered, task.wanted)
        report.count_offer(task.wanted, len(taken), offer.rejected_for)
        pickle.dump((task, offered, taken), offers)
    return selection, report


def choose_again(selection: Selection, offers: IO[bytes], again: IO[bytes]) -> None:
    """Let each summary give its negatives back and choose again, with the choices of all others known."""
    for task, offered, taken in stored(offers):
        selection.give_back(task.example.summary, taken)
        pickle.dump((task, offered, selection.take(task.example.summary, offered, task.wanted)), again)


def stored(offers: IO[bytes]) -> Iterator[tuple[Task, list[Negative], list[Negative]]]:
    """Yield (task, negatives offered, negatives taken) of every sound summary, from the start of the file."""
    offers.seek(0)
    with suppress(EOFError):
        while True:
            yield pickle.load(offers)


def write_errors(left_out: IO[str], split: str, example: Example, errors: Iterable[tuple[str, str, str]]) -> None:
    """Write one line for each claim that the note does not support, or for a conflicting label."""
    for claim_type, text, verdict in errors:
        row = {"split": split, "id": example.row_id, "type": claim_type, "text": text, "verdict": verdict}
        write_line(left_out, row)


def triplet(triplet_id: str, example: Example, negative: Negative) -> dict[str, Any]:
    """Return one row of the DPO files."""
    return {
        "id": triplet_id,
        "source_id": example.row_id,
        "prompt": build_prompt(example.note),
        "clinical_note": example.note,
        "chosen": example.summary,
        "rejected": negative.rejected,
        "edits": [asdict(edit) for edit in negative.edits],
    }


def write_line(handle: IO[str], row: Mapping[str, Any]) -> None:
    """Write a row as one line of JSON."""
    handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_triplets(
    output: IO[str], pairs: Iterable[Mapping[str, Any]], offers: IO[bytes], trimming: Trimming, report: SplitReport
) -> None:
    """Write the pairs of the CSV, then the generated pairs, except the excess of a category."""
    for row in pairs:
        write_line(output, row)
        report.count_pair(PHASE1, row, made=False)
    for task, _, taken in stored(offers):
        number: Counter[str] = Counter()
        for negative in taken:
            if not trimming.keeps(task.example.summary, negative):
                report.over_share += 1
                continue
            number[negative.type] += 1
            repeat = f"-{number[negative.type]}" if number[negative.type] > 1 else ""
            row = triplet(f"{task.example.name}-{negative.type}{repeat}", task.example, negative)
            write_line(output, row)
            report.count_pair(negative.type, row)


def make_split(
    index: ExampleIndex, split: str, types: Sequence[str], args: argparse.Namespace, files: Mapping[str, IO[str]]
) -> SplitReport:
    """Make all triplets of one split and write them to its output file."""
    print(f"Filtered to {index.sizes[split].factual} factual examples")
    with ExitStack() as stack:
        rounds = CHOICES if args.adversarial_ratio <= MANY else CHOICES_OF_MANY
        files_of_offers = [stack.enter_context(tempfile.TemporaryFile(dir=args.phase2_dir)) for _ in range(rounds)]
        selection, report = select_negatives(index, split, types, args, files_of_offers[0], files["left_out"])
        for offers, again in pairwise(files_of_offers):
            choose_again(selection, offers, again)
        rows = (triplet(*pair) for pair in (phase1_pairs(index, split) if PHASE1 in types else ()))
        trimming = Trimming(selection, random.Random(f"{args.seed}|{split}|share"))
        write_triplets(files[split], rows, files_of_offers[-1], trimming, report)
    if report.unsound:
        print(f"Left out {report.unsound} of {report.looked_at} factual summaries: the note does not support them")
    return report


def read_examples(index: ExampleIndex, args: argparse.Namespace) -> None:
    """Read both files into the index. Raises InputError if the training file has no factual row."""
    columns = column_names(args.columns, PHASE1_ROLES)
    for split, name in SPLITS.items():
        path = split_file(args.phase1_dir, name)
        size = index.add(split, path, apart_from="train" if split == "validation" else None, columns=columns)
        print(f"Loaded {size.rows} examples from {path}")
        if size.leaking:
            print(f"Left out {size.leaking} {split} examples whose note is in the training file")
        if size.repeated:
            print(f"Left out {size.repeated} {split} examples that repeat an earlier one")
        if split == "train" and not size.factual:
            raise InputError(f"{path}: none of {size.rows} rows is labelled factual; add factual summaries")


def check_yield(path: Path, report: SplitReport) -> None:
    """Raise InputError, with the reasons, if no triplet could be made."""
    if report.triplets:
        return
    raise InputError(
        f"{path}: no triplet could be made from {report.looked_at} factual summaries: the note does not support "
        f"{report.unsound}, and {report.without_negative} have no fact that these types can make wrong; "
        "add factual summaries, widen --types or raise --adversarial_ratio"
    )


def main(args: argparse.Namespace) -> int:
    """Make and write the triplets of both splits."""
    if not 0 < args.adversarial_ratio < math.inf:
        raise InputError(f"--adversarial_ratio {args.adversarial_ratio}: give a number above 0")
    if args.num_workers < 1:
        raise InputError(f"--num_workers {args.num_workers}: give 1 or more")
    types = chosen_types(args)
    add_lexicons(args.lexicon_dir)
    reports = {}
    with scratch_folder(args.phase2_dir) as scratch, closing(ExampleIndex(scratch)) as index, ExitStack() as stack:
        read_examples(index, args)
        names = {**OUTPUTS, "left_out": LEFT_OUT}
        files = {key: stack.enter_context(atomic_write(args.phase2_dir / name)) for key, name in names.items()}
        for split, name in SPLITS.items():
            reports[split] = make_split(index, split, types, args, files)
            if split == "train":
                check_yield(args.phase1_dir / name, reports[split])
        shared = index.shared_notes("validation", "train")
    stats = {split: report.as_dict() for split, report in reports.items()}
    leakage = {
        "validation_examples_left_out": reports["validation"].size.leaking,
        "shared_notes_in_output": shared,
    }
    settings = {"adversarial_ratio": args.adversarial_ratio, "types": types, "seed": args.seed}
    settings["lexicons"] = lexicon_settings(args.lexicon_dir)
    write_json(args.phase2_dir / STATS, {**stats, "leakage_check": leakage, "settings": settings})
    print_table(reports["train"], reports["validation"], TYPES)
    if not reports["validation"].triplets:
        path = args.phase2_dir / OUTPUTS["validation"]
        print(f"warning: {path} is empty; Stage B needs pairs whose notes are not training notes", file=sys.stderr)
    print(f"Training triplets: {reports['train'].triplets}")
    print(f"Validation triplets: {reports['validation'].triplets}")
    print(f"Wrote {', '.join(OUTPUTS.values())}, {LEFT_OUT} and {STATS} to {args.phase2_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
