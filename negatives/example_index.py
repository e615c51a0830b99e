"""Keep the rows of the Phase 1 CSV files in a temporary database, so that only one note is in memory at a time."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from script_io.errors import InputError
from script_io.phase1_csv import FACTUAL_LABELS, REQUIRED_COLUMNS, row_problem
from script_io.phase1_files import stream_phase1

FOLDER_REMEDY = "name the folder that holds it with --phase1_dir"
PROFILED_SUMMARIES = 1000  # factual summaries from which the corpus is built

# `place`: number of a factual row in its split, from 0, else NULL; `repeat`: earlier rows of the split with the same id
_SCHEMA = """
CREATE TABLE examples (
    number INTEGER PRIMARY KEY, split TEXT, line INTEGER, id TEXT, repeat INTEGER, note TEXT, summary TEXT,
    place INTEGER, hallucination_type TEXT, note_key BLOB, text_key BLOB
);
CREATE UNIQUE INDEX by_text ON examples (split, text_key, place IS NULL);
CREATE INDEX by_note ON examples (note_key, split, place);
CREATE INDEX by_place ON examples (split, place);
CREATE INDEX by_id ON examples (split, id);
CREATE TABLE unsound (number INTEGER PRIMARY KEY);
"""
_FIELDS = "number, line, id, repeat, note, summary, hallucination_type"


@dataclass(frozen=True)
class Example:
    """One row of a Phase 1 CSV."""

    number: int
    line: int
    row_id: str
    repeat: int
    note: str
    summary: str
    hallucination_type: str

    @property
    def name(self) -> str:
        """The row's id, with a suffix if the split has it more than once."""
        return f"{self.row_id}~{self.repeat + 1}" if self.repeat else self.row_id


@dataclass
class SplitSize:
    """Counts from reading the file of a split."""

    rows: int = 0
    repeated: int = 0  # the same note, summary and label as an earlier row
    leaking: int = 0  # the note belongs to the training split
    factual: int = 0


class ExampleIndex:
    """The distinct rows of each split, in the order of the file."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "examples.sqlite", isolation_level=None)
        self._database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA} BEGIN;")
        self.sizes: dict[str, SplitSize] = {}

    def close(self) -> None:
        self._database.close()

    def add(
        self, split: str, path: Path, *, apart_from: str | None = None, columns: Mapping[str, str] | None = None
    ) -> SplitSize:
        """Read the file of a split. Rows whose note is in the split `apart_from` are skipped.

        `columns` maps names of ours to names of the file. Raises InputError if a label is unknown or a text is empty.
        """
        size = self.sizes[split] = SplitSize()
        for place, row in stream_phase1(path, columns, ("id", *REQUIRED_COLUMNS), FOLDER_REMEDY):
            if problem := row_problem(row):
                raise InputError(f"{path}, {place}: {problem}")
            note, summary = row["clinical_note"].strip(), row["model_summary"].strip()
            size.rows += 1
            note_key, text_key = _key(note), _key(f"{note}\0{summary}")
            if apart_from and self._has("note_key = ? AND split = ?", note_key, apart_from):
                size.leaking += 1
                continue
            order = size.factual if row["label"] in FACTUAL_LABELS else None
            repeat = self._rows_named(split, row["id"])
            hallucination_type = row.get("hallucination_type", "").strip()
            inserted = self._database.execute(
                "INSERT OR IGNORE INTO examples VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (split, place.number, row["id"], repeat, note, summary, order, hallucination_type, note_key, text_key),
            ).rowcount
            size.repeated += not inserted
            size.factual += inserted and order is not None
        return size

    def factual(self, split: str) -> Iterator[Example]:
        """Iterate over the factual rows."""
        return self._select("split = ? AND place IS NOT NULL ORDER BY place", split)

    def hallucinated(self, split: str) -> Iterator[Example]:
        """Iterate over the hallucinated rows."""
        return self._select("split = ? AND place IS NULL ORDER BY number", split)

    def hallucinated_of(self, split: str, note: str) -> list[str]:
        """Return the summaries of a note that are labelled hallucinated."""
        rows = self._database.execute(
            "SELECT summary FROM examples WHERE note_key = ? AND split = ? AND place IS NULL", (_key(note), split)
        )
        return [summary for (summary,) in rows]

    def partners(self, split: str, note: str) -> list[Example]:
        """Return the factual rows of a note, except the rows marked unsound."""
        condition = "note_key = ? AND split = ? AND place IS NOT NULL AND number NOT IN unsound ORDER BY place"
        return list(self._select(condition, _key(note), split))

    def turn(self, split: str, example: Example) -> int:
        """Return the number of hallucinated rows of the same note before `example`."""
        condition = "note_key = ? AND split = ? AND place IS NULL AND number < ?"
        row = self._database.execute(
            f"SELECT COUNT(*) FROM examples WHERE {condition}", (_key(example.note), split, example.number)
        )
        return int(row.fetchone()[0])

    def mark_unsound(self, example: Example) -> None:
        """Exclude a factual row from `partners`: its note does not support it."""
        self._database.execute("INSERT INTO unsound VALUES (?)", (example.number,))

    def sample(self, split: str, seed: int) -> Iterator[Example]:
        """Yield up to `PROFILED_SUMMARIES` random factual rows, in the order of the file."""
        size = self.sizes[split].factual
        places = random.Random(f"{seed}|{split}|sample").sample(range(size), min(size, PROFILED_SUMMARIES))
        for place in sorted(places):
            yield from self._select("split = ? AND place = ?", split, place)

    def shared_notes(self, split: str, other: str) -> int:
        """Return the number of notes that two splits share."""
        (count,) = self._database.execute(
            "SELECT COUNT(DISTINCT note_key) FROM examples e WHERE split = ? AND EXISTS"
            " (SELECT 1 FROM examples o WHERE o.note_key = e.note_key AND o.split = ?)",
            (split, other),
        ).fetchone()
        return int(count)

    def _select(self, condition: str, *values: str | int | bytes) -> Iterator[Example]:
        return (
            Example(*row) for row in self._database.execute(f"SELECT {_FIELDS} FROM examples WHERE {condition}", values)
        )

    def _has(self, condition: str, *values: str | bytes) -> bool:
        return (
            self._database.execute(f"SELECT 1 FROM examples WHERE {condition} LIMIT 1", values).fetchone() is not None
        )

    def _rows_named(self, split: str, row_id: str) -> int:
        last = self._database.execute(
            "SELECT repeat FROM examples WHERE split = ? AND id = ? ORDER BY number DESC LIMIT 1", (split, row_id)
        ).fetchone()
        return int(last[0]) + 1 if last else 0


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
