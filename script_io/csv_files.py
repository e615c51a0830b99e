"""Read and write CSV files in which no cell runs as a spreadsheet formula."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from script_io.errors import InputError
from script_io.files import atomic_write, read_text

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
