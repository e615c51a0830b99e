"""Make the three Phase 1 CSV files from your own export of notes and summaries.

In:  --input, a table of any common kind: CSV with commas, semicolons or tabs, JSON, JSONL, Parquet, a folder saved by
     `datasets`, a folder of tables with the same columns, or a folder of NAME.txt with NAME.summary.txt.
Out: in --output_dir `train_set_processed.csv`, `validation_set_processed.csv`, `test_set_processed.csv` and
     `phase1_report.json`, which holds the audit. If the data have hallucinated summaries, their pairs with the factual
     summaries of the same notes are also written as DPO JSONL, to the folder dpo next to an --output_dir that is called
     sft, as the default is, else to the folder dpo in it.

    python prepare_phase1_data.py --input visits.csv --output_dir phase1_data/mine
    python prepare_phase1_data.py --input visits.parquet --note_column dialogue --summary_column section_text \\
        --group_column patient --redact --annotate_evidence --output_dir phase1_data/mine

Columns, delimiter and encoding are found and printed; flags overrule them. No note, no group and no near-duplicate of a
note is in two splits. --redact replaces identifiers that have a written form; it finds no name without a title, and a
person has to read the texts before they are shared.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons, lexicon_settings
from evaluation.calibration import calibration
from fact_checking.citations import check_citations
from fact_checking.claims import FactCheck
from ingest.audit import file_problems, token_lengths, unsupported_references
from ingest.columns import choose_columns, column_lines, unused_columns
from ingest.evidence import annotated_records, without_old_citations
from ingest.pairs import preference_rows
from ingest.records import Record, records_of, with_rejected_rows
from ingest.redaction import LIMITS, redacted
from ingest.splits import LARGE_SHARE, SPLITS, bundled, sample_notes, split_records
from ingest.tables import read_table
from judging.choice import make_judge
from language_model.model_files import DEMO_BASE, require_model
from language_model.placement import DEVICES
from script_io.csv_files import write_csv
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import refuse_overwriting, write_json, write_jsonl
from script_io.phase1_csv import COLUMNS, HALLUCINATED

REPORT_FILE = "phase1_report.json"
COLUMN_FLAGS = {
    "note": "note_column",
    "summary": "summary_column",
    "id": "id_column",
    "label": "label_column",
    "group": "group_column",
    "rejected": "rejected_column",
}
PAIR_SPLITS = ("train", "validation")  # Stage B trains on the first and validates on the second


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument("--input", type=Path, required=True, metavar="PATH", help="file or folder to read")
    for role, text in (
        ("note", "the notes"),
        ("summary", "the summaries"),
        ("id", "the names of the rows"),
        ("label", "factual, factual_with_evidence or hallucinated"),
    ):
        data.add_argument(
            f"--{role}_column", metavar="NAME", help=f"column that holds {text} (default: found by common names)"
        )
    data.add_argument(
        "--group_column",
        metavar="NAME",
        help="column that names a patient or an encounter, which stays in one split (default: none)",
    )
    data.add_argument(
        "--rejected_column", metavar="NAME", help="column of summaries that are worse than the summary (default: none)"
    )
    data.add_argument("--encoding", metavar="NAME", help="encoding of text files, such as cp1250 (default: found)")
    data.add_argument("--delimiter", metavar="CHARACTER", help="what separates the cells of a table (default: found)")
    add_lexicon_argument(data)
    splits = parser.add_argument_group("Splits")
    splits.add_argument("--val_fraction", type=float, default=0.1, help="share of the rows for validation")
    splits.add_argument("--test_fraction", type=float, default=0.1, help="share of the rows for the test split")
    splits.add_argument(
        "--max_examples", type=at_least(3), help="rows to keep at most, drawn at random by whole notes (default: all)"
    )
    splits.add_argument(
        "--seed", type=at_least(0), default=42, help="random seed; the same seed gives the same files (default: 42)"
    )
    changes = parser.add_argument_group("Changes to the texts")
    changes.add_argument(
        "--redact",
        action="store_true",
        help="replace dates (but the year), phone and record numbers, e-mail addresses, names after a title, addresses "
        "and ages over 89 by tags",
    )
    changes.add_argument(
        "--annotate_evidence",
        action="store_true",
        help="add [Evidence: S1,2; Conf: 0.85] to each sentence of a factual summary that the note supports",
    )
    changes.add_argument(
        "--evidence_model",
        type=Path,
        metavar="FOLDER",
        help="detector whose score is the confidence (default: none, the share of the sentence's claims that the rules "
        "support)",
    )
    changes.add_argument("--device", default="auto", choices=DEVICES, help="device of --evidence_model")
    audit = parser.add_argument_group("Audit")
    audit.add_argument(
        "--tokenizer", default=str(DEMO_BASE), metavar="MODEL", help="model folder or hub id that counts tokens"
    )
    audit.add_argument(
        "--max_length", type=at_least(1), default=512, help="tokens that training will allow, prompt and summary"
    )
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        type=Path,
        default=Path("phase1_data/sft"),
        metavar="FOLDER",
        help="folder for the files (default: %(default)s)",
    )
    output.add_argument(
        "--overwrite_output_dir", action="store_true", help="replace the Phase 1 files that are there already"
    )
    return parser.parse_args(argv)


def phase1_file(folder: Path, split: str) -> Path:
    """Return the path of the Phase 1 CSV of a split."""
    return folder / f"{split}_set_processed.csv"


def check_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for shares that leave no training data, and for flags and models that do not fit."""
    for name in ("val_fraction", "test_fraction"):
        if not 0 <= getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: give a share from 0 to 1, 1 excluded")
    if args.val_fraction + args.test_fraction >= 1:
        raise InputError(
            f"--val_fraction {args.val_fraction} and --test_fraction {args.test_fraction} leave nothing to train on"
        )
    if args.evidence_model and not args.annotate_evidence:
        raise InputError("--evidence_model is for --annotate_evidence; leave it out, or add --annotate_evidence")
    require_model(args.tokenizer)


def pairs_file(output_dir: Path, split: str) -> Path:
    """Return the path of the preference pairs of a split: phase1_data/dpo for phase1_data/sft, else a folder inside."""
    folder = output_dir.with_name("dpo") if output_dir.name == "sft" else output_dir / "dpo"
    return folder / f"{split}_set_processed.jsonl"


def refuse_used_folder(args: argparse.Namespace) -> None:
    """Raise InputError if the output folder has Phase 1 files that may not be replaced."""
    paths = [phase1_file(args.output_dir, split) for split in SPLITS]
    paths += [pairs_file(args.output_dir, split) for split in PAIR_SPLITS]
    refuse_overwriting(args.input, paths, "--output_dir")
    if args.input.is_dir() and args.output_dir.is_dir() and args.input.samefile(args.output_dir):
        raise InputError(f"{args.output_dir}: is the input folder; name another one with --output_dir")
    used = [path for path in paths if path.exists()]
    if used and not args.overwrite_output_dir:
        other = args.output_dir.with_name("mine" if args.output_dir.name != "mine" else "mine_2")
        raise InputError(
            f"{args.output_dir}: holds {used[0].name} already; write to another folder with --output_dir {other}, "
            f"and pass --phase1_dir {other} to run_pipeline.py and generate_phase2_data.py, or replace the files with "
            "--overwrite_output_dir"
        )


def read_records(args: argparse.Namespace) -> tuple[list[Record], dict[str, Any]]:
    """Return the usable records of the input, and what the report says of reading them."""
    table = read_table(args.input, args.encoding, args.delimiter)
    print(f"Read {len(table.rows)} rows from {args.input} ({table.read_as})")
    named = {role: getattr(args, flag) for role, flag in COLUMN_FLAGS.items()}
    columns = choose_columns(table.columns, named, args.input)
    print("\n".join(column_lines(table.columns, columns, named)))
    records, left_out = records_of(table.rows, columns, label_was_named=args.label_column is not None)
    for reason, count in left_out.most_common():
        print(f"Left out {count} rows: {reason}")
    if not records:
        raise InputError(f"{args.input}: no row has both a note and a summary; check the columns named above")
    kept = sample_notes(records, args.max_examples, args.seed)
    if len(kept) < len(records):
        print(f"Drew {len(kept)} of {len(records)} rows (--max_examples {args.max_examples})")
    return kept, {
        "input": str(args.input),
        "read_as": table.read_as,
        "columns": columns,
        "columns_not_used": unused_columns(table.columns, columns),
        "rows": len(table.rows),
        "left_out": dict(left_out),
        "rows_kept": len(kept),
    }


def split_all(records: Sequence[Record], args: argparse.Namespace) -> tuple[dict[str, list[Record]], dict[str, Any]]:
    """Return the records of each split, and what the report says of the division."""
    bundles = bundled(records)
    shares = {"validation": args.val_fraction, "test": args.test_fraction}
    splits = split_records(records, bundles, shares, args.seed)
    if bundles.near_pairs:
        print(f"Found {bundles.near_pairs} pairs of near-duplicate notes; each pair is in one split")
    if bundles.largest > LARGE_SHARE * len(records):
        print(f"warning: {bundles.largest} of {len(records)} rows belong together, so they are all in one split")
    return splits, {
        "seed": args.seed,
        "bundles": len(bundles.members),
        "largest_bundle_rows": bundles.largest,
        "near_duplicate_pairs": bundles.near_pairs,
        "splits": {name: split_counts(part) for name, part in splits.items()},
    }


def split_counts(records: Sequence[Record]) -> dict[str, Any]:
    """Return the numbers of rows, distinct notes and labels of a split."""
    labels = Counter(record.label for record in records)
    return {"rows": len(records), "notes": len({record.note for record in records}), "labels": dict(labels)}


def write_splits(splits: Mapping[str, Sequence[Record]], folder: Path) -> None:
    """Write the CSV of each split that has rows, and remove an older one of a split that has none."""
    for name, records in splits.items():
        path = phase1_file(folder, name)
        if not records:
            path.unlink(missing_ok=True)
            continue
        write_csv(path, COLUMNS, [record.phase1_row() for record in records])
        counts = split_counts(records)
        labels = ", ".join(f"{label} {count}" for label, count in counts["labels"].items())
        print(f"{name}: {counts['rows']} rows of {counts['notes']} notes ({labels}) in {path}")


def change_texts(records: Sequence[Record], args: argparse.Namespace) -> tuple[list[Record], dict[str, Any]]:
    """Return the records with rejected summaries as rows, redacted and annotated where asked for, and their report."""
    changed = with_rejected_rows(records)
    report: dict[str, Any] = {"redacted": None, "evidence": None}
    if args.redact:
        changed, counts = redacted(changed)
        report["redacted"] = dict(counts)
        print(f"Replaced {', '.join(f'{n} {kind}' for kind, n in counts.most_common()) or 'no identifier'} (--redact)")
        print(f"  ids are replaced too; {LIMITS}")
    if args.annotate_evidence:
        changed, report["evidence"] = annotate_all(changed, args)
    return changed, report


def annotate_all(records: Sequence[Record], args: argparse.Namespace) -> tuple[list[Record], dict[str, Any]]:
    """Return the records with citations in the factual summaries, and how many were written and how many are right."""
    checks: list[FactCheck | None] = [None] * len(records)
    if args.evidence_model:
        judge = make_judge("facts", evidence_model=args.evidence_model, device=args.device)
        checks = judge.check_all([(r.note, without_old_citations(r.summary)) for r in records], "Scoring evidence")
    annotated, results = annotated_records(records, checks)
    written = [check_citations(record.note, record.summary) for record in annotated if record.label != HALLUCINATED]
    right = sum(citation.supported is True for each in written for citation in each)
    report: dict[str, Any] = {
        "sentences": sum(result.sentences for result in results),
        "citations": sum(map(len, written)),
        "citations_right": right,
        "confidence": "evidence model" if args.evidence_model else "share of supported claims",
        "calibration": calibration([result.proposals for result in results], args.seed),
    }
    print(
        f"Cited evidence for {report['citations']} of {report['sentences']} sentences of factual summaries; "
        f"{right} citations are right by the check of evaluation/evaluate_model.py"
    )
    if found := report["calibration"]:
        error = "not measured, under 30 citations" if found["ece"] is None else f"{found['ece']:.3f}"
        print(f"  calibration of Conf on {found['n']} proposed citations: Brier {found['brier']:.3f}, error {error}")
    return annotated, report


def write_pairs(splits: Mapping[str, Sequence[Record]], args: argparse.Namespace) -> dict[str, int]:
    """Write the preference pairs of training and validation as DPO JSONL; return how many there are."""
    counts = {}
    for name in PAIR_SPLITS:
        path = pairs_file(args.output_dir, name)
        rows = preference_rows(splits[name])
        counts[name] = len(rows)
        if rows:
            write_jsonl(path, rows)
            print(f"{name}: {len(rows)} preference pairs in {path}")
        else:
            path.unlink(missing_ok=True)
    if counts["train"]:
        train = pairs_file(args.output_dir, "train")
        val = pairs_file(args.output_dir, "validation") if counts["validation"] else train
        print(f"  for: python stage_b_dpo_training.py --train_data_path {train} --val_data_path {val}")
    return counts


def audit(splits: Mapping[str, Sequence[Record]], args: argparse.Namespace) -> dict[str, Any]:
    """Print and return lengths in tokens, unsupported references and problems of the written files."""
    from language_model.loading import load_tokenizer

    print("Audit")
    tokenizer = load_tokenizer(args.tokenizer)
    lengths = {}
    for name, records in splits.items():
        lengths[name], line = token_lengths(records, tokenizer, args.max_length)
        print(f"  {name}: {line}")
    references = unsupported_references([record for part in splits.values() for record in part], args.seed)
    print(
        f"  {references['unsound']} of {references['checked']} factual summaries state something that the fact "
        "checker does not find in their note"
    )
    for example in references["examples"]:
        print(f"    {example['id']}: {example['type']} {example['text']!r} is {example['verdict']}")
    problems = file_problems({name: phase1_file(args.output_dir, name) for name in splits if splits[name]})
    for name, found in problems.items():
        print(f"  {name}: {len(found)} problems, the first: {found[0]}")
    if not problems:
        print("  no repeated row, and no note in two splits")
    return {"tokenizer": args.tokenizer, "lengths": lengths, "references": references, "problems": problems}


def main(args: argparse.Namespace) -> int:
    """Read the input, change the texts where asked for, divide them, write the files and audit them."""
    check_arguments(args)
    refuse_used_folder(args)
    add_lexicons(args.lexicon_dir)
    records, report = read_records(args)
    records, changes = change_texts(records, args)
    splits, division = split_all(records, args)
    write_splits(splits, args.output_dir)
    pairs = write_pairs(splits, args)
    report |= {**changes, **division, "preference_pairs": pairs, "lexicons": lexicon_settings(args.lexicon_dir)}
    write_json(args.output_dir / REPORT_FILE, {**report, "audit": audit(splits, args)}, private=True)
    print(f"Saved {REPORT_FILE} to {args.output_dir}")
    print(f"Next: python stage_a_sft_training.py --train_data_path {phase1_file(args.output_dir, 'train')} \\")
    print(f"          --val_data_path {phase1_file(args.output_dir, 'validation')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
