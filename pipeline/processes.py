"""Run a script of the suite as a child process that is followed in its log, stopped gently, and never started twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from script_io.errors import EXIT_TERMINATED, InputError
from script_io.files import read_json, write_json
from script_io.stage_clock import StageLine
from script_io.stop_signals import signals_held

ROOT = Path(__file__).resolve().parents[1]
SECONDS_BETWEEN_LOOKS = 1.0  # at the log of a running stage
SECONDS_TO_STOP = 120.0  # within which a training ends its step and writes a checkpoint
RUNNING: set[subprocess.Popen[bytes]] = set()  # processes of the stages
STOPPING = threading.Event()  # no further stage may start
_STARTING = threading.Lock()  # held while a process starts, so that `stop_all` misses none


def launch(command: Sequence[str], log: Path) -> int:
    """Run a script of the suite with its output going to `log`, and show its progress; return its exit code.

    The process is in a group of its own. So Ctrl-C in the terminal reaches it once, through `stop`.
    """
    words = [sys.executable, str(ROOT / command[0]), *command[1:]]
    line, mark = StageLine(log.stem), pid_file(log)
    process: subprocess.Popen[bytes] | None = None
    with log.open("w", encoding="utf-8") as handle:
        try:
            with signals_held(), _STARTING:  # raised inside Popen, a signal would leave a process behind
                if STOPPING.is_set():
                    return EXIT_TERMINATED
                process = _start(words, handle)
                RUNNING.add(process)
            write_json(mark, {"pid": process.pid, "created": psutil.Process(process.pid).create_time()})
            while True:
                try:
                    return process.wait(SECONDS_BETWEEN_LOOKS)
                except subprocess.TimeoutExpired:
                    line.show(log)
        except BaseException:
            if process:
                stop([process])
            raise
        finally:
            if process:
                RUNNING.discard(process)
            mark.unlink(missing_ok=True)
            line.clear()


def _start(words: Sequence[str], output: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def stop_all() -> None:
    """Stop all stages that run, and let no other start."""
    try:
        with signals_held(), _STARTING:
            STOPPING.set()
    finally:
        stop(list(RUNNING))


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, which lets a training write a checkpoint; kill them if they take too long or on Ctrl-C."""
    try:
        running = [process for process in processes if process.poll() is None]
        if running:
            print("Stopping; a training writes a checkpoint first. Ctrl-C again ends it at once.", file=sys.stderr)
        for process in running:
            process.terminate()
        until = time.monotonic() + SECONDS_TO_STOP
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def pid_file(log: Path) -> Path:
    """Return the file that names the process of a stage while it runs."""
    return log.with_suffix(".pid")


def running_process(log: Path) -> int | None:
    """Return the id of the process that writes this log, or None if no such process is running."""
    mark = pid_file(log)
    if not mark.exists():
        return None
    stored = read_json(mark)
    try:
        process = psutil.Process(stored["pid"])
        same = abs(process.create_time() - stored["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process.pid if same else None


def refuse_if_running(name: str, log: Path) -> None:
    """Raise InputError if an earlier chain was killed and its stage goes on, which would write to the same folder."""
    if pid := running_process(log):
        raise InputError(
            f"stage {name} is still running as process {pid}, which another run_pipeline.py has started; wait until it "
            f"ends, or stop it with: kill {pid}"
        )
