"""Load base models, tokenizers and adapters, for every script.

Weights are read as safetensors only. Code from a model folder runs only under `--trust_remote_code`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.adapters import attach_adapter, untie_adapted_embeddings
from language_model.frozen_template import AS_STORED, PromptSettings
from language_model.hub import hub_arguments, local_adapter
from language_model.model_files import (
    DEMO_BASE,
    base_of_adapter,
    is_adapter,
    loading_error,
    require_adapter,
    require_model,
)
from language_model.placement import Placement, placement_for
from language_model.prompt_format import load_prompt_format
from script_io.errors import InputError

# Messages about things that a user of this suite cannot change
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LoadedModel:
    """A model ready for inference, with the prompt format that it was trained with."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    prompt_format: str
    device: torch.device


def load_tokenizer(name: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub id, with a padding token. Raises InputError if there is none."""
    from transformers import AutoTokenizer

    require_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code, **hub_arguments(name))
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise loading_error(
            name, "tokenizer could be loaded", error, "save the tokenizer in the same folder"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no end-of-sequence token; set eos_token in its configuration")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked wherever it pads, so its identity does not matter
    return tokenizer


def load_tokenizer_of(model: str | Path, base: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a model's folder, or else its base's, since an adapter may have no tokenizer."""
    has_own = any((Path(model) / name).exists() for name in ("tokenizer_config.json", "tokenizer.json"))
    return load_tokenizer(model if has_own else base, trust_remote_code)


def load_base_model(name: str | Path, placement: Placement, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return a causal language model on its device, frozen, that also stops at the tokenizer's end of sequence."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    require_model(name)
    if str(name) == str(DEMO_BASE):
        print("Base: the demo's own tiny model; --model_name of Stage A takes one of yours")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=placement.dtype,
            **_quantisation(placement),
            device_map={"": placement.device},
            use_safetensors=True,
            trust_remote_code=placement.trust_remote_code,
            **hub_arguments(name),
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        remedy = "name a folder with config.json and model.safetensors, or a hub id"
        raise loading_error(name, "model could be loaded", error, remedy) from error
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, more than the model's embeddings; use its own"
        )
    model.requires_grad_(False)
    _keep_4bit_trainable(model)
    _warn_of_another_end(name, model, tokenizer)
    _end_where_the_tokenizer_ends(model, tokenizer)
    return model


def _quantisation(placement: Placement) -> dict[str, Any]:
    """Return arguments of `from_pretrained`; without them, a model that is stored quantised stays as it is stored."""
    if placement.quantisation == "none":
        return {}
    from transformers import BitsAndBytesConfig

    if placement.quantisation == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    # NF4 with quantised constants: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314), section 3
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=placement.dtype,
    )
    return {"quantization_config": config}


def _keep_4bit_trainable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on a CPU, after which no gradient passes them."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _warn_of_another_end(name: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Warn if the configuration names end tokens, and the tokenizer's is none of them.

    This happens when two versions of a library wrote the two, or when an adapter's tokenizer differs from the base's.
    """
    known = {*_end_ids(model.generation_config), *_end_ids(model.config.get_text_config())}
    if known and tokenizer.eos_token_id not in known:
        print(
            f"warning: {name}: the tokenizer ends a text with {tokenizer.eos_token} (id {tokenizer.eos_token_id}), the "
            f"model's configuration with id {' or '.join(map(str, sorted(known)))}; training and generation use the "
            "tokenizer's, and a model that has learned another end may never stop; if it is wrong, set eos_token in "
            "tokenizer_config.json",
            file=sys.stderr,
        )


def _end_ids(config: Any) -> list[int]:
    ends = config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _end_where_the_tokenizer_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make generation stop at the last trained token, the tokenizer's end of sequence."""
    known = _end_ids(model.generation_config)
    if tokenizer.eos_token_id not in known:
        model.generation_config.eos_token_id = [*known, tokenizer.eos_token_id]


def load_for_inference(
    model_path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    use_8bit: bool = False,
    use_4bit: bool = False,
    trust_remote_code: bool = False,
    base_model: str | Path | None = None,
    prompt: PromptSettings = AS_STORED,
) -> LoadedModel:
    """Load an adapter on its base, or a whole model, in evaluation mode, with its tokenizer and prompt format.

    `base_model` is the base of the adapter, if it is not where the adapter says; it has no effect on a whole model.
    `prompt` is how a model is prompted that has no prompt format stored with it.
    """
    require_model(model_path)
    model_path = local_adapter(model_path)
    base_name: str | Path = model_path
    if is_adapter(model_path):
        config = require_adapter(model_path, "save the adapter again, as safetensors")
        base_name = base_of_adapter(model_path, config, base_model)
    placement = placement_for(device, dtype, use_8bit, use_4bit, trust_remote_code, sampled_model=str(base_name))
    tokenizer = load_tokenizer_of(model_path, base_name, trust_remote_code)
    prompt_format = load_prompt_format(model_path, tokenizer, prompt)
    if is_adapter(model_path):
        adapted = attach_adapter(
            load_base_model(base_name, placement, tokenizer), model_path, "default", trainable=False
        )
        untie_adapted_embeddings(adapted)
        model: PreTrainedModel | PeftModel = adapted
    else:
        model = load_base_model(model_path, placement, tokenizer)
    model.eval()
    return LoadedModel(model, tokenizer, prompt_format, placement.device)
