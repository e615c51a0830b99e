"""Measures of agreement between a score or a flag and what people labelled, of summaries of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from evaluation.stats import is_degenerate, wilson_interval

Array = NDArray[np.float64]
STRATA = 5  # quintiles of the word count


def interval_of(resampled: Sequence[float], value: float, groups: int | None) -> tuple[float, float]:
    """Return the 95% percentile interval of a metric.

    If all resamples of a metric from 0 to 1 are equal, it is Wilson's with n the number of groups that the metric rests
    on; `groups` is None for other metrics.
    """
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    if groups is None or not is_degenerate((low, high)):
        return float(low), float(high)
    return wilson_interval(value * groups, groups)


def groups_of(name: str, label: Array, flag: Array, group: NDArray[Any]) -> int | None:
    """Return the number of groups that a metric rests on: of two classes, that of the rarer one; None for a rho."""
    if name.startswith("spearman"):
        return None
    classes = {"sensitivity": [label], "specificity": [1 - label]}.get(name, [label, 1 - label])
    rests_on = [flag] if name.startswith("precision") else classes
    return min(len(np.unique(group[each > 0])) for each in rests_on)


def auroc(score: Array, label: Array) -> float:
    """Return the probability that a hallucinated summary outranks a factual one; ties count half."""
    concordant, pairs = concordance(score, label)
    return concordant / pairs if pairs else float("nan")


def concordance(score: Array, label: Array) -> tuple[float, int]:
    """Return (concordant pairs, pairs) of a hallucinated and a factual summary: the Mann-Whitney U."""
    positives = int(label.sum())
    pairs = positives * (len(label) - positives)
    return float(rankdata(score)[label == 1].sum()) - positives * (positives + 1) / 2, pairs


def stratified_auroc(score: Array, label: Array, words: Array) -> float:
    """Return the AUROC over pairs of similar length: pairs within a quintile of the word count, pooled."""
    edges = np.quantile(words, np.linspace(0, 1, STRATA + 1)[1:-1])
    stratum = np.searchsorted(edges, words, side="left")
    counts = [concordance(score[stratum == s], label[stratum == s]) for s in range(STRATA)]
    pairs = sum(count for _, count in counts)
    return sum(concordant for concordant, _ in counts) / pairs if pairs else float("nan")


def share(true: Array, of: Array) -> float:
    """Return the sum of `true` divided by the sum of `of`; NaN if that is zero."""
    return float(true.sum() / of.sum()) if of.sum() else float("nan")


def balanced_accuracy(predicted: Array, label: Array) -> float:
    """Return the mean of sensitivity and specificity."""
    return (share(predicted * label, label) + share((1 - predicted) * (1 - label), 1 - label)) / 2


def spearman(score: Array, imprecision: Array) -> float:
    """Return the rank correlation over summaries with a known precision; NaN if one side is constant."""
    known = ~np.isnan(imprecision)
    sides = score[known], imprecision[known]
    return float(spearmanr(*sides).statistic) if all(len(np.unique(side)) > 1 for side in sides) else float("nan")
