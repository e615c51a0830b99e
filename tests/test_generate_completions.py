"""Completions of a Phase 1 file with a tiny model: what is stored, and that a killed run loses nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Server
from tiny_models import build_tiny_model

from generate_completions import Prompt, main, parse_args, read_prompts
from language_model.decoding_loop import DecodingLoop
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import write_json, write_jsonl
from sft_inference import SFTInference

COLUMNS = ("id", "clinical_note", "model_summary", "label", "hallucination_type")
NOTES = ["A 54-year-old woman with chest pain for 3 weeks.", "Denies fever.", "BP 142/88.", "Left knee pain."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "first", seed=0)


@pytest.fixture
def phase1(tmp_path: Path) -> Path:
    rows = [(f"r{number}", note, f"Summary {number}.", "factual", "") for number, note in enumerate(NOTES)]
    rows.insert(0, ("wrong", NOTES[0], "Made up.", "hallucinated", "dose"))  # before its note's factual summary
    rows.insert(3, ("again", NOTES[1], "A second one.", "factual_with_evidence", ""))
    rows[-1] = ("r3", NOTES[3], "Right knee pain.", "hallucinated", "laterality")
    write_csv(tmp_path / "train.csv", COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
    return tmp_path / "train.csv"


def run(model: Path, prompts: Path, *flags: str) -> int:
    output = prompts.parent / "out" / "completions.jsonl"
    fixed = ("--model_path", str(model), "--prompts_path", str(prompts), "--output_path", str(output))
    return main(parse_args([*fixed, "--device", "cpu", "--max_new_tokens", "8", "--batch_size", "4", *flags]))


def output_of(phase1: Path) -> Path:
    return phase1.parent / "out" / "completions.jsonl"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_distinct_notes_with_their_first_factual_summary(phase1: Path) -> None:
    assert read_prompts(phase1) == [
        Prompt("wrong", build_prompt(NOTES[0]), "Summary 0.", NOTES[0]),
        Prompt("r1", build_prompt(NOTES[1]), "Summary 1.", NOTES[1]),
        Prompt("r2", build_prompt(NOTES[2]), "Summary 2.", NOTES[2]),
        Prompt("r3", build_prompt(NOTES[3]), None, NOTES[3]),
    ]


def test_jsonl_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "id": 7, "reference": "r"}\n\n{"prompt": "b"}\n{"prompt": "a"}\n')
    assert read_prompts(path) == [Prompt("7", "a", "r", None), Prompt("line-3", "b", None, None)]


def test_the_note_of_a_jsonl_prompt(tmp_path: Path) -> None:
    """A note comes from `clinical_note`, else from a prompt of the suite's form; a prompt of another form has none."""
    rows = [
        {"prompt": build_prompt(NOTES[0])},
        {"prompt": build_prompt(NOTES[1]), "clinical_note": NOTES[1]},
        {"prompt": f"Summarise: {NOTES[2]}", "clinical_note": NOTES[2]},
        {"prompt": f"Summarise: {NOTES[3]}"},
    ]
    write_jsonl(tmp_path / "prompts.jsonl", rows)
    assert [prompt.note for prompt in read_prompts(tmp_path / "prompts.jsonl")] == [*NOTES[:3], None]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.txt", "", "must end in .csv, .tsv, .json, .jsonl"),
        ("p.jsonl", '{"prompt": [1]}\n', "line 1: prompt is not a text"),
        ("p.jsonl", '{"prompt": "a", "reference": 1}\n', "line 1: reference is not a text"),
        ("p.jsonl", '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}\n', "two different notes have the id 1"),
        ("p.jsonl", '{"prompt": "a", "clinical_note": 7}\n', "line 1: clinical_note is not text"),
        (
            "p.jsonl",
            json.dumps({"prompt": build_prompt(NOTES[0]), "clinical_note": NOTES[1]}),
            "line 1: clinical_note is not the note in prompt",
        ),
        ("p.csv", "clinical_note,model_summary,label\r\nn,s,maybe\r\n", "line 2: label 'maybe' is not known"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_prompts(tmp_path / name)


def test_rows_hold_prompt_note_reference_and_completions(model: Path, phase1: Path) -> None:
    assert run(model, phase1, "--num_completions", "2", "--temperature", "0") == 0
    rows = rows_of(output_of(phase1))
    assert [row["id"] for row in rows] == ["wrong", "r1", "r2", "r3"]
    assert [row.get("reference") for row in rows] == ["Summary 0.", "Summary 1.", "Summary 2.", None]
    assert "reference" not in rows[3]
    assert [row["clinical_note"] for row in rows] == NOTES
    inference = SFTInference(model, "cpu")
    for row, note in zip(rows, NOTES, strict=True):
        expected = inference.generate_summary(note, 8, 0)
        assert row["prompt"] == build_prompt(note)
        assert row["completions"] == [expected["generated_summary"]] * 2
        assert row["finished"] == [expected["finished"]] * 2


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as server:
        yield server


def test_completions_from_a_server(server: Server, phase1: Path) -> None:
    flags = ["--prompts_path", str(phase1), "--output_path", str(output_of(phase1)), "--served_model", "sft"]
    assert main(parse_args([*flags, "--base_url", server.url])) == 0
    rows = rows_of(output_of(phase1))
    assert [row["completions"] for row in rows] == [[f"about {build_prompt(note)}"] * 3 for note in NOTES]
    with pytest.raises(InputError, match="served_model sft there, dpo now"):
        main(parse_args([*flags, "--base_url", server.url, "--served_model", "dpo"]))


def test_a_killed_run_continues_and_ends_with_the_same_file(
    model: Path, phase1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(model, phase1)
    output = output_of(phase1)
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    output.write_bytes(lines[1] + lines[3][:-20])  # as a kill in the middle of a line leaves it
    capsys.readouterr()
    run(model, phase1)
    assert output.read_bytes() == whole
    printed = capsys.readouterr().out
    assert "dropped a torn last line" in printed
    assert "1 are completed already, 3 are to do" in printed


def test_a_run_that_was_killed_before_it_sorted_its_rows_sorts_them(model: Path, phase1: Path) -> None:
    run(model, phase1)
    output = output_of(phase1)
    whole = output.read_bytes()
    output.write_bytes(b"".join(reversed(whole.splitlines(keepends=True))))
    run(model, phase1)
    assert output.read_bytes() == whole


def test_a_resumed_run_repeats_an_unfinished_wave_with_the_same_company(
    model: Path, phase1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16, the rounding of a text depends on the texts that are computed with it."""
    drawn: list[int] = []
    step = DecodingLoop.step_logits

    def counted(loop: DecodingLoop) -> torch.Tensor:
        drawn.append(len(loop.rows))
        return step(loop)

    monkeypatch.setattr(DecodingLoop, "step_logits", counted)
    run(model, phase1, "--dtype", "bfloat16")
    whole, rows = output_of(phase1).read_bytes(), list(drawn)
    output_of(phase1).write_bytes(whole.splitlines(keepends=True)[2])
    drawn.clear()
    run(model, phase1, "--dtype", "bfloat16")
    assert output_of(phase1).read_bytes() == whole
    assert drawn == rows


def test_a_resumed_run_keeps_the_dtype_that_was_chosen(
    model: Path, phase1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(model, phase1)
    config = output_of(phase1).parent / "completions.config.json"
    stored = json.loads(config.read_text())
    assert (stored["dtype"], stored["chosen_dtype"]) == ("auto", "float32")
    write_json(config, stored | {"chosen_dtype": "bfloat16"})  # as if the measurement had found it faster
    output_of(phase1).write_bytes(output_of(phase1).read_bytes().splitlines(keepends=True)[0])
    capsys.readouterr()
    run(model, phase1)
    assert "dtype: bfloat16 (asked for)" in capsys.readouterr().out
    assert json.loads(config.read_text())["chosen_dtype"] == "bfloat16"


def test_rows_without_the_note_are_kept_when_a_run_is_resumed(model: Path, phase1: Path) -> None:
    """Earlier versions of the script wrote no `clinical_note`, and stored neither `base_model` nor top-k and top-p."""
    run(model, phase1)
    output = output_of(phase1)
    rows = rows_of(output)
    earlier = [{name: value for name, value in row.items() if name != "clinical_note"} for row in rows[:2]]
    write_jsonl(output, earlier)
    config = output.parent / "completions.config.json"
    settings = json.loads(config.read_text())
    assert settings.pop("base_model") is None
    assert (settings.pop("top_k"), settings.pop("top_p")) == (0, 1.0)
    write_json(config, settings)
    run(model, phase1)
    assert rows_of(output) == [*earlier, *rows[2:]]


def test_a_torn_first_line_and_a_longer_second_run(model: Path, phase1: Path) -> None:
    run(model, phase1)
    whole = output_of(phase1).read_bytes()
    output_of(phase1).write_bytes(whole[:30])
    run(model, phase1, "--max_prompts", "2")
    assert output_of(phase1).read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    run(model, phase1)
    assert output_of(phase1).read_bytes() == whole


def test_a_finished_run_loads_no_model(model: Path, phase1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(model, phase1)
    monkeypatch.setattr("generate_completions.make_sampler", lambda _: pytest.fail("a model was loaded"))
    assert run(model, phase1) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0.5"], "temperature 0.9 there, 0.5 now"),
        (["--seed", "1"], "seed 42 there, 1 now"),
        (["--num_completions", "4"], "num_completions 3 there, 4 now"),
        (["--top_k", "5"], "top_k 0 there, 5 now"),
        (["--top_p", "0.5"], "top_p 1.0 there, 0.5 now"),
    ],
)
def test_other_settings_are_refused(model: Path, phase1: Path, flags: list[str], words: str) -> None:
    run(model, phase1, "--max_prompts", "1")
    before = output_of(phase1).read_bytes()
    with pytest.raises(InputError, match=words):
        run(model, phase1, *flags)
    assert output_of(phase1).read_bytes() == before


def test_a_model_trained_again_in_the_same_folder_is_noticed(model: Path, phase1: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    run(copy, phase1, "--max_prompts", "1")
    build_tiny_model(copy, seed=1)
    with pytest.raises(InputError, match="weights_sha256"):
        run(copy, phase1)


def test_settings_missing_or_a_broken_line_in_the_middle(model: Path, phase1: Path) -> None:
    run(model, phase1)
    output = output_of(phase1)
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(lines[0] + b"{broken\n" + lines[1])
    with pytest.raises(InputError, match="line 2: not valid JSON"):
        run(model, phase1)
    (output.parent / "completions.config.json").unlink()
    with pytest.raises(InputError, match=r"completions.config.json: no such file"):
        run(model, phase1)


def test_a_note_beyond_the_context_is_left_out_by_name(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.jsonl"
    long = json.dumps({"id": "long", "prompt": "x " * 600})
    path.write_text(long + "\n" + json.dumps({"id": "short", "prompt": "a"}))
    assert run(model, path) == 0
    assert [row["id"] for row in rows_of(output_of(path))] == ["short"]
    assert run(model, path) == 0
    printed = capsys.readouterr()
    assert "left out: prompt long: its " in printed.err
    assert "1 of 2 prompts were left out as too long" in printed.out


def test_nothing_is_written_where_every_note_is_too_long(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"id": "long", "prompt": "x " * 600}))
    with pytest.raises(InputError, match="no prompt leaves room"):
        run(model, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--base_url", "u"], "go together"),
        (["--served_model", "m"], "go together"),
        (["--base_url", "u", "--served_model", "m", "--model_path", "p"], "name two models"),
        (["--output_path", "a.json"], "must end in .jsonl"),
    ],
)
def test_flags_that_do_not_go_together(flags: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        main(parse_args(flags))
