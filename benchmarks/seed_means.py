"""Means over training runs that differ in their seed, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student_t

COVERS = "[95% t interval over the seeds, on the same test notes: what other seeds would give on them, not other notes]"
MODELS = {"sft": "Stage A", "dpo": "Stage B", "control": "control"}


@dataclass(frozen=True)
class Mean:
    """A mean over n seeds with its 95% t interval, which is None for one seed.

    All seeds have the same test notes, so the interval says what other seeds would give on these notes. It does not
    cover the choice of the notes.
    """

    mean: float
    ci95: tuple[float, float] | None
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        mean, n = math.fsum(values) / len(values), len(values)
        if n == 1:
            return cls(mean, None, list(values))
        half = float(student_t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
        return cls(mean, (mean - half, mean + half), list(values))

    def as_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "ci95": self.ci95, "n": len(self.values), "values": self.values}

    def text(self, form: str = ".1%") -> str:
        """Return mean and interval, such as `4.2% [3.1%, 5.3%]`."""
        interval = "" if self.ci95 is None else f" [{self.ci95[0]:{form}}, {self.ci95[1]:{form}}]"
        return f"{self.mean:{form}}{interval}"


def as_json(content: Any) -> Any:
    """Replace the means in nested dictionaries by what JSON can hold."""
    if isinstance(content, Mean):
        return content.as_dict()
    return {key: as_json(value) for key, value in content.items()} if isinstance(content, dict) else content
