"""A trained-looking adapter, data files and command lines that the training tests share."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_models import build_tiny_model

import stage_a_sft_training as stage_a
from language_model.adapters import add_lora, save_adapter
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement
from language_model.prompt_format import build_prompt

ROOT = Path(__file__).resolve().parents[1]
CPU = Placement(torch.device("cpu"), torch.float32, "none")
LINEAR = ["q_proj", "v_proj", "o_proj", "down_proj"]


def random_adapter(folder: Path, base: Path, seed: int = 0) -> Path:
    """An adapter whose B matrices are not zero, as after training, with dropout in its configuration."""
    tokenizer = load_tokenizer(base)
    model = add_lora(load_base_model(base, CPU, tokenizer), 4, 8, 0.05, LINEAR)
    perturb(model, seed, 0.2)
    save_adapter(model, folder, tokenizer, "plain", base_model=str(base))
    return folder


def perturb(model: torch.nn.Module, seed: int, scale: float) -> None:
    """Adds the same noise to the trainable tensors of models whose trainable tensors come in the same order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def tiny_base_and_adapter(folder: Path, architecture: str = "llama") -> tuple[Path, Path]:
    base = build_tiny_model(folder / "base", architecture)
    return base, random_adapter(folder / "sft", base)


def write_triplets(path: Path, count: int, seed: int = 0, most_denials: int = 3) -> Path:
    """Triplets of varied lengths that differ in one number."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        age, dose = rng.randint(20, 90), rng.randint(1, 9)
        extra = " Denies fever." * rng.randint(0, most_denials)
        note = f"A {age}-year-old with chest pain.{extra} Started apixaban {dose} mg twice daily."
        rows.append(
            {
                "id": f"t{number}",
                "prompt": build_prompt(note),
                "chosen": f"Age {age}, apixaban {dose} mg.{extra}",
                "rejected": f"Age {age}, apixaban {dose}0 mg.{extra}",
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_phase1(path: Path, count: int, seed: int = 0) -> Path:
    rng = random.Random(seed)
    lines = ["id,clinical_note,model_summary,label,hallucination_type"]
    for number in range(count):
        age = rng.randint(20, 90)
        extra = " Denies fever." * rng.randint(0, 3)
        lines.append(f"r{number},A {age}-year-old with chest pain.{extra},Age {age}.{extra},factual,")
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


def write_stage_a_inputs(folder: Path, train: int, val: int) -> Path:
    """A tiny base and Phase 1 files with this many rows, as `stage_a_flags` names them; returns the folder."""
    build_tiny_model(folder / "base")
    write_phase1(folder / "train.csv", train)
    write_phase1(folder / "val.csv", val, seed=1)
    return folder


def stage_a_flags(inputs: Path, output: Path, *extra: str) -> list[str]:
    """The command line of a short Stage A on the base and the CSVs in `inputs`."""
    return [
        *("--model_name", str(inputs / "base"), "--device", "cpu", "--output_dir", str(output)),
        *("--train_data_path", str(inputs / "train.csv"), "--val_data_path", str(inputs / "val.csv")),
        *("--batch_size", "4", "--learning_rate", "1e-2", "--lora_target_modules", *LINEAR),
        *extra,
    ]


def train_stage_a(inputs: Path, output: Path, *extra: str) -> Path:
    """Run Stage A in this process and return its folder."""
    assert stage_a.main(stage_a.parse_args(stage_a_flags(inputs, output, *extra))) == 0
    return output


def metrics(output: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind (`train` or `val`) in the metrics log of a run."""
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def outside_tests() -> dict[str, str]:
    """The environment of a program in tests/ that runs in a process of its own."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def run(script: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script of the suite as a user would, on one core as set by conftest.py."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        check=False,
    )
