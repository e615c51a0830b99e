"""The Phase 1 tables of a chain: a folder with a table for each split, of any kind and with any names of columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from script_io.columns_flag import PHASE1_ROLES, column_names
from script_io.csv_files import update_csv
from script_io.errors import InputError
from script_io.phase1_csv import COLUMNS, REQUIRED_COLUMNS
from script_io.phase1_files import cell_text, needed_columns, read_phase1, split_file
from script_io.tables import stream_table

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Phase1Tables:
    """A folder of Phase 1 tables, and the words of `--columns` with which every stage reads them."""

    folder: Path
    pairs: tuple[str, ...] = ()  # of --columns; none: the tables have the suite's own names

    @property
    def flags(self) -> list[str]:
        """Return `--columns` for a script that reads one of the tables."""
        return ["--columns", *self.pairs] if self.pairs else []

    @property
    def columns(self) -> dict[str, str]:
        """Return {name of ours: name in the tables}."""
        return column_names(self.pairs, PHASE1_ROLES)

    def file(self, split: str) -> Path:
        """Return the table of a split; the path of its CSV if there is none."""
        return split_file(self.folder, _csv_name(split))

    def check(self, remedy: str, with_id: Collection[str]) -> None:
        """Read all tables once, so that a fault of the last one is found before the first stage.

        The splits in `with_id` need an id, unless `--columns` is given. Raises InputError, which names the file and the
        column, if a column is missing, and for a table that is missing or cannot be read.
        """
        for split in SPLITS:
            path = self.file(split)
            if not path.exists():
                raise InputError(f"{path}: no such file; make {remedy}")
            required = ("id", *REQUIRED_COLUMNS) if split in with_id else REQUIRED_COLUMNS
            for _ in stream_table(path, needed_columns(self.columns, required), columns=self.columns):
                pass

    def top(self, counts: Mapping[str, int], folder: Path) -> Phase1Tables:
        """Write CSVs of the first rows of each split to `folder`, unless they are there; return them as tables."""
        for split, count in counts.items():
            write_phase1(folder / _csv_name(split), self.rows(split)[:count])
        return Phase1Tables(folder)

    def rows(self, split: str) -> list[dict[str, str]]:
        """Return the rows of a split under our names, each with an id, and with the table's further columns as text.

        Lists and objects, which a cell of a CSV cannot hold, are left out.
        """
        path = self.file(split)
        return [
            {
                **{name: cell_text(path, place, name, cell) for name, cell in row.items() if not _is_nested(cell)},
                "id": row.get("id") or place.row_id,
            }
            for place, row in read_phase1(path, self.columns)
        ]


def write_phase1(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a Phase 1 CSV unless it holds these rows already: first our columns, as far as the rows have them."""
    names = dict.fromkeys(name for row in rows for name in row if name)  # nothing reads a column without a name
    columns = [*filter(names.__contains__, COLUMNS), *(name for name in names if name not in COLUMNS)]
    update_csv(path, columns, [{name: row.get(name, "") for name in columns} for row in rows])


def _is_nested(cell: object) -> bool:
    return isinstance(cell, list | dict | bytes)


def _csv_name(split: str) -> str:
    return f"{split}_set_processed.csv"
