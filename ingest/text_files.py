"""Decode text files of unknown encoding, and read delimited tables of unknown delimiter."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from charset_normalizer import from_bytes

from script_io.csv_files import csv_rows
from script_io.errors import InputError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# UTF-32 first, because its mark begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The alphabets that statistics of letters tell apart. They do not tell cp1252 from its western relatives.
_CANDIDATES = ["cp1252", "cp1251", "koi8_r", "cp1253", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
_SAMPLE_ROWS, _SAMPLE_CHARACTERS = 200, 4_000_000


def decoded(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """Return the text of a file with \\n as its line end, and a name of its encoding. Without `encoding`, it is found.

    A byte order mark decides, then valid UTF-8, then zero bytes in every second place (UTF-16), then the statistics of
    letters, where western texts count as cp1252. Raises InputError for a missing or binary file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    name = encoding or found_encoding(path, data)
    try:
        text = data.decode(name)
    except (UnicodeDecodeError, LookupError) as error:
        raise InputError(f"{path}: not {name} text ({error}); name its encoding with --encoding") from error
    return text.replace("\r\n", "\n").replace("\r", "\n"), name


def found_encoding(path: Path, data: bytes) -> str:
    """Return the encoding of a file's bytes. Raises InputError if they are no text."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    try:
        if "\0" not in data.decode("utf-8"):
            return "utf-8"
    except UnicodeDecodeError:
        pass
    if b"\0" in data:
        return _utf16_without_mark(path, data)
    best = from_bytes(data, cp_isolation=_CANDIDATES).best()
    if best is None:
        raise InputError(f"{path}: its encoding could not be found; name it with --encoding, or save it as UTF-8")
    return best.encoding


def _utf16_without_mark(path: Path, data: bytes) -> str:
    """Return which UTF-16 the bytes are: western letters have a zero byte at every odd (LE) or even (BE) place."""
    zeros = [data[side::2].count(0) / max(1, len(data) // 2) for side in (0, 1)]
    if max(zeros) < 0.5 or min(zeros) > 0.1:
        raise InputError(f"{path}: is binary, not text; save the table as CSV in UTF-8, or as Parquet")
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def delimited_rows(path: Path, text: str, delimiter: str | None = None) -> tuple[list[tuple[int, dict[str, str]]], str]:
    """Return the (line, row) pairs of a delimited table, and how its cells are separated.

    Raises InputError with the line for rows that do not fit the header.
    """
    if not text.strip():
        raise InputError(f"{path}: the file is empty; expected a header and rows")
    found = delimiter or found_delimiter(text)
    if found is None:
        raise InputError(
            f"{path}, line 1: no comma, semicolon, tab or vertical bar separates the columns; name the character with "
            "--delimiter"
        )
    if len(found) != 1:
        raise InputError(f"--delimiter {found!r}: give one character")
    rows = list(csv_rows(path, io.StringIO(text), (), found))
    return rows, f"cells separated by {DELIMITERS.get(found, repr(found))}"


def found_delimiter(text: str) -> str | None:
    """Return the delimiter that gives most rows as many cells as the header, or None if none gives two columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    scores = {mark: _fit(text, mark) for mark in DELIMITERS}
    best = max(scores, key=lambda mark: scores[mark])
    return best if scores[best][1] > 1 else None


def _fit(text: str, delimiter: str) -> tuple[float, int]:
    """Return (share of rows with as many cells as the header, number of columns) of the first rows."""
    rows: list[Sequence[str]] = []
    try:
        rows += islice(csv.reader(io.StringIO(text[:_SAMPLE_CHARACTERS]), delimiter=delimiter), _SAMPLE_ROWS)
    except csv.Error:
        return 0.0, 0
    filled = [row for row in rows if row]
    columns = len(filled[0]) if filled else 0
    if columns < 2:
        return 0.0, columns
    return sum(len(row) == columns for row in filled) / len(filled), columns
