"""Write a checkpoint folder completely or not at all, and recognise one that is damaged.

The folder is filled under a temporary name, brought to the disk and renamed. Its manifest, written last, holds the size
and the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from language_model.model_files import replace_folder
from script_io.durable import flush_folder, flush_to_disk
from script_io.errors import InputError
from script_io.files import read_json, write_json

MANIFEST_FILE = "manifest.json"


@contextmanager
def new_checkpoint(folder: Path) -> Iterator[Path]:
    """Yield the temporary folder to write; after the block it has a manifest, is on the disk and becomes `folder`."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        content = {path.relative_to(temporary).as_posix(): _identity(path) for path in files}
        write_json(temporary / MANIFEST_FILE, {"files": content})
        flush_folder(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    replace_folder(temporary, folder)
    flush_to_disk(folder.parent)


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if every file is as the manifest says."""
    if not (checkpoint / MANIFEST_FILE).is_file():
        return f"{MANIFEST_FILE} is missing"
    try:
        files = dict(read_json(checkpoint / MANIFEST_FILE)["files"])
    except (InputError, KeyError, TypeError, ValueError):
        return f"{MANIFEST_FILE} is damaged"
    for name, (size, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if _identity(path) != [size, digest]:
            return f"{name} has changed since it was written"
    return None


def newest_sound(checkpoints: Sequence[Path]) -> Path | None:
    """Return the first checkpoint that is not damaged, and name those that are passed over.

    Raises InputError if all of them are damaged, so that no run is deleted that could be repaired.
    """
    problems: list[str] = []
    for checkpoint in checkpoints:
        problem = damage(checkpoint)
        if problem is None:
            if problems:
                print(f"warning: {'; '.join(problems)}; {checkpoint.name} is used", file=sys.stderr)
            return checkpoint
        problems.append(f"{checkpoint}: {problem}")
    if problems:
        raise InputError(
            f"{'; '.join(problems)}: no checkpoint is complete; put a sound one there, or start again with "
            "--overwrite_output_dir"
        )
    return None


def delete_folder(folder: Path) -> None:
    """Delete a folder. If the run is killed meanwhile, nothing takes the rest for a checkpoint."""
    leaving = folder.with_name(f".{folder.name}.old")
    folder.rename(leaving)
    shutil.rmtree(leaving)


def delete_leftovers(run_folder: Path) -> None:
    """Delete the temporary files and folders that a killed run left in its folder."""
    for path in run_folder.glob(".*"):
        if path.is_dir() and path.suffix in (".tmp", ".old"):
            shutil.rmtree(path)
        elif path.suffix == ".tmp":
            path.unlink()


def _identity(path: Path) -> list[int | str]:
    """Return [size in bytes, SHA-256] of a file."""
    with path.open("rb") as handle:
        return [path.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest()]
