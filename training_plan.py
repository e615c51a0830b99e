"""The settings that both stages share, and which examples and which learning rate each optimiser step gets."""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from length_limits import OVERFLOWS
from packed_rows import pack
from prompt_format import PROMPT_FORMATS
from script_io import InputError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

# Tokens of a row on a CPU, which is no faster with longer ones and keeps the activations of a row in memory
CPU_ROW_TOKENS = 640
SCHEDULES = ("cosine", "linear", "constant")
TRACKERS = ("none", "tensorboard", "wandb", "trackio")


def add_training_arguments(
    parser: argparse.ArgumentParser, *, output_dir: str, learning_rate: float, batch_size: int, batch_unit: str
) -> None:
    """Adds the flags that both stages share, with the stage's own defaults."""
    data = parser.add_argument_group("Length")
    data.add_argument(
        "--max_length", type=int, default=512, help="tokens of prompt + completion (default: %(default)s)"
    )
    data.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default="drop",
        help="for longer examples; drop: leave them out, counted; shorten_note: cut the note's middle (default: drop)",
    )
    data.add_argument("--prompt_format", choices=PROMPT_FORMATS, help="plain, or the tokenizer's chat template")
    group = parser.add_argument_group("Optimisation")
    group.add_argument("--num_epochs", type=int, default=2, help="passes over the data (default: %(default)s)")
    group.add_argument("--learning_rate", type=float, default=learning_rate, help="peak (default: %(default)s)")
    group.add_argument(
        "--batch_size", type=int, default=batch_size, help=f"{batch_unit} in memory at once (default: %(default)s)"
    )
    group.add_argument(
        "--gradient_accumulation_steps", type=int, default=1, help="batches to an optimiser step (default: %(default)s)"
    )
    group.add_argument("--lr_scheduler", choices=SCHEDULES, default="cosine", help="after warm-up (default: cosine)")
    group.add_argument("--warmup_ratio", type=float, default=0.1, help="share of all steps (default: %(default)s)")
    group.add_argument("--warmup_steps", type=int, default=0, help="if over 0, in place of the ratio (default: 0)")
    group.add_argument("--max_grad_norm", type=float, default=1.0, help="clips the gradient (default: %(default)s)")
    group.add_argument("--weight_decay", type=float, default=0.0, help="of AdamW (default: %(default)s)")
    group.add_argument(
        "--gradient_checkpointing", action="store_true", help="less memory for about a third more time (default: off)"
    )
    evaluation = parser.add_argument_group("Evaluation")
    evaluation.add_argument("--eval_steps", type=int, default=0, help="also every N steps; 0: epochs only (default: 0)")
    evaluation.add_argument("--eval_batch_size", type=int, default=0, help=f"{batch_unit}; 0: as training (default: 0)")
    evaluation.add_argument(
        "--early_stopping_patience",
        type=int,
        default=0,
        help="stop after N evaluations without a better validation loss and keep the best model; 0: off (default: 0)",
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", default=output_dir, help="the run's folder (default: %(default)s)")
    output.add_argument("--overwrite_output_dir", action="store_true", help="delete an earlier run in that folder")
    output.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    output.add_argument("--save_steps", type=int, default=0, help="also every N steps; 0: epochs only (default: 0)")
    output.add_argument("--logging_steps", type=int, default=10, help="steps between console lines (default: 10)")
    output.add_argument(
        "--report_to", choices=TRACKERS, default="none", help="experiment tracker; notes are private (default: none)"
    )


def check_training_arguments(args: argparse.Namespace) -> None:
    """Raises InputError for numbers no run can be made of."""
    for name in ("max_length", "num_epochs", "batch_size", "gradient_accumulation_steps", "logging_steps"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 1")
    if not args.learning_rate > 0:
        raise InputError(f"--learning_rate {args.learning_rate}: must be above 0")
    if not 0 <= args.warmup_ratio <= 1:
        raise InputError(f"--warmup_ratio {args.warmup_ratio}: must be between 0 and 1")
    if args.resume and args.overwrite_output_dir:
        raise InputError("--resume and --overwrite_output_dir exclude each other; choose one")


def row_tokens_on(device: torch.device) -> int:
    """How many tokens a row may have, if its examples are not too many before that."""
    return CPU_ROW_TOKENS if device.type == "cpu" else sys.maxsize


@dataclass(frozen=True)
class Source:
    """The examples of one file: how many there are, and how many of them an epoch sees."""

    size: int
    drawn: int

    def window(self, index: int, seed: int, epoch: int) -> list[int]:
        """What an epoch sees of it, as numbers from 0 in the order in which it sees them; `index` tells files apart.

        The examples stand in a circle, and each epoch goes on where the one before has stopped: none comes twice in
        an epoch before all have come once, and over all epochs none comes twice more often than another. Every round
        of an epoch is shuffled anew.
        """
        circle = list(range(self.size))
        random.Random(f"{seed}-file-{index}").shuffle(circle)
        seen = [circle[position % self.size] for position in range(epoch * self.drawn, (epoch + 1) * self.drawn)]
        rounds = [seen[start : start + self.size] for start in range(0, self.drawn, self.size)]
        for number, examples in enumerate(rounds):
            random.Random(f"{seed}-file-{index}-{epoch}-{number}").shuffle(examples)
        return [example for examples in rounds for example in examples]


def weighted_sources(sizes: Sequence[int], weights: Sequence[float]) -> tuple[Source, ...]:
    """Each file's share of an epoch that is as long as all files together; the counts are rounded to that sum."""
    total, whole = sum(sizes), math.fsum(weights)
    exact = [total * weight / whole for weight in weights]
    drawn = [math.floor(count) for count in exact]
    largest_rest_first = sorted(range(len(sizes)), key=lambda file: drawn[file] - exact[file])
    for file in largest_rest_first[: total - sum(drawn)]:
        drawn[file] += 1
    return tuple(Source(size, count) for size, count in zip(sizes, drawn, strict=True))


@lru_cache(maxsize=4)
def epoch_order(num_examples: int, sources: tuple[Source, ...], seed: int, epoch: int) -> tuple[int, ...]:
    """The examples of an epoch in their order; without sources every example once."""
    order = list(range(num_examples))
    if not sources:
        random.Random(f"{seed}-{epoch}").shuffle(order)
        return tuple(order)
    turns = [file for file, source in enumerate(sources) for _ in range(source.drawn)]
    random.Random(f"{seed}-{epoch}").shuffle(turns)
    firsts = [sum(source.size for source in sources[:file]) for file in range(len(sources))]
    windows = [iter(source.window(file, seed, epoch)) for file, source in enumerate(sources)]
    return tuple(firsts[file] + next(windows[file]) for file in turns)


@dataclass(frozen=True)
class BatchPlan:
    """Which examples each optimiser step sees: a function of the seed and the step, equal on every process."""

    num_examples: int
    batch_size: int  # examples in memory at once, of one process
    accumulation: int
    num_epochs: int
    seed: int
    rank: int = 0
    world: int = 1
    row_tokens: int = sys.maxsize  # that are computed at once, if the batch size does not say fewer
    sources: tuple[Source, ...] = ()  # files whose shares of an epoch are set; none: all examples once

    @classmethod
    def from_arguments(
        cls, args: argparse.Namespace, num_examples: int, accelerator: Accelerator, sources: tuple[Source, ...] = ()
    ) -> BatchPlan:
        return cls(
            num_examples,
            args.batch_size,
            args.gradient_accumulation_steps,
            args.num_epochs,
            args.seed,
            accelerator.process_index,
            accelerator.num_processes,
            row_tokens_on(accelerator.device),
            sources,
        )

    @property
    def examples_per_step(self) -> int:
        return self.batch_size * self.accumulation * self.world

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_examples / self.examples_per_step)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.num_epochs

    def step_indices(self, step: int) -> list[int]:
        """The examples of one step, of all processes; every process has at least one."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.num_examples, self.sources, self.seed, epoch)
        start = position * self.examples_per_step
        indices = order[start : start + self.examples_per_step]
        return [*indices, *order[: max(0, self.world - len(indices))]]

    def rows(self, step: int, tokens: Callable[[int], int]) -> list[list[int]]:
        """The examples of one step of this process, in rows to compute at once; `tokens` is the length of one."""
        return self.rows_of(self.step_indices(step)[self.rank :: self.world], self.batch_size, tokens)

    def evaluation_rows(self, num_examples: int, batch_size: int, tokens: Callable[[int], int]) -> list[list[int]]:
        """All examples of another dataset once, dealt to the processes, in rows of at most `batch_size`."""
        return self.rows_of(range(num_examples)[self.rank :: self.world], batch_size, tokens)

    def rows_of(self, indices: Sequence[int], batch_size: int, tokens: Callable[[int], int]) -> list[list[int]]:
        """The examples in their order, in rows of at most `batch_size` of them and of `row_tokens`."""
        return pack(indices, [tokens(index) for index in indices], batch_size, self.row_tokens)

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(self.num_examples / (self.batch_size * self.world))

    def describe(self, unit: str) -> str:
        return (
            f"{self.batch_size} {unit} x {self.accumulation} accumulation x {self.world} process(es) = "
            f"{self.examples_per_step} a step; {self.steps_per_epoch} steps an epoch, {self.total_steps} in all"
        )


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """The share of the peak learning rate at a step counted from 0: linear warm-up, then cosine or linear to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if schedule == "linear" else 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, args: argparse.Namespace, step: int, total_steps: int) -> float:
    """Sets and returns the learning rate of a step, as the flags ask for it."""
    warmup_steps = args.warmup_steps if args.warmup_steps > 0 else round(args.warmup_ratio * total_steps)
    rate: float = args.learning_rate * learning_rate_factor(step, total_steps, warmup_steps, args.lr_scheduler)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
