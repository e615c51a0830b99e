"""Write results next to the columns of the input rows, without losing an input column or an earlier file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import scratch_folder, write_jsonl

Row = dict[str, Any]


def require_free_output(path: Path, source: Path | None, *, overwrite: bool) -> None:
    """Raise InputError, before anything is loaded, if the summaries could not or must not be written to `path`."""
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"--output_file {path}: the name must end in .jsonl or .csv")
    if source and path.exists() and path.samefile(source):
        raise InputError(f"--output_file {path}: is the input file; name another file")
    if path.exists() and not overwrite:
        raise InputError(f"--output_file {path}: exists already; add --overwrite to replace it, or name another file")
    with scratch_folder(path.parent):
        pass


def add_results(inputs: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], prefix: str) -> list[Row]:
    """Return each row of `inputs` followed by the columns of its result.

    An input column with the name of a result column is kept under a name with `prefix`, in all rows.
    """
    taken = {name for row in results for name in row}
    names = {name for row in inputs for name in row}
    renamed = {name: _free_name(name, prefix, names | taken) for name in sorted(names & taken)}
    return [
        {**{renamed.get(name, name): value for name, value in row.items()}, **result}
        for row, result in zip(inputs, results, strict=True)
    ]


def _free_name(name: str, prefix: str, used: set[str]) -> str:
    while name in used:
        name = prefix + name
    return name


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as .csv or .jsonl, by the extension of the name.

    A CSV has every column of any row, and lists and objects are written as JSON text.
    """
    if path.suffix.lower() != ".csv":
        return write_jsonl(path, rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return write_csv(path, columns, [{name: _cell(row.get(name)) for name in columns} for row in rows])


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
