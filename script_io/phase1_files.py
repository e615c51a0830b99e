"""Read Phase 1 data from a table of any kind that `script_io.tables` reads, with every cell as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from script_io.errors import InputError
from script_io.phase1_csv import COLUMNS, DATA_REMEDY, FACTUAL, REQUIRED_COLUMNS
from script_io.tables import TABLE_SUFFIXES, Place, stream_table

Phase1Row = tuple[Place, dict[str, str]]


def stream_phase1(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    required: Sequence[str] = REQUIRED_COLUMNS,
    remedy: str = DATA_REMEDY,
) -> Iterator[Phase1Row]:
    """Yield the rows of a Phase 1 table as (place, row) pairs; a missing value is "".

    `columns` maps names of ours to names of the file. A table with such names of its own may lack an id, for which the
    place is taken, and a label: then every row counts as factual, which is printed. Raises InputError with the place of
    a row whose cell in one of our columns is a list or an object.
    """
    said = False
    for place, row in stream_table(path, needed_columns(columns, required), remedy, columns):
        texts = {name: cell_text(path, place, name, cell) if name in COLUMNS else cell for name, cell in row.items()}
        if columns and "label" not in texts:
            if not said:
                print(f"{path}: has no label column; every row counts as {FACTUAL}")
            said, texts["label"] = True, FACTUAL
        if columns and not texts.get("id"):
            texts["id"] = place.row_id
        yield place, texts


def needed_columns(columns: Mapping[str, str] | None, required: Sequence[str] = REQUIRED_COLUMNS) -> list[str]:
    """Return the columns, by our names, without which a Phase 1 table is refused; see `stream_phase1`."""
    return [name for name in required if not columns or name not in ("id", "label")]


def read_phase1(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    required: Sequence[str] = REQUIRED_COLUMNS,
    remedy: str = DATA_REMEDY,
) -> list[Phase1Row]:
    """Return all rows of a Phase 1 table; see `stream_phase1`."""
    return list(stream_phase1(path, columns, required, remedy))


def cell_text(path: str | Path, place: Place, name: str, cell: Any) -> str:
    r"""Return a cell as text: "" for a missing value, "7" for 7 and 7.0; every line end is \n.

    Raises InputError for a list or an object.
    """
    if isinstance(cell, list | dict | tuple | bytes):
        raise InputError(f"{path}, {place}: {name} is not text but {type(cell).__name__}; give it as one string")
    return value_text(cell).replace("\r\n", "\n").replace("\r", "\n")


def value_text(cell: Any) -> str:
    """Return a text, a number or a missing value as text: "" if missing, "7" for 7 and 7.0."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def split_file(folder: Path, csv_name: str) -> Path:
    """Return the file of a split in a folder: the CSV of that name, or the same name with another ending of a table.

    Raises InputError if the folder has several of them. The path of the CSV is returned if it has none.
    """
    path = folder / csv_name
    found = [file for suffix in TABLE_SUFFIXES if (file := path.with_suffix(suffix)).is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError(f"{folder}: holds {names}; which is meant? Keep one of them")
    return found[0] if found else path
