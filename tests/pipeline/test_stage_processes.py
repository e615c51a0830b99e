"""Stages as processes: a signal lets them save, and a stage that outlived its chain is not started twice."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from demo.recipes import Recipe
from pipeline import processes
from pipeline.runner import Pipeline
from pipeline.status import status_of, write_chain
from run_pipeline import parse_args
from script_io.errors import InputError, RunError, run_script
from script_io.files import write_json

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAVES = """
import pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
def save(number, frame):
    (here / "saved").write_text("saved")
    time.sleep(0.3)   # a second signal within this time would show as -15
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("Stage A: 40%, 1:05 left", flush=True)
(here / "ready").write_text("ready")
time.sleep(60)
"""


@pytest.fixture
def own_handlers(monkeypatch):
    """Put back what `run_script` replaces, and what SIGHUP does."""
    earlier = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


def wait_for(path):
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists()


# a session that closes may send SIGHUP twice: its shell does, and the kernel once the shell has gone
@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGHUP, 2)])
@pytest.mark.usefixtures("own_handlers")
def test_a_signal_lets_a_stage_save_once(tmp_path, monkeypatch, number, times):
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    monkeypatch.setattr(processes, "SECONDS_BETWEEN_LOOKS", 0.05)
    (tmp_path / "train.py").write_text(SAVES)
    codes = []
    stop = processes.stop
    monkeypatch.setattr(processes, "stop", lambda found: (stop(found), codes.extend(p.returncode for p in found)))

    def interrupt():
        wait_for(tmp_path / "ready")
        for _ in range(times):
            os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    assert run_script(lambda args: processes.launch(["train.py"], tmp_path / "sft.log"), None) == 128 + number
    assert codes == [143]
    assert (tmp_path / "saved").exists()
    assert not processes.RUNNING
    assert not processes.pid_file(tmp_path / "sft.log").exists()


def test_a_stage_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_TO_STOP", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        processes.stop([process])
    assert process.returncode == -signal.SIGKILL


def test_a_stage_that_outlived_its_chain_is_named_and_not_started_again(tmp_path):
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "sft.log"
    log.write_text("Stage A: 40%, 1:05 left\n")
    created = psutil.Process().create_time()
    write_json(processes.pid_file(log), {"pid": os.getpid(), "created": created})
    with pytest.raises(InputError, match=f"stage sft is still running as process {os.getpid()}, .*kill {os.getpid()}"):
        processes.refuse_if_running("sft", log)
    chain = {"arguments": {}, "planned": ["sft", "dpo"], "stage_shares": {"sft": 1, "dpo": 1}}
    write_json(tmp_path / "run_config.json", chain)
    lines = status_of(tmp_path).splitlines()
    assert lines[0].split(maxsplit=1) == ["sft", "running, Stage A: 40%, 1:05 left"]
    # the id of a process that has ended may belong to another one by now
    write_json(processes.pid_file(log), {"pid": os.getpid(), "created": created - 3600})
    assert processes.running_process(log) is None
    write_json(processes.pid_file(log), {"pid": 2**22 + 1, "created": created})
    processes.refuse_if_running("sft", log)


def test_a_killed_stage_is_named_with_the_signal_and_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "stage_a_sft_training.py").write_text(
        "import os, sys\nsys.stdout.buffer.write(b'step 3\\nnote \\xff')\nsys.stdout.flush()\nos.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    pipeline = Pipeline(parse_args(["--demo"]), Recipe(), tmp_path, ["sft"])
    said = r"was killed by SIGKILL, probably since memory ran out; its last line \(note \ufffd\); its whole output"
    with pytest.raises(RunError, match=f"stage_a_sft_training.py {said}"):
        pipeline.run("sft", "stage_a_sft_training.py")


def test_the_word_lists_of_a_run_are_stored_with_its_settings(tmp_path):
    args = parse_args(["--demo", "--lexicon_dir", "names", "units"])
    write_chain(tmp_path, args, ["sft"], {"sft": 1.0})
    stored = json.loads((tmp_path / "run_config.json").read_text())["arguments"]
    assert stored["lexicon_dir"] == ["names", "units"]
    assert parse_args(["--demo", "--config", str(tmp_path / "run_config.json")]).lexicon_dir == args.lexicon_dir


def test_the_status_of_a_folder_without_a_chain(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        status_of(tmp_path)
    (tmp_path / "run_config.json").write_text(json.dumps({"arguments": {}}))
    with pytest.raises(InputError, match="is the folder of one stage"):
        status_of(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("own_handlers")
def test_a_signal_while_a_stage_starts_leaves_no_process(tmp_path, monkeypatch, number):
    (tmp_path / "train.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    started, handlers = [], []
    start = subprocess.Popen

    def main(args):
        handlers.append([signal.getsignal(each) for each in STOP_SIGNALS])
        return processes.launch(["train.py"], tmp_path / "sft.log")

    def interrupted(*arguments, **named):
        started.append(start(*arguments, **named))
        handlers.append([signal.getsignal(each) for each in STOP_SIGNALS])
        signal.raise_signal(number)  # before the caller knows of the process
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    assert run_script(main, None) == 128 + number
    assert [process.returncode for process in started] == [-signal.SIGTERM]
    assert handlers[0] == handlers[1]  # a signal that came while they were replaced would be lost


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "the terminal has closed")])
def test_a_stage_is_stopped_even_if_the_message_fails(monkeypatch, error):
    def fail(*_, **__):
        raise error

    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        monkeypatch.setattr("builtins.print", fail)
        with pytest.raises(type(error)):
            processes.stop([process])
        monkeypatch.undo()
        assert process.poll() == -signal.SIGKILL


def test_no_stage_starts_in_another_thread_once_the_chain_stops(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("open(__file__ + '.ran', 'w')")
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    processes.stop_all()
    try:
        assert processes.launch(["train.py"], tmp_path / "sft.log") == 143
    finally:
        processes.STOPPING.clear()
    assert not (tmp_path / "train.py.ran").exists()
    assert processes.launch(["train.py"], tmp_path / "sft.log") == 0
    assert (tmp_path / "train.py.ran").exists()
