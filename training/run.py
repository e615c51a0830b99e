"""The state of a training run and its arithmetic over processes: what the loops of both stages work on."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# On a CPU, oneDNN keeps the kernels of the last 1,024 shapes of bfloat16 products. With rows of all lengths these take
# hundreds of MB, and 64 are more than one row needs. It reads the variable at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from peft import PeftModel

    from scoring.completion_scorer import CompletionScorer
    from training.batch_plan import BatchPlan

Row = TypeVar("Row")


@dataclass
class TrainingState:
    """The position of a run, as a checkpoint stores it.

    `seconds` is the time of the training steps alone. `epoch_sums` are weighted sums of the metrics of the current
    epoch and `epoch_weight` is the sum of the weights.
    """

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best_val_loss: float | None = None
    evaluations_without_improvement: int = 0
    best_checkpoint: str | None = None
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_weight: float = 0.0
    epochs: list[dict[str, float | None]] = field(default_factory=list)

    def add(self, means: Mapping[str, float], weight: float) -> None:
        """Add the metrics of one step, each a mean over `weight` pairs or tokens."""
        for name, value in means.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value * weight
        self.epoch_weight += weight

    def close_epoch(self) -> dict[str, float]:
        """Return the weighted means of the epoch and reset the sums; NaN as `loss` if every step was skipped."""
        means = {name: value / self.epoch_weight for name, value in self.epoch_sums.items()}
        self.epoch_sums, self.epoch_weight = {}, 0.0
        return means or {"loss": math.nan}

    def record_val_loss(self, val_loss: float) -> bool:
        """Record a validation loss; return whether it is the best so far. A loss that is not finite never is."""
        best = math.inf if self.best_val_loss is None else self.best_val_loss
        if val_loss < best:
            self.best_val_loss, self.evaluations_without_improvement = val_loss, 0
            return True
        self.evaluations_without_improvement += 1
        return False


# how a run was started, which says nothing about its result
_OF_THE_START = ("resume", "overwrite_output_dir")


def stored_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings as result files hold them, the same for a resumed run and for an uninterrupted one."""
    return {name: value for name, value in vars(args).items() if name not in _OF_THE_START}


@dataclass
class TrainingRun:
    """Everything that a training loop works on. `save_model(folder)` writes the policy as users load it."""

    args: argparse.Namespace
    folder: Path
    accelerator: Accelerator
    model: torch.nn.Module  # the scorer as accelerate prepared it: called for every forward pass with gradients
    scorer: CompletionScorer  # the same scorer without accelerate's wrapper
    optimizer: torch.optim.Optimizer
    grad_scaler: torch.amp.GradScaler  # enabled in float16 only
    plan: BatchPlan
    save_model: Callable[[Path], None]
    state: TrainingState = field(default_factory=TrainingState)
    reference_keys: dict[str, str] = field(default_factory=dict)  # of the reference cache, by split; Stage B alone

    @property
    def is_sharded(self) -> bool:
        """Return whether the frozen base is split over the processes (sharding.py)."""
        return bool(self.args.shard_base)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def policy(self) -> PeftModel:
        return self.scorer.policy

    @property
    def final_model(self) -> Path:
        return self.folder / "final_model"

    @property
    def eval_batch_size(self) -> int:
        size: int = self.args.eval_batch_size or self.args.batch_size
        return size

    @property
    def epoch(self) -> float:
        """Epochs that are done, with the fraction of the current one."""
        return self.state.step / self.plan.steps_per_epoch

    def seed_dropout(self) -> None:
        """Seed the dropout of a step from the run's seed and the step, so that a resumed run draws the same masks."""
        import torch

        torch.manual_seed((self.args.seed * 1_000_003 + self.state.step) * self.plan.num_processes + self.plan.rank)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block the model is in evaluation mode and computes no gradients."""
        import torch

        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train()

    def rows(self, dataset: Any) -> Iterator[tuple[list[int], AbstractContextManager[Any]]]:
        """Yield the rows of this process for the current step, each with the context of its forward and backward pass.

        Processes exchange gradients once per step, with the last row: DistributedDataParallel decides in the forward
        pass whether the backward pass waits for the other processes, and they may have more rows or fewer.
        """
        rows = self.plan.rows(self.state.step, dataset.tokens)
        self._idle(self._missing_rows(len(rows)), dataset)
        for number, row in enumerate(rows, start=1):
            is_last = number == len(rows) or self.is_sharded
            yield row, nullcontext() if is_last else self.accelerator.no_sync(self.model)

    def evaluation_rows(self, dataset: Any) -> Iterator[list[int]]:
        """Yield the rows of this process for an evaluation: every example of the dataset once over all processes."""
        yield from self.with_pace(
            self.plan.evaluation_rows(len(dataset), self.eval_batch_size, dataset.tokens), dataset
        )

    def with_pace(self, rows: Sequence[Row], dataset: Any) -> Iterator[Row]:
        """Yield `rows`, and make the forward passes that this process has fewer than others if the base is split."""
        missing = self._missing_rows(len(rows))  # before the first pass, which is a joint act of all processes as well
        yield from rows
        self._idle(missing, dataset)

    def _missing_rows(self, rows: int) -> int:
        """Return how many rows this process has fewer than another; 0 unless the base is split."""
        import torch

        if not self.is_sharded:
            return 0
        return int(self.accelerator.gather(torch.tensor([rows], device=self.device)).max()) - rows

    def _idle(self, passes: int, dataset: Any) -> None:
        """Score an example for nothing; with gradients, add zeros to them."""
        for _ in range(passes):
            nothing = self.scorer([dataset.encoded(0)])[0].sum() * 0
            if nothing.requires_grad:
                nothing.backward()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, this process's share of the step's loss (a scalar)."""
        # accelerate averages gradients over the processes, and the loss is already divided by what all of them see
        self.accelerator.backward(self.grad_scaler.scale(loss * self.plan.num_processes))

    def clip_gradients(self) -> float:
        """Clip the gradient to `--max_grad_norm` (0: no clipping) and return its norm before."""
        from training.sharding import average_gradients

        trainable = [p for p in self.policy.parameters() if p.requires_grad]
        if self.is_sharded:
            average_gradients(trainable, self.accelerator)
        self.grad_scaler.unscale_(self.optimizer)
        norm: float = self.accelerator.clip_grad_norm_(trainable, self.args.max_grad_norm or math.inf).item()
        return norm

    def sum_over_processes(self, values: Sequence[float]) -> list[float]:
        """Return the sum of each value over all processes."""
        import torch

        from scoring.padded_logps import sum_dtype

        local = torch.tensor(list(values), dtype=sum_dtype(self.device), device=self.device)
        total: list[float] = self.accelerator.reduce(local, "sum").tolist()
        return total
