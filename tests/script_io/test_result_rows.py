"""Results next to the columns of the input: which columns an output file has, and when it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.result_rows import add_results, require_free_output, write_rows


def test_input_columns_come_first_and_none_is_lost() -> None:
    inputs = [{"a": 1, "model": "old", "input_model": "older"}, {"b": 2}]
    rows = add_results(inputs, [{"model": "new"}, {"model": "new"}], "input_")
    assert rows == [
        {"a": 1, "input_input_model": "old", "input_model": "older", "model": "new"},
        {"b": 2, "model": "new"},
    ]
    assert list(rows[0]) == ["a", "input_input_model", "input_model", "model"]


def test_a_csv_has_the_columns_of_all_rows_and_lists_as_json(tmp_path: Path) -> None:
    rows = [{"a": ["x", {"y": 1}], "n": None}, {"b": 0.5}]
    write_rows(tmp_path / "out.csv", rows)
    assert [row for _, row in read_csv(tmp_path / "out.csv", ())] == [
        {"a": '["x", {"y": 1}]', "n": "", "b": ""},
        {"a": "", "n": "", "b": "0.5"},
    ]
    write_rows(tmp_path / "out.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == rows


@pytest.mark.parametrize(
    ("name", "overwrite", "words"),
    [
        ("out.txt", False, "must end in .jsonl or .csv"),
        ("used.csv", False, "exists already; add --overwrite"),
        ("notes.csv", True, "is the input file"),
        ("used.csv/out.csv", False, "cannot write there"),
    ],
)
def test_an_output_that_must_not_be_written_is_refused(name: str, overwrite: bool, words: str, tmp_path: Path) -> None:
    for used in ("used.csv", "notes.csv"):
        (tmp_path / used).write_text("mine")
    with pytest.raises(InputError, match=words):
        require_free_output(tmp_path / name, tmp_path / "notes.csv", overwrite=overwrite)
    assert (tmp_path / "used.csv").read_text() == "mine"


def test_an_output_that_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    require_free_output(tmp_path / "new" / "out.csv", None, overwrite=False)
    assert list(tmp_path.iterdir()) == []
