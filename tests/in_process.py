"""Run a script of the suite in this process, and look at what it printed and left behind."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any

from script_io.errors import run_script
from script_io.progress import last_position


def run_here(script: str, arguments: str) -> Any:
    """Return the exit code of a script, run in this process as `python SCRIPT ARGUMENTS` would."""
    module = importlib.import_module(script)
    try:
        args = module.parse_args(shlex.split(arguments))
    except SystemExit as left:
        return left.code
    return run_script(module.main, args)


def files_below(folder: Path) -> dict[str, int]:
    """Return the sizes of all files in a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def is_progress(line: str) -> bool:
    """Return whether a line on stderr is no error: a progress bar, or what is said of a model or of the data files."""
    said = (
        "Device: ",
        "Threads: ",
        "Base: ",
        "Prompt format: ",
        "warning: the validation file equals the training file",
    )
    return not line.strip() or "%|" in line or line.startswith(said) or last_position(line) is not None
