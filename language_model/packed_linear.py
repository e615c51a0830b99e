"""Linear layers with weights in the block layout of oneDNN, for products with few rows on a CPU.

A product of a few dozen rows spends a large part of its time on reordering the weights. Here that is done once. The
results equal the plain layers up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

TYPICAL_ROWS = 64  # the layout is chosen for this number of rows; it works for any
# The layout is a second copy of the weights. Larger models keep the plain layers: their products are less often of few
# rows, and memory is scarcer.
LARGEST_COPY = 2 * 2**30  # bytes
_DTYPES = (torch.float32, torch.bfloat16)

Forward = Callable[[torch.Tensor], torch.Tensor]


class PackedLinears:
    """The linear layers of a model on a CPU, with a second copy of their weights as they are now.

    There are no layers on other devices, for quantised weights, where torch was built without oneDNN, and for bfloat16
    on a processor without instructions for it.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        linears = [module for module in model.modules() if type(module) is torch.nn.Linear and _is_packable(module)]
        is_small = sum(linear.weight.nbytes for linear in linears) <= LARGEST_COPY
        self._forwards = [(linear, _packed_forward(linear)) for linear in linears] if is_small else []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block, the layers compute with the packed weights."""
        for linear, forward in self._forwards:
            linear.__dict__["forward"] = forward  # `setattr` of a module is slow, and this runs once a token
        try:
            yield
        finally:
            for linear, _ in self._forwards:
                linear.__dict__.pop("forward", None)


def _is_packable(linear: torch.nn.Linear) -> bool:
    weight = linear.weight
    return (
        weight.device.type == "cpu"
        and weight.dtype in _DTYPES
        and torch.backends.mkldnn.is_available()
        and _can_multiply(weight.dtype)
        and "forward" not in linear.__dict__  # another library has changed this layer
    )


def _can_multiply(dtype: torch.dtype) -> bool:
    """Return whether oneDNN has products of this type on this processor; without AVX-512 there are none of bfloat16."""
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed_forward(linear: torch.nn.Linear) -> Forward:
    """Return the forward of a layer with packed weights; torch.compile uses the same operators for frozen models."""
    operators: Any = torch.ops.mkldnn
    weight = operators._reorder_linear_weight(linear.weight.detach(), TYPICAL_ROWS)
    bias = None if linear.bias is None else linear.bias.detach()

    def forward(rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = operators._linear_pointwise(rows, weight, bias, "none", [], "")
        return result

    return forward
