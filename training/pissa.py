"""Start a LoRA adapter from the largest singular values of each weight, and leave the base as it is.

PiSSA (Meng et al. 2024, arXiv:2404.02948) splits a weight, W = s B0 A0 + rest, trains B and A from B0 and A0 on, and
keeps the rest as the base. The same layer on the original base is

    W + s B A - s B0 A0

with a second, frozen adapter (-B0, A0). Both are saved as one plain adapter of twice the rank.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedTokenizerBase

from language_model.adapters import write_adapter
from script_io.errors import InputError
from training.policy_adapters import activate, joined_adapter

TRAINED, START = "default", "start"


def start_from_singular_values(model: PeftModel, trained: str = TRAINED) -> None:
    """Give the fresh adapter `trained` of `model` its start and add the frozen adapter that takes it off again.

    Raises InputError for layers without singular values of a matrix of numbers (quantised, or embeddings).
    """
    model.add_adapter(START, deepcopy(model.peft_config[trained]))
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            if trained not in layer.lora_A or not layer.get_base_layer().weight.is_floating_point():
                raise InputError(f"--lora_init pissa: {name} is quantised or an embedding; leave --lora_init out")
            _start_layer(layer, trained)
    activate(model, (START, trained), trained)
    print("PiSSA: the adapter starts from the largest singular values; it is saved with twice the rank")


def _start_layer(layer: Any, trained: str) -> None:
    """Split one weight with peft, then put the weight back and take the start off in the frozen adapter."""
    base = layer.get_base_layer()
    weight = base.weight.data
    layer.pissa_init(trained, "pissa")
    base.weight.data = weight  # peft has replaced it by the rest
    with torch.no_grad():
        for matrices, sign in ((layer.lora_A, 1), (layer.lora_B, -1)):
            matrices[START].weight.copy_(sign * matrices[trained].weight)


def save_as_plain_adapter(
    model: PeftModel,
    folder: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    base_model: str,
) -> None:
    """Save the sum of both adapters as one that loads on the original base, as `save_adapter` saves others."""
    tensors, config = joined_adapter(model, START, TRAINED)
    write_adapter(folder, tensors, config, tokenizer, prompt_format, base_model)
