"""What a training run will need at its peak, worked out before the weights are loaded.

The model is built without memory (torch's meta device) from its configuration, so that every parameter and layer is
counted as it is. The sum: the weights; the adapters with gradients and AdamW's two moments; what autograd keeps of the
largest row; the buffers of the output head; and, where memory is the machine's own, what the process holds already.
benchmarks/memory_estimate.py measures it against real peaks.

Shapes: T tokens of the row, S bytes of an element, H heads.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from language_model.model_files import load_config
from scoring.head_logps import chunk_tokens
from scoring.packed_attention import block_size, query_blocks
from scoring.packed_rows import PackedRow, PromptCompletions, lay_out
from script_io.errors import InputError

if TYPE_CHECKING:
    from language_model.placement import Placement

TRAINED_BYTES = 16  # a trained parameter: float32 value, gradient and two moments
FROZEN_ADAPTER_BYTES = 4
# of a quantised parameter with its scales; 4-bit: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314), section 3
QUANTISED_BYTES = {"8bit": 1.0, "4bit": (4 + 0.127) / 8}
# Measured on Linux: what glibc's malloc leaves unused between the activations, as a part of them, and the libraries
# that training still loads after the estimate
CPU_FRAGMENTATION, CPU_LIBRARIES = 0.4, 100 * 2**20
# Measured: while a checkpointed layer is run backwards, what it keeps lies beside gradients of the same sizes
CHECKPOINTED_LAYER = 3
GIB = 2**30


@dataclass(frozen=True)
class Adapters:
    """The LoRA adapters of a run: ranks of the trained and of the frozen ones, and the names of adapted layers."""

    trained_rank: int
    target_modules: tuple[str, ...]
    frozen_rank: int = 0
    dropout: float = 0.0


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what holds them. `loading` is a file of weights in another dtype, which is gone before training."""

    process: int
    weights: int
    adapters: int
    activations: int
    head: int
    loading: int = 0

    @property
    def total(self) -> int:
        """The peak."""
        return self.process + self.weights + max(self.adapters + self.activations + self.head, self.loading)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in vars(self).items() if size)
        return f"{self.total / GIB:.2f} GiB ({parts})"


def estimate_memory(
    model: Any, placement: Placement, adapters: Adapters, row: PackedRow, *, checkpointing: bool
) -> MemoryEstimate:
    """The peak of training `model` (on the meta device, as `meta_model` builds it) with `row` as its largest row."""
    element = placement.dtype.itemsize
    layers = _decoder_layers(model)
    kept = [_kept_bytes(layer, adapters, row, placement) for layer in layers]
    passing = row.input_ids.shape[1] * model.get_input_embeddings().embedding_dim * element
    activations = sum(kept)
    if checkpointing:
        activations = min(activations, len(layers) * passing + CHECKPOINTED_LAYER * max(kept))
    on_cpu = placement.device.type == "cpu"
    return MemoryEstimate(
        process=_process_bytes() + CPU_LIBRARIES if on_cpu else 0,
        weights=_weight_bytes(model, placement),
        adapters=_adapter_bytes(layers, adapters),
        activations=round(activations * (1 + CPU_FRAGMENTATION * on_cpu)) + _transient_bytes(layers, row, element),
        head=_head_bytes(model, row, element),
        loading=_loading_bytes(model, placement) if on_cpu else 0,
    )


def meta_model(base_name: str, placement: Placement) -> Any:
    """The model's modules with shapes and without values."""
    from transformers import AutoModelForCausalLM

    config = load_config(base_name, placement.trust_remote_code)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=placement.trust_remote_code)


def _decoder_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of the longest list of modules, which is the stack of decoder layers in every causal model."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len)


def _linear_layers(layer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Name -> (in, out) of the matrices of a layer."""
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in layer.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name.rsplit(".", 1)[-1]] = (module.in_features, module.out_features)
        elif type(module).__name__ == "Conv1D":  # GPT-2's, the other way round
            shapes[name.rsplit(".", 1)[-1]] = tuple(module.weight.shape)
    return shapes


def _weight_bytes(model: Any, placement: Placement) -> int:
    """All parameters, tied ones once; quantised are the decoder layers' matrices and nothing else."""
    element = placement.dtype.itemsize
    total = sum(parameter.numel() for parameter in model.parameters()) * element
    quantisation = _quantisation(model, placement)
    if quantisation == "none":
        return total
    matrices = sum(i * o for layer in _decoder_layers(model) for i, o in _linear_layers(layer).values())
    return total - round(matrices * (element - QUANTISED_BYTES[quantisation]))


def _quantisation(model: Any, placement: Placement) -> str:
    """As asked for, else as the model is stored."""
    stored = getattr(model.config, "quantization_config", None) or {}
    stored = stored if isinstance(stored, dict) else stored.to_dict()
    found = next((bits for bits in QUANTISED_BYTES if stored.get(f"load_in_{bits}")), "none")
    return found if placement.quantisation == "none" else placement.quantisation


def _loading_bytes(model: Any, placement: Placement) -> int:
    """The largest of the model's files, which is mapped into memory while it is converted."""
    if placement.quantisation == "none" and model.config.dtype in (None, placement.dtype):
        return 0
    return max((file.stat().st_size for file in Path(model.config._name_or_path).glob("*.safetensors")), default=0)


def _adapter_bytes(layers: Sequence[torch.nn.Module], adapters: Adapters) -> int:
    sizes = sum(
        sum(shape)
        for layer in layers
        for name, shape in _linear_layers(layer).items()
        if name in adapters.target_modules
    )
    return sizes * (adapters.trained_rank * TRAINED_BYTES + adapters.frozen_rank * FROZEN_ADAPTER_BYTES)


def _kept_bytes(layer: torch.nn.Module, adapters: Adapters, row: PackedRow, placement: Placement) -> int:
    """What autograd keeps of one decoder layer until its backward pass.

    A frozen matrix keeps nothing of its input; what follows it keeps its output: attention its queries, keys and
    values, the gate its value and its activation, the norms the residual sums, in float32 whatever the dtype. An
    adapter keeps its layer's input, which adapters of one input share unless it is cast for each.
    """
    element = placement.dtype.itemsize
    shapes = _linear_layers(layer)
    widest = max(out for _, out in shapes.values())
    adapted = [shape[0] for name, shape in shapes.items() if name in adapters.target_modules]
    inputs = sum(set(adapted)) if element == 4 else sum(adapted)
    per_token = element * (sum(out for _, out in shapes.values()) + widest + inputs)
    if element == 2:
        per_token += 2 * (4 - element) * min(i for i, _ in shapes.values())
    return row.input_ids.shape[1] * per_token + _attention_bytes(layer, row, placement)


def _attention_bytes(layer: Any, row: PackedRow, placement: Placement) -> int:
    """Attention probabilities, which only FlexAttention computes anew in the backward pass."""
    if placement.device.type == "cuda":
        return 0
    attention = next((m for m in layer.modules() if hasattr(m, "head_dim") and hasattr(m, "config")), None)
    heads = getattr(getattr(attention, "config", None), "num_attention_heads", 0)
    pairs = sum(
        (queries.stop - queries.start) * sum(part.stop - part.start for part in keys)
        for segment in row.segments
        for queries, keys in query_blocks(segment, block_size(placement.dtype))
    )
    return heads * pairs * placement.dtype.itemsize


def _transient_bytes(layers: Sequence[torch.nn.Module], row: PackedRow, element: int) -> int:
    """What one layer's forward or backward pass holds for a moment: a few tensors of its widest matrix."""
    widest = max(out for layer in layers for _, out in _linear_layers(layer).values())
    return 3 * row.input_ids.shape[1] * widest * element


def _head_bytes(model: Any, row: PackedRow, element: int) -> int:
    """Logits of one chunk in float32, once more in half precision, and the gradient of the hidden states."""
    vocabulary, hidden = model.get_output_embeddings().weight.shape
    chunk = min(len(row.targets), chunk_tokens(vocabulary))
    buffers = 4 if element == 4 else 4 + 2 + 2
    return chunk * vocabulary * buffers + 2 * len(row.targets) * hidden * element


def _process_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


# ------------------------------------------------------------------------------------- what it is for


def largest_row(examples: Sequence[PromptCompletions], batch_size: int, row_tokens: int) -> PackedRow:
    """The fullest row that the longest examples can make."""
    row: list[PromptCompletions] = []
    room = row_tokens
    for example in sorted(examples, key=lambda example: -example.tokens):
        if len(row) < batch_size and (not row or example.tokens <= room):
            row.append(example)
            room -= example.tokens
    return lay_out(row)


def available_bytes(device: torch.device) -> int:
    """Memory that a run on `device` may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    import psutil

    return int(psutil.virtual_memory().available) + _process_bytes()


def fit_memory(
    args: argparse.Namespace,
    base_name: str,
    placement: Placement,
    adapters: Adapters,
    examples: Sequence[PromptCompletions],
    row_tokens: int,
) -> MemoryEstimate:
    """Says and returns what the run will need, turns checkpointing on for it, or refuses a run that cannot fit.

    Sets `args.gradient_checkpointing`. Raises InputError naming flags with which the run would fit.
    """
    model = meta_model(base_name, placement)
    available = available_bytes(placement.device)

    def estimate(batch_size: int, checkpointing: bool, where: Placement) -> MemoryEstimate:
        row = largest_row(examples, batch_size, row_tokens)
        return estimate_memory(model, where, adapters, row, checkpointing=checkpointing)

    needed = estimate(args.batch_size, args.gradient_checkpointing, placement)
    if needed.total > available and not args.gradient_checkpointing:
        with_checkpointing = estimate(args.batch_size, True, placement)
        if with_checkpointing.total <= available:
            args.gradient_checkpointing, needed = True, with_checkpointing
            print("Gradient checkpointing: on, since the run would not fit without it")
    print(f"Memory: about {needed} of {available / GIB:.2f} GiB that are free")
    if needed.total > available:
        smaller = _what_would_fit(args, placement, estimate, available)
        remedy = f"it would fit with {smaller}" if smaller else "use a smaller model or a larger machine"
        raise InputError(
            f"the run needs about {needed.total / GIB:.1f} GiB and {available / GIB:.1f} GiB are free; {remedy}"
        )
    return needed


def _what_would_fit(
    args: argparse.Namespace,
    placement: Placement,
    estimate: Callable[[int, bool, Placement], MemoryEstimate],
    available: int,
) -> str | None:
    """The first of some sets of flags, the cheapest first, under which the run would fit."""
    one = f"--batch_size 1 --gradient_accumulation_steps {args.batch_size * args.gradient_accumulation_steps}"
    options = [(one, 1, False, placement), (f"{one} --gradient_checkpointing", 1, True, placement)]
    for bits in ("8bit", "4bit"):
        if placement.quantisation == "none":
            quantised = replace(placement, quantisation=bits)
            options.append((f"--use_{bits} {one} --gradient_checkpointing", 1, True, quantised))
    fitting = (flags for flags, batch, ckpt, where in options if estimate(batch, ckpt, where).total <= available)
    return next(fitting, None)
