"""Run a stage in a forked child that is killed at a given moment, and compare the files of two runs."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from script_io.errors import run_script
from script_io.measured import MEASURED_FIELDS, page_without_measured, without_measured

REPORT, LOG = "report.json", "output.log"


@dataclass(frozen=True)
class Case:
    """One stage: its module, and its arguments as a function of the folder with the inputs."""

    name: str
    module: str
    arguments: Callable[[Path], list[str]]
    prepare: Callable[[ModuleType], None] = lambda module: None


class Event(NamedTuple):
    """A call that brings a file to the disk or renames it. `seconds` are counted from the start of the run."""

    number: int
    seconds: float
    in_checkpoint: bool


@dataclass(frozen=True)
class KillAt:
    """When a run is killed: after `seconds`, or at the write of this number."""

    seconds: float | None = None
    write: int | None = None


@dataclass(frozen=True)
class Result:
    """How a run ended: `exit_code` is -9 for a killed one."""

    exit_code: int
    seconds: float
    cpu_seconds: float  # of the child and its children
    folder: Path
    events: list[Event] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)  # that were loaded at the end

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL

    def tail(self) -> str:
        """Return the exit code and the last lines of the output."""
        lines = (self.folder.parent / f"{self.folder.name}.{LOG}").read_text(errors="replace").splitlines()
        return f"exit code {self.exit_code}: " + " | ".join(lines[-5:])


def run_in_child(case: Case, inputs: Path, folder: Path, kill: KillAt | None = None) -> Result:
    """Run a case with `folder` as its working folder, and kill it and its children at the moment `kill`."""
    folder.mkdir(exist_ok=True)
    kill = kill or KillAt()
    start = time.perf_counter()
    process = os.fork()
    if not process:
        _be_child(case, inputs, folder, kill)
    with suppress(PermissionError, ProcessLookupError):  # the child sets it too; whoever comes first
        os.setpgid(process, process)
    status, cpu_seconds = _wait(process, None if kill.seconds is None else start + kill.seconds)
    seconds = time.perf_counter() - start
    report = folder.parent / f"{folder.name}.{REPORT}"
    events, modules = json.loads(report.read_text()) if report.exists() else ([], [])
    report.unlink(missing_ok=True)
    return Result(
        os.waitstatus_to_exitcode(status), seconds, cpu_seconds, folder, [Event(*each) for each in events], modules
    )


def _wait(process: int, deadline: float | None) -> tuple[int, float]:
    """Return status and CPU seconds of a child once it has ended; kill its process group at the deadline."""
    while True:
        ended, status, used = os.wait4(process, os.WNOHANG)
        if ended:
            return status, used.ru_utime + used.ru_stime
        if deadline is not None and time.perf_counter() >= deadline:
            os.killpg(process, signal.SIGKILL)
            deadline = None
        time.sleep(0.002)


def _be_child(case: Case, inputs: Path, folder: Path, kill: KillAt) -> None:
    """Run the case and end this process."""
    code = 1
    try:
        os.setpgid(0, 0)
        output = os.open(folder.parent / f"{folder.name}.{LOG}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.chdir(folder)
        events = watch_writes(kill.write)
        module = importlib.import_module(case.module)
        case.prepare(module)
        code = run_script(module.main, module.parse_args(case.arguments(inputs)))
        (folder.parent / f"{folder.name}.{REPORT}").write_text(json.dumps([events, list(sys.modules)]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def watch_writes(kill_at: int | None) -> list[Event]:
    """Record each call of os.fsync, os.replace and os.rename from now on; at number `kill_at` kill the process group.

    If the call is for a temporary file, half of the file is cut off first, as if the kill came while it was written.
    """
    events: list[Event] = []
    start = time.perf_counter()

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            target = arguments[0]
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
            if len(events) == kill_at:
                if ".tmp" in path and os.path.isfile(path):
                    os.truncate(path, os.path.getsize(path) // 2)
                os.killpg(0, signal.SIGKILL)
            events.append(Event(len(events), time.perf_counter() - start, "checkpoint_" in path))
            return call(*arguments, **named)

        return wrapper

    for name in ("fsync", "replace", "rename"):
        setattr(os, name, watched(getattr(os, name)))
    return events


def launch_in_child(command: list[str], log: Path) -> int:
    """Do what `pipeline.runner.launch` does: run the script in a forked process of the same group."""
    process = os.fork()
    if not process:
        code = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            module = importlib.import_module(command[0].removesuffix(".py").replace("/", "."))
            code = run_script(module.main, module.parse_args(list(command[1:])))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


# ------------------------------------------------------------------------------------------------ comparison


def differences(whole: Path, other: Path) -> list[str]:
    """Return the files that only one folder has, or whose content differs apart from measured fields."""
    names = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (whole, other)]
    found = [f"{name}: in the uninterrupted run only" for name in sorted(names[0] - names[1])]
    found += [f"{name}: in the resumed run only" for name in sorted(names[1] - names[0])]
    same = sorted(name for name in names[0] & names[1] if not _is_skipped(name))
    return found + [f"{name}: differs" for name in same if content_of(whole / name) != content_of(other / name)]


def _is_skipped(name: Path) -> bool:
    """Return whether a file holds only what others hold: logs, and manifests, which hash files with measured times."""
    return name.suffix == ".log" or name.name == "manifest.json"


def content_of(path: Path) -> Any:
    """Return the content of a file without MEASURED_FIELDS."""
    if path.suffix == ".json":
        return without_measured(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [without_measured(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as handle:
            return [{k: v for k, v in row.items() if k not in MEASURED_FIELDS} for row in csv.DictReader(handle)]
    if path.suffix == ".html":
        return page_without_measured(path.read_text(encoding="utf-8"))
    return path.read_bytes()
