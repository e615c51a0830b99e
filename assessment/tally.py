"""Count rated summaries. A summary counts once, however many assessors rated it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assessment.ratings import HALLUCINATED, Rating
from evaluation.stats import Interval, ratio_interval

Ratings = Mapping[str, Sequence[Rating]]  # text_sha256 -> given ratings of all assessors


@dataclass(frozen=True)
class Tally:
    """Counts of summaries, and the completeness of those for which it was asked."""

    rated: int
    hallucinated: int
    disputed: int  # several assessors rated them and disagree
    draws: int  # of the disputed, with as many assessors on one side as on the other
    adjudicated: int  # of the disputed, settled by a person who saw the ratings of the others
    major: int  # hallucinated, with at least one major error
    with_omission: int
    by_kind: Counter[str]
    completeness: tuple[float, ...] = ()

    @property
    def decided(self) -> int:
        """Summaries with a verdict: all rated ones but the draws."""
        return self.rated - self.draws


def given_ratings(ratings: Iterable[Rating]) -> dict[str, list[Rating]]:
    """Group the ratings that have a verdict by the text that was rated."""
    by_text: dict[str, list[Rating]] = {}
    for rating in ratings:
        if rating.is_given:
            by_text.setdefault(rating.text_sha256, []).append(rating)
    return by_text


def verdict_of(group: Sequence[Rating]) -> bool | None:
    """Return whether a summary counts as hallucinated: what the adjudication says, else most assessors; None: a draw.

    Of several adjudications, the last one counts.
    """
    settled = [rating for rating in group if rating.adjudication]
    if settled:
        return max(settled, key=lambda rating: rating.rated_at).verdict == HALLUCINATED
    balance = 2 * len(_against(group)) - len(group)
    return None if balance == 0 else balance > 0


def _against(group: Sequence[Rating]) -> list[Rating]:
    return [rating for rating in group if rating.verdict == HALLUCINATED]


def has_major_error(group: Sequence[Rating]) -> bool:
    """Return whether the summary counts as hallucinated and any assessor found a major error."""
    errors = (error for rating in _against(group) for error in rating.errors)
    return verdict_of(group) is True and any(error.severity == "major" for error in errors)


def independent(group: Sequence[Rating]) -> list[Rating]:
    """Return the ratings that were given without a sight of the others."""
    return [rating for rating in group if not rating.adjudication]


def draws(ratings: Iterable[Rating]) -> set[str]:
    """Return the texts on which as many independent assessors say yes as no, settled or not."""
    given = given_ratings(rating for rating in ratings if not rating.adjudication)
    return {text for text, group in given.items() if verdict_of(group) is None}


def completeness_of(group: Sequence[Rating]) -> float | None:
    """Return the mean completeness of a summary over the assessors who rated it, or None if nobody did."""
    levels = [rating.completeness for rating in group if rating.completeness is not None]
    return sum(levels) / len(levels) if levels else None


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95% bootstrap interval of a mean over summaries; None if all are equal, which shows no spread."""
    return ratio_interval(values, [1.0] * len(values)) if len(set(values)) > 1 else None


def tally(groups: Iterable[Sequence[Rating]]) -> Tally:
    """Count summaries; each group holds all ratings of one summary.

    Kinds and severities of errors count only in summaries that count as hallucinated.
    """
    groups = [group for group in groups if group]
    verdicts = [verdict_of(group) for group in groups]
    hallucinated = [_against(group) for group, verdict in zip(groups, verdicts, strict=True) if verdict]
    kinds = [{error.kind for rating in against for error in rating.errors} for against in hallucinated]
    levels = map(completeness_of, groups)
    return Tally(
        rated=len(groups),
        hallucinated=len(hallucinated),
        disputed=sum(0 < len(_against(group)) < len(group) for group in map(independent, groups)),
        draws=verdicts.count(None),
        adjudicated=sum(any(rating.adjudication for rating in group) for group in groups),
        major=sum(map(has_major_error, groups)),
        with_omission=sum(any(rating.omissions for rating in group) for group in groups),
        by_kind=Counter(kind for found in kinds for kind in found),
        completeness=tuple(level for level in levels if level is not None),
    )
