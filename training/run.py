"""The state of a training run: what the loops of both stages work on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

# On a CPU oneDNN keeps what it compiled for the last 1,024 shapes of bfloat16 products, which with rows of all lengths
# is hundreds of MB; 64 are more than one row needs. It reads this at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from peft import PeftModel

    from scoring.completion_scorer import CompletionScorer
    from training.batch_plan import BatchPlan


@dataclass
class TrainingState:
    """Where a run stands. `epoch_sums` are weighted sums of the epoch's metrics so far, `epoch_weight` their weight."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best_val_loss: float | None = None
    evaluations_without_improvement: int = 0
    best_checkpoint: str | None = None
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_weight: float = 0.0
    epochs: list[dict[str, float]] = field(default_factory=list)

    def add(self, sums: Mapping[str, float], weight: float) -> None:
        for name, value in sums.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value
        self.epoch_weight += weight

    def close_epoch(self) -> dict[str, float]:
        """The epoch's weighted means; the sums start anew."""
        means = {name: value / self.epoch_weight for name, value in self.epoch_sums.items()}
        self.epoch_sums, self.epoch_weight = {}, 0.0
        return means


@dataclass
class TrainingRun:
    """What a stage's loop works on. `save_model(folder)` writes the model as people load it."""

    args: argparse.Namespace
    folder: Path
    accelerator: Accelerator
    model: torch.nn.Module  # the scorer as accelerate prepared it: called for every forward pass
    scorer: CompletionScorer  # the same without accelerate's wrapper
    optimizer: torch.optim.Optimizer
    plan: BatchPlan
    save_model: Callable[[Path], None]
    state: TrainingState = field(default_factory=TrainingState)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def policy(self) -> PeftModel:
        return self.scorer.policy

    @property
    def final_model(self) -> Path:
        return self.folder / "final_model"

    def seed_dropout(self) -> None:
        """Ties the step's dropout to the seed and the step, so that resuming changes nothing."""
        import torch

        torch.manual_seed((self.args.seed * 1_000_003 + self.state.step) * self.plan.world + self.plan.rank)

    def sum_over_processes(self, value: float) -> float:
        import torch

        total: float = self.accelerator.reduce(torch.tensor(value, device=self.device), "sum").item()
        return total

    @property
    def eval_batch_size(self) -> int:
        size: int = self.args.eval_batch_size or self.args.batch_size
        return size
