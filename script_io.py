"""The edges of every script: the user's files, one-line errors, files that are either whole or absent.

Errors: a script raises `InputError` for anything the user can mend; `run_script` prints it as one line on
stderr and returns exit code 2. Ctrl-C returns 130 and SIGTERM 143.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class InputError(Exception):
    """Bad input. The message is one line: file, line or row id, what is wrong, what to do."""


class RunError(Exception):
    """A run cannot go on although its input was good. One line as `InputError`, exit code 1."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an `Exception`, so that no handler of ordinary errors takes it."""


class ArgumentParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, like all errors of the suite."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message}; see {self.prog} --help\n")


def run_script(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Runs `main(args)` and turns the errors a user can cause into one line and an exit code."""

    def terminate(signal_number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        return main(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated:
        print("terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[str]]:
    """Opens a temporary UTF-8 text file beside `path`; renames it to `path` only if the block succeeds.

    Newlines are written as given (`csv` wants that), so a file is the same on every platform.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115  (closed below, whatever happens)
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        )
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror}); name another output path") from error
    try:
        with handle:
            yield handle
        # NamedTemporaryFile makes files private to their owner; the rest of the suite's files follow the umask.
        os.chmod(handle.name, 0o666 & ~_umask())
        os.replace(handle.name, path)
    except BaseException:
        Path(handle.name).unlink(missing_ok=True)
        raise


@contextmanager
def scratch_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, removed at the end; `folder` too where it was made here and is left empty."""
    folder = Path(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".scratch.", dir=folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); name another output path") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # it holds something
                each.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | Path, content: Any) -> None:
    """Writes `content` as indented JSON; NaN is refused, since it is no JSON."""
    with atomic_write(path) as handle:
        json.dump(content, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def write_jsonl(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line."""
    with atomic_write(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


# What a spreadsheet takes for a formula: one of = + - @ (or its full-width form) first in a cell or after white space,
# or a tab or line break that sends the rest to a cell of its own. Apostrophes before it are ours or the text's.
_FORMULA = re.compile(r"'*[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠]|'*[\t\r\n]")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes an RFC 4180 CSV (CRLF line ends) with a header row, in which no cell runs as a formula.

    Text that a spreadsheet would take for a formula (`=1+1`, `-HYPERLINK(...)`, a tab and then `@SUM`) gets an
    apostrophe before it. Numbers stay numbers, as values (-0.5) and as text ("-0.5"). `read_csv` takes the apostrophe
    away again, and text that had one of its own before such a sign gets a second, so that every text comes back as it
    was, but for line breaks, which all come back as \\n. Whoever reads the file by other means (pandas, a
    spreadsheet) sees the apostrophe.
    """
    with atomic_write(path) as handle:
        writer = csv.DictWriter(handle, fieldnames=columns, extrasaction="raise")
        writer.writerow({column: _without_formula(column) for column in columns})
        writer.writerows({column: _without_formula(cell) for column, cell in row.items()} for row in rows)


def _without_formula(cell: object) -> object:
    runs = isinstance(cell, str) and _FORMULA.match(cell) and not _PLAIN_NUMBER.fullmatch(cell)
    return f"'{cell}" if runs else cell


def _as_written(cell: str) -> str:
    """The text that `_without_formula` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_json(path: str | Path, remedy: str = "check the path") -> Any:
    """Reads one JSON document. Raises InputError naming `remedy` where the file is missing or broken."""
    text = read_text(path, remedy)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); {remedy}") from error


def read_text(path: str | Path, remedy: str = "check the path") -> str:
    """Reads a UTF-8 file (with or without a byte order mark); every line end becomes \\n, whichever system wrote it."""
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


def read_csv(
    path: str | Path, required: Sequence[str], remedy: str = "check the path"
) -> list[tuple[int, dict[str, str]]]:
    """All rows of a CSV, as `stream_csv` gives them."""
    return list(stream_csv(path, required, remedy))


def stream_csv(
    path: str | Path, required: Sequence[str], remedy: str = "check the path"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a CSV as (line number, row) pairs, one at a time; the line is the one on which the row ends.

    The apostrophe with which `write_csv` keeps a cell from running as a formula is taken away.
    Raises InputError where the file is missing, empty, lacks one of the `required` columns, or a row has more
    or fewer cells than the header.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # whole visits exceed the default limit of 131,072 characters
    try:
        with open(path, encoding="utf-8-sig") as handle:
            yield from _csv_rows(path, handle, required)
    except (OSError, UnicodeDecodeError):
        read_text(path, remedy)  # says what is wrong, and at which byte of the whole file
        raise


def _csv_rows(path: str | Path, handle: IO[str], required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(handle, strict=True)
    has_rows = False
    try:
        header = [_as_written(cell) for cell in next(reader, ())]
        if not header:
            raise InputError(f"{path}: the file is empty; expected a header with the columns {', '.join(required)}")
        missing = [column for column in required if column not in header]
        if missing:
            raise InputError(f"{path}, line 1: missing column {', '.join(missing)}; found {', '.join(header)}")
        for cells in filter(None, reader):
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(header)}; "
                    "quote cells that hold commas, quotes or line breaks"
                )
            has_rows = True
            yield reader.line_num, dict(zip(header, map(_as_written, cells), strict=True))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); quote cells as RFC 4180 asks"
        ) from error
    if not has_rows:
        raise InputError(f"{path}: the file has a header but no rows; add at least one")


_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\\ud800-\\udfff]")


def read_jsonl(
    path: str | Path, required: Sequence[str], remedy: str = "check the path"
) -> list[tuple[int, dict[str, Any]]]:
    """Reads a JSONL file into (line number, object) pairs; blank lines are passed over.

    Raises InputError where the file is missing, empty or not UTF-8, or a line is no JSON object, lacks one of the
    `required` keys, or has text that no UTF-8 file can hold.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(read_text(path, remedy).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not valid JSON ({error.msg}); one object a line is expected"
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: a JSON object is expected, found {type(row).__name__}")
        if half := _half_character(line, row):
            raise InputError(
                f"{path}, line {number}: has {half}, half of a character, which no file can hold; remove it or give "
                "the whole character"
            )
        missing = [key for key in required if key not in row]
        if missing:
            raise InputError(
                f"{path}, line {number}: missing key {', '.join(missing)}; found {', '.join(row) or 'none'}"
            )
        rows.append((number, row))
    if not rows:
        raise InputError(f"{path}: the file is empty; expected one JSON object a line with {', '.join(required)}")
    return rows


def _half_character(line: str, row: Mapping[str, Any]) -> str | None:
    """The first lone surrogate in a row, as JSON writes it; only an escape can bring one into a UTF-8 file."""
    if not _SURROGATE_ESCAPE.search(line):
        return None
    found = _SURROGATE.search(json.dumps(row, ensure_ascii=False))
    return f"\\u{ord(found[0]):04x}" if found else None
