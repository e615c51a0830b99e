"""Plan which examples each optimiser step sees."""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from scoring.packed_rows import pack

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
# Tokens of a row on a CPU, which is no faster with longer ones and keeps the activations of a row in memory
CPU_ROW_TOKENS = 640


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
