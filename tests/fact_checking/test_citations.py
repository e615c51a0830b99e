"""Evidence citations: what is read, what exists, what is supported, and calibration worked by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.calibration import calibration
from evaluation.stats import wilson_interval
from fact_checking.citations import Citation, check_citations, parse_citation
from fact_checking.claims import without_citations

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever.\nPain in the left knee."


@pytest.mark.parametrize(
    ("text", "sentences", "confidence"),
    [
        ("[Evidence: S1,2; Conf: 0.85]", (1, 2), 0.85),
        ("[Evidence: S1, S2]", (1, 2), None),
        ("[Evidence: S3,1-2,S2]", (1, 2, 3), None),
        ("[Evidence: S1-S3; Conf: 1]", (1, 2, 3), 1.0),
        ("[Evidence: S1–3; Confidence: .5]", (1, 2, 3), 0.5),
        ("[Evidence:s2;conf:0]", (2,), 0.0),
        ("[Evidence: S0]", (0,), None),
    ],
)
def test_citations_that_are_read(text: str, sentences: tuple[int, ...], confidence: float | None) -> None:
    assert parse_citation(text) == (sentences, confidence)


@pytest.mark.parametrize(
    "content",
    [
        *("", "none", "1,2", "S", "S1,", "S1,,2", "S3-1", "S1-99999", "S1234567", "S1 S2", "S1.5", "S-1", "S1;"),
        *(
            "S1; Conf: 1.2",
            "S1; Conf: 85%",
            "S1; Conf: high",
            "S1; Conf: -0.5",
            "S1; Conf: nan",
            "S1; Conf:",
            "S1, 0.8",
        ),
    ],
)
def test_malformed_citations_are_counted_as_wrong(content: str) -> None:
    assert parse_citation(f"[Evidence: {content}]") == ((), None)
    (citation,) = check_citations(NOTE, f"She denies fever [Evidence: {content}].")
    assert (citation.sentences, citation.exists, citation.supported) == ((), False, False)


def test_a_citation_that_was_broken_off_is_malformed() -> None:
    (citation,) = check_citations(NOTE, "She denies fever [Evidence: S2; Co")
    assert (citation.text, citation.sentences, citation.supported) == ("[Evidence: S2; Co", (), False)


def verdicts(summary: str) -> list[bool | None]:
    return [citation.supported for citation in check_citations(NOTE, summary)]


def test_each_citation_vouches_for_the_statement_before_it() -> None:
    """Three sentences in the note: the line break ends one. The knee is in the third."""
    summary = (
        "Takes metformin 500 mg [Evidence: S1; Conf: 0.9]. Denies fever. [Evidence: S2] Left knee pain [Evidence: S1]."
    )
    citations = check_citations(NOTE, summary)
    assert [summary[c.start : c.end] for c in citations] == [c.text for c in citations]
    assert [c.text for c in citations] == ["[Evidence: S1; Conf: 0.9]", "[Evidence: S2]", "[Evidence: S1]"]
    assert [(c.exists, c.supported, c.confidence) for c in citations] == [
        (True, True, 0.9),
        (True, True, None),
        (True, False, None),
    ]
    assert verdicts("Left knee pain [Evidence: S3].") == [True]


def test_the_sentence_before_last_is_not_vouched_for() -> None:
    assert verdicts("Takes metformin 850 mg. Denies fever [Evidence: S2].") == [True]
    assert verdicts("Takes metformin 850 mg [Evidence: S1].") == [False]


def test_a_cited_sentence_that_the_note_does_not_have() -> None:
    (citation,) = check_citations(NOTE, "Denies fever [Evidence: S2,4].")
    assert (citation.sentences, citation.exists, citation.supported) == ((2, 4), False, False)
    assert not check_citations(NOTE, "Denies fever [Evidence: S0].")[0].exists


def test_citations_in_a_row_vouch_together() -> None:
    summary = "Takes metformin and denies fever [Evidence: S1][Evidence: S2]."
    assert verdicts(summary) == [True, True]
    assert verdicts(summary.replace("[Evidence: S2]", "")) == [False]


def test_a_negation_before_the_statement_is_kept() -> None:
    """Alone, "fever" would be contradicted by S2."""
    assert verdicts("She denies pain [Evidence: S3], fever [Evidence: S2].")[1] is True


def test_statements_without_a_fact_are_held_by_their_words() -> None:
    note = "She enjoys gardening. Her neighbour waters the tomatoes."
    found = check_citations(note, "Enjoys gardening [Evidence: S1]. Waters orchids [Evidence: S2].")
    assert [citation.supported for citation in found] == [True, None]  # all words, some
    (elsewhere,) = check_citations(note, "Plays chess [Evidence: S1].")
    assert elsewhere.supported is False  # none
    (nothing,) = check_citations(note, "[Evidence: S1] Enjoys gardening.")
    assert nothing.supported is None  # vouches for no statement


def test_nothing_cited_is_nothing_checked() -> None:
    assert check_citations(NOTE, "Denies fever [see S2].") == []
    assert check_citations("", "") == []
    assert verdicts("") == []
    assert check_citations("", "Fever [Evidence: S1].")[0].exists is False


@given(st.text(st.sampled_from("[]Evidnc: S12,-–;Cof0.85\nfever. "), max_size=80))
def test_no_text_breaks_it_and_what_is_read_is_what_is_blanked(text: str) -> None:
    citations = check_citations(NOTE, text)
    blanked = without_citations(text)
    assert len(blanked) == len(text)
    for citation in citations:
        assert text[citation.start : citation.end] == citation.text
        assert not blanked[citation.start : citation.end].strip()
    assert "[Evidence:" not in blanked


def seconds_of(read: Callable[[str], object], text: str) -> float:
    """Return the shortest CPU time of five calls."""
    times = []
    for _ in range(5):
        start = time.process_time()
        read(text)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(
    ("read", "before", "after"), [(without_citations, "", ""), (parse_citation, "[Evidence: S1", ".]")]
)
def test_a_run_of_blanks_takes_linear_time(read: Callable[[str], object], before: str, after: str) -> None:
    # four times the blanks take 4 times the time if it is linear and 16 times if it is quadratic
    few, many = (before + " " * blanks + after for blanks in (5_000, 20_000))
    assert seconds_of(read, many) < 9 * seconds_of(read, few)


# ----------------------------------------------------------------------------------------- calibration


def cited(confidence: float | None, supported: bool | None) -> Citation:
    return Citation(0, 1, "x", (1,), True, supported, confidence)


def test_brier_by_hand() -> None:
    """(0.1² + 0.9² + 0.4²) / 3 = 0.98 / 3; too few for bins. What is not known or not stated does not count."""
    summaries = [[cited(0.9, True), cited(0.9, False), cited(None, True)], [], [cited(0.6, True), cited(0.2, None)]]
    result = calibration(summaries)
    assert result is not None
    assert result["n"] == 3
    assert result["brier"] == pytest.approx(0.98 / 3)
    assert (result["ece"], result["ece_ci95"], result["bins"]) == (None, None, [])
    assert calibration([[cited(None, True)], []]) is None
    assert calibration([]) is None


def test_expected_calibration_error_by_hand() -> None:
    """20 at 0.85, 15 right: off by 0.1; 10 at 0.35, 5 right: off by 0.15. ECE (20 * 0.1 + 10 * 0.15) / 30.

    Brier: 15 * 0.15² + 5 * 0.85² + 5 * 0.65² + 5 * 0.35² = 6.675, over 30.
    """
    summaries = [[cited(0.85, i < 15)] for i in range(20)] + [[cited(0.35, i < 5)] for i in range(10)]
    result = calibration(summaries)
    assert result is not None
    assert result["ece"] == pytest.approx(3.5 / 30)
    assert result["brier"] == pytest.approx(6.675 / 30)
    low, high = result["bins"]
    assert (low["low"], low["high"], low["n"], low["share_supported"]) == (0.3, 0.4, 10, 0.5)
    assert (high["low"], high["high"], high["n"], high["share_supported"]) == (0.8, 0.9, 20, 0.75)
    assert (low["mean_confidence"], high["mean_confidence"]) == (pytest.approx(0.35), pytest.approx(0.85))
    assert high["ci95"] == wilson_interval(15, 20)
    # the squares are 0.0225 (15), 0.7225 (5), 0.4225 (5), 0.1225 (5): mean 0.2225, standard deviation 0.2602
    half = 1.96 * 0.2602 / math.sqrt(30)
    assert result["brier_ci95"] == pytest.approx((0.2225 - half, 0.2225 + half), abs=0.01)
    assert result["ece_ci95"][0] <= result["ece"] <= result["ece_ci95"][1]
    assert calibration(summaries) == result  # seeded


def test_perfect_calibration_and_the_edges_of_the_bins() -> None:
    """At 1.0 all right and at 0.0 none: no error at all. 0.3 begins a bin, 1.0 is in the last."""
    result = calibration([[cited(1.0, True)] * 20 + [cited(0.0, False)] * 20 + [cited(0.3, False)] * 10])
    assert result is not None
    assert [(entry["low"], entry["n"]) for entry in result["bins"]] == [(0.0, 20), (0.3, 10), (0.9, 20)]
    assert result["ece"] == pytest.approx(10 * 0.3 / 50)
    assert result["brier"] == pytest.approx(10 * 0.09 / 50)
