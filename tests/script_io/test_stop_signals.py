"""Signals that end a script, sent to real processes: SIGHUP as when a terminal closes, and under nohup."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

TRAINS = """
import sys, time, types
from pathlib import Path
from script_io.errors import run_script
from training.watching import stop_on_signals
one_process = types.SimpleNamespace(plan=types.SimpleNamespace(num_processes=1))
def main(args):
    with stop_on_signals() as stop:
        while not stop:
            print("step", flush=True)
            time.sleep(0.2)
            stop.settle(one_process)
        print("the terminal has gone", flush=True)
        Path(sys.argv[1]).write_text("checkpoint")
    return stop.exit_code
raise SystemExit(run_script(main, None))
"""
WRITES = """
import signal, sys, time
from script_io.errors import run_script
from script_io.files import atomic_write
def main(args):
    with atomic_write(sys.argv[1]):
        try:
            print("ready", flush=True)
            while True:
                signal.pause()
        finally:
            print("cleaning", flush=True)
            sys.stdin.readline()
raise SystemExit(run_script(main, None))
"""


def test_a_training_saves_when_its_terminal_closes(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", TRAINS, str(tmp_path / "saved")]
    # as in a shell, the terminal is the controlling one
    takes_it = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", takes_it, *command],
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        printed = b""
        while b"step\r\n" not in printed:
            printed += os.read(controller, 1000)
        os.close(controller)
        assert process.wait(60) == 129
    assert (tmp_path / "saved").read_text() == "checkpoint"


def start(path: Path, *, ignoring: str = "") -> subprocess.Popen[str]:
    """Start the program that writes a file; wait until it does."""
    words = ["sh", "-c", f'{ignoring} exec "$@"', "sh", sys.executable, "-c", WRITES, str(path)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "word"), [(signal.SIGHUP, "hung up"), (signal.SIGTERM, "terminated")])
def test_a_closed_session_ends_a_script_which_cleans_up_undisturbed(
    number: signal.Signals, word: str, tmp_path: Path
) -> None:
    with start(tmp_path / "results.json") as process:
        assert process.stdout
        process.send_signal(number)
        assert process.stdout.readline() == "cleaning\n"
        process.send_signal(signal.SIGHUP)  # the second signal of a session that closes
        _, error = process.communicate("\n", timeout=30)
    assert (process.returncode, error) == (128 + number, f"{word}\n")
    assert list(tmp_path.iterdir()) == []


def test_under_nohup_a_script_goes_on(tmp_path: Path) -> None:
    with start(tmp_path / "results.json", ignoring="trap '' HUP;") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate("\n", timeout=30)
    assert (process.returncode, error) == (143, "terminated\n")
