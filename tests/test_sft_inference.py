"""The library class and every mode of the command line, with a tiny model on a CPU."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import Server
from peft import LoraConfig
from peft_adapters import LAYERS, save_with_peft
from tiny_models import build_tiny_model

from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import InputError
from sft_inference import BUILT_IN_NOTE, Note, SFTInference, check_args, main, parse_args, read_notes

SCRIPT = Path(__file__).parents[1] / "sft_inference.py"
NOTES = ["A 54-year-old woman with chest pain.", "Denies fever, nausea.", "BP 142/88, HR 96 bpm."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "first", seed=0)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "second", seed=1)


def run(*flags: str | Path) -> int:
    return main(parse_args([*map(str, flags), "--device", "cpu", "--max_new_tokens", "8"]))


def jsonl(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_library_as_the_contract_has_it(model: Path) -> None:
    inference = SFTInference(model_path=str(model), device="cpu")
    result = inference.generate_summary(clinical_note=NOTES[0], max_new_tokens=8, temperature=0.7)
    assert result["clinical_note"] == NOTES[0]
    assert 1 <= result["num_tokens"] <= 8
    assert isinstance(result["generated_summary"], str)
    assert result["finished"] is (result["num_tokens"] < 8)
    assert result["seconds"] > 0
    again = SFTInference(str(model)).generate_summary(NOTES[0], 8, 0.7)
    assert again["generated_summary"] == result["generated_summary"]
    assert inference.generate_summary(NOTES[0], 8, 0.7, seed=1)["generated_summary"] != result["generated_summary"]


def test_the_base_of_an_adapter_may_have_moved(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = shutil.copytree(model, tmp_path / "old_place")
    adapter = save_with_peft(tmp_path / "adapter", old, LoraConfig(target_modules=LAYERS))
    expected = SFTInference(adapter, "cpu").generate_summary(NOTES[0], 8, 0)["generated_summary"]
    moved = old.rename(tmp_path / "new_place")
    with pytest.raises(InputError, match=r"old_place is not there; .* --base_model"):
        SFTInference(adapter, "cpu")
    found = SFTInference(adapter, "cpu", base_model=moved).generate_summary(NOTES[0], 8, 0)
    assert found["generated_summary"] == expected
    flags = ("--model_path", adapter, "--base_model", moved, "--temperature", "0")
    assert run(*flags, "--clinical_note", NOTES[0]) == 0
    assert f"Generated Summary:\n{expected}\n" in capsys.readouterr().out


def test_many_notes_give_what_each_gives_alone_in_their_order(model: Path) -> None:
    inference = SFTInference(model, "cpu")
    together = inference.generate_summaries(NOTES, max_new_tokens=8, temperature=0, batch_size=2)
    alone = [inference.generate_summary(note, max_new_tokens=8, temperature=0) for note in NOTES]
    assert [row["clinical_note"] for row in together] == NOTES
    assert [row["generated_summary"] for row in together] == [row["generated_summary"] for row in alone]


def test_notes_of_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first note\n\nsecond note\n")
    write_csv(tmp_path / "a.csv", ["id", "visit"], [{"id": "x", "visit": "one, with\na line break"}])
    (tmp_path / "a.jsonl").write_text(
        '{"id": "p", "clinical_note": "by note"}\n'
        '{"clinical_note": null, "prompt": "Clinical Note: by prompt\\n\\nSummary:"}\n'
    )
    assert read_notes(tmp_path / "a.txt", None) == [Note("1", "first note"), Note("3", "second note")]
    assert read_notes(tmp_path / "a.csv", "visit") == [Note("x", "one, with\na line break")]
    assert read_notes(tmp_path / "a.jsonl", None) == [Note("p", "by note"), Note("2", "by prompt")]


@pytest.mark.parametrize(
    ("name", "content", "column", "words"),
    [
        ("a.docx", "", None, "must end in .txt, .csv, .jsonl"),
        ("a.txt", "\n\n", None, "the file is empty"),
        ("a.txt", "note\n", "visit", "has no columns"),
        ("a.csv", "id,note\r\n1,x\r\n", None, "line 1: missing column clinical_note; found id, note"),
        ("a.csv", "id,clinical_note\r\n1,x\r\n2, \r\n", None, "line 3: the note is empty"),
        ("a.jsonl", '{"text": "x"}\n', None, "line 1: no key clinical_note or prompt"),
        ("a.jsonl", '{"clinical_note": 7}\n', None, "line 1: clinical_note is not text"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_line(
    tmp_path: Path, name: str, content: str, column: str | None, words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words) as info:
        read_notes(tmp_path / name, column)
    assert name in str(info.value)


def test_one_note_prints_note_and_summary(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model_path", model, "--clinical_note", NOTES[0], "--temperature", "0") == 0
    expected = SFTInference(model, "cpu").generate_summary(NOTES[0], 8, 0)["generated_summary"]
    assert f"Clinical Note:\n{NOTES[0]}\n\nGenerated Summary:\n{expected}\n" in capsys.readouterr().out


def test_file_to_jsonl_and_csv_hold_the_same(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "notes.csv"
    write_csv(source, ["id", "clinical_note"], [{"id": f"n{i}", "clinical_note": note} for i, note in enumerate(NOTES)])
    for name in ("out.jsonl", "out.csv"):
        flags = ("--model_path", model, "--input_file", source, "--output_file", tmp_path / name, "--batch_size", "2")
        assert run(*flags) == 0
    rows = jsonl(tmp_path / "out.jsonl")
    assert [(row["id"], row["clinical_note"]) for row in rows] == [(f"n{i}", note) for i, note in enumerate(NOTES)]
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    assert list(table[0]) == list(rows[0])
    assert [row["generated_summary"] for row in table] == [row["generated_summary"] for row in rows]


def test_a_note_beyond_the_context_is_named_by_its_id(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("short\n\n" + "long " * 600)
    with pytest.raises(InputError, match=r"note 3: its \d+ tokens and 8 new ones exceed the model's context of 512"):
        run("--model_path", model, "--input_file", tmp_path / "notes.txt")


def test_two_models_side_by_side(
    model: Path, other_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both.jsonl"
    flags = ("--model_path", model, "--compare_model_path", other_model, "--clinical_note", NOTES[1])
    assert run(*flags, "--temperature", "0", "--output_file", out) == 0
    [row] = jsonl(out)
    printed = capsys.readouterr().out
    for folder, prefix in ((model, ""), (other_model, "compare_")):
        expected = SFTInference(folder, "cpu").generate_summary(NOTES[1], 8, 0)["generated_summary"]
        assert row[f"{prefix}generated_summary"] == expected
        assert f"--- {folder} ---\nGenerated Summary:\n{expected}" in printed
    assert row["generated_summary"] != row["compare_generated_summary"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as server:
        yield server


def test_a_local_model_beside_a_served_one(model: Path, server: Server, tmp_path: Path) -> None:
    flags = ("--model_path", model, "--base_url", server.url, "--compare_served_model", "dpo")
    assert run(*flags, "--clinical_note", NOTES[0], "--output_file", tmp_path / "out.jsonl") == 0
    [row] = jsonl(tmp_path / "out.jsonl")
    assert (row["model"], row["compare_model"]) == (str(model), "dpo")
    assert row["compare_generated_summary"] == f"about {build_prompt(NOTES[0])}"


def test_two_served_models(server: Server, tmp_path: Path) -> None:
    flags = ("--base_url", server.url, "--served_model", "sft", "--compare_served_model", "dpo")
    assert run(*flags, "--clinical_note", NOTES[0], "--output_file", tmp_path / "out.csv") == 0
    assert [request[2]["model"] for request in server.requests] == ["sft", "dpo"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--base_url", "http://localhost:1/v1"], "--base_url needs --served_model"),
        (["--served_model", "sft"], "need --base_url"),
        (["--compare_served_model", "sft"], "need --base_url"),
        (["--base_url", "u", "--served_model", "a", "--model_path", "b"], "name two models"),
        (["--clinical_note", "n", "--output_file", "a.txt"], "must end in .jsonl or .csv"),
        (["--clinical_note", "  "], "the note is empty"),
        (["--clinical_note", "n", "--note_column", "visit"], "--note_column names a column of --input_file"),
    ],
)
def test_flags_that_do_not_go_together(flags: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_args(parse_args(flags))


def script(*flags: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, flags), "--device", "cpu", "--max_new_tokens", "8"]
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


# 6 s. Proves what a real process does if it has neither note nor terminal.
def test_without_note_or_terminal_runs_the_built_in_note(model: Path, tmp_path: Path) -> None:
    result = script("--model_path", model, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"Clinical Note:\n{BUILT_IN_NOTE}\n\nGenerated Summary:\n" in result.stdout


def test_missing_default_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    result = script("--clinical_note", NOTES[0], folder=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "models/sft_specialist/final_model" in result.stderr
    assert "python stage_a_sft_training.py" in result.stderr


# 6 s. Proves on a pseudo-terminal that the prompt reads note after note.
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_terminal_is_asked_for_notes_until_the_input_ends(model: Path) -> None:
    import pexpect

    flags = [str(SCRIPT), "--model_path", str(model), "--device", "cpu", "--max_new_tokens", "8"]
    process = pexpect.spawn(sys.executable, flags, env=os.environ, encoding="utf-8", timeout=60, echo=False)
    for line, question in ((NOTES[0], "Note> "), (NOTES[1], "    > "), ("", "    > ")):
        process.expect_exact(question)
        process.sendline(line)
    process.expect_exact(f"Clinical Note:\r\n{NOTES[0]}\r\n{NOTES[1]}\r\n\r\nGenerated Summary:")
    process.expect_exact("Note> ")
    process.sendeof()
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0
