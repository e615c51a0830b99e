"""Read and write CSV files in which no cell runs as a spreadsheet formula.

Written with the `csv` module rather than pandas for three reasons: errors name the line of the file, a file that does
not fit into memory is read row by row, and every cell stays text ("NA" is a word, 007 an id).
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from script_io.errors import InputError, MissingColumnError
from script_io.files import LINE_LIMIT, atomic_write, read_text

# What a spreadsheet reads as a formula: = + - @ (or a full-width form) at the start of a cell or after white space, or
# a tab or line break, which moves the rest into another cell. Leading apostrophes are ours or part of the text.
_FORMULA = re.compile(r"'*[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠]|'*[\t\r\n]")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write an RFC 4180 CSV (CRLF line ends) with a header row, in which no cell runs as a formula.

    Text that a spreadsheet would run as a formula (`=1+1`, `-HYPERLINK(...)`, a tab followed by `@SUM`) is written with
    a leading apostrophe. Numbers are written as they are, both values (-0.5) and text ("-0.5"). `read_csv` removes the
    apostrophe, and text that already starts with one gets a second, so every text is read back unchanged, with two
    exceptions: every line break becomes \\n, and NUL, which no text file may hold, becomes U+FFFD. Other readers
    (pandas, spreadsheets) see the apostrophe.
    """
    with atomic_write(path) as handle:
        writer = csv.DictWriter(handle, fieldnames=columns, extrasaction="raise")
        writer.writerow({column: _escape(column) for column in columns})
        writer.writerows({column: _escape(cell) for column, cell in row.items()} for row in rows)


def update_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write a CSV as `write_csv` does, unless it holds these rows: then what has read it is still up to date."""
    if not path.is_file() or [row for _, row in read_csv(path, ())] != rows:
        write_csv(path, columns, rows)


def _escape(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text) else text


def _unescape(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_csv(
    path: str | Path, required: Sequence[str], remedy: str = "check the path"
) -> list[tuple[int, dict[str, str]]]:
    """Return all rows of a CSV as (line number, row) pairs; see `stream_csv`."""
    return list(stream_csv(path, required, remedy))


def stream_csv(
    path: str | Path, required: Sequence[str], remedy: str = "check the path", delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV as (line number, row) pairs; the number is the last line of the row.

    The apostrophe that `write_csv` puts before a formula is removed. Raises InputError, which names `remedy`, if the
    file cannot be read. Raises InputError with the line if the file is empty, lacks one of the `required` columns,
    names a column twice or holds a NUL byte, or if a row has more or fewer cells than the header.
    """
    try:
        with open(path, encoding="utf-8-sig") as handle:
            yield from csv_rows(path, handle, required, delimiter)
    except (OSError, UnicodeDecodeError):
        read_text(path, remedy)  # says what is wrong, and at which byte of the whole file
        raise


def csv_rows(
    path: str | Path, handle: IO[str], required: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of an open CSV, as `stream_csv` does and with the same errors. `path` is its name in errors."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # whole visits exceed the default limit of 131,072 characters
    reader = csv.reader(_text_lines(path, handle), strict=True, delimiter=delimiter)
    has_rows = False
    try:
        header = [_unescape(cell) for cell in next(reader, ())]
        _check_header(path, header, required, delimiter)
        for cells in filter(None, reader):
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(header)}; "
                    "quote cells that hold commas, quotes or line breaks"
                )
            has_rows = True
            yield reader.line_num, dict(zip(header, map(_unescape, cells), strict=True))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); quote cells as RFC 4180 asks"
        ) from error
    if not has_rows:
        raise InputError(f"{path}: the file has a header but no rows; add at least one")


def _text_lines(path: str | Path, handle: IO[str]) -> Iterator[str]:
    for number, line in enumerate(handle, start=1):
        if "\0" in line:
            raise InputError(
                f"{path}, line {number}: holds a NUL byte, which no text file has; save the file as CSV in UTF-8"
            )
        if len(line) > LINE_LIMIT:
            raise InputError(
                f"{path}, line {number}: has {len(line):,} characters, over the limit of {LINE_LIMIT:,}; look for a "
                "missing line end"
            )
        yield line


def _check_header(path: str | Path, header: Sequence[str], required: Sequence[str], delimiter: str) -> None:
    if not header:
        raise InputError(f"{path}: the file is empty; expected a header with the columns {', '.join(required)}")
    missing = [column for column in required if column not in header]
    if missing:
        remedy = _delimiter_remedy(header, delimiter)
        raise MissingColumnError(
            f"{path}, line 1: missing column {', '.join(missing)}; found {', '.join(header)}{remedy}"
        )
    # spreadsheets save empty columns without a name; nothing reads those
    repeated = [column for column, count in Counter(header).items() if column and count > 1]
    if repeated:
        raise InputError(
            f"{path}, line 1: repeated column {', '.join(repeated)}; keep one of each and rename the others"
        )


def _delimiter_remedy(header: Sequence[str], delimiter: str) -> str:
    """Return what to do if the whole header is one cell that holds another delimiter, else ""."""
    others = [name for sign, name in DELIMITER_NAMES.items() if len(header) == 1 and sign in header[0]]
    ours = DELIMITER_NAMES.get(delimiter, delimiter)
    return f"; {others[0]} separate the columns, so save the table with {ours}" if others and ours not in others else ""
