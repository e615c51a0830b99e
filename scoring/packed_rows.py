"""Several examples in one row without padding, the prompt of a preference pair computed once.

A sample is a prompt with the completions to score after it: one in Stage A, chosen and rejected in Stage B. Its tokens
lie in the row as `[prompt | first completion | second completion]`; positions restart behind the prompt for every
completion, and no completion sees another (attention: packed_attention.py). A transformer computes the same for it as
for the completions apart, and computes the prompt once.

Shapes: T tokens of a row, N completion tokens, K completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

# Of the tokens of both completions with a prompt each; below it, sharing saves less than the extra blocks of its
# attention cost. benchmarks/RESULTS.md has the measurement.
MIN_SAVED_SHARE = 0.05


class Sample(NamedTuple):
    """Token ids of a prompt and of the completions after it."""

    prompt: Sequence[int]
    completions: tuple[Sequence[int], ...]

    @property
    def tokens(self) -> int:
        """Tokens of the prompt, counted once, and of all completions."""
        return len(self.prompt) + sum(map(len, self.completions))


class Segment(NamedTuple):
    """Where a sample lies in its row: its first token, and the lengths of its prompt and of its completions."""

    start: int
    prompt_tokens: int
    completion_tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """Samples laid out one behind the other.

    `predicting` are the positions of the row whose output predicts a completion token, `targets` those tokens, and
    `completion` the number of the completion, counted through the row's samples, that each belongs to.
    """

    input_ids: torch.Tensor  # (1, T) long
    position_ids: torch.Tensor  # (1, T) long
    predicting: torch.Tensor  # (N,) long
    targets: torch.Tensor  # (N,) long
    completion: torch.Tensor  # (N,) long
    completion_tokens: torch.Tensor  # (K,) long
    segments: tuple[Segment, ...]

    def to(self, device: torch.device) -> Row:
        """The row with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)


def shares_prompt(sample: Sample) -> bool:
    """The cost rule: whether computing the prompt once saves MIN_SAVED_SHARE of the tokens or more."""
    saved = (len(sample.completions) - 1) * len(sample.prompt)
    return saved >= MIN_SAVED_SHARE * (sample.tokens + saved)


def lay_out(samples: Iterable[Sample]) -> Row:
    """One row of the samples, in their order; the prompt stands once where `shares_prompt` says so."""
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    segments: list[Segment] = []
    for sample in samples:
        parts = [sample] if shares_prompt(sample) else [Sample(sample.prompt, (c,)) for c in sample.completions]
        for prompt, completions in parts:
            start = len(ids)
            segments.append(Segment(start, len(prompt), tuple(map(len, completions))))
            ids += prompt
            positions += range(len(prompt))
            for completion in completions:
                # the last token of the prompt predicts the first of every completion
                predicting += [start + len(prompt) - 1, *range(len(ids), len(ids) + len(completion) - 1)]
                ids += completion
                positions += range(len(prompt), len(prompt) + len(completion))
                targets += completion
                lengths.append(len(completion))
    counts = torch.tensor(lengths)
    return Row(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        predicting=torch.tensor(predicting),
        targets=torch.tensor(targets),
        completion=torch.arange(len(lengths)).repeat_interleave(counts),
        completion_tokens=counts,
        segments=tuple(segments),
    )


def pack(indices: Sequence[int], tokens: Sequence[int], max_examples: int, max_tokens: int) -> list[list[int]]:
    """Cuts a step's examples, in their order, into rows of at most `max_examples` and `max_tokens`, one at least.

    `tokens` has the length of each of `indices`. Order and cuts depend on nothing else, so a run can be repeated.
    """
    rows: list[list[int]] = []
    room = 0
    for index, length in zip(indices, tokens, strict=True):
        if not rows or length > room or len(rows[-1]) == max_examples:
            rows.append([])
            room = max_tokens
        rows[-1].append(index)
        room -= length
    return rows
