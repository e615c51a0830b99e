"""RMSNorm and the gated activation of an MLP as autograd functions that keep little for the backward pass.

    RMSNorm   w * x / rms(x)        kept: x in its own dtype and one number per token; autograd keeps two float32 copies
    gate      act(g) * u            kept: g and u; autograd keeps act(g) as well

`FusedLayers` sets `forward` on the instances of a decoder that have the form of Llama's layers, and `restore` takes it
away. Whether that is the form of a model is checked on the first batch of a run (fused_check.py).

RMSNorm: Zhang and Sennrich 2019, arXiv:1910.07467. Gated activations: Shazeer 2020, arXiv:2002.05202.

Shapes: T tokens, C hidden size, I inner size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

MLP_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


class FusedLayers:
    """Computes the norms with frozen weights and the gated MLPs of `model` until `restore`."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._modules: list[torch.nn.Module] = []
        for module in model.modules():
            if _is_rms_norm(module):
                self._replace(module, _rms_norm)
            elif _is_gated_mlp(module):
                self._replace(module, _gated_mlp)

    def _replace(self, module: Any, forward: Any) -> None:
        module.forward = partial(forward, module)
        self._modules.append(module)

    def restore(self) -> None:
        """Let the modules compute as they are."""
        for module in self._modules:
            module.__dict__.pop("forward", None)


def _is_rms_norm(module: Any) -> bool:
    """Return whether the module has the form of Llama's RMSNorm; Gemma's adds 1 to its weight and names its eps."""
    has_parts = type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")
    return has_parts and not module.weight.requires_grad


def _is_gated_mlp(module: Any) -> bool:
    return all(hasattr(module, part) for part in MLP_PARTS)


def has_gated_silu(module: Any) -> bool:
    """Return whether the module is an MLP that is computed without keeping silu(gate)."""
    return _is_gated_mlp(module) and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")


def _rms_norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = _RMSNorm.apply(x, module.weight, module.variance_epsilon)
    return normed


def _gated_mlp(module: Any, x: torch.Tensor) -> torch.Tensor:
    gate, up = module.gate_proj(x), module.up_proj(x)
    inner = _GatedSiLU.apply(gate, up) if has_gated_silu(module) else module.act_fn(gate) * up
    result: torch.Tensor = module.down_proj(inner)
    return result


class _RMSNorm(torch.autograd.Function):
    """x (..., C), weight (C,) -> (..., C) in the dtype of x; sums in float32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        precise = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, inverse, weight)
        return (x * inverse).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, inverse, weight = ctx.saved_tensors
        grad = (grad_outputs[0] * weight).to(inverse.dtype)
        along = (grad * x).sum(dim=-1, keepdim=True).mul_(inverse.square()).div_(x.shape[-1])  # (..., 1)
        return torch.addcmul(grad, x.to(grad.dtype), along, value=-1).mul_(inverse).to(x.dtype), None, None


class _GatedSiLU(torch.autograd.Function):
    """gate and up, both (..., I) -> silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        (grad,) = grad_outputs
        grad_up = torch.nn.functional.silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), grad_up
