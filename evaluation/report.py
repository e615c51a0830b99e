"""Pages to read results in: `report.html` of one evaluation, `comparison.html` of two.

In:  result files alone: `evaluation_results.csv` and `evaluation_summary.json`, and for two `comparison.json`.
Out: one self-contained page each, that works without a network and in print.

    python evaluation/report.py evaluation_results
    python -m evaluation.report runs/demo/evaluation_sft
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from clinical.facts import sentences
from evaluation.stats import p_text
from script_io import ArgumentParser, InputError, atomic_write, read_csv, read_json, run_script

REMEDY = "make it with python evaluation/evaluate_model.py"
CHANGES = ("both hallucinated", "only first hallucinated", "only second hallucinated", "no error in either")
SUMMARY_KEYS = (
    "model", "judge", "summaries", "judge_failures", "left_out", "by_type", "claims", "hallucination_rate", "coverage",
    "test_data", "temperature", "max_new_tokens", "seed",
)  # fmt: skip
Span = dict[str, Any]

# measure, is a share, meaning; the definitions stand in metrics.py
_MEASURES = (
    ("hallucination_rate", True, "summaries with at least one claim that the note contradicts or does not support"),
    ("claim_error_rate", True, "claims contradicted or unsupported, of all claims"),
    ("coverage", True, "of the reference's facts, stated in the summary"),
    ("rouge_l", False, "overlap of words with the reference; says little about truth"),
    ("mean_summary_words", False, "words of a summary"),
    ("empty_rate", True, "summaries without a word"),
    ("repeated_rate", True, "summaries that repeat themselves"),
    ("unfinished_rate", True, "summaries broken off at the limit of tokens"),
)


@dataclass(frozen=True)
class Segment:
    """A stretch of a summary; `span` where it is wrong, `target` where the note has a sentence on it."""

    text: str
    span: Span | None = None
    target: str | None = None


@dataclass(frozen=True)
class NotePiece:
    """A stretch of a note; `anchor` where a summary points to it."""

    text: str
    anchor: str | None = None


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = percent
    environment.filters["p_text"] = p_text
    return environment


def read_evaluation(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """(summary, rows) of an evaluation folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {REMEDY} --output_dir {folder}")
    columns = ("example_id", "clinical_note", "generated_summary", "has_hallucination", "unsupported_spans")
    rows = [row for _, row in read_csv(folder / "evaluation_results.csv", columns, REMEDY)]
    path = folder / "evaluation_summary.json"
    summary = read_json(path, REMEDY)
    missing = [key for key in SUMMARY_KEYS if key not in summary] if isinstance(summary, dict) else SUMMARY_KEYS
    if missing:
        raise InputError(f"{path}: not the summary of an evaluation, {', '.join(missing)} missing; {REMEDY}")
    return summary, rows


def spans_of(row: Mapping[str, str]) -> list[Span]:
    """The wrong claims of a row."""
    try:
        spans: list[Span] = json.loads(row["unsupported_spans"]) if row["unsupported_spans"] else []
    except json.JSONDecodeError as error:
        row_id = row["example_id"]
        raise InputError(f"evaluation_results.csv, {row_id}: unsupported_spans is no JSON; {REMEDY}") from error
    return spans


def types_of(spans: Iterable[Span]) -> str:
    """Kinds of error, as the filter reads them."""
    return ";".join(sorted({span["type"] for span in spans if span["level"] == "error"}))


def segments(text: str, spans: Sequence[Span], anchors: Mapping[int, str]) -> list[Segment]:
    """Cuts a summary at its wrong spans; of spans that overlap, errors come first, then the earliest."""
    chosen: list[Span] = []
    for span in sorted(spans, key=lambda span: (span["level"] != "error", span["start"], -span["end"])):
        if all(span["end"] <= other["start"] or other["end"] <= span["start"] for other in chosen):
            chosen.append(span)
    cut, position = [], 0
    for span in sorted(chosen, key=lambda span: span["start"]):
        cut.append(Segment(text[position : span["start"]]))
        cut.append(Segment(text[span["start"] : span["end"]], span, anchors.get(span["evidence_start"])))
        position = span["end"]
    return [segment for segment in [*cut, Segment(text[position:])] if segment.text]


def anchored(note: str, spans: Iterable[Span], name: str) -> tuple[list[NotePiece], dict[int, str]]:
    """(pieces of the note, start of a sentence -> its anchor) for the sentences that spans point to."""
    starts = {span["evidence_start"] for span in spans if span["evidence_start"] is not None}
    bounds = [(start, end) for start, end in sentences(note) if start in starts]
    anchors = {start: f"{name}-{start}" for start, _ in bounds}
    pieces, position = [], 0
    for start, end in bounds:
        pieces += [NotePiece(note[position:start]), NotePiece(note[start:end], anchors[start])]
        position = end
    return [piece for piece in [*pieces, NotePiece(note[position:])] if piece.text], anchors


def _verdict(row: Mapping[str, str]) -> str:
    return {"1": "hallucinated", "0": "no error found"}.get(row["has_hallucination"], "judge failed")


def _example(number: int, row: Mapping[str, str]) -> dict[str, Any]:
    spans = spans_of(row)
    note, anchors = anchored(row["clinical_note"], spans, f"note{number}")
    return {
        "id": row["example_id"],
        "verdict": _verdict(row),
        "types": types_of(spans),
        "note": note,
        "summary": segments(row["generated_summary"], spans, anchors),
        "reference": row.get("reference_summary", ""),
    }


def _measure(summary: Mapping[str, Any], name: str, is_share: bool, meaning: str) -> dict[str, str]:
    value, interval = summary[name], summary[f"{name}_ci95"]
    shown = percent if is_share else "{:.2f}".format
    n = f"{summary['claims']} claims" if name == "claim_error_rate" else str(summary[f"{name}_n"])
    return {
        "name": name.replace("_", " "),
        "value": "not measured" if value is None else shown(value),
        "interval": "" if interval is None else f"{shown(interval[0])} to {shown(interval[1])}",
        "n": n,
        "meaning": meaning,
    }


def write_evaluation_report(folder: Path) -> Path:
    """Writes `report.html` beside the results in `folder`."""
    summary, rows = read_evaluation(folder)
    page = _environment().get_template("report.html.j2")
    measures = [_measure(summary, *measure) for measure in _MEASURES]
    examples = [_example(number, row) for number, row in enumerate(rows)]
    with atomic_write(folder / "report.html") as handle:
        handle.write(page.render(summary=summary, measures=measures, examples=examples))
    return folder / "report.html"


def change_of(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """One of CHANGES."""
    verdicts = (first["has_hallucination"] == "1", second["has_hallucination"] == "1")
    return dict(zip(((True, True), (True, False), (False, True), (False, False)), CHANGES, strict=True))[verdicts]


def _pair(number: int, first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, Any]:
    first_spans, second_spans = spans_of(first), spans_of(second)
    note, anchors = anchored(first["clinical_note"], [*first_spans, *second_spans], f"note{number}")
    return {
        "id": first["example_id"],
        "change": change_of(first, second),
        "types": types_of([*first_spans, *second_spans]),
        "note": note,
        "first": segments(first["generated_summary"], first_spans, anchors),
        "second": segments(second["generated_summary"], second_spans, anchors),
    }


def _difference(name: str, entry: Mapping[str, Any] | None, is_share: bool) -> dict[str, str]:
    if entry is None:
        blank = dict.fromkeys(("first", "second", "difference", "interval"), "")
        return {"name": name.replace("_", " "), **blank, "holds": "not measured"}
    scale, unit = (100, "%") if is_share else (1, "")
    points = " points" if is_share else ""
    low, high = (scale * bound for bound in entry["ci95"])
    return {
        "name": name.replace("_", " "),
        "first": f"{scale * entry['first']:.1f}{unit}",
        "second": f"{scale * entry['second']:.1f}{unit}",
        "difference": f"{scale * entry['difference']:+.1f}{points}",
        "interval": f"{low:+.1f} to {high:+.1f}",
        "holds": "yes" if entry["holds"] else "no: the interval includes 0",
    }


def write_comparison_report(
    path: Path, result: Mapping[str, Any], pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]
) -> None:
    """Writes `comparison.html` from the content of `comparison.json` and the paired rows."""
    shown = [_pair(number, *pair) for number, pair in enumerate(pairs)]
    kinds = sorted({kind for pair in shown for kind in pair["types"].split(";") if kind})
    measures = [_difference(name, entry, name != "summary_words") for name, entry in result["differences"].items()]
    page = _environment().get_template("comparison.html.j2")
    with atomic_write(path) as handle:
        handle.write(page.render(result=result, measures=measures, pairs=shown, changes=CHANGES, types=kinds))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("folder", type=Path, help="evaluation folder: its report.html is written anew")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Writes the report of one evaluation."""
    print(f"Wrote {write_evaluation_report(args.folder)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
