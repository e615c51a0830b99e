"""Block masks of FlexAttention for packed rows, by arithmetic on the segments.

The keys that a query sees are two ranges: a part of its prompt, and the tokens of its own completion up to itself. A
sliding window moves the starts of both. So one rule with three numbers per query serves every row, with and without a
window. The compiled program of FlexAttention depends on the rule only, and takes the numbers as tensors: it is compiled
once, not for each row. `create_block_mask` of PyTorch would need a compilation of its own, or a (T, T) mask.

Shapes: T tokens of the row, a multiple of BLOCK; n = T / BLOCK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from scoring.packed_rows import SIZE_STEP, PackedRow

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = SIZE_STEP  # queries and keys of a block; FlexAttention's default


def visible_keys(row: PackedRow, window: int | None) -> torch.Tensor:
    """Return what each query sees, (3, T) int32 on the CPU: `first`, `stop` and `own`.

    Query q sees the keys from `first` to before `stop`, and the keys from `own` to q. Padding sees itself.
    """
    tokens = row.input_ids.shape[1]
    reach = window or tokens
    query = torch.arange(tokens, dtype=torch.int32)
    first, stop, own = query.repeat(3, 1)  # the range from `first` to `stop` is empty
    for segment in row.segments:
        start = end = segment.start + segment.prompt_tokens
        own[segment.start : end] = segment.start
        for length in segment.completion_tokens:
            part = slice(start, start + length)
            own[part], stop[part] = start, end
            # positions continue from the end of the prompt, so token 0 of the completion is `end` of the prompt
            first[part] = (end + query[part] - start - reach + 1).clamp(segment.start, end)
            start += length
    return torch.stack([first, stop, torch.maximum(own, query - reach + 1)])


def mask_rule(seen: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Return the FlexAttention mask function: (batch, head, q, k) indices -> whether query q sees key k."""
    first, stop, own = seen

    def sees(batch: Any, head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return ((first[q] <= k) & (k < stop[q])) | ((own[q] <= k) & (k <= q))

    return sees


def block_mask(seen: torch.Tensor) -> BlockMask:
    """Return the block mask of `visible_keys`, on its device: which blocks are visible in part, and which are whole."""
    from torch.nn.attention.flex_attention import BlockMask

    tokens = seen.shape[1]
    pairs = _visible_pairs(seen)
    whole = pairs == BLOCK * BLOCK
    return BlockMask.from_kv_blocks(
        *_ordered((pairs > 0) & ~whole),
        *_ordered(whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_rule(seen),
        seq_lengths=(tokens, tokens),
    )


def _visible_pairs(seen: torch.Tensor) -> torch.Tensor:
    """Return how many pairs of a query and a key are visible in each block, (n, n): blocks of queries, of keys."""
    first, stop, own = seen
    blocks = seen.shape[1] // BLOCK
    query = torch.arange(seen.shape[1], dtype=seen.dtype, device=seen.device)
    edges = torch.arange(0, seen.shape[1], BLOCK, dtype=seen.dtype, device=seen.device)

    def keys_per_block(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:  # (T, n)
        last = torch.minimum(end[:, None], edges + BLOCK)
        return (last - torch.maximum(start[:, None], edges)).clamp(min=0)

    keys = keys_per_block(first, stop) + keys_per_block(own, query + 1)
    return keys.view(blocks, BLOCK, blocks).sum(dim=1)


def _ordered(visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each block of queries the number of visible blocks of keys, (1, 1, n), and their indices first."""
    dense = visible.to(torch.int32)
    indices = dense.argsort(dim=-1, descending=True, stable=True)
    return dense.sum(dim=-1).to(torch.int32)[None, None], indices.to(torch.int32)[None, None]
