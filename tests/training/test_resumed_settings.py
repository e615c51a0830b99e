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
