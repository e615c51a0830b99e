"""Fuse LoRA (fused_lora.py) and other layers (fused_layers.py) if that equals the plain layers on the first examples.

Both ways are compared in training mode, with the same dropout masks and with adapters that are not zero: the
log-probabilities, and the gradients of all adapters. Nothing of the run is changed by the comparison.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from scoring.dropout_masks import DropoutMasks, Mask
from scoring.fused_layers import FusedLayers
from scoring.fused_lora import FusedLoRA, masks_for, watch_inputs

if TYPE_CHECKING:
    from peft import PeftModel

Score = Callable[[], tuple[torch.Tensor, torch.Tensor]]
Trial = tuple[torch.Tensor, dict[str, torch.Tensor]]  # log-probabilities per token, and gradients by name
# Largest difference of the log-probabilities, in nats per token, and of the gradients, as a share of their norm.
# Rounding explains a quarter of it; other masks of a dropout of 0.05 change a gradient by 0.3.
LOGP_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.1}
NOISE = 0.02  # standard deviation of what is added to the adapters for the comparison


def fuse(policy: PeftModel, score: Score, tokens: int) -> FusedLoRA | None:
    """Fuse layers of `policy` and print what was fused, and why not the rest.

    `score` returns the summed log-probabilities and the token counts of some completions, from one forward pass over at
    most `tokens` tokens. Returns the fused LoRA, whose masks must be drawn before each forward pass in training.
    """
    with torch.random.fork_rng([policy.device] if policy.device.type == "cuda" else []):
        with watch_inputs(policy) as groups, torch.no_grad():
            score()
        if not groups:
            return None
        with noisy_adapters(policy):
            with _shared_dropout(groups) as masks:
                plain = _trial(policy, score, masks, tokens)
            lora, layers = FusedLoRA(groups), FusedLayers(policy)
            reason = _obstacle(policy, score, lora.masks, tokens, plain)
            if reason:
                layers.restore()
                print(
                    f"warning: norms and activations are computed separately, which is slower: {reason}",
                    file=sys.stderr,
                )
                reason = _obstacle(policy, score, lora.masks, tokens, plain)
    policy.zero_grad()
    if reason is None:
        print("LoRA: layers that read the same input are one operation (checked against peft's layers)")
        return lora
    lora.restore()
    print(f"warning: LoRA is computed by peft, which is slower: {reason}", file=sys.stderr)
    return None


def _obstacle(policy: PeftModel, score: Score, masks: DropoutMasks, tokens: int, plain: Trial) -> str | None:
    """Return why the layers as they are now do not equal the plain ones, or None."""
    try:
        return _difference(_trial(policy, score, masks, tokens), plain, policy.dtype)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError, ValueError, KeyError) as error:
        return str(error).splitlines()[0]


@contextmanager
def noisy_adapters(policy: PeftModel) -> Iterator[None]:
    """Within the block, noise is added to all trained tensors; a fresh adapter is 0 and would show no difference."""
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    kept = [parameter.detach().clone() for parameter in trained]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for parameter in trained:
                parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=NOISE)
        yield
    finally:
        with torch.no_grad():
            for parameter, values in zip(trained, kept, strict=True):
                parameter.copy_(values)


class _SharedDropout(torch.nn.Module):
    """The dropout of one layer in peft's computation: the first layer on an input draws the mask of all of them."""

    def __init__(self, group: list[Mask], masks: DropoutMasks, is_first: bool, probability: float) -> None:
        super().__init__()
        self.group, self.masks, self.is_first, self.p = group, masks, is_first, probability

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_first:
            self.group[:] = [self.masks.window(x.numel())]
        return x * self.group[0].apply(torch.ones_like(x)) / (1 - self.p)


@contextmanager
def _shared_dropout(groups: Sequence[Sequence[Any]]) -> Iterator[DropoutMasks]:
    """Within the block peft's layers drop out as the fused ones do: one mask for each input."""
    masks, replaced = masks_for([layer for layers in groups for layer in layers]), []
    for layers in groups:
        group: list[Mask] = []
        for layer in layers:
            for name, dropout in layer.lora_dropout.items():
                if isinstance(dropout, torch.nn.Dropout) and dropout.training and dropout.p:
                    replaced.append((layer.lora_dropout, name, dropout))
                    layer.lora_dropout[name] = _SharedDropout(group, masks, layer is layers[0], dropout.p)
    try:
        yield masks
    finally:
        for modules, name, dropout in replaced:
            modules[name] = dropout


def _trial(policy: PeftModel, score: Score, masks: DropoutMasks, tokens: int) -> Trial:
    """Return the log-probability per token of each completion, and the gradients of their sum by name."""
    torch.manual_seed(0)
    policy.zero_grad()
    masks.draw(tokens)
    with torch.enable_grad():
        sums, counts = score()
        logps = sums / counts
        logps.sum().backward()
    gradients = {name: each.grad for name, each in policy.named_parameters() if each.grad is not None}
    return logps.detach(), {name: gradient.float().clone() for name, gradient in gradients.items()}


def _difference(found: Trial, expected: Trial, dtype: torch.dtype) -> str | None:
    """Return how log-probabilities or gradients differ, or None."""
    apart = (found[0] - expected[0]).abs().max().item()
    if not apart <= LOGP_TOLERANCE[dtype]:
        return f"fused and separate layers differ by {apart:.1e} nats per token"
    if found[1].keys() != expected[1].keys():
        return "fused and separate layers train other tensors"
    shares = [_share(found[1][name], gradient) for name, gradient in expected[1].items()]
    worst = max(shares, default=0.0)
    return None if worst <= GRADIENT_TOLERANCE[dtype] else f"a gradient of the fused layers differs by {worst:.0%}"


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference as a share of the norm of `expected`."""
    apart, norm = (found - expected).norm().item(), expected.norm().item()
    return apart / norm if norm else apart
