"""evaluate_model.py from files to files: predictions, a tiny model, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT
from fake_server import Server
from tiny_models import build_tiny_model

from evaluation.evaluate_model import main, parse_args, read_predictions, read_test_data, settings_of
from evaluation.metrics import ROW_COLUMNS
from evaluation.stats import wilson_interval
from judging.choice import FactsJudge
from language_model.local_sampler import LocalSampler
from script_io.csv_files import read_csv, write_csv
from script_io.errors import InputError
from script_io.files import read_json, write_json, write_jsonl
from script_io.phase1_csv import COLUMNS

NOTES = [
    "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever.",
    "A 61-year-old man with gout. Started colchicine 0.6 mg daily.",
    "A 33-year-old man with asthma. No cough.",
]
GOOD = ["54-year-old woman on metformin 500 mg twice daily.", "61-year-old man with gout.", "33-year-old man, asthma."]
BAD = "33-year-old woman with asthma."


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


def test_one_example_for_each_note_with_its_factual_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = read_test_data(write_test_data(tmp_path))
    assert [(example.example_id, example.reference, example.label) for example in examples] == [
        ("a", GOOD[0], "factual"),
        ("b", GOOD[1], "factual_with_evidence"),
        ("c", "", ""),
    ]
    repeats = len(read_csv(tmp_path / "test.csv", ())) - len(examples)
    assert f"{repeats} of {len(examples) + repeats} rows repeat an earlier note" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("label", "summary", "message"),
    [
        ("Factual", "Gout.", "line 3: label 'Factual' is not known; write factual"),
        (" factual", "Gout.", "line 3: label ' factual' is not known; write factual"),
        ("Factual with-evidence", "Gout.", "is not known; write factual_with_evidence"),
        ("", "Gout.", "line 3: empty label; fill in or delete the row"),
        ("factual", " ", "line 3: empty model_summary; fill in or delete the row"),
    ],
)
def test_a_row_whose_reference_would_be_lost_is_refused(tmp_path: Path, label: str, summary: str, message: str) -> None:
    cells = [("a", NOTES[0], GOOD[0], "factual", ""), ("b", NOTES[1], summary, label, "")]
    write_csv(tmp_path / "test.csv", COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in cells])
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'test.csv'}, ") + ".*" + re.escape(message)):
        read_test_data(tmp_path / "test.csv")


def test_a_note_without_summary_and_label_has_no_reference(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(f"id,clinical_note,model_summary,label\na,{NOTES[2]},,\n")
    (example,) = read_test_data(tmp_path / "test.csv")
    assert (example.note, example.reference, example.label) == (NOTES[2], "", "")


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
    # what the rate was bought with stands right below it
    assert "\n  with coverage:    88.9% (95% interval 66.7% to 100.0%) of the references' facts, n=3\n" in printed
    assert "\n  with length:      5.3 words on average (references: 5.0); 0.0%" in printed
    assert "Next: python manual_assessment_tool.py --results_csv" in printed


class GradingServer(Server):
    """Answers that the whole summary is one supported claim, with the number of its words as the risk."""

    def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        summary = json.loads(body["messages"][1]["content"])["summary"]
        claim = {"text": summary, "type": "other", "verdict": "supported", "evidence": None}
        text = json.dumps({"claims": [claim], "grades": {"risk": len(summary.split())}})
        answer = super().completion(path, body)
        answer["choices"][0]["message"]["content"] = text
        return answer


def test_grades_of_a_rubric_are_stored_and_a_grade_out_of_range_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Risks of 2 and 4; the third summary has five words, and no risk of 5 exists."""
    predictions = write_predictions(tmp_path, ["Denies fever.", "Has gout at 61.", "He has asthma, no cough."])
    out = tmp_path / "out"
    with GradingServer() as server:
        flags = ["--judge", "openai", "--judge_model", "m", "--judge_base_url", server.url, "--rubric", "risk"]
        main(parse_args(["--predictions", str(predictions), "--output_dir", str(out), *flags]))
    rows = [row for _, row in read_csv(out / "evaluation_results.csv", ROW_COLUMNS)]
    assert [row["judge_grades"] for row in rows] == ['{"risk": 2}', '{"risk": 4}', ""]
    summary = read_json(out / "evaluation_summary.json")
    assert (summary["judge"], summary["judge_failures"]) == ("openai:m, rubric risk", 1)
    assert summary["judge_grades"] == {"risk": {"mean": 3, "ci95": [2, 4], "n": 2}}
    assert "\nGrades:             risk 3.00 (95% interval 2.00 to 4.00, n=2)\n" in capsys.readouterr().out
    assert "risk 3.00 (95% interval 2.00 to 4.00, n=2)" in (out / "report.html").read_text(encoding="utf-8")


def test_predictions_that_cannot_be_written_are_refused_before_judging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FactsJudge, "check_all", lambda *_: pytest.fail("judged"))
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"clinical_note": NOTES[0], "generated_summary": "Cough \ud83d"}))
    with pytest.raises(InputError, match=r"p\.jsonl, line 1: has \\ud83d, half of a character"):
        main(parse_args(["--predictions", str(path), "--output_dir", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


def test_ids_of_predictions_are_kept_and_missing_ones_made(tmp_path: Path) -> None:
    ids: list[dict[str, Any]] = [{"id": 0}, {"example_id": "x"}, {"id": "", "example_id": 7}, {"id": None}, {}]
    rows = [{"clinical_note": NOTES[0], "generated_summary": BAD, **each} for each in ids]
    write_jsonl(tmp_path / "p.jsonl", rows)
    examples, _ = read_predictions(tmp_path / "p.jsonl")
    assert [example.example_id for example in examples] == ["0", "x", "7", "line-4", "line-5"]


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


def write_notes(folder: Path, count: int) -> Path:
    rows = [
        {"id": f"n{i}", "clinical_note": f"Case {i}. {NOTES[0]}", "model_summary": GOOD[0], "label": "factual"}
        for i in range(count)
    ]
    write_csv(folder / "notes.csv", COLUMNS, [{"hallucination_type": "", **row} for row in rows])
    return folder / "notes.csv"


def without_times(path: Path) -> list[dict[str, str]]:
    return [{**row, "seconds": ""} for _, row in read_csv(path / "evaluation_results.csv", ROW_COLUMNS)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


KILLED = """
import os, signal, sys
sys.path.insert(0, ".")
from evaluation.evaluate_model import main, parse_args
from language_model.local_sampler import LocalSampler
complete = LocalSampler.complete
def until_killed(*args, **settings):
    for number, result in enumerate(complete(*args, **settings)):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield result
LocalSampler.complete = until_killed
main(parse_args(sys.argv[1:]))
"""


# 6 s. Proves in a real process that SIGKILL loses no summary that was finished.
def test_a_killed_evaluation_goes_on_where_it_was(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL behind the third of six summaries; the same command makes the other three, and the same results."""
    flags = ["--model_path", str(model), "--test_data", str(write_notes(tmp_path, 6)), "--max_new_tokens", "8"]
    flags += ["--device", "cpu", "--batch_size", "1", "--temperature", "0.7"]
    out = tmp_path / "killed"
    process = subprocess.run([sys.executable, "-c", KILLED, *flags, "--output_dir", str(out)], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    partial = out / "summaries.partial.jsonl"
    assert {path.name for path in out.iterdir()} == {".lock", partial.name}  # nothing that looks like a result
    assert partial.read_bytes().count(b"\n") == 1 + 3
    with partial.open("ab") as handle:
        handle.write(b'["torn')

    asked: list[str] = []
    complete = LocalSampler.complete

    def counted(self: LocalSampler, prompts: list[str], settings: Any, progress: str, done: frozenset[int]) -> Any:
        asked.extend(prompt for index, prompt in enumerate(prompts) if index not in done)
        return complete(self, prompts, settings, progress, done)

    monkeypatch.setattr(LocalSampler, "complete", counted)
    assert main(parse_args([*flags, "--output_dir", str(out)])) == 0
    assert len(asked) == 3
    assert "3 of 6 summaries are there already" in capsys.readouterr().out
    assert not partial.exists()
    assert main(parse_args([*flags, "--output_dir", str(tmp_path / "whole")])) == 0
    assert without_times(out) == without_times(tmp_path / "whole")
    assert all(float(row["seconds"]) > 0 for _, row in read_csv(out / "evaluation_results.csv", ROW_COLUMNS))


@pytest.mark.parametrize("change", ["nothing", "temperature", "top_p", "model"])
def test_summaries_of_another_model_or_other_settings_are_not_used(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped while judging: all summaries are there, for this model and these settings."""
    model = build_tiny_model(tmp_path / "model")
    flags = ["--model_path", str(model), "--test_data", str(write_notes(tmp_path, 3)), "--max_new_tokens", "4"]
    flags += ["--device", "cpu", "--output_dir", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(FactsJudge, "check_all", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main(parse_args(flags))
    partial = tmp_path / "out" / "summaries.partial.jsonl"
    assert f"{partial} keeps the results so far; the same command goes on from there.\n" in capsys.readouterr().err
    # as if a measurement had found bfloat16 faster
    partial.write_text(partial.read_text().replace('"float32"', '"bfloat16"'))
    if change == "model":
        build_tiny_model(tmp_path / "model", seed=1)
    assert main(parse_args([*flags, *([f"--{change}", "0.5"] if change in ("temperature", "top_p") else [])])) == 0
    printed = capsys.readouterr().out
    assert ("3 of 3 summaries are there already" in printed) == (change == "nothing")
    assert ("of another model or other settings; it is not used" in printed) == (change != "nothing")
    assert ("dtype: bfloat16 (asked for)" in printed) == (change == "nothing")
    assert not partial.exists()


def test_the_judge_of_the_training_pairs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    """A model folder with the record of Stage B: its pairs were judged by `facts`, as is this evaluation."""
    dpo = tmp_path / "dpo"
    shutil.copytree(model, dpo)
    write_json(dpo / "dpo_config.json", {"pair_judges": ["facts"]})
    flags = ["--test_data", str(write_notes(tmp_path, 2)), "--max_new_tokens", "2", "--device", "cpu"]
    told = {}
    for folder in (dpo, model):
        out = tmp_path / f"out_{folder.name}"
        main(parse_args(["--model_path", str(folder), *flags, "--output_dir", str(out)]))
        told[folder.name] = read_json(out / "evaluation_summary.json")["judge_made_training_pairs"]
        warned = "the judge facts made the pairs that this model was trained on" in capsys.readouterr().err
        assert warned == (folder == dpo)
    assert told == {"dpo": True, "model": None}


@pytest.mark.parametrize(("made_by", "told"), [("openai:m", True), ("openai:m2", False)])
def test_the_judge_of_the_training_pairs_is_told_under_another_criterion(
    made_by: str, told: bool, tmp_path: Path
) -> None:
    write_json(tmp_path / "dpo_config.json", {"pair_judges": ["facts", made_by]})
    judge: Any = SimpleNamespace(name="openai:m, criterion 0123abcd", usage=None)
    assert settings_of(parse_args(["--model_path", str(tmp_path)]), judge)["judge_made_training_pairs"] is told


def test_saying_little_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No error, half of the facts, and 2 words where the references have 5: the length alone is reason enough."""
    predictions = write_predictions(tmp_path, ["54-year-old woman.", "61-year-old man.", "33-year-old man."])
    main(parse_args(["--predictions", str(predictions), "--output_dir", str(tmp_path / "out")]))
    summary = read_json(tmp_path / "out" / "evaluation_summary.json")
    assert (summary["hallucination_rate"], summary["mean_summary_words"]) == (0, 2)
    assert summary["coverage"] > 0.3
    assert "warning: these summaries say little" in capsys.readouterr().err


def test_citations_reach_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cited = "Takes metformin 500 mg [Evidence: S1; Conf: 0.8]. Denies fever [Evidence: S1; Conf: 0.6]."
    predictions = write_predictions(tmp_path, [cited, GOOD[1], GOOD[2]])
    main(parse_args(["--predictions", str(predictions), "--output_dir", str(tmp_path / "out")]))
    summary = read_json(tmp_path / "out" / "evaluation_summary.json")
    assert (summary["citation_accuracy"], summary["citation_accuracy_n"]) == (0.5, 2)
    assert summary["calibration"]["brier"] == pytest.approx((0.2**2 + 0.6**2) / 2)
    assert "Citations right:    50.0% (95% interval 5.5% to 94.5%) of 2" in capsys.readouterr().out


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
        (
            [{"clinical_note": " ", "generated_summary": "x"}],
            "line 1: clinical_note is empty or not text; correct the row",
        ),
        ([{"clinical_note": "n", "generated_summary": None}], "line 1: generated_summary is empty or not text"),
        (
            [{"id": "a", "clinical_note": n, "generated_summary": "x"} for n in "nm"],
            "line 2: id a is already used on line 1; rename one",
        ),
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


@pytest.mark.parametrize("line_end", [" ", "\n", "\r\n", "\r"])
def test_spans_in_the_csv_stand_in_the_summary(tmp_path: Path, line_end: str) -> None:
    out = tmp_path / "out"
    texts = [f"Seen.{line_end}{text} [Evidence: S1]" for text in (GOOD[0], BAD, BAD)]
    main(parse_args(["--predictions", str(write_predictions(tmp_path, texts)), "--output_dir", str(out)]))
    spans = []
    for _, row in read_csv(out / "evaluation_results.csv", ROW_COLUMNS):
        for span in json.loads(row["unsupported_spans"]) + json.loads(row["citations"]):
            assert row["generated_summary"][span["start"] : span["end"]] == span["text"]
            spans.append(span)
    assert len(spans) >= 5
