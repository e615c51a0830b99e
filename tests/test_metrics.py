"""Rows and rates worked by hand."""

from __future__ import annotations

import json

import pytest

from evaluation.fact_checker import check_summary
from evaluation.metrics import ROW_COLUMNS, Example, Row, Summary, aggregate, is_repetitive, rouge_l, summary_row
from evaluation.stats import wilson_interval

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever. Pain in the left knee."
REFERENCE = "54-year-old woman on metformin 500 mg twice daily."


def row(summary: str, reference: str = REFERENCE) -> Row:
    example = Example("e1", NOTE, reference, "factual")
    return summary_row(example, Summary(summary, True, 0.5), check_summary(NOTE, summary))


def test_row_has_the_columns_of_the_results_file() -> None:
    assert tuple(row(REFERENCE)) == ROW_COLUMNS
    assert tuple(summary_row(Example("e1", NOTE, "", ""), Summary("text"), None)) == ROW_COLUMNS


def test_row_of_a_faithful_summary() -> None:
    """Age, sex, drug, dose, frequency: five claims, all supported, all of the reference stated."""
    cells = row(REFERENCE)
    assert (cells["claims"], cells["claims_supported"], cells["has_hallucination"]) == (5, 5, 0)
    assert (cells["coverage"], cells["rouge_l"], cells["hallucination_types"]) == (1, 1, "")
    assert (cells["finished"], cells["repeated"], cells["seconds"], cells["summary_words"]) == (1, 0, 0.5, 8)


def test_row_of_a_wrong_dose() -> None:
    summary = "54-year-old woman on metformin 850 mg twice daily."
    cells = row(summary)
    assert (cells["claims"], cells["claims_supported"], cells["has_hallucination"]) == (5, 4, 1)
    assert cells["hallucination_types"] == "dose"
    assert cells["coverage"] == pytest.approx(4 / 5)
    (span,) = json.loads(cells["unsupported_spans"])
    assert summary[span["start"] : span["end"]] == "850 mg"
    assert (span["verdict"], span["level"]) == ("contradicted", "error")


def test_citations_are_neither_words_nor_claims() -> None:
    cited = row(f"{REFERENCE} [Evidence: S1,2; Conf: 0.85]")
    plain = row(REFERENCE)
    for column in ("claims", "summary_words", "rouge_l", "coverage", "hallucination_score"):
        assert cited[column] == plain[column]


def test_rouge_l_by_hand() -> None:
    """Longest common subsequence of 3 words, of 4 and of 5: F1 = 2 * (3/5) * (3/4) / (3/5 + 3/4) = 2/3."""
    assert rouge_l("chest pain since monday", "chest pain began on monday") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("Chest pain. Fever. Chest pain.", True),
        ("pain pain pain", True),
        ("a b c d e f g h and again a b c d e f g h", True),
        ("Started on aspirin 5 mg every 8 hours and lithium 5 mg every 8 hours.", False),
        ("", False),
    ],
)
def test_repetition(text: str, repeats: bool) -> None:
    assert is_repetitive(text) is repeats


def test_aggregate_by_hand() -> None:
    """Three summaries, one wrong; claims 5 + 5 + 1, one of them wrong; coverage (1 + 0.8 + 0.2) / 3."""
    rows = [row(REFERENCE), row("54-year-old woman on metformin 850 mg twice daily."), row("54-year-old.")]
    summary = aggregate(rows)
    assert summary["n"] == 3
    assert summary["hallucination_rate"] == pytest.approx(1 / 3)
    assert summary["hallucination_rate_ci95"] == wilson_interval(1, 3)
    assert summary["claims"] == 11
    assert summary["claim_error_rate"] == pytest.approx(1 / 11)
    assert summary["coverage"] == pytest.approx(2 / 3)
    assert summary["mean_summary_words"] == pytest.approx((8 + 8 + 1) / 3)
    assert summary["seconds"] == 1.5
    assert summary["by_type"] == {
        "dose": {"claims": 1, "summaries": 1, "rate": 1 / 3, "rate_ci95": wilson_interval(1, 3)}
    }


def test_aggregate_counts_failures_of_the_judge_apart() -> None:
    failed = summary_row(Example("e2", NOTE, REFERENCE, ""), Summary("Text."), None)
    summary = aggregate([row(REFERENCE), failed])
    assert (summary["n"], summary["summaries"], summary["judge_failures"]) == (1, 2, 1)
    assert summary["hallucination_rate"] == 0
    assert summary["coverage_n"] == 2  # needs no judge


def test_aggregate_of_what_csv_reads_is_the_same() -> None:
    rows = [row(REFERENCE), row("Takes aspirin."), row("")]
    texts = [{name: str(value) for name, value in cells.items()} for cells in rows]
    assert aggregate(texts) == aggregate(rows)
    assert aggregate(rows)["empty_rate"] == pytest.approx(1 / 3)
