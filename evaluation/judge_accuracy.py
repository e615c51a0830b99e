"""Read how often a judge is right, and correct the rate that it reports for its errors.

In: the figures that benchmarks/fact_checker_agreement.py writes: `judge`, `labels` (the file of labelled summaries),
    `n`, `hallucinated`, `rules_written_on_these_rows`, and under `figures` sensitivity and specificity with intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.stats import Z95, Interval, corrected_share
from script_io.errors import InputError
from script_io.files import read_json

MEASURED = Path(__file__).resolve().parents[1] / "benchmarks" / "fact_checker_agreement.json"
REMEDY = "make it with python benchmarks/fact_checker_agreement.py --labels FILE --output_dir FOLDER"
UNKNOWN = "No file says how often this judge is right"
NO_BETTER = "On that data its sensitivity and specificity sum to no more than 1, so it is no better than chance"
ELSEWHERE = (
    "Its errors on that data do not explain the share that it flags here, so its accuracy there does not hold here"
)


@dataclass(frozen=True)
class Accuracy:
    """A share of right verdicts, its 95% interval, and the number of labelled summaries that it was measured on."""

    share: float
    interval: Interval
    n: int

    @property
    def independent(self) -> tuple[float, float]:
        """Return the share, and the number of independent summaries that would give an interval of this width.

        Summaries of one note depend on each other, so their interval is wider than their number says.
        """
        width, spread = self.interval[1] - self.interval[0], self.share * (1 - self.share)
        if not width:
            return self.share, self.n
        if not spread:  # at 0 or 1 Wilson's interval has the width z² / (n + z²)
            return self.share, min(self.n, Z95**2 / width - Z95**2)
        return self.share, min(self.n, spread / (width / (2 * Z95)) ** 2)


@dataclass(frozen=True)
class JudgeAccuracy:
    """How often a judge is right on labelled summaries. `is_optimistic`: its rules were written on these rows."""

    judge: str
    data: str
    n: int
    hallucinated: int
    sensitivity: Accuracy
    specificity: Accuracy
    is_optimistic: bool

    def corrected(self, rate: float, n: float) -> tuple[float, Interval] | None:
        """Return (corrected rate, 95% interval) for the rate of n summaries, or None if it cannot be told."""
        return corrected_share(rate, n, self.sensitivity.independent, self.specificity.independent)

    @property
    def problem(self) -> str:
        """Return why these figures correct no rate, or an empty text."""
        return NO_BETTER if self.sensitivity.share + self.specificity.share <= 1 else ""


def add_accuracy_argument(group: argparse._ArgumentGroup) -> None:
    """Add the flag that names the file with the judge's accuracy."""
    group.add_argument(
        "--judge_accuracy",
        type=Path,
        metavar="FILE",
        help="JSON of the judge's sensitivity and specificity, for the page's corrected rate (default: "
        "benchmarks/fact_checker_agreement.json, which is about the judge facts)",
    )


def read_judge_accuracy(path: Path | None, judge: str) -> JudgeAccuracy | None:
    """Return the accuracy of a judge from a file, or from the one of this suite, or None if it is about another judge.

    Raises InputError if a named file is missing or holds something else.
    """
    if path is None and not MEASURED.exists():
        return None
    path = path or MEASURED
    content = read_json(path, REMEDY)
    try:
        return _accuracy_of(content) if content["judge"] == judge else None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not the figures of a judge's accuracy ({type(error).__name__}: {error}); {REMEDY}"
        ) from error


def _accuracy_of(content: Mapping[str, Any]) -> JudgeAccuracy:
    n, hallucinated = int(content["n"]), int(content["hallucinated"])
    return JudgeAccuracy(
        content["judge"],
        str(content["labels"]),
        n,
        hallucinated,
        _share(content["figures"]["sensitivity"], hallucinated),
        _share(content["figures"]["specificity"], n - hallucinated),
        bool(content["rules_written_on_these_rows"]),
    )


def _share(figure: Mapping[str, Any], n: int) -> Accuracy:
    low, high = figure["ci95"]
    return Accuracy(float(figure["value"]), (float(low), float(high)), n)
