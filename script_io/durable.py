"""Bring files to the disk itself, so that they survive a power cut, and recognise a disk that is full."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# no space, quota used up, file larger than allowed
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CODE = re.compile(r"os error (\d+)")


def flush_to_disk(path: Path) -> None:
    """Return once the content of a file or the entries of a folder are on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Return once everything in a folder is on the disk."""
    for path in (*folder.rglob("*"), folder):
        flush_to_disk(path)


@contextmanager
def as_os_errors(path: Path) -> Iterator[None]:
    """Within the block, errors that a library in Rust raises for a refusal of the system become OSError."""
    try:
        yield
    except Exception as error:  # tokenizers raises plain Exception
        if isinstance(error, OSError) or not (found := _CODE.search(str(error))):
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, as every other writer does, if the system refuses."""
    from safetensors.torch import save_file

    with as_os_errors(path):
        save_file(dict(tensors), path, metadata=dict(metadata) if metadata else None)
