"""FlexAttention over packed rows: its masks and blocks against a dense mask, its values, and its one compilation."""

from __future__ import annotations

import random

import pytest
import torch
from tiny_models import build_tiny_model
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import flex_attention
from training_helpers import CPU, LINEAR

from language_model.adapters import add_lora
from language_model.loading import load_base_model, load_tokenizer
from scoring import packed_attention
from scoring.block_masks import BLOCK, block_mask, mask_rule, visible_keys
from scoring.completion_scorer import CompletionScorer
from scoring.packed_rows import PackedRow, PromptCompletions, lay_out, padded_size

SHORT = [
    PromptCompletions(list(range(3, 14)), ([4, 5, 2], [6, 2])),
    PromptCompletions([3], ([4, 2],)),
    PromptCompletions([7, 8, 9], ([3, 2], [4, 5, 6, 2])),
]
WINDOWS = [None, 4, 150]


def row_of(pairs: int, seed: int = 0) -> PackedRow:
    """Pairs longer than a block, with padding after them."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(3, 90) for _ in range(rng.randint(low, high))]

    row = lay_out(PromptCompletions(ids(90, 300), (ids(20, 160), ids(20, 160))) for _ in range(pairs))
    return row.padded(padded_size(row.input_ids.shape[1]), pad_id=0)


def dense_mask(row: PackedRow, window: int | None) -> torch.Tensor:
    """(T, T) bool, from the definition: own example, the prompt or the own completion, not ahead, within the window."""
    keys: list[tuple[int, int, int]] = []
    for number, segment in enumerate(row.segments):
        for branch, length in enumerate((segment.prompt_tokens, *segment.completion_tokens)):
            start = segment.prompt_tokens if branch else 0
            keys += [(number, branch, start + i) for i in range(length)]
    tokens = row.input_ids.shape[1]
    keys += [(-1 - i, 0, 0) for i in range(tokens - len(keys))]  # each token of padding is alone
    example, branch, position = torch.tensor(keys).T
    own = (example[:, None] == example) & ((branch == 0) | (branch[:, None] == branch))
    distance = position[:, None] - position
    return own & (distance >= 0) & (distance < (window or tokens))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("row", [lay_out(SHORT), lay_out(SHORT).padded(40, 0), row_of(3)], ids=["short", "pad", "long"])
def test_the_rule_of_the_blocks_is_the_dense_mask(row, window):
    tokens = torch.arange(row.input_ids.shape[1])
    seen = mask_rule(visible_keys(row, window))(0, 0, tokens[:, None], tokens[None, :])
    assert torch.equal(seen, dense_mask(row, window))


@pytest.mark.parametrize("window", WINDOWS)
def test_blocks_are_absent_partial_or_whole_as_in_the_dense_mask(window):
    row = row_of(3)
    mask = block_mask(visible_keys(row, window))
    count = row.input_ids.shape[1] // BLOCK
    tiles = dense_mask(row, window).view(count, BLOCK, count, BLOCK).transpose(1, 2).flatten(2)
    whole = tiles.all(-1)
    for numbers, indices, expected in (
        (mask.full_kv_num_blocks, mask.full_kv_indices, whole),
        (mask.kv_num_blocks, mask.kv_indices, tiles.any(-1) & ~whole),
    ):
        listed = [sorted(row[:n].tolist()) for row, n in zip(indices[0, 0], numbers[0, 0].tolist(), strict=True)]
        assert listed == [each.nonzero()[:, 0].tolist() for each in expected]
    assert mask.shape == (1, 1, count * BLOCK, count * BLOCK)
    assert whole.any() or window is not None  # the example has blocks of every kind


def inputs_of(row: PackedRow) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, heads, row.input_ids.shape[1], 16, generator=generator) for heads in (4, 2, 2)]


def dense_attention(query, key, value, mask):
    key, value = (tensor.repeat_interleave(2, dim=1) for tensor in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)


@pytest.fixture
def compilations(monkeypatch):
    """FlexAttention traced as for CUDA, but run by PyTorch's eager implementation; counts the programs."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(flex_attention, dynamic=True, backend=counter)
    monkeypatch.setattr(packed_attention, "compiled_flex", lambda: compiled)
    yield counter
    torch._dynamo.reset()


def test_one_program_computes_rows_of_all_sizes_with_and_without_a_window(compilations):
    sizes = set()
    for pairs, window in ((3, None), (1, 150), (2, 4), (5, None), (4, 100)):
        row = row_of(pairs, seed=pairs)
        sizes.add(row.input_ids.shape[1])
        inputs = inputs_of(row)
        with torch.no_grad():
            found = packed_attention._flex(*inputs, row, 0.3, window)
        torch.testing.assert_close(found, dense_attention(*inputs, dense_mask(row, window)), atol=1e-5, rtol=0)
    assert len(sizes) == 5
    assert compilations.frame_count == 1


def test_padding_changes_nothing_of_the_examples(compilations):
    row = row_of(2)
    real = sum(segment.prompt_tokens + sum(segment.completion_tokens) for segment in row.segments)
    assert real < row.input_ids.shape[1]
    inputs = inputs_of(row)
    other = [tensor.clone() for tensor in inputs]
    for tensor in other:
        tensor[:, :, real:] = 9.0
    with torch.no_grad():
        first, second = (packed_attention._flex(*each, row, 0.3, None)[:, :, :real] for each in (inputs, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])  # all layers with a window; one with, one without
def test_a_model_scores_the_same_through_it(architecture, compilations, monkeypatch, tmp_path):
    base = load_base_model(build_tiny_model(tmp_path, architecture), CPU, load_tokenizer(tmp_path))
    scorer = CompletionScorer(add_lora(base, 4, 8, 0.0, LINEAR), pad_id=0).eval()
    rng = random.Random(0)
    pairs = [
        PromptCompletions(ids[:40], (ids[40:70], ids[70:]))
        for ids in ([rng.randrange(6, 250) for _ in range(90)] for _ in range(4))
    ]
    scorer.choose(pairs)
    assert scorer.is_packed
    with torch.no_grad():
        expected = scorer(pairs)[0]
        scorer.pads_rows = True
        monkeypatch.setattr(packed_attention, "_by_segments", lambda *call: packed_attention._flex(*call[:-1]))
        found = scorer(pairs)[0]
    assert compilations.frame_count > 0
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
