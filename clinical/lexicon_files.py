"""Read the CSV files of the word lists: the built-in folder `lexicons/` and the folders that a user adds.

`clinical.lexicons` turns the rows into tables. A table is computed once and again after a folder is added or removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

from script_io.csv_files import read_csv
from script_io.errors import InputError

BUILT_IN = Path(__file__).resolve().parents[1] / "lexicons"
NAME_FILES = {  # type of fact -> file
    "drug": "drugs.csv",
    "condition": "conditions.csv",
    "symptom": "symptoms.csv",
    "procedure": "procedures.csv",
    "organism": "organisms.csv",
}
NAME_COLUMNS = ("name", "group", "synonyms")
ABBREVIATIONS = "abbreviations.csv"
_COLUMNS: dict[str, tuple[str, ...]] = dict.fromkeys(NAME_FILES.values(), NAME_COLUMNS)
_COLUMNS |= {
    ABBREVIATIONS: ("abbreviation", "expansion", "case", "before", "after"),
    "sound_alikes.csv": ("name", "confused_with"),
    "units.csv": ("spelling", "factor", "base_unit"),
    "reference_ranges.csv": ("name", "low", "high", "unit", "plausible_low", "plausible_high", "decimals"),
}
folders = [BUILT_IN]  # a user's folders come first, in the order in which they were added
_tables: list[Callable[[], object]] = []
_callbacks: list[Callable[[], object]] = []

Table = TypeVar("Table", bound=Callable[[], object])


def table(load: Table) -> Table:
    """Decorate a function that reads a table: cache its result, and check it when a folder is added."""
    cached = lru_cache(maxsize=1)(load)
    _tables.append(cached)
    on_change(cached.cache_clear)
    return cast(Table, cached)


def on_change(callback: Callable[[], object]) -> Callable[[], object]:
    """Register a callback for changes of the word lists, such as the `cache_clear` of a cache. Return the callback."""
    _callbacks.append(callback)
    return callback


def add_lexicon_dir(path: Path) -> list[str]:
    """Add a user's CSV files to the word lists of this process, and return the names of the files.

    The files have the names and columns of the built-in files. A user's row overrides a built-in row with the same
    name, phrase or spelling. Raises InputError if the folder holds no CSV file, a file has an unknown name or a row
    is invalid; then nothing is added.
    """
    path, names = Path(path).resolve(), _csv_names(Path(path))
    if path in folders:
        return names
    folders.insert(len(folders) - 1, path)
    try:
        _forget()
        for load in _tables:
            load()
    except InputError:
        folders.remove(path)
        _forget()
        raise
    return names


def remove_lexicon_dir(path: Path) -> None:
    """Undo `add_lexicon_dir`. A folder that was not added is ignored."""
    path = Path(path).resolve()
    if path in folders[:-1]:
        folders.remove(path)
        _forget()


def _csv_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder with CSV files such as drugs.csv")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".csv")
    if not names:
        raise InputError(f"{folder}: holds no CSV file; add at least one of {', '.join(_COLUMNS)}")
    for name in names:
        if name not in _COLUMNS:
            raise InputError(f"{folder / name}: no lexicon has this name; use one of {', '.join(_COLUMNS)}")
    return names


def _forget() -> None:
    for callback in _callbacks:
        callback()


def rows_of(folder: Path, file_name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (location for error messages, row with stripped cells). The first column is never empty."""
    columns = _COLUMNS[file_name]
    path = folder / file_name
    for line, row in read_csv(path, columns) if folder == BUILT_IN or path.exists() else ():
        where = f"{path}, line {line}"
        if not row[columns[0]].strip():
            raise InputError(f"{where}: {columns[0]} is empty; fill it in or remove the row")
        yield where, {column: cell.strip() for column, cell in row.items()}


def all_rows(file_name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of all folders as `rows_of` does, a user's rows first."""
    for folder in folders:
        yield from rows_of(folder, file_name)


def number_of(where: str, column: str, cell: str) -> float:
    """Return the finite number of a cell. Raises InputError if the cell holds something else."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column} is {cell!r}, not a number; write a number such as 0.5")
    return value
