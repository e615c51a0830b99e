"""Attention over packed rows (packed_rows.py), as an attention function that stock transformers models take.

Within a sample a token sees the prompt up to itself and its own completion up to itself; samples do not see each
other. Layers with a sliding window see no further back than that. On CUDA one FlexAttention kernel does the whole row
from block masks; elsewhere each segment is computed by two matrix products a block of queries, which never look at a
pair that the mask forbids.

Shapes: H heads, G queries' heads to a key's head, L queries, S keys, D head size, T tokens of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

from scoring.packed_rows import Row, Segment

PACKED = "packed_rows"  # the name that transformers knows the function by
# Queries at once: of a causal square of n blocks (n - 1) / 2n is never computed. Half precision, whose products are
# faster, loses more to small ones than it saves.
QUERY_BLOCK, HALF_QUERY_BLOCK = 64, 192
Block = tuple[slice, tuple[slice, ...]]  # queries, and the stretches of keys that they see
_KNOWN_ARGUMENTS = frozenset({"sliding_window", "position_ids", "use_cache", "is_causal", "cache_position"})


class UnsupportedAttention(Exception):
    """The layer asks for attention that rows cannot be packed for."""


def register() -> None:
    """Makes `set_attn_implementation(PACKED)` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row: Row,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    only_predicting: bool = False,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer over one row; signature and return of a transformers attention function.

    Args:
        query: (1, HG, T, D); key and value: (1, H, T, D), rotated already.
        row: where the samples lie; passed to the model's forward, which hands it on.
        only_predicting: of the queries none but those in `row.predicting` matter; the others may come out as 0.

    Returns:
        (1, T, HG, D), and None for the probabilities.

    Raises:
        UnsupportedAttention: for dropout and for arguments that it does not know, such as soft caps and sinks.
    """
    unknown = [name for name, argument in others.items() if argument is not None and name not in _KNOWN_ARGUMENTS]
    if unknown or dropout:
        raise UnsupportedAttention(", ".join(unknown) or "attention dropout")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda":
        result = _flex(query, key, value, row, scale, sliding_window)
    else:
        result = _by_segments(query, key, value, row, scale, sliding_window, only_predicting)
    return result.transpose(1, 2), None


# ------------------------------------------------------------------------------------- CPU and MPS


def _by_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    row: Row,
    scale: float,
    window: int | None,
    only_predicting: bool,
) -> torch.Tensor:
    """Segment by segment, (1, HG, T, D)."""
    size = block_size(value.dtype)
    blocks = tuple(block for segment in row.segments for block in query_blocks(segment, size, only_predicting))
    inputs = (tensor[0].to(value.dtype) for tensor in (query, key, value))  # some rotate in float32
    result: torch.Tensor = _BlockAttention.apply(*inputs, blocks, scale, window)
    return result[None]


def block_size(dtype: torch.dtype) -> int:
    """How many queries are computed at once."""
    return HALF_QUERY_BLOCK if dtype.itemsize == 2 else QUERY_BLOCK


def query_blocks(segment: Segment, size: int, only_predicting: bool = False) -> Iterator[Block]:
    """(queries, the stretches of keys that they see) in the order of the row; the last keys are the queries'."""
    prompt = slice(segment.start, segment.start + segment.prompt_tokens)
    for queries in _even_blocks(prompt.stop - 1 if only_predicting else prompt.start, prompt.stop, size):
        yield queries, (slice(prompt.start, queries.stop),)
    start = prompt.stop
    for number, length in enumerate(segment.completion_tokens):
        for queries in _even_blocks(start, start + length, size):
            own = slice(start, queries.stop)
            # the first completion follows its prompt in the row, so that no copy is needed to join them
            yield queries, (prompt, own) if number else (slice(prompt.start, own.stop),)
        start += length


def _even_blocks(start: int, stop: int, size: int) -> Iterator[slice]:
    """The stretch in as few blocks of at most `size` as there can be."""
    blocks = -(-(stop - start) // size)
    step = -(-(stop - start) // blocks)
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


class _BlockAttention(torch.autograd.Function):
    """Softmax attention of blocks of queries, (HG, T, D); 0 at queries of no block.

    By hand, since autograd would make a gradient as long as the row for every stretch that a block reads.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        blocks: tuple[Block, ...],
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        heads, tokens, size = query.shape
        result = query.new_zeros(tokens, heads, size).transpose(0, 1)  # the order in memory of the projection after it
        probabilities = []
        for queries, keys in blocks:
            asked = _grouped(query, key, queries)
            bias = _bias(asked.shape[1], queries, keys, window, query)  # (G L, S)
            seen = _stretch(key, keys).transpose(1, 2)
            scores = torch.baddbmm(bias.expand(len(key), -1, -1), asked, seen, alpha=scale)
            probabilities.append(scores.softmax(dim=-1))
            result[:, queries] = torch.bmm(probabilities[-1], _stretch(value, keys)).view(heads, -1, size)
        ctx.save_for_backward(query, key, value, *probabilities)
        ctx.blocks, ctx.scale = blocks, scale
        return result

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *probabilities = ctx.saved_tensors
        gradients = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        for (queries, keys), weights in zip(ctx.blocks, probabilities, strict=True):
            asked, given = (_grouped(tensor, key, queries) for tensor in (query, upstream[0]))
            of_weights = torch.bmm(given, _stretch(value, keys).transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            gradients[0][:, queries] = torch.bmm(of_scores, _stretch(key, keys)).view(len(query), -1, query.shape[2])
            _add_to(gradients[1], keys, torch.bmm(of_scores.transpose(1, 2), asked))
            _add_to(gradients[2], keys, torch.bmm(weights.transpose(1, 2), given))
        return gradients[0].mul_(ctx.scale), gradients[1].mul_(ctx.scale), gradients[2], None, None, None


def _grouped(tensor: torch.Tensor, key: torch.Tensor, queries: slice) -> torch.Tensor:
    """(H, G L, D) of (HG, T, D): heads that share keys are more queries to them."""
    return tensor[:, queries].reshape(len(key), -1, key.shape[2])


def _bias(rows: int, queries: slice, keys: tuple[slice, ...], window: int | None, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of a block, (G L, S): minus infinity where a query must not look."""
    length, seen = queries.stop - queries.start, sum(part.stop - part.start for part in keys)
    mask = _causal_mask(seen, window, like.dtype, like.device)[seen - length : seen, :seen]
    return mask.repeat(rows // length, 1)


def _add_to(gradient: torch.Tensor, keys: tuple[slice, ...], part: torch.Tensor) -> None:
    lengths = [stretch.stop - stretch.start for stretch in keys]
    for stretch, piece in zip(keys, part.split(lengths, dim=1), strict=True):
        gradient[:, stretch] += piece


def _stretch(tensor: torch.Tensor, slices: tuple[slice, ...]) -> torch.Tensor:
    parts = [tensor[:, part] for part in slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _causal_mask(tokens: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask of at least `tokens` squared; sizes go up in powers of two, so that few are ever kept."""
    size = max(256, 1 << (tokens - 1).bit_length())
    return _square_mask(size, window if window and window < tokens else None, dtype, device)


@lru_cache(maxsize=8)
def _square_mask(size: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    distance = torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)
    forbidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(forbidden, float("-inf"))


# ------------------------------------------------------------------------------------------- CUDA


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, row: Row, scale: float, window: int | None
) -> torch.Tensor:
    grouped = query.shape[1] != key.shape[1]
    mask = _block_mask(row, window, query.device)
    return _compiled_flex()(query, key, value, block_mask=mask, scale=scale, enable_gqa=grouped)


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=2)  # of one row: a mask for the layers with a window, and one for those without
def _block_mask(row: Row, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    length = row.input_ids.shape[1]
    # compiled, it makes the blocks without a mask of (T, T) first
    return create_block_mask(mask_rule(row, window), None, None, length, length, device=device, _compile=True)


def mask_rule(row: Row, window: int | None) -> Callable[..., torch.Tensor]:
    """Whether query q sees key k, as FlexAttention asks it: (batch, head, q, k), indices -> (…) bool."""
    device = row.input_ids.device
    position = row.position_ids[0]
    sample, branch = (torch.tensor(values, device=device) for values in _owners(row))

    def sees(batch: Any, head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        own = (sample[q] == sample[k]) & ((branch[k] == 0) | (branch[k] == branch[q]))
        distance = position[q] - position[k]
        return own & (distance >= 0) & (distance < (window or length))

    length = row.input_ids.shape[1]
    return sees


def _owners(row: Row) -> tuple[list[int], list[int]]:
    """For each token its sample, and its completion in the sample counted from 1; 0 is the prompt. Each (T,)."""
    samples: list[int] = []
    branches: list[int] = []
    for number, segment in enumerate(row.segments):
        for branch, length in enumerate((segment.prompt_tokens, *segment.completion_tokens)):
            samples += [number] * length
            branches += [branch] * length
    return samples, branches
