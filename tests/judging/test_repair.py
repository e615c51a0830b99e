"""Pairs of sentences: which are exchanged, which are added, and how long both sides become."""

from __future__ import annotations

import pytest

from clinical.text import sentences
from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck, SentenceDoubt
from judging.completion_rows import CompletionsRow
from judging.judge import Judge
from judging.length_balance import balanced
from judging.pair_rows import rows_of
from judging.preference_pairs import JudgedCompletion, PairingResult
from judging.repair import (
    Exchange,
    Gain,
    RepairedPair,
    RepairLimits,
    Sentence,
    repaired_pairs,
    says_the_same,
    sentences_of,
)
from judging.repaired_prompts import repaired_results
from judging.sentence_doubts import sentence_doubts

LIMITS = RepairLimits(sound_below=0.4, flawed_above=0.8, kept_below=0.4)
NOTE = "Man, 54, on metformin 500 mg twice daily. He denies chest pain. Father had a stroke. He smokes one pack a day."


def text_of(*parts: tuple[str, float]) -> list[Sentence]:
    """Return the sentences of a completion with these texts and doubts."""
    whole = " ".join(text for text, _ in parts)
    doubts, start = [], 0
    for text, doubt in parts:
        doubts.append(SentenceDoubt(start, start + len(text), doubt))
        start += len(text) + 1
    return sentences_of(whole, doubts)


def repaired_pair(
    completions: list[list[Sentence]], limits: RepairLimits, gain: Gain | None = None
) -> RepairedPair | None:
    """Return the surest pair."""
    return next(iter(repaired_pairs(completions, limits, gain)), None)


def test_a_flawed_sentence_is_exchanged_and_nothing_else_differs() -> None:
    flawed = text_of(("He denies chest pain.", 0.1), ("He takes metformin 850 mg daily.", 0.95))
    sound = text_of(("He takes metformin 500 mg daily.", 0.1), ("He has a fever today now.", 0.9))
    pair = repaired_pair([flawed, sound], LIMITS)
    assert pair
    assert pair.chosen == "He denies chest pain. He takes metformin 500 mg daily."
    assert pair.rejected == "He denies chest pain. He takes metformin 850 mg daily."
    assert [pair.chosen[a:b] for a, b in pair.chosen_spans] == ["He takes metformin 500 mg daily."]
    assert [pair.rejected[a:b] for a, b in pair.rejected_spans] == ["He takes metformin 850 mg daily."]


def test_the_nearest_wording_takes_the_place() -> None:
    flawed = text_of(("He takes metformin 850 mg daily.", 0.95))
    far, near = ("Father had a stroke years ago.", 0.05), ("He takes metformin 500 mg daily.", 0.2)
    pair = repaired_pair([flawed, text_of(far), text_of(near)], LIMITS)
    assert pair
    assert pair.chosen_spans == ((0, len(near[0])),)
    assert pair.chosen.startswith(near[0])


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (("No pain.", 0.1), "too short: 2 words for 6"),
        (("He takes metformin 500 mg daily.", 0.4), "not surely sound"),
        (("She denies chest pain at all.", 0.1), "says what the frame says already"),
    ],
)
def test_no_partner(sound: tuple[str, float], reason: str) -> None:
    frame = text_of(("He denies chest pain.", 0.1), ("He takes metformin 850 mg daily.", 0.95))
    assert repaired_pair([frame, text_of(sound)], LIMITS) is None, reason


@pytest.mark.parametrize(("kept_below", "stays"), [(0.4, False), (0.6, False), (0.7, True)])
def test_doubtful_sentences_of_the_frame_stay_in_both_texts_or_in_neither(kept_below: float, stays: bool) -> None:
    frame = text_of(("He may have asthma.", 0.6), ("He takes metformin 850 mg daily.", 0.95))
    other = text_of(("He takes metformin 500 mg daily.", 0.1), ("Father may have gout.", 0.6))
    pair = repaired_pair([frame, other], RepairLimits(0.4, 0.8, kept_below))
    assert pair
    assert ("asthma" in pair.chosen, "asthma" in pair.rejected) == (stays, stays)
    assert "gout" not in pair.chosen  # only the frame's


def test_texts_grow_to_the_mean_length_by_what_the_reference_says_first() -> None:
    frame = text_of(("He takes metformin 850 mg daily.", 0.95), ("He may well have had asthma as a child.", 0.6))
    other = text_of(
        ("He takes metformin 500 mg daily.", 0.1), ("Father had a stroke.", 0.3), ("He smokes cigarettes.", 0.05)
    )
    gains = {"Father had a stroke.": 1, "He smokes cigarettes.": 0}
    with_gain = repaired_pair([frame, other], LIMITS, lambda _, sentence: gains.get(sentence, 0))
    without = repaired_pair([frame, other], LIMITS)
    assert with_gain
    assert without
    # 15 and 13 words: 14 on average, so 8 words are left after the exchange; both additions fit
    assert (
        with_gain.chosen
        == without.chosen
        == "He takes metformin 500 mg daily. Father had a stroke. He smokes cigarettes."
    )
    short = text_of(("It goes well.", 0.5))
    # 8 words on average with one more short completion twice: room for two words, half of Father's sentence
    first = repaired_pair([frame, other, short, short], LIMITS, lambda _, sentence: gains.get(sentence, 0))
    least_doubt = repaired_pair([frame, other, short, short], LIMITS)
    assert first
    assert least_doubt
    assert ("Father" in first.chosen, "smokes" in first.chosen) == (True, False)
    assert ("Father" in least_doubt.chosen, "smokes" in least_doubt.chosen) == (False, True)


def test_a_spare_sentence_is_exchanged_for_a_repetition() -> None:
    frame = text_of(
        ("Father had a stroke.", 0.1), ("He takes metformin 850 mg daily.", 0.95), ("He smokes cigarettes daily.", 0.2)
    )
    pair = repaired_pair([frame, text_of(("He takes metformin 500 mg daily.", 0.1))], LIMITS)
    assert pair
    assert pair.chosen == "Father had a stroke. He takes metformin 500 mg daily. He smokes cigarettes daily."
    assert pair.rejected == "Father had a stroke. He takes metformin 850 mg daily. Father had a stroke."
    assert [pair.rejected[a:b] for a, b in pair.rejected_spans][1] == "Father had a stroke."


def test_a_repetition_is_flawed() -> None:
    text = text_of(("He denies chest pain.", 0.1), ("He denies chest pain.", 0.1), ("Father had a stroke.", 0.2))
    assert [each.doubt for each in text] == [0.1, 1.0, 0.2]
    pair = repaired_pair([text, text_of(("He smokes a pack.", 0.1))], LIMITS)
    assert pair
    assert "smokes" in pair.chosen
    assert pair.chosen.count("He denies chest pain.") == 1
    assert pair.rejected.count("He denies chest pain.") >= 2


def test_a_partner_serves_once() -> None:
    frame = text_of(("He takes metformin 850 mg daily.", 0.95), ("He takes metformin 1000 mg daily.", 0.9))
    pair = repaired_pair([frame, text_of(("He takes metformin 500 mg daily.", 0.1))], LIMITS)
    assert pair
    assert pair.chosen == "He takes metformin 500 mg daily."


def test_every_pair_of_a_prompt_exchanges_another_sentence() -> None:
    sound = text_of(("He takes metformin 500 mg daily.", 0.1))
    surest = text_of(("He takes metformin 850 mg daily.", 0.95))
    again = text_of(("He takes metformin 850 mg daily.", 0.95), ("He denies chest pain.", 0.1))
    another = text_of(("He takes metformin 500 mg hourly.", 0.85))
    pairs = repaired_pairs([another, surest, again, sound], LIMITS, most=3)
    assert [pair.rejected.split(". ")[0].rstrip(".") for pair in pairs] == [
        "He takes metformin 850 mg daily",
        "He takes metformin 500 mg hourly",
    ]
    assert repaired_pairs([another, surest, again, sound], LIMITS, most=1) == pairs[:1]


def test_what_says_the_same() -> None:
    first, second = text_of(("He denies chest pain.", 0), ("No chest pain or fever.", 0))
    assert says_the_same(first, second)
    assert not says_the_same(first, text_of(("Father had a stroke.", 0))[0])


def test_sureness_falls_with_a_difference_in_length() -> None:
    flawed, same, longer = (
        text_of((text, doubt))[0] for text, doubt in (("a b c d", 0.9), ("e f g h", 0.1), ("e f g h i j", 0.1))
    )
    assert Exchange(flawed, same).sureness == pytest.approx(0.8)
    assert Exchange(flawed, longer).sureness == pytest.approx(0.8 - 0.5 * 0.405465, abs=1e-6)


def test_doubts_of_a_judge_without_probabilities() -> None:
    summary = "He takes metformin 850 mg twice daily. He denies chest pain."
    doubts = sentence_doubts(summary, check_summary(NOTE, summary))
    assert [(summary[each.start : each.end], each.doubt) for each in doubts] == [
        ("He takes metformin 850 mg twice daily.", 1.0),
        ("He denies chest pain.", 0.0),
    ]
    own = (SentenceDoubt(0, 5, 0.3),)
    assert sentence_doubts(summary, FactCheck((), sentences=own)) == own


class _Rules:
    """The fact checker, with every text that it was asked about."""

    name, failures, usage = "facts", 0, None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, note: str, summary: str) -> FactCheck:
        return check_summary(note, summary)

    def check_all(self, pairs: list[tuple[str, str]], progress: str | None = None) -> list[FactCheck | None]:
        self.asked += [summary for _, summary in pairs]
        return [self.check(*pair) for pair in pairs]


def _judged(judge: Judge, text: str) -> JudgedCompletion:
    check = judge.check(NOTE, text)
    assert check
    return JudgedCompletion.of(text, check, finished=True, coverage=None)


def test_prompts_without_a_pair_are_repaired_and_judged_again() -> None:
    judge = _Rules()
    texts = [
        "He denies chest pain. He takes metformin 850 mg twice daily.",
        "He takes metformin 500 mg twice daily. Mother had a stroke.",
    ]
    row = CompletionsRow("1", "prompt", NOTE, None, texts, [True, True])
    completions = [[_judged(judge, text) for text in texts]]
    limits = LIMITS
    kept = PairingResult("pair", *completions[0])
    assert repaired_results(judge, [row], completions, [kept], limits, "fallback") == [kept]
    assert judge.asked == []
    (result,) = repaired_results(judge, [row], completions, [PairingResult("nothing_to_choose")], limits, "fallback")
    assert result.chosen
    assert result.rejected
    assert (result.outcome, result.chosen.errors, result.rejected.errors) == ("pair", 0, 1)
    assert judge.asked == [result.chosen.text, result.rejected.text]
    assert result.chosen.is_repaired
    further = "He denies chest pain. He takes metformin 1000 mg twice daily."
    more = [[*completions[0], _judged(judge, further)]]
    (result,) = repaired_results(judge, [row], more, [kept], limits, "always", pairs_per_prompt=2)
    assert [pair.rejected.text for pair in result.pairs if pair.rejected] == [texts[0], further]
    assert [each["id"] for each in rows_of(row, result, judge.name)] == ["1-on-policy", "1-on-policy-2"]
    only_sound = [[_judged(judge, "He denies chest pain.")]]
    (result,) = repaired_results(judge, [row], only_sound, [kept], limits, "always")
    assert result.outcome == "not_repaired"


def test_balanced_lengths() -> None:
    lengths = [(10, 10), (5, 20), (10, 10), (9, 10), (12, 10)]
    assert balanced(lengths, 0.05) == [0, 2, 3, 4]  # 41 words against 40
    assert balanced(lengths, 0.01) == [0, 2]  # without the longest: 29 against 30 is no better, so (9, 10) goes too
    assert balanced([(10, 5)], 0.05) == []
    assert balanced([], 0.05) == []


def test_balanced_keeps_as_many_as_possible() -> None:
    lengths = [(8, 10)] * 10 + [(11, 10)] * 20 + [(2, 20)]
    kept = balanced(lengths, 0.0)
    assert len(kept) == 30
    assert sum(lengths[index][0] - lengths[index][1] for index in kept) == 0
    assert sentences("One. Two.") == [(0, 4), (5, 9)]
