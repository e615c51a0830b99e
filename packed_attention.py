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

from packed_rows import Row, Segment

PACKED = "packed_rows"  # the name that transformers knows the function by
QUERY_BLOCK = 192  # queries of a prompt at once: of a causal square of n blocks (n - 1) / 2n is never computed
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
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer over one row; signature and return of a transformers attention function.

    Args:
        query: (1, HG, T, D); key and value: (1, H, T, D), rotated already.
        row: where the samples lie; passed to the model's forward, which hands it on.

    Returns:
        (1, T, HG, D), and None for the probabilities.

    Raises:
        UnsupportedAttention: for dropout and for arguments that it does not know, such as soft caps and sinks.
    """
    unknown = [name for name, argument in others.items() if argument is not None and name not in _KNOWN_ARGUMENTS]
    if unknown or dropout:
        raise UnsupportedAttention(", ".join(unknown) or "attention dropout")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _flex if query.device.type == "cuda" else _by_segments
    return attend(query, key, value, row, scale, sliding_window).transpose(1, 2), None


# ------------------------------------------------------------------------------------- CPU and MPS


def _by_segments(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, row: Row, scale: float, window: int | None
) -> torch.Tensor:
    """Segment by segment, (1, HG, T, D)."""
    parts = [
        _attend(query[0], key[0], value[0], queries, keys, scale, window)
        for segment in row.segments
        for queries, keys in query_blocks(segment)
    ]
    return torch.cat(parts, dim=1)[None]


def query_blocks(segment: Segment) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """(queries, the stretches of keys that they see) in the order of the row; the last keys are the queries'."""
    prompt = slice(segment.start, segment.start + segment.prompt_tokens)
    blocks = -(-segment.prompt_tokens // QUERY_BLOCK)
    size = -(-segment.prompt_tokens // blocks)
    for first in range(prompt.start, prompt.stop, size):
        stop = min(first + size, prompt.stop)
        yield slice(first, stop), (slice(prompt.start, stop),)
    start = prompt.stop
    for number, length in enumerate(segment.completion_tokens):
        completion = slice(start, start + length)
        # the first completion follows its prompt in the row, so that no copy is needed to join them
        yield completion, (prompt, completion) if number else (slice(prompt.start, completion.stop),)
        start += length


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: slice,
    keys: tuple[slice, ...],
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Softmax attention of one block of queries, (HG, L, D); its last query is its last key."""
    seen_keys, seen_values = (_stretch(tensor, keys) for tensor in (key, value))  # (H, S, D)
    heads, seen, size = seen_keys.shape
    asked = query[:, queries]
    grouped = asked.reshape(heads, -1, size)  # (H, G L, D): heads that share keys are more queries to them
    length = asked.shape[1]
    mask = _causal_mask(seen, window, query.dtype, query.device)[seen - length : seen, :seen]
    bias = mask.repeat(grouped.shape[1] // length, 1)  # (G L, S)
    scores = torch.baddbmm(bias.expand(heads, -1, -1), grouped, seen_keys.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), seen_values).view(asked.shape)


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
