"""A file system that is full: a small one is mounted, where the system permits it, and filled to the last byte."""

import json
import shutil
import subprocess
import sys

import pytest
from training_helpers import ROOT, outside_tests, train_stage_a, write_stage_a_inputs

ALONE = ["unshare", "--map-root-user", "--mount"]


# 8 s. One process whose file systems nobody else sees.
@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    folder, inputs = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("inputs")
    probe = ["sh", "-c", f"mount -t tmpfs -o size=64k tmpfs {folder}"]
    if not shutil.which("unshare") or subprocess.run([*ALONE, *probe], capture_output=True, check=False).returncode:
        pytest.skip("this system permits no mounting")
    write_stage_a_inputs(inputs, 8, 4)
    program = [sys.executable, str(ROOT / "tests" / "full_disk_run.py"), str(folder), str(inputs)]
    done = subprocess.run([*ALONE, *program], capture_output=True, text=True, check=False, env=outside_tests())
    assert done.returncode == 0, done.stderr
    return inputs, {row["step"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_a_result_on_a_full_disk_is_one_line_and_the_earlier_one_stays(steps):
    found = steps[1]["result"]
    assert found["code"] == 1
    assert found["error"].startswith("error: ")
    assert "stats.json: the disk is full (No space left on device)" in found["error"]
    assert found["files"] == ["filler", "stats.json"]  # its content is compared in the process


def test_a_training_without_room_is_refused_before_it_writes(steps):
    found = steps[1]["no room"]
    assert found["code"] == 2
    assert "the run writes about" in found["error"]
    assert "0.2 MiB are free" in found["error"] or "0.3 MiB are free" in found["error"]
    assert found["files"] == []


def test_a_disk_that_fills_up_in_training_keeps_the_checkpoint_before_and_the_run_goes_on(steps, tmp_path):
    inputs, found = steps[0], steps[1]["full"]
    assert found["code"] == 1
    assert "the disk is full (No space left on device)" in found["error"]
    folders = {name.split("/")[1] for name in found["files"] if name.count("/") > 1}
    assert folders == {"checkpoint_epoch_1"}  # and nothing half-written
    assert steps[1]["resumed"]["code"] == 0
    whole = train_stage_a(inputs, tmp_path / "whole", "--num_epochs", "3")
    resumed = (inputs / "resumed.safetensors").read_bytes()
    assert resumed == (whole / "final_model" / "adapter_model.safetensors").read_bytes()
