"""Let one run at a time write to an output folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from script_io.errors import InputError
from script_io.files import cannot_write, output_folder

LOCK_FILE = ".lock"


@contextmanager
def lock_folder(folder: str | Path, file: str | None = None) -> Iterator[None]:
    """Hold the lock of `folder` within the block. The system releases it when the process ends, however it ends.

    With the name of a `file` in it, runs that write other files of the folder are not kept out. Of several training
    processes the first takes the lock for all. Folders that did not exist before and are empty at the end are removed.
    Raises InputError if another run holds the lock, or if the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: cannot write there, since it is a file; name a folder")
    path = folder / (f".{file}{LOCK_FILE}" if file else LOCK_FILE)
    lock = FileLock(path, is_singleton=True)  # a run may take it again in the same process
    with output_folder(folder):
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise InputError(
                f"{folder}: another run is writing there; wait for its end, or name another folder"
            ) from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            yield
        finally:
            if lock.lock_counter == 1:
                with suppress(OSError):  # deleted while the lock is held, so that no other run holds the same file
                    path.unlink()
            lock.release()
