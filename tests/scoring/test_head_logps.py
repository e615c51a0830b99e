"""The fused log-probabilities against log_softmax and autograd."""

from __future__ import annotations

import pytest
import torch

from scoring import head_logps
from scoring.head_logps import token_logps


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 8, generator=generator).to(dtype).requires_grad_()
    weight, bias = (torch.randn(size, generator=generator).to(dtype) for size in ((30, 8), (30,)))
    return hidden, weight, bias, torch.randint(0, 30, (50,), generator=generator)


@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_equal_log_softmax(monkeypatch, with_bias):
    monkeypatch.setattr(head_logps, "CHUNK_ELEMENTS", 30 * 17)  # three chunks, the last one short
    hidden, weight, bias, targets = inputs()
    upstream = torch.linspace(-1, 2, 50)
    mine = token_logps(hidden, weight, bias if with_bias else None, targets)
    (gradient,) = torch.autograd.grad(mine @ upstream, hidden)
    logits = torch.nn.functional.linear(hidden, weight, bias if with_bias else None)
    plain = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (expected,) = torch.autograd.grad(plain @ upstream, hidden)
    torch.testing.assert_close(mine, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=0)


def test_by_hand():
    # logits (0, ln 3): probabilities 1/4 and 3/4
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [1.0986123]])
    assert token_logps(hidden, weight, None, torch.tensor([1])).item() == pytest.approx(-0.2876821, abs=1e-6)


def test_logits_beyond_the_range_of_exp_stay_finite():
    hidden, weight = torch.tensor([[1000.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    logps = token_logps(hidden, weight, None, torch.tensor([1]))
    assert logps.item() == -2000
    logps.backward()
    assert hidden.grad is not None
    assert hidden.grad.item() == -2  # W[y] - W[the certain token]


def test_half_precision_keeps_its_dtype_and_sums_in_float32():
    hidden, weight, bias, targets = inputs(torch.bfloat16)
    logps = token_logps(hidden, weight, bias, targets)
    assert logps.dtype == torch.float32
    logps.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    exact = torch.nn.functional.linear(hidden.float(), weight.float(), bias.float()).log_softmax(-1)
    torch.testing.assert_close(logps, exact.gather(1, targets[:, None])[:, 0], atol=0.01, rtol=2**-7)


def test_without_a_gradient_none_is_computed():
    hidden, weight, _, targets = inputs()
    assert not token_logps(hidden.detach(), weight, None, targets).requires_grad
