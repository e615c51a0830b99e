"""Count rated summaries. A summary counts once, however many assessors rated it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assessment.ratings import HALLUCINATED, Rating
from evaluation.stats import Interval, by_note, is_degenerate, ratio_interval

Ratings = Mapping[str, Sequence[Rating]]  # text_sha256 -> given ratings of all assessors


@dataclass(frozen=True)
class Tally:
    """Counts of summaries, and the completeness of those for which it was asked."""

    rated: int
    hallucinated: int
    disputed: int  # several assessors rated them and disagree
    draws: int  # of the disputed, with as many assessors on one side as on the other
    adjudicated: int  # of the disputed, settled by a person who saw the ratings of the others
    major: int  # hallucinated, with a major error
    severity_unknown: int  # hallucinated, but nobody has said how severe its errors are
    with_omission: int
    by_kind: Counter[str]
    completeness: tuple[float, ...] = ()

    @property
    def decided(self) -> int:
        """Summaries with a verdict: all rated ones but the draws."""
        return self.rated - self.draws


def counted(ratings: Iterable[Rating], *, mixed: bool) -> list[Rating]:
    """Return the ratings that count: of the mixed summaries of several models the blind ones, else all."""
    return [rating for rating in ratings if rating.blind or not mixed]


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
    decided = _deciding(group)
    balance = 2 * len(_against(decided)) - len(decided)
    return None if balance == 0 else balance > 0


def _deciding(group: Sequence[Rating]) -> Sequence[Rating]:
    """Return the last adjudication alone, or without one all ratings."""
    settled = [rating for rating in group if rating.adjudication]
    return [max(settled, key=lambda rating: rating.rated_at)] if settled else group


def _against(group: Sequence[Rating]) -> list[Rating]:
    return [rating for rating in group if rating.verdict == HALLUCINATED]


def has_major_error(group: Sequence[Rating]) -> bool | None:
    """Return whether the summary counts as hallucinated and has a major error, or None if the severity is not known.

    More than half of the assessors must call an error major, of those who decide the verdict, found errors and said how
    severe they are.
    """
    if not verdict_of(group):
        return False
    known = [major for major in map(_is_major, _against(_deciding(group))) if major is not None]
    return 2 * sum(known) > len(known) if known else None


def _is_major(rating: Rating) -> bool | None:
    """Return whether an assessor found a major error; None if an error without a severity may be one."""
    severities = [error.severity for error in rating.errors]
    return True if "major" in severities else None if not severities or "" in severities else False


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


def mean_interval(values: Sequence[float], notes: Sequence[str]) -> Interval | None:
    """Return the 95% bootstrap interval of a mean over summaries, given the note of each; it resamples notes.

    None if no resample differs, which shows no spread.
    """
    sums, counts = by_note(notes, values, [1.0] * len(values))
    interval = ratio_interval(sums, counts)
    return None if interval is None or len(set(values)) == 1 or is_degenerate(interval) else interval


def tally(groups: Iterable[Sequence[Rating]]) -> Tally:
    """Count summaries; each group holds all ratings of one summary.

    Kinds and severities of errors count only in summaries that count as hallucinated.
    """
    groups = [group for group in groups if group]
    major = [has_major_error(group) for group in groups]
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
        major=major.count(True),
        severity_unknown=major.count(None),
        with_omission=sum(any(rating.omissions for rating in group) for group in groups),
        by_kind=Counter(kind for found in kinds for kind in found),
        completeness=tuple(level for level in levels if level is not None),
    )
