"""Compute intervals and tests for rates of summaries and of claims.

Notes are the independent unit, which have one summary each as a rule. A rate of summaries then has a Wilson interval. A
rate of claims has a bootstrap interval over summaries, because one summary has several claims. All resampling is
seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_CHUNK_INDICES = 5_000_000  # drawn at once; all indices of 10,000 resamples of 10,000 summaries would take 800 MB
Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution
_MIN_NOTES = 6

Interval = tuple[float, float]


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927), or (0, 1) if `n` is 0.

    `successes` and `n` may be fractions: a share times a number of independent notes, and that number.
    """
    if n == 0:
        return 0.0, 1.0
    # not from scipy.stats, whose import would hold up the rating tool's first figures for a second
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, whole = successes / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / whole
    half = z / whole * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half


def wilson_interval_by_note(hits: Sequence[float], summaries: Sequence[float]) -> Interval:
    """Return the 95% interval of a share of summaries, given the hits and the summaries of each note.

    This is Wilson's interval with n the effective number of summaries: the number that would have this variance if all
    were independent. The variance is that of a ratio over independent notes, and n is made smaller by the quantile of
    t, because few notes tell their variance badly (Korn and Graubard 1998; Dean and Pagano 2015). For 20 notes it keeps
    its level better than a bootstrap. n is never over the number of summaries. It is the number of notes where the
    notes show no variance, as at exactly 0 or 1.
    """
    from scipy.special import stdtrit

    k, m = np.asarray(hits, float), np.asarray(summaries, float)
    notes, n = len(k), float(m.sum())
    if notes == n:
        return wilson_interval(float(k.sum()), notes)
    share = float(k.sum()) / n
    variance = float(np.square(k - share * m).sum()) / n**2 * notes / max(1, notes - 1)
    if is_degenerate((0.0, variance)):
        effective = float(notes)
    else:
        effective = min(n, share * (1 - share) / variance * (Z95 / float(stdtrit(notes - 1, 0.975))) ** 2)
    return wilson_interval(share * effective, effective)


def corrected_share(
    share: float, n: float, sensitivity: tuple[float, float], specificity: tuple[float, float]
) -> tuple[float, Interval] | None:
    """Return (true share, 95% interval) for the share of n that an imperfect judge flags, or None if it cannot be told.

    `sensitivity` and `specificity` are (share, the number of independent cases it was measured on). The estimate is
    (share + specificity - 1) / (sensitivity + specificity - 1) (Rogan and Gladen 1978), cut to 0 to 1. The interval
    counts the errors of all three shares (Lang and Reiczigel 2014). It cannot be told if the judge is no better than
    chance, or if the whole interval lies outside 0 to 1, because then the judge errs otherwise than where it was
    measured.
    """
    (sens, sens_n), (spec, spec_n) = sensitivity, specificity
    if sens + spec <= 1:
        return None
    flagged = (n * share + Z95**2 / 2) / (n + Z95**2)
    sens_mid, spec_mid = (sens_n * sens + 1) / (sens_n + 2), (spec_n * spec + 1) / (spec_n + 2)
    youden = sens_mid + spec_mid - 1
    if youden <= 0:
        return None
    mid = (flagged + spec_mid - 1) / youden
    sens_variance = sens_mid * (1 - sens_mid) / (sens_n + 2)
    spec_variance = spec_mid * (1 - spec_mid) / (spec_n + 2)
    shift = 2 * Z95**2 * (mid * sens_variance - (1 - mid) * spec_variance)
    variance = flagged * (1 - flagged) / (n + Z95**2) + mid**2 * sens_variance + (1 - mid) ** 2 * spec_variance
    half = Z95 / youden * math.sqrt(variance)
    low, high = mid + shift - half, mid + shift + half
    if high < 0 or low > 1:
        return None
    return _cut((share + spec - 1) / (sens + spec - 1)), (_cut(low), _cut(high))


def _cut(share: float) -> float:
    return min(1.0, max(0.0, share))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact two-sided McNemar test on the discordant pairs; 1 without any."""
    discordant = only_first + only_second
    return float(_binomial_test(only_first, discordant).pvalue) if discordant else 1.0


def _binomial_test(successes: int, n: int) -> Any:
    """Test a count against a share of one half."""
    from scipy.stats import binomtest  # imported here because it would take most of the time of `--help`

    return binomtest(successes, n, 0.5)


def sign_flip_p(differences: Sequence[int]) -> float:
    """Return the exact two-sided p-value of the sign-flip test of a sum of independent differences; 1 if all are 0.

    Each difference belongs to one note: the wrong summaries of one model less the other's, over all seeds. If
    both models are alike, each has either sign with probability 1/2, whatever its size (Fisher's randomisation test).
    The distribution of the sum is computed whole, one note after another. With differences of -1 and 1 alone, this is
    the exact McNemar test.
    """
    sizes = [abs(difference) for difference in differences if difference]
    probability = np.ones(1)  # of each sum, from the lowest to the highest
    for size in sizes:
        wider = np.zeros(len(probability) + 2 * size)
        wider[: len(probability)] += probability / 2
        wider[2 * size :] += probability / 2
        probability = wider
    sums = np.arange(len(probability)) - sum(sizes)
    return min(1.0, float(probability[np.abs(sums) >= abs(sum(differences))].sum()))


def paired_share_interval(only_first: float, only_second: float, n: int) -> Interval:
    """Return the 95% interval of the difference of two shares of the same n notes, second minus first.

    This is Wald's interval with one note added to each of the two discordant cells, which keeps the level in small
    samples (Bonett and Price 2012). The notes in these cells may be fractions: a share times `n`.
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    difference = second - first
    half = Z95 * math.sqrt((first + second - difference**2) / (n + 2))
    return max(-1.0, difference - half), min(1.0, difference + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple tests (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def p_text(p: float) -> str:
    """Return `p = 0.0312`, or `p < 0.0001` for a smaller one."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def by_note(notes: Sequence[str], *columns: Sequence[float]) -> list[list[float]]:
    """Return each column with the sum over the summaries of each note, in the order of the notes."""
    place = {note: number for number, note in enumerate(dict.fromkeys(notes))}
    sums = [[0.0] * len(place) for _ in columns]
    for total, column in zip(sums, columns, strict=True):
        for note, value in zip(notes, column, strict=True):
            total[place[note]] += value
    return sums


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> float | None:
    """Return the ratio of the sums, or None if the denominators sum to zero."""
    total = float(np.sum(denominators))
    return float(np.sum(numerators)) / total if total else None


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 42, resamples: int = RESAMPLES
) -> Interval | None:
    """Return the 95% percentile interval of a ratio of sums over resampled summaries, or None without a ratio."""
    columns = np.column_stack([np.asarray(numerators, float), np.asarray(denominators, float)])
    if ratio(numerators, denominators) is None:
        return None
    return percentile_interval(_ratios(resampled_sums(columns, seed, resamples)))


def share_interval(numerators: Sequence[float], denominators: Sequence[float], seed: int = 42) -> Interval | None:
    """Return the 95% interval of a ratio between 0 and 1; see `ratio_interval`.

    Where all resamples are equal, as at exactly 0 or 1, a bootstrap interval would have no width. There it is Wilson's
    interval with n the number of summaries, as if all claims of a summary were right or wrong together.
    """
    share = ratio(numerators, denominators)
    interval = ratio_interval(numerators, denominators, seed)
    if share is None or interval is None or not is_degenerate(interval):
        return interval
    summaries = independent_units(denominators)
    return wilson_interval(min(share, 1.0) * summaries, summaries)


def is_degenerate(interval: Interval) -> bool:
    """Return whether an interval has no width, because all resamples are equal."""
    return math.isclose(*interval, abs_tol=1e-12)


def independent_units(denominators: Sequence[float]) -> int:
    """Return how many summaries, or notes, count in a ratio."""
    return sum(denominator > 0 for denominator in denominators)


@dataclass(frozen=True)
class Difference:
    """The difference second minus first over n notes, with its 95% interval.

    It `holds` if the interval excludes zero and there are at least six notes. Five notes that all change in one
    direction do so by chance in 2 * 0.5**5 = 6% of cases, which a bootstrap cannot show.
    """

    first: float
    second: float
    difference: float
    interval: Interval
    n: int

    @property
    def holds(self) -> bool:
        return self.n >= _MIN_NOTES and (self.interval[0] > 0 or self.interval[1] < 0)


def paired_difference(
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    seed: int = 42,
    resamples: int = RESAMPLES,
    *,
    of_shares: bool = False,
) -> Difference | None:
    """Return the difference of two ratios of sums over the same notes, or None if a ratio is undefined.

    `first` and `second` are (numerators, denominators) with one entry per note, in the same order. The interval
    resamples notes. With `of_shares`, where all resamples are equal, as with both ratios at 0 or 1 or with the same
    shares in every note, it is the interval of Bonett and Price, as if all claims of a note were right or wrong
    together and as few notes as possible had changed.
    """
    before, after = ratio(*first), ratio(*second)
    if before is None or after is None:
        return None
    columns = np.column_stack([np.asarray(column, float) for column in (*first, *second)])
    resampled = resampled_sums(columns, seed, resamples)
    differences = _ratios(resampled[:, 2:]) - _ratios(resampled[:, :2])
    interval, difference = percentile_interval(differences), after - before
    if of_shares and is_degenerate(interval):
        n = min(independent_units(first[1]), independent_units(second[1]))
        interval = paired_share_interval(n * max(0.0, -difference), n * max(0.0, difference), n)
    return Difference(before, after, difference, interval, len(columns))


def resampled_sums(columns: NDArray[np.float64], seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Return (resamples, k) sums of the k columns of (n, k), each over n rows drawn with replacement."""
    n = len(columns)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_INDICES // n)
    parts = []
    for done in range(0, resamples, chunk):
        indices = rng.integers(0, n, (min(chunk, resamples - done), n))
        parts.append(np.column_stack([column[indices].sum(axis=1) for column in np.ascontiguousarray(columns.T)]))
    return np.concatenate(parts)


def _ratios(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first column over the second; NaN, which the percentiles skip, for a resample without claims."""
    top, bottom = sums.T
    return np.divide(top, bottom, out=np.full(len(sums), np.nan), where=bottom > 0)


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Return the 2.5% and 97.5% percentiles of resampled values."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
