"""Whether Stage B has done what it is for: far fewer hallucinations, and not by saying less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ROUNDING = 1e-9  # of a difference of two floats


@dataclass(frozen=True)
class Bounds:
    """What is asked of the figures after Stage B, beside those after Stage A; all are shares."""

    reduction: float = 0.7  # of the hallucination rate, at least
    rate: float = 0.05  # hallucination rate, at most
    coverage_loss: float = 0.005  # at most
    length_change: float = 0.15  # of the mean words, either way, at most


# Of a run on little data with few steps: that Stage B does something, and does not do it by saying less.
SMALL_BOUNDS = Bounds(reduction=0.3, rate=1.0, coverage_loss=0.05, length_change=0.3)


@dataclass(frozen=True)
class Check:
    """One figure against its bounds; a figure that nobody knows does not pass."""

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
            (self.at_least is None or self.value >= self.at_least - _ROUNDING)
            and (self.at_most is None or self.value <= self.at_most + _ROUNDING)
            and (self.below is None or self.value < self.below)
        )

    @property
    def bound(self) -> dict[str, float]:
        bounds = {"at_least": self.at_least, "at_most": self.at_most, "below": self.below}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "bound": self.bound, "passed": self.passed}

    def __str__(self) -> str:
        """`coverage 31.2%, at least 97.3% asked`."""
        asked = " and ".join(f"{name.replace('_', ' ')} {self._text(bound)}" for name, bound in self.bound.items())
        return f"{self.name} {self._text(self.value)}, {asked} asked"

    def _text(self, value: float | None) -> str:
        if value is None:
            return "unknown"
        return f"{value:.1%}" if self.is_share else f"{value:.1f}"


def acceptance(before: Mapping[str, Any], after: Mapping[str, Any], bounds: Bounds) -> list[Check]:
    """The checks of the figures after Stage B against those after Stage A, as `evaluation_summary.json` has them."""
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
    """The share of a rate that is gone; None where there was nothing to lose and something has come."""
    if before:
        return 1 - after / before
    return None if after else 1.0


def is_accepted(checks: Iterable[Check]) -> bool:
    return all(check.passed for check in checks)


def verdict(checks: Sequence[Check]) -> str:
    """`yes`, or `no:` and every figure that is out of its bounds."""
    return "yes" if is_accepted(checks) else "no: " + "; ".join(str(check) for check in checks if not check.passed)
