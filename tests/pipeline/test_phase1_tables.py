"""A chain on a user's own tables: every stage is told their columns, and a missing one is found before the first."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipeline_here import write_top_of_demo

import run_pipeline
from demo.recipes import Recipe
from language_model.model_files import DEMO_BASE
from pipeline import runner
from pipeline.phase1_tables import SPLITS, Phase1Tables
from pipeline.stages import stage_a
from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.files import write_json, write_jsonl

COLUMNS = ("id=visit", "note=dialogue", "summary=section_text", "label=truth")
NAMES = {"id": "visit", "clinical_note": "dialogue", "model_summary": "section_text", "label": "truth"}
READ_PHASE1 = {
    *("stage_a_sft_training.py", "generate_phase2_data.py", "generate_completions.py"),
    "evaluation/evaluate_model.py",
}


def renamed(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [{NAMES.get(name, name): cell for name, cell in row.items()} for row in rows]


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".tsv":
        cells = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in cells), encoding="utf-8")
    else:
        (write_json if path.suffix == ".json" else write_jsonl)(path, rows)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return write_top_of_demo(tmp_path / "ours", dict.fromkeys(SPLITS, 3))


@pytest.fixture
def theirs(ours: Path, tmp_path: Path) -> Path:
    return write_theirs(ours, tmp_path / "theirs", "parquet")


def write_theirs(ours: Path, folder: Path, kind: str) -> Path:
    folder.mkdir()
    for split in SPLITS:
        rows = [row for _, row in read_csv(ours / f"{split}_set_processed.csv", ())]
        write_table(folder / f"{split}_set_processed.{kind}", renamed(rows))
    return folder


def arguments(phase1: Path, *flags: str) -> Any:
    model = ["--model_name", str(DEMO_BASE), "--phase1_dir", str(phase1), "--output_dir", str(phase1.parent / "run")]
    return run_pipeline.parse_args([*model, *flags])


def commands(printed: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in printed.splitlines() if line.startswith("python ")]


@pytest.mark.parametrize("kind", ["parquet", "json", "jsonl", "tsv"])
def test_the_commands_of_a_dry_run_are_those_of_the_csvs_with_columns(
    kind: str, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = write_theirs(ours, tmp_path / "theirs", kind)
    assert run_pipeline.main(arguments(ours, "--dry_run")) == 0
    expected = commands(capsys.readouterr().out)
    assert run_pipeline.main(arguments(theirs, "--dry_run", "--columns", *COLUMNS)) == 0
    found = commands(capsys.readouterr().out)
    for script, *words in found:
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).parse_args(words)
    told = [words for words in found if "--columns" in words]
    assert {script for script, *_ in told} == READ_PHASE1
    for words in told:
        place = words.index("--columns")
        assert tuple(words[place + 1 : place + 1 + len(COLUMNS)]) == COLUMNS
        del words[place : place + 1 + len(COLUMNS)]
    ending = f"_set_processed.{kind}"
    assert expected == [
        [word.replace(str(theirs), str(ours)).replace(ending, "_set_processed.csv") for word in words]
        for words in found
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_column_of_any_split_is_named_before_the_first_stage(
    split: str, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "launch", lambda *_: pytest.fail("a stage has started"))
    path = theirs / f"{split}_set_processed.parquet"
    rows = pq.read_table(path).to_pylist()
    write_table(path, [{name: cell for name, cell in row.items() if name != "section_text"} for row in rows])
    with pytest.raises(InputError) as caught:
        run_pipeline.main(arguments(theirs, "--columns", *COLUMNS))
    assert str(caught.value).startswith(f"{path}, row 1: missing column section_text; found visit, dialogue, truth")
    with pytest.raises(InputError, match="missing column clinical_note, model_summary, label; found"):
        Phase1Tables(theirs).check("data", with_id=())


def test_a_missing_file_of_a_users_folder_asks_for_the_users_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"from your table with: python prepare_phase1_data\.py .*/none$"):
        run_pipeline.main(arguments(tmp_path / "none"))
    with pytest.raises(InputError, match=r"make the demo's data with: python demo/make_phase1_data\.py$"):
        run_pipeline.main(arguments(tmp_path / "none", "--demo"))


def test_ids_are_asked_for_where_a_stage_needs_them(ours: Path) -> None:
    for split in SPLITS:
        rows = [row for _, row in read_csv(ours / f"{split}_set_processed.csv", ())]
        (ours / f"{split}_set_processed.csv").unlink()
        without = [{name: cell for name, cell in row.items() if name != "id"} for row in rows]
        write_table(ours / f"{split}_set_processed.jsonl", without)
    Phase1Tables(ours).check("data", with_id=())
    Phase1Tables(ours, ("note=clinical_note",)).check("data", with_id=SPLITS)  # rows are then named by their place
    with pytest.raises(InputError, match=r"test_set_processed\.jsonl, line 1: missing key id"):
        Phase1Tables(ours).check("data", with_id=("test",))


def test_a_stage_runs_again_with_other_columns(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[list[str]] = []
    monkeypatch.setattr(runner, "launch", lambda command, log: launched.append(command))
    pipeline = run_pipeline.Pipeline(arguments(theirs), Recipe(), tmp_path / "run")
    for pairs in (COLUMNS, COLUMNS, (*COLUMNS[:2], "summary=dialogue_2")):
        stage_a(pipeline, Phase1Tables(theirs, pairs), "base")
    assert [command[command.index("--columns") + 3] for command in launched] == [COLUMNS[2], "summary=dialogue_2"]


def test_a_stage_is_not_told_other_columns_than_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_pipeline.parse_args(["--demo", "--stage_b", "--columns prompt=question"])
    assert "--columns: run_pipeline.py sets it for each stage" in capsys.readouterr().err


def test_the_top_of_any_table_is_the_top_of_the_csv(ours: Path, theirs: Path, tmp_path: Path) -> None:
    sizes = dict.fromkeys(SPLITS, 2)
    expected = Phase1Tables(ours).top(sizes, tmp_path / "a")
    found = Phase1Tables(theirs, COLUMNS).top(sizes, tmp_path / "b")
    assert found.flags == []
    for split in SPLITS:
        assert found.file(split).read_bytes() == expected.file(split).read_bytes()
    assert json.dumps(found.rows("train")) == json.dumps(Phase1Tables(ours).rows("train")[:2])


def test_further_columns_of_a_table_are_kept(ours: Path, tmp_path: Path) -> None:
    """Under their own names, behind ours, as text; a list has no place in a CSV."""
    rows = [row for _, row in read_csv(ours / "train_set_processed.csv", ())]
    further = [{"ward": "=ICU", "age": 71, "score": 0.5}, {"ward": None, "age": 64, "score": 1.0}, {"ward": "ED"}]
    wide = [{**more, **row, "codes": ["I10"]} for row, more in zip(renamed(rows), further, strict=True)]
    (tmp_path / "wide").mkdir()
    write_table(tmp_path / "wide" / "train_set_processed.jsonl", wide)
    top = Phase1Tables(tmp_path / "wide", COLUMNS).top({"train": 3}, tmp_path / "top")
    found = [row for _, row in read_csv(top.file("train"), ())]
    assert list(found[0]) == [*rows[0], "ward", "age", "score"]
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    assert [[row[name] for name in ("ward", "age", "score")] for row in found] == [
        ["=ICU", "71", "0.5"],
        ["", "64", "1"],
        ["ED", "", ""],
    ]
    written = top.file("train").stat().st_mtime_ns
    Phase1Tables(tmp_path / "wide", COLUMNS).top({"train": 3}, tmp_path / "top")
    assert top.file("train").stat().st_mtime_ns == written
