"""evaluate_model.py from files to files: predictions, a tiny model, what it refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from tiny_models import build_tiny_model

from evaluation.evaluate_model import main, parse_args, read_predictions, read_test_data
from evaluation.metrics import ROW_COLUMNS
from evaluation.stats import wilson_interval
from script_io import InputError, read_csv, read_json, write_csv, write_jsonl

NOTES = [
    "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever.",
    "A 61-year-old man with gout. Started colchicine 0.6 mg daily.",
    "A 33-year-old man with asthma. No cough.",
]
GOOD = ["54-year-old woman on metformin 500 mg twice daily.", "61-year-old man with gout.", "33-year-old man, asthma."]
BAD = "33-year-old woman with asthma."
COLUMNS = ("id", "clinical_note", "model_summary", "label", "hallucination_type")


def write_test_data(folder: Path) -> Path:
    """Three notes; the first also with a hallucinated summary, which stands before the factual one."""
    rows: list[dict[str, Any]] = [
        {"id": "a-h", "clinical_note": NOTES[0], "model_summary": "Has fever.", "label": "hallucinated"},
        {"id": "a", "clinical_note": NOTES[0], "model_summary": GOOD[0], "label": "factual"},
        {
            "id": "b",
            "clinical_note": NOTES[1],
            "model_summary": f"{GOOD[1]} [Evidence: S1; Conf: 0.9]",
            "label": "factual_with_evidence",
        },
        {"id": "c", "clinical_note": NOTES[2], "model_summary": "Has cough.", "label": "hallucinated"},
    ]
    write_csv(folder / "test.csv", COLUMNS, [{"hallucination_type": "", **row} for row in rows])
    return folder / "test.csv"


def write_predictions(folder: Path, summaries: list[str]) -> Path:
    rows = [
        {"id": f"p{i}", "clinical_note": note, "generated_summary": summary, "reference_summary": good}
        for i, (note, summary, good) in enumerate(zip(NOTES, summaries, GOOD, strict=True))
    ]
    write_jsonl(folder / "predictions.jsonl", rows)
    return folder / "predictions.jsonl"


def test_one_example_for_each_note_with_its_factual_reference(tmp_path: Path) -> None:
    examples = read_test_data(write_test_data(tmp_path))
    assert [(example.example_id, example.reference, example.label) for example in examples] == [
        ("a", GOOD[0], "factual"),
        ("b", GOOD[1], "factual_with_evidence"),
        ("c", "", ""),
    ]


def test_predictions_are_evaluated_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = write_predictions(tmp_path, [GOOD[0], GOOD[1], BAD])
    out = tmp_path / "out"
    assert main(parse_args(["--predictions", str(predictions), "--output_dir", str(out)])) == 0
    rows = [row for _, row in read_csv(out / "evaluation_results.csv", ROW_COLUMNS)]
    assert tuple(rows[0]) == ROW_COLUMNS
    assert [row["has_hallucination"] for row in rows] == ["0", "0", "1"]
    assert rows[2]["hallucination_types"] == "sex"
    assert [row["example_id"] for row in rows] == ["p0", "p1", "p2"]
    assert {row["finished"] for row in rows} == {""}
    summary = read_json(out / "evaluation_summary.json")
    assert summary["hallucination_rate"] == pytest.approx(1 / 3)
    assert summary["hallucination_rate_ci95"] == pytest.approx(wilson_interval(1, 3))
    assert (summary["n"], summary["judge"], summary["temperature"]) == (3, "facts", None)
    assert (out / "report.html").exists()
    printed = capsys.readouterr().out
    assert "Hallucination rate: 33.3% (95% interval 6.1% to 79.2%) of 3 summaries" in printed
    assert "Next: python manual_assessment_tool.py --results_csv" in printed


def test_max_examples_and_csv_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_csv(
        path, ("clinical_note", "generated_summary"), [{"clinical_note": n, "generated_summary": BAD} for n in NOTES]
    )
    out = tmp_path / "out"
    main(parse_args(["--predictions", str(path), "--output_dir", str(out), "--max_examples", "2"]))
    assert read_json(out / "evaluation_summary.json")["summaries"] == 2
    assert read_json(out / "evaluation_summary.json")["coverage"] is None  # no reference is known


def test_a_tiny_model_is_evaluated_and_greedy_runs_agree(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model")
    data = write_test_data(tmp_path)
    flags = ["--model_path", str(model), "--test_data", str(data), "--max_new_tokens", "5", "--device", "cpu"]
    texts = []
    for name in ("first", "second"):
        out = tmp_path / name
        assert main(parse_args([*flags, "--output_dir", str(out)])) == 0
        rows = [row for _, row in read_csv(out / "evaluation_results.csv", ROW_COLUMNS)]
        texts.append([row["generated_summary"] for row in rows])
        assert [row["clinical_note"] for row in rows] == NOTES
        assert all(row["finished"] in ("0", "1") and float(row["seconds"]) > 0 for row in rows)
    assert texts[0] == texts[1]
    summary = read_json(tmp_path / "first" / "evaluation_summary.json")
    assert (summary["temperature"], summary["max_new_tokens"], summary["seed"]) == (0.0, 5, 42)
    assert summary["unfinished_rate_n"] == 3
    assert summary["seconds"] > 0


def test_a_note_that_is_too_long_is_left_out_and_named(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model")
    data = tmp_path / "test.csv"
    rows = [
        {"id": name, "clinical_note": note, "model_summary": "x", "label": "factual", "hallucination_type": ""}
        for name, note in (("long", "chest pain " * 600), ("short", NOTES[0]))
    ]
    write_csv(data, COLUMNS, rows)
    flags = ["--model_path", str(model), "--test_data", str(data), "--max_new_tokens", "5", "--device", "cpu"]
    main(parse_args([*flags, "--output_dir", str(tmp_path / "out")]))
    summary = read_json(tmp_path / "out" / "evaluation_summary.json")
    assert (summary["left_out"], summary["n"]) == (["long"], 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"clinical_note": " ", "generated_summary": "x"}], "line 1: clinical_note is no text or empty"),
        ([{"clinical_note": "n", "generated_summary": None}], "line 1: generated_summary is no text"),
        ([{"id": "a", "clinical_note": n, "generated_summary": "x"} for n in "nm"], "line 2: id a stands on line 1"),
    ],
)
def test_bad_predictions_are_named_by_line(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    write_jsonl(tmp_path / "p.jsonl", rows)
    with pytest.raises(InputError, match=message):
        read_predictions(tmp_path / "p.jsonl")


@pytest.mark.parametrize("start", [["evaluation/evaluate_model.py"], ["-m", "evaluation.evaluate_model"]])
def test_runs_as_script_and_as_module_and_errors_are_one_line(tmp_path: Path, start: list[str]) -> None:
    command = [
        sys.executable,
        *start,
        "--predictions",
        str(tmp_path / "absent.csv"),
        "--output_dir",
        str(tmp_path / "o"),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [f"error: {tmp_path / 'absent.csv'}: no such file; check the path"]
    assert not (tmp_path / "o").exists()


def test_spans_in_the_csv_stand_in_the_summary(tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(parse_args(["--predictions", str(write_predictions(tmp_path, [GOOD[0], BAD, BAD])), "--output_dir", str(out)]))
    with open(out / "evaluation_results.csv", encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            for span in json.loads(row["unsupported_spans"]):
                assert row["generated_summary"][span["start"] : span["end"]] == span["text"]
