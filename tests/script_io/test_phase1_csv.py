"""Labels and rows of the Phase 1 CSV: what is refused, and with which remedy."""

from __future__ import annotations

import pytest

from script_io.phase1_csv import LABELS, label_problem, row_problem


@pytest.mark.parametrize("label", LABELS)
def test_known_labels_are_accepted(label: str) -> None:
    assert label_problem(label) is None
    assert row_problem({"clinical_note": "N.", "model_summary": "S.", "label": label}) is None


@pytest.mark.parametrize(
    ("label", "remedy"),
    [
        ("Factual", "write factual"),
        (" factual", "write factual"),
        ("hallucinated\n", "write hallucinated"),
        ("FACTUAL WITH-evidence", "write factual_with_evidence"),
        ("true", "use one of factual, factual_with_evidence, hallucinated"),
        ("factualish", "use one of factual, factual_with_evidence, hallucinated"),
    ],
)
def test_a_misspelt_label_gets_its_right_spelling(label: str, remedy: str) -> None:
    assert label_problem(label) == f"label {label!r} is not known; {remedy}"


def test_all_empty_cells_of_a_row_are_named() -> None:
    row = {"clinical_note": " ", "model_summary": "S.", "label": ""}
    assert row_problem(row) == "empty clinical_note and label; fill in or delete the row"
