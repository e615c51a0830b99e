"""Signals to a chain of real processes, through make too: a checkpoint, no process left, the same result."""

import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest
from pipeline_here import launch_here, write_top_of_demo
from tiny_models import build_tiny_model
from training_helpers import ROOT

import run_pipeline
from benchmarks.torture_runs import differences
from pipeline import runner

# 160 steps of Stage A: too many to be over before the signal arrives
FLAGS = "--output_dir run --device cpu --dtype float32 --num_threads 1 --num_epochs 4 --batch_size 1".split()


def run_stage_a_of_the_chain(folder, chain):
    """Run the chain in this process until Stage A is over; where it was started before, it goes on."""

    def launch_first(command, log):
        if log.stem != "sft":
            raise KeyboardInterrupt
        return launch_here(command, log)

    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runner, "launch", launch_first)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline.main(run_pipeline.parse_args(chain))
    signal.signal(signal.SIGTERM, terminate)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The flags of the chain."""
    folder = tmp_path_factory.mktemp("inputs")
    base = build_tiny_model(folder / "base")
    phase1 = write_top_of_demo(folder / "phase1", {"train": 40, "validation": 2, "test": 2})
    return ["--model_name", str(base), "--phase1_dir", str(phase1), *FLAGS]


@pytest.fixture(scope="module")
def whole(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run_stage_a_of_the_chain(folder, chain)
    return folder


def command_of(program, chain, folder):
    """Return the command of the chain, or of `make demo` whose Python runs this chain in place of the demo's."""
    command = [sys.executable, str(ROOT / "run_pipeline.py"), *chain]
    if program == "chain":
        return command
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    (folder / "bin" / "python").chmod(0o755)
    for name in ("requirements_training.txt", "constraints.txt", "installed"):
        (folder / name).touch()
    return ["make", "-f", str(ROOT / "Makefile"), "demo", "BIN=bin", "INSTALLED=installed"]


def wait_until_stage_a_makes_steps(folder, process):
    metrics = folder / "run" / "sft" / "metrics.jsonl"
    until = time.monotonic() + 300
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.02)


# 10 s each on an idle core, most of it for the start of three Pythons.
@pytest.mark.parametrize(
    ("program", "number", "to_group", "code"),
    [
        ("chain", signal.SIGINT, False, 130),
        ("chain", signal.SIGTERM, True, 143),
        ("make", signal.SIGINT, True, -signal.SIGINT),  # as in a terminal; make itself ends by the signal
        ("make", signal.SIGTERM, False, -signal.SIGTERM),  # as a supervisor
        ("make", signal.SIGHUP, True, -signal.SIGHUP),  # as a terminal that closes
    ],
)
def test_a_signal_saves_once_leaves_no_process_and_the_chain_goes_on(
    chain, whole, tmp_path, program, number, to_group, code
):
    process = subprocess.Popen(
        command_of(program, chain, tmp_path),
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until_stage_a_makes_steps(tmp_path, process)
    stages = psutil.Process(process.pid).children(recursive=True)
    assert any("stage_a_sft_training.py" in " ".join(stage.cmdline()) for stage in stages)
    if to_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode == code, printed
    assert [stage for stage in stages if stage.is_running()] == []
    assert printed.count("The chain in run has stopped; the same command goes on from there.") == 1
    log = (tmp_path / "run" / "logs" / "sft.log").read_text()
    assert log.count("Stopping after this step, with a checkpoint.") == 1
    assert "interrupted" not in log  # what a second signal to the stage leads to
    step = int(log.split("Stopped at step ")[1].split(";")[0])
    assert 0 < step < 160
    assert list((tmp_path / "run" / "sft").glob("checkpoint_*"))
    run_stage_a_of_the_chain(tmp_path, chain)
    assert f"at step {step}" in (tmp_path / "run" / "logs" / "sft.log").read_text()  # where it has resumed
    found = differences(whole / "run" / "sft", tmp_path / "run" / "sft")
    # the checkpoint that the signal asked for is the one thing that only this run has
    extra = f"checkpoint_step_{step}/"
    assert [line for line in found if not (line.startswith(extra) and line.endswith("in the resumed run only"))] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_chain_imports_is_no_traceback(tmp_path, number):
    (tmp_path / "psutil.py").write_text(f"import signal\nsignal.raise_signal({int(number)})\nsignal.pause()\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_pipeline.py"), "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")  # 130 and 143 in a shell
