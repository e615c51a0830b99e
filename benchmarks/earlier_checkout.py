"""Measure the code of an earlier commit with this tree's benchmarks.

The benchmarks of the earlier commit may lack the settings that are compared. So the earlier code gets copies of this
tree's benchmarks, in a tree of its own that a process can run from.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from script_io.errors import InputError

BENCHMARKS = "benchmarks"


def require_checkout(folder: Path, scripts: tuple[str, ...]) -> None:
    """Raise InputError unless `folder` is a checkout of this suite with these scripts."""
    if not folder.is_dir():
        raise InputError(f"--before {folder}: no such folder; create it with: git worktree add {folder} COMMIT")
    missing = [script for script in scripts if not (folder / script).is_file()]
    if missing:
        raise InputError(f"--before {folder}: has no {missing[0]}; name the root of a checkout of this suite")


def with_these_benchmarks(checkout: Path, tree: Path) -> Path:
    """Create the folder `tree` with links to the files of `checkout` and copies of these benchmarks; return `tree`."""
    (tree / BENCHMARKS).mkdir(parents=True)
    for entry in checkout.resolve().iterdir():
        if entry.name not in (BENCHMARKS, "__pycache__") and not entry.name.startswith("."):
            (tree / entry.name).symlink_to(entry)
    for file in Path(__file__).parent.glob("*.py"):
        shutil.copy(file, tree / BENCHMARKS)
    return tree
