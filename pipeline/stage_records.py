"""What the folder of a run remembers of each stage, in `stages/NAME.json`: its command, commit, outputs and seconds.

The record is written when the stage starts, and again with `seconds` and `outputs` when it has finished.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from script_io.errors import InputError
from script_io.files import read_json, write_json
from script_io.provenance import commit
from training.checkpoints import newest_checkpoint

OVERWRITE = "--overwrite_output_dir"  # the scripts with this flag also have --resume
OUTPUT_FLAGS = ("--output_dir", "--output_path", "--phase2_dir")
# Written by a stage, and needed by no other: users may delete them to save space.
NOT_NEEDED = ("checkpoint_*", "reference_logps", "logs", "stages", ".*")


@dataclass(frozen=True)
class StageRecord:
    """One stage. `seconds` is None until it has finished; `outputs` are the files that it wrote,
    relative to the folder of the run.

    `started` is when it began from nothing, in seconds since 1970: a resumed stage keeps it.
    """

    command: list[str]
    commit: str | None = None
    started: float | None = None
    seconds: float | None = None
    outputs: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> StageRecord | None:
        """Return the stored record, or None if the stage was never started."""
        if not path.exists():
            return None
        stored: dict[str, Any] = read_json(path)
        known = {name: stored[name] for name in ("command", "commit", "started", "seconds") if name in stored}
        return cls(**known, outputs=tuple(stored.get("outputs", ())))

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def missing_outputs(self, run_folder: Path) -> list[Path]:
        """Return the files that the stage wrote and that are no longer there."""
        return [run_folder / path for path in self.outputs if not (run_folder / path).exists()]

    def is_up_to_date(self, path: Path) -> bool:
        """Return whether the stage has finished and its inputs have not changed since its record in `path`."""
        return self.seconds is not None and newest(inputs_of(self.command)) <= newest([path])

    def can_resume(self) -> bool:
        """Return whether the stage is a training that has left a checkpoint, and still reads what it read at first.

        Says so if its checkpoints are all damaged: the stage then starts again.
        """
        if self.started is None or OVERWRITE not in self.command or newest(inputs_of(self.command)) > self.started:
            return False
        folder = Path(self.command[self.command.index("--output_dir") + 1])
        try:
            checkpoint = newest_checkpoint(folder)
        except InputError:
            print(f"warning: {folder}: every checkpoint is damaged; the training starts again", file=sys.stderr)
            return False
        return checkpoint is not None and newest([checkpoint]) >= self.started  # an older one is of an earlier run

    def goes_on(self) -> bool:
        """Return whether a stage that is no training has left results from which its script goes on.

        Its inputs have not changed since, and the verdicts of a judge are of this commit of the suite.
        """
        if self.command[0] == "judge_completions.py" and self.commit != commit():
            return False
        places = [Path(word) for flag, word in pairwise(self.command) if flag in OUTPUT_FLAGS]
        kept = [file for place in places for file in ([place] if place.is_file() else place.glob("*.partial.jsonl"))]
        return bool(kept) and newest(inputs_of(self.command)) <= newest(kept)

    def resumed(self) -> list[str]:
        """Return the command that continues the stage."""
        return ["--resume" if word == OVERWRITE else word for word in self.command]


def inputs_of(command: Sequence[str]) -> list[Path]:
    """Return the files and folders that a command names and reads."""
    # `Path.exists` raises OSError for a text that is too long for a name, such as a system prompt
    return [Path(word) for flag, word in pairwise(command) if flag not in OUTPUT_FLAGS and os.path.exists(word)]


def outputs_of(command: Sequence[str], run_folder: Path, since: float) -> tuple[str, ...]:
    """Return the files that a command has written, relative to the folder of the run.

    A stage has a folder of its own, or it writes to the folder of the run: then only files count that were written at
    or after `since`, in seconds since 1970.
    """
    found = []
    for place in (Path(word) for flag, word in pairwise(command) if flag in OUTPUT_FLAGS):
        own = [file for file in _files([place]) if not _is_not_needed(file.relative_to(place))]
        found += [file for file in own if place != run_folder or file.stat().st_mtime >= since]
    return tuple(sorted(file.relative_to(run_folder).as_posix() for file in found))


def newest(paths: Sequence[Path]) -> float:
    """Return when any of these files, or any file below these folders, last changed, in seconds since 1970."""
    return max((file.stat().st_mtime for file in _files(paths)), default=0.0)


def _files(paths: Sequence[Path]) -> list[Path]:
    found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return [file for file in found if file.is_file()]


def _is_not_needed(path: Path) -> bool:
    """Return whether a file, relative to the folder of its stage, is in one of the places that no stage needs."""
    return any(Path(part).match(pattern) for part in path.parts for pattern in NOT_NEEDED)
