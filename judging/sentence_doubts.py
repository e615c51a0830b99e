"""Tell how doubtful each sentence of a judged summary is."""

from __future__ import annotations

from collections.abc import Sequence

from clinical.text import sentences
from fact_checking.claims import SUPPORTED, Claim, FactCheck, SentenceDoubt

_REVIEW_DOUBT = 0.5  # of a sentence without an error that has a claim for review, or one that cannot be checked


def sentence_doubts(summary: str, check: FactCheck) -> tuple[SentenceDoubt, ...]:
    """Return the judge's own doubts, or for a judge without any: 1 with an error, 0 if all claims are supported."""
    if check.sentences is not None:
        return check.sentences
    return tuple(SentenceDoubt(start, end, _doubt(check, start, end)) for start, end in sentences(summary))


def _doubt(check: FactCheck, start: int, end: int) -> float:
    if any(_overlaps(claim, start, end) for claim in check.errors):
        return 1.0
    return _REVIEW_DOUBT if any(_overlaps(claim, start, end) for claim in _open(check.claims)) else 0.0


def _open(claims: Sequence[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.verdict != SUPPORTED]


def _overlaps(claim: Claim, start: int, end: int) -> bool:
    return claim.start < end and start < claim.end
