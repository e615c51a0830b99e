"""Read the rows of a table whose kind its name tells: CSV, TSV, JSON lines, a JSON array or Parquet.

Every row comes with its place, so that an error can name it. All but JSON arrays are read row by row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from script_io.csv_files import stream_csv
from script_io.errors import InputError, MissingColumnError
from script_io.files import (
    ONE_OBJECT_PER_LINE,
    half_character,
    has_surrogate_escape,
    jsonl_rows,
    open_lines,
    parsed_json,
    read_text,
)

JSON_LINES = (".jsonl", ".ndjson")
JSON_SUFFIXES = (".json", *JSON_LINES)
PARQUET_SUFFIXES = (".parquet", ".pq")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLE_SUFFIXES = (*DELIMITERS, *JSON_SUFFIXES, *PARQUET_SUFFIXES)
CELL_LIMIT = 10_000_000  # characters; no note is longer, but a file with a missing quote or line end is


class Place(NamedTuple):
    """Where a row is in its file: `line 12` of a text file, `row 3` of a JSON array or of Parquet."""

    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"

    @property
    def row_id(self) -> str:
        """The id of a row that has none."""
        return f"{self.unit}-{self.number}"


Row = tuple[Place, dict[str, Any]]


def repeated_id(row_id: object, place: Place, places: dict[str, Place]) -> str | None:
    """Return that an earlier row has the id, or None. `places` has the place of each id so far; this one is added."""
    earlier = places.setdefault(str(row_id), place)
    return f"{earlier} has the id {row_id} too; rename one" if earlier != place else None


def read_table(
    path: str | Path,
    required: Sequence[str],
    remedy: str = "check the path",
    columns: Mapping[str, str] | None = None,
    *,
    other_names: str = ".csv",
    flag: str | None = None,
) -> list[Row]:
    """Return all rows of a table as (place, row) pairs; see `stream_table`."""
    return list(stream_table(path, required, remedy, columns, other_names=other_names, flag=flag))


def stream_table(
    path: str | Path,
    required: Sequence[str],
    remedy: str = "check the path",
    columns: Mapping[str, str] | None = None,
    *,
    other_names: str = ".csv",
    flag: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of a table as (place, row) pairs.

    `columns` maps names of ours to names of the file, whose columns are renamed. A file whose name ends in none of
    TABLE_SUFFIXES is read as `other_names`. Raises InputError, which names `remedy`, if the file cannot be read, and
    with the place of the row if it lacks one of the `required` columns or holds a text over CELL_LIMIT. `flag` is the
    flag that names columns of the user, by default `--columns` if `columns` is given.
    """
    flag = "--columns" if columns is not None and flag is None else flag
    columns = columns or {}
    wanted = list(dict.fromkeys([columns.get(name, name) for name in required] + list(columns.values())))
    try:
        for place, row in _rows(path, wanted, remedy, other_names):
            for name, cell in row.items():
                if isinstance(cell, str) and len(cell) > CELL_LIMIT:
                    raise InputError(
                        f"{path}, {place}: {name} has {len(cell):,} characters, over the limit of {CELL_LIMIT:,}; look "
                        "for a missing quote or line end"
                    )
            yield place, _renamed(row, columns) if columns else row
    except MissingColumnError as error:
        if flag is None:
            raise
        raise InputError(f"{error}; name your own columns with {flag}") from error


def csv_lines(path: str | Path, columns: Mapping[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """Yield, for each row of a table of any kind, its number and the line at which it would end in a CSV."""
    line = 1  # the header
    for place, row in stream_table(path, (), columns=columns):
        texts = (cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row.values() if isinstance(cell, str))
        line += 1 + sum(text.count("\n") for text in texts)
        yield place.number, line


def _rows(path: str | Path, required: Sequence[str], remedy: str, other_names: str) -> Iterator[Row]:
    suffix = Path(path).suffix.lower()
    suffix = suffix if suffix in TABLE_SUFFIXES else other_names
    if suffix in PARQUET_SUFFIXES:
        yield from with_columns(path, parquet_rows(path, remedy), required)
    elif suffix == ".json":
        yield from with_columns(path, json_rows(path, read_text(path, remedy))[0], required)
    elif suffix in JSON_LINES:
        with open_lines(path, remedy) as lines:
            for line, row in jsonl_rows(path, lines, required):
                yield Place("line", line), row
    else:
        for line, row in stream_csv(path, required, remedy, DELIMITERS[suffix]):
            yield Place("line", line), row


def with_columns(path: str | Path, rows: Iterable[Row], required: Sequence[str]) -> Iterator[Row]:
    """Yield the rows. Raises InputError with the place of the first that lacks one of the `required` columns."""
    for place, row in rows:
        if missing := [name for name in required if name not in row]:
            raise MissingColumnError(
                f"{path}, {place}: missing column {', '.join(missing)}; found {', '.join(row) or 'none'}"
            )
        yield place, row


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the row under our names; a column that the file calls by one of our names gives way."""
    kept = {name: cell for name, cell in row.items() if name not in columns and name not in columns.values()}
    return {**{ours: row[theirs] for ours, theirs in columns.items()}, **kept}


# ------------------------------------------------------------------------------------------ JSON


def json_rows(path: str | Path, text: str) -> tuple[list[Row], str]:
    """Return the rows of a JSON document or of JSON lines, and which of them it is."""
    if not text.strip():
        raise InputError(f"{path}: the file is empty; give an array of objects, or one object per line")
    try:
        document = parsed_json(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise InputError(f"{path}{line}: not valid JSON ({reason}); correct it") from error
        return _json_lines(path, text)
    if isinstance(document, dict):
        if Path(path).suffix.lower() in JSON_LINES:
            return _json_lines(path, text)
        document, kind = _rows_of_object(path, document)
    else:
        kind = "JSON array"
    if not isinstance(document, list):
        raise InputError(f"{path}: holds {type(document).__name__}, not a table; give an array of objects")
    if not document:
        raise InputError(f"{path}: the file is empty; give an array of objects, or one object per line")
    rows = [(Place("row", number), _object(path, row, number)) for number, row in enumerate(document, start=1)]
    for place, row in rows if has_surrogate_escape(text) else ():
        if half := half_character(row):
            raise InputError(f"{path}, {place}: has {half}, half of a character, which no file can hold; remove it")
    return rows, kind


def _json_lines(path: str | Path, text: str) -> tuple[list[Row], str]:
    found = jsonl_rows(path, text.split("\n"), (), remedy=f"{ONE_OBJECT_PER_LINE}, or one array")
    return [(Place("line", line), row) for line, row in found], "JSON lines"


def _rows_of_object(path: str | Path, document: dict[str, Any]) -> tuple[Any, str]:
    """Return the rows of an object that wraps a table: {"data": [...]}, or columns as pandas' `to_json` writes them."""
    lists = [key for key, value in document.items() if isinstance(value, list)]
    if len(lists) == 1 and all(isinstance(row, dict) for row in document[lists[0]]):
        return document[lists[0]], f'JSON array under "{lists[0]}"'
    columns = list(document.values())
    if len(columns) > 1 and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(document, cells, strict=True)) for cells in zip(*columns, strict=True)], "JSON columns"
    if len(columns) > 1 and all(isinstance(c, dict) and c.keys() == columns[0].keys() for c in columns):
        return [{name: document[name][index] for name in document} for index in columns[0]], "JSON columns"
    if not any(isinstance(value, list | dict) for value in columns):
        return [document], "one JSON object"
    raise InputError(f"{path}: an object with the keys {', '.join(document)} is no table; give an array of objects")


def _object(path: str | Path, row: Any, number: int) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{path}, row {number}: an object is expected, found {type(row).__name__}; give column names")
    return row


# --------------------------------------------------------------------------------------- Parquet

_JSON_TYPES = (str, bool, int, bytes, type(None))


def _json_value(cell: Any) -> Any:
    """Return a cell as JSON would hold it: dates and decimals as text, NaN as None. Bytes stay."""
    if isinstance(cell, list):
        return [_json_value(each) for each in cell]
    if isinstance(cell, dict):
        return {name: _json_value(each) for name, each in cell.items()}
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    return cell if isinstance(cell, _JSON_TYPES) else str(cell)


def parquet_rows(path: str | Path, remedy: str = "check the path") -> Iterator[Row]:
    """Yield the rows of a Parquet file. Raises InputError, which names `remedy`, if there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        read_text(path, remedy)  # says what is wrong
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Place("row", number), {name: _json_value(cell) for name, cell in row.items()}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet; save the table again with to_parquet") from error
    if not number:
        raise InputError(f"{path}: the table has no rows; add at least one")
