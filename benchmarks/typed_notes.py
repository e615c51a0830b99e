"""Measure the fact checker on notes as clinicians type them: matched sentences, whole summaries, layout.

In:  --pairs, JSONL of `{note, true, wrong, kind}`: two summaries of one sentence, `wrong` with one error; and --dense,
     JSONL of `{note, summary, wrong}` (0 or 1): whole summaries; and --statements, JSONL of `{note, true, wrong}`:
     a list of true sentences, and a list of `{text, error}` with one error each. Each may be left out.
Out: on stdout, with n and 95% Wilson intervals: how many pairs are told apart (only the wrong sentence has an error),
     inverted (only the true one has), both or neither flagged, the pairs told apart by kind, how many true summaries
     pass and wrong ones are found, and how many true statements are flagged and wrong ones found, by kind of error.

    python benchmarks/typed_notes.py --pairs shorthand_pairs.jsonl
    python benchmarks/typed_notes.py --pairs shorthand_pairs.jsonl --dense dense_notes.jsonl --output_file out.json
    python benchmarks/typed_notes.py --statements benchmarks/typed_notes_data/statements_held_out.jsonl

A note has several pairs or statements, so they are not independent and the intervals are a little too narrow.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from evaluation.stats import wilson_interval
from fact_checking.checker import check_summary
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_jsonl, write_json

OUTCOMES = {  # (true sentence has an error, wrong sentence has one) -> outcome
    (False, True): "told apart",
    (True, True): "both flagged",
    (False, False): "neither flagged",
    (True, False): "inverted",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument("--pairs", type=Path, metavar="FILE", help="JSONL of matched sentences (default: none)")
    data.add_argument("--dense", type=Path, metavar="FILE", help="JSONL of whole summaries (default: none)")
    data.add_argument("--statements", type=Path, metavar="FILE", help="JSONL of statements (default: none)")
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, metavar="FILE", help="JSON file of the figures (default: none)")
    return parser.parse_args(argv)


def pair_outcomes(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (outcome, kind of error) of each pair."""
    return [
        (
            OUTCOMES[_has_error(row["note"], row["true"]), _has_error(row["note"], row["wrong"])],
            str(row.get("kind", "")).partition(":")[0],
        )
        for row in rows
    ]


def _has_error(note: str, text: str) -> bool:
    return check_summary(note, text).has_hallucination


def share(count: int, n: int) -> dict[str, Any]:
    """Return a share with its interval."""
    return {"count": count, "n": n, "share": count / n if n else None, "ci95": wilson_interval(count, n) if n else None}


def pair_figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the share of each outcome, of flagged true sentences, and of pairs told apart by kind."""
    found = pair_outcomes(rows)
    outcomes = Counter(outcome for outcome, _ in found)
    kinds = Counter(kind for _, kind in found)
    told = Counter(kind for outcome, kind in found if outcome == "told apart")
    return {
        **{outcome: share(outcomes[outcome], len(rows)) for outcome in OUTCOMES.values()},
        "false alarms": share(outcomes["both flagged"] + outcomes["inverted"], len(rows)),
        "by_kind": {kind: [told[kind], n] for kind, n in kinds.most_common()},
    }


def dense_figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the share of true summaries without an error, and of wrong ones with an error."""
    flags = [(bool(row["wrong"]), _has_error(row["note"], row["summary"])) for row in rows]
    true, wrong = ([flag for is_wrong, flag in flags if is_wrong is kind] for kind in (False, True))
    return {
        "true summaries that pass": share(true.count(False), len(true)),
        "wrong summaries found": share(wrong.count(True), len(wrong)),
    }


def statement_figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the share of true statements with an error, and of wrong ones with an error, also by kind of error."""
    true = [_has_error(row["note"], text) for row in rows for text in row["true"]]
    wrong = [(each["error"], _has_error(row["note"], each["text"])) for row in rows for each in row["wrong"]]
    kinds, found = Counter(kind for kind, _ in wrong), Counter(kind for kind, is_found in wrong if is_found)
    return {
        "true statements flagged": share(true.count(True), len(true)),
        "wrong statements found": share(found.total(), len(wrong)),
        "by_kind": {kind: [found[kind], n] for kind, n in kinds.most_common()},
    }


def _require_statements(where: str, row: dict[str, Any]) -> None:
    """Raise InputError unless `true` is a list of texts and `wrong` a list of {text, error}."""
    true, wrong = row["true"], row["wrong"]
    if not isinstance(true, list) or not all(isinstance(text, str) for text in true):
        raise InputError(f"{where}: true is not a list of texts")
    if not isinstance(wrong, list) or not all(
        isinstance(each, dict) and {"text", "error"} <= each.keys() for each in wrong
    ):
        raise InputError(f"{where}: wrong is not a list of objects with text and error")


def print_figures(figures: dict[str, Any]) -> None:
    """Print one line per share."""
    for name, found in figures.items():
        if name != "by_kind":
            low, high = found["ci95"] or (0.0, 0.0)
            value = f"{found['share']:.1%}" if found["share"] is not None else "none"
            print(f"{name:<26} {found['count']:>4} of {found['n']:>4} = {value}  [{low:.1%}, {high:.1%}]")
    if kinds := figures.get("by_kind"):
        print("by kind: " + "; ".join(f"{kind} {told}/{n}" for kind, (told, n) in kinds.items() if n > 1))


def main(args: argparse.Namespace) -> int:
    """Measure what is given."""
    if not (args.pairs or args.dense or args.statements):
        raise InputError("name a file with --pairs, --dense or --statements")
    figures: dict[str, Any] = {}
    for name, path, columns, measure in (
        ("pairs", args.pairs, ("note", "true", "wrong"), pair_figures),
        ("dense", args.dense, ("note", "summary", "wrong"), dense_figures),
        ("statements", args.statements, ("note", "true", "wrong"), statement_figures),
    ):
        if path:
            rows = read_jsonl(path, columns)
            for number, row in rows if name == "statements" else ():
                _require_statements(f"{path}: line {number}", row)
            figures[name] = measure([row for _, row in rows])
            print(f"{path.name}")
            print_figures(figures[name])
    if args.output_file:
        write_json(args.output_file, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
