"""What a resumed run takes over from the run that it continues."""

from __future__ import annotations

from argparse import Namespace

import pytest

from script_io.errors import InputError
from script_io.files import write_json
from training import run_folder
from training.run_folder import checkpoint_to_resume


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Return the arguments that resume a run of four threads in float32."""
    monkeypatch.setattr(run_folder, "newest_checkpoint", lambda folder: folder / "checkpoint_step_1")
    arguments = {"output_dir": str(tmp_path), "resume": True, "overwrite_output_dir": False, "learning_rate": 0.1}
    arguments |= {"batch_size": 4, "gradient_accumulation_steps": 2}
    write_json(tmp_path / "run_config.json", {"arguments": {**arguments, "dtype": "float32", "num_threads": 4}})
    return arguments


@pytest.mark.parametrize(("asked", "taken"), [(0, 4), (2, 2)])
def test_a_resumed_run_has_the_threads_of_the_run_unless_others_are_asked_for(interrupted, asked, taken):
    args = Namespace(**interrupted, dtype="auto", num_threads=asked)
    assert checkpoint_to_resume(args) is not None
    assert (args.num_threads, args.dtype) == (taken, "float32")


def test_a_run_from_before_the_threads_were_stored_can_be_resumed(interrupted, tmp_path):
    write_json(tmp_path / "run_config.json", {"arguments": {**interrupted, "dtype": "float32"}})
    args = Namespace(**interrupted, dtype="auto", num_threads=0)
    checkpoint_to_resume(args)
    assert args.num_threads == 0


def test_other_settings_are_refused(interrupted):
    with pytest.raises(InputError, match=r"--learning_rate 0\.1, this command has 0\.2"):
        checkpoint_to_resume(Namespace(**{**interrupted, "learning_rate": 0.2}, dtype="auto", num_threads=0))


@pytest.mark.parametrize(
    ("before", "batch_size", "accumulation", "processes"), [(1, 4, 1, 2), (1, 8, 1, 1), (2, 8, 2, 1), (None, 4, 2, 3)]
)
def test_a_step_of_the_same_size_may_be_split_otherwise(
    interrupted, tmp_path, monkeypatch, before, batch_size, accumulation, processes
):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    config = {"arguments": {**interrupted, "dtype": "float32"}, "num_processes": before}
    write_json(tmp_path / "run_config.json", config)
    sizes = {"batch_size": batch_size, "gradient_accumulation_steps": accumulation}
    assert checkpoint_to_resume(Namespace(**{**interrupted, **sizes}, dtype="auto", num_threads=0)) is not None


@pytest.mark.parametrize(
    ("processes", "batch_size", "remedy"),
    [
        (2, 4, "use --gradient_accumulation_steps 2, or"),
        (1, 3, "use --batch_size 16 --gradient_accumulation_steps 1, or"),
        (3, 4, "use the earlier number of processes, or"),
        (4, 4, "use --gradient_accumulation_steps 1, or"),
    ],
)
def test_another_size_of_step_is_refused_with_flags_that_keep_it(
    interrupted, tmp_path, monkeypatch, processes, batch_size, remedy
):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    config = {"arguments": {**interrupted, "dtype": "float32"}, "num_processes": 2}  # 16 examples
    write_json(tmp_path / "run_config.json", config)
    sizes = {"batch_size": batch_size, "gradient_accumulation_steps": 5}
    with pytest.raises(InputError, match="a step of the run has 16 examples") as error:
        checkpoint_to_resume(Namespace(**{**interrupted, **sizes}, dtype="auto", num_threads=0))
    assert remedy in str(error.value)
