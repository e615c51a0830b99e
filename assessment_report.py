"""The ratings of a manual assessment: what one is, and what many of them come to."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evaluation.stats import wilson_interval

THRESHOLD = 0.15  # share of hallucinated summaries above which Stage B is worth its effort
MOST_FURTHER_RATINGS = 10_000  # beyond this nobody goes on rating; the report says "more than"

FACTUAL, HALLUCINATED, SKIPPED = "factual", "hallucinated", "skipped"
ERROR_TYPES = {
    "dose": "wrong strength, amount or unit of a drug",
    "drug": "wrong drug, or one the note does not name",
    "frequency": "wrong number of times a day, or route",
    "negation": "a denied finding stated as present, or the other way round",
    "laterality": "left for right, or the wrong site",
    "number": "wrong vital sign, lab value, age or count",
    "time": "wrong date, duration or follow-up",
    "condition": "wrong diagnosis, symptom or procedure",
    "attribution": "another person's or past history given as the patient's present one",
    "certainty": "a suspicion stated as a fact, or the other way round",
    "fabrication": "a statement for which the note has nothing at all",
    "other": "anything else; say what in the comment",
}


@dataclass(frozen=True)
class Rating:
    """What one assessor said of one summary. `verdict` is None where there is only a comment so far."""

    assessor: str
    example_id: str
    text_sha256: str
    verdict: str | None = None
    error_types: list[str] = field(default_factory=list)
    comment: str = ""
    blind: bool = False
    seconds: float = 0.0  # from the summary's display to the verdict
    rated_at: str = ""  # UTC, ISO 8601


@dataclass(frozen=True)
class Tally:
    """Summaries, each counted once however many assessors rated it."""

    rated: int
    hallucinated: int
    disputed: int  # rated by several assessors who do not agree
    by_type: Counter[str]


def tally(ratings: Iterable[Rating]) -> Tally:
    """Counts summaries: the majority of their assessors decides, and a draw counts as hallucinated."""
    by_example: dict[str, list[Rating]] = {}
    for rating in ratings:
        if rating.verdict in (FACTUAL, HALLUCINATED):
            by_example.setdefault(rating.example_id, []).append(rating)
    against = {key: [r for r in group if r.verdict == HALLUCINATED] for key, group in by_example.items()}
    hallucinated = [key for key, group in by_example.items() if 2 * len(against[key]) >= len(group)]
    disputed = sum(0 < len(against[key]) < len(group) for key, group in by_example.items())
    types = Counter(name for key in hallucinated for name in {n for r in against[key] for n in r.error_types})
    return Tally(len(by_example), len(hallucinated), disputed, types)


def decision(hallucinated: int, rated: int) -> str:
    """The sentence on which Stage B hangs."""
    if rated == 0:
        return "undecided: nothing is rated yet"
    low, high = wilson_interval(hallucinated, rated)
    if low > THRESHOLD:
        return f"over {THRESHOLD:.0%}: go on to Stage B"
    if high < THRESHOLD:
        return f"under {THRESHOLD:.0%}: ready"
    more = further_ratings(hallucinated, rated)
    number = f"about {more}" if more is not None else f"more than {MOST_FURTHER_RATINGS:,}"
    return (
        f"undecided: the interval holds {THRESHOLD:.0%}; {number} more ratings would likely decide it "
        f"(4 chances in 5, if the true rate is the {hallucinated / rated:.1%} seen so far)"
    )


def further_ratings(hallucinated: int, rated: int) -> int | None:
    """About how many further ratings it takes until the interval likely leaves the threshold out; None for too many.

    Further ratings are taken to come at the rate seen so far, at the 80% bound of their spread that is the less
    favourable: 0.8416 standard deviations of a binomial count towards the threshold.
    """
    rate = hallucinated / rated

    def is_decided(more: int) -> bool:
        spread = 0.8416 * math.sqrt(more * rate * (1 - rate))
        if rate < THRESHOLD:
            count = min(more, math.ceil(more * rate + spread))
            return wilson_interval(hallucinated + count, rated + more)[1] < THRESHOLD
        count = max(0, math.floor(more * rate - spread))
        return wilson_interval(hallucinated + count, rated + more)[0] > THRESHOLD

    # Whole counts make the answer jump to and fro by a few ratings; bisection finds one of the turning points.
    more = 1 + bisect_left(range(1, MOST_FURTHER_RATINGS + 1), True, key=is_decided)
    return more if more <= MOST_FURTHER_RATINGS else None


def report(ratings: Iterable[Rating]) -> str:
    """The text of `assessment_report.txt`."""
    ratings = list(ratings)
    total = tally(ratings)
    lines = ["Manual assessment of summaries", ""]
    lines += [f"Summaries rated:        {total.rated}", f"Hallucinated:           {total.hallucinated}"]
    if total.rated:
        low, high = wilson_interval(total.hallucinated, total.rated)
        lines.append(f"Hallucination rate:     {total.hallucinated / total.rated:.1%}")
        lines.append(f"95% Wilson interval:    {low:.1%} to {high:.1%}")
    lines.append(f"Decision:               {decision(total.hallucinated, total.rated)}")
    if total.disputed:
        lines.append(f"Assessors disagree on:  {total.disputed} (the majority counts; a draw counts as hallucinated)")
    if total.by_type:
        lines += ["", "Hallucinated summaries by type of error (one summary may have several):"]
        lines += [f"  {name:<13}{total.by_type[name]:>5}" for name in ERROR_TYPES if total.by_type[name]]
    lines += ["", "By assessor:", *assessor_lines(ratings)]
    return "\n".join(lines) + "\n"


def assessor_lines(ratings: Sequence[Rating]) -> list[str]:
    """One line an assessor: what they rated, found and skipped."""
    lines = []
    for assessor in sorted({rating.assessor for rating in ratings}):
        verdicts = Counter(rating.verdict for rating in ratings if rating.assessor == assessor)
        rated = verdicts[FACTUAL] + verdicts[HALLUCINATED]
        share = f" ({verdicts[HALLUCINATED] / rated:.1%})" if rated else ""
        counts = f"{rated} rated, {verdicts[HALLUCINATED]} hallucinated{share}, {verdicts[SKIPPED]} skipped"
        lines.append(f"  {assessor}: {counts}")
    return lines or ["  nobody yet"]
