"""Compute the figures of a blind reading: each model, each pair of models, the readers, and the automatic judge.

Arrays of one model have the shape (S, N): S seeds, N dialogues. NaN marks a missing rating. Every seed has the same
dialogues, so a resample draws dialogues once for all seeds, and seeds as well (Owen 2007, "The pigeonhole bootstrap").
With one seed this is the ordinary bootstrap over dialogues. A few seeds say little about other seeds, whatever the
interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessment.agreement import Agreement
from benchmarks.reading_ratings import MEASURES, STATEMENTS, Reader
from benchmarks.reading_sample import Sample
from evaluation.stats import (
    RESAMPLES,
    Interval,
    paired_share_interval,
    percentile_interval,
    ratio,
    share_interval,
    sign_flip_p,
    wilson_interval,
)

SHARES = ("hallucinated", "major")  # measures of 0 and 1; a mean of readers lies between
LENGTHS = ("words", "new_words")  # counted, not rated
COLUMNS = (*MEASURES, *LENGTHS)
DENSITY = "statements_per_100_new_words"  # unsupported ones: the rate that saying less does not lower
ALL_MODELS = "all models"
Array = NDArray[np.float64]
Values = Mapping[str, Array]  # column -> value of each text, (T,)
Figures = dict[str, Any]


def reading_figures(sample: Sample, readers: Sequence[Reader], seed: int) -> Figures:
    """Return the figures by each reader, by the mean of several readers, and the agreement of the readers."""
    words = {"words": sample.words, "new_words": sample.new_words}
    sets = {reader.name: {**reader.values, **words} for reader in readers}
    by_reader = {name: _figures(sample, values, seed) for name, values in sets.items()}
    mean = None
    if len(readers) > 1:
        mean = _figures(sample, {**_mean_of(readers), **words}, seed)
    known = sample.reference_words[~np.isnan(sample.reference_words)]
    return {
        "mean_of_readers": mean,
        "by_reader": by_reader,
        "agreement": [agreement_figures(*pair) for pair in combinations(readers, 2)],
        "mean_reference_words": float(known.mean()) if len(known) else None,
    }


def _mean_of(readers: Sequence[Reader]) -> dict[str, Array]:
    """Return the mean of the readers for each text, over the readers who rated it."""
    means = {}
    for name in (*MEASURES, STATEMENTS):
        stacked = np.stack([reader.values[name] for reader in readers])
        means[name] = _ratios(np.nansum(stacked, axis=0), (~np.isnan(stacked)).sum(axis=0))
    return means


def _figures(sample: Sample, values: Values, seed: int) -> Figures:
    columns = {
        model: {name: values[name][sample.index[number]] for name in (*COLUMNS, STATEMENTS)}
        for number, model in enumerate(sample.models)
    }
    return {
        "models": {model: model_figures(found, seed) for model, found in columns.items()},
        "differences": [
            {"first": first, "second": second, **difference_figures(columns[first], columns[second], seed)}
            for first, second in combinations(sample.models, 2)
        ],
        "automatic_judge": judge_figures(sample, values["hallucinated"], seed),
    }


# ---------------------------------------------------------------------------------------------- one model


def model_figures(columns: Values, seed: int) -> Figures:
    """Return mean, n and 95% interval of each column of one model. The columns have the shape (S, N)."""
    rated = _rated(columns)
    known = {name: np.where(rated, columns[name], np.nan) if name in LENGTHS else columns[name] for name in COLUMNS}
    found = {name: mean_figure(known[name], name, seed) for name in COLUMNS}
    return found | {DENSITY: density_figure(columns, seed)}


def density_figure(columns: Values, seed: int) -> Figures:
    """Return the unsupported statements per 100 new words of one model, with n and its bootstrap interval."""
    value, resampled, n = _densities(columns, _rated(columns), seed)
    return {"mean": value, "n": n, "ci95": _spread(resampled)}


def _densities(columns: Values, known: NDArray[np.bool_], seed: int) -> tuple[float | None, Array, int]:
    """Return the unsupported statements per 100 new words of the `known` (S, N) texts, of each resample, (R,), and n.

    Without a value where a reader called a text hallucinated and marked nothing in it, which would count as 0.
    """
    if np.isnan(columns[STATEMENTS][known]).any():
        known = np.zeros_like(known)
    statements, words = (np.where(known, columns[name], 0.0) for name in (STATEMENTS, "new_words"))
    resampled = 100 * _resampled_ratios(statements, words, seed)
    return ratio(100 * statements.ravel(), words.ravel()), resampled, int(known.sum())


def _spread(resampled: Array) -> Interval | None:
    """Return the interval of resampled values, or None if they show no spread."""
    known = resampled[~np.isnan(resampled)]
    return percentile_interval(known) if len(known) and np.ptp(known) > 0 else None


def _rated(columns: Values) -> NDArray[np.bool_]:
    return ~np.isnan(columns["hallucinated"])


def mean_figure(values: Array, name: str, seed: int) -> Figures:
    """Return mean, n, 95% interval and the mean of each seed of one column, (S, N).

    The interval is Wilson's for a share of zeros and ones of one seed, and the bootstrap's otherwise. At a share of
    exactly 0 or 1 the bootstrap has no width; there it is Wilson's with n the number of dialogues. For other columns
    without spread it is None.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return {"mean": None, "n": 0, "ci95": None, "by_seed": [None] * len(values)}
    by_seed = [float(np.nanmean(row)) if not np.isnan(row).all() else None for row in values]
    return {"mean": float(known.mean()), "n": len(known), "ci95": _interval(values, name, seed), "by_seed": by_seed}


def _interval(values: Array, name: str, seed: int) -> Interval | None:
    known = values[~np.isnan(values)]
    if name in SHARES:
        whole = bool(np.isin(known, (0.0, 1.0)).all())
        if whole and (len(values) == 1 or known.min() == known.max()):
            dialogues = int((~np.isnan(values)).any(axis=0).sum())
            return wilson_interval(round(known.mean() * dialogues), dialogues)
    return crossed_interval(values, seed)


# ------------------------------------------------------------------------------------------------ bootstrap


def crossed_interval(values: Array, seed: int, resamples: int = RESAMPLES) -> Interval | None:
    """Return the 95% percentile interval of the mean of (S, N) values, or None if all are equal.

    A resample draws seeds and dialogues with replacement, from those that have a value. Missing values (NaN) have no
    weight.
    """
    known = ~np.isnan(values)
    if not known.all():
        values = values[np.ix_(known.any(axis=1), known.any(axis=0))]
        known = ~np.isnan(values)
    if np.ptp(values[known]) == 0:
        return None
    return percentile_interval(_resampled_ratios(np.where(known, values, 0.0), known.astype(float), seed, resamples))


def _resampled_ratios(numerators: Array, denominators: Array, seed: int, resamples: int = RESAMPLES) -> Array:
    """Return the ratio of the sums of two (S, N) arrays in each resample of seeds and dialogues, (R,)."""
    seeds, dialogues = _draws(*numerators.shape, seed, resamples)
    return _ratios(*(((seeds @ values) * dialogues).sum(axis=1) for values in (numerators, denominators)))


@lru_cache(maxsize=4)
def _draws(seeds: int, dialogues: int, seed: int, resamples: int) -> tuple[Array, Array]:
    """Return how often each resample draws each seed, (R, S), and each dialogue, (R, N)."""
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float) for n in (seeds, dialogues)]
    return drawn[0], drawn[1]


def _ratios(sums: Array, counts: NDArray[Any]) -> Array:
    """Return the quotients; NaN where a count is zero."""
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


# ---------------------------------------------------------------------------------------------- two models


def difference_figures(first: Values, second: Values, seed: int) -> Figures:
    """Return the paired differences second minus first, and an exact test where both readings are 0 or 1.

    A pair is two summaries of one dialogue and seed that both have the rating.
    """
    pairs = {name: (first[name], second[name]) for name in COLUMNS}
    unrated = np.isnan(first["hallucinated"]) | np.isnan(second["hallucinated"])
    for name in LENGTHS:
        pairs[name] = (np.where(unrated, np.nan, first[name]), second[name])
    found: Figures = {name: _difference(*pair, name, seed) for name, pair in pairs.items()}
    for name in SHARES:
        found[name] |= sign_flip_figures(*pairs[name])
    return found | {DENSITY: _density_difference(first, second, seed)}


def _density_difference(first: Values, second: Values, seed: int) -> Figures:
    """Return the difference of the unsupported statements per 100 new words; both are resampled together."""
    known = _rated(first) & _rated(second)
    (before, resampled_before, n), (after, resampled_after, _) = (_densities(x, known, seed) for x in (first, second))
    if before is None or after is None:
        return {"difference": None, "n": 0, "ci95": None}
    return {"difference": after - before, "n": n, "ci95": _spread(resampled_after - resampled_before)}


def _difference(first: Array, second: Array, name: str, seed: int) -> Figures:
    """Return the mean difference with its bootstrap interval.

    If all pairs differ alike, the bootstrap has no width: a share then has the interval of Bonett and Price, with n the
    number of dialogues, and other columns have none.
    """
    differences = second - first
    known = differences[~np.isnan(differences)]
    if not len(known):
        return {"difference": None, "n": 0, "ci95": None}
    mean, interval = float(known.mean()), crossed_interval(differences, seed)
    if interval is None and name in SHARES and mean in (-1, 0, 1):
        n = int((~np.isnan(differences)).any(axis=0).sum())
        interval = paired_share_interval(n * (mean == -1), n * (mean == 1), n)
    return {"difference": mean, "n": len(known), "ci95": interval}


def sign_flip_figures(first: Array, second: Array) -> Figures:
    """Return the discordant pairs and the exact p-value over all seeds and for each; nothing for means of readers.

    Of one seed it is the McNemar test. Over several seeds the pairs of a dialogue are alike, so the test flips the
    signs of whole dialogues. It says whether these training runs differ, not whether other seeds would.
    """
    if not np.isin([*first[~np.isnan(first)], *second[~np.isnan(second)]], (0.0, 1.0)).all():
        return {}
    total = _discordant(first, second)
    if len(first) == 1:
        return total
    return {**total, "by_seed": [_discordant(one[None], other[None]) for one, other in zip(first, second, strict=True)]}


def _discordant(first: Array, second: Array) -> Figures:
    only_first, only_second = (
        ((one == 1) & (other == 0)).sum(axis=0) for one, other in ((first, second), (second, first))
    )
    p = sign_flip_p((only_second - only_first).tolist())
    return {"only_first": int(only_first.sum()), "only_second": int(only_second.sum()), "p": p}


# --------------------------------------------------------------------------------- the judge and the readers


def judge_figures(sample: Sample, hallucinated: Array, seed: int) -> Figures:
    """Return how well the automatic judge finds what the readers call hallucinated, for each model and for all.

    `hallucinated` holds the readers' label of each text, (T,); the mean of several readers counts as a weight.
    Intervals resample dialogues.
    """
    labels = hallucinated[sample.index]
    rows = {model: (labels[m : m + 1], sample.flagged[m : m + 1]) for m, model in enumerate(sample.models)}
    if len(rows) > 1:
        rows[ALL_MODELS] = (labels, sample.flagged)
    return {name: _judge(*row, seed) for name, row in rows.items()}


def _judge(labels: Array, flagged: Array, seed: int) -> Figures:
    """Return the judge's figures over arrays of shape (M, S, N)."""
    known = ~(np.isnan(labels) | np.isnan(flagged))
    wrong, alarm = np.where(known, labels, 0.0), np.where(known, flagged, 0.0)
    right, silent = np.where(known, 1 - labels, 0.0), np.where(known, 1 - flagged, 0.0)
    return {
        "n": int(known.sum()),
        "flagged": ratio(alarm, known),
        "sensitivity": _by_dialogue(alarm * wrong, wrong, seed),
        "specificity": _by_dialogue(silent * right, right, seed),
    }


def _by_dialogue(found: Array, of: Array, seed: int) -> Figures:
    """Return a ratio of sums with its interval over dialogues, the last axis."""
    sums, counts = (array.sum(axis=(0, 1)).tolist() for array in (found, of))
    return {"share": ratio(sums, counts), "n": float(sum(counts)), "ci95": share_interval(sums, counts, seed)}


def agreement_figures(first: Reader, second: Reader) -> Figures:
    """Return the agreement of two readers over the texts that both rated; kappa is Cohen's."""
    found: Figures = {"readers": [first.name, second.name]}
    for name in MEASURES:
        one, other = first.values[name], second.values[name]
        both = ~(np.isnan(one) | np.isnan(other))
        agreed = int((one == other)[both].sum())
        found[name] = {"n": int(both.sum()), "agreed": agreed, "share": ratio([agreed], [both.sum()])}
        if name in SHARES:
            table = Agreement.of((bool(a), bool(b)) for a, b in zip(one[both], other[both], strict=True))
            found[name] |= {"kappa": table.kappa, "kappa_ci95": table.kappa_interval}
    return found
