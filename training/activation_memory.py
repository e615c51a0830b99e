"""Count what the forward pass of a training step keeps for its backward pass, from the shapes of the layers.

scoring/fused_lora.py, scoring/fused_layers.py and scoring/packed_attention.py define what is kept. Models and bases
that they do not know keep more.

Shapes: T tokens of the row, H heads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from scoring.dropout_masks import SPARE
from scoring.fused_layers import has_gated_silu
from scoring.packed_attention import block_size, query_blocks

if TYPE_CHECKING:
    from language_model.placement import Placement
    from scoring.packed_rows import PackedRow

# Layers that read the same input, by the names of Llama, Mistral, Qwen and Gemma; every other layer has its own
SHARED_INPUTS = (frozenset({"q_proj", "k_proj", "v_proj"}), frozenset({"gate_proj", "up_proj"}))


@dataclass(frozen=True)
class Adapters:
    """The LoRA adapters of a run: rank of the trained and of the frozen adapter, adapted layers, and dropout.

    `target_modules` is as peft stores it: names of layers, or one regular expression, which is counted as all layers.
    `other_trained` are trained parameters that are not LoRA matrices of decoder layers, such as whole modules.
    """

    trained_rank: int
    target_modules: str | Collection[str]
    frozen_rank: int = 0
    dropout: float = 0.0
    other_trained: int = 0

    def adapts(self, layer: str) -> bool:
        """Return whether the layer of this name (without its path) is adapted."""
        if isinstance(self.target_modules, str):
            return True
        return layer in {name.rsplit(".", 1)[-1] for name in self.target_modules}


def decoder_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the longest list of modules, which is the stack of decoder layers in every causal model."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len)


def linear_layers(layer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Return name -> (in, out) of the matrices of a layer."""
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in layer.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name.rsplit(".", 1)[-1]] = (module.in_features, module.out_features)
        elif _is_transposed(module):
            shapes[name.rsplit(".", 1)[-1]] = tuple(module.weight.shape)
    return shapes


def adapted_outputs(layers: Sequence[torch.nn.Module], adapters: Adapters) -> int:
    """Return the summed output width of the adapted layers."""
    shapes = [(name, out) for layer in layers for name, (_, out) in linear_layers(layer).items()]
    return sum(out for name, out in shapes if adapters.adapts(name))


def kept_bytes_per_token(layer: torch.nn.Module, adapters: Adapters, placement: Placement) -> int:
    """Count what one decoder layer keeps per token, without the probabilities of attention (`attention_bytes`).

    A frozen matrix keeps nothing of its input. The operation after it keeps its output: attention keeps queries, keys
    and values; a gated MLP keeps gate and up; the norms keep the residual sums. Other MLPs also keep the value of the
    activation, and other norms keep float32 sums in any dtype.
    """
    element = placement.dtype.itemsize
    shapes = linear_layers(layer)
    per_token = element * sum(out for _, out in shapes.values())
    is_fused = _has_fused_lora(layer, placement)
    if not (is_fused and any(map(has_gated_silu, layer.modules()))):
        per_token += element * max(out for _, out in shapes.values())
    if not (is_fused and any(hasattr(module, "variance_epsilon") for module in layer.modules())):
        per_token += 2 * (4 - element) * min(width for width, _ in shapes.values())
    return per_token + _adapter_bytes_per_token(shapes, adapters, placement, is_fused)


def attention_bytes(layer: Any, row: PackedRow, placement: Placement) -> int:
    """Count what attention keeps besides queries, keys and values.

    On CUDA, FlexAttention keeps its output and a float32 log-sum-exp per query and head, and recomputes the
    probabilities in the backward pass. Other devices keep the probabilities.
    """
    attention = next((m for m in layer.modules() if hasattr(m, "head_dim") and hasattr(m, "config")), None)
    if attention is None:
        return 0
    element, heads = placement.dtype.itemsize, attention.config.num_attention_heads
    if placement.device.type == "cuda":
        return row.input_ids.shape[1] * heads * (int(attention.head_dim) * element + 4)
    pairs = sum(
        (queries.stop - queries.start) * sum(part.stop - part.start for part in keys)
        for segment in row.segments
        for queries, keys in query_blocks(segment, block_size(placement.dtype))
    )
    return heads * pairs * element


def transient_bytes(layers: Sequence[torch.nn.Module], adapters: Adapters, tokens: int, element: int) -> int:
    """Count what one layer's forward or backward pass holds for a moment, and the dropout bits of the row.

    That is a few tensors of its widest matrix, and with dropout the window of bits and the dropped copy of the widest
    input of an adapter.
    """
    shapes = [(name, shape) for layer in layers for name, shape in linear_layers(layer).items()]
    widest = max(out for _, (_, out) in shapes)
    adapted = max((width for name, (width, _) in shapes if adapters.adapts(name)), default=0)
    dropped = adapted + adapted * (SPARE + 1) / SPARE if adapters.dropout else 0
    return round(tokens * element * (3 * widest + dropped))


def _is_transposed(module: Any) -> bool:
    """Return whether the module stores its matrix as GPT-2 does."""
    return type(module).__name__ == "Conv1D"


def _has_fused_lora(layer: torch.nn.Module, placement: Placement) -> bool:
    """Return whether scoring/fused_lora.py knows the matrices of the layer; peft computes the others."""
    return placement.quantisation != "8bit" and not any(map(_is_transposed, layer.modules()))


def _adapter_bytes_per_token(
    shapes: Mapping[str, tuple[int, int]], adapters: Adapters, placement: Placement, is_fused: bool
) -> int:
    """Count what the adapters of one layer keep of their inputs.

    Fused adapters on one input keep it once, and its product with each A. In peft's computation, adapters on one input
    share it in float32 without dropout. In half precision peft casts it to float32 for each adapter and autocast casts
    it back, so each keeps a copy. With dropout each keeps its masked input and the mask: one byte per element in CUDA's
    fused kernel, and a float32 factor elsewhere.
    """
    element = placement.dtype.itemsize
    widths = {name: width for name, (width, _) in shapes.items() if adapters.adapts(name)}
    inputs = {next((group for group in SHARED_INPUTS if name in group), name): widths[name] for name in widths}
    if is_fused:
        return element * (sum(inputs.values()) + len(widths) * (adapters.trained_rank + adapters.frozen_rank))
    if element == 4 and not adapters.dropout:
        return element * sum(inputs.values())
    mask = 0 if not adapters.dropout else 1 if placement.device.type == "cuda" else 4
    return (element + mask) * sum(widths.values())
