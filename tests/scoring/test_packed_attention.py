"""Which tokens see which, by hand and against a dense mask, on devices without FlexAttention."""

from __future__ import annotations

import pytest
import torch

from scoring import packed_attention
from scoring.packed_attention import UnsupportedAttention, query_blocks
from scoring.packed_rows import PackedRow, PromptCompletions, lay_out

SAMPLES = [
    PromptCompletions(list(range(3, 14)), ([4, 5, 2], [6, 2])),
    PromptCompletions([3], ([4, 2],)),
    PromptCompletions([7, 8, 9], ([3, 2], [4, 5, 6, 2])),
]


def visible(row: PackedRow, window: int | None) -> torch.Tensor:
    """(T, T) bool, from the definition: own example, the prompt or the own completion, not ahead, within the window."""
    keys: list[tuple[int, int, int]] = []
    for number, segment in enumerate(row.segments):
        for branch, length in enumerate((segment.prompt_tokens, *segment.completion_tokens)):
            start = segment.prompt_tokens if branch else 0
            keys += [(number, branch, start + i) for i in range(length)]
    dense = torch.zeros(len(keys), len(keys), dtype=torch.bool)
    for q, (example, branch, position) in enumerate(keys):
        for k, (other, other_branch, other_position) in enumerate(keys):
            own = example == other and other_branch in (0, branch)
            dense[q, k] = own and 0 <= position - other_position < (window or len(keys))
    return dense


def tensors(row: PackedRow, heads: int = 4, key_heads: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    length = row.input_ids.shape[1]
    return [
        torch.randn(1, count, length, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for count in (heads, key_heads, key_heads)
    ]


def dense_attention(query, key, value, mask):
    key, value = (tensor.repeat_interleave(2, dim=1) for tensor in (key, value))
    scores = (query @ key.transpose(-1, -2) * 0.3).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 4, 100])
@pytest.mark.parametrize("block", [3, 192])
def test_values_and_gradients_equal_dense_attention(monkeypatch, window, block):
    monkeypatch.setattr(packed_attention, "QUERY_BLOCK", block)
    row = lay_out(SAMPLES)
    inputs = tensors(row)
    packed, _ = packed_attention.packed_attention(
        torch.nn.Identity(), *inputs, None, row=row, scaling=0.3, sliding_window=window
    )
    dense = dense_attention(*inputs, visible(row, window))
    torch.testing.assert_close(packed, dense, atol=1e-12, rtol=0)
    upstream = torch.randn(packed.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mine, expected = (torch.autograd.grad((out * upstream).sum(), inputs) for out in (packed, dense))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_long_stretches_are_cut_into_even_blocks_and_nothing_behind_a_block_is_touched():
    (segment,) = lay_out([PromptCompletions(list(range(400)), ([1, 2], list(range(200))))]).segments
    blocks = list(query_blocks(segment, 192))
    cuts = [(0, 134), (134, 268), (268, 400), (400, 402), (402, 502), (502, 602)]
    assert [(queries.start, queries.stop) for queries, _ in blocks] == cuts
    assert [keys[-1].stop for _, keys in blocks] == [stop for _, stop in cuts]
    assert blocks[3][1] == (slice(0, 402),)
    assert blocks[-1][1] == (slice(0, 400), slice(402, 602))


def test_where_only_predicting_positions_matter_the_prompt_asks_with_its_last_token_alone():
    row = lay_out(SAMPLES)
    inputs = tensors(row)
    whole, trimmed = (
        packed_attention.packed_attention(torch.nn.Identity(), *inputs, None, row=row, only_predicting=only)[0]
        for only in (False, True)
    )
    wanted = row.predicting
    torch.testing.assert_close(trimmed[:, wanted], whole[:, wanted], atol=1e-12, rtol=0)
    assert trimmed[0].any(dim=(1, 2)).nonzero()[:, 0].tolist() == [
        10,
        *range(11, 16),
        16,
        *range(17, 19),
        *range(21, 28),
    ]
    mine, expected = (torch.autograd.grad(each[:, wanted].square().sum(), inputs) for each in (trimmed, whole))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("argument", [{"dropout": 0.1}, {"softcap": 50.0}, {"s_aux": torch.zeros(4)}])
def test_attention_it_does_not_know_is_refused(argument):
    row = lay_out(SAMPLES)
    with pytest.raises(UnsupportedAttention):
        packed_attention.packed_attention(torch.nn.Identity(), *tensors(row), None, row=row, **argument)
