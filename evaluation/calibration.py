"""Compare the confidence that citations state with the share that is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.stats import percentile_interval, resampled_sums, wilson_interval
from fact_checking.citations import Citation

BINS = 10  # of equal width
FEWEST_FOR_ECE = 30  # citations; with fewer, empty and tiny bins make most of the error
FEWEST_IN_BIN = 10


def calibration(summaries: Sequence[Sequence[Citation]], seed: int = 42) -> dict[str, Any] | None:
    """How far the stated confidences are from the share of citations that are right; None where none is stated.

    Over the citations with a confidence and a verdict: `brier`, the mean of (confidence - right)², and from 30 of them
    on `ece`, the expected calibration error (Guo et al. 2017): |mean confidence - share right| in each of ten bins of
    equal width, weighted by their citations. Chance alone makes it larger than 0, the more so the fewer there are.
    Intervals resample summaries. `bins` lists those with 10 citations or more.
    """
    pairs = [
        (number, citation.confidence, float(citation.supported))
        for number, found in enumerate(summaries)
        for citation in found
        if citation.confidence is not None and citation.supported is not None
    ]
    if not pairs:
        return None
    summary, confidence, right = (np.array(column) for column in zip(*pairs, strict=True))
    squared = (confidence - right) ** 2
    bins = np.minimum((confidence * BINS + 1e-9).astype(int), BINS - 1)  # 1.0 is in the last one
    # for each summary and bin the sum of confidence - right; its absolute value over all summaries is the bin's error
    excess = np.zeros((len(summaries), BINS))
    np.add.at(excess, (summary, bins), confidence - right)
    sums = [
        np.bincount(summary, weights=weights, minlength=len(summaries)) for weights in (squared, np.ones(len(pairs)))
    ]
    resampled = resampled_sums(np.column_stack([excess, *sums]), seed)
    resampled = resampled[resampled[:, -1] > 0]
    enough = len(pairs) >= FEWEST_FOR_ECE
    return {
        "n": len(pairs),
        "brier": float(squared.mean()),
        "brier_ci95": percentile_interval(resampled[:, BINS] / resampled[:, -1]),
        "ece": float(np.abs(excess.sum(axis=0)).sum() / len(pairs)) if enough else None,
        "ece_ci95": percentile_interval(np.abs(resampled[:, :BINS]).sum(axis=1) / resampled[:, -1]) if enough else None,
        "bins": [
            _bin(number, confidence[bins == number], right[bins == number])
            for number in range(BINS)
            if (bins == number).sum() >= FEWEST_IN_BIN
        ],
    }


def _bin(number: int, confidence: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "low": number / BINS,
        "high": (number + 1) / BINS,
        "n": len(right),
        "mean_confidence": float(confidence.mean()),
        "share_supported": float(right.mean()),
        "ci95": wilson_interval(int(right.sum()), len(right)),
    }
