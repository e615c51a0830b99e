"""Define the claims of a summary, their verdicts, the check of a whole summary, and the pattern of citations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SUPPORTED, CONTRADICTED, UNSUPPORTED, UNVERIFIABLE = "supported", "contradicted", "unsupported", "unverifiable"
ERROR, REVIEW = "error", "review"
# A citation with the white space before it. It may hold sentence numbers and a confidence; any other text in the
# brackets is checked like the rest of the summary. `(?<!\s)` starts at the first of several blanks only, so that a long
# run of blanks takes linear time.
CITATION = re.compile(
    r"(?<!\s)\s*\[Evidence:[S\d,;:.\t –-]*(?:Conf(?:idence)?[\d:.,%\t ]*)?(?:\]|(?:Co?n?)?$)|(?<!\s)\s*\[Evidence:",
    re.IGNORECASE,
)
# Weights of the score: a word that the note lacks is weaker evidence than an error, and an open claim is weaker still.
# Other weights in this order agree with experts about as well (benchmarks/RESULTS.md).
_ERROR_WEIGHT, _WORD_WEIGHT, _OPEN_WEIGHT = 1.0, 0.5, 0.25


@dataclass(frozen=True)
class Contrast:
    """What the summary and the note say about one subject; the words of the note are `note[start:end]`."""

    subject: str  # "azithromycin", or "" if the value belongs to nothing that has a name
    summary: str  # "every 12 hours"
    note: str  # "every morning"
    start: int
    end: int

    def __str__(self) -> str:
        """Return for example `azithromycin: summary every 12 hours; note every morning`."""
        return f"{self.subject}: ".removeprefix(": ") + f"summary {self.summary}; note {self.note}"


@dataclass(frozen=True)
class Claim:
    """One statement of the summary, `summary[start:end]`, with its verdict."""

    type: str
    text: str
    start: int
    end: int
    verdict: str  # supported | contradicted | unsupported | unverifiable
    level: str  # error | review
    evidence: str | None  # sentence of the note that decided the verdict, or the nearest one if the note has none
    evidence_start: int | None
    contrast: Contrast | None = None  # of a contradicted claim, if the judge knows the words of the note

    @property
    def is_wrong(self) -> bool:
        """Return whether the claim is contradicted or unsupported."""
        return self.verdict in (CONTRADICTED, UNSUPPORTED)


@dataclass(frozen=True)
class SentenceDoubt:
    """A sentence `summary[start:end]`, and the probability that it states something unsupported."""

    start: int
    end: int
    doubt: float  # 0 to 1


@dataclass(frozen=True)
class FactCheck:
    """All claims of a summary, in the order of the text.

    `graded_score` is the score of a judge that grades claims instead of sorting them. `grades` are the judge's grades
    of the whole summary, by the item of its rubric. `probability` is a learnt judge's probability that at least one
    statement is unsupported. `flagged` is the decision of a judge that weighs all evidence instead of counting errors.
    `sentences` are the doubts of a judge that grades each sentence.
    """

    claims: tuple[Claim, ...]
    graded_score: float | None = None
    grades: Mapping[str, int] | None = None
    probability: float | None = None
    flagged: bool | None = None
    sentences: tuple[SentenceDoubt, ...] | None = None

    @property
    def errors(self) -> tuple[Claim, ...]:
        """Return the claims of level error that are contradicted or unsupported."""
        return tuple(claim for claim in self.claims if claim.level == ERROR and claim.is_wrong)

    @property
    def has_hallucination(self) -> bool:
        """Return whether the summary counts as hallucinated: `flagged`, or else whether it has an error."""
        return bool(self.errors) if self.flagged is None else self.flagged

    @property
    def score(self) -> float:
        """Return the judge's grade, or the sum of 1 per error, 1/2 per wrong claim for review and 1/4 per open claim.

        Higher is worse; 0 means that everything is supported.
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
    """Return the summary with spaces in place of its citations, so that all offsets stay valid."""
    return CITATION.sub(lambda match: " " * len(match[0]), summary)
