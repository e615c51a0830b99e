"""Read the notes to summarise from a text, a file or a folder, each with all that its file says about it.

A `.txt` file has one note per line, or is one note. A table (`.csv`, `.jsonl`, `.json`, `.parquet`) has one note per
row, and the other columns of the row are kept. In a folder, each `.txt` file is one note.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from language_model.prompt_format import note_of_prompt, note_of_row
from script_io.errors import InputError
from script_io.files import read_text
from script_io.tables import CELL_LIMIT, DELIMITERS, TABLE_SUFFIXES, Place, read_table

NOTE_COLUMN = "clinical_note"
KEPT = "input_"  # begins the name of an input column whose own name is used for something else


@dataclass(frozen=True)
class Note:
    """A note, the name that messages give it, and the columns that its row in an output file begins with."""

    name: str  # the id of its row, the name of its file, or its line number
    text: str
    columns: Mapping[str, Any] = field(default_factory=dict)


def one_note(name: str, text: str) -> Note:
    """Return a note without a row, whose name is its id. Raises InputError if it is too long to be one."""
    if len(text) > CELL_LIMIT:
        raise InputError(f"note {name} has {len(text):,} characters, over the limit of {CELL_LIMIT:,}; divide it")
    return Note(name, text, {"id": name, NOTE_COLUMN: text})


def note_of_argument(argument: str, flag: str) -> Note:
    """Return the note of a command line: the argument itself, or the content of FILE for `@FILE`."""
    text = read_text(argument[1:], f"correct {flag}") if argument.startswith("@") else argument
    if not text.strip():
        raise InputError(f"{flag}: the note is empty; give its text, or @FILE")
    return one_note("1", text.strip())


def read_notes(path: Path, column: str | None = None, *, one_per_file: bool = False) -> list[Note]:
    """Return the notes of a file or folder; `column` names the column of a table that has the note.

    With `one_per_file`, a .txt file is one note, as it always is in a folder. Raises InputError for another file name
    extension, for an empty note, and for an argument that does not fit the file.
    """
    extension = ".txt" if path.is_dir() else path.suffix.lower()
    if extension not in (".txt", *TABLE_SUFFIXES):
        names = ", ".join((".txt", *TABLE_SUFFIXES))
        raise InputError(f"{path}: the name must end in {names}; rename or convert the file")
    if extension == ".txt" and column is not None:
        raise InputError(f"--note_column {column}: {path} has no columns; leave the flag out")
    if extension != ".txt" and one_per_file:
        raise InputError(f"--one_note_per_file: {path} has one note per row; leave the flag out")
    if path.is_dir():
        return _folder_notes(path)
    if extension == ".txt":
        return [_file_note(path)] if one_per_file else _line_notes(path)
    return _csv_notes(path, column or NOTE_COLUMN) if extension in DELIMITERS else _keyed_notes(path, column)


def _folder_notes(folder: Path) -> list[Note]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    if not texts:
        raise InputError(f"{folder}: holds no .txt file; name a folder with one note per .txt file")
    others = [path.name for path in files if path not in texts]
    if others:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        print(f"warning: {folder}: files that do not end in .txt are left out: {shown}", file=sys.stderr)
    return [_file_note(path) for path in texts]


def _file_note(path: Path) -> Note:
    text = read_text(path).strip()
    if not text:
        raise InputError(f"{path}: the note is empty; fill it in or delete the file")
    return one_note(path.name, text)


def _line_notes(path: Path) -> list[Note]:
    lines = enumerate(read_text(path).split("\n"), start=1)
    notes = [one_note(str(number), line.strip()) for number, line in lines if line.strip()]
    if not notes:
        raise InputError(f"{path}: the file is empty; expected one note per line")
    return notes


def _csv_notes(path: Path, column: str) -> list[Note]:
    rows = read_table(path, (column,), flag="--note_column")
    return [_row_note(path, place, row, column, row[column]) for place, row in rows]


def _keyed_notes(path: Path, column: str | None) -> list[Note]:
    """Return one note per row, from `column`, else from `clinical_note` or `prompt`."""
    notes = []
    for place, row in read_table(path, (column,) if column else ()):
        key = column or ("prompt" if row.get(NOTE_COLUMN) is None else NOTE_COLUMN)
        if key not in row:
            raise InputError(f"{path}, {place}: no key clinical_note or prompt; name the key with --note_column")
        text = row[key]
        if not isinstance(text, str):
            raise InputError(f"{path}, {place}: {key} is not text; give the note as one string")
        try:
            note = note_of_prompt(text) if column else note_of_row(row)
        except InputError as error:
            raise InputError(f"{path}, {place}: {error}") from error
        notes.append(_row_note(path, place, row, column or NOTE_COLUMN, text if note is None else note))
    return notes


def _row_note(path: Path, place: Place, row: Mapping[str, Any], column: str, text: str) -> Note:
    """Return the note of a row. Another column of the name `clinical_note` is kept as `input_clinical_note`."""
    if not text.strip():
        raise InputError(f"{path}, {place}: the note is empty; fill it in or delete the row")
    columns = dict(row)
    if column != NOTE_COLUMN and NOTE_COLUMN in row:
        columns = {KEPT + name if name == NOTE_COLUMN else name: value for name, value in row.items()}
    return Note(str(row.get("id") or row.get("example_id") or place.number), text, columns | {NOTE_COLUMN: text})
