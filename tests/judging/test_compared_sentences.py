"""Pairs of whole completions by the expected number of false sentences: who is chosen, and why there is no pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fact_checking.claims import SentenceDoubt
from judging.compared_sentences import (
    SHARE_LIMITS,
    SentenceLimits,
    false_sentences,
    false_share,
    make_compared_pairs,
)
from judging.preference_pairs import JudgedCompletion, PairingResult

LIMITS = SentenceLimits()


def judged(name: str, *doubts: float, coverage: float | None = 0.5, words: int = 10) -> JudgedCompletion:
    """Return a completion of `words` words in sentences of these doubts; each is false independently of the others."""
    text = " ".join([name, *["word"] * (words - 1)])
    sound = 1.0
    for doubt in doubts:
        sound *= 1 - doubt
    sentences = tuple(SentenceDoubt(index, index + 1, doubt) for index, doubt in enumerate(doubts))
    return JudgedCompletion(
        text, finished=True, errors=0, score=1 - sound, coverage=coverage, probability=1 - sound, sentences=sentences
    )


def pairs_of(result: PairingResult) -> list[tuple[str, str]]:
    return [(pair.chosen.text[0], pair.rejected.text[0]) for pair in result.pairs if pair.chosen and pair.rejected]


def make(*completions: JudgedCompletion, limits: SentenceLimits = LIMITS, most: int = 1) -> PairingResult:
    return make_compared_pairs(completions, limits, most, has_reference=True)


def test_the_expected_number_of_false_sentences_is_the_sum_of_the_doubts() -> None:
    assert false_sentences(judged("a", 0.25, 0.5, 1.0)) == 1.75


def test_a_text_that_is_not_sure_to_be_sound_is_chosen_if_it_has_fewer_false_sentences() -> None:
    chosen, rejected = judged("c", 0.4, 0.5, 0.4), judged("r", 0.8, 0.9, 0.6)  # 1.3 and 2.3 false sentences
    assert chosen.probability == pytest.approx(1 - 0.6 * 0.5 * 0.6)  # 82%: no judge would call it sound
    assert pairs_of(make(chosen, rejected)) == [("c", "r")]


def test_the_clearest_pairs_come_first_and_share_no_text() -> None:
    texts = [judged("a", 0.1, 0.1), judged("b", 0.2, 0.2), judged("x", 0.9, 0.9), judged("y", 0.8, 0.8)]
    assert pairs_of(make(*texts, most=5)) == [("a", "x"), ("b", "y")]
    assert pairs_of(make(*texts, most=1)) == [("a", "x")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "outcome"),
    [
        (judged("c", 0.1, coverage=0.3), judged("r", 0.9, coverage=0.2), "nothing_to_choose"),  # states too little
        (judged("c", 0.7, 0.7), judged("r", 0.9, 0.9, 0.9), "nothing_to_choose"),  # mean doubt above 0.65
        (judged("c", 0.1, words=7), judged("r", 0.9, words=20), "nothing_to_choose"),  # under 0.8 of the median, 13.5
        (judged("c", 0.1), judged("r", 0.55), "tie"),  # nobody is likely to be wrong
        (judged("c", 0.1, coverage=0.5), judged("r", 0.9, coverage=0.6), "says_less"),
        (judged("c", 0.1, words=15), judged("r", 0.9, words=20), "lengths_differ"),  # 20 / 15 is above 1.25
        (judged("c", 0.1, words=21), judged("r", 0.9, words=10), "lengths_differ"),  # 21 / 10 is above 2
        (judged("c", 0.3), judged("r", 0.89), "within_margin"),  # 0.59 false sentences more
        (replace(judged("c", 0.1), errors=1), judged("r", 0.9), "nothing_to_choose"),  # the rules found an error
        (replace(judged("c", 0.1), finished=False), judged("r", 0.9), "nothing_to_choose"),
    ],
)
def test_why_there_is_no_pair(chosen: JudgedCompletion, rejected: JudgedCompletion, outcome: str) -> None:
    assert make(chosen, rejected).outcome == outcome


def test_each_limit_of_the_flags_decides() -> None:
    pair = judged("c", 0.6, 0.6), judged("r", 0.85, 0.85)  # 0.5 false sentences more
    assert make(*pair).outcome == "within_margin"
    assert make(*pair, limits=SentenceLimits(min_difference=0.4)).outcome == "pair"
    assert make(*pair, limits=SentenceLimits(min_difference=0.4, mean_doubt=0.5)).outcome == "nothing_to_choose"
    assert make(*pair, limits=SentenceLimits(min_difference=0.4, rejected_above=0.99)).outcome == "tie"
    longer = judged("r", 0.85, 0.85, words=12)
    assert make(pair[0], longer, limits=SentenceLimits(0.4, max_length_ratio=1.1)).outcome == "lengths_differ"


def test_by_share_neither_saying_less_nor_saying_more_wins() -> None:
    """Two of four sentences are false, and one of one: fewer in the short text, and a smaller share in the long one."""
    long, short = judged("l", 0.0, 0.0, 1.0, 1.0), judged("s", 1.0)
    assert (false_share(long), false_share(short)) == (0.5, 1.0)
    assert make(long, short, limits=SHARE_LIMITS).outcome == "within_margin"
    assert pairs_of(make(judged("l", 0.0, 0.0, 0.5, 0.2), short, limits=SHARE_LIMITS)) == [("l", "s")]  # 0.7 and 1


@pytest.mark.parametrize(
    ("chosen", "rejected", "outcome"),
    [
        (judged("c", 0.4), judged("r", 0.75), "pair"),
        (judged("c", 0.4), judged("r", 0.65), "within_margin"),  # share 0.25 smaller, and 0.25 fewer
        (judged("c", *[0.5] * 4), judged("r", *[0.66] * 4), "within_margin"),  # 0.64 fewer, and share 0.16 smaller
        (judged("c", *[0.5] * 4), judged("r", *[0.74] * 4), "pair"),
        (judged("c", 0.4), judged("r", 1.0, words=12), "lengths_differ"),  # 12 / 10 is above 1.1
        (judged("c", 0.4), judged("r", 1.0, words=8), "lengths_differ"),  # 10 / 8 is above 1.2
        (judged("c", 0.7), judged("r", 1.0), "nothing_to_choose"),  # mean doubt above 0.65
    ],
)
def test_each_limit_by_share_decides(chosen: JudgedCompletion, rejected: JudgedCompletion, outcome: str) -> None:
    assert make(chosen, rejected, limits=SHARE_LIMITS).outcome == outcome


def test_by_share_a_difference_counts_for_more_in_a_longer_text() -> None:
    texts = [judged("a", 0.0, words=8), judged("x", 1.0, words=8), judged("b", 0.0), judged("y", 0.9)]
    assert pairs_of(make(*texts, limits=SHARE_LIMITS)) == [("b", "y")]  # 0.9 x 10 words against 1.0 x 8
    assert pairs_of(make(*texts))[0][1] == "x"


def test_completeness_is_not_guessed_for_a_reference_without_facts() -> None:
    pair = judged("c", 0.1, coverage=None), judged("r", 0.9, coverage=None)
    assert make(*pair).outcome == "uncertain"
    assert make_compared_pairs(pair, LIMITS, 1, has_reference=False).outcome == "pair"  # there is none to compare with


def test_a_judge_without_probabilities_rejects_what_the_rules_find_wrong() -> None:
    chosen, rejected = (replace(each, probability=None) for each in (judged("c", 0.0), judged("r", 1.0)))
    assert make(chosen, replace(rejected, errors=1)).outcome == "pair"
    assert make(chosen, rejected).outcome == "tie"
    assert make_compared_pairs([], LIMITS, 1, has_reference=True).outcome == "all_failed"
