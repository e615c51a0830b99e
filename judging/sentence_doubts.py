"""Tell how doubtful each sentence of a judged summary is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clinical.text import sentences
from fact_checking.checker import check_summary
from fact_checking.claims import SUPPORTED, FactCheck, SentenceDoubt
from judging.combination import Combination
from judging.detector_settings import summary_features
from judging.word_scores import WordScore, overlaps

_REVIEW_DOUBT = 0.5  # of a sentence without an error that has a claim for review, or one that cannot be checked


def sentence_doubts(summary: str, check: FactCheck) -> tuple[SentenceDoubt, ...]:
    """Return the judge's own doubts, or for a judge without any: 1 with an error, 0 if all claims are supported."""
    if check.sentences is not None:
        return check.sentences
    whole = [SentenceDoubt(start, end, 0.0) for start, end in sentences(summary)]
    return tuple(replace(sentence, doubt=_doubt(check, sentence)) for sentence in whole)


def learnt_doubts(
    summary: str,
    words: Sequence[WordScore],
    summary_probability: float,
    combination: Combination,
    note: str | None = None,
) -> tuple[SentenceDoubt, ...]:
    """Return what a detector's regression says of each sentence: of its own words, with a note also of the rules.

    The words have their scores from the whole summary, so a sentence is read in its place.
    """
    doubts = []
    for start, end in sentences(summary):
        own = [
            WordScore(word.start - start, word.end - start, word.score)
            for word in words
            if start <= word.start and word.end <= end
        ]
        text = summary[start:end]
        rules = None if note is None else check_summary(note, text)
        features = summary_features(text, own, summary_probability, rules)
        doubts.append(SentenceDoubt(start, end, combination.probability(features)))
    return tuple(doubts)


def _doubt(check: FactCheck, sentence: SentenceDoubt) -> float:
    if overlaps(sentence, check.errors):
        return 1.0
    unsettled = (claim for claim in check.claims if claim.verdict != SUPPORTED)
    return _REVIEW_DOUBT if overlaps(sentence, unsettled) else 0.0
