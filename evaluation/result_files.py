"""Read the files of an evaluation, and check that they hold what pages and comparisons use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.files import read_json

REMEDY = "make it with python evaluation/evaluate_model.py"
VERDICTS = {"1": "hallucinated", "0": "no error found", "": "judge failed"}
SUMMARY_KEYS = (
    "model", "judge", "summaries", "judge_failures", "left_out", "by_type", "claims", "hallucination_rate", "coverage",
    "test_data", "temperature", "max_new_tokens", "seed",
)  # fmt: skip
SPAN_KEYS = {"type", "text", "start", "end", "verdict", "level", "evidence", "evidence_start"}
CITATION_KEYS = {"start", "end", "text", "sentences", "exists", "supported", "confidence"}
MISSING_KEYS = {"type", "key", "text", "start", "end", "negated"}
Row = Mapping[str, str]
Cell = dict[str, Any]  # an object in a JSON cell


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


def listed(row: Row, column: str, keys: set[str]) -> list[Cell]:
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
