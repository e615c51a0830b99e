"""Drawn tokens compared with the probabilities that they are drawn from."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from language_model.sampler import Job, SamplingSettings
from language_model.stock_generation import Draw, pad_left
from language_model.token_draw import BLOCK, draw_tokens, inverse_transform, nucleus, uniform_numbers
from script_io.errors import RunError

SIZE = 2 * BLOCK + 40  # two blocks and a part of one


def random_logits(rows: int, size: int = SIZE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(rows, size, generator=generator).to(dtype)


def test_draws_follow_the_distribution_of_the_temperature() -> None:
    draws, temperature = 4000, 0.7
    logits = random_logits(1)
    expected = torch.softmax(logits[0].double() / temperature, dim=-1)
    uniform = uniform_numbers([Job(0, sample, "a prompt", 42) for sample in range(draws)], 1)[:, 0]
    chosen = draw_tokens(logits.repeat(draws, 1), uniform, SamplingSettings(temperature=temperature))
    counts = Counter(chosen.tolist())
    for token in expected.topk(10).indices.tolist():
        p = float(expected[token])
        assert abs(counts[token] / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5


@pytest.mark.parametrize("size", [5, BLOCK, SIZE])
def test_the_search_in_blocks_equals_a_float64_search_through_the_vocabulary(size: int) -> None:
    rows = 500
    uniform = uniform_numbers([Job(0, sample, "", 7) for sample in range(rows)], 1)[:, 0]
    probabilities = torch.softmax(random_logits(rows, size), dim=-1)
    cumulative = probabilities.double().cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    expected = torch.searchsorted(cumulative, target)[:, 0]
    found = inverse_transform(probabilities, uniform)
    # a number closer than float32 sums to the end of a token's share may take its neighbour
    distance = (cumulative - target).abs().amin(dim=-1)
    is_clear = distance > 1e-6
    assert is_clear.sum() > 0.95 * rows
    assert torch.equal(found[is_clear], expected[is_clear])


def test_a_token_takes_the_numbers_in_its_share_and_one_without_probability_none() -> None:
    uniform = torch.tensor([0.1999, 0.2001, 0.7001, 1.0, 1e-12, 1e-300], dtype=torch.float64)
    shares = torch.tensor([[0.0, 0.2, 0.0, 0.5, 0.3, 0.0]]).repeat(6, 1)
    assert inverse_transform(shares, uniform).tolist() == [1, 3, 4, 4, 1, 1]


def test_the_ends_of_every_block_have_a_probability() -> None:
    shares = torch.zeros(4, 3 * BLOCK)
    shares[:, [BLOCK + 3, 2 * BLOCK - 5]] = torch.tensor([1 / 3, 2 / 3])
    uniform = torch.tensor([1e-15, 0.3333, 0.3334, 1.0], dtype=torch.float64)
    assert inverse_transform(shares, uniform).tolist() == [BLOCK + 3, BLOCK + 3, 2 * BLOCK - 5, 2 * BLOCK - 5]


def test_greedy_and_top_k_1_take_the_best_token() -> None:
    logits = random_logits(20, dtype=torch.bfloat16)
    uniform = torch.full((20,), 0.99, dtype=torch.float64)
    best = logits.argmax(dim=-1)
    assert torch.equal(draw_tokens(logits, uniform, SamplingSettings(temperature=0)), best)
    only = random_logits(20)  # without ties, which bfloat16 has
    assert torch.equal(draw_tokens(only, uniform, SamplingSettings(temperature=5, top_k=1)), only.argmax(dim=-1))


def test_top_k_draws_from_the_k_best() -> None:
    rows = 300
    logits = random_logits(1).repeat(rows, 1)
    uniform = torch.linspace(0.001, 1, rows, dtype=torch.float64)
    chosen = draw_tokens(logits, uniform, SamplingSettings(temperature=3, top_k=4))
    assert set(chosen.tolist()) == set(logits[0].topk(4).indices.tolist())


def test_top_p_keeps_the_fewest_tokens_with_the_share() -> None:
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    assert nucleus(probabilities, 0.69)[0].tolist() == pytest.approx([0, 0.4, 0, 0.3])
    assert nucleus(probabilities, 0.71)[0].tolist() == pytest.approx([0, 0.4, 0.2, 0.3])
    assert nucleus(probabilities, 0.01)[0].tolist() == pytest.approx([0, 0.4, 0, 0])
    uniform = torch.linspace(0.001, 1, 100, dtype=torch.float64)
    chosen = draw_tokens(probabilities.log().repeat(100, 1), uniform, SamplingSettings(temperature=1, top_p=0.5))
    assert set(chosen.tolist()) == {1, 3}


def test_the_processor_for_generate_leaves_the_drawn_token_of_each_step() -> None:
    uniform = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    draw = Draw(uniform, 2, SamplingSettings(temperature=1.0))
    logits = torch.tensor([[0.5, 0.0, 0.5]]).log().repeat(2, 1)
    for step, expected in enumerate(([2, 0], [0, 2])):
        scores = draw(torch.zeros(2, 2 + step), logits)
        assert scores.argmax(dim=-1).tolist() == expected
        assert torch.isinf(scores).sum(dim=-1).tolist() == [2, 2]


def test_padding_is_on_the_left() -> None:
    ids, mask = pad_left([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("flags", [{"temperature": 0}, {}, {"top_k": 3}, {"top_p": 0.5}])
def test_logits_that_are_not_numbers_are_one_line(flags: dict[str, float]) -> None:
    logits, uniform = random_logits(3), torch.full((3,), 0.5, dtype=torch.float64)
    settings = SamplingSettings(**{"temperature": 0.7, **flags})  # type: ignore[arg-type]
    logits[0, :-1] = -torch.inf  # which a template of allowed tokens may leave
    draw_tokens(logits, uniform, settings)
    logits[1, 7] = torch.nan
    with pytest.raises(RunError, match=r"not numbers \(NaN\).* pass --dtype float32"):
        draw_tokens(logits, uniform, settings)
