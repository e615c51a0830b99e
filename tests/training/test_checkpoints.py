"""Checkpoints that are damaged, kept, or continued with other settings, and a disk that is full or taken."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_helpers import ROOT, metrics, stage_a_flags, train_stage_a, write_stage_a_inputs

import stage_a_sft_training as stage_a
from script_io.errors import InputError, RunError, run_script
from script_io.folder_lock import lock_folder
from script_io.measured import without_measured
from training import input_identity, run_folder
from training.checkpoint_folder import damage, delete_folder
from training.checkpoints import _best_checkpoint, checkpoints_in, newest_checkpoint, restore_best
from training.settings import learning_rate_factor

FLAGS = ("--save_steps", "1", "--num_threads", "1", "--dtype", "float32")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_stage_a_inputs(tmp_path_factory.mktemp("checkpoints"), 8, 3)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """A run of four steps with a checkpoint after each."""
    return train_stage_a(inputs, tmp_path_factory.mktemp("whole") / "run", *FLAGS)


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def arguments(inputs, output, *extra):
    return stage_a.parse_args(stage_a_flags(inputs, output, *FLAGS, *extra))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --------------------------------------------------------------------------------------- damaged checkpoints


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("optimizer.safetensors", flip_a_bit, "optimizer.safetensors has changed"),
        ("trainable.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9]), "trainable.safetensors has"),
        ("training_state.json", lambda path: path.write_text("{"), "training_state.json has 1 bytes"),
        ("adapter_model.safetensors", Path.unlink, "adapter_model.safetensors is missing"),
        ("manifest.json", lambda path: path.write_text(path.read_text()[:-30]), "manifest.json is damaged"),
        ("manifest.json", Path.unlink, "manifest.json is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(copied, capsys, name, spoil, said):
    spoil(copied / "checkpoint_epoch_2" / name)
    assert newest_checkpoint(copied) == copied / "checkpoint_step_3"
    told = capsys.readouterr().err
    assert f"checkpoint_epoch_2: {said}" in told
    assert "; checkpoint_step_3 is used" in told


def test_a_run_whose_checkpoints_are_all_damaged_is_neither_continued_nor_deleted(inputs, copied):
    for path in copied.glob("checkpoint_*/trainable.safetensors"):
        flip_a_bit(path)
    with pytest.raises(InputError, match="no checkpoint is complete"):
        stage_a.main(arguments(inputs, copied, "--resume"))
    assert (copied / "final_model").is_dir()


def test_what_a_kill_leaves_is_no_checkpoint_and_is_deleted_by_the_resumed_run(inputs, whole, copied):
    shutil.copytree(copied / "checkpoint_epoch_2", copied / ".checkpoint_step_9.tmp")
    (copied / ".metrics.jsonl.abc.tmp").write_text("half")
    shutil.rmtree(copied / "checkpoint_epoch_2")
    shutil.rmtree(copied / "final_model")
    train_stage_a(inputs, copied, *FLAGS, "--resume")
    assert sorted(path.name for path in copied.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert all(damage(path) is None for path in copied.glob("checkpoint_*"))
    weights = "final_model/adapter_model.safetensors"
    assert (copied / weights).read_bytes() == (whole / weights).read_bytes()
    stats = [without_measured(json.loads((run / "training_stats.json").read_text())) for run in (whole, copied)]
    for each in stats:
        each["arguments"].pop("output_dir")
    assert stats[0] == stats[1]


def test_the_newest_checkpoints_and_the_best_are_kept(inputs, tmp_path, monkeypatch):
    losses = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(stage_a, "evaluate", lambda run, dataset: {"loss": next(losses)})
    flags = ("--num_epochs", "3", "--keep_checkpoints", "2", "--early_stopping_patience", "9")
    output = train_stage_a(inputs, tmp_path / "run", *FLAGS, *flags)
    kept = {path.name for path in output.glob("*checkpoint_*")}
    assert kept == {"checkpoint_epoch_1", "checkpoint_step_5", "checkpoint_epoch_3"}


def test_a_deleted_checkpoint_is_never_seen_half_deleted(copied, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda folder: (folder / "optimizer.safetensors").unlink())  # and is killed
    delete_folder(copied / "checkpoint_epoch_2")
    assert newest_checkpoint(copied) == copied / "checkpoint_step_3"


# ------------------------------------------------------------------------------ what may differ on resuming


def test_a_finished_run_goes_on_for_more_epochs_under_the_longer_schedule(inputs, copied, capsys):
    train_stage_a(inputs, copied, *FLAGS, "--resume", "--num_epochs", "3", "--logging_steps", "5")
    assert "--num_epochs 3 instead of 2: the run goes on from its last checkpoint" in capsys.readouterr().out
    rows = metrics(copied, "train")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for step in (4, 5):
        assert rows[step]["learning_rate"] == pytest.approx(1e-2 * learning_rate_factor(step, 6, 1, "cosine"))
    with pytest.raises(InputError, match="--num_epochs 3, this command has 2"):
        stage_a.main(arguments(inputs, copied, "--resume"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train.csv", "--train_data_path, file 1"),
        ("base/model.safetensors", "--model_name, model.safetensors"),
        ("base/tokenizer.json", "--model_name, tokenizer.json"),
    ],
)
def test_changed_inputs_are_refused_by_name(inputs, copied, tmp_path, name, said):
    changed = shutil.copytree(inputs, tmp_path / "inputs")
    config = copied / "run_config.json"
    config.write_text(config.read_text().replace(str(inputs), str(changed)))
    flip_a_bit(changed / name)
    with pytest.raises(InputError, match=f"the content of {said} has changed since the run began"):
        stage_a.main(arguments(changed, copied, "--resume", "--output_dir", str(copied)))


def test_large_files_are_known_by_parts_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(input_identity, "_BLOCK", 4)
    monkeypatch.setattr(input_identity, "_BLOCKS", 5)
    path, seen = tmp_path / "weights", set()
    for place in (0, 49, 99):  # the first byte, one in the middle, the last
        path.write_bytes(bytes(place) + b"x" + bytes(99 - place))
        seen.add(input_identity.hash_of_file(path))
    path.write_bytes(bytes(100))
    assert input_identity.hash_of_file(path) not in seen
    assert len(seen) == 3


# --------------------------------------------------------------------------------------- the output folder


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_runs(inputs, tmp_path):
    folder = tmp_path / "run"
    program = f"import time; from script_io.folder_lock import lock_folder\nwith lock_folder({str(folder)!r}): "
    program += "print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another run is writing there"):
            stage_a.main(arguments(inputs, folder))
        first.kill()
    with lock_folder(folder):  # a killed run holds no lock
        pass
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(inputs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        stage_a.main(arguments(inputs, tmp_path / "file" / "run"))


def test_a_run_that_does_not_fit_on_the_disk_is_refused_before_it_writes(inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("training.disk_space.shutil.disk_usage", lambda path: SimpleNamespace(free=200_000))
    with pytest.raises(InputError, match=r"the run writes about .* MiB \(4 checkpoints of .* 0\.2 MiB are free"):
        stage_a.main(arguments(inputs, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert "Disk: about" in capsys.readouterr().out


def test_the_announced_size_is_what_is_written(whole, inputs, tmp_path, capsys):
    stage_a.prepare(arguments(inputs, tmp_path / "run"))
    said = float(capsys.readouterr().out.split("Disk: about ")[1].split()[0].replace(",", "")) * 2**20
    models = [*whole.glob("checkpoint_*"), whole / "final_model"]
    written = sum(file.stat().st_size for model in models for file in model.iterdir())
    assert said == pytest.approx(written, rel=0.25)


@pytest.mark.parametrize("limit", [10_000, 40_000])  # bytes: too few for the tokenizer, and for the optimiser
def test_a_disk_that_fills_up_leaves_the_checkpoints_before(inputs, copied, capsys, limit):
    for name in ("checkpoint_epoch_2", "final_model"):
        shutil.rmtree(copied / name)
    (copied / "checkpoint_step_3").rename(copied / "checkpoint_step_2")  # any name: the state says the step
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        code = run_script(stage_a.main, arguments(inputs, copied, "--resume"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert newest_checkpoint(copied) == copied / "checkpoint_step_2"
    assert not list(copied.glob(".*"))


def test_running_out_of_memory_names_flags_and_the_estimate(inputs, tmp_path, monkeypatch):
    def too_large(run, dataset, indices):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. GPU 0 has 8 GiB.")

    monkeypatch.setattr(stage_a, "summed_loss", too_large)
    said = (
        r"out of memory \(CUDA out of memory\); the estimate was .* GiB \(.*\); try --gradient_checkpointing .*"
        r"--batch_size 2 --gradient_accumulation_steps 2, or --use_4bit, or a --max_length below 512"
    )
    with pytest.raises(RunError, match=said):
        stage_a.main(arguments(inputs, tmp_path / "run"))


# ------------------------------------------------------------------------------------------ files of the user


def test_what_is_named_almost_as_a_file_of_a_run_is_the_users(tmp_path):
    theirs = [
        "checkpoint_notes.txt",
        "checkpoint_best/a",
        "checkpoint_step_/a",
        "checkpoint_epoch_1b/a",
        "my_stats.json",
    ]
    ours = ["checkpoint_epoch_1/a", "checkpoint_step_12/a", "final_model/a", "training_stats.json", "metrics.jsonl"]
    for name in (*theirs, *ours):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert {path.name for path in checkpoints_in(tmp_path)} == {"checkpoint_epoch_1", "checkpoint_step_12"}
    run_folder._delete_earlier_run(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(theirs)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "checkpoint_step_3: it is gone"),
        (lambda folder: flip_a_bit(folder / "trainable.safetensors"), "trainable.safetensors has changed"),
    ],
)
def test_a_best_checkpoint_that_is_gone_or_damaged_is_one_line(copied, spoil, said):
    state = SimpleNamespace(best_checkpoint="checkpoint_step_3", best_val_loss=1.0)
    run = SimpleNamespace(args=SimpleNamespace(early_stopping_patience=2), folder=copied, state=state)
    assert _best_checkpoint(run) == copied / "checkpoint_step_3"
    spoil(copied / "checkpoint_step_3")
    with pytest.raises(RunError, match=said):
        restore_best(run)


def test_a_prompt_template_that_was_edited_is_another_input(inputs, tmp_path):
    template = tmp_path / "template.txt"
    template.write_text("Note: {note} Summary:")
    flags = ("--prompt_template", str(template), "--num_epochs", "1", "--skip_preflight")
    output = train_stage_a(inputs, tmp_path / "run", *FLAGS, *flags)
    template.write_text("Note: {note} Short summary:")
    with pytest.raises(InputError, match="the content of --prompt_template, file 1 has changed since the run began"):
        stage_a.main(arguments(inputs, output, *flags, "--resume"))
