"""Means of metrics over the pairs of a step or of an evaluation, over all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from scoring.padded_logps import sum_dtype
from training.run import TrainingRun


class MetricTotals:
    """Sums of the metrics `names` over pairs. They stay on the device until `means`, so adding never waits for it."""

    def __init__(self, run: TrainingRun, names: Sequence[str]) -> None:
        self.run = run
        self.names = names
        self._sums = torch.zeros(len(names) + 1, dtype=sum_dtype(run.device), device=run.device)

    def add(self, metrics: Mapping[str, torch.Tensor]) -> None:
        """Add the metrics of B pairs, each (B,)."""
        values = torch.stack([metrics[name].detach().to(self._sums) for name in self.names])  # (names, B)
        self._sums[:-1] += values.sum(dim=1)
        self._sums[-1] += values.shape[1]

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over the pairs of all processes."""
        *sums, pairs = self.run.accelerator.reduce(self._sums, "sum").tolist()
        return {name: total / pairs for name, total in zip(self.names, sums, strict=True)}
