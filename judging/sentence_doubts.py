"""Tell how doubtful each sentence of a judged summary is."""

from __future__ import annotations

from collections.abc import Sequence

from clinical.text import sentences
from fact_checking.checker import check_summary
from fact_checking.claims import SUPPORTED, Claim, FactCheck, SentenceDoubt
from judging.combination import Combination
from judging.detector_settings import summary_features
from judging.word_scores import WordScore

_REVIEW_DOUBT = 0.5  # of a sentence without an error that has a claim for review, or one that cannot be checked


def sentence_doubts(summary: str, check: FactCheck) -> tuple[SentenceDoubt, ...]:
    """Return the judge's own doubts, or for a judge without any: 1 with an error, 0 if all claims are supported."""
    if check.sentences is not None:
        return check.sentences
    return tuple(SentenceDoubt(start, end, _doubt(check, start, end)) for start, end in sentences(summary))


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


def _doubt(check: FactCheck, start: int, end: int) -> float:
    if any(_overlaps(claim, start, end) for claim in check.errors):
        return 1.0
    return _REVIEW_DOUBT if any(_overlaps(claim, start, end) for claim in _open(check.claims)) else 0.0


def _open(claims: Sequence[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.verdict != SUPPORTED]


def _overlaps(claim: Claim, start: int, end: int) -> bool:
    return claim.start < end and start < claim.end
