"""Attach, create, save and count LoRA adapters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from language_model.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, replace_folder, require_adapter
from language_model.prompt_format import save_prompt_format
from script_io.errors import InputError

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def attach_adapter(
    model: PreTrainedModel | PeftModel, folder: str | Path, adapter_name: str, *, trainable: bool
) -> PeftModel:
    """Loads the adapter in `folder` under `adapter_name`; frozen unless `trainable`. Weights from safetensors only."""
    from peft import PeftModel

    require_adapter(folder, "name a folder that a training script saved")  # also: never falls back to a pickle
    if isinstance(model, PeftModel):
        model.load_adapter(str(folder), adapter_name=adapter_name, is_trainable=trainable)
        return model
    return PeftModel.from_pretrained(model, str(folder), adapter_name=adapter_name, is_trainable=trainable)


def add_lora(model: PreTrainedModel, r: int, alpha: int, dropout: float, target_modules: Sequence[str]) -> PeftModel:
    """Wraps `model` with a fresh trainable LoRA adapter (Hu et al. 2021). Raises InputError for unknown modules."""
    from peft import LoraConfig, get_peft_model

    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if not list(module.children())}
    unknown = [name for name in target_modules if name not in names]
    if unknown:
        linear = ", ".join(sorted(name for name in names if "proj" in name or "attn" in name or "fc" in name))
        raise InputError(f"--lora_target_modules {' '.join(unknown)}: the model has no such module; it has {linear}")
    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(target_modules), task_type="CAUSAL_LM"
    )
    wrapped = get_peft_model(model, config)
    print(f"Applied LoRA with r={r}, alpha={alpha}")
    return wrapped


def enable_gradient_checkpointing(model: PreTrainedModel | PeftModel) -> None:
    """Recomputes activations in the backward pass: less memory, about a third more time.

    The embeddings' output must require a gradient, or the checkpointed blocks of a frozen base pass none on.
    """
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def save_adapter(
    model: PeftModel,
    folder: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    *,
    adapter_name: str = "default",
    base_model: str,
) -> None:
    """Saves one adapter, its tokenizer and prompt format into `folder`, whole or not at all.

    peft saves adapters of other names into a subfolder, where nothing looks for them; here every adapter lies in the
    folder itself. `base_model` is a hub id or an absolute path.
    """
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=adapter_name)
    write_adapter(folder, state, model.peft_config[adapter_name], tokenizer, prompt_format, base_model)


def write_adapter(
    folder: str | Path,
    state: dict[str, torch.Tensor],
    config: LoraConfig,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    base_model: str,
) -> None:
    """Writes an adapter from its tensors, in a temporary folder that is renamed once it is whole."""
    from safetensors.torch import save_file

    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary / ADAPTER_WEIGHTS)
    content = config.to_dict() | {"base_model_name_or_path": base_model, "inference_mode": True}
    content = {key: sorted(value) if isinstance(value, set) else value for key, value in content.items()}
    (temporary / ADAPTER_CONFIG).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(temporary)
    save_prompt_format(temporary, tokenizer, prompt_format)
    replace_folder(temporary, folder)


def count_parameters(model: torch.nn.Module, *, trainable: bool = False) -> int:
    """Parameters, counting the two values that 4-bit storage packs into a byte; with `trainable`, those alone."""
    total = 0
    for parameter in model.parameters():
        if parameter.requires_grad or not trainable:
            packed = type(parameter).__name__ == "Params4bit"
            total += parameter.numel() * (2 if packed else 1)
    return total
