"""Log-probabilities of target tokens from hidden states, without keeping a (tokens, vocabulary) tensor.

For a frozen output head only. Its gradient is never needed, so the forward pass computes the gradient with respect to
the hidden states, W[y] - softmax(h W^T) W, and the backward pass scales it. That takes two matrix products instead of
autograd's three, and a buffer of one chunk. Source: the fused linear cross-entropy of Liger Kernel (Hsu et al. 2024,
arXiv:2410.10989), here for a frozen weight.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK_ELEMENTS = 8 * 2**20  # elements of a (chunk, V) buffer: 32 MiB in float32


def chunk_tokens(vocabulary: int) -> int:
    """Return the number of tokens whose logits are computed at once."""
    return max(16, CHUNK_ELEMENTS // vocabulary)


def token_logps(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Return log softmax(hidden W^T + b)[target] of each token, (N,) float32, differentiable in `hidden` only.

    Args:
        hidden: (N, D), any floating dtype; the products are computed in the dtype of `weight`.
        weight, bias: (V, D) and (V,) or None, frozen.
        targets: (N,) long.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        result: torch.Tensor = _TokenLogps.apply(hidden.to(weight.dtype), weight, bias, targets)
    return result


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        chunk = chunk_tokens(len(weight))
        for first in range(0, len(hidden), chunk):
            part = slice(first, first + chunk)
            logits = torch.nn.functional.linear(hidden[part], weight, bias).float()  # (chunk, V)
            target_logits = logits.gather(1, targets[part, None])[:, 0]
            highest = logits.amax(dim=1, keepdim=True)
            exponentials = logits.sub_(highest).exp_()
            total = exponentials.sum(dim=1, keepdim=True)
            logps[part] = target_logits - highest[:, 0] - total[:, 0].log()
            if gradient is not None:
                expected = (exponentials.to(weight.dtype) @ weight).float() / total  # softmax(logits) W
                gradient[part] = (weight[targets[part]].float() - expected).to(hidden.dtype)
        ctx.save_for_backward(gradient)
        return logps

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient.float() * upstream[0][:, None]).to(gradient.dtype), None, None, None
