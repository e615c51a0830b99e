"""Attention over packed rows (packed_rows.py), as an attention function for unchanged transformers models.

Within an example, a token sees the prompt and its own completion, both up to itself. Examples do not see each other.
Layers with a sliding window see no further back than the window. On CUDA, one FlexAttention kernel computes the whole
row (block_masks.py). On other devices, each block of queries takes two matrix products, over the keys it may see.

Shapes: H key heads, G query heads per key head, L queries, S keys, D head size, T tokens of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from scoring.block_masks import block_mask, visible_keys
from scoring.packed_rows import PackedRow, Segment

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

PACKED = "packed_rows"  # the name under which transformers knows the function
# Queries per block. With n blocks, (n - 1) / 2n of the causal square is never computed. In half precision products are
# faster, and small ones lose more than they save.
QUERY_BLOCK, HALF_QUERY_BLOCK = 64, 192
Block = tuple[slice, tuple[slice, ...]]  # queries, and the ranges of keys that they see
_KNOWN_ARGUMENTS = frozenset({"sliding_window", "position_ids", "use_cache", "is_causal", "cache_position"})


class UnsupportedAttention(Exception):
    """The layer needs attention that packed rows do not support."""


def register() -> None:
    """Register the function with transformers, for `set_attn_implementation(PACKED)`."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row: PackedRow,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    only_predicting: bool = False,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of one layer over one row, with the signature of a transformers attention function.

    Args:
        query: (1, HG, T, D); key and value: (1, H, T, D); all after rotary embedding.
        row: the layout of the examples; the model's forward passes it through.
        only_predicting: compute the queries in `row.predicting` only; the others may be 0.

    Returns:
        (1, T, HG, D), and None for the probabilities.

    Raises:
        UnsupportedAttention: for dropout, and for unknown arguments such as soft caps and sinks.
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
    row: PackedRow,
    scale: float,
    window: int | None,
    only_predicting: bool,
) -> torch.Tensor:
    """Compute the attention segment by segment, (1, HG, T, D)."""
    size = block_size(value.dtype)
    blocks = tuple(block for segment in row.segments for block in query_blocks(segment, size, only_predicting))
    inputs = (tensor[0].to(value.dtype) for tensor in (query, key, value))  # some rotate in float32
    result: torch.Tensor = _BlockAttention.apply(*inputs, blocks, scale, window)
    return result[None]


def block_size(dtype: torch.dtype) -> int:
    """Return the number of queries per block."""
    return HALF_QUERY_BLOCK if dtype.itemsize == 2 else QUERY_BLOCK


def query_blocks(segment: Segment, size: int, only_predicting: bool = False) -> Iterator[Block]:
    """Yield (queries, ranges of keys that they see) in the order of the row; the last keys are at the queries."""
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
    """Split a range into the fewest blocks of at most `size`, of even length."""
    blocks = -(-(stop - start) // size)
    step = -(-(stop - start) // blocks)
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


class _BlockAttention(torch.autograd.Function):
    """Softmax attention of blocks of queries, (HG, T, D); 0 at queries outside all blocks.

    The backward pass is written by hand: autograd would allocate a gradient as long as the row for every range of keys.
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
        result = query.new_zeros(tokens, heads, size).transpose(0, 1)  # memory order of the projection that follows
        probabilities = []
        for queries, keys in blocks:
            block_query = _grouped(query, key, queries)
            bias = _bias(block_query.shape[1], queries, keys, window, query)  # (G L, S)
            block_key = _take(key, keys).transpose(1, 2)
            scores = torch.baddbmm(bias.expand(len(key), -1, -1), block_query, block_key, alpha=scale)
            probabilities.append(scores.softmax(dim=-1))
            result[:, queries] = torch.bmm(probabilities[-1], _take(value, keys)).view(heads, -1, size)
        ctx.save_for_backward(query, key, value, *probabilities)
        ctx.blocks, ctx.scale = blocks, scale
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *probabilities = ctx.saved_tensors
        gradients = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        for (queries, keys), weights in zip(ctx.blocks, probabilities, strict=True):
            block_query, grad_output = (_grouped(tensor, key, queries) for tensor in (query, grad_outputs[0]))
            grad_weights = torch.bmm(grad_output, _take(value, keys).transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            gradients[0][:, queries] = torch.bmm(grad_scores, _take(key, keys)).view(len(query), -1, query.shape[2])
            _add_to(gradients[1], keys, torch.bmm(grad_scores.transpose(1, 2), block_query))
            _add_to(gradients[2], keys, torch.bmm(weights.transpose(1, 2), grad_output))
        return gradients[0].mul_(ctx.scale), gradients[1].mul_(ctx.scale), gradients[2], None, None, None


def _grouped(tensor: torch.Tensor, key: torch.Tensor, queries: slice) -> torch.Tensor:
    """Reshape (HG, T, D) to (H, G L, D): query heads that share keys become more queries."""
    return tensor[:, queries].reshape(len(key), -1, key.shape[2])


def _bias(rows: int, queries: slice, keys: tuple[slice, ...], window: int | None, like: torch.Tensor) -> torch.Tensor:
    """Return the additive mask of a block, (G L, S): minus infinity for keys that a query may not see."""
    length, seen = queries.stop - queries.start, sum(part.stop - part.start for part in keys)
    mask = _causal_mask(seen, window, like.dtype, like.device)[seen - length : seen, :seen]
    return mask.repeat(rows // length, 1)


def _add_to(gradient: torch.Tensor, keys: tuple[slice, ...], part: torch.Tensor) -> None:
    lengths = [key_range.stop - key_range.start for key_range in keys]
    for key_range, piece in zip(keys, part.split(lengths, dim=1), strict=True):
        gradient[:, key_range] += piece


def _take(tensor: torch.Tensor, slices: tuple[slice, ...]) -> torch.Tensor:
    parts = [tensor[:, part] for part in slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _causal_mask(tokens: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an additive causal mask of at least `tokens` squared; sizes are powers of two, so that few are kept."""
    size = max(256, 1 << (tokens - 1).bit_length())
    return _square_mask(size, window if window and window < tokens else None, dtype, device)


@lru_cache(maxsize=8)
def _square_mask(size: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    distance = torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)
    forbidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(forbidden, float("-inf"))


# ------------------------------------------------------------------------------------------- CUDA


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, row: PackedRow, scale: float, window: int | None
) -> torch.Tensor:
    grouped = query.shape[1] != key.shape[1]
    inputs = (tensor.to(value.dtype) for tensor in (query, key))  # some rotate in float32
    mask = _row_mask(row, window, query.device)
    result: torch.Tensor = compiled_flex()(*inputs, value, block_mask=mask, scale=scale, enable_gqa=grouped)
    return result


@lru_cache(maxsize=1)
def compiled_flex() -> Callable[..., Any]:
    """Return FlexAttention compiled for rows of all sizes, with and without a window."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=2)  # for one row: a mask for layers with a window, and one for layers without
def _row_mask(row: PackedRow, window: int | None, device: torch.device) -> BlockMask:
    return block_mask(visible_keys(row, window).to(device))
