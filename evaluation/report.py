"""Write result pages: `report.html` of one evaluation, and `comparison.html` of two for compare_models.py.

In:  an evaluation folder with `evaluation_results.csv` and `evaluation_summary.json`.
Out: one self-contained page per call. It works without a network, with the keyboard only, and in print.

    python evaluation/report.py evaluation_results
    python -m evaluation.report runs/demo/evaluation_sft
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from clinical.facts import sentences
from evaluation.metrics import by_type, grades_text
from evaluation.pages.category_chart import chart
from evaluation.pages.marked_text import Span, note_pieces, number_flags, segments
from evaluation.stats import p_text
from script_io.csv_files import read_csv
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import atomic_write, read_json

PAGES = Path(__file__).resolve().parent / "pages"
REMEDY = "make it with python evaluation/evaluate_model.py"
VERDICTS = {"1": "hallucinated", "0": "no error found", "": "judge failed"}
CHANGES = ("both hallucinated", "only first hallucinated", "only second hallucinated", "no error in either")
SUMMARY_KEYS = (
    "model", "judge", "summaries", "judge_failures", "left_out", "by_type", "claims", "hallucination_rate", "coverage",
    "test_data", "temperature", "max_new_tokens", "seed",
)  # fmt: skip
SPAN_KEYS = {"type", "text", "start", "end", "verdict", "level", "evidence", "evidence_start"}
CITATION_KEYS = {"start", "end", "text", "sentences", "exists", "supported", "confidence"}
IN_UNITS = ("summary_words",)  # differences that are not shares
Row = Mapping[str, str]

# measure, format of its value, short meaning; metrics.py has the definitions
_MEASURES = (
    ("hallucination_rate", "{:.1%}", "summaries with a claim that the note contradicts or does not support"),
    ("claim_error_rate", "{:.1%}", "claims contradicted or unsupported, of all claims"),
    ("coverage", "{:.1%}", "share of the reference's facts that the summary states"),
    ("citation_accuracy", "{:.1%}", "citations whose sentences exist and support the statement"),
    ("rouge_l", "{:.2f}", "overlap of words with the reference; says little about truth"),
    ("mean_summary_words", "{:.1f}", "mean number of words per summary"),
    ("empty_rate", "{:.1%}", "summaries without words"),
    ("repeated_rate", "{:.1%}", "summaries that repeat themselves"),
    ("unfinished_rate", "{:.1%}", "summaries cut off at the token limit"),
    ("median_seconds", "{:.2f}", "median time to generate a summary, in seconds"),
)
_MAIN_MEASURES = ("hallucination_rate", "claim_error_rate", "coverage")  # shown even if not measured


# ------------------------------------------------------------------------------------------- result files


def read_evaluation(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return (summary, rows) of an evaluation folder. Raises InputError if a file or a part of it is missing."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {REMEDY} --output_dir {folder}")
    columns = ("example_id", "clinical_note", "generated_summary", "has_hallucination", "unsupported_spans")
    path = folder / "evaluation_results.csv"
    rows = []
    for line, row in read_csv(path, columns, REMEDY):
        if row["has_hallucination"] not in VERDICTS:
            raise InputError(f"{path}, line {line}: has_hallucination is neither 0 nor 1 nor empty; {REMEDY}")
        rows.append(row)
    path = folder / "evaluation_summary.json"
    summary = read_json(path, REMEDY)
    missing = [key for key in SUMMARY_KEYS if key not in summary] if isinstance(summary, dict) else SUMMARY_KEYS
    if missing:
        raise InputError(f"{path}: not the summary of an evaluation, {', '.join(missing)} missing; {REMEDY}")
    return summary, rows


def listed(row: Row, column: str, keys: set[str]) -> list[Span]:
    """Return the objects of a JSON cell, in the order of the text, or [] if the column or its content is missing."""
    try:
        spans = json.loads(row.get(column) or "[]")
        if not all(keys <= span.keys() for span in spans):
            raise ValueError("keys are missing")
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"evaluation_results.csv, {row['example_id']}: {column} is no list of objects with "
            f"{', '.join(sorted(keys))}; {REMEDY}"
        ) from error
    return sorted(spans, key=lambda span: (span["start"], -span["end"]))


# ------------------------------------------------------------------------------------------- examples


def make_example(anchor: str, verdict: str, sides: Mapping[str, Row]) -> dict[str, Any]:
    """Return what the page shows of one note and its summaries, given as {title: row}."""
    rows = list(sides.values())
    note, bounds = rows[0]["clinical_note"], sentences(rows[0]["clinical_note"])
    flags = number_flags([listed(row, "unsupported_spans", SPAN_KEYS) for row in rows], bounds, anchor)
    citations = [listed(row, "citations", CITATION_KEYS) for row in rows]
    errors = [flag for side in flags for flag in side if flag.number]
    cited = {number for side in citations for citation in side for number in citation["sentences"]}
    return {
        "id": rows[0]["example_id"],
        "anchor": anchor,
        "verdict": verdict,
        "claims": json.dumps([[flag.span["verdict"], flag.span["type"]] for flag in errors], ensure_ascii=False),
        "note": note_pieces(note, bounds, errors, cited),
        "sides": [
            {
                "title": title,
                "verdict": VERDICTS[row["has_hallucination"]],
                "segments": segments(row["generated_summary"], side_flags),
                "errors": [flag for flag in side_flags if flag.number],
                "citations": [_citation(citation, len(bounds)) for citation in side_citations],
                "figures": _figures(row),
                "reference": row.get("reference_summary", ""),
            }
            for (title, row), side_flags, side_citations in zip(sides.items(), flags, citations, strict=True)
        ],
    }


def _citation(citation: Span, sentences_in_note: int) -> dict[str, Any]:
    """Return the text of a citation, its verdict in words, and the cited sentences that exist."""
    found = [number for number in citation["sentences"] if 1 <= number <= sentences_in_note]
    if not citation["exists"]:
        judgement = "the note has no such sentence" if citation["sentences"] else "cannot be read as a citation"
    else:
        words = {True: "supports the statement", False: "does not support the statement"}
        judgement = words.get(citation["supported"], "cannot be checked by rules")
    return {"text": citation["text"], "judgement": judgement, "sentences": found}


def _figures(row: Row) -> str:
    """Return the known figures of a summary: `3 of 4 claims supported; coverage 50%; 17 words; 1.2 s`."""
    words = len(row["generated_summary"].split())
    parts = (
        row.get("claims") and f"{row['claims_supported']} of {row['claims']} claims supported",
        row.get("coverage") and f"coverage {float(row['coverage']):.0%}",
        f"{words} word{'s' if words != 1 else ''}",
        row.get("finished") == "0" and "cut off at the token limit",
        row.get("repeated") == "1" and "repeats itself",
        row.get("seconds") and f"{float(row['seconds']):.1f} s",
    )
    return "; ".join(part for part in parts if part)


# ------------------------------------------------------------------------------------------- pages


def csp_hash(text: str) -> str:
    """Return the source expression that lets a page's security policy run exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render a template, with the style and the script that all pages share, into a file."""
    environment = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"p_text": p_text, "csp_hash": csp_hash, "percent": "{:.1%}".format}
    style, script = (Markup((PAGES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    with atomic_write(path) as handle:
        handle.writelines(environment.get_template(template).generate(style=style, script=script, **content))


def label_of(name: str) -> str:
    return "ROUGE-L" if name == "rouge_l" else name.replace("_", " ")


def _is_shown(summary: Mapping[str, Any], name: str) -> bool:
    return name in _MAIN_MEASURES or summary.get(name) is not None


def _measure(summary: Mapping[str, Any], name: str, written: str, meaning: str) -> dict[str, str]:
    value, interval = summary.get(name), summary.get(f"{name}_ci95")
    return {
        "name": label_of(name),
        "value": "not measured" if value is None else written.format(value),
        "interval": " to ".join(written.format(bound) for bound in interval or ()),
        "n": str(summary["claims" if name == "claim_error_rate" else f"{name}_n"]) if interval else "",
        "meaning": meaning,
    }


def _second_judge(figures: Mapping[str, Any] | None) -> str:
    """Return the rate of the second judge, such as `12.0% (95% interval 8.0% to 17.0%, n=200) by facts`."""
    if not figures or figures["hallucination_rate"] is None:
        return ""
    low, high = figures["hallucination_rate_ci95"]
    rate = f"{figures['hallucination_rate']:.1%} (95% interval {low:.1%} to {high:.1%}, n={figures['n']})"
    return f"{rate} by {figures['judge']}"


def write_evaluation_report(folder: Path) -> Path:
    """Write `report.html` into an evaluation folder and return its path."""
    summary, rows = read_evaluation(folder)
    write_page(
        folder / "report.html",
        "report.html.j2",
        summary=summary,
        measures=[_measure(summary, *measure) for measure in _MEASURES if _is_shown(summary, measure[0])],
        calibration=summary.get("calibration"),
        grades=grades_text(summary.get("judge_grades") or {}),
        judge_made_training_pairs=summary.get("judge_made_training_pairs"),
        judge_is_relative=summary.get("judge_is_relative"),
        second_judge=_second_judge(summary.get("second_judge")),
        drawn=chart({"": summary["by_type"]}, summary["summaries"] - summary["judge_failures"]),
        verdicts=VERDICTS.values(),
        examples=(
            make_example(f"x{number}", VERDICTS[row["has_hallucination"]], {"Generated summary": row})
            for number, row in enumerate(rows, start=1)
        ),
    )
    return folder / "report.html"


def change_of(first: Row, second: Row) -> str:
    """Return the entry of CHANGES for two verdicts."""
    verdicts = (first["has_hallucination"] == "1", second["has_hallucination"] == "1")
    return dict(zip(((True, True), (True, False), (False, True), (False, False)), CHANGES, strict=True))[verdicts]


def _difference(name: str, entry: Mapping[str, Any] | None, is_share: bool) -> dict[str, str]:
    if entry is None:
        blank = dict.fromkeys(("first", "second", "difference", "interval"), "")
        return {"name": label_of(name), **blank, "holds": "not measured"}
    scale, unit = (100, "%") if is_share else (1, "")
    points = " points" if is_share else ""
    low, high = (scale * bound for bound in entry["ci95"])
    return {
        "name": label_of(name),
        "first": f"{scale * entry['first']:.1f}{unit}",
        "second": f"{scale * entry['second']:.1f}{unit}",
        "difference": f"{scale * entry['difference']:+.1f}{points}",
        "interval": f"{low:+.1f} to {high:+.1f}",
        "holds": "yes" if entry["holds"] else "no",
    }


def _category(kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_difference(kind, entry, is_share=True),
        "only_first": entry["only_first"],
        "only_second": entry["only_second"],
        "p": p_text(entry["p_holm"]).removeprefix("p = "),
    }


def write_comparison_report(path: Path, result: Mapping[str, Any], pairs: Sequence[tuple[Row, Row]]) -> None:
    """Write `comparison.html` from the content of `comparison.json` and the paired rows."""
    series = zip(("first", "second"), zip(*pairs, strict=True), strict=True)
    drawn = chart({name: by_type(rows) for name, rows in series}, len(pairs))
    write_page(
        path,
        "comparison.html.j2",
        result=result,
        measures=[_difference(name, entry, name not in IN_UNITS) for name, entry in result["differences"].items()],
        categories=[_category(kind, entry) for kind, entry in result["by_type"].items()],
        drawn=drawn,
        types=[each["name"] for each in drawn["names"]],
        verdicts=CHANGES,
        examples=(
            make_example(f"x{number}", change_of(*pair), dict(zip(("First", "Second"), pair, strict=True)))
            for number, pair in enumerate(pairs, start=1)
        ),
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument("folder", type=Path, help="evaluation folder; its report.html is replaced")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Write the report of one evaluation."""
    print(f"Wrote {write_evaluation_report(args.folder)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
