"""The Phase 1 CSV of notes and summaries: its columns, its labels, and what makes a row unusable."""

from __future__ import annotations

import re
from collections.abc import Mapping

COLUMNS = ("id", "clinical_note", "model_summary", "label", "hallucination_type")
REQUIRED_COLUMNS = ("clinical_note", "model_summary", "label")
FACTUAL, FACTUAL_WITH_EVIDENCE, HALLUCINATED = "factual", "factual_with_evidence", "hallucinated"
FACTUAL_LABELS = (FACTUAL, FACTUAL_WITH_EVIDENCE)  # the note supports the whole summary
LABELS = (*FACTUAL_LABELS, HALLUCINATED)
DATA_REMEDY = "make the demo's data with: python demo/make_phase1_data.py"


def row_problem(row: Mapping[str, str]) -> str | None:
    """Return what makes a row unusable and how to mend it, or None."""
    empty = [column for column in REQUIRED_COLUMNS if not row[column].strip()]
    if empty:
        return f"empty {' and '.join(empty)}; fill in or delete the row"
    return label_problem(row["label"])


def label_problem(label: str) -> str | None:
    """Return what is wrong with a label, or None. A label in other letters or with blanks gets its right spelling."""
    if label in LABELS:
        return None
    spelling = label_spelling(label)
    remedy = f"write {spelling}" if spelling in LABELS else f"use one of {', '.join(LABELS)}"
    return f"label {label!r} is not known; {remedy}"


def label_spelling(label: str) -> str:
    """Return a label in the spelling of LABELS: "Factual with-evidence" becomes "factual_with_evidence"."""
    return re.sub(r"[\s-]+", "_", label.strip().lower())
