"""`prepare_phase1_data.py` from a table to the files, the report and what it prints."""

import json
import random
from pathlib import Path

import pytest

import prepare_phase1_data
from demo.cases import make_cases
from script_io.csv_files import read_csv, write_csv
from script_io.errors import run_script
from script_io.files import read_jsonl
from sft_dataset import find_problems

SPLITS = ("train", "validation", "test")
COLUMNS = ("visit", "patient", "dialogue", "section_text", "worse")
CONTACT = "Seen by Dr. Okafor on 03/14/2019, call 555-123-4567."


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 30 notes by 15 patients; each note names a doctor, and the first summary is not supported."""
    path = tmp_path_factory.mktemp("export") / "visits.csv"
    cases = [case for case, _ in zip(make_cases("test"), range(30), strict=False)]
    rows = [
        {
            "visit": str(number),
            "patient": f"p{number // 2}",
            "dialogue": f"{case.note} {CONTACT}",
            "section_text": "Started digoxin 3 mg daily." if number == 0 else case.reference,
            "worse": "Started digoxin 9 mg daily." if number % 3 == 0 else "",
        }
        for number, case in enumerate(cases)
    ]
    write_csv(path, COLUMNS, rows)
    return path


@pytest.fixture(scope="module")
def prepared(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "sft"
    flags = ["--group_column", "patient", "--rejected_column", "worse", "--redact", "--annotate_evidence"]
    flags += ["--max_length", "150", "--val_fraction", "0.2", "--test_fraction", "0.2"]
    arguments = ["--input", str(export), "--output_dir", str(folder), *flags]
    assert run_script(prepare_phase1_data.main, prepare_phase1_data.parse_args(arguments)) == 0
    return folder


def rows_of(folder: Path, split: str) -> list[dict[str, str]]:
    return [row for _, row in read_csv(folder / f"{split}_set_processed.csv", ())]


def test_the_files_pass_the_check_of_phase_1(prepared: Path) -> None:
    for split in SPLITS:
        assert find_problems(prepared / f"{split}_set_processed.csv") == []


def test_no_identifier_is_left_in_any_file(prepared: Path) -> None:
    files = [path for path in prepared.parent.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("Okafor", "03/14", "555-123") if word in text], path.name
    assert "Dr. [NAME_A] on [DATE_A] 2019, call [PHONE_A]" in rows_of(prepared, "train")[0]["clinical_note"]


def test_pairs_are_written_as_dpo_rows_of_training_and_validation(prepared: Path) -> None:
    notes = {split: {row["clinical_note"] for row in rows_of(prepared, split)} for split in SPLITS}
    total = 0
    for split in ("train", "validation"):
        path = prepared.with_name("dpo") / f"{split}_set_processed.jsonl"
        for _, row in read_jsonl(path, ("prompt", "chosen", "rejected")) if path.exists() else ():
            total += 1
            assert row["clinical_note"] in notes[split]
            assert row["rejected"] == "Started digoxin 9 mg daily."
            assert "[Evidence" not in row["chosen"]
    report = json.loads((prepared / "phase1_report.json").read_text())
    assert total == sum(report["preference_pairs"].values()) > 0


def test_the_report_holds_the_audit(prepared: Path) -> None:
    report = json.loads((prepared / "phase1_report.json").read_text())
    assert (report["rows"], report["rows_kept"]) == (30, 30)
    assert sum(part["rows"] for part in report["splits"].values()) == 40  # with 10 rejected summaries
    assert report["redacted"]["NAME"] >= 30
    evidence, audit = report["evidence"], report["audit"]
    assert evidence["citations_right"] >= 0.95 * evidence["citations"] > 0
    assert evidence["calibration"]["n"] >= evidence["citations"]
    assert (audit["references"]["checked"], audit["references"]["factual"]) == (30, 30)
    assert "digoxin" in {example["text"].lower() for example in audit["references"]["examples"]}
    assert audit["problems"] == {}
    lengths = audit["lengths"]["train"]
    assert lengths["dropped"] == len(lengths["dropped_ids"]) > 0
    assert lengths["longest_tokens"] > 150


def test_files_of_pairs_that_a_new_run_does_not_make_are_removed(export: Path, prepared: Path) -> None:
    folder = prepared.parent / "again" / "sft"
    arguments = ["--input", str(export), "--output_dir", str(folder)]
    first = prepare_phase1_data.parse_args([*arguments, "--rejected_column", "worse"])
    assert prepare_phase1_data.main(first) == 0
    assert (folder.with_name("dpo") / "train_set_processed.jsonl").exists()
    assert prepare_phase1_data.main(prepare_phase1_data.parse_args([*arguments, "--overwrite_output_dir"])) == 0
    assert not (folder.with_name("dpo") / "train_set_processed.jsonl").exists()


def test_the_same_seed_gives_the_same_files(export: Path, tmp_path: Path) -> None:
    random.seed(1)  # the script must not depend on the global generator
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        arguments = ["--input", str(export), "--output_dir", str(tmp_path / name), "--seed", seed]
        assert prepare_phase1_data.main(prepare_phase1_data.parse_args(arguments)) == 0
    train = [(tmp_path / name / "train_set_processed.csv").read_bytes() for name in "abc"]
    assert train[0] == train[1] != train[2]
