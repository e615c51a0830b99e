"""Where the tokens of packed examples lie, by hand, and how a step is cut into rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.packed_rows import PromptCompletions, Segment, lay_out, pack, padded_size, shares_prompt
from scoring.padded_logps import pad_examples

PAIR = PromptCompletions([1, 5, 6], ([7, 2], [8, 9, 2]))


def test_a_pair_shares_its_prompt_and_restarts_its_positions():
    row = lay_out([PAIR, PromptCompletions([1, 4], ([3, 2],))])
    assert row.input_ids.tolist() == [[1, 5, 6, 7, 2, 8, 9, 2, 1, 4, 3, 2]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2, 3]]
    # token 2 is the prompt's last: it predicts the first token of both completions
    assert row.predicting.tolist() == [2, 3, 2, 5, 6, 9, 10]
    assert row.targets.tolist() == [7, 2, 8, 9, 2, 3, 2]
    assert row.completion_tokens.tolist() == [2, 3, 2]
    assert row.segments == (Segment(0, 3, (2, 3)), Segment(8, 2, (2,)))


def test_a_prompt_that_saves_too_little_is_computed_twice():
    # sharing saves 1 of 21 tokens, under a twentieth; with 2 it saves 2 of 24
    assert not shares_prompt(PromptCompletions([1], (list(range(9)), list(range(10)))))
    assert shares_prompt(PromptCompletions([1, 1], (list(range(10)), list(range(10)))))
    row = lay_out([PromptCompletions([1], (list(range(3, 12)), list(range(3, 13))))])
    assert row.segments == (Segment(0, 1, (9,)), Segment(10, 1, (10,)))
    assert row.completion_tokens.tolist() == [9, 10]


def test_padded_rows_hold_every_completion_behind_its_prompt():
    batch = pad_examples([PAIR, PromptCompletions([1], ([9, 2],))], pad_id=0)
    assert batch["input_ids"].tolist() == [[1, 5, 6, 7, 2, 0], [1, 5, 6, 8, 9, 2], [1, 9, 2, 0, 0, 0]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 6, 3]
    masked = -100
    assert batch["labels"].tolist() == [
        [masked, masked, masked, 7, 2, masked],
        [masked, masked, masked, 8, 9, 2],
        [masked, 9, 2, masked, masked, masked],
    ]


def test_rows_are_cut_at_the_tokens_and_at_the_examples():
    assert pack([4, 2, 7, 1], [5, 5, 1, 30], max_examples=8, max_tokens=10) == [[4, 2], [7], [1]]
    assert pack([4, 2, 7, 1], [1, 1, 1, 1], max_examples=3, max_tokens=10) == [[4, 2, 7], [1]]
    assert pack([], [], 1, 1) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50)), st.integers(1, 5), st.integers(1, 60))
def test_every_example_is_in_one_row_within_the_limits(tokens, max_examples, max_tokens):
    indices = list(range(len(tokens)))
    rows = pack(indices, tokens, max_examples, max_tokens)
    assert [index for row in rows for index in row] == indices
    for row in rows:
        assert 1 <= len(row) <= max_examples
        assert len(row) == 1 or sum(tokens[index] for index in row) <= max_tokens


@pytest.mark.parametrize("device", ["meta"])
def test_a_row_moves_whole(device):
    moved = lay_out([PAIR]).to(torch.device(device))
    assert {tensor.device.type for tensor in vars(moved).values() if isinstance(tensor, torch.Tensor)} == {device}
    assert moved.segments == lay_out([PAIR]).segments


def test_padding_follows_the_examples_and_is_no_part_of_them():
    row = lay_out([PAIR])
    padded = row.padded(12, pad_id=9)
    assert padded.input_ids.tolist() == [[1, 5, 6, 7, 2, 8, 9, 2, 9, 9, 9, 9]]
    assert padded.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 0, 0, 0]]
    assert (padded.segments, padded.predicting.tolist()) == (row.segments, row.predicting.tolist())


@pytest.mark.parametrize(
    ("tokens", "size"), [(1, 512), (512, 512), (513, 640), (2048, 2048), (2049, 2304), (4097, 4608), (9000, 9216)]
)
def test_rows_are_padded_to_multiples_of_128_and_eight_sizes_per_doubling(tokens, size):
    assert padded_size(tokens) == size


def test_rows_meet_few_sizes_and_little_padding():
    sizes = {tokens: padded_size(tokens) for tokens in range(512, 16385)}
    assert all(tokens <= size <= 1.25 * tokens and size % 128 == 0 for tokens, size in sizes.items())
    assert all(size <= 1.125 * tokens for tokens, size in sizes.items() if tokens >= 1024)
    assert len(set(sizes.values())) == 1 + 4 + 4 * 8
