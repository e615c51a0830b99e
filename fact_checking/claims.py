"""Claims of a summary, their verdicts, and the check of a whole summary."""

from __future__ import annotations

import re
from dataclasses import dataclass

SUPPORTED, CONTRADICTED, UNSUPPORTED, UNVERIFIABLE = "supported", "contradicted", "unsupported", "unverifiable"
ERROR, REVIEW = "error", "review"
# Sentence numbers and a confidence and nothing else: whatever else stands in the brackets is checked as any text is.
# The blanks before it are tried once.
CITATION = re.compile(
    r"(?<!\s)\s*\[Evidence:[S\d,;:.\t –-]*(?:Conf(?:idence)?[\d:.,%\t ]*)?(?:\]|(?:Co?n?)?$)|(?<!\s)\s*\[Evidence:",
    re.IGNORECASE,
)
# Of the score: a word that the note lacks is weaker evidence than an error, what the note leaves open is weaker yet.
# Other weights in this order agree with experts about as well (benchmarks/RESULTS.md)
_ERROR_WEIGHT, _WORD_WEIGHT, _OPEN_WEIGHT = 1.0, 0.5, 0.25


@dataclass(frozen=True)
class Claim:
    """One statement of the summary, `summary[start:end]`, and what became of it."""

    type: str
    text: str
    start: int
    end: int
    verdict: str  # supported | contradicted | unsupported | unverifiable
    level: str  # error | review
    evidence: str | None  # sentence of the note it was held against, or that comes nearest to what the note lacks
    evidence_start: int | None

    @property
    def is_wrong(self) -> bool:
        """Contradicted or unsupported."""
        return self.verdict in (CONTRADICTED, UNSUPPORTED)


@dataclass(frozen=True)
class FactCheck:
    """All claims of a summary, in the order of the text.

    `graded_score` is the score of a judge that grades claims rather than sorting them.
    """

    claims: tuple[Claim, ...]
    graded_score: float | None = None

    @property
    def errors(self) -> tuple[Claim, ...]:
        """Claims of level error that are contradicted or unsupported."""
        return tuple(claim for claim in self.claims if claim.level == ERROR and claim.is_wrong)

    @property
    def has_hallucination(self) -> bool:
        return bool(self.errors)

    @property
    def score(self) -> float:
        """1 for each error, 1/2 for each word for review, 1/4 for what is open; or the judge's grade.

        Higher is worse, 0 where all is supported.
        """
        if self.graded_score is not None:
            return self.graded_score
        return sum(_weight(claim) for claim in self.claims)


def _weight(claim: Claim) -> float:
    if claim.verdict == SUPPORTED:
        return 0.0
    if claim.level == ERROR and claim.is_wrong:
        return _ERROR_WEIGHT
    return _WORD_WEIGHT if claim.is_wrong else _OPEN_WEIGHT


def without_citations(summary: str) -> str:
    """The summary with evidence citations blanked out, so that offsets stay right."""
    return CITATION.sub(lambda match: " " * len(match[0]), summary)
