"""Compare the confidence that citations state with the share of citations that are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.stats import percentile_interval, resampled_sums, wilson_interval
from fact_checking.citations import Citation

BINS = 10  # of equal width
MIN_CITATIONS = 30  # for the calibration error; with fewer, small bins make most of it
MIN_IN_BIN = 10


def calibration(summaries: Sequence[Sequence[Citation]], seed: int = 42) -> dict[str, Any] | None:
    """Return how well the confidences of citations match their verdicts, or None if no citation has both.

    `brier` is the mean of (confidence - right)². `ece`, given from 30 citations on, is the expected calibration error
    (Guo et al. 2017): |mean confidence - share right| in each of ten bins of equal width, weighted by the citations in
    the bin. By chance alone it is above 0, and more so with few citations. Intervals resample summaries. `bins` lists
    the bins with at least 10 citations.
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
    # the sum of confidence - right per summary and bin; the absolute value of a column's sum is the error of the bin
    excess = np.zeros((len(summaries), BINS))
    np.add.at(excess, (summary, bins), confidence - right)
    sums = [
        np.bincount(summary, weights=weights, minlength=len(summaries)) for weights in (squared, np.ones(len(pairs)))
    ]
    resampled = resampled_sums(np.column_stack([excess, *sums]), seed)
    resampled = resampled[resampled[:, -1] > 0]
    enough = len(pairs) >= MIN_CITATIONS
    return {
        "n": len(pairs),
        "brier": float(squared.mean()),
        "brier_ci95": percentile_interval(resampled[:, BINS] / resampled[:, -1]),
        "ece": float(np.abs(excess.sum(axis=0)).sum() / len(pairs)) if enough else None,
        "ece_ci95": percentile_interval(np.abs(resampled[:, :BINS]).sum(axis=1) / resampled[:, -1]) if enough else None,
        "bins": [
            _bin(number, confidence[bins == number], right[bins == number])
            for number in range(BINS)
            if (bins == number).sum() >= MIN_IN_BIN
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
