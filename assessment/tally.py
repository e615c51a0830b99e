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
    major: int  # hallucinated, with at least one major error
    with_omission: int
    by_kind: Counter[str]
    completeness: tuple[float, ...] = ()


def given_ratings(ratings: Iterable[Rating]) -> dict[str, list[Rating]]:
    """Group the ratings that have a verdict by the text that was rated."""
    by_text: dict[str, list[Rating]] = {}
    for rating in ratings:
        if rating.is_given:
            by_text.setdefault(rating.text_sha256, []).append(rating)
    return by_text


def is_hallucinated(group: Sequence[Rating]) -> bool:
    """Return the verdict of the majority of assessors. A draw counts as hallucinated."""
    return 2 * len(_against(group)) >= len(group)


def _against(group: Sequence[Rating]) -> list[Rating]:
    return [rating for rating in group if rating.verdict == HALLUCINATED]


def has_major_error(group: Sequence[Rating]) -> bool:
    """Return whether the summary counts as hallucinated and any assessor found a major error."""
    errors = (error for rating in _against(group) for error in rating.errors)
    return is_hallucinated(group) and any(error.severity == "major" for error in errors)


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
    hallucinated = [_against(group) for group in groups if is_hallucinated(group)]
    kinds = [{error.kind for rating in against for error in rating.errors} for against in hallucinated]
    levels = map(completeness_of, groups)
    return Tally(
        rated=len(groups),
        hallucinated=len(hallucinated),
        disputed=sum(0 < len(_against(group)) < len(group) for group in groups),
        major=sum(map(has_major_error, groups)),
        with_omission=sum(any(rating.omissions for rating in group) for group in groups),
        by_kind=Counter(kind for found in kinds for kind in found),
        completeness=tuple(level for level in levels if level is not None),
    )
