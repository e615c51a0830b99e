"""The report's numbers, worked out by hand: the decision and how many more, kinds, models, agreement."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest

from assessment.examples import Example, Source
from assessment.ratings import HALLUCINATED, NOT_HALLUCINATED, Rating, SummaryError
from assessment.report import decision, further_ratings, given_ratings, progress, report, tally


def rated(assessor: str, example: Example, verdict: str | None, *errors: SummaryError, **rest: object) -> Rating:
    return Rating(assessor, example.text_sha256, example.example_id, verdict, list(errors), **rest)  # type: ignore[arg-type]


def yes_no(assessor: str, examples: list[Example], answers: str) -> list[Rating]:
    """One rating for each letter: y, n, or - for none."""
    verdicts = {"y": HALLUCINATED, "n": NOT_HALLUCINATED}
    return [
        rated(assessor, example, verdicts[letter], blind=True)
        for example, letter in zip(examples, answers, strict=True)
        if letter != "-"
    ]


def source(name: str, flags: str, summary: str = "") -> Source:
    """One example for each letter: 1 or 0 for the automatic verdict, - for none."""
    flagged = {"1": True, "0": False, "-": None}
    examples = [Example(f"e{i}", f"note {i}", f"{summary or name} {i}", "", flagged[f]) for i, f in enumerate(flags)]
    return Source(Path(name), examples)


def test_decisions() -> None:
    # Wilson intervals by hand: 10/30 is 19.2% to 51.2%; 0/30 is 0% to 11.4%; 4/30 is 5.3% to 29.7%.
    assert decision(10, 30) == "over 15%: go on to Stage B"
    assert decision(0, 30) == "under 15%: ready"
    assert decision(4, 30) == (
        "undecided: rate 1,734 more (should the share stay at 13.3%, the interval then lies under 15%)"
    )
    assert decision(4, 20, unrated=30) == (
        "undecided: rate 176 more (should the share stay at 20.0%, the interval then lies over 15%; 30 are left here)"
    )
    assert decision(4, 20, unrated=176).endswith("over 15%)")
    assert decision(0, 0) == "undecided: rate 10 or more; nothing is rated yet"
    # 1/1 is 20.7% to 100%, yet one of one is hallucinated in 15 of 100 cases where the rate is 15%
    assert decision(1, 1) == "undecided: rate 9 more, since under 10 an interval says little"
    assert decision(9, 9).startswith("undecided: rate 1 more")
    assert decision(6, 10) == "over 15%: go on to Stage B"


def wilson_by_hand(p: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


@pytest.mark.parametrize(
    ("hallucinated", "rated_now", "more"),
    [
        # z^2 t (1 - t) = 3.84146 * 0.15 * 0.85 = 0.489786; divided by (p - t)^2 and rounded up it is the n needed
        (0, 5, 17),  # 0.489786 / 0.15^2 = 21.8
        (4, 30, 1734),  # 0.489786 / 0.01667^2 = 1763.2
        (4, 20, 176),  # 0.489786 / 0.05^2 = 195.9
        (6, 20, 2),  # 0.489786 / 0.15^2 = 21.8
    ],
)
def test_further_ratings(hallucinated: int, rated_now: int, more: int) -> None:
    assert further_ratings(hallucinated, rated_now) == more
    share = hallucinated / rated_now

    def holds_threshold(n: int) -> bool:
        low, high = wilson_by_hand(share, n)
        return low <= 0.15 <= high

    assert holds_threshold(rated_now + more - 1)
    assert not holds_threshold(rated_now + more)


def test_a_share_at_the_threshold_is_never_decided() -> None:
    assert further_ratings(15, 100) is None
    assert further_ratings(151, 1000) is None  # 489,786 needed
    assert decision(15, 100) == "undecided: rate more than 10,000 more; the share is too close to 15%"


def test_a_summary_counts_once_and_the_majority_decides() -> None:
    a, b, c, d = source("m", "----").examples
    dose = SummaryError("contradiction", "major", 0, 1, "m")
    tone = SummaryError("unsupported detail", "minor")
    ratings = [
        rated("KM", a, HALLUCINATED, dose, dose),
        rated("JS", a, NOT_HALLUCINATED, omissions=["fever"]),  # a draw: hallucinated
        rated("KM", b, HALLUCINATED, tone),
        rated("JS", b, NOT_HALLUCINATED),
        rated("AB", b, NOT_HALLUCINATED),  # two against one, and the kind of error does not count
        rated("KM", c, HALLUCINATED, tone),
        rated("JS", c, "skipped"),
        rated("JS", d, None, omissions=["cough"]),
    ]
    total = tally(given_ratings(ratings).values())
    assert (total.rated, total.hallucinated, total.disputed) == (3, 2, 2)
    assert (total.major, total.with_omission) == (1, 1)
    assert total.by_kind == {"contradiction": 1, "unsupported detail": 1}
    lines = report([source("m", "----")], ratings).splitlines()
    assert "Summaries rated:        3 of 4" in lines
    assert "95% Wilson interval:    20.8% to 93.9%" in lines
    assert "With a major error:     1 of 3 (33.3%, 95% interval 6.1% to 79.2%)" in lines
    assert "  JS: hallucinated 0 of 2 (0.0%, 95% interval 0.0% to 65.8%), 1 skipped" in lines
    assert '  e0, KM: major contradiction: "m"' in lines
    assert '  e0, JS: omission: "fever"' in lines
    assert "  e1, KM: minor unsupported detail" in lines


def test_an_omission_is_no_hallucination() -> None:
    example = source("m", "-").examples[0]
    total = tally([[rated("KM", example, NOT_HALLUCINATED, omissions=["fever", "cough"])]])
    assert (total.rated, total.hallucinated, total.with_omission) == (1, 0, 1)


def test_two_models_get_their_rates_and_the_paired_difference() -> None:
    sft, dpo = source("sft.csv", "-" * 12), source("dpo.csv", "-" * 12)
    ratings = [*yes_no("KM", sft.examples, "yyyyyyynnn-y"), *yes_no("KM", dpo.examples, "ynnnnnnnnny-")]
    lines = report([sft, dpo], ratings).splitlines()
    first, second = lines.index("sft.csv"), lines.index("dpo.csv")
    assert lines[first + 3] == "Hallucination rate:     72.7%"  # 8 of 11
    assert lines[second + 3] == "Hallucination rate:     18.2%"  # 2 of 11
    assert lines[first + 5] == "Decision:               over 15%: go on to Stage B"
    start = lines.index("Compared over the 10 notes with both summaries rated:")
    assert lines[start + 1] == "  hallucinated in both 1, only sft.csv 6, only dpo.csv 0, in neither 3"
    # 1/10 - 7/10; Bonett and Price: 1/12 - 7/12 = -0.5, 1.96 sqrt((8/12 - 0.25) / 12) = 0.3652
    assert lines[start + 2] == "  dpo.csv less sft.csv: -60.0 points (95% interval -86.5 to -13.5)"
    # the six notes that differ all on one side: p = 2 / 2^6 = 0.03125
    assert lines[start + 3] == "  McNemar's exact test: p = 0.0312; the difference holds"


def test_a_summary_that_both_models_give_counts_for_both() -> None:
    sft, dpo = source("sft.csv", "--", "same"), source("dpo.csv", "--", "same")
    lines = report([sft, dpo], yes_no("KM", sft.examples, "yn")).splitlines()
    assert lines.count("Summaries rated:        2 of 2") == 2
    assert "  hallucinated in both 1, only sft.csv 0, only dpo.csv 0, in neither 1" in lines
    assert "  McNemar's exact test: p = 1.0000; no difference is shown" in lines


def test_of_two_models_only_blind_ratings_count() -> None:
    sft, dpo = source("sft.csv", "-"), source("dpo.csv", "-")
    text = report([sft, dpo], [rated("KM", sft.examples[0], HALLUCINATED), *yes_no("KM", dpo.examples, "n")])
    assert text.count("Summaries rated:        1 of 1") == text.count("Summaries rated:        0 of 1") == 1
    assert "Ratings not counted:    1 (of texts that the results do not hold now, or not blind)" in text


def test_two_models_without_a_pair() -> None:
    sft, dpo = source("sft.csv", "--"), source("dpo.csv", "--")
    text = report([sft, dpo], yes_no("KM", [sft.examples[0], dpo.examples[1]], "yn"))
    assert "Compared: no note has both its summaries rated yet." in text


def test_assessors_are_compared_on_what_both_rated() -> None:
    results = source("m", "-" * 52)
    first = yes_no("JS", results.examples, "y" * 25 + "n" * 25 + "y-")
    second = yes_no("KM", results.examples, "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15 + "-y")
    lines = report([results], [*first, *second, *yes_no("AB", [results.examples[51]], "y")]).splitlines()
    start = lines.index("Agreement between assessors:")
    assert lines[start + 1].startswith("  AB and KM agree on 1 of 1")
    assert lines[start + 2] == (
        "  JS and KM agree on 35 of 50 (70.0%, 95% interval 56.2% to 80.9%); "
        "Cohen's kappa 0.40 (95% interval 0.15 to 0.65), n = 50"
    )
    assert lines[start + 3 :] == []  # AB and JS have rated nothing in common


def test_the_checker_is_held_against_the_assessor() -> None:
    results = source("m", "1110000001--")
    text = report([results], yes_no("KM", results.examples, "yyynynnnn-ny"))
    assert "Automatic checker against the assessor:\n" in text
    # of 9 with both: 3 flagged and hallucinated, 1 missed, 0 false alarms, 5 passed
    assert "flagged (sensitivity): 3 of 4 (75.0%, 95% interval 30.1% to 95.4%)\n" in text
    assert "not flagged (specificity):   5 of 5 (100.0%, 95% interval 56.6% to 100.0%)\n" in text
    # agree on 8/9; chance (3*4 + 6*5) / 81 = 42/81; kappa (72 - 42) / (81 - 42) = 30/39
    assert "Cohen's kappa 0.77 (95% interval" in text
    assert "in view" not in text


def test_ratings_given_with_the_verdict_in_view_are_named() -> None:
    results = source("m", "10")
    ratings = [rated("KM", example, NOT_HALLUCINATED) for example in results.examples]
    assert "  2 were rated with the automatic verdict in view" in report([results], ratings)


def test_nothing_rated_and_ratings_of_other_texts() -> None:
    results = source("m", "1-")
    text = report([results], yes_no("KM", source("earlier", "1").examples, "y"))
    assert "Summaries rated:        0 of 2" in text
    assert "Decision:               undecided: rate 10 or more; nothing is rated yet" in text
    assert "  nobody yet" in text
    assert "Automatic checker" not in text
    assert text.endswith("Ratings not counted:    1 (of texts that the results do not hold now)\n")


def test_controls_in_a_quoted_text_do_not_reach_the_terminal() -> None:
    results = source("m", "-")
    text = report([results], [rated("KM", results.examples[0], NOT_HALLUCINATED, comment="see\x1b[2J\nnote")])
    assert '  e0, KM: comment: "see\ufffd[2J note"' in text


def test_progress_is_the_assessor_s_own_and_of_mixed_models_has_no_share() -> None:
    results = source("m", "---")
    ratings = [*yes_no("KM", results.examples, "yn-"), *yes_no("JS", results.examples, "yyy")]
    own = progress(results.examples, ratings, "KM", mixed=False)
    assert own.startswith("KM: 2 of 3 rated, 0 skipped\n")
    assert "Hallucination rate:     50.0%" in own
    assert "JS" not in own
    assert progress(results.examples, ratings, "KM", mixed=True) == "KM: 2 of 3 rated, 0 skipped"
