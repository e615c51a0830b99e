"""Decide whether Stage B was successful: far fewer hallucinations, and not because the summaries say less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TOLERANCE = 1e-9  # rounding error of a difference of two floats


@dataclass(frozen=True)
class Bounds:
    """Bounds of the figures after Stage B, compared with the figures after Stage A. All are shares."""

    reduction: float = 0.7  # smallest relative fall of the hallucination rate
    rate: float = 0.05  # largest hallucination rate
    coverage_loss: float = 0.005  # largest fall of the coverage
    length_change: float = 0.15  # largest relative change of the mean words, up or down


# For a short run on few examples: Stage B has an effect, and summaries do not say much less.
SMALL_BOUNDS = Bounds(reduction=0.3, rate=1.0, coverage_loss=0.05, length_change=0.3)


@dataclass(frozen=True)
class Check:
    """One figure and its bounds. An unknown figure (None) does not pass."""

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    is_share: bool = True  # printed in percent

    @property
    def passed(self) -> bool:
        if self.value is None:
            return False
        return (
            (self.at_least is None or self.value >= self.at_least - _TOLERANCE)
            and (self.at_most is None or self.value <= self.at_most + _TOLERANCE)
            and (self.below is None or self.value < self.below)
        )

    @property
    def bound(self) -> dict[str, float]:
        bounds = {"at_least": self.at_least, "at_most": self.at_most, "below": self.below}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "bound": self.bound, "passed": self.passed}

    def __str__(self) -> str:
        """Return `coverage 31.2%, at least 97.3% asked`."""
        asked = " and ".join(f"{name.replace('_', ' ')} {self._text(bound)}" for name, bound in self.bound.items())
        return f"{self.name} {self._text(self.value)}, {asked} asked"

    def _text(self, value: float | None) -> str:
        if value is None:
            return "unknown"
        return f"{value:.1%}" if self.is_share else f"{value:.1f}"


def acceptance(before: Mapping[str, Any], after: Mapping[str, Any], bounds: Bounds) -> list[Check]:
    """Return the checks of an `evaluation_summary.json` after Stage B, given the one `before` it."""
    rate, words = before["hallucination_rate"], before["mean_summary_words"]
    lowest, highest = words * (1 - bounds.length_change), words * (1 + bounds.length_change)
    asked = None if before["coverage"] is None else before["coverage"] - bounds.coverage_loss
    return [
        Check("reduction of the hallucination rate", reduction(rate, after["hallucination_rate"]), bounds.reduction),
        Check("hallucination rate", after["hallucination_rate"], at_most=bounds.rate),
        Check("coverage", after["coverage"], asked),
        Check("mean words", after["mean_summary_words"], lowest, highest, is_share=False),
    ]


def reduction(before: float, after: float) -> float | None:
    """Return the relative fall of a rate, or None if a rate of 0 has risen."""
    if before:
        return 1 - after / before
    return None if after else 1.0


def is_accepted(checks: Iterable[Check]) -> bool:
    return all(check.passed for check in checks)


def verdict(checks: Sequence[Check]) -> str:
    """Return `yes`, or `no:` with every figure that is out of bounds."""
    return "yes" if is_accepted(checks) else "no: " + "; ".join(str(check) for check in checks if not check.passed)
