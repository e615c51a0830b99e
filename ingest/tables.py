"""Read a table of any common kind: CSV and its relatives, JSON, JSONL, Parquet, a `datasets` folder, a folder of texts.

Every row keeps its place ("visits.csv, line 12"), so that a problem found later can be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.text_files import decoded, delimited_rows
from script_io.errors import InputError
from script_io.tables import JSON_SUFFIXES, PARQUET_SUFFIXES, Row, json_rows, parquet_rows

TEXT_SUFFIX, SUMMARY_SUFFIX = ".txt", ".summary.txt"
DELIMITED = {".csv": None, ".tsv": "\t", ".tab": "\t", ".psv": "|", ".txt": None}  # None: find the delimiter
DATASET_MARKS = ("dataset_dict.json", "state.json")  # written by save_to_disk: of a DatasetDict, of a Dataset
FILES_OF_FOLDER = (*(set(DELIMITED) - {TEXT_SUFFIX}), *JSON_SUFFIXES, *PARQUET_SUFFIXES)
REMEDIES = {
    ".xlsx": "save the sheet as CSV UTF-8",
    ".xls": "save the sheet as CSV UTF-8",
    ".ods": "save the sheet as CSV UTF-8",
    ".gz": "unpack it first: gunzip",
    ".zip": "unpack it first, and name the folder",
    ".pkl": "pickles can run code; save the table with to_parquet",
    ".pickle": "pickles can run code; save the table with to_parquet",
    ".docx": "save each text as NAME.txt with NAME.summary.txt",
    ".pdf": "save each text as NAME.txt with NAME.summary.txt",
}
KINDS = "CSV, TSV, JSON, JSONL, Parquet, a datasets folder, or a folder of NAME.txt with NAME.summary.txt"


@dataclass(frozen=True)
class SourceRow:
    """One row as the file has it. A cell may be text, a number, None, or a list or object of JSON or Parquet."""

    place: str  # for errors: file and line, or file and row
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of the input, and a sentence part that says how it was read."""

    rows: list[SourceRow]
    read_as: str

    @property
    def columns(self) -> list[str]:
        """Return all column names, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row.cells))


def read_table(path: Path, encoding: str | None = None, delimiter: str | None = None) -> Table:
    """Return the table in a file or folder. Raises InputError, with a remedy, for what cannot be read.

    `encoding` and `delimiter` are found if they are not given.
    """
    read = _read_folder if path.is_dir() else _read_file
    table = read(path, encoding, delimiter)
    if not table.rows:
        raise InputError(f"{path}: holds no row; name a file with notes and summaries")
    return table


def _read_file(path: Path, encoding: str | None, delimiter: str | None) -> Table:
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return Table(_placed(path, parquet_rows(path)), "Parquet")
    if remedy := REMEDIES.get(suffix):
        raise InputError(f"{path}: {suffix} files are not read; {remedy}")
    if suffix not in (*JSON_SUFFIXES, *DELIMITED):
        raise InputError(f"{path}: the kind of file is not known by its ending; give {KINDS}")
    text, read_as = decoded(path, encoding)
    if suffix in JSON_SUFFIXES:
        rows, kind = json_rows(path, text)
        return Table(_placed(path, rows), f"{kind}, {read_as}")
    lines, name = delimited_rows(path, text, delimiter or DELIMITED[suffix])
    return Table([SourceRow(f"{path}, line {line}", row) for line, row in lines], f"{name}, {read_as}")


def _read_folder(folder: Path, encoding: str | None, delimiter: str | None) -> Table:
    if any((folder / mark).is_file() for mark in DATASET_MARKS):
        return _read_dataset(folder)
    if any(folder.rglob(f"*{SUMMARY_SUFFIX}")):
        return _read_text_pairs(folder, encoding)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILES_OF_FOLDER and path.is_file())
    if not files:
        raise InputError(f"{folder}: holds no table and no *{SUMMARY_SUFFIX}; give {KINDS}")
    tables = [_read_file(path, encoding, delimiter) for path in files]
    for path, table in zip(files, tables, strict=True):
        if table.columns != tables[0].columns:
            raise InputError(
                f"{path}: has other columns than {files[0].name} ({', '.join(table.columns)}); name one of the files "
                "with --input, or give all of them the same columns"
            )
    names = ", ".join(path.relative_to(folder).as_posix() for path in files)
    return Table([row for table in tables for row in table.rows], f"{len(files)} files ({names}): {tables[0].read_as}")


# ------------------------------------------------------------------------------------- folders


def _read_dataset(folder: Path) -> Table:
    """Return all splits of a `datasets` folder as one table."""
    from datasets import Dataset, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # a damaged folder raises errors of Arrow, JSON or the library itself
        raise InputError(f"{folder}: no dataset could be loaded; save it again with save_to_disk") from error
    splits = {"": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    rows = [
        row
        for name, split in splits.items()
        for row in _numbered(f"{folder}, {name}" if name else str(folder), split.with_format(None).to_list())
    ]
    together = f"; its splits {', '.join(splits)} are split anew" if len(splits) > 1 else ""
    return Table(rows, f"datasets folder{together}")


def _placed(path: Path, rows: Iterable[Row]) -> list[SourceRow]:
    return [SourceRow(f"{path}, {place}", row) for place, row in rows]


def _numbered(name: str, rows: Iterable[Mapping[str, Any]]) -> list[SourceRow]:
    return [SourceRow(f"{name}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _read_text_pairs(folder: Path, encoding: str | None) -> Table:
    """Return a row with `id`, `clinical_note` and `model_summary` for each NAME.txt with its NAME.summary.txt."""
    texts = sorted(folder.rglob(f"*{TEXT_SUFFIX}"))
    summaries = {path for path in texts if path.name.endswith(SUMMARY_SUFFIX)}
    notes = [path for path in texts if path not in summaries]
    pairs = [note for note in notes if _partner(note) in summaries]
    alone = sorted({*notes, *summaries} - {*pairs, *map(_partner, pairs)})
    for path in alone:
        print(f"Left out {path}: it has no partner")
    rows = []
    for note in pairs:
        name = note.relative_to(folder).as_posix().removesuffix(TEXT_SUFFIX)
        cells = {
            "id": name,
            "clinical_note": decoded(note, encoding)[0],
            "model_summary": decoded(_partner(note), encoding)[0],
        }
        rows.append(SourceRow(str(note), cells))
    if not rows:
        raise InputError(f"{folder}: no NAME{TEXT_SUFFIX} has its NAME{SUMMARY_SUFFIX}; name the files in pairs")
    return Table(rows, f"folder of texts, {len(rows)} pairs and {len(alone)} files without a partner")


def _partner(note: Path) -> Path:
    return note.with_name(note.name.removesuffix(TEXT_SUFFIX) + SUMMARY_SUFFIX)
