"""Models of random weights that are made on the device, for benchmarks/gpu_check.py.

A folder gets everything but the weights: configuration, tokenizer and adapter. Whoever loads the model from it, our
scripts or TRL, gets random weights that are created on the device and quantised there. A 7B model would take minutes to
create on a CPU and to read from a disk.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from benchmarks.trl_inputs import MODELS, Q_V, Lora, Model, fresh_lora, set_lora_values
from language_model.adapters import write_adapter
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE, load_config

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel


def write_model(name: str, folder: Path, seed: int, lora: Lora = Q_V) -> Model:
    """Write the folder of a model in MODELS without its weights, and the folder of a random adapter."""
    from peft import get_peft_model_state_dict
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = load_tokenizer(DEMO_BASE)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("pad", "bos", "eos")}
    config = AutoConfig.for_model(**MODELS[name], **ends)
    base, adapter = folder / "base", folder / "adapter"
    config.save_pretrained(base)
    tokenizer.save_pretrained(base)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        sizes = {each: parameter.numel() for each, parameter in model.named_parameters()}
        policy = fresh_lora(model, lora)
        shapes = get_peft_model_state_dict(policy, save_embedding_layers=False)
    values = {
        each.removesuffix(".weight"): torch.nn.Parameter(torch.empty(tensor.shape)) for each, tensor in shapes.items()
    }
    set_lora_values(values, seed)
    state = {f"{each}.weight": value.detach() for each, value in values.items()}
    write_adapter(adapter, state, policy.peft_config["default"], tokenizer, "plain", str(base))
    layers = sum(size for each, size in sizes.items() if ".layers." in each)
    return Model(str(base), str(adapter), sum(sizes.values()), layers, sizes["lm_head.weight"])


@contextmanager
def random_weights(seed: int, made: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within the block, causal models that are loaded from a folder get random weights, made on their device.

    `made` is called when a model has its weights, before anything else is computed.
    """
    from transformers import AutoModelForCausalLM

    def load(name: str | Path, *, device_map: dict[str, Any], **options: Any) -> PreTrainedModel:
        model = random_model(name, device_map[""], seed, **options)
        made()
        return model

    with patch.object(AutoModelForCausalLM, "from_pretrained", load):
        yield


def random_model(
    folder: str | Path,
    device: torch.device | str,
    seed: int,
    *,
    dtype: torch.dtype,
    attn_implementation: str | None = None,
    quantization_config: BitsAndBytesConfig | None = None,
    **_: Any,
) -> PreTrainedModel:
    """Return a model of the configuration in `folder` with random weights; takes arguments of `from_pretrained`."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            load_config(folder), dtype=dtype, attn_implementation=attn_implementation
        )
    if quantization_config is not None:
        _quantise(model, quantization_config)
    release_memory(torch.device(device))
    return model.eval()


def _quantise(model: PreTrainedModel, config: BitsAndBytesConfig) -> None:
    """Quantise every linear layer except the head to 4 bits, as transformers does when it loads a model."""
    import bitsandbytes

    head = model.get_output_embeddings()
    layers = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is torch.nn.Linear and layer is not head
    ]
    for parent, name, layer in layers:
        quantised = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            compute_dtype=config.bnb_4bit_compute_dtype,
            compress_statistics=config.bnb_4bit_use_double_quant,
            quant_type=config.bnb_4bit_quant_type,
            device="meta",
        )
        quantised.weight = bitsandbytes.nn.Params4bit(
            layer.weight.data,
            requires_grad=False,
            compress_statistics=config.bnb_4bit_use_double_quant,
            quant_type=config.bnb_4bit_quant_type,
            module=quantised,
        ).to(layer.weight.device)
        setattr(parent, name, quantised)
        del layer.weight  # frees its memory although the list still has the layer
    model.is_loaded_in_4bit = True  # what peft and TRL ask for


def release_memory(device: torch.device) -> None:
    """Return unused memory of earlier models to a GPU, and measure its peak anew."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
