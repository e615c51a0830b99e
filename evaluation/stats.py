"""Intervals and tests for rates of summaries and of claims.

Summaries are the independent unit. A rate of summaries has a Wilson interval; a rate of claims, which come several to
a summary, has a bootstrap interval over summaries. All resampling is seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

RESAMPLES = 10_000
# indices drawn at once: 10,000 resamples of 10,000 summaries would be 800 MB
_CHUNK_INDICES = 5_000_000

Interval = tuple[float, float]


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) where nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test on the discordant pairs; 1 where there are none."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def p_text(p: float) -> str:
    """`p = 0.0312`, or `p < 0.0001`: no p-value is zero."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> float | None:
    """Sum over sum; None where the denominators sum to zero."""
    total = float(np.sum(denominators))
    return float(np.sum(numerators)) / total if total else None


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 42, resamples: int = RESAMPLES
) -> Interval | None:
    """95% percentile interval of a ratio of sums, resampling summaries; None where the ratio is undefined."""
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if ratio(top, bottom) is None:
        return None
    return _percentiles(_resampled_ratios([(top, bottom)], seed, resamples)[0])


@dataclass(frozen=True)
class Difference:
    """Second minus first, with its 95% interval. It `holds` where the interval leaves out zero."""

    first: float
    second: float
    difference: float
    interval: Interval

    @property
    def holds(self) -> bool:
        return self.interval[0] > 0 or self.interval[1] < 0


def paired_difference(
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """Difference of two ratios of sums over the same notes, resampling notes; None where a ratio is undefined.

    `first` and `second` are (numerators, denominators), one entry a note, in the same order.
    """
    sides = [(np.asarray(top, float), np.asarray(bottom, float)) for top, bottom in (first, second)]
    before, after = (ratio(*side) for side in sides)
    if before is None or after is None:
        return None
    resampled = _resampled_ratios(sides, seed, resamples)
    return Difference(before, after, after - before, _percentiles(resampled[1] - resampled[0]))


def _resampled_ratios(
    sides: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], seed: int, resamples: int
) -> list[NDArray[np.float64]]:
    """For each side its ratio in every resample; all sides see the same resampled notes."""
    n = len(sides[0][0])
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_INDICES // n)
    parts: list[list[NDArray[np.float64]]] = [[] for _ in sides]
    for done in range(0, resamples, chunk):
        indices = rng.integers(0, n, (min(chunk, resamples - done), n))
        for part, (top, bottom) in zip(parts, sides, strict=True):
            totals = bottom[indices].sum(axis=1)
            # a resample without a single claim has no rate and is left out of the percentiles
            part.append(np.divide(top[indices].sum(axis=1), totals, out=np.full(len(totals), np.nan), where=totals > 0))
    return [np.concatenate(part) for part in parts]


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
