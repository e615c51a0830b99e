"""Makes Stage B's preference triplets: a factual summary, and the same summary with one verified wrong fact.

In:  `train_set_processed.csv` and `validation_set_processed.csv` in --phase1_dir (id, clinical_note, model_summary,
     label, hallucination_type). The test split is never read.
Out: `train_dpo.jsonl` and `val_dpo.jsonl` (prompt, chosen, rejected, id, source_id, edits) and `phase2_stats.json`
     (counts by type, rejected candidates by reason, lengths, leakage check) in --phase2_dir.

    python generate_phase2_data.py
    python generate_phase2_data.py --adversarial_ratio 2 --exclude_types fabricated_detail sex

Summaries labelled hallucinated are paired with a factual one of the same note (type `phase1`) and come first. All
other rejected texts are made: each differs from its factual summary in one fact, and code has verified that the
note supports the old fact and not the new one. Factual summaries in which the fact checker finds an error are left out
and listed: what Stage B prefers must be true. Every choice comes from --seed and the row's id.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from evaluation.fact_checker import check_summary
from hard_negatives import Edit, Negative, verified_negatives
from negative_editors import EDITORS, Case, Detail, details_of
from prompt_format import build_prompt
from script_io import ArgumentParser, InputError, read_csv, run_script, write_json, write_jsonl

COLUMNS = ("id", "clinical_note", "model_summary", "label")
FACTUAL = ("factual", "factual_with_evidence")
HALLUCINATED = "hallucinated"
PHASE1 = "phase1"
TYPES = (PHASE1, *EDITORS)
SPLITS = {"train": "train_set_processed.csv", "validation": "validation_set_processed.csv"}
OUTPUTS = {"train": "train_dpo.jsonl", "validation": "val_dpo.jsonl"}
MAX_CATEGORY_SHARE = 0.2
FEWEST_CATEGORIES_TO_BALANCE = 6
MIN_SHARE_KEPT = 0.5  # balancing that would cost more of the triplets than this leaves is given up


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    categories = "\n".join(f"  {name:18} {text}" for name, (_, text) in EDITORS.items())
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=f"types:\n  {PHASE1:18} a hallucinated summary of the CSV beside a factual one\n{categories}",
    )
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--phase1_dir",
        type=Path,
        default=Path("phase1_data/sft"),
        help="folder of the Phase 1 CSV files (default: phase1_data/sft)",
    )
    made = parser.add_argument_group("Negatives")
    made.add_argument(
        "--adversarial_ratio",
        type=float,
        default=1.0,
        help="made negatives for each factual summary; 0.5 makes one for every second (default: 1.0)",
    )
    made.add_argument(
        "--types", nargs="+", choices=TYPES, metavar="TYPE", help="make only these types (default: all, listed below)"
    )
    made.add_argument(
        "--exclude_types", nargs="+", choices=TYPES, metavar="TYPE", default=[], help="leave these out (default: none)"
    )
    made.add_argument(
        "--seed", type=int, default=42, help="seed of every choice; the same seed gives the same files (default: 42)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--phase2_dir",
        type=Path,
        default=Path("phase2_data/dpo"),
        help="folder for the triplets and their statistics (default: phase2_data/dpo)",
    )
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Example:
    """One row of a Phase 1 CSV."""

    row_id: str
    note: str
    summary: str
    label: str
    hallucination_type: str


@dataclass
class SplitReport:
    """What became of one split, for `phase2_stats.json`."""

    examples: int = 0
    factual: int = 0
    leaking: int = 0
    paired: int = 0
    without_negative: int = 0
    over_share: int = 0
    unsound_ids: list[str] = field(default_factory=list)
    rejected_candidates: Counter[str] = field(default_factory=Counter)


def read_examples(path: Path) -> list[Example]:
    """The rows of a Phase 1 CSV. Raises InputError at an unknown label or an empty text."""
    examples = []
    for line, row in read_csv(path, COLUMNS, "name the folder that holds it with --phase1_dir"):
        note, summary, label = row["clinical_note"].strip(), row["model_summary"].strip(), row["label"].strip()
        if label not in (*FACTUAL, HALLUCINATED):
            known = ", ".join((*FACTUAL, HALLUCINATED))
            raise InputError(f"{path}, line {line}: unknown label {label!r}; use one of {known}")
        if not note or not summary:
            empty = "model_summary" if note else "clinical_note"
            raise InputError(f"{path}, line {line}: {empty} is empty; fill it in or take the row out")
        examples.append(Example(row["id"], note, summary, label, row.get("hallucination_type", "").strip()))
    return examples


# -------------------------------------------------------------------------------------- Phase 1 pairs


def phase1_pairs(examples: Sequence[Example], report: SplitReport) -> list[dict[str, Any]]:
    """Every hallucinated summary beside a factual one of its note; several take turns."""
    factual: dict[str, list[Example]] = {}
    for example in examples:
        if example.label in FACTUAL:
            factual.setdefault(example.note, []).append(example)
    rows = []
    turn: Counter[str] = Counter()
    for example in examples:
        partners = factual.get(example.note, [])
        if example.label != HALLUCINATED or not partners:
            continue
        partner = partners[turn[example.note] % len(partners)]
        turn[example.note] += 1
        if partner.summary == example.summary:
            raise InputError(
                f"row {example.row_id}: the hallucinated summary equals the factual one of row {partner.row_id}; "
                "mend one of the labels"
            )
        edit = labelled_edit(partner.summary, example.summary, example.hallucination_type)
        rows.append(
            triplet(f"{partner.row_id}-{PHASE1}-{example.row_id}", partner, Negative(PHASE1, example.summary, (edit,)))
        )
    report.paired = len(rows)
    return rows


def labelled_edit(chosen: str, rejected: str, hallucination_type: str) -> Edit:
    """The span in which two texts differ, in whole words; its verdict is the CSV's label, which no code verified."""
    start = _common_start(chosen, rejected)
    while start and not chosen[start - 1].isspace():
        start -= 1
    tail = _common_start(chosen[start:][::-1], rejected[start:][::-1])
    while tail and not chosen[len(chosen) - tail].isspace():
        tail -= 1
    end = len(chosen) - tail
    new = rejected[start : len(rejected) - tail]
    return Edit(hallucination_type or PHASE1, start, end, chosen[start:end], new, "labelled")


def _common_start(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def triplet(triplet_id: str, example: Example, negative: Negative) -> dict[str, Any]:
    """One line of the DPO files."""
    return {
        "id": triplet_id,
        "source_id": example.row_id,
        "prompt": build_prompt(example.note),
        "chosen": example.summary,
        "rejected": negative.rejected,
        "edits": [asdict(edit) for edit in negative.edits],
    }


# -------------------------------------------------------------------------------------- made negatives


@dataclass
class Choice:
    """The verified negatives of one factual summary, by category, and how many of them are wanted."""

    example: Example
    wanted: int
    available: dict[str, list[Negative]]
    taken: list[Negative] = field(default_factory=list)


def wanted_negatives(ratio: float, rng: random.Random) -> int:
    """The whole part of `ratio`, and one more with the probability of its fraction."""
    return math.floor(ratio) + (rng.random() < ratio - math.floor(ratio))


def find_choices(
    factual: Sequence[Example], split: str, categories: Sequence[str], args: argparse.Namespace, report: SplitReport
) -> list[Choice]:
    """For each factual summary that is to have a negative, the verified ones of every category."""
    from tqdm import tqdm

    details = [detail for example in factual for detail in details_of(example.note, example.summary)]
    choices = []
    for index, example in enumerate(tqdm(factual, desc=f"{split} negatives", unit="summary", disable=None)):
        rng = random.Random(f"{args.seed}|{split}|{index}|{example.row_id}")
        wanted = wanted_negatives(args.adversarial_ratio, rng)
        if wanted:
            choices.append(Choice(example, wanted, _available(example, details, categories, wanted, rng, report)))
    return choices


def _available(
    example: Example,
    details: Sequence[Detail],
    categories: Sequence[str],
    wanted: int,
    rng: random.Random,
    report: SplitReport,
) -> dict[str, list[Negative]]:
    case = Case(example.note, example.summary, details)
    per_category = max(1, math.ceil(wanted / 2))
    found = {
        category: verified_negatives(case, category, rng, per_category, report.rejected_candidates)
        for category in categories
    }
    return {category: negatives for category, negatives in found.items() if negatives}


def choose_evenly(choices: Sequence[Choice]) -> Counter[str]:
    """Fills every choice with the category that is the rarest so far; summaries with few categories choose first."""
    counts: Counter[str] = Counter()
    for choice in sorted(choices, key=lambda choice: len(choice.available)):
        left = {category: list(negatives) for category, negatives in choice.available.items()}
        while left and len(choice.taken) < choice.wanted:
            category = min(left, key=lambda name: (counts[name], name))
            counts[category] += 1
            choice.taken.append(left[category].pop(0))
            if not left[category]:
                del left[category]
    return counts


def share_limit(counts: Mapping[str, int]) -> int | None:
    """The most triplets of a category with which none is over its share; None where nothing is to be taken out."""
    sizes = sorted((count for count in counts.values() if count), reverse=True)
    total = sum(sizes)
    if len(sizes) < FEWEST_CATEGORIES_TO_BALANCE or sizes[0] <= MAX_CATEGORY_SHARE * total:
        return None
    limit = sizes[0]
    while limit > MAX_CATEGORY_SHARE * (kept := sum(min(size, limit) for size in sizes)):
        limit -= 1
    return limit if kept >= MIN_SHARE_KEPT * total else None


def made_rows(choices: Sequence[Choice], seed: int, report: SplitReport) -> list[dict[str, Any]]:
    """The triplets of all choices in the order of the CSV, no category over its share."""
    limit = share_limit(choose_evenly(choices))
    entries = [(choice.example, negative) for choice in choices for negative in choice.taken]
    report.without_negative = sum(not choice.taken for choice in choices)
    if limit is not None:
        entries = _within_limit(entries, limit, seed)
        report.over_share = sum(len(choice.taken) for choice in choices) - len(entries)
    number: Counter[str] = Counter()
    rows = []
    for example, negative in entries:
        name = f"{example.row_id}-{negative.type}"
        number[name] += 1
        rows.append(triplet(name if number[name] == 1 else f"{name}-{number[name]}", example, negative))
    return rows


def _within_limit(entries: Sequence[tuple[Example, Negative]], limit: int, seed: int) -> list[tuple[Example, Negative]]:
    """At most `limit` entries of each category, drawn by `seed`, in the order given."""
    order = random.Random(f"{seed}|share").sample(range(len(entries)), len(entries))
    counts: Counter[str] = Counter()
    kept = []
    for index in order:
        counts[entries[index][1].type] += 1
        if counts[entries[index][1].type] <= limit:
            kept.append(index)
    return [entries[index] for index in sorted(kept)]


# ------------------------------------------------------------------------------------------- reporting


def types_of(rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many triplets there are of each type; a pair from the CSV counts as `phase1`."""
    return Counter(PHASE1 if row["edits"][0]["verdict"] == "labelled" else row["edits"][0]["type"] for row in rows)


def split_stats(rows: Sequence[Mapping[str, Any]], report: SplitReport) -> dict[str, Any]:
    """The part of `phase2_stats.json` about one split."""
    lengths = {
        side: {"mean_words": round(mean(words), 1), "max_words": max(words)}
        for side in ("chosen", "rejected")
        if (words := [len(row[side].split()) for row in rows])
    }
    return {
        "triplets": len(rows),
        "by_type": dict(types_of(rows).most_common()),
        "by_verdict": dict(Counter(edit["verdict"] for row in rows for edit in row["edits"]).most_common()),
        "lengths": lengths,
        "examples": report.examples,
        "factual_examples": report.factual,
        "factual_left_out_as_unsound": report.unsound_ids,
        "factual_without_negative": report.without_negative,
        "left_out_over_category_share": report.over_share,
        "rejected_candidates": dict(report.rejected_candidates.most_common()),
    }


def print_table(stats: Mapping[str, Mapping[str, Any]]) -> None:
    """Triplets by type, a column a split."""
    print(f"\n{'type':20}{'train':>8}{'validation':>12}")
    for name in TYPES:
        train, validation = (stats[split]["by_type"].get(name, 0) for split in SPLITS)
        if train or validation:
            print(f"{name:20}{train:8}{validation:12}")
    print(f"{'all':20}{stats['train']['triplets']:8}{stats['validation']['triplets']:12}\n")


def chosen_types(args: argparse.Namespace) -> list[str]:
    """The types in play, in the order of the registry. Raises InputError where none is left."""
    types = [name for name in TYPES if name in (args.types or TYPES) and name not in args.exclude_types]
    if not types:
        raise InputError("--types and --exclude_types leave no type; name another one with --types")
    return types


def make_split(
    examples: Sequence[Example], split: str, types: Sequence[str], args: argparse.Namespace, report: SplitReport
) -> list[dict[str, Any]]:
    """All triplets of one split: the pairs from the CSV first, then the made ones."""
    factual = [example for example in examples if example.label in FACTUAL]
    print(f"Filtered to {len(factual)} factual examples")
    report.examples, report.factual = len(examples), len(factual)
    sound: list[Example] = []
    for example in factual:
        if check_summary(example.note, example.summary).has_hallucination:
            report.unsound_ids.append(example.row_id)
        else:
            sound.append(example)
    if report.unsound_ids:
        print(f"Left out {len(report.unsound_ids)} of them, whose own summary states what the note does not")
    hallucinated = [example for example in examples if example.label == HALLUCINATED]
    pairs = phase1_pairs([*sound, *hallucinated], report) if PHASE1 in types else []
    categories = [name for name in types if name != PHASE1]
    return pairs + made_rows(find_choices(sound, split, categories, args, report), args.seed, report)


def main(args: argparse.Namespace) -> int:
    """Makes and writes the triplets of both splits."""
    if not 0 <= args.adversarial_ratio < math.inf:
        raise InputError(f"--adversarial_ratio {args.adversarial_ratio}: give a number from 0 up")
    types = chosen_types(args)
    paths = {split: args.phase1_dir / name for split, name in SPLITS.items()}
    data = {split: read_examples(path) for split, path in paths.items()}
    reports = {split: SplitReport() for split in SPLITS}
    train_notes = {example.note for example in data["train"]}
    kept = [example for example in data["validation"] if example.note not in train_notes]
    reports["validation"].leaking = len(data["validation"]) - len(kept)
    rows = {}
    for split, path in paths.items():
        print(f"Loaded {len(data[split])} examples from {path}")
        if split == "validation" and reports[split].leaking:
            print(f"Left out {reports[split].leaking} validation examples whose note is a training note")
        rows[split] = make_split(kept if split == "validation" else data[split], split, types, args, reports[split])
    if not rows["train"]:
        raise InputError(f"{paths['train']}: no triplet could be made; add factual summaries or widen --types")
    stats = {split: split_stats(rows[split], reports[split]) for split in SPLITS}
    shared = {row["prompt"] for row in rows["train"]} & {row["prompt"] for row in rows["validation"]}
    leakage = {"validation_examples_left_out": reports["validation"].leaking, "shared_notes_in_output": len(shared)}
    settings = {"adversarial_ratio": args.adversarial_ratio, "types": types, "seed": args.seed}
    for split, name in OUTPUTS.items():
        write_jsonl(args.phase2_dir / name, rows[split])
    write_json(args.phase2_dir / "phase2_stats.json", {**stats, "leakage_check": leakage, "settings": settings})
    print_table(stats)
    print(f"Training triplets: {len(rows['train'])}")
    print(f"Validation triplets: {len(rows['validation'])}")
    print(f"Wrote {', '.join(OUTPUTS.values())} and phase2_stats.json to {args.phase2_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
