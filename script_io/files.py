"""Read and write text, JSON and JSONL files. A file is written as a whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from script_io.durable import flush_to_disk
from script_io.errors import InputError, MissingColumnError


@contextmanager
def atomic_write(path: str | Path, *, private: bool = True) -> Iterator[IO[str]]:
    """Open a temporary UTF-8 text file next to `path`, and rename it to `path` if the block succeeds.

    The file is on the disk before it is renamed. Temporary files that killed runs left for the same `path` are deleted.
    Newlines are written as given, which `csv` needs, so a file is the same on every platform. A `private` file can be
    read by its owner alone, since most results hold text of patients; any other follows the umask.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115  (the `with` below closes it)
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        )
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror}); name another output path") from error
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        if not private:  # NamedTemporaryFile makes private files
            os.chmod(handle.name, 0o666 & ~_umask())
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if left.name != Path(handle.name).name:
                left.unlink(missing_ok=True)
        os.replace(handle.name, path)
    except BaseException as error:
        Path(handle.name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a failed write does not know its file
        raise
    flush_to_disk(path.parent)


def refuse_overwriting(source: str | Path | None, outputs: Iterable[Path], flag: str) -> None:
    """Raise InputError, which tells to change `flag`, if one of the output files is the input file `source`."""
    for output in outputs:
        if source and Path(source).exists() and output.exists() and output.samefile(source):
            raise InputError(f"{output}: is the input file, which would be overwritten; name another place with {flag}")


@contextmanager
def output_folder(folder: str | Path) -> Iterator[Path]:
    """Make `folder` with its parents. At the end those that did not exist before and are empty are removed.

    Raises InputError if it cannot be made.
    """
    folder = Path(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield folder
    finally:
        for each in made:
            with suppress(OSError):  # not empty
                each.rmdir()


def cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(f"{folder}: cannot write there ({error.strerror}); name another folder")


@contextmanager
def scratch_folder(folder: str | Path) -> Iterator[Path]:
    """Make a temporary folder inside `folder` and remove it at the end, and those that killed runs have left there.

    `folder` and its parents are also removed if they did not exist before and are empty.
    """
    with output_folder(folder) as outer:
        try:
            _delete_left_scratch(outer)
            scratch = Path(tempfile.mkdtemp(prefix=f".scratch.{_THIS_MACHINE}.{os.getpid()}.", dir=outer))
        except OSError as error:
            raise cannot_write(outer, error) from error
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


_THIS_MACHINE = re.sub(r"\W", "_", platform.node())


def _delete_left_scratch(folder: Path) -> None:
    """Delete the scratch folders whose process, on this machine, is gone."""
    import psutil

    for left in folder.glob(f".scratch.{_THIS_MACHINE}.*.*"):
        owner = left.name.split(".")[-2]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def private_opener(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=private_opener)`; a new one can be read by its owner alone."""
    return os.open(path, flags, 0o600)


def write_json(path: str | Path, content: Any, *, private: bool = False) -> None:
    """Write `content` as indented JSON, for the owner alone if `private`.

    Raises ValueError for NaN, which JSON does not have.
    """
    with atomic_write(path, private=private) as handle:
        json.dump(content, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def write_jsonl(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, for the owner alone. Raises ValueError for NaN, which JSON does not have."""
    with atomic_write(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path, remedy: str = "check the path") -> Any:
    """Read one JSON document. Raises InputError with `remedy` if the file is missing, not valid, or could not be
    written again, since it holds half of a character.
    """
    text = read_text(path, remedy)
    try:
        content = parsed_json(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); {remedy}") from error
    except ValueError as error:  # a doubled key, a number of thousands of digits, or too many brackets
        raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from error
    if has_surrogate_escape(text):
        _refuse_half_character(str(path), content)
    return content


def read_json_object(path: str | Path, remedy: str = "check the path") -> dict[str, Any]:
    """Read a JSON document that is one object. Raises InputError with `remedy` if it is anything else."""
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object is expected, found {type(content).__name__}; {remedy}")
    return content


def read_text(path: str | Path, remedy: str = "check the path") -> str:
    """Read a UTF-8 file, with or without a byte order mark. Every line end becomes \\n.

    Raises InputError with `remedy` if the file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {remedy}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, not a file; {remedy}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\\ud800-\\udfff]")
ONE_OBJECT_PER_LINE = "one object per line is expected"
LINE_LIMIT = 40_000_000  # characters; no row is longer, but a file without line ends is


def read_jsonl(
    path: str | Path, required: Sequence[str], remedy: str = "check the path"
) -> list[tuple[int, dict[str, Any]]]:
    """Return all objects of a JSONL file as (line number, object) pairs; see `jsonl_rows`.

    Raises InputError, which names `remedy`, if the file cannot be read.
    """
    with open_lines(path, remedy) as lines:
        return list(jsonl_rows(path, lines, required))


@contextmanager
def open_lines(path: str | Path, remedy: str = "check the path") -> Iterator[IO[str]]:
    """Open a UTF-8 file to read it line by line. Raises InputError as `read_text` does, also while it is read."""
    try:
        with open(path, encoding="utf-8-sig") as handle:
            yield handle
    except (OSError, UnicodeDecodeError):
        read_text(path, remedy)  # says what is wrong, and at which byte of the whole file
        raise


def jsonl_rows(
    path: str | Path, lines: Iterable[str], required: Sequence[str], remedy: str = ONE_OBJECT_PER_LINE
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) pairs of JSON lines. Blank lines are skipped. `path` is the file's name in errors.

    Raises InputError with the line if a line is not a JSON object or too long, names a key twice, lacks one of the
    `required` keys, or holds half of a character; and if there is no line.
    """
    has_rows = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _object_of_line(f"{path}, line {number}", line, remedy)
        missing = [key for key in required if key not in row]
        if missing:
            raise MissingColumnError(
                f"{path}, line {number}: missing key {', '.join(missing)}; found {', '.join(row) or 'none'}"
            )
        has_rows = True
        yield number, row
    if not has_rows:
        raise InputError(f"{path}: the file is empty; expected one JSON object per line with {', '.join(required)}")


def _object_of_line(place: str, line: str, remedy: str) -> dict[str, Any]:
    if len(line) > LINE_LIMIT:
        raise InputError(f"{place}: has {len(line):,} characters, over the limit of {LINE_LIMIT:,}; {remedy}")
    try:
        row = parsed_json(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON ({error.msg}); {remedy}") from error
    except ValueError as error:
        raise InputError(f"{place}: not valid JSON ({error}); {remedy}") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: a JSON object is expected, found {type(row).__name__}")
    if has_surrogate_escape(line):
        _refuse_half_character(place, row)
    return row


def _refuse_half_character(place: str, content: Any) -> None:
    if half := half_character(content):
        raise InputError(
            f"{place}: has {half}, half of a character, which no file can hold; remove it or give the whole character"
        )


def parsed_json(text: str) -> Any:
    """Return the value of a JSON text; NaN and Infinity, which JSON does not have, become None.

    Raises ValueError for text that is not JSON or that names a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object_of_pairs, parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for position, (key, _) in enumerate(pairs) if key in dict(pairs[:position]))
        raise ValueError(f"the key {twice} is there twice")
    return row


def has_surrogate_escape(text: str) -> bool:
    """Return whether a JSON text may hold half of a character, which `half_character` then finds."""
    return bool(_SURROGATE_ESCAPE.search(text))


def half_character(content: Any) -> str | None:
    """Return the first lone surrogate of a JSON value as an escape, its only form in a UTF-8 file, or None."""
    found = _SURROGATE.search(json.dumps(content, ensure_ascii=False))
    return f"\\u{ord(found[0]):04x}" if found else None
