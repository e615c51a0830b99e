"""Lay a note and its summaries into one packed row (scoring/packed_rows.py), each summary once or twice.

A causal model knows only what precedes a token. With two passes, each completion of the row is

    [ summary][\\n\\nCheck:][ summary][end of sequence]

and the judge reads the second copy, whose tokens see the whole summary. With one pass it is [ summary][end of
sequence]. The end is read for the summary as a whole. All summaries of a note share its prompt; none sees another.

Shapes: T tokens of the row, N tokens of all copies that are read, including their ends, S summaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from language_model.prompt_format import build_prompt, encode_prompt
from scoring.packed_rows import PackedRow, PromptCompletions, lay_out

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

SEPARATOR = "\n\nCheck:"
Span = tuple[int, int]  # characters of the summary, [start, end)


@dataclass(frozen=True)
class EncodedSummary:
    """The tokens of one summary, and the characters of the summary that each token covers."""

    ids: list[int]
    spans: list[Span]


@dataclass(frozen=True, eq=False)
class PackedSummaries:
    """The row of one note with its summaries, and where the judge reads it."""

    row: PackedRow
    positions: (
        torch.Tensor
    )  # (N,) long: places in the row of the tokens that are read, each summary followed by its end
    previous: torch.Tensor  # (N,) long: the position before each of them, which predicts the token
    summaries: tuple[EncodedSummary, ...]  # S

    @property
    def tokens(self) -> int:
        """Return T."""
        return self.row.input_ids.shape[1]

    def to(self, device: torch.device) -> PackedSummaries:
        """Return the row with its tensors on `device`."""
        return replace(
            self, row=self.row.to(device), positions=self.positions.to(device), previous=self.previous.to(device)
        )

    def split(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Split (N, ...) into one tensor of (tokens + 1, ...) per summary; the last entry belongs to the end."""
        return list(values.split([len(summary.ids) + 1 for summary in self.summaries]))


def encode_summary(tokenizer: PreTrainedTokenizerBase, summary: str, opening: str = " ") -> EncodedSummary:
    """Return the tokens of a summary after `opening`, and the characters of the summary itself that they cover."""
    text = opening + summary
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    shift = len(opening)
    spans = [(max(start - shift, 0), max(end - shift, 0)) for start, end in encoded["offset_mapping"]]
    return EncodedSummary(encoded["input_ids"], spans)


def pack_summaries(
    tokenizer: PreTrainedTokenizerBase, note: str, summaries: Sequence[str], passes: int
) -> PackedSummaries:
    """Return the packed row of a note and its summaries, in the plain prompt format."""
    import torch

    prompt = encode_prompt(tokenizer, build_prompt(note), "plain")
    separator = tokenizer(SEPARATOR, add_special_tokens=False, verbose=False).input_ids
    encoded = tuple(encode_summary(tokenizer, summary) for summary in summaries)
    end = [tokenizer.eos_token_id]
    completions = tuple([*([*each.ids, *separator] * (passes - 1)), *each.ids, *end] for each in encoded)
    row = lay_out([PromptCompletions(prompt, completions)])
    positions, previous = _reading_positions(row, encoded, passes)
    return PackedSummaries(row, torch.tensor(positions), torch.tensor(previous), encoded)


def _reading_positions(row: PackedRow, encoded: Sequence[EncodedSummary], passes: int) -> tuple[list[int], list[int]]:
    """Return the positions of the last copy of each summary with its end, and the positions before them."""
    positions: list[int] = []
    previous: list[int] = []
    summaries = iter(encoded)
    for segment in row.segments:
        stop = segment.start + segment.prompt_tokens
        prompt_end = stop - 1
        for length in segment.completion_tokens:
            stop += length
            own = range(stop - len(next(summaries).ids) - 1, stop)
            positions += own
            # with one pass, the first token follows the prompt, which may lie elsewhere in the row
            previous += [own[0] - 1 if passes > 1 else prompt_end, *own[:-1]]
    return positions, previous


def row_tokens(tokenizer: PreTrainedTokenizerBase, note: str, summary: str, passes: int) -> int:
    """Return how many positions a model needs for a note and one summary."""
    return pack_summaries(tokenizer, note, [summary], passes).tokens
