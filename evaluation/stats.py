"""Intervals and tests for rates of summaries and of claims.

Summaries are the independent unit. A rate of summaries has a Wilson interval; a rate of claims, which come several to
a summary, has a bootstrap interval over summaries. All resampling is seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

RESAMPLES = 10_000
# indices drawn at once: 10,000 resamples of 10,000 summaries would be 800 MB
_CHUNK_INDICES = 5_000_000
Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution
_FEWEST_NOTES = 6

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


def paired_share_interval(only_first: int, only_second: int, n: int) -> Interval:
    """95% interval of the difference of two shares of the same n notes, second minus first (Bonett and Price 2012).

    Wald's interval with one note added to each of the two discordant cells, which keeps its level in small samples.
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    difference = second - first
    half = Z95 * math.sqrt((first + second - difference**2) / (n + 2))
    return max(-1.0, difference - half), min(1.0, difference + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): each below alpha holds, whichever of the others is true."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


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
    columns = np.column_stack([np.asarray(numerators, float), np.asarray(denominators, float)])
    if ratio(numerators, denominators) is None:
        return None
    return percentile_interval(_ratios(resampled_sums(columns, seed, resamples)))


def share_interval(numerators: Sequence[float], denominators: Sequence[float], seed: int = 42) -> Interval | None:
    """As `ratio_interval`, for a ratio between 0 and 1.

    At 0 and 1 every resample is the same and the bootstrap would call the share certain. There it is Wilson's interval
    with the summaries as n: as wide as if all that a summary says were right or wrong together.
    """
    share = ratio(numerators, denominators)
    if share not in (0.0, 1.0):
        return ratio_interval(numerators, denominators, seed)
    summaries = sum(denominator > 0 for denominator in denominators)
    return wilson_interval(summaries if share else 0, summaries)


@dataclass(frozen=True)
class Difference:
    """Second minus first over n notes, with its 95% interval.

    It `holds` where the interval leaves out zero and there are six notes or more: five that all go the same way do so
    by chance in 2 * 0.5**5 = 6% of cases, and a bootstrap of them does not see that.
    """

    first: float
    second: float
    difference: float
    interval: Interval
    n: int

    @property
    def holds(self) -> bool:
        return self.n >= _FEWEST_NOTES and (self.interval[0] > 0 or self.interval[1] < 0)


def paired_difference(
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """Difference of two ratios of sums over the same notes, resampling notes; None where a ratio is undefined.

    `first` and `second` are (numerators, denominators), one entry a note, in the same order.
    """
    before, after = ratio(*first), ratio(*second)
    if before is None or after is None:
        return None
    columns = np.column_stack([np.asarray(column, float) for column in (*first, *second)])
    resampled = resampled_sums(columns, seed, resamples)
    differences = _ratios(resampled[:, 2:]) - _ratios(resampled[:, :2])
    return Difference(before, after, after - before, percentile_interval(differences), len(columns))


def resampled_sums(columns: NDArray[np.float64], seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """(resamples, k) sums of the k columns of (n, k), each over n rows drawn with replacement."""
    n = len(columns)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_INDICES // n)
    parts = []
    for done in range(0, resamples, chunk):
        indices = rng.integers(0, n, (min(chunk, resamples - done), n))
        parts.append(np.column_stack([column[indices].sum(axis=1) for column in np.ascontiguousarray(columns.T)]))
    return np.concatenate(parts)


def _ratios(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """First column over second; a resample without a single claim has no rate and is left out of the percentiles."""
    top, bottom = sums.T
    return np.divide(top, bottom, out=np.full(len(sums), np.nan), where=bottom > 0)


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """The middle 95% of resampled values."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
