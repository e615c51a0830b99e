"""Loading: device, dtype, quantisation, base model, adapters, tokenizer. One place, for every script.

Weights are read as safetensors only, and code from a model's folder is run only under `--trust_remote_code`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_format import load_prompt_format, save_prompt_format
from script_io import InputError, read_json

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Both speak of what no user of this suite can change.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

DEMO_BASE = Path(__file__).resolve().parent / "demo" / "base_model"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DEVICES = ("auto", "cuda", "mps", "cpu")
# bfloat16 for training on a CPU: from this hidden size on, below which the casts eat the gain, and if its matrix
# products are this much faster
MIN_BFLOAT16_SIZE, MIN_BFLOAT16_GAIN = 512, 1.5
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Placement:
    """Where and how a model is loaded: what `--device`, `--dtype`, `--use_8bit` and `--use_4bit` came to."""

    device: torch.device
    dtype: torch.dtype
    quantisation: str  # none, 8bit or 4bit
    trust_remote_code: bool = False


@dataclass
class LoadedModel:
    """A model ready for inference, with the prompt format that it was trained with."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    prompt_format: str
    device: torch.device


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all model scripts share."""
    group = parser.add_argument_group("Hardware")
    group.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto: CUDA, else MPS, else CPU (default: auto)"
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="of the frozen weights; auto: bfloat16 where it pays, else float32 (default: auto)",
    )
    group.add_argument("--use_8bit", action="store_true", help="load the base in 8-bit; a quarter of float32's memory")
    group.add_argument(
        "--use_4bit", action="store_true", help="load the base in 4-bit NF4; an eighth of float32's memory"
    )
    group.add_argument("--seed", type=int, default=42, help="of weights, order and sampling (default: %(default)s)")
    group.add_argument(
        "--trust_remote_code", action="store_true", help="run Python code that the model's folder brings (default: off)"
    )


def choose_placement(args: argparse.Namespace, trained_model: str | None = None) -> Placement:
    """Turns the flags of `add_model_arguments` into a placement and says what was chosen and why.

    For training name the base: on a CPU the dtype then depends on what pays for its size, and is noted in `args`.
    """
    placement = placement_for(
        args.device, args.dtype, args.use_8bit, args.use_4bit, args.trust_remote_code, trained_model=trained_model
    )
    if trained_model:
        args.dtype = str(placement.dtype).removeprefix("torch.")  # what a resumed run goes on with
    return placement


def placement_for(
    device: str,
    dtype: str,
    use_8bit: bool = False,
    use_4bit: bool = False,
    trust_remote_code: bool = False,
    *,
    trained_model: str | None = None,
) -> Placement:
    if use_8bit and use_4bit:
        raise InputError("--use_8bit and --use_4bit exclude each other; choose one")
    quantisation = "8bit" if use_8bit else "4bit" if use_4bit else "none"
    if quantisation != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(f"--use_{quantisation} needs bitsandbytes; run: pip install bitsandbytes")
    chosen_device, device_reason = _choose_device(device)
    trained_size = _hidden_size(trained_model, trust_remote_code) if trained_model and dtype == "auto" else None
    chosen_dtype, dtype_reason = _choose_dtype(dtype, chosen_device, trained_size)
    quantised = "" if quantisation == "none" else f", base in {quantisation}"
    print(f"Device: {chosen_device} ({device_reason}); dtype: {str(chosen_dtype)[6:]} ({dtype_reason}){quantised}")
    return Placement(chosen_device, chosen_dtype, quantisation, trust_remote_code)


def _choose_device(name: str) -> tuple[torch.device, str]:
    import torch

    if name not in DEVICES:
        raise InputError(f"device {name!r} is not known; choose one of {', '.join(DEVICES)}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise InputError(f"--device {name}: this machine or this torch build has none; pass --device auto or cpu")
    if name != "auto":
        return _cuda_device() if name == "cuda" else torch.device(name), "asked for"
    if cuda:
        return _cuda_device(), f"auto: found {torch.cuda.get_device_name()}"
    return (torch.device("mps"), "auto: found Apple MPS") if mps else (torch.device("cpu"), "auto: no GPU found")


def _cuda_device() -> torch.device:
    import torch

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # one process a GPU under a launcher


def _choose_dtype(name: str, device: torch.device, trained_size: int | None) -> tuple[torch.dtype, str]:
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype, "asked for"
    if device.type == "cpu":
        return _choose_cpu_dtype(trained_size)
    if device.type == "mps" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "auto: half the memory at float32's range"
    return torch.float16, "auto: this GPU has no bfloat16"


def _choose_cpu_dtype(trained_size: int | None) -> tuple[torch.dtype, str]:
    """float32, which is exact, save where a model is trained that this CPU computes much faster in bfloat16."""
    import torch

    if trained_size is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return torch.float32, "auto: exact"  # processes that measure for themselves might differ
    if trained_size < MIN_BFLOAT16_SIZE:
        return torch.float32, "auto: exact, and bfloat16 does not pay for so small a model"
    gain = _seconds_of_product(trained_size, torch.float32) / _seconds_of_product(trained_size, torch.bfloat16)
    if gain >= MIN_BFLOAT16_GAIN:
        return torch.bfloat16, f"auto: measured, {gain:.1f} times as fast as float32 here"
    return torch.float32, f"auto: measured, bfloat16 is only {gain:.1f} times as fast here"


def _seconds_of_product(size: int, dtype: torch.dtype) -> float:
    """The shortest of some products of a row of 512 tokens with a matrix as in the model's layers."""
    import time

    import torch

    tokens, matrix = torch.ones(512, size, dtype=dtype), torch.ones(size, 4 * size, dtype=dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(tokens, matrix)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def load_config(name: str | Path, trust_remote_code: bool = False) -> Any:
    """The configuration of a causal language model. Raises InputError where there is none."""
    from transformers import AutoConfig

    _require_model(name)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(f"{name}: no config.json could be read ({_first_line(error)}); name a model folder") from error


def _hidden_size(name: str, trust_remote_code: bool) -> int:
    return int(load_config(name, trust_remote_code).get_text_config().hidden_size)


def load_tokenizer(name: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder or of a hub id, with a padding token. Raises InputError where there is none."""
    from transformers import AutoTokenizer

    _require_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(
            f"{name}: no tokenizer could be loaded ({_first_line(error)}); save one beside the model"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no end-of-sequence token; set eos_token in its configuration")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked wherever it pads, so its identity does not matter
    return tokenizer


def load_base_model(name: str | Path, placement: Placement, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A causal language model on its device, frozen, with the tokenizer's end of sequence among its own."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    _require_model(name)
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
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{name}: no model could be loaded ({_first_line(error)}); name a folder with config.json and "
            "model.safetensors, or a hub id"
        ) from error
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, more than the model's embeddings; use its own"
        )
    model.requires_grad_(False)
    _keep_4bit_trainable(model)
    _end_where_the_tokenizer_ends(model, tokenizer)
    return model


def _require_model(name: str | Path) -> None:
    """A name that can only be a path must exist; anything else may be a hub id."""
    path = Path(name)
    if not path.exists() and (str(name).count("/") != 1 or str(name).startswith((".", "/", "~"))):
        hint = "python stage_a_sft_training.py" if path.name == "final_model" else "name an existing folder or a hub id"
        raise InputError(f"{name}: no such model folder; {'run ' if hint.startswith('python') else ''}{hint}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _quantisation(placement: Placement) -> dict[str, Any]:
    """Arguments of `from_pretrained`; none leaves a model that is stored quantised as it is stored."""
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
    """On a CPU, bitsandbytes repacks 4-bit weights at the first inference and no gradient passes them after that."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _end_where_the_tokenizer_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Generation must stop at the last trained token, the tokenizer's end of sequence."""
    ends = model.generation_config.eos_token_id
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if tokenizer.eos_token_id not in known:
        model.generation_config.eos_token_id = [*known, tokenizer.eos_token_id]


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / ADAPTER_CONFIG).exists()


def require_adapter(folder: str | Path, remedy: str) -> dict[str, Any]:
    """The adapter's configuration; InputError with `remedy` where the folder holds no whole adapter."""
    path = Path(folder)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).exists():
            raise InputError(f"{path}: no {name} there; {remedy}")
    config: dict[str, Any] = read_json(path / ADAPTER_CONFIG)
    if not config.get("base_model_name_or_path"):
        raise InputError(f"{path / ADAPTER_CONFIG}: names no base_model_name_or_path; {remedy}")
    return config


def load_for_inference(
    model_path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    use_8bit: bool = False,
    use_4bit: bool = False,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads an adapter on its base, or a whole model, in evaluation mode, with its tokenizer and prompt format."""
    placement = placement_for(device, dtype, use_8bit, use_4bit, trust_remote_code)
    _require_model(model_path)
    tokenizer = load_tokenizer(model_path, trust_remote_code)
    if is_adapter(model_path):
        config = require_adapter(model_path, "run python stage_a_sft_training.py")
        base = load_base_model(config["base_model_name_or_path"], placement, tokenizer)
        model: PreTrainedModel | PeftModel = attach_adapter(base, model_path, "default", trainable=False)
    else:
        model = load_base_model(model_path, placement, tokenizer)
    model.eval()
    return LoadedModel(model, tokenizer, load_prompt_format(model_path, tokenizer), placement.device)


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


def replace_folder(temporary: Path, folder: Path) -> None:
    """Puts `temporary` in the place of `folder`; an older one is kept until the new one stands."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def absolute_model_name(name: str | Path) -> str:
    """A hub id as it is, a folder as an absolute path, so that an adapter finds its base from anywhere."""
    return str(Path(name).resolve()) if Path(name).exists() else str(name)


def count_parameters(model: torch.nn.Module, *, trainable: bool = False) -> int:
    """Parameters, counting the two values that 4-bit storage packs into a byte; with `trainable`, those alone."""
    total = 0
    for parameter in model.parameters():
        if parameter.requires_grad or not trainable:
            packed = type(parameter).__name__ == "Params4bit"
            total += parameter.numel() * (2 if packed else 1)
    return total
