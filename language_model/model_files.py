"""Model folders and hub ids: what is in them, what is missing, and how one folder replaces another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from language_model.hub import HUB_REMEDY, hub_arguments, is_hub_id
from script_io.errors import InputError
from script_io.files import read_json_object

DEMO_BASE = Path(__file__).resolve().parents[1] / "demo" / "base_model"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# The default output folders of the stages
_SCRIPT_OF_OUTPUT = {
    "sft_specialist": "stage_a_sft_training.py",
    "dpo_hallucination_resistant": "stage_b_dpo_training.py",
}
# Kinds of adapters that put virtual tokens before the prompt, where the padding of a batch would
# separate them from it, or need inputs of their own
_UNSUPPORTED_KINDS = {
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE", "POLY", "XLORA",
}  # fmt: skip


def load_config(name: str | Path, trust_remote_code: bool = False) -> Any:
    """Return the configuration of a causal language model. Raises InputError if none can be read."""
    from transformers import AutoConfig

    require_model(name)
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise InputError(f"{name}: no config.json could be read (the folder has none); name a model folder")
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, **hub_arguments(name))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise loading_error(name, "config.json could be read", error, "name a model folder") from error


def context_tokens(config: Any) -> int | None:
    """Return how many positions a model knows, or None if its configuration names none, as with ALiBi.

    Scaled rotary positions (YaRN, linear, dynamic) reach `factor` times as far as the model was first trained. YaRN
    names the trained length. Dynamic scaling counts from `max_position_embeddings`, and so does linear scaling by the
    convention of transformers; no field tells of a linear configuration with the whole length in its place. Llama 3
    and LongRoPE are left out: their `max_position_embeddings` is the whole context, and Llama 3.2's factor of 32 on
    8,192 positions would be twice as much.
    """
    text = config.get_text_config()
    positions: int | None = getattr(text, "max_position_embeddings", None)
    scaling = getattr(text, "rope_parameters", None) or {}
    if not positions or scaling.get("rope_type") in ("llama3", "longrope") or not (factor := scaling.get("factor")):
        return positions
    return max(positions, int(factor * (scaling.get("original_max_position_embeddings") or positions)))


def require_model(name: str | Path) -> None:
    """Raise InputError if a name is neither an existing folder nor the id of a model on the hub.

    Only a name that cannot be a path is looked up on the hub (see `is_hub_id`), and only once.
    """
    if Path(name).is_file():
        raise InputError(f"{name}: is a file, not a model folder; name the folder that holds its config.json")
    if Path(name).exists():
        return
    if not is_hub_id(name):
        command = training_command(name)
        remedy = f"run {command}" if command else "name an existing folder or a hub id"
        raise InputError(f"{name}: no such model folder; {remedy}")
    hub_arguments(name)


def training_command(folder: str | Path) -> str | None:
    """Return the command that makes a model folder, if it lies in the default output folder of a stage."""
    scripts = (script for name, script in _SCRIPT_OF_OUTPUT.items() if name in Path(folder).parts)
    return next((f"python {script}" for script in scripts), None)


def loading_error(name: str | Path, what: str, error: BaseException, remedy: str) -> InputError:
    """Return the error of a model that could not be read, such as `what="model could be loaded"`.

    `remedy` is for a folder; the remedy for a hub id is always the same.
    """
    if "trust_remote_code" in str(error):
        return InputError(
            f"{name}: needs code of its own, which would run on this machine; pass --trust_remote_code if you trust it"
        )
    if not Path(name).exists():
        what += " from the hub"
        remedy = HUB_REMEDY
    return InputError(f"{name}: no {what} ({first_line(error)}); {remedy}")


def lies_in(model: str | Path, folder: Path) -> bool:
    """Return whether a model is in `folder`, or is it, so that who replaces `folder` deletes the model."""
    return Path(model).exists() and Path(model).resolve().is_relative_to(folder.resolve())


def damaged_weights(folder: str | Path, error: BaseException) -> InputError:
    """Return the error of an adapter whose file of weights cannot be read."""
    return InputError(f"{folder}: {ADAPTER_WEIGHTS} is damaged ({error}); save the adapter again")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def is_adapter(folder: str | Path) -> bool:
    """Return whether a folder holds an adapter rather than a whole model."""
    return (Path(folder) / ADAPTER_CONFIG).exists()


def is_whole_model(name: str | Path) -> bool:
    """Return whether a name is the folder of a whole model, or no folder and possibly the id of one on the hub."""
    folder = Path(name)
    if folder.exists():
        return (folder / "config.json").exists() and not is_adapter(folder)
    return is_hub_id(name)


def require_adapter(folder: str | Path, remedy: str) -> dict[str, Any]:
    """Return the configuration of the adapter in `folder`.

    Raises InputError if the adapter is incomplete or of a kind that the suite does not support. What to do about an
    incomplete one is `remedy`, or the command of the stage whose default output the folder is.
    """
    path = Path(folder)
    command = training_command(folder)
    if command and command not in remedy:
        remedy = f"run {command}"
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).exists():
            raise InputError(f"{path}: no {name} there; {remedy}")
    config = read_json_object(path / ADAPTER_CONFIG, remedy)
    if not config.get("base_model_name_or_path") or not isinstance(config["base_model_name_or_path"], str):
        raise InputError(f"{path / ADAPTER_CONFIG}: names no base_model_name_or_path; {remedy}")
    if config.get("peft_type") in _UNSUPPORTED_KINDS:
        raise InputError(f"{path}: adapters of type {config['peft_type']} are not supported; use another, such as LoRA")
    return config


def base_of_adapter(folder: str | Path, config: Mapping[str, Any], base_model: str | Path | None = None) -> str:
    """Return the base model of the adapter in `folder`: `base_model`, or else the one that `config` names.

    Raises InputError if that is a folder that does not exist.
    """
    name = str(base_model or config["base_model_name_or_path"])
    if Path(name).exists() or is_hub_id(name):
        return name
    if base_model:
        raise InputError(f"--base_model {name}: no such model folder; name an existing folder or a hub id")
    raise InputError(f"{folder}: its base model {name} is not there; name the base's new folder with --base_model")


def model_state(model_path: str | Path, base_model: str | Path | None = None) -> list[list[Any]]:
    """Return name, size and modification time of the files of a model, and of its base if that is a folder too.

    They show whether a model at the same path was trained again, without reading gigabytes. The list is empty for a
    hub id.
    """
    folder = Path(model_path)
    files = sorted(file for file in folder.glob("*") if file.is_file())
    state = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    if is_adapter(folder):
        base = base_model or read_json_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
        state += model_state(base) if base else []
    return state


def replace_folder(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`. An existing `folder` is deleted only after that."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def absolute_model_name(name: str | Path) -> str:
    """Return the absolute path of a folder, so that an adapter finds its base from anywhere; a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else str(name)
