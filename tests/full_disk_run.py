"""Fill small file systems, mounted in FOLDER for this process alone, under a result file and under a training.

    PYTHONPATH=.:tests unshare --map-root-user --mount python tests/full_disk_run.py FOLDER INPUTS

INPUTS holds a tiny base and Phase 1 files (`training_helpers.write_stage_a_inputs`). Prints one JSON object a step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from training_helpers import stage_a_flags

import stage_a_sft_training as stage_a
from script_io.errors import run_script
from script_io.files import write_json
from training import checkpoints

EPOCHS = ("--num_epochs", "3")


def mount(folder: Path, kibibytes: int) -> None:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every free byte with one file."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(bytes(4096))
        except OSError:
            return filler


def outcome(name: str, folder: Path, code: int, errors: StringIO) -> None:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    lines = errors.getvalue().strip().splitlines()
    print(json.dumps({"step": name, "code": code, "error": lines[-1] if lines else "", "files": files}), flush=True)


def run(name: str, folder: Path, main: Any, args: argparse.Namespace) -> None:
    errors = StringIO()
    with redirect_stderr(errors), redirect_stdout(StringIO()):
        code = run_script(main, args)
    outcome(name, folder, code, errors)


def write_results(folder: Path) -> None:
    """Write a result over an earlier one on a file system without a free byte."""
    mount(folder, 64)
    (folder / "stats.json").write_text('{"steps": 3}\n')
    filler = fill(folder)

    def write(args: argparse.Namespace) -> int:
        write_json(folder / "stats.json", {"steps": 4, "notes": "x" * 10_000})
        return 0

    run("result", folder, write, argparse.Namespace())
    assert json.loads((folder / "stats.json").read_text()) == {"steps": 3}
    filler.unlink()


def train(folder: Path, inputs: Path) -> None:
    """Train where there is no room, then where the room ends before the second checkpoint, and go on with room."""
    mount(folder, 256)
    run("no room", folder, stage_a.main, stage_a.parse_args(stage_a_flags(inputs, folder / "run", *EPOCHS)))
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
    save = checkpoints.save_checkpoint

    def save_when_full(training: Any) -> None:
        if training.state.epochs[1:]:
            fill(folder)
        save(training)

    checkpoints.save_checkpoint = save_when_full
    run("full", folder, stage_a.main, stage_a.parse_args(stage_a_flags(inputs, folder / "run", *EPOCHS)))
    checkpoints.save_checkpoint = save
    (folder / "filler").unlink()
    run("resumed", folder, stage_a.main, stage_a.parse_args(stage_a_flags(inputs, folder / "run", *EPOCHS, "--resume")))
    final = folder / "run" / "final_model" / "adapter_model.safetensors"
    (inputs / "resumed.safetensors").write_bytes(final.read_bytes())  # the file system ends with this process


if __name__ == "__main__":
    write_results(Path(sys.argv[1]) / "small")
    train(Path(sys.argv[1]) / "disk", Path(sys.argv[2]))
