"""Estimate peak memory before loading any weights.

The model is built from its configuration on torch's meta device, without memory, so every parameter and layer is
counted. The estimate is the sum of the weights; the adapters with gradients and AdamW's two moments; what autograd
keeps of the largest row (activation_memory.py); the buffers of the output head; and, on a CPU, what the process already
holds and what its libraries allocate. benchmarks/memory_estimate.py compares it with measured peaks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from language_model.model_files import load_config, loading_error
from scoring.head_logps import chunk_tokens
from scoring.packed_rows import PackedRow, PromptCompletions, lay_out, padded_size
from script_io.errors import InputError
from training.activation_memory import (
    Adapters,
    adapted_outputs,
    attention_bytes,
    decoder_layers,
    kept_bytes_per_token,
    linear_layers,
    transient_bytes,
)

if TYPE_CHECKING:
    from language_model.placement import Placement
    from training.batch_plan import BatchPlan

TRAINED_BYTES = 16  # per trained parameter: float32 value, gradient and two moments
FROZEN_ADAPTER_BYTES = 4
# bytes per quantised parameter with its scales; 4-bit: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314), section 3
QUANTISED_BYTES = {"8bit": 1.0, "4bit": (4 + 0.127) / 8}
# Measured on Linux, with glibc's malloc: the share of the activations that lies unused between them; the share of the
# outputs of adapted layers that stays allocated although checkpointing has freed them; and the libraries that training
# loads after the estimate
CPU_FRAGMENTATION = {4: 0.35, 2: 0.5}  # by the bytes of an element
CPU_LEFTOVERS, CPU_LIBRARIES = 0.3, 80 * 2**20
# In half precision torch compiles a product for each shape, and keeps the last LRU_CACHE_CAPACITY of them (an
# environment variable of torch; the default is 1024). Their size was measured with AVX-512.
COMPILED_PRODUCT_BYTES, COMPILED_PRODUCTS = 0.44 * 2**20, 1024
# Under checkpointing, the backward pass of a layer needs what the layer keeps and gradients of the same sizes
CHECKPOINTED_LAYERS = 2
GIB = 2**30


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes per part. `loading` is a file of weights in another dtype, which is released before training."""

    process: int
    weights: int
    adapters: int
    activations: int
    head: int
    libraries: int = 0
    loading: int = 0

    @property
    def total(self) -> int:
        """Return the peak."""
        training = self.libraries + self.adapters + self.activations + self.head
        return self.process + self.weights + max(training, self.loading)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in vars(self).items() if size)
        return f"{self.total / GIB:.2f} GiB ({parts})"


def estimate_memory(
    model: Any, placement: Placement, adapters: Adapters, row: PackedRow, *, checkpointing: bool, shards: int = 1
) -> MemoryEstimate:
    """Estimate the peak of training `model`, built by `meta_model`, with `row` as its largest row.

    `shards` is the number of processes that the base is split over.
    """
    element, on_cpu = placement.dtype.itemsize, placement.device.type == "cpu"
    fragmentation = 1 + CPU_FRAGMENTATION[element] if on_cpu else 1.0
    loading = _loading_bytes(model, placement) if on_cpu else 0
    placement = replace(placement, quantisation=_quantisation(model, placement))
    if placement.device.type == "cuda":
        row = row.padded(padded_size(row.input_ids.shape[1]), pad_id=0)
    layers, tokens = decoder_layers(model), row.input_ids.shape[1]
    kept = [
        tokens * kept_bytes_per_token(layer, adapters, placement) * fragmentation
        + attention_bytes(layer, row, placement)  # few large blocks, which leave no gaps
        for layer in layers
    ]
    activations = sum(kept)
    if checkpointing:
        passed_on = len(layers) * tokens * model.get_input_embeddings().embedding_dim * element * fragmentation
        leftovers = CPU_LEFTOVERS * tokens * element * adapted_outputs(layers, adapters) if on_cpu else 0
        activations = min(activations, passed_on + CHECKPOINTED_LAYERS * max(kept) + leftovers)
    whole = _weight_bytes(model, placement)
    weights = _split_bytes(model, whole, element, shards)
    if on_cpu:
        loading = max(loading, whole - weights)
    return MemoryEstimate(
        process=_process_bytes() if on_cpu else 0,
        weights=weights,
        adapters=_adapter_bytes(layers, adapters),
        activations=round(activations) + transient_bytes(layers, adapters, tokens, element),
        head=_head_bytes(model, row, element),
        libraries=_library_bytes(element) if on_cpu else 0,
        loading=loading,
    )


def meta_model(base_name: str, placement: Placement) -> Any:
    """Build the modules of the model with shapes and without values."""
    from transformers import AutoModelForCausalLM

    config = load_config(base_name, placement.trust_remote_code)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=placement.trust_remote_code)
    except ValueError as error:  # of another kind, such as an image model
        raise loading_error(base_name, "model could be loaded", error, "name a causal language model") from error


def _weight_bytes(model: Any, placement: Placement) -> int:
    """Count all parameters, tied ones once; only the matrices of decoder layers are quantised."""
    element = placement.dtype.itemsize
    total = sum(parameter.numel() for parameter in model.parameters()) * element
    if placement.quantisation == "none":
        return total
    matrices = sum(i * o for layer in decoder_layers(model) for i, o in linear_layers(layer).values())
    return total - round(matrices * (element - QUANTISED_BYTES[placement.quantisation]))


def _split_bytes(model: Any, whole: int, element: int, shards: int) -> int:
    """Count a process's share of the weights, `whole` bytes, and what it gathers to compute a layer and the next one.

    The embeddings, the head and the last norm are gathered for the whole of a forward or backward pass.
    """
    if shards == 1:
        return whole
    layers = [element * sum(p.numel() for p in layer.parameters()) for layer in decoder_layers(model)]
    gathered = whole - sum(layers) + 2 * max(layers)
    return min(whole, whole // shards + gathered)


def _quantisation(model: Any, placement: Placement) -> str:
    """Return the quantisation of the placement, else the one that the model is stored in."""
    stored = getattr(model.config, "quantization_config", None) or {}
    stored = stored if isinstance(stored, dict) else stored.to_dict()
    found = next((bits for bits in QUANTISED_BYTES if stored.get(f"load_in_{bits}")), "none")
    return found if placement.quantisation == "none" else placement.quantisation


def _loading_bytes(model: Any, placement: Placement) -> int:
    """Return the size of the largest weight file, which is mapped into memory while it is converted."""
    if placement.quantisation == "none" and model.config.dtype in (None, placement.dtype):
        return 0
    return max((file.stat().st_size for file in Path(model.config._name_or_path).glob("*.safetensors")), default=0)


def _adapter_bytes(layers: Sequence[torch.nn.Module], adapters: Adapters) -> int:
    sizes = sum(sum(shape) for layer in layers for name, shape in linear_layers(layer).items() if adapters.adapts(name))
    by_rank = adapters.trained_rank * TRAINED_BYTES + adapters.frozen_rank * FROZEN_ADAPTER_BYTES
    return sizes * by_rank + adapters.other_trained * TRAINED_BYTES


def _head_bytes(model: Any, row: PackedRow, element: int) -> int:
    """Count the logits of one chunk in float32, their copies in half precision, and the gradient of hidden states."""
    vocabulary, hidden = model.get_output_embeddings().weight.shape
    chunk = min(len(row.targets), chunk_tokens(vocabulary))
    buffers = 4 if element == 4 else 4 + 2 + 2
    return chunk * vocabulary * buffers + 2 * len(row.targets) * hidden * element


def _library_bytes(element: int) -> int:
    """Count the libraries that training loads, and in half precision the products that torch compiles."""
    products = int(os.environ.get("LRU_CACHE_CAPACITY", COMPILED_PRODUCTS)) if element == 2 else 0
    return CPU_LIBRARIES + round(products * COMPILED_PRODUCT_BYTES)


def _process_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


# ------------------------------------------------------------------------------------------- the check


def largest_row(examples: Sequence[PromptCompletions], plan: BatchPlan) -> PackedRow:
    """Return the longest row that the plan computes in any step. The order of the examples is known before the run."""
    tokens = [example.tokens for example in examples]
    rows = (row for step in range(plan.total_steps) for row in plan.rows(step, tokens.__getitem__))
    longest = max(rows, key=lambda row: sum(tokens[index] for index in row))
    return lay_out(examples[index] for index in longest)


def available_bytes(device: torch.device) -> int:
    """Return the memory that is free for a run on `device`."""
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
    plan: BatchPlan,
) -> MemoryEstimate:
    """Print and return the memory estimate of a run; turn gradient checkpointing on if the run fits only with it.

    Sets `args.gradient_checkpointing`. If the run does not fit, a warning on CUDA and MPS names flags with which it
    would: a run without enough memory ends there with an error of its own. On a CPU it would slow the whole machine
    down, so InputError is raised unless `args.ignore_memory_estimate`.
    """
    model = meta_model(base_name, placement)
    available = available_bytes(placement.device)

    def estimate(batch_size: int, checkpointing: bool, where: Placement) -> MemoryEstimate:
        accumulation = plan.batch_size * plan.accumulation // batch_size
        row = largest_row(examples, replace(plan, batch_size=batch_size, accumulation=accumulation))
        shards = plan.num_processes if args.shard_base else 1
        return estimate_memory(model, where, adapters, row, checkpointing=checkpointing, shards=shards)

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
        problem = f"the run needs about {needed.total / GIB:.1f} GiB and {available / GIB:.1f} GiB are free; {remedy}"
        if placement.device.type == "cpu" and not args.ignore_memory_estimate:
            raise InputError(f"{problem}, or try it with --ignore_memory_estimate")
        print(f"warning: {problem}", file=sys.stderr)
    return needed


def _what_would_fit(
    args: argparse.Namespace,
    placement: Placement,
    estimate: Callable[[int, bool, Placement], MemoryEstimate],
    available: int,
) -> str | None:
    """Return the first set of flags, cheapest first, with which the run would fit, or None."""
    one = f"--batch_size 1 --gradient_accumulation_steps {args.batch_size * args.gradient_accumulation_steps}"
    options = [(one, 1, False, placement), (f"{one} --gradient_checkpointing", 1, True, placement)]
    for bits in ("8bit", "4bit"):
        if placement.quantisation == "none":
            quantised = replace(placement, quantisation=bits)
            options.append((f"--use_{bits} {one} --gradient_checkpointing", 1, True, quantised))
    fitting = (flags for flags, batch, ckpt, where in options if estimate(batch, ckpt, where).total <= available)
    return next(fitting, None)
