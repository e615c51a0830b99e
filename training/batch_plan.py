"""Which examples each optimiser step sees: a function of the seed and the step, the same on every process."""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice
from typing import TYPE_CHECKING

from scoring.packed_rows import pack

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

CPU_ROW_TOKENS = 640  # a CPU is no faster with longer rows, and holds the activations of a row in memory


def row_tokens_on(device: torch.device) -> int:
    """Return the most tokens of a row; the batch size may limit it further."""
    return CPU_ROW_TOKENS if device.type == "cpu" else sys.maxsize


@dataclass(frozen=True)
class Source:
    """One file of examples: its size, and how many of its examples are drawn in an epoch."""

    size: int
    drawn: int

    def window(self, index: int, seed: int, epoch: int) -> list[int]:
        """Return the examples of an epoch, as numbers from 0 in their order; `index` is the number of the file.

        The examples form a circle, and each epoch continues where the last one ended. So no example repeats in an
        epoch before all were drawn once, and over all epochs their counts differ by at most one. Every round of an
        epoch is shuffled again.
        """
        circle = list(range(self.size))
        random.Random(f"{seed}-file-{index}").shuffle(circle)
        seen = [circle[position % self.size] for position in range(epoch * self.drawn, (epoch + 1) * self.drawn)]
        rounds = [seen[start : start + self.size] for start in range(0, self.drawn, self.size)]
        for number, examples in enumerate(rounds):
            random.Random(f"{seed}-file-{index}-{epoch}-{number}").shuffle(examples)
        return [example for examples in rounds for example in examples]


def weighted_sources(sizes: Sequence[int], weights: Sequence[float]) -> tuple[Source, ...]:
    """Return the share of each file in an epoch that is as long as all files together, rounded to that sum."""
    total, whole = sum(sizes), math.fsum(weights)
    exact = [total * weight / whole for weight in weights]
    drawn = [math.floor(count) for count in exact]
    largest_rest_first = sorted(range(len(sizes)), key=lambda file: drawn[file] - exact[file])
    for file in largest_rest_first[: total - sum(drawn)]:
        drawn[file] += 1
    return tuple(Source(size, count) for size, count in zip(sizes, drawn, strict=True))


@lru_cache(maxsize=4)
def epoch_order(num_examples: int, sources: tuple[Source, ...], seed: int, epoch: int) -> tuple[int, ...]:
    """Return the examples of an epoch in their order; without sources, every example once."""
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
    """The arithmetic of batches, steps and epochs, and the examples of each step."""

    num_examples: int
    batch_size: int  # examples in memory at once, per process
    accumulation: int
    num_epochs: int
    seed: int
    rank: int = 0
    num_processes: int = 1
    row_tokens: int = sys.maxsize  # most tokens of a row
    sources: tuple[Source, ...] = ()  # files with a set share of an epoch; empty: every example once

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
        return self.batch_size * self.accumulation * self.num_processes

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_examples / self.examples_per_step)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.num_epochs

    def step_indices(self, step: int) -> list[int]:
        """Return the examples of a step over all processes, at least one for each process."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.num_examples, self.sources, self.seed, epoch)
        start = position * self.examples_per_step
        indices = order[start : start + self.examples_per_step]
        missing = max(0, self.num_processes - len(indices))
        return [*indices, *islice(cycle(order), missing)]

    def rows(self, step: int, tokens: Callable[[int], int]) -> list[list[int]]:
        """Return the rows of this process in a step; `tokens(index)` is the length of an example."""
        return self.rows_of(self.step_indices(step)[self.rank :: self.num_processes], self.batch_size, tokens)

    def evaluation_rows(self, num_examples: int, batch_size: int, tokens: Callable[[int], int]) -> list[list[int]]:
        """Return the rows of this process for an evaluation: every example of a dataset once over all processes."""
        return self.rows_of(range(num_examples)[self.rank :: self.num_processes], batch_size, tokens)

    def rows_of(self, indices: Sequence[int], batch_size: int, tokens: Callable[[int], int]) -> list[list[int]]:
        """Lay the examples, in their order, into rows of at most `batch_size` examples and `row_tokens` tokens."""
        return pack(indices, [tokens(index) for index in indices], batch_size, self.row_tokens)

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(self.num_examples / (self.batch_size * self.num_processes))

    def describe(self, unit: str) -> str:
        return (
            f"{self.batch_size} {unit} x {self.accumulation} accumulation x {self.num_processes} process(es) = "
            f"{self.examples_per_step} per step; {self.steps_per_epoch} steps per epoch, {self.total_steps} in all"
        )
