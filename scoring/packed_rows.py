"""Several examples in one row without padding, the prompt of a preference pair computed once.

An example is a prompt with the completions to score after it: one in Stage A, chosen and rejected in Stage B. Its
tokens lie in the row as `[prompt | first completion | second completion]`. Positions restart after the prompt for every
completion, and no completion sees another (attention: packed_attention.py). The result equals running each completion
separately, but the prompt is computed once.

Shapes: T tokens of a row, N completion tokens, K completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

# Share of an example's tokens that computing its prompt once must save. Below it, the extra blocks of attention cost
# more than sharing saves (measured in benchmarks/RESULTS.md).
MIN_SAVED_SHARE = 0.05
# Sizes that rows are padded to: multiples of the first number, and from eight times that on, eight sizes per doubling.
# A GPU then meets few shapes, and computes at most an eighth more tokens.
SIZE_STEP, SIZES_PER_DOUBLING = 128, 8


class PromptCompletions(NamedTuple):
    """Token ids of a prompt and of the completions after it."""

    prompt: Sequence[int]
    completions: tuple[Sequence[int], ...]

    @property
    def tokens(self) -> int:
        """Tokens of the prompt, counted once, and of all completions."""
        return len(self.prompt) + sum(map(len, self.completions))


class Segment(NamedTuple):
    """The place of an example in its row: its first token, and the lengths of its prompt and of its completions."""

    start: int
    prompt_tokens: int
    completion_tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PackedRow:
    """Examples laid out one after another.

    `predicting` are the positions whose output predicts a completion token, and `targets` are the predicted tokens,
    one completion after another. Tokens after the last of `segments` are padding, which sees only itself and which no
    example sees.
    """

    input_ids: torch.Tensor  # (1, T) long
    position_ids: torch.Tensor  # (1, T) long
    predicting: torch.Tensor  # (N,) long
    targets: torch.Tensor  # (N,) long
    completion_tokens: torch.Tensor  # (K,) long
    segments: tuple[Segment, ...]

    def to(self, device: torch.device) -> PackedRow:
        """Return the row with its tensors on `device`."""
        import torch

        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)

    def padded(self, tokens: int, pad_id: int) -> PackedRow:
        """Return the row with padding up to `tokens` tokens."""
        import torch

        missing = (0, tokens - self.input_ids.shape[1])
        return replace(
            self,
            input_ids=torch.nn.functional.pad(self.input_ids, missing, value=pad_id),
            position_ids=torch.nn.functional.pad(self.position_ids, missing),
        )


def shares_prompt(example: PromptCompletions) -> bool:
    """Return whether computing the prompt once saves at least MIN_SAVED_SHARE of the tokens."""
    saved = (len(example.completions) - 1) * len(example.prompt)
    return saved >= MIN_SAVED_SHARE * (example.tokens + saved)


def padded_size(tokens: int) -> int:
    """Return the smallest size of a padded row that holds `tokens` tokens, at least 4 * SIZE_STEP."""
    doubling = (tokens - 1).bit_length()
    step = max(SIZE_STEP, (1 << doubling) // (2 * SIZES_PER_DOUBLING))
    return max(4 * SIZE_STEP, -(-tokens // step) * step)


def lay_out(examples: Iterable[PromptCompletions]) -> PackedRow:
    """Lay the examples, in their order, into one row; the prompt is repeated unless `shares_prompt`."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    segments: list[Segment] = []
    for example in examples:
        parts = (
            [example]
            if shares_prompt(example)
            else [PromptCompletions(example.prompt, (c,)) for c in example.completions]
        )
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
    return PackedRow(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        predicting=torch.tensor(predicting),
        targets=torch.tensor(targets),
        completion_tokens=torch.tensor(lengths),
        segments=tuple(segments),
    )


def pack(indices: Sequence[int], tokens: Sequence[int], max_examples: int, max_tokens: int) -> list[list[int]]:
    """Split the examples of a step, in their order, into rows of at most `max_examples` and `max_tokens`.

    `tokens` has the length of each of `indices`. A longer example has a row of its own. Nothing else matters to the
    order and the split, so a run can be repeated.
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
