"""The library class and every mode of the command line, with a tiny model on a CPU."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_server import Server
from peft import LoraConfig
from peft_adapters import LAYERS, save_with_peft
from tiny_models import build_tiny_model

import sft_inference
from language_model.prompt_flags import prompt_settings, prompt_settings_of
from language_model.prompt_format import build_prompt, encode_prompt
from language_model.sampler import Completion, PromptTooLong, SamplingSettings
from language_model.text_stream import TextStream
from script_io.csv_files import read_csv, write_csv
from script_io.errors import InputError
from script_io.terminal import printable
from sft_inference import BUILT_IN_NOTE, SFTInference, check_args, main, parse_args, speed

THINKING = (
    "{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}"
    "{% if enable_thinking is defined and not enable_thinking %}[no thoughts]{% endif %}{% endif %}"
)
SCRIPT = Path(__file__).parents[1] / "sft_inference.py"
NOTES = ["A 54-year-old woman with chest pain.", "Denies fever, nausea.", "BP 142/88, HR 96 bpm."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "first", seed=0)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "second", seed=1)


def prompt_of(sampler: Any, note: str) -> str:
    """The text that the model is given for a note."""
    loaded = sampler.loaded
    ids = encode_prompt(loaded.tokenizer, build_prompt(note), loaded.prompt_format)
    text: str = loaded.tokenizer.decode(ids)
    return text


def test_the_class_renders_prompts_as_the_command_line_does(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "chat", "qwen2")
    template = tmp_path / "prompt.txt"
    template.write_text("Read this visit.\n{note}\nIn one line:")
    given: dict[str, Any] = {"prompt_format": "chat", "prompt_template": str(template), "system_prompt": "Be brief."}
    for names in (["prompt_format"], list(given), []):
        settings = {name: given[name] for name in names}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        args = parse_args(["--model_path", str(folder), "--device", "cpu", *words])
        (make,) = sft_inference.sampler_makers(args)
        by_class = prompt_of(SFTInference(folder, "cpu", **settings).sampler, NOTES[0])
        assert by_class == prompt_of(make(), NOTES[0])
        expected = ("Read this visit.", "Be brief.") if "system_prompt" in names else ("Clinical Note: ",)
        assert all(text in by_class for text in (*expected, NOTES[0]))
    assert "<|im_start|>" not in prompt_of(SFTInference(folder, "cpu", prompt_format="plain").sampler, NOTES[0])
    (folder / "chat_template.jinja").write_text(THINKING)
    variables = {"enable_thinking": False}
    args = parse_args(["--model_path", str(folder), "--chat_template_kwargs", json.dumps(variables), "--device", "cpu"])
    assert prompt_settings(args) == prompt_settings_of(chat_template_kwargs=variables)
    silent = SFTInference(folder, "cpu", chat_template_kwargs=variables)
    assert prompt_of(silent.sampler, NOTES[0]).endswith("[no thoughts]")
    for values, message in (
        ({"prompt_format": "html"}, "--prompt_format html: choose plain or chat"),
        ({"chat_template_kwargs": {"a b": 1}}, '--chat_template_kwargs {"a b": 1}: give a JSON object of names'),
        ({"prompt_template": tmp_path / "none.txt"}, "none.txt: no such file; name a text file with {note}"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            SFTInference(folder, "cpu", **values)  # type: ignore[arg-type]


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
    assert f"Generated Summary:\n{printable(expected)}\n" in capsys.readouterr().out


def test_many_notes_give_what_each_gives_alone_in_their_order(model: Path) -> None:
    inference = SFTInference(model, "cpu")
    together = inference.generate_summaries(NOTES, max_new_tokens=8, temperature=0, batch_size=2)
    alone = [inference.generate_summary(note, max_new_tokens=8, temperature=0) for note in NOTES]
    assert [row["clinical_note"] for row in together] == NOTES
    assert [row["generated_summary"] for row in together] == [row["generated_summary"] for row in alone]


def test_one_note_prints_note_and_summary(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model_path", model, "--clinical_note", NOTES[0], "--temperature", "0") == 0
    printed = capsys.readouterr()
    expected = SFTInference(model, "cpu").generate_summary(NOTES[0], 8, 0)["generated_summary"]
    assert f"Clinical Note:\n{NOTES[0]}\n\nGenerated Summary:\n{printable(expected)}\n" in printed.out
    assert "Device: cpu" in printed.err
    assert "Device:" not in printed.out


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


def test_all_columns_of_the_input_are_written_out(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "visits.csv"
    rows = [{"patient_id": f"p{i}", "visit": note, "model": "old", "ward": "=3"} for i, note in enumerate(NOTES)]
    write_csv(source, list(rows[0]), rows)
    for name in ("out.jsonl", "out.csv"):
        flags = ("--model_path", model, "--input_file", source, "--note_column", "visit")
        assert run(*flags, "--output_file", tmp_path / name) == 0
    for written in (jsonl(tmp_path / "out.jsonl"), [row for _, row in read_csv(tmp_path / "out.csv", ())]):
        assert [row["patient_id"] for row in written] == ["p0", "p1", "p2"]
        assert [row["visit"] for row in written] == [row["clinical_note"] for row in written] == NOTES
        assert {(row["input_model"], row["ward"], row["model"]) for row in written} == {("old", "=3", str(model))}
        assert "id" not in written[0]  # none is made up


@pytest.mark.parametrize(
    ("flags", "ids"), [((), ["1", "3"]), (("--one_note_per_file",), ["visit.txt"]), (("folder",), ["visit.txt"])]
)
def test_a_note_in_pieces_is_warned_of_unless_it_is_read_as_one(
    flags: tuple[str, ...], ids: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "notes" / "visit.txt"
    source.parent.mkdir()
    source.write_text(f"{NOTES[0]}\n\n{NOTES[1]}\n")
    given, flags = (source.parent, ()) if flags == ("folder",) else (source, flags)
    out = tmp_path / "out.jsonl"
    assert run("--model_path", model, "--input_file", given, "--output_file", out, *flags) == 0
    assert [row["id"] for row in jsonl(out)] == ids
    warned = "look like pieces of one note (line 2 is blank)" in capsys.readouterr().err
    assert warned is (len(ids) > 1)


def test_a_list_of_one_line_notes_is_not_warned_of(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("\n".join(NOTES))
    assert run("--model_path", model, "--input_file", tmp_path / "notes.txt") == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    assert re.search(r": 3 summaries in \d+\.\d s, \d+ tokens \(\d+ tokens a second\)\n", printed.err)
    assert "tokens a second" not in printed.out


def test_speed_of_a_model_and_of_a_server_that_counts_no_tokens() -> None:
    summaries = [{"model": "sft", "num_tokens": 30}, {"model": "sft", "num_tokens": 20}]
    assert speed(summaries, 2.0) == "sft: 2 summaries in 2.0 s, 50 tokens (25 tokens a second)"
    assert speed([{"model": "sft", "num_tokens": 0}], 2.0) == "sft: 1 summary in 2.0 s"


def test_a_note_is_read_from_a_file_as_a_whole(model: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text(f"{NOTES[0]}\n\n{NOTES[1]}\n")
    flags = ("--model_path", model, "--clinical_note", f"@{tmp_path / 'note.txt'}")
    assert run(*flags, "--output_file", tmp_path / "out.jsonl") == 0
    assert [row["clinical_note"] for row in jsonl(tmp_path / "out.jsonl")] == [f"{NOTES[0]}\n\n{NOTES[1]}"]


def test_an_output_file_is_kept_unless_overwrite_is_given(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    flags = ("--clinical_note", NOTES[0], "--output_file", out)
    with pytest.raises(InputError, match="exists already; add --overwrite"):
        run("--model_path", "./no_model_is_loaded", *flags)
    assert out.read_text() == "mine"
    assert run("--model_path", model, *flags, "--overwrite") == 0
    assert jsonl(out)[0]["clinical_note"] == NOTES[0]


def test_the_input_file_is_never_the_output_file(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("clinical_note\ncough\n")
    with pytest.raises(InputError, match="is the input file"):
        run("--input_file", tmp_path / "notes.csv", "--output_file", tmp_path / "notes.csv", "--overwrite")


class Fixed:
    """A sampler that gives each note the same summary."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    def complete(
        self, prompts: Sequence[str], settings: SamplingSettings, progress: str | None = None, done: object = ()
    ) -> Iterator[tuple[int, list[Completion]]]:
        return ((index, [Completion(self.text, True, 5, 0.1)]) for index in range(len(prompts)))

    def too_long(self, prompts: Sequence[str], max_new_tokens: int) -> list[PromptTooLong]:
        return []


MEDICINE = "A 54-year-old woman with chest pain. Started apixaban 5 mg twice daily."


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models with fixed summaries in place of local ones."""
    texts = {"sft": "Woman with chest pain. Apixaban 10 mg twice daily.", "dpo": "Woman with chest pain."}
    monkeypatch.setattr(sft_inference, "local_sampler", lambda _, name, dtypes: Fixed(name, texts[name]))
    monkeypatch.setattr(sft_inference, "require_model", lambda name: None)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("fixed")
def test_doubtful_words_are_marked_in_the_terminal_and_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--model_path", "sft", "--clinical_note", MEDICINE, "--check")
    for name in ("out.jsonl", "out.csv"):
        assert run(*flags, "--output_file", tmp_path / name) == 0
    printed = capsys.readouterr().out
    marked = "Woman with chest pain. Apixaban [1 10 mg] twice daily."
    assert f"Generated Summary:\n{marked}\n\n1 of " in printed
    assert "  1  contradicted  error  dose             10 mg\n     apixaban: summary 10 mg; note 5 mg\n" in printed
    assert "     S2: Started apixaban 5 mg twice daily.\n" in printed
    [row] = jsonl(tmp_path / "out.jsonl")
    assert row["generated_summary"] == marked.replace("[1 10 mg]", "10 mg")
    assert (row["marked_summary"], row["has_hallucination"], row["hallucination_score"]) == (marked, 1, 1.0)
    [span] = row["doubtful_spans"]
    assert (span["number"], span["type"], span["verdict"]) == (1, "dose", "contradicted")
    assert row["generated_summary"][span["start"] : span["end"]] == span["text"] == "10 mg"
    [(_, cells)] = read_csv(tmp_path / "out.csv", ())
    assert json.loads(cells["doubtful_spans"]) == row["doubtful_spans"]


class Dying(Fixed):
    """A sampler that is killed after two summaries. `asked` has the notes that it was asked for."""

    def __init__(self) -> None:
        super().__init__("sft", "Chest pain.")
        self.asked: list[int] = []
        self.dies = True

    def complete(
        self, prompts: Sequence[str], settings: SamplingSettings, progress: str | None = None, done: object = ()
    ) -> Iterator[tuple[int, list[Completion]]]:
        assert isinstance(done, frozenset)
        for index in sorted(set(range(len(prompts))) - done, reverse=True):
            if self.dies and len(self.asked) == 2:
                raise KeyboardInterrupt
            self.asked.append(index)
            yield index, [Completion(f"{self.text} {index}", True, 5, 0.1)]


@pytest.mark.usefixtures("fixed")
def test_the_summaries_of_a_stopped_run_are_kept_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = Dying()
    monkeypatch.setattr(sft_inference, "local_sampler", lambda *_: sampler)
    write_csv(tmp_path / "notes.csv", ["clinical_note"], [{"clinical_note": note} for note in NOTES])
    output, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial"
    flags = ("--model_path", "sft", "--input_file", tmp_path / "notes.csv", "--output_file", output)
    with pytest.raises(KeyboardInterrupt):
        run(*flags)
    assert f"{partial} keeps the results so far; the same command goes on from there.\n" in capsys.readouterr().err
    assert not output.exists()
    assert partial.stat().st_mode & 0o777 == 0o600
    assert [row[1]["generated_summary"] for row in jsonl(partial)[1:]] == ["Chest pain. 2", "Chest pain. 1"]  # type: ignore[index]
    with partial.open("a") as handle:
        handle.write('["torn')
    sampler.dies = False
    run(*flags, "--check")
    assert sampler.asked == [2, 1, 0]
    assert "2 summaries are there already" in capsys.readouterr().err
    assert [row["generated_summary"] for _, row in read_csv(output, ())] == [f"Chest pain. {n}" for n in range(3)]
    assert not partial.exists()
    sampler.asked.clear()
    sampler.dies = True
    with pytest.raises(KeyboardInterrupt):
        run(*flags, "--overwrite", "--temperature", "0")
    sampler.asked.clear()
    sampler.dies = False
    run(*flags, "--overwrite", "--temperature", "0.5")  # other settings: all summaries are made again
    assert sampler.asked == [2, 1, 0]


def test_both_models_go_on_in_the_dtypes_that_were_chosen_first(
    model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "notes.csv", ["clinical_note"], [{"clinical_note": note} for note in NOTES])
    output, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial"
    flags = ("--model_path", model, "--compare_model_path", other_model, "--input_file", tmp_path / "notes.csv")
    with monkeypatch.context() as patch:
        patch.setattr(sft_inference, "write_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(*flags, "--output_file", output)
    assert jsonl(partial)[-1][2] == {str(model): "float32", str(other_model): "float32"}  # type: ignore[index]
    # as if a measurement had found bfloat16 faster for the second model
    kept = partial.read_text().replace(f'{other_model}": "float32', f'{other_model}": "bfloat16')
    partial.write_text(kept)
    capsys.readouterr()
    run(*flags, "--output_file", output)
    chosen = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Device: ")]
    assert ["dtype: bfloat16 (asked for)" in line for line in chosen] == [False, True]


@pytest.mark.usefixtures("fixed")
def test_a_second_run_into_the_same_file_is_refused(tmp_path: Path) -> None:
    flags = ("--model_path", "sft", "--clinical_note", MEDICINE, "--output_file", tmp_path / "out.jsonl")
    holds = "import sys, time; from script_io.folder_lock import lock_folder; lock = lock_folder(*sys.argv[1:]);"
    holds += "lock.__enter__(); print('locked', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", holds, str(tmp_path), "out.jsonl"]
    with subprocess.Popen(command, cwd=SCRIPT.parent, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            assert other.stdout.readline() == b"locked\n"
            with pytest.raises(InputError, match="another run is writing there"):
                run(*flags)
        finally:
            other.kill()
    run(*flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]


@pytest.mark.usefixtures("fixed")
def test_summaries_of_an_edited_prompt_template_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Dying()
    monkeypatch.setattr(sft_inference, "local_sampler", lambda *_: sampler)
    write_csv(tmp_path / "notes.csv", ["clinical_note"], [{"clinical_note": note} for note in NOTES])
    flags = ("--model_path", "sft", "--input_file", tmp_path / "notes.csv", "--output_file", tmp_path / "out.csv")
    flags += ("--prompt_template", tmp_path / "template.txt")
    (tmp_path / "template.txt").write_text("Summarise: {note}")
    with pytest.raises(KeyboardInterrupt):
        run(*flags)
    (tmp_path / "template.txt").write_text("Summarise in one sentence: {note}")
    sampler.asked.clear()
    sampler.dies = False
    run(*flags)
    assert sampler.asked == [2, 1, 0]


@pytest.mark.usefixtures("fixed")
def test_without_check_nothing_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model_path", "sft", "--clinical_note", MEDICINE, "--output_file", tmp_path / "out.jsonl") == 0
    assert "Generated Summary:\nWoman with chest pain. Apixaban 10 mg twice daily.\n" in capsys.readouterr().out
    assert list(jsonl(tmp_path / "out.jsonl")[0])[-1] == "finished"


@pytest.mark.usefixtures("fixed")
def test_two_summaries_are_printed_next_to_each_other_with_their_differences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--model_path", "sft", "--compare_model_path", "dpo", "--clinical_note", MEDICINE, "--check") == 0
    _, shown = capsys.readouterr().out.split("Generated Summary:\n")
    lines = shown.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")] == ["sft", "dpo"]
    assert [cell.strip() for cell in lines[2].split("|")] == [
        "Woman with chest pain. {Apixaban} [1",
        "Woman with chest pain.",
    ]
    assert max(map(len, lines[:5])) <= 80
    assert "Words that differ are in {braces}." in lines
    assert any(line.startswith("sft: 1 of ") for line in lines)
    assert any(line.startswith("dpo: 0 of ") for line in lines)


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
    for folder, prefix in ((model, ""), (other_model, "compare_")):
        expected = SFTInference(folder, "cpu").generate_summary(NOTES[1], 8, 0)["generated_summary"]
        assert row[f"{prefix}generated_summary"] == expected
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
        (["--clinical_note", "n", "--note_column", "visit"], "--note_column names a column of --input_file"),
        (["--clinical_note", "n", "--one_note_per_file"], "--one_note_per_file is for --input_file"),
        (["--clinical_note", "n", "--lexicon_dir", "lexicons"], "--lexicon_dir is for --check"),
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


# 6 s. Proves on a pseudo-terminal that a pasted note stays one, and that the prompt then asks for the next.
def test_a_missing_model_is_told_before_anything_is_loaded(model: Path, tmp_path: Path) -> None:
    """Also the second model of a comparison, and without the seconds that torch takes to load."""
    flags = ["--clinical_note", "Cough.", "--model_path", str(model), "--compare_model_path", "./none"]
    code = (
        "import sys\nimport sft_inference\nfrom script_io.errors import InputError\n"
        f"try: sft_inference.main(sft_inference.parse_args({flags}))\n"
        "except InputError as error: print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "./none: no such model folder; name an existing folder or a hub id False\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_terminal_is_asked_for_notes_until_the_input_ends(model: Path) -> None:
    import pexpect

    flags = [str(SCRIPT), "--model_path", str(model), "--device", "cpu", "--max_new_tokens", "8"]
    process = pexpect.spawn(
        sys.executable, [*flags, "--check"], env=os.environ, encoding="utf-8", timeout=300, echo=False
    )
    process.expect_exact("Note> ")
    process.send(f"{NOTES[0]}\n\n\n{NOTES[1]}\n.\n")  # a paste with blank lines, then the end
    process.expect_exact(f"Clinical Note:\r\n{NOTES[0]}\r\n\r\n\r\n{NOTES[1]}\r\n\r\nGenerated Summary:")
    process.expect_exact("facts contradicted or unsupported")
    process.expect_exact("Note> ")
    process.sendeof()
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0


def test_a_streamed_summary_is_printed_as_it_grows_and_ends_the_same(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--model_path", model, "--clinical_note", NOTES[0], "--temperature", "0")
    assert run(*flags) == 0
    whole = capsys.readouterr().out
    seen: list[str] = []
    monkeypatch.setattr(TextStream, "__call__", lambda stream, text: (seen.append(text), grow(stream, text))[1])
    assert run(*flags, "--stream") == 0
    assert capsys.readouterr().out == whole
    assert len(seen) == 8  # tokens
    assert all(after.startswith(before.rstrip("\ufffd")) for before, after in pairwise(seen))
    assert len(set(seen)) > 4


grow = TextStream.__call__
