"""Merge the adapted layers of a policy for one forward pass, so that no second model is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from language_model.model_files import first_line
from script_io.errors import InputError


def merge_obstacle(policy: PeftModel) -> str | None:
    """Return why merging cannot be tried on the model as it is loaded, or None."""
    special = any(_is_quantised(layer) and layer.lora_variant for layer in _adapted(policy))
    return "DoRA on a quantised base" if special else None


def _is_quantised(layer: Any) -> bool:
    return not layer.get_base_layer().weight.is_floating_point()


class _WithMatrix(torch.nn.Module):
    """A quantised layer with its adapter as one matrix (O, I): x W^T + x D^T.

    Rounding the sum of both to 4 or 8 bits would show the error of the quantisation, and no run or export does it.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.base, self.delta = layer.get_base_layer(), sum(map(layer.get_delta_weight, _active(layer)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(x)
        return output + torch.nn.functional.linear(x, self.delta.to(x.dtype))


def _active(layer: Any) -> list[str]:
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _adapted(policy: PeftModel) -> list[Any]:
    return [module for module in policy.modules() if isinstance(module, LoraLayer)]


@contextmanager
def merged_layers(policy: PeftModel) -> Iterator[None]:
    """Within the block, each adapted layer is merged while it computes, and its base has its own weights again after.

    peft merges into a copy of the weight (`safe_merge`), so one weight is in memory twice.
    """
    kept: dict[int, Any] = {}  # weight of a layer, or its quantised base

    def merge(layer: Any, _: Any) -> None:
        if _is_quantised(layer):
            kept[id(layer)] = layer.base_layer
            layer.base_layer = _WithMatrix(layer)
            layer.merged_adapters += _active(layer)
        else:
            kept[id(layer)] = layer.get_base_layer().weight.data
            layer.merge(safe_merge=True)

    def restore(layer: Any, _: Any, __: Any) -> None:
        if isinstance(layer.base_layer, _WithMatrix):
            layer.base_layer = kept.pop(id(layer))
        else:
            layer.get_base_layer().weight.data = kept.pop(id(layer))
        layer.merged_adapters.clear()

    layers = _adapted(policy)
    hooks = [layer.register_forward_pre_hook(merge) for layer in layers]
    hooks += [layer.register_forward_hook(restore) for layer in layers]
    try:
        yield
    except (NotImplementedError, AttributeError, ValueError) as error:
        raise InputError(f"peft cannot merge this adapter ({first_line(error)}); use plain LoRA flags") from error
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            if id(layer) in kept:
                restore(layer, None, None)
