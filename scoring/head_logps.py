"""Log-probabilities of chosen tokens straight from hidden states, with no (tokens, vocabulary) tensor kept.

Only for a frozen output head: its gradient is never needed, so the gradient with respect to the hidden states,
W[y] - softmax(h W^T) W, is ready in the forward pass and merely scaled in the backward one: two matrix products where
autograd needs three, and a buffer of one chunk. The idea is that of Liger Kernel's fused linear cross-entropy (Hsu et
al. 2024, arXiv:2410.10989) for a frozen weight.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK_ELEMENTS = 8 * 2**20  # of a (chunk, V) buffer: 32 MiB in float32


def chunk_tokens(vocabulary: int) -> int:
    """How many tokens' logits are computed at once."""
    return max(16, CHUNK_ELEMENTS // vocabulary)


def token_logps(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """log softmax(hidden W^T + b)[target] of each token, (N,) float32, differentiable in `hidden` alone.

    Args:
        hidden: (N, D), of any floating dtype; the products are computed in the dtype of `weight`.
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
            chosen = logits.gather(1, targets[part, None])[:, 0]
            highest = logits.amax(dim=1, keepdim=True)
            exponentials = logits.sub_(highest).exp_()
            total = exponentials.sum(dim=1, keepdim=True)
            logps[part] = chosen - highest[:, 0] - total[:, 0].log()
            if gradient is not None:
                expected = (exponentials.to(weight.dtype) @ weight).float() / total  # softmax(logits) W
                gradient[part] = (weight[targets[part]].float() - expected).to(hidden.dtype)
        ctx.save_for_backward(gradient)
        return logps

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient.float() * upstream[0][:, None]).to(gradient.dtype), None, None, None
