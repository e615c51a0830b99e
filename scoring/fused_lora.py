"""LoRA layers of peft computed in one autograd function for each input, for training.

    y = x W^T + b + s / (1 - p) (m * x) A^T B^T        m: mask of dropout with probability p, s: scaling

peft computes this in separate operations: every layer casts its input to float32, draws a mask, and keeps input, mask
and dropped input for the backward pass. Here the layers that read one input (query, key and value; gate and up) are one
function. It keeps the input once, in the dtype of the products, and (m * x) A^T. It adds the adapter to the output of
the base in place. The backward pass applies the mask again (dropout_masks.py).

The layers stay peft's: `FusedLoRA` sets `forward` on the instances and `restore` takes it away. Parameters, saved files
and everything else that peft does are unchanged. A layer in a state that the function does not know (merged or disabled
adapters, DoRA and other variants, different dropouts) is computed by peft in that call.

Shapes: T tokens, I and O input and output size of a layer, R sum of the ranks of all adapters on one input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer

from scoring.dropout_masks import DropoutMasks, Mask

Layers = Sequence[Any]  # LoraLayer, with the attributes of torch.nn.Module


class FusedLoRA:
    """Computes LoRA layers until `restore`; `groups` are lists of layers that read the same input, in order of call.

    Before each forward pass in training, `masks` must draw the dropout bits of its tokens.
    """

    def __init__(self, groups: Sequence[Layers]) -> None:
        self.layers = [layer for group in groups for layer in group]
        self.masks = masks_for(self.layers)
        for members in groups:
            group = _Group(members, self.masks)
            for layer in members:
                layer.forward = partial(group.forward, layer)

    def restore(self) -> None:
        """Let peft compute the layers again."""
        for layer in self.layers:
            layer.__dict__.pop("forward", None)


def masks_for(layers: Layers) -> DropoutMasks:
    """Return the source of the masks of these layers."""
    bases = [layer.get_base_layer() for layer in layers]
    probability = max((_dropout(layer) or 0.0 for layer in layers), default=0.0)
    widest = max(layer.in_features for layer in layers)
    return DropoutMasks(probability, widest, _compute_dtype(bases[0]), bases[0].weight.device)


@contextmanager
def watch_inputs(model: torch.nn.Module) -> Iterator[list[list[Any]]]:
    """Within the block, run one forward pass. Afterwards, the list holds the groups of layers that read one tensor."""
    groups: list[list[Any]] = []
    inputs: list[torch.Tensor] = []  # kept, so that no other tensor takes the place of one in memory

    def note(layer: Any, args: tuple[torch.Tensor, ...]) -> None:
        known = next((number for number, tensor in enumerate(inputs) if tensor is args[0]), None)
        if known is None:
            inputs.append(args[0])
            groups.append([layer])
        else:
            groups[known].append(layer)

    layers = [module for module in model.modules() if isinstance(module, LoraLayer) and _is_known(module)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield groups
    finally:
        for hook in hooks:
            hook.remove()
    called = [id(layer) for group in groups for layer in group]
    if len(set(called)) < len(called):  # a layer that runs twice in one forward pass
        groups[:] = [[layer] for layer in layers]


# -------------------------------------------------------------------------------- what a layer computes


def _is_known(layer: Any) -> bool:
    """Return whether the base is a linear layer, dense or in 4-bit, whose weight has the shape (O, I)."""
    base = layer.get_base_layer()
    dense = type(base) is torch.nn.Linear and not getattr(layer, "fan_in_fan_out", False)
    return dense or (type(base).__name__ == "Linear4bit" and getattr(base.weight, "quant_state", None) is not None)


def _compute_dtype(base: Any) -> torch.dtype:
    """Return the dtype of the products."""
    dtype: torch.dtype = base.weight.dtype if base.weight.dtype.is_floating_point else base.compute_dtype
    return dtype


def _weight(base: Any) -> torch.Tensor:
    """Return the weight in the dtype of the products, (O, I); a 4-bit weight is dequantised."""
    if base.weight.dtype.is_floating_point:
        weight: torch.Tensor = base.weight
        return weight
    from bitsandbytes.functional import dequantize_4bit

    dequantised = dequantize_4bit(base.weight.data.view(-1, 1), base.weight.quant_state)
    return dequantised.to(_compute_dtype(base))


def _active(layer: Any) -> list[str]:
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _dropout(layer: Any) -> float | None:
    """Return the dropout of the active adapters in this mode, or None if they differ."""
    modules = [layer.lora_dropout[name] for name in _active(layer)]
    found = {module.p if isinstance(module, torch.nn.Dropout) and module.training else 0.0 for module in modules}
    return found.pop() if len(found) == 1 else None


def _is_plain(layer: Any) -> bool:
    """Return whether the layer adds plain LoRA to its base in this call."""
    names = _active(layer)
    is_off = layer.disable_adapters or layer.merged or not names
    is_special = any(name in layer.lora_variant or layer.lora_bias.get(name) for name in names)
    return not is_off and not is_special


class _Group:
    """The layers that read one input. The first that is called computes all; the others return their share."""

    def __init__(self, layers: Layers, masks: DropoutMasks) -> None:
        self.layers, self.masks = list(layers), masks
        self._input: torch.Tensor | None = None
        self._outputs: dict[int, torch.Tensor] = {}
        self._products: dict[tuple[int, ...], _Products] = {}

    def forward(self, layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the output of one of the layers, (..., O), for x (..., I)."""
        if x is self._input and id(layer) in self._outputs:
            return self._take(layer)
        self._input, self._outputs = None, {}
        members = self.layers if layer is self.layers[0] else [layer]
        if args or kwargs or not self._is_known(members):
            result: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
            return result
        outputs = self._compute(members, x)
        self._input, self._outputs = x, {id(member): y for member, y in zip(members, outputs, strict=True)}
        return self._take(layer)

    def _is_known(self, members: Layers) -> bool:
        dropouts = {_dropout(layer) for layer in members}
        return all(map(_is_plain, members)) and len(dropouts) == 1 and dropouts <= {0.0, self.masks.probability}

    def _take(self, layer: Any) -> torch.Tensor:
        output = self._outputs.pop(id(layer))
        if not self._outputs:
            self._input = None
        return output

    def _compute(self, members: Layers, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        probability = _dropout(members[0]) or 0.0
        mask = self.masks.window(x.numel()) if probability else None
        down = [layer.lora_A[name].weight for layer in members for name in _active(layer)]
        up = [layer.lora_B[name].weight for layer in members for name in _active(layer)]
        products = self._cast(members, [*down, *up])
        outputs: tuple[torch.Tensor, ...] = _LoRAProducts.apply(x, products, mask, 1 / (1 - probability), *down, *up)
        return outputs

    def _cast(self, members: Layers, parameters: Sequence[torch.Tensor]) -> _Products:
        """Return the adapters in the dtype of the products; they are cast again only after an optimiser step."""
        key = tuple(number for tensor in parameters for number in (tensor.data_ptr(), tensor._version))
        if key not in self._products:
            self._products = {key: _Products.of(members)}
        return self._products[key]


class _Adapter(NamedTuple):
    """An adapter of a layer: number of the layer, its part of R, and its scaling."""

    layer: int
    part: slice
    scaling: float


@dataclass(frozen=True)
class _Products:
    """The matrices of the layers on one input, the adapters in the dtype of the products."""

    bases: tuple[Any, ...]
    down: torch.Tensor  # A of all adapters, (R, I)
    up: tuple[torch.Tensor, ...]  # per layer, B of its adapters times their scaling, (O, its part of R)
    parts: tuple[slice, ...]  # per layer, its part of R
    adapters: tuple[_Adapter, ...]

    @classmethod
    def of(cls, layers: Layers) -> _Products:
        bases = tuple(layer.get_base_layer() for layer in layers)
        dtype = _compute_dtype(bases[0])
        down: list[torch.Tensor] = []
        up, parts, adapters, rank = [], [], [], 0
        for number, layer in enumerate(layers):
            names, start = _active(layer), rank
            for name in names:
                down.append(layer.lora_A[name].weight.detach())
                adapters.append(_Adapter(number, slice(rank, rank + len(down[-1])), layer.scaling[name]))
                rank += len(down[-1])
            scaled = [layer.lora_B[name].weight.detach() * layer.scaling[name] for name in names]
            up.append(torch.cat(scaled, dim=1).to(dtype))
            parts.append(slice(start, rank))
        return cls(bases, torch.cat(down).to(dtype), tuple(up), tuple(parts), tuple(adapters))


class _LoRAProducts(torch.autograd.Function):
    """(x, A and B of all adapters) -> the outputs of all layers on x. Base weights and biases are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        products: _Products,
        mask: Mask | None,
        rescale: float,
        *parameters: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        dtype = products.down.dtype
        flat = x.reshape(-1, x.shape[-1]).to(dtype)  # (T, I)
        low = (mask.apply(flat) if mask else flat) @ products.down.t()  # (T, R)
        outputs = []
        for base, up, part in zip(products.bases, products.up, products.parts, strict=True):
            bias = None if base.bias is None else base.bias.to(dtype)
            y = torch.nn.functional.linear(flat, _weight(base), bias)
            outputs.append(y.addmm_(low[:, part], up.t(), alpha=rescale).view(*x.shape[:-1], -1))
        ctx.save_for_backward(flat, low)
        ctx.products, ctx.mask, ctx.rescale = products, mask, rescale
        ctx.input_shape, ctx.input_dtype = x.shape, x.dtype
        ctx.dtypes = [parameter.dtype for parameter in parameters]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, low = ctx.saved_tensors
        products: _Products = ctx.products
        grads = [grad.reshape(-1, grad.shape[-1]).to(flat.dtype) for grad in grad_outputs]  # (T, O)
        needed = ctx.needs_input_grad
        grad_low = torch.empty_like(low)
        grad_x: torch.Tensor | None = None
        for grad, base, up, part in zip(grads, products.bases, products.up, products.parts, strict=True):
            torch.mm(grad, up, out=grad_low[:, part])
            if needed[0]:
                weight = _weight(base)
                grad_x = grad @ weight if grad_x is None else grad_x.addmm_(grad, weight)
        grad_low *= ctx.rescale
        if grad_x is not None:
            _add_adapter_gradient(grad_x, grad_low, products.down, ctx.mask)
            grad_x = grad_x.to(ctx.input_dtype).view(ctx.input_shape)
        parameter_grads = _parameter_gradients(ctx, grads, grad_low, flat, low)
        return grad_x, None, None, None, *parameter_grads


def _add_adapter_gradient(grad_x: torch.Tensor, grad_low: torch.Tensor, down: torch.Tensor, mask: Mask | None) -> None:
    if mask:
        grad_x += mask.apply(grad_low @ down)
    else:
        grad_x.addmm_(grad_low, down)


def _parameter_gradients(
    ctx: Any, grads: Sequence[torch.Tensor], grad_low: torch.Tensor, flat: torch.Tensor, low: torch.Tensor
) -> list[torch.Tensor | None]:
    """Return the gradients of A, (rank, I), and of B, (O, rank), of all adapters; None for frozen ones."""
    products: _Products = ctx.products
    count = len(products.adapters)
    needed = ctx.needs_input_grad[-2 * count :]
    down: list[torch.Tensor | None] = [None] * count
    up: list[torch.Tensor | None] = [None] * count
    if any(needed[:count]):
        all_down = grad_low.t() @ (ctx.mask.apply(flat) if ctx.mask else flat)
        down = [all_down[adapter.part] for adapter in products.adapters]
    for number, adapter in enumerate(products.adapters):
        if needed[count + number]:
            grad = grads[adapter.layer].t() @ low[:, adapter.part]
            up[number] = grad.to(ctx.dtypes[count + number]).mul_(ctx.rescale * adapter.scaling)
    return [
        grad.to(dtype) if grad is not None and need else None
        for grad, need, dtype in zip([*down, *up], needed, ctx.dtypes, strict=True)
    ]
