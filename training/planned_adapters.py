"""What the adapters of a run will be, found before any weights are loaded, for the memory estimate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.adapters import count_parameters
from language_model.lora_settings import LoraVariant, lora_config
from language_model.model_files import ADAPTER_WEIGHTS, damaged_weights, first_line
from script_io.errors import InputError
from training.activation_memory import Adapters, decoder_layers, linear_layers
from training.memory_estimate import meta_model

if TYPE_CHECKING:
    from language_model.placement import Placement


def fresh_adapter(
    base_name: str,
    placement: Placement,
    r: int,
    dropout: float,
    target_modules: Sequence[str],
    variant: LoraVariant,
    *,
    frozen_rank: int = 0,
) -> Adapters:
    """Return the adapter that the flags make on the base, by adding it to a model without weights.

    Raises InputError for modules that the base does not have, and for DoRA on a base in 8 bits on a CPU: there, peft
    0.21 loses the scales of the weights when it reads them for DoRA's norms.
    """
    from peft import get_peft_model

    if variant.use_dora and (placement.quantisation, placement.device.type) == ("8bit", "cpu"):
        raise InputError("--use_dora: does not work on a base in 8 bits on a CPU; use --use_4bit, or leave one out")
    model: Any = meta_model(base_name, placement)
    shapes = [linear_layers(layer) for layer in decoder_layers(model)]
    config = lora_config(model, r, r, dropout, target_modules, variant)
    try:
        policy = get_peft_model(model, config)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise InputError(f"--lora_target_modules: peft cannot adapt this model ({first_line(error)})") from error
    names = {path.rsplit(".", 1)[-1] for path in policy.base_model.targeted_module_names}
    in_layers = sum(sum(shape) for layer in shapes for name, shape in layer.items() if name in names)
    others = max(0, count_parameters(policy, trainable=True) - r * in_layers)
    if variant.use_dora:
        print("warning: the memory estimate leaves out what DoRA keeps for its norms", file=sys.stderr)
    return Adapters(r, tuple(sorted(names)), frozen_rank, dropout, others)


def trained_whole(folder: str | Path) -> int:
    """Return the parameters of an adapter's file that are no LoRA matrices: whole modules, and the norms of DoRA.

    Raises InputError for a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(folder, ADAPTER_WEIGHTS), "pt") as file:
            names = [name for name in file.keys() if ".lora_A." not in name and ".lora_B." not in name]  # noqa: SIM118
            return sum(prod(file.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:
        raise damaged_weights(folder, error) from error
