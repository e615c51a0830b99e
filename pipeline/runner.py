"""Run scripts of the suite as child processes, each once, and several at a time where they do not need each other."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from demo.recipes import EVIDENCE_MODEL, Recipe
from script_io.errors import EXIT_BAD_INPUT, InputError, RunError
from script_io.files import read_json, write_json
from script_io.stage_clock import StageLine, about, seconds_left

ROOT = Path(__file__).resolve().parents[1]
SECONDS_BETWEEN_LOOKS = 1.0  # at the log of a running stage
RUNNING: set[subprocess.Popen[bytes]] = set()  # processes of the stages
OUTPUT_FLAGS = ("--output_dir", "--output_path", "--phase2_dir")


@dataclass
class Pipeline:
    """Run commands of the suite, each once, and record how many seconds each took.

    `planned` holds the names of all stages, from which the time left is estimated.
    """

    args: argparse.Namespace
    recipe: Recipe
    folder: Path
    planned: Sequence[str] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    _shared_threads: int = 0  # of each stage while several run; 0: each chooses

    @property
    def parallel(self) -> int:
        """Return how many stages may run at a time."""
        asked: int | None = self.args.parallel
        return asked or min(self.recipe.parallel, usable_cores())

    def together(self, *stages: Callable[[], Any]) -> list[Any]:
        """Run stages that do not need each other, `parallel` at a time; return what they return, in order."""
        if self.parallel == 1:
            return [stage() for stage in stages]
        self._shared_threads = max(1, usable_cores() // self.parallel)
        failed = threading.Event()

        def guarded(stage: Callable[[], Any]) -> Any:
            try:
                return None if failed.is_set() else stage()
            except BaseException:
                failed.set()  # before this worker takes the next stage
                raise

        try:
            with ThreadPoolExecutor(self.parallel) as pool:
                futures = [pool.submit(guarded, stage) for stage in stages]
                try:
                    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                    return [each.result() for each in (futures if len(done) == len(futures) else done)]
                except BaseException:
                    failed.set()
                    for process in list(RUNNING):
                        process.kill()
                    raise
        finally:
            self._shared_threads = 0

    def run(self, name: str, script: str, *arguments: str | Path, extra: Sequence[str] = ()) -> None:
        """Run one script, or skip it if the same command has finished and its inputs have not changed since.

        `extra` holds flags that do not change what the script writes, so they do not count in this comparison.
        """
        command = [script, *map(str, arguments)]
        marker = self.folder / "stages" / f"{name}.json"
        if is_finished(command, marker):
            self.seconds[name] = read_json(marker)["seconds"]
            print(f"[{name}] finished before, skipped")
            return
        print(f"[{name}] python {shlex.join([*command, *extra])}", flush=True)
        marker.unlink(missing_ok=True)
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        code = launch([*command, *extra], log)
        self.seconds[name] = round(time.perf_counter() - start, 1)
        if code:
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
            failure = InputError if code == EXIT_BAD_INPUT else RunError
            raise failure(f"{script} failed ({last[0].removeprefix('error: ')}); its whole output is in {log}")
        write_json(marker, {"command": command, "seconds": self.seconds[name]})
        left = seconds_left(self.planned, self.seconds, self.recipe.stage_shares)
        left /= self.parallel if self._shared_threads else 1
        print(f"[{name}] {self.seconds[name]:.0f} s{f'; {about(left)} left' if left else ''}", flush=True)

    def training_flags(self, name: str) -> list[str]:
        """Return the flags that both training scripts get; an interrupted training starts from the beginning."""
        common = ["--output_dir", str(self.folder / name), "--overwrite_output_dir", "--seed", str(self.args.seed)]
        length = ["--max_length", str(self.args.max_length), "--overflow", self.args.overflow]
        return [*common, *length, *self.hardware_flags()]

    def hardware_flags(self) -> list[str]:
        """Return the flags for scripts that load a model: the device, and the number of threads if it was given."""
        threads = self.args.num_threads or self._shared_threads
        return ["--device", self.args.device, *(["--num_threads", str(threads)] if threads else [])]

    def lexicon_flags(self) -> list[str]:
        """Return the flag for scripts that read facts, if it was given."""
        return ["--lexicon_dir", *map(str, self.args.lexicon_dir)] if self.args.lexicon_dir else []

    def memory_flags(self) -> list[str]:
        """Return the flag for training that does without the memory estimate, if it was given."""
        return ["--ignore_memory_estimate"] if self.args.ignore_memory_estimate else []

    def base_flags(self) -> list[str]:
        """Return the flag for scripts that load an adapter whose base was moved, if it was given."""
        return ["--base_model", self.args.base_model] if self.args.base_model else []

    def evidence_flags(self) -> list[str]:
        """Return the flag for judging with a trained detector, if there is one."""
        return ["--evidence_model", self.args.evidence_model] if self.args.evidence_model else []

    def filled_in(self, flags: Sequence[str]) -> list[str]:
        """Return flags of the recipe with the folder of the detector in place of EVIDENCE_MODEL."""
        return [str(self.args.evidence_model) if word == EVIDENCE_MODEL else word for word in flags]


def usable_cores() -> int:
    """Return the number of cores, or of those that OMP_NUM_THREADS leaves to this run."""
    cores = os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(allowed)) if allowed.isdecimal() and int(allowed) else cores


def is_finished(command: Sequence[str], marker: Path) -> bool:
    """Return whether the marker names the same command and is newer than everything that the command reads."""
    if not marker.exists() or read_json(marker)["command"] != command:
        return False
    return newest(inputs_of(command)) <= newest([marker])


def launch(command: Sequence[str], log: Path) -> int:
    """Run a script of the suite with its output going to `log`, and show its progress; return its exit code."""
    words = [sys.executable, str(ROOT / command[0]), *command[1:]]
    line = StageLine(log.stem)
    with log.open("w", encoding="utf-8") as handle, subprocess.Popen(words, stdout=handle, stderr=handle) as process:
        RUNNING.add(process)
        try:
            while True:
                try:
                    return process.wait(SECONDS_BETWEEN_LOOKS)
                except subprocess.TimeoutExpired:
                    line.show(log)
        except BaseException:
            process.kill()
            raise
        finally:
            RUNNING.discard(process)
            line.clear()


def inputs_of(command: Sequence[str]) -> list[Path]:
    """Return the files and folders that a command names and reads."""
    return [Path(word) for flag, word in pairwise(command) if flag not in OUTPUT_FLAGS and Path(word).exists()]


def newest(paths: Sequence[Path]) -> float:
    """Return when any of these files, or any file below these folders, last changed, in seconds since 1970."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
