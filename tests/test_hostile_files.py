"""Files that would run code or write elsewhere do neither: planted pickles, code of a model, templates, ids."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import parser_of
from tiny_models import build_tiny_model
from training_helpers import random_adapter, write_phase1

import export_model
import sft_inference
import stage_a_sft_training
import stage_b_dpo_training
from evaluation import evaluate_model
from language_model.model_files import ADAPTER_WEIGHTS
from prepare_phase1_data import main as prepare
from prepare_phase1_data import parse_args as prepare_args
from script_io.errors import run_script


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole model `base`, an `adapter` of it, and Phase 1 data."""
    folder = tmp_path_factory.mktemp("models")
    random_adapter(folder / "adapter", build_tiny_model(folder / "base"))
    write_phase1(folder / "phase1.csv", 4)
    return folder


class Planted:
    """Unpickles to a call that leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def plant(path: Path) -> Path:
    """Write a pickle to `path` that would make the returned file, and show that it would."""
    mark = path.parent / "the_pickle_has_run"
    path.write_bytes(pickle.dumps(Planted(mark)))
    pickle.loads(path.read_bytes())
    mark.unlink()
    return mark


def copied(source: Path, target: Path, without: str) -> Path:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(without))
    return target


def refusal(run: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run() == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "\n".join(lines)
    return lines[-1]


def infer(model: Path, *flags: str) -> int:
    flags = ("--model_path", str(model), "--clinical_note", "Cough for 3 weeks.", "--device", "cpu", *flags)
    return run_script(sft_inference.main, sft_inference.parse_args(list(flags)))


@pytest.mark.parametrize(
    ("kind", "without", "planted"),
    [
        ("adapter", ADAPTER_WEIGHTS, "adapter_model.bin"),
        ("adapter", ADAPTER_WEIGHTS, "adapter_model.pt"),
        ("base", "model.safetensors", "pytorch_model.bin"),
        ("base", "model.safetensors", "model.pt"),
    ],
)
def test_a_pickle_in_the_place_of_weights_is_refused_and_does_not_run(
    models: Path, tmp_path: Path, kind: str, without: str, planted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(models / kind, tmp_path / kind, without)
    mark = plant(folder / planted)
    line = refusal(lambda: infer(folder), capsys)
    assert str(folder) in line
    assert "safetensors" in line
    export = ["--model_path", str(folder), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    refusal(lambda: run_script(export_model.main, export_model.parse_args(export)), capsys)
    if kind == "base":
        flags = ["--model_name", str(folder), "--train_data_path", str(models / "phase1.csv")]
        flags += [
            "--val_data_path",
            str(models / "phase1.csv"),
            "--output_dir",
            str(tmp_path / "sft"),
            "--device",
            "cpu",
        ]
        refusal(lambda: run_script(stage_a_sft_training.main, stage_a_sft_training.parse_args(flags)), capsys)
    assert not mark.exists()


def test_pickles_next_to_the_files_of_a_checkpoint_do_not_run(models: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("train", "validation"):
        write_phase1(inputs / f"{name}.csv", 4)
    flags = ["--model_name", str(models / "base"), "--device", "cpu", "--max_length", "256", "--batch_size", "2"]
    flags += ["--train_data_path", str(inputs / "train.csv"), "--val_data_path", str(inputs / "validation.csv")]
    flags += ["--output_dir", str(tmp_path / "run"), "--num_epochs"]
    assert run_script(stage_a_sft_training.main, stage_a_sft_training.parse_args([*flags, "1"])) == 0
    checkpoint = next((tmp_path / "run").glob("checkpoint_epoch_*"))
    marks = [
        plant(checkpoint / name)
        for name in (
            "optimizer.pt",
            "optimizer.bin",
            "scheduler.pt",
            "rng_state.pth",
            "random_states_0.pkl",
            "scaler.pt",
        )
    ]
    shutil.rmtree(tmp_path / "run" / "final_model")
    assert run_script(stage_a_sft_training.main, stage_a_sft_training.parse_args([*flags, "1", "--resume"])) == 0
    assert not any(mark.exists() for mark in marks)


def test_code_of_a_model_folder_runs_only_where_it_is_asked_for(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(models / "base", tmp_path / "base", "nothing")
    mark = tmp_path / "the_code_has_run"
    (folder / "modeling_mine.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "modeling_mine.MyConfig", "AutoModelForCausalLM": "modeling_mine.MyModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mine", "auto_map": classes}))
    assert "trust_remote_code" in refusal(lambda: infer(folder), capsys)
    assert not mark.exists()
    parsers = (stage_a_sft_training, stage_b_dpo_training, sft_inference, export_model, evaluate_model)
    for script in parsers:
        assert parser_of(script.__name__).get_default("trust_remote_code") is False


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{% for m in messages %}{{ m.__class__.__base__.__subclasses__() }}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% include '/etc/hostname' %}",
    ],
)
def test_a_chat_template_stays_in_its_sandbox(
    models: Path, tmp_path: Path, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(models / "base", tmp_path / "base", "chat_template.jinja")
    (folder / "chat_template.jinja").write_text(template)
    flags = ["--model_name", str(folder), "--train_data_path", str(models / "phase1.csv"), "--prompt_format", "chat"]
    flags += ["--val_data_path", str(models / "phase1.csv"), "--output_dir", str(tmp_path / "sft"), "--device", "cpu"]
    line = refusal(lambda: run_script(stage_a_sft_training.main, stage_a_sft_training.parse_args(flags)), capsys)
    assert "template" in line, line


def test_ids_are_not_paths(tmp_path: Path) -> None:
    table = tmp_path / "in" / "export.csv"
    table.parent.mkdir()
    ids = ["../../outside", str(tmp_path / "absolute"), "a/b", "..", "con", "~/x"]
    notes = [f"{name}\tcough for {days} days, number {days}" for days, name in enumerate("abcdef", start=1)]
    rows = [f'"{key}","{note}","Cough for {n} days."' for n, (key, note) in enumerate(zip(ids, notes, strict=True), 1)]
    table.write_text("\n".join(["id,clinical_note,summary", *rows]) + "\n")
    before = set(tmp_path.rglob("*"))
    assert prepare(prepare_args(["--input", str(table), "--output_dir", str(tmp_path / "out" / "phase1")])) == 0
    made = set(tmp_path.rglob("*")) - before
    assert made
    assert all(path.is_relative_to(tmp_path / "out") for path in made)


@pytest.mark.parametrize(("kind", "weights"), [("adapter", ADAPTER_WEIGHTS), ("base", "model.safetensors")])
def test_a_pickle_under_the_name_of_a_safetensors_file_is_a_damaged_one(
    models: Path, tmp_path: Path, kind: str, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(models / kind, tmp_path / kind, weights)
    mark = plant(folder / weights)
    assert str(folder) in refusal(lambda: infer(folder), capsys)
    assert not mark.exists()
