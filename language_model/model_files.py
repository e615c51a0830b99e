"""Model folders and hub ids: what is in them, what is missing, and how one folder replaces another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from script_io.errors import InputError
from script_io.files import read_json

DEMO_BASE = Path(__file__).resolve().parents[1] / "demo" / "base_model"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def load_config(name: str | Path, trust_remote_code: bool = False) -> Any:
    """The configuration of a causal language model. Raises InputError where there is none."""
    from transformers import AutoConfig

    require_model(name)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(f"{name}: no config.json could be read ({first_line(error)}); name a model folder") from error


def require_model(name: str | Path) -> None:
    """A name that can only be a path must exist; anything else may be a hub id."""
    path = Path(name)
    if not path.exists() and (str(name).count("/") != 1 or str(name).startswith((".", "/", "~"))):
        hint = "python stage_a_sft_training.py" if path.name == "final_model" else "name an existing folder or a hub id"
        raise InputError(f"{name}: no such model folder; {'run ' if hint.startswith('python') else ''}{hint}")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


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
