"""The pipeline's stages run in this process, which saves the start of Python and torch a dozen times."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from training_helpers import ROOT

from script_io.errors import run_script


def launch_here(command: Sequence[str], log: Path) -> int:
    """As `pipeline.runner.launch`."""
    script = importlib.import_module(command[0].removesuffix(".py").replace("/", "."))
    with log.open("w", encoding="utf-8") as handle, redirect_stdout(handle), redirect_stderr(handle):
        return run_script(script.main, script.parse_args(list(command[1:])))


def write_top_of_demo(folder: Path, rows: Mapping[str, int]) -> Path:
    """A Phase 1 folder with the first rows of each split of the demo's data."""
    folder.mkdir(parents=True)
    for split, count in rows.items():
        name = f"{split}_set_processed.csv"
        with (ROOT / "phase1_data" / "sft" / name).open(newline="", encoding="utf-8") as source:
            kept = list(csv.reader(source))[: count + 1]
        with (folder / name).open("w", newline="", encoding="utf-8") as target:
            csv.writer(target).writerows(kept)
    return folder
