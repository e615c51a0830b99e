"""Input files of every kind that `prepare_phase1_data.py` takes, and files that it refuses with a remedy."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

import prepare_phase1_data
from ingest.records import Record
from script_io.csv_files import read_csv
from script_io.errors import InputError, run_script

NOTES = [
    "A 54-year-old woman, café owner; temperature 38,5 °C – stable.\nDenies chest pain.",
    'Plan: "rest", then physiotherapy, twice a week.',
    "Follow-up in 2 weeks; continue naproxen 500 mg.",
]
SUMMARIES = ["A 54-year-old woman with fever.", "Rest, then physiotherapy.", "Naproxen 500 mg, follow-up in 2 weeks."]
ROWS = [{"clinical_note": note, "summary": text} for note, text in zip(NOTES, SUMMARIES, strict=True)]
Make = Callable[[Path], Path]  # writes an input into a folder and returns its path


def table(*, delimiter: str = ",", header: tuple[str, str] = ("clinical_note", "summary"), end: str = "\r\n") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([header, *(tuple(row.values()) for row in ROWS)])
    return text.getvalue()


def saved(name: str, content: str | bytes, encoding: str = "utf-8") -> Make:
    data = content if isinstance(content, bytes) else content.encode(encoding)

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def lines(rows: list[dict[str, object]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "visits.parquet")
    return folder / "visits.parquet"


def parquet_shards(folder: Path) -> Path:
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), folder / "data" / "train-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[2:]), folder / "data" / "train-00001-of-00002.parquet")
    return folder / "data"


def dataset(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


def dataset_with_splits(folder: Path) -> Path:
    parts = {"train": Dataset.from_list(ROWS[:2]), "test": Dataset.from_list(ROWS[2:])}
    DatasetDict(parts).save_to_disk(folder / "saved")
    return folder / "saved"


def texts(folder: Path) -> Path:
    (folder / "texts").mkdir()
    for number, row in enumerate(ROWS):
        (folder / "texts" / f"visit{number}.txt").write_text(row["clinical_note"], encoding="cp1252")
        (folder / "texts" / f"visit{number}.summary.txt").write_text(row["summary"], encoding="utf-8")
    (folder / "texts" / "alone.txt").write_text("A note without its summary.")
    return folder / "texts"


LOADED: dict[str, Make] = {
    "CSV": saved("visits.csv", table()),
    "CSV with a byte order mark": saved("visits.csv", table(), "utf-8-sig"),
    "CSV in cp1252": saved("visits.csv", table(), "cp1252"),
    "CSV in UTF-16": saved("visits.csv", table(), "utf-16"),
    "CSV in UTF-16 without a mark": saved("visits.csv", table(), "utf-16-le"),
    "CSV in big-endian UTF-16": saved("visits.csv", table(), "utf-16-be"),
    "Unicode text of a spreadsheet": saved("visits.txt", table(delimiter="\t"), "utf-16"),
    "CSV with semicolons": saved("visits.csv", table(delimiter=";")),
    "CSV with semicolons in cp1252": saved("visits.csv", table(delimiter=";"), "cp1252"),
    "CSV with unix line ends": saved("visits.csv", table(end="\n")),
    "TSV": saved("visits.tsv", table(delimiter="\t")),
    "vertical bars": saved("visits.psv", table(delimiter="|")),
    "tabs in a file named CSV": saved("visits.csv", table(delimiter="\t")),
    "column names of MTS-Dialog": saved("visits.csv", table(header=("dialogue", "section_text"))),
    "column names with blanks": saved("visits.csv", table(header=("Note Text", "Summary-Text"))),
    "JSON array": saved("visits.json", json.dumps(ROWS)),
    "JSON array in UTF-16": saved("visits.json", json.dumps(ROWS, ensure_ascii=False), "utf-16"),
    "JSON array in an object": saved("visits.json", json.dumps({"version": "1.0", "data": ROWS})),
    "JSON columns as lists": saved("visits.json", json.dumps({"note": NOTES, "summary": SUMMARIES})),
    "JSON columns of pandas": saved(
        "visits.json",
        json.dumps({"note": dict(enumerate(NOTES)), "summary": dict(enumerate(SUMMARIES))}),
    ),
    "JSONL": saved("visits.jsonl", lines([*ROWS])),
    "JSONL named JSON": saved("visits.json", lines([*ROWS])),
    "JSONL with dialogues as lists of turns": saved(
        "visits.jsonl", lines([row | {"clinical_note": row["clinical_note"].split("\n")} for row in ROWS])
    ),
    "Parquet": parquet,
    "folder of Parquet files": parquet_shards,
    "datasets folder": dataset,
    "datasets folder with splits": dataset_with_splits,
    "folder of texts": texts,
}
REFUSED: dict[str, tuple[Make, str]] = {
    "spreadsheet": (saved("visits.xlsx", b"PK\3\4"), "save the sheet as CSV"),
    "pickle": (saved("visits.pkl", b"\x80\x04N."), "save the table with to_parquet"),
    "unknown kind": (saved("visits.sas7bdat", b"data"), "give CSV, TSV, JSON"),
    "empty file": (saved("visits.csv", ""), "the file is empty; expected a header and rows"),
    "header alone": (saved("visits.csv", "note,summary\n"), "the file has a header but no rows; add at least one"),
    "row with too many cells": (saved("visits.csv", "note,summary\na,b\na,b,c\n"), "line 3: 3 cells where the header"),
    "repeated column": (saved("visits.csv", "note,note,summary\na,b,c\n"), "repeated column note; keep one"),
    "no column by a common name": (
        saved("visits.csv", "one,two\na,b\n"),
        "name it with --note_column and --summary_column",
    ),
    "one column": (saved("visits.csv", "note\nCough.\n"), "--delimiter"),
    "binary named CSV": (saved("visits.csv", bytes(range(256)) * 4), "is binary, not text; save the table as CSV"),
    "broken JSON array": (saved("visits.json", '[{"note": "a"},\n {"note": ]'), "line 2: not valid JSON"),
    "broken JSON line": (saved("visits.jsonl", lines([*ROWS]) + '{"note"\n'), "line 4: not valid JSON"),
    "JSON array of texts": (saved("visits.json", '["a", "b"]'), "row 1: an object is expected, found str"),
    "chat messages": (
        saved("visits.jsonl", lines([{"note": [{"role": "user", "content": "a"}], "summary": "b"}])),
        "line 1: column note holds list, not text; write it as text",
    ),
    "unknown label": (saved("visits.csv", "note,summary,label\na,b,factual\nc,d,good\n"), "line 3: label 'good'"),
    "broken Parquet": (saved("visits.parquet", b"PAR1 no table"), "cannot be read as Parquet"),
    "missing file": (lambda folder: folder / "none.csv", "no such file; check the path"),
    "notes alone": (saved("visits.csv", "note,summary\na,nan\nb,N/A\n"), "no row has both a note and a summary"),
}


def read(path: Path, *flags: str) -> list[Record]:
    return prepare_phase1_data.read_records(prepare_phase1_data.parse_args(["--input", str(path), *flags]))[0]


def test_there_are_as_many_kinds_as_promised() -> None:
    assert len(LOADED) >= 20
    assert len(LOADED) + len(REFUSED) >= 25


@pytest.mark.parametrize("kind", LOADED)
def test_a_kind_of_input_loads(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = read(LOADED[kind](tmp_path))
    assert [(record.note, record.summary) for record in records] == list(zip(NOTES, SUMMARIES, strict=True))
    assert len({record.id for record in records}) == len(ROWS)
    assert "(guessed; --note_column names another)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", REFUSED)
def test_an_input_that_cannot_be_used_is_refused_in_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, remedy = REFUSED[kind]
    path = make(tmp_path)
    arguments = ["--input", str(path), "--output_dir", str(tmp_path / "out")]
    assert run_script(prepare_phase1_data.main, prepare_phase1_data.parse_args(arguments)) == 2
    message = capsys.readouterr().err.rstrip("\n")
    assert message.startswith(f"error: {path}")
    assert remedy in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("CSV in cp1252", "(cells separated by commas, cp1252)"),
        ("CSV with a byte order mark", "(cells separated by commas, utf-8-sig)"),
        ("Unicode text of a spreadsheet", "(cells separated by tabs, utf-16)"),
        ("CSV with semicolons", "(cells separated by semicolons, utf-8)"),
        ("datasets folder with splits", "its splits train, test are split anew"),
        ("folder of texts", "alone.txt: it has no partner"),
    ],
)
def test_what_was_found_is_said(kind: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(LOADED[kind](tmp_path))
    assert says in capsys.readouterr().out


def test_flags_overrule_what_is_found(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_bytes("note;text~summary~patient\nŻona;x~y~p1\n".encode("cp1250"))
    flags = ("--delimiter", "~", "--encoding", "cp1250", "--note_column", "Note;Text", "--group_column", "patient")
    assert [(record.note, record.group) for record in read(path, *flags)] == [("Żona;x", "p1")]


def test_a_cyrillic_file_is_not_taken_for_a_western_one(tmp_path: Path) -> None:
    note = "Пациент жалуется на головную боль и слабость в течение трёх дней."
    path = saved("visits.csv", f"note,summary\n{note},Головная боль\n", "cp1251")(tmp_path)
    assert read(path)[0].note == note


def test_rows_without_a_value_are_counted_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*((missing, "x") for missing in ("nan", "None", "N/A", "")), ("y", "null"), ("note", "summary")]
    table = [{"note": note, "summary": summary} for note, summary in rows]
    path = saved("visits.json", json.dumps([*table, {"note": float("nan"), "summary": None}]))(tmp_path)
    assert [record.note for record in read(path)] == ["note"]
    printed = capsys.readouterr().out
    assert "Left out 5 rows: no note" in printed
    assert "Left out 1 rows: no summary" in printed


def test_repeats_and_conflicting_labels_are_left_out_and_ids_made_distinct(tmp_path: Path) -> None:
    rows = [("1", "a", "b", "Factual"), ("1", "a", "b", "factual"), ("1", "c", "d", "factual")]
    rows += [("2", "e", "f", "hallucinated"), ("3", "e", "f", "factual")]
    table = [dict(zip(("id", "note", "summary", "label"), row, strict=True)) for row in rows]
    records = read(saved("visits.jsonl", lines([*table]))(tmp_path))
    assert [(record.id, record.note, record.label) for record in records] == [
        ("1", "a", "factual"),
        ("1-2", "c", "factual"),
    ]


@pytest.mark.parametrize("name", ["visit_id", "EncounterID", "HADM_ID", "note_id", "Accession Number", "study-id"])
def test_ids_of_common_names_are_taken(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = read(saved("visits.jsonl", lines([{"note": "a", "summary": "b", name: 7.0, "subject_id": 3}]))(tmp_path))
    assert [record.id for record in records] == ["7"]
    printed = capsys.readouterr().out
    assert f"  id: column {name} (guessed; --id_column names another)" in printed
    assert "  not used: subject_id\n" in printed  # a patient, who may have many notes


def test_columns_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved("visits.csv", "note,summary,ward,,visit\na,b,c,,d\n")(tmp_path)
    records, report = prepare_phase1_data.read_records(prepare_phase1_data.parse_args(["--input", str(path)]))
    assert [record.id for record in records] == ["row-00001"]
    assert report["columns_not_used"] == ["ward", "visit"]
    assert "  not used: ward, visit; rows are named by their number (--id_column names a column)\n" in (
        capsys.readouterr().out
    )
    wide = {"note": "a", "summary": "b", "id": "c"} | {f"x{number}": "" for number in range(14)}
    read(saved("wide.jsonl", lines([wide]))(tmp_path))
    assert f"  not used: {', '.join(f'x{number}' for number in range(12))} and 2 more\n" in capsys.readouterr().out


def test_a_guessed_label_column_of_other_labels_is_not_used(tmp_path: Path) -> None:
    path = saved("visits.csv", "note,summary,label\na,b,0\nc,d,1\n")(tmp_path)
    assert {record.label for record in read(path)} == {"factual"}
    with pytest.raises(InputError, match="label '0' is not known"):
        read(path, "--label_column", "label")


def test_the_files_are_phase_1_and_are_replaced_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": i, "note": f"Visit {i} " + " ".join(f"word{i}x{j}" for j in range(9)), "summary": f"Visit {i}."}
            for i in range(20)]  # fmt: skip
    path = saved("visits.json", json.dumps(rows))(tmp_path)
    arguments = ["--input", str(path), "--output_dir", str(tmp_path / "sft")]
    assert run_script(prepare_phase1_data.main, prepare_phase1_data.parse_args(arguments)) == 0
    written = {split: read_csv(tmp_path / "sft" / f"{split}_set_processed.csv", ()) for split in ("train", "test")}
    assert [len(written["train"]), len(written["test"])] == [16, 2]
    assert list(written["train"][0][1]) == ["id", "clinical_note", "model_summary", "label", "hallucination_type"]
    capsys.readouterr()
    assert run_script(prepare_phase1_data.main, prepare_phase1_data.parse_args(arguments)) == 2
    message = capsys.readouterr().err
    assert f"--output_dir {tmp_path / 'mine'}" in message
    assert f"--phase1_dir {tmp_path / 'mine'}" in message
    again = prepare_phase1_data.parse_args([*arguments, "--overwrite_output_dir", "--max_examples", "10"])
    assert run_script(prepare_phase1_data.main, again) == 0
    assert len(read_csv(tmp_path / "sft" / "train_set_processed.csv", ())) == 8
