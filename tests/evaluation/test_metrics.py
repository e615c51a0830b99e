"""Rows and rates worked by hand."""

from __future__ import annotations

import json

import pytest

from evaluation.metrics import (
    ROW_COLUMNS,
    Example,
    Row,
    Summary,
    aggregate,
    grades_text,
    is_repetitive,
    latency,
    rouge_l,
    summary_row,
)
from evaluation.stats import share_interval, wilson_interval
from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging.learnt_check import joined_check, learnt_check
from judging.word_scores import WordScore

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever. Pain in the left knee."
REFERENCE = "54-year-old woman on metformin 500 mg twice daily."


def row(summary: str, reference: str = REFERENCE) -> Row:
    example = Example("e1", NOTE, reference, "factual")
    return summary_row(example, Summary(summary, True, 0.5), check_summary(NOTE, summary))


def of_notes(rows: list[Row]) -> list[Row]:
    """The rows as if each summary had a note of its own."""
    return [{**each, "clinical_note": f"{NOTE} Case {number}."} for number, each in enumerate(rows)]


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
    summary = aggregate(of_notes(rows))
    assert summary["n"] == 3
    assert summary["hallucination_rate"] == pytest.approx(1 / 3)
    assert summary["hallucination_rate_ci95"] == wilson_interval(1, 3)
    assert summary["claims"] == 11
    assert summary["claim_error_rate"] == pytest.approx(1 / 11)
    assert summary["coverage"] == pytest.approx(2 / 3)
    assert summary["mean_summary_words"] == pytest.approx((8 + 8 + 1) / 3)
    assert summary["seconds"] == 1.5
    assert summary["claim_error_rate_wilson95"] == wilson_interval(1, 11)
    assert summary["claim_error_rate_ci95"] == (0, 0.2)  # one, two or three times the wrong summary: 0 to 3 of 15
    assert summary["mean_reference_words"] == 8
    assert summary["by_type"] == {
        "dose": {
            "claims": 1,
            "summaries": 1,
            "rate": 1 / 3,
            "rate_ci95": wilson_interval(1, 3),
            "claim_rate": 1 / 11,
            "claim_rate_wilson95": wilson_interval(1, 11),
        }
    }


def test_aggregate_counts_failures_of_the_judge_apart() -> None:
    failed = summary_row(Example("e2", NOTE, REFERENCE, ""), Summary("Text."), None)
    summary = aggregate([row(REFERENCE), failed])
    assert (summary["n"], summary["summaries"], summary["judge_failures"]) == (1, 2, 1)
    assert summary["hallucination_rate"] == 0
    assert summary["coverage_n"] == 2  # needs no judge


def weighed_row(probability: float) -> Row:
    """The rules find a wrong dose; a judge that weighs rules and detector flags from a probability of 0.5."""
    summary = "54-year-old woman on metformin 850 mg twice daily."
    check = joined_check(check_summary(NOTE, summary), summary, [WordScore(0, 11, 0.1)], 0.9, probability, 0.5)
    return summary_row(Example(f"e{probability}", NOTE, REFERENCE, ""), Summary(summary), check)


def test_counts_by_kind_and_claims_follow_the_verdict_of_a_judge_that_overrules_the_rules() -> None:
    """Of two summaries with one wrong dose and four right claims each, the judge flags one: 1 of 5 + 4 claims."""
    unsure = weighed_row(0.2)
    assert (unsure["has_hallucination"], unsure["hallucination_types"], unsure["hallucination_score"]) == (0, "", 0.2)
    (span,) = json.loads(unsure["unsupported_spans"])
    assert (span["type"], span["level"]) == ("dose", "review")  # still shown
    summary = aggregate([unsure, weighed_row(0.8)])
    assert summary["hallucination_rate"] == summary["by_type"]["dose"]["rate"] == 0.5
    assert (summary["claims"], summary["claim_error_rate"]) == (9, pytest.approx(1 / 9))
    assert summary["by_type"]["dose"]["claim_rate"] == pytest.approx(1 / 9)


def test_a_judge_that_marks_errors_alone_has_no_claim_error_rate() -> None:
    """Its only claims are doubtful words, so that every rate of claims would be 100%."""
    words = [WordScore(0, 5, 0.9)]
    rows = [
        summary_row(
            Example(str(probability), NOTE, "", ""),
            Summary("Fever."),
            learnt_check("Fever.", words, 0.5, probability, 0.5),
            marks_errors_alone=True,
        )
        for probability in (0.2, 0.8)
    ]
    assert [each["claims"] for each in rows] == ["", ""]
    summary = aggregate(of_notes(rows))
    names = ("claim_error_rate", "claim_error_rate_ci95", "claim_error_rate_wilson95")
    assert [summary[name] for name in names] == [None] * 3
    assert summary["hallucination_rate"] == 0.5
    kind = summary["by_type"]["unsupported"]
    assert (kind["claims"], kind["rate"], kind["claim_rate"], kind["claim_rate_wilson95"]) == (1, 0.5, None, None)


def test_intervals_resample_notes_where_a_note_has_several_summaries() -> None:
    """Six notes with five equal summaries each tell no more than six summaries."""
    texts = [REFERENCE if i < 4 else REFERENCE.replace("500", "850") for i in range(6)]
    once, five_times = [], []
    for number, text in enumerate(texts):
        cells = {**row(text), "clinical_note": f"{NOTE} Case {number}."}
        once.append({**cells, "example_id": str(number)})
        five_times += [{**cells, "example_id": f"{number}-{k}"} for k in range(5)]
    few, many = aggregate(once), aggregate(five_times)
    assert (many["n"], many["notes"], few["notes"]) == (30, 6, 6)
    names = ("hallucination_rate", "coverage", "claim_error_rate", "mean_summary_words", "empty_rate", "repeated_rate")
    for name in names:
        assert many[name] == pytest.approx(few[name])
    for name in ("coverage", "claim_error_rate", "mean_summary_words"):  # a bootstrap over six units in both
        assert many[f"{name}_ci95"] == pytest.approx(few[f"{name}_ci95"])
    assert many["empty_rate_ci95"] == few["empty_rate_ci95"] == wilson_interval(0, 6)
    by_notes = share_interval([0.0] * 4 + [5.0] * 2, [5.0] * 6)
    assert many["hallucination_rate_ci95"] == many["by_type"]["dose"]["rate_ci95"] == by_notes
    assert few["hallucination_rate_ci95"] == wilson_interval(2, 6)


def graded_row(accurate: int, risk: int | None = None) -> Row:
    grades = {"accurate": accurate} | ({} if risk is None else {"risk": risk})
    return summary_row(Example("e1", NOTE, "", ""), Summary("Fever."), FactCheck((), grades=grades))


def test_mean_grades_by_hand() -> None:
    """accurate: (5 + 2 + 5) / 3 = 4, from 2 three times to 5 three times; risk: all equal, so no interval."""
    rows = [graded_row(5, 1), graded_row(2, 1), graded_row(5), row(REFERENCE)]
    assert rows[0]["judge_grades"] == '{"accurate": 5, "risk": 1}'
    assert rows[3]["judge_grades"] == ""
    grades = aggregate(of_notes(rows))["judge_grades"]
    assert grades == {
        "accurate": {"mean": 4, "ci95": (2, 5), "n": 3},
        "risk": {"mean": 1, "ci95": None, "n": 2},
    }
    assert grades_text(grades) == "accurate 4.00 (95% interval 2.00 to 5.00, n=3); risk 1.00 (n=2)"
    assert aggregate([row(REFERENCE)])["judge_grades"] == {}


def test_results_from_before_there_were_grades_are_read() -> None:
    old = row(REFERENCE)
    del old["judge_grades"]
    assert aggregate([old])["judge_grades"] == {}


def test_aggregate_of_what_csv_reads_is_the_same() -> None:
    rows = [row(REFERENCE), row("Takes aspirin."), row(""), graded_row(3, 2), graded_row(4, 1)]
    texts = [{name: str(value) for name, value in cells.items()} for cells in rows]
    assert aggregate(texts) == aggregate(rows)
    assert aggregate(rows)["empty_rate"] == pytest.approx(1 / 5)


def test_no_error_found_is_not_no_error() -> None:
    """Twelve claims without an error in three summaries: as Wilson's interval for 0 of 3, not 0 to 0."""
    rows = [row("54-year-old woman on metformin 500 mg.")] * 3
    summary = aggregate(of_notes(rows))
    assert summary["claim_error_rate"] == 0
    assert summary["claim_error_rate_ci95"] == wilson_interval(0, 3)
    assert summary["claim_error_rate_wilson95"] == wilson_interval(0, 12)


def test_the_claim_rates_of_all_types_sum_to_the_claim_error_rate() -> None:
    rows = [row("54-year-old woman on metformin 850 mg twice daily."), row("45-year-old man. Pain in the right knee.")]
    summary = aggregate(of_notes(rows))
    assert len(summary["by_type"]) > 2
    rates = [entry["claim_rate"] for entry in summary["by_type"].values()]
    assert sum(rates) == pytest.approx(summary["claim_error_rate"])


def test_citations_of_a_row_and_their_accuracy_by_hand() -> None:
    """Three sentences. Right, right | wrong sentence, no such sentence, malformed | behind nothing: 2 of 5 told."""
    rows = [
        row("Takes metformin 500 mg [Evidence: S1; Conf: 0.9]. Denies fever [Evidence: S2; Conf: 0.8]."),
        row("Denies fever [Evidence: S3; Conf: 0.7]. Knee pain [Evidence: S9]. Aged 54 [Evidence: first]."),
        row("[Evidence: S3] Aged 54."),
        row("54-year-old woman."),
    ]
    assert rows[3]["citations"] == "[]"
    first = json.loads(rows[0]["citations"])[0]
    assert list(first) == ["start", "end", "text", "sentences", "exists", "supported", "confidence"]
    assert first["text"] == rows[0]["generated_summary"][first["start"] : first["end"]] == "[Evidence: S1; Conf: 0.9]"
    summary = aggregate(of_notes(rows))
    assert (summary["citations"], summary["citations_malformed"], summary["citations_unverifiable"]) == (6, 1, 1)
    assert summary["citation_accuracy"] == pytest.approx(2 / 5)
    assert summary["citation_accuracy_n"] == 5
    low, high = summary["citation_accuracy_ci95"]
    assert low < 2 / 5 < high
    assert summary["calibration"]["n"] == 3
    assert summary["calibration"]["brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.7**2) / 3)


def test_without_citations_nothing_is_said_of_them() -> None:
    summary = aggregate([row(REFERENCE)])
    assert (summary["citation_accuracy"], summary["citation_accuracy_ci95"], summary["calibration"]) == (None,) * 3
    assert (summary["citation_accuracy_n"], summary["citations"]) == (0, 0)


def test_latency_by_hand() -> None:
    """1, 2, 3, 4 and 10 seconds: median 3; the 95th percentile lies 0.8 of the way from the 4th to the 5th: 8.8."""
    assert latency([10, 1, 3, 2, 4]) == {
        "seconds": 20,
        "median_seconds": 3,
        "p95_seconds": 8.8,
        "summaries_per_second": 0.25,
    }
    assert set(latency([]).values()) == {None}
