"""The report's numbers, worked out by hand: the decision, kinds of error, two models, agreement."""

from __future__ import annotations

from pathlib import Path

import pytest

from assessment.confidence_sequence import confidence_sequence
from assessment.examples import Example, Source
from assessment.ratings import HALLUCINATED, NOT_HALLUCINATED, Rating, SummaryError
from assessment.report import decision, progress, report
from assessment.tally import given_ratings, has_major_error, tally, verdict_of
from evaluation.stats import ratio_interval, share_interval, wilson_interval, wilson_interval_by_note


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
    # the likelihood ratio against 15% must reach 20; by hand for the Beta(1, 4) prior:
    # 0 of n: 4 / (4 + n) / 0.85^n = 17.6 for n = 31 and 20.2 for n = 32
    assert decision(0, 31) == (
        "undecided, under 15% so far: about 1 more rating will probably decide if the share stays near 0.0%"
    )
    assert decision(0, 32) == "under 15%: ready"
    # 6 of 10: B(7, 8) / B(1, 4) / (0.15^6 0.85^4) = 4.1625e-5 * 4 / 5.9460e-6 = 28.0
    assert decision(6, 10) == "over 15%: go on to Stage B"
    assert decision(30, 50) == "over 15%: go on to Stage B"


def test_an_open_decision_names_the_side_and_how_many_more_ratings_it_takes() -> None:
    assert decision(4, 30) == (
        "undecided, under 15% so far: about 5,779 more ratings will probably decide if the share stays near 13.3%"
    )
    over = "undecided, over 15% so far: about 587 more ratings will probably decide if the share stays near 20.0%"
    assert decision(4, 20) == decision(4, 20, unrated=587) == over
    assert decision(4, 20, unrated=586) == f"{over}; 586 left here"
    assert decision(4, 20, unrated=0) == (
        f"{over}; all 20 summaries here are rated, so evaluate the model on more notes"
    )
    at_threshold = (
        "undecided, exactly 15% so far: more than 10,000 more ratings are needed if the share stays near 15.0%"
    )
    assert decision(15, 100) == at_threshold
    assert decision(15, 100, unrated=1) == f"{at_threshold}; 1 left here"
    assert decision(151, 1000).startswith("undecided, over 15% so far: more than 10,000 more ratings are needed")


def test_several_summaries_of_a_note_are_not_several_observations() -> None:
    """Of 12 notes with three summaries each, all three are hallucinated in three notes; KM has rated all but two."""
    examples = [Example(f"e{i}", f"note {i // 3}", f"summary {i}") for i in range(36)]
    ratings = yes_no("KM", examples, "y" * 9 + "n" * 25 + "--")
    lines = report([Source(Path("m"), examples)], ratings).splitlines()
    hits, counts = [3.0] * 3 + [0.0] * 9, [3.0] * 11 + [1.0]
    low, high = wilson_interval_by_note(hits, counts)
    assert f"95% Wilson interval:    {low:.1%} to {high:.1%} (of 12 notes, whose summaries are alike)" in lines
    assert high - low > 1.5 * (wilson_interval(9, 34)[1] - wilson_interval(9, 34)[0])
    low, high = confidence_sequence(3, 12)
    assert lines[lines.index("Hallucination rate:     26.5%") + 2] == (
        f"Decision interval:      {low:.1%} to {high:.1%} (95% confidence sequence: holds at every look; "
        "each note counts once)"
    )
    decided = next(line for line in lines if line.startswith("Decision:"))
    assert decided.removeprefix("Decision:").strip() == decision(3, 12, unrated=1, of_notes=True)
    assert "about 133 more notes will probably decide if the share stays near 25.0%; 1 left here" in decided
    low, high = wilson_interval_by_note([0.0] * 12, counts)
    assert f"Empty summaries:        0 of 34 (0.0%, 95% interval {low:.1%} to {high:.1%})" in lines
    low, high = wilson_interval_by_note(hits, counts)
    assert f"  KM: hallucinated 9 of 34 (26.5%, 95% interval {low:.1%} to {high:.1%}), 0 skipped" in lines
    few = report([Source(Path("m"), examples)], ratings[:12])
    assert "undecided, over 15% so far: rate at least 6 more notes; a decision needs 10 notes" in few


def test_completeness_and_agreement_resample_notes_with_several_summaries() -> None:
    examples = [Example(f"e{i}", f"note {i // 2}", f"summary {i}") for i in range(20)]
    first = [
        rated("KM", each, HALLUCINATED if i % 4 < 2 else NOT_HALLUCINATED, completeness=1 + i % 4 // 2)
        for i, each in enumerate(examples)
    ]
    second = yes_no("JS", examples, "y" * 10 + "n" * 10)
    text = report([Source(Path("m"), examples)], [*first, *second])
    low, high = ratio_interval([2.0, 4.0] * 5, [2.0] * 10) or (0, 0)
    assert f"over 20 summaries (95% interval {low:.2f} to {high:.2f})" in text
    low, high = share_interval([2.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0, 0.0, 2.0], [2.0] * 10) or (0, 0)
    assert f"  JS and KM agree on 12 of 20 (60.0%, 95% interval {low:.1%} to {high:.1%}); Cohen's" in text


def test_fewer_than_10_ratings_decide_nothing() -> None:
    assert decision(0, 0) == "undecided: nothing is rated yet; rate at least 10"
    assert decision(1, 1) == "undecided, over 15% so far: rate at least 9 more; a decision needs 10"
    assert decision(9, 9) == "undecided, over 15% so far: rate at least 1 more; a decision needs 10"
    assert decision(0, 9) == "undecided, under 15% so far: rate at least 1 more; a decision needs 10"
    assert decision(10, 10) == "over 15%: go on to Stage B"


def test_a_model_that_says_nothing_is_never_ready() -> None:
    """0 of 32 decide; 17 of the 32 summaries are empty, and a citation is no word."""
    texts = ["", "[Evidence: S1]"] * 8 + [""] + ["Seen for chest pain."] * 15
    results = Source(Path("m"), [Example(f"e{i}", f"note {i}", text) for i, text in enumerate(texts)])
    ratings = [rated("KM", example, NOT_HALLUCINATED, completeness=1) for example in results.examples]
    lines = report([results], ratings).splitlines()
    start = lines.index(
        "Decision:               under 15%, but not ready: most rated summaries are empty, and an empty one cannot be "
        "wrong"
    )
    assert lines[start + 1] == "Mean words:             1.9"  # 15 * 4 / 32
    assert lines[start + 2].startswith("Empty summaries:        17 of 32 (53.1%, 95% interval")
    assert lines[start + 3].startswith("Completeness, 0 to 3:   1.00 over 32 summaries")
    half = Source(Path("m"), [*results.examples[1:], Example("e32", "note 32", "Seen for chest pain.")])
    lines = report([half], [rated("KM", example, NOT_HALLUCINATED) for example in half.examples]).splitlines()
    assert "Decision:               under 15%: ready" in lines  # 16 of 32


def test_a_major_error_needs_most_of_those_who_said_how_severe_it_is() -> None:
    example = source("m", "-").examples[0]
    major, minor, unknown = (SummaryError("fabricated", severity) for severity in ("major", "minor", ""))

    def yes(name: str, *errors: SummaryError, **rest: object) -> Rating:
        return rated(name, example, HALLUCINATED, *errors, **rest)

    no = rated("ZZ", example, NOT_HALLUCINATED)
    assert has_major_error([yes("KM", major), yes("JS", minor), yes("AB", minor, minor)]) is False
    assert has_major_error([yes("KM", major), yes("JS", minor), yes("AB", minor, major), no]) is True
    assert has_major_error([yes("KM", major), yes("JS", minor)]) is False  # one of two is no majority
    assert has_major_error([yes("KM", unknown), yes("JS", major), no]) is True  # one severity is known
    assert has_major_error([yes("KM", minor, unknown)]) is None
    assert has_major_error([yes("KM", major), no, yes("AB", minor, adjudication=True)]) is False  # who settles decides
    total = tally([[yes("KM", unknown)], [yes("KM", major)], [no]])
    assert (total.hallucinated, total.major, total.severity_unknown) == (2, 1, 1)
    text = report([source("m", "-")], [yes("KM", unknown)])
    assert "With a major error:     0 of 0, 1 without a severity left out" in text


def test_a_summary_counts_once_and_the_majority_decides() -> None:
    a, b, c, d = source("m", "----").examples
    dose = SummaryError("contradiction", "major", 0, 1, "m")
    tone = SummaryError("unsupported detail", "minor")
    ratings = [
        rated("KM", a, HALLUCINATED, dose, dose),
        rated("JS", a, NOT_HALLUCINATED, omissions=["fever"]),
        rated("AB", a, HALLUCINATED, dose),  # two against one
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
    decision_interval = next(line for line in lines if line.startswith("Decision interval:"))
    # at its ends the ratio is 20; for 2 of 3 it is B(3, 5) / B(1, 4) / (p^2 (1 - p)) = 4 / 105 / (p^2 (1 - p))
    assert decision_interval == "Decision interval:      4.5% to 99.8% (95% confidence sequence: holds at every look)"
    ratios = [4 / 105 / (end**2 * (1 - end)) for end in (0.0446, 0.9981)]
    assert ratios == pytest.approx([20, 20], rel=0.02)
    assert "With a major error:     1 of 3 (33.3%, 95% interval 6.1% to 79.2%)" in lines
    assert "  JS: hallucinated 0 of 2 (0.0%, 95% interval 0.0% to 65.8%), 1 skipped" in lines
    assert '  e0, KM: major contradiction: "m"' in lines
    assert '  e0, JS: omission: "fever"' in lines
    assert "  e1, KM: minor unsupported detail" in lines


def test_a_draw_is_in_no_figure_until_it_is_settled() -> None:
    results = source("m", "11-")
    a, b, c = results.examples
    split = [rated("KM", a, HALLUCINATED, SummaryError("fabricated", "major")), rated("JS", a, NOT_HALLUCINATED)]
    others = [rated("KM", b, NOT_HALLUCINATED), rated("JS", b, NOT_HALLUCINATED), rated("KM", c, HALLUCINATED)]
    total = tally(given_ratings([*split, *others]).values())
    assert (total.rated, total.decided, total.hallucinated, total.draws, total.major) == (3, 2, 1, 1, 0)
    lines = report([results], [*split, *others]).splitlines()
    assert "Hallucination rate:     50.0%" in lines  # 1 of 2
    assert "Hallucinated:           1 of 2 that are no draw" in lines
    assert "Draws:                  1 (not in the figures; a third person decides: --adjudicate)" in lines
    assert "  of the others, not flagged (specificity):   0 of 1 (0.0%, 95% interval 0.0% to 79.3%)" in lines
    assert "  of the hallucinated, flagged (sensitivity): 0 of 0" in lines
    settled = rated("AB", a, HALLUCINATED, SummaryError("fabricated", "major"), adjudication=True, rated_at="1")
    text = report([results], [*split, *others, settled])
    lines = text.splitlines()
    assert "Hallucination rate:     66.7%" in lines  # 2 of 3
    assert "Settled draws:          1 (by a person who saw the ratings of the others)" in lines
    assert "Draws: " not in text
    assert "  AB: hallucinated 0 of 0, 0 skipped, 1 draws settled" in lines
    assert "AB and" not in text  # a person who saw the ratings of others is no independent assessor
    later = rated("CD", a, NOT_HALLUCINATED, adjudication=True, rated_at="2")
    assert verdict_of([*split, settled, later]) is False


def test_notes_with_a_draw_are_left_out_of_the_comparison_of_models() -> None:
    sft, dpo = source("sft", "--"), source("dpo", "--")
    ratings = [*yes_no("KM", sft.examples, "yy"), *yes_no("KM", dpo.examples, "nn"), *yes_no("JS", sft.examples, "n-")]
    lines = report([sft, dpo], ratings).splitlines()
    start = lines.index("Comparison over the 1 notes with both summaries rated, 1 with a draw left out:")
    assert lines[start + 1] == "  hallucinated in both 0, only sft 1, only dpo 0, in neither 0"


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
    assert lines[first + 6] == "Decision:               over 15%: go on to Stage B"
    start = lines.index("Comparison over the 10 notes with both summaries rated:")
    assert lines[start + 1] == "  hallucinated in both 1, only sft.csv 6, only dpo.csv 0, in neither 3"
    # 1/10 - 7/10; Bonett and Price: 1/12 - 7/12 = -0.5, 1.96 sqrt((8/12 - 0.25) / 12) = 0.3652
    assert lines[start + 2] == "  dpo.csv minus sft.csv: -60.0 points (95% interval -86.5 to -13.5)"
    # the six notes that differ all on one side: p = 2 / 2^6 = 0.03125
    assert lines[start + 3] == "  McNemar's exact test: p = 0.0312; significant at the 5% level"


def test_every_pair_of_three_models_is_compared_with_adjusted_p_values() -> None:
    sft, dpo, control = (source(name, "-" * 10) for name in ("sft", "dpo", "control"))
    ratings = [
        *yes_no("KM", sft.examples, "yyyyyyyynn"),
        *yes_no("KM", dpo.examples, "nnnnnnnnnn"),
        *yes_no("KM", control.examples, "yyyyyynnnn"),
    ]
    lines = report([sft, dpo, control], ratings).splitlines()
    tests = {
        line.split(":")[0].strip(): lines[position + 1]
        for position, line in enumerate(lines)
        if " minus " in line and "points" in line
    }
    # discordant 8, 2 and 6, all on one side: p = 2 / 2^8, 2 / 2^2, 2 / 2^6; by Holm 3, 1 and 2 times as much
    assert tests == {
        "dpo minus sft": "  McNemar's exact test: p = 0.0078, p = 0.0234 adjusted for 3 comparisons (Holm); "
        "significant at the 5% level",
        "control minus sft": "  McNemar's exact test: p = 0.5000, p = 0.5000 adjusted for 3 comparisons (Holm); "
        "not significant at the 5% level",
        "control minus dpo": "  McNemar's exact test: p = 0.0312, p = 0.0625 adjusted for 3 comparisons (Holm); "
        "not significant at the 5% level",
    }


def test_completeness_is_a_mean_of_summaries_and_of_their_assessors() -> None:
    results = source("m", "---")
    ratings = [
        rated("KM", results.examples[0], NOT_HALLUCINATED, completeness=3),
        rated("JS", results.examples[0], NOT_HALLUCINATED, completeness=2),  # 2.5 for this summary
        rated("KM", results.examples[1], NOT_HALLUCINATED, completeness=1),
        rated("JS", results.examples[1], NOT_HALLUCINATED),  # was not asked
        rated("KM", results.examples[2], NOT_HALLUCINATED),
    ]
    assert tally(given_ratings(ratings).values()).completeness == (2.5, 1)
    # of two values the bootstrap's 95% interval has both as its ends
    line = "Completeness, 0 to 3:   1.75 over 2 summaries (95% interval 1.00 to 2.50)"
    assert line in report([results], ratings).splitlines()
    assert "over 1 summary (no interval: all are equal)" in report([results], ratings[2:])
    assert "Completeness" not in report([results], ratings[3:])


def test_completeness_and_major_errors_are_compared_in_pairs() -> None:
    sft, dpo = source("sft", "----"), source("dpo", "----")
    major, minor = SummaryError("contradiction", "major"), SummaryError("contradiction", "minor")
    ratings = [
        *(rated("KM", e, HALLUCINATED, major, blind=True, completeness=1) for e in sft.examples[:3]),
        rated("KM", sft.examples[3], HALLUCINATED, minor, blind=True),
        *(
            rated("KM", e, HALLUCINATED, minor, blind=True, completeness=k)
            for e, k in zip(dpo.examples, (3, 1, 2, 0), strict=True)
        ),
    ]
    lines = report([sft, dpo], ratings).splitlines()
    # 0/4 - 3/4; Bonett and Price: 1/6 - 4/6 = -0.5, 1.96 sqrt((5/6 - 0.25) / 6) = 0.6111
    assert "  with a major error, dpo minus sft: -75.0 points (95% interval -100.0 to +11.1)" in lines
    # +2, 0, +1 over the three notes with both; all three drawn as 0 in 1 of 27 resamples, more than 2.5%
    assert "  completeness, dpo minus sft: +1.00 of 3 over 3 notes (95% interval +0.00 to +2.00)" in lines


def test_a_summary_that_both_models_give_counts_for_both() -> None:
    sft, dpo = source("sft.csv", "--", "same"), source("dpo.csv", "--", "same")
    lines = report([sft, dpo], yes_no("KM", sft.examples, "yn")).splitlines()
    assert lines.count("Summaries rated:        2 of 2") == 2
    assert "  hallucinated in both 1, only sft.csv 0, only dpo.csv 0, in neither 1" in lines
    assert "  McNemar's exact test: p = 1.0000; not significant at the 5% level" in lines


def test_of_two_models_only_blind_ratings_count() -> None:
    sft, dpo = source("sft.csv", "-"), source("dpo.csv", "-")
    text = report([sft, dpo], [rated("KM", sft.examples[0], HALLUCINATED), *yes_no("KM", dpo.examples, "n")])
    assert text.count("Summaries rated:        1 of 1") == text.count("Summaries rated:        0 of 1") == 1
    assert "Ratings not counted:    1 (their text is not in the results, or they were not blind)" in text


def test_two_models_without_a_pair() -> None:
    sft, dpo = source("sft.csv", "--"), source("dpo.csv", "--")
    text = report([sft, dpo], yes_no("KM", [sft.examples[0], dpo.examples[1]], "yn"))
    assert "Comparison: no note has both summaries rated yet." in text


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


def test_the_checker_is_compared_with_the_assessor() -> None:
    results = source("m", "1110000001--")
    text = report([results], yes_no("KM", results.examples, "yyynynnnn-ny"))
    assert "Automatic checker against the assessor:\n" in text
    # of 9 with both: 3 flagged and hallucinated, 1 missed, 0 false alarms, 5 passed
    assert "flagged (sensitivity): 3 of 4 (75.0%, 95% interval 30.1% to 95.4%)\n" in text
    assert "not flagged (specificity):   5 of 5 (100.0%, 95% interval 56.6% to 100.0%)\n" in text
    # agree on 8/9; chance (3*4 + 6*5) / 81 = 42/81; kappa (72 - 42) / (81 - 42) = 30/39
    assert "Cohen's kappa 0.77 (95% interval" in text
    assert "on the screen" not in text


def test_the_intervals_of_the_checker_resample_notes_whose_summaries_are_rated_together() -> None:
    """Two models, ten notes: of seven with hallucinated summaries, the checker finds both summaries of four."""
    sft, dpo = source("sft", "1111000000"), source("dpo", "1111000000")
    ratings = [each for model in (sft, dpo) for each in yes_no("KM", model.examples, "yyyyyyynnn")]
    text = report([sft, dpo], ratings)
    low, high = share_interval([2.0] * 4 + [0.0] * 6, [2.0] * 7 + [0.0] * 3) or (0, 0)
    assert f"(sensitivity): 8 of 14 (57.1%, 95% interval {low:.1%} to {high:.1%})\n" in text
    assert high - low > 1.2 * (wilson_interval(8, 14)[1] - wilson_interval(8, 14)[0])
    low, high = wilson_interval(3, 3)  # at 100% with n the number of notes
    assert f"(specificity):   6 of 6 (100.0%, 95% interval {low:.1%} to {high:.1%})\n" in text
    assert "  intervals resample the 10 notes, since summaries of one note are alike\n" in text


def test_ratings_given_with_the_verdict_in_view_are_named() -> None:
    results = source("m", "10")
    ratings = [rated("KM", example, NOT_HALLUCINATED) for example in results.examples]
    assert "  2 were rated with the automatic verdict on the screen" in report([results], ratings)


def test_nothing_rated_and_ratings_of_other_texts() -> None:
    results = source("m", "1-")
    text = report([results], yes_no("KM", source("earlier", "1").examples, "y"))
    assert "Summaries rated:        0 of 2" in text
    assert "Decision:               undecided: nothing is rated yet; rate at least 10" in text
    assert "  nobody yet" in text
    assert "Automatic checker" not in text
    assert text.endswith("Ratings not counted:    1 (their text is not in the results)\n")


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
