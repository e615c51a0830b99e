"""Tables of every kind have the same rows, under the names that `--columns` gives, and name the place of an error."""

from __future__ import annotations

import argparse
import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from script_io.columns_flag import PHASE1_ROLES, ColumnPair, column_names
from script_io.errors import InputError
from script_io.phase1_files import read_phase1, split_file
from script_io.tables import read_table

ROWS = [
    {"uid": "1", "dialogue": "Cough.\nNo fever.", "section_text": "Cough."},
    {"uid": "2", "dialogue": "Fièvre, 38 °C", "section_text": "Fever."},
]
COLUMNS = {"clinical_note": "dialogue", "model_summary": "section_text"}
KINDS = ("csv", "tsv", "jsonl", "json", "parquet")


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the kind that the name tells."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = map(json.dumps, rows)
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_phase_1_rows(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_phase1(save(tmp_path / f"visits.{kind}", ROWS), COLUMNS | {"id": "uid"})
    assert [row for _, row in found] == [
        {"id": "1", "clinical_note": "Cough.\nNo fever.", "model_summary": "Cough.", "label": "factual"},
        {"id": "2", "clinical_note": "Fièvre, 38 °C", "model_summary": "Fever.", "label": "factual"},
    ]
    assert capsys.readouterr().out.count("has no label column; every row counts as factual") == 1


@pytest.mark.parametrize(
    ("kind", "places"), [("csv", ["line 3", "line 4"]), ("tsv", ["line 3", "line 4"]), ("jsonl", ["line 1", "line 2"])]
)
def test_text_files_have_lines(kind: str, places: list[str], tmp_path: Path) -> None:
    found = read_table(save(tmp_path / f"visits.{kind}", ROWS), ())
    assert [str(place) for place, _ in found] == places


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_the_row_of_an_error_is_named(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"visits.{kind}", [ROWS[0] | {"dialogue": ["a"]}, ROWS[1] | {"dialogue": ["b"]}])
    with pytest.raises(InputError, match=r"visits\.\w+, row 1: clinical_note is not text but list; give it as one str"):
        read_phase1(path, COLUMNS)
    with pytest.raises(InputError, match=r"visits\.\w+, row 1: missing column text; found uid, dialogue, section_text"):
        read_phase1(path, {"clinical_note": "text", "model_summary": "section_text"})


def test_a_row_without_an_id_is_named_by_its_place(tmp_path: Path) -> None:
    found = read_phase1(save(tmp_path / "visits.parquet", ROWS), COLUMNS)
    assert [row["id"] for _, row in found] == ["row-1", "row-2"]


def test_without_columns_a_label_is_required(tmp_path: Path) -> None:
    rows = [{"clinical_note": "a", "model_summary": "b"}]
    with pytest.raises(InputError, match="row 1: missing column label"):
        read_phase1(save(tmp_path / "visits.json", rows))


def test_an_error_about_a_missing_column_names_the_flag_that_names_columns(tmp_path: Path) -> None:
    for kind in ("csv", "tsv", "json", "jsonl", "parquet"):
        path = save(tmp_path / f"visits.{kind}", ROWS)
        with pytest.raises(InputError, match=r"note; found .*section_text; name your own columns with --columns$"):
            read_table(path, ("note",), columns={})
        with pytest.raises(InputError, match=r"note; found .*section_text$"):  # for readers without such a flag
            read_table(path, ("note",))


def test_values_that_are_no_text_become_text(tmp_path: Path) -> None:
    day = datetime.date(2024, 5, 1)
    rows = [
        {"id": 7.0, "clinical_note": day, "model_summary": "s\r\nt", "label": "factual", "hallucination_type": None}
    ]
    ((_, row),) = read_phase1(save(tmp_path / "visits.parquet", rows))
    assert list(row.values()) == ["7", "2024-05-01", "s\nt", "factual", ""]


def test_a_column_of_ours_gives_way_to_the_one_that_is_named(tmp_path: Path) -> None:
    rows = [{"clinical_note": "old", "text": "new", "kept": "x"}]
    ((_, row),) = read_table(save(tmp_path / "a.json", rows), ("clinical_note",), columns={"clinical_note": "text"})
    assert row == {"clinical_note": "new", "kept": "x"}


def test_the_file_of_a_split_may_be_of_another_kind(tmp_path: Path) -> None:
    assert split_file(tmp_path, "train.csv") == tmp_path / "train.csv"  # named in the error
    save(tmp_path / "train.parquet", ROWS)
    assert split_file(tmp_path, "train.csv") == tmp_path / "train.parquet"
    save(tmp_path / "train.csv", ROWS)
    with pytest.raises(InputError, match=r"holds train\.csv and train\.parquet; which is meant"):
        split_file(tmp_path, "train.csv")


def test_columns_are_pairs_of_a_role_and_a_name() -> None:
    pair = ColumnPair(PHASE1_ROLES)
    assert column_names([pair("note=dialogue"), pair("summary=a=b")], PHASE1_ROLES) == {
        "clinical_note": "dialogue",
        "model_summary": "a=b",
    }
    for text, says in (
        ("dialogue", "write ROLE=COLUMN"),
        ("note=", "write ROLE=COLUMN"),
        ("text=a", "is not one of note"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=says):
            pair(text)
    for pairs, says in ((["note=a", "note=b"], "names note twice"), (["note=a", "summary=a"], "the column a twice")):
        with pytest.raises(InputError, match=says):
            column_names(pairs, PHASE1_ROLES)
