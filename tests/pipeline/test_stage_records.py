"""When a stage counts as finished, when it is resumed, and when it starts from nothing."""

import os
import shutil
from argparse import Namespace

import pytest

from demo.recipes import Recipe
from pipeline import runner
from pipeline.stage_records import StageRecord, outputs_of
from pipeline.status import status_of
from run_pipeline import Pipeline, parse_args
from script_io.files import write_json
from script_io.provenance import commit
from training.checkpoint_folder import new_checkpoint

STARTED = 1_000_000.0  # seconds since 1970


def write(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"step": 1}')
    os.utime(path, (seconds, seconds))
    return path


def set_time(folder, seconds):
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds))


@pytest.fixture
def training(tmp_path):
    """A training that was started at STARTED and has left a checkpoint."""
    data = write(tmp_path / "train.csv", STARTED - 1)
    folder = tmp_path / "run" / "sft"
    with new_checkpoint(folder / "checkpoint_epoch_1") as temporary:
        write(temporary / "training_state.json", STARTED + 60)
    checkpoint = folder / "checkpoint_epoch_1"
    set_time(checkpoint, STARTED + 60)
    words = ["--train_data_path", str(data), "--output_dir", str(folder), "--overwrite_output_dir"]
    record = StageRecord(["stage_a_sft_training.py", *words], started=STARTED)
    return Namespace(data=data, folder=folder, checkpoint=checkpoint, record=record)


def test_a_training_is_resumed_from_a_checkpoint_of_its_own(training):
    assert training.record.can_resume()
    assert training.record.resumed() == [*training.record.command[:-1], "--resume"]
    set_time(training.checkpoint, STARTED - 60)  # left by an earlier training in the same folder
    assert not training.record.can_resume()


def test_a_training_on_other_data_starts_from_nothing(training):
    os.utime(training.data, (STARTED + 1, STARTED + 1))
    assert not training.record.can_resume()


def test_a_training_whose_checkpoints_are_damaged_starts_from_nothing(training, monkeypatch, capsys):
    chain, path = training.folder.parent, training.folder.parent / "stages" / "sft.json"
    training.record.write(path)
    write_json(chain / "run_config.json", {"arguments": {}, "planned": ["sft"], "stage_shares": {"sft": 1}})
    (training.checkpoint / "training_state.json").write_text("{")
    assert status_of(chain).splitlines()[0].split(maxsplit=1) == ["sft", "stopped, will start again"]
    assert f"{training.folder}: every checkpoint is damaged" in capsys.readouterr().err
    assert commands_of_runs(training, monkeypatch)[0] == [training.record.command]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (
            ["generate_completions.py", "--prompts_path", "DATA", "--output_path", "pairs/completions.jsonl"],
            "pairs/completions.jsonl",
        ),
        (["judge_completions.py", "--completions_path", "DATA", "--output_dir", "pairs"], "pairs/judged.partial.jsonl"),
        (["evaluation/evaluate_model.py", "--test_data", "DATA", "--output_dir", "dpo"], "dpo/summaries.partial.jsonl"),
    ],
)
def test_a_stage_that_keeps_its_results_goes_on(tmp_path, monkeypatch, words, left):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "DATA", STARTED - 1)
    StageRecord(words, commit(), STARTED).write(tmp_path / "stages" / "stage.json")
    write_json(tmp_path / "run_config.json", {"arguments": {}, "planned": ["stage"], "stage_shares": {"stage": 1}})

    def state():
        return status_of(tmp_path).splitlines()[0].split(maxsplit=1)[1]

    assert state() == "stopped, will start again"  # before it has kept anything
    write(tmp_path / left, STARTED + 1)
    assert state() == "stopped, will go on"
    StageRecord(words, "another", STARTED).write(tmp_path / "stages" / "stage.json")
    assert (state() == "stopped, will go on") == (words[0] != "judge_completions.py")
    write(tmp_path / "DATA", STARTED + 2)
    assert state() == "stopped, will start again"


def test_a_flag_may_be_longer_than_a_file_name(training, monkeypatch):
    prompt = "Be brief. " * 30
    launched, record = commands_of_runs(training, monkeypatch, "--system_prompt", prompt)
    assert launched == [record.command]
    assert prompt in record.command
    assert commands_of_runs(training, monkeypatch, "--system_prompt", prompt)[0] == []  # its inputs are looked at


def test_a_training_without_a_checkpoint_starts_from_nothing(training):
    shutil.rmtree(training.checkpoint)
    assert not training.record.can_resume()


def commands_of_runs(training, monkeypatch, *flags):
    """Run the stage with these flags in the pipeline, which starts nothing; return the command and the record."""
    launched = []
    monkeypatch.setattr(runner, "launch", lambda command, log: launched.append(list(command)) or 0)
    folder = training.folder.parent
    pipeline = Pipeline(parse_args(["--demo"]), Recipe(), folder, ["sft"])
    pipeline.run("sft", "stage_a_sft_training.py", *training.record.command[1:], *flags)
    return launched, StageRecord.read(folder / "stages" / "sft.json")


def test_a_resumed_stage_keeps_its_start_and_its_command(training, monkeypatch):
    training.record.write(training.folder.parent / "stages" / "sft.json")
    launched, record = commands_of_runs(training, monkeypatch)
    assert launched == [training.record.resumed()]
    assert (record.command, record.started) == (training.record.command, STARTED)
    assert record.seconds is not None


def test_another_command_starts_from_nothing(training, monkeypatch):
    training.record.write(training.folder.parent / "stages" / "sft.json")
    launched, record = commands_of_runs(training, monkeypatch, "--lora_r", "4")
    assert "--overwrite_output_dir" in launched[0]
    assert record.started > STARTED


def test_a_finished_stage_runs_again_once_an_output_is_gone(training, monkeypatch):
    output = "sft/final_model/adapter_model.safetensors"
    model = write(training.folder.parent / output, STARTED + 90)
    path = training.folder.parent / "stages" / "sft.json"
    StageRecord(training.record.command, None, STARTED, 90.0, (output,)).write(path)
    assert commands_of_runs(training, monkeypatch)[0] == []
    model.unlink()
    assert commands_of_runs(training, monkeypatch)[0] == [training.record.resumed()]
    shutil.rmtree(training.checkpoint)
    StageRecord(training.record.command, None, STARTED, 90.0, (output,)).write(path)
    assert commands_of_runs(training, monkeypatch)[0] == [training.record.command]


def test_a_record_of_an_earlier_version_counts_as_finished(training, monkeypatch):
    path = training.folder.parent / "stages" / "sft.json"
    write_json(path, {"command": training.record.command, "seconds": 5.0})
    assert commands_of_runs(training, monkeypatch)[0] == []


def test_outputs_are_what_later_stages_need(tmp_path):
    kept = ("sft/final_model/a.json", "sft/stats.json")
    for name in (*kept, "sft/checkpoint_step_3/a.json", "sft/reference_logps/a.safetensors", "sft/.hidden/x"):
        write(tmp_path / name, STARTED)
    command = ["stage_a_sft_training.py", "--output_dir", str(tmp_path / "sft")]
    assert outputs_of(command, tmp_path, STARTED + 1) == kept
    # the comparison writes to the folder of the run, which holds the files of all stages
    write(tmp_path / "comparison.html", STARTED + 2)
    write(tmp_path / "logs" / "x.log", STARTED + 2)
    assert outputs_of(["compare.py", "--output_dir", str(tmp_path)], tmp_path, STARTED + 1) == ("comparison.html",)


def test_completions_of_other_settings_are_deleted_before_a_script_could_continue_them(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runner, "launch", lambda command, log: seen.append(completions.exists()) or 0)
    pipeline = Pipeline(parse_args(["--demo"]), Recipe(), tmp_path, ["completions_1"])
    completions = tmp_path / "completions.jsonl"

    def run(temperature):
        words = ("--output_path", completions, "--temperature", temperature)
        pipeline.run("completions_1", "generate_completions.py", *words, continues=[completions])

    completions.write_text("{}\n")
    run("1.0")  # of no known command
    completions.write_text("{}\n")
    path = tmp_path / "stages" / "completions_1.json"
    stored = StageRecord.read(path)
    StageRecord(stored.command, started=stored.started).write(path)  # as if it had been killed
    run("1.0")
    run("0.5")
    assert seen == [False, True, False]
