"""Prepare the part of a page that says how far to trust its rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.judge_accuracy import ELSEWHERE, UNKNOWN, Accuracy, JudgeAccuracy
from evaluation.stats import Interval

Rate = tuple[float, Interval, float]  # hallucination rate, its 95% interval, number of independent summaries


def trust(
    judge: str, accuracy: JudgeAccuracy | None, rates: Mapping[str, Rate], lexicons: Any = None
) -> dict[str, Any]:
    """Return what the page says of the judge, and each model's rate as reported and corrected for the judge's errors.

    `rates` is {model: its rate}. Without a known accuracy, or where it corrects nothing, `problem` says why.
    """
    shown: dict[str, Any] = {"judge": judge, "known": accuracy is not None, "problem": UNKNOWN, "rates": []}
    if accuracy is None:
        return shown
    corrected = {} if accuracy.problem else {name: accuracy.corrected(rate, n) for name, (rate, _, n) in rates.items()}
    unexplained = ELSEWHERE if None in corrected.values() else ""
    return {
        **shown,
        "problem": accuracy.problem or unexplained,
        "data": accuracy.data,
        "n": accuracy.n,
        "hallucinated": accuracy.hallucinated,
        "is_optimistic": accuracy.is_optimistic,
        "lexicons": bool(lexicons),
        "sensitivity": _measured(accuracy.sensitivity),
        "specificity": _measured(accuracy.specificity),
        "rates": [
            {"name": name, "raw": _rate(*rates[name][:2]), "corrected": _rate(*found) if found else "not known"}
            for name, found in corrected.items()
        ],
    }


def _measured(accuracy: Accuracy) -> str:
    low, high = accuracy.interval
    return f"{accuracy.share:.1%} (95% interval {low:.1%} to {high:.1%}, n={accuracy.n})"


def _rate(share: float, interval: Interval) -> str:
    return f"{share:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
