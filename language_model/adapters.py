"""Attach, create, save and count LoRA adapters."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from language_model.lora_settings import PLAIN, LoraVariant, lora_config
from language_model.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    damaged_weights,
    first_line,
    replace_folder,
    require_adapter,
)
from language_model.prompt_format import save_prompt_format
from script_io.durable import as_os_errors, flush_folder, save_tensors
from script_io.errors import InputError

# Merging unties the embeddings first (`untie_adapted_embeddings`)
warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True` and a tied layer", category=UserWarning)
# peft finds out by itself how GPT-2 stores its weights
warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def attach_adapter(
    model: PreTrainedModel | PeftModel, folder: str | Path, adapter_name: str, *, trainable: bool
) -> PeftModel:
    """Load the adapter in `folder` under `adapter_name`, frozen unless `trainable`; read safetensors files only.

    Raises InputError if the adapter does not fit the model.
    """
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError

    require_adapter(folder, "name a folder that a training script saved")  # also: never falls back to a pickle
    try:
        with warnings.catch_warnings():
            # peft only warns if the model has modules to adapt that the file has no tensors for
            warnings.filterwarnings("error", message="Found missing adapter keys")
            if isinstance(model, PeftModel):
                mode = model.training
                model.load_adapter(str(folder), adapter_name=adapter_name, is_trainable=trainable)
                model.train(mode)  # peft puts the model into evaluation mode for a frozen adapter
                return model
            return PeftModel.from_pretrained(model, str(folder), adapter_name=adapter_name, is_trainable=trainable)
    except torch.OutOfMemoryError:
        raise
    except SafetensorError as error:
        raise damaged_weights(folder, error) from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}: the adapter does not fit its base model ({reason}); name the right one with --base_model"
        ) from error


def is_mergeable(model: PeftModel) -> bool:
    """Return whether the active adapter is LoRA of a form that can be merged into the base.

    aLoRA acts on some tokens only, replicated layers share their weights, and the base may lack the bias that a bias of
    the adapter would be added to.
    """
    config = model.active_peft_config
    unmergeable = ("alora_invocation_tokens", "layer_replication", "lora_bias")
    return config.peft_type == "LORA" and not any(getattr(config, name, None) for name in unmergeable)


def untie_adapted_embeddings(model: PeftModel) -> None:
    """Give the output head weights of its own, if it shares them with the input embeddings and either has an adapter.

    Otherwise merging that adapter would change the other layer as well, which the adapter was not trained for.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    if _adapts_tied_embeddings(model):
        base = model.get_base_model()
        head = base.get_output_embeddings()
        layer = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = False


def _adapts_tied_embeddings(model: PeftModel) -> bool:
    """Return whether input embeddings and output head share their weights and one of them has an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    layers = (base.get_input_embeddings(), base.get_output_embeddings())
    if None in layers or not any(isinstance(layer, BaseTunerLayer) for layer in layers):
        return False
    return layers[0].weight is layers[1].weight


def add_lora(
    model: PreTrainedModel,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: str | Sequence[str],
    variant: LoraVariant = PLAIN,
    *,
    adapter_name: str = "default",
) -> PeftModel:
    """Return `model` with a fresh trainable LoRA adapter (Hu et al. 2021), trained in float32.

    Raises InputError for unknown modules.
    """
    from peft import get_peft_model

    config = lora_config(model, r, alpha, dropout, target_modules, variant)
    try:
        wrapped: PeftModel = get_peft_model(model, config, adapter_name=adapter_name)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise InputError(f"--lora_target_modules: peft cannot adapt this model ({first_line(error)})") from error
    train_in_float32(wrapped)
    print(f"Applied LoRA with r={r}, alpha={alpha}")
    if _adapts_tied_embeddings(wrapped):
        print(
            "warning: the model ties its embeddings and its output head, and the adapter is for one of them; merge it "
            "with export_model.py, since peft's own merge would change both",
            file=sys.stderr,
        )
    return wrapped


def train_in_float32(model: torch.nn.Module) -> None:
    """Keep trainable tensors in float32: in half precision, the small steps of training would be rounded away.

    peft does so for adapters, but not for modules that are trained whole.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def enable_gradient_checkpointing(model: PreTrainedModel | PeftModel) -> None:
    """Recompute activations in the backward pass: less memory, about a third more time.

    The output of the embeddings must require a gradient, or no gradient passes the checkpointed blocks.
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
    """Save one adapter with its tokenizer and prompt format into `folder`, completely or not at all.

    peft saves adapters with other names than `default` into a subfolder, where nothing looks for them; here every
    adapter is saved into `folder` itself. `base_model` is a hub id or an absolute path.
    """
    config = model.peft_config[adapter_name]
    write_adapter(folder, adapter_tensors(model, adapter_name), config, tokenizer, prompt_format, base_model)


def adapter_tensors(model: PeftModel, adapter_name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one adapter, under the names that peft stores.

    They never include the base's embeddings, which peft adds for adapters of embeddings: the base keeps its own.
    """
    from peft.utils import get_peft_model_state_dict

    tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(
        model, adapter_name=adapter_name, save_embedding_layers=False
    )
    return tensors


def write_adapter(
    folder: str | Path,
    state: dict[str, torch.Tensor],
    config: LoraConfig,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    base_model: str,
) -> None:
    """Write an adapter, its tokenizer and its prompt format to a temporary folder, then rename that to `folder`."""
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_tensors(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary / ADAPTER_WEIGHTS
        )
        content = config.to_dict() | {"base_model_name_or_path": base_model, "inference_mode": True}
        content = {key: sorted(value) if isinstance(value, set) else value for key, value in content.items()}
        (temporary / ADAPTER_CONFIG).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        with as_os_errors(temporary):
            tokenizer.save_pretrained(temporary)
        save_prompt_format(temporary, tokenizer, prompt_format)
        flush_folder(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    replace_folder(temporary, folder)


def count_parameters(model: torch.nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters, or of trainable ones; 4-bit storage packs two parameters into a byte."""
    total = 0
    for parameter in model.parameters():
        if parameter.requires_grad or not trainable:
            packed = type(parameter).__name__ == "Params4bit"
            total += parameter.numel() * (2 if packed else 1)
    return total
