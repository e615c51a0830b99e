"""Run scripts of the suite as child processes, each once, and several at a time where they do not need each other."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from demo.recipes import EVIDENCE_MODEL, Recipe
from pipeline.processes import STOPPING, launch, refuse_if_running, stop_all
from pipeline.script_flags import WITHOUT_EFFECT, HandedFlags, merged, split, unsplit, without
from pipeline.stage_records import StageRecord, inputs_of, newest, outputs_of
from script_io.errors import EXIT_BAD_INPUT, InputError, RunError
from script_io.provenance import commit
from script_io.stage_clock import about, seconds_left


@dataclass
class Pipeline:
    """Run commands of the suite, each once, and record how many seconds each took.

    `planned` holds the names of all stages, from which the time left is estimated; `handed` what the user asks of the
    scripts, on top of the recipe.
    """

    args: argparse.Namespace
    recipe: Recipe
    folder: Path
    planned: Sequence[str] = ()
    handed: HandedFlags = field(default_factory=HandedFlags)
    seconds: dict[str, float] = field(default_factory=dict)
    commits: dict[str, str | None] = field(default_factory=dict)  # of each stage, when it last ran
    commit: str | None = field(default_factory=commit)
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
        failures: list[BaseException] = []
        STOPPING.clear()

        def guarded(stage: Callable[[], Any]) -> Any:
            try:
                return None if STOPPING.is_set() else stage()
            except BaseException as error:
                failures.append(error)
                STOPPING.set()  # before this worker takes the next stage
                raise

        try:
            if self.args.dry_run:
                return [stage() for stage in stages]
            with ThreadPoolExecutor(self.parallel) as pool:
                try:
                    futures = [pool.submit(guarded, stage) for stage in stages]
                    wait(futures, return_when=FIRST_EXCEPTION)
                    if failures:
                        raise failures[0]  # the others follow from it
                    return [each.result() for each in futures]
                except BaseException:
                    stop_all()
                    raise
        finally:
            STOPPING.clear()
            self._shared_threads = 0

    def run(
        self,
        name: str,
        script: str,
        *arguments: str | Path,
        extra: Sequence[str] = (),
        last: Sequence[str] = (),
        continues: Sequence[Path] = (),
    ) -> None:
        """Run one script, or skip it if the same command has finished and nothing that it reads or wrote has changed.

        A training that was interrupted is resumed. `extra` holds flags that do not change what the script writes, so
        they do not count in the comparison; `last` flags that the user's do not replace; `continues` files that the
        script itself continues, which are deleted if they are of another command.
        """
        whole = merged(self.handed.added_to(script, [script, *map(str, arguments)]), last)
        command = without(whole, WITHOUT_EFFECT)
        free = unsplit((flag, values) for flag, values in split(whole) if flag.removeprefix("--") in WITHOUT_EFFECT)
        marker, log = self.folder / "stages" / f"{name}.json", self.folder / "logs" / f"{name}.log"
        record = StageRecord.read(marker)
        # records of earlier versions hold the number of threads that the chain itself chose
        same = record if record and command in (record.command, without(record.command, ["num_threads"])) else None
        up_to_date = same is not None and same.is_up_to_date(marker)
        missing = same.missing_outputs(self.folder) if same and up_to_date else []
        if same and up_to_date and not missing:
            self._skip(name, same)
            return
        resumes = same is not None and same.can_resume()
        words = [*(same.resumed() if same and resumes else command), *free, *extra, *self._shared_cores(whole)]
        if self.args.dry_run:
            print(f"python {shlex.join(words)}")
            return
        refuse_if_running(name, log)
        if missing:
            print(f"[{name}] runs again, since {missing[0]} is gone")
        if not same or newest(inputs_of(command)) > newest(continues):
            for file in continues:
                file.unlink(missing_ok=True)
        started = same.started if same and resumes else time.time()
        self._start(name, StageRecord(command, self.commit, started), marker, words, log)

    def _skip(self, name: str, record: StageRecord) -> None:
        self.seconds[name], self.commits[name] = record.seconds or 0.0, record.commit
        print(f"{'# ' * self.args.dry_run}[{name}] finished before, skipped")

    def _start(self, name: str, record: StageRecord, marker: Path, words: Sequence[str], log: Path) -> None:
        """Run a stage, and write its record before and after."""
        print(f"[{name}] python {shlex.join(words)}", flush=True)
        record.write(marker)
        written = newest([marker])
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        code = launch(words, log)
        seconds = round(time.perf_counter() - start, 1)
        if code:
            raise _failure(code, words, log, marker)
        outputs = outputs_of(record.command, self.folder, written)
        replace(record, seconds=seconds, outputs=outputs).write(marker)
        self.seconds[name], self.commits[name] = seconds, record.commit
        left = seconds_left(self.planned, self.seconds, self.recipe.stage_shares)
        left /= self.parallel if self._shared_threads else 1
        done = f"stage {len(self.seconds)} of {len(self.planned)}; " if left else ""
        print(f"[{name}] {seconds:.0f} s{f'; {done}{about(left)} left' if left else ''}", flush=True)

    def training_flags(self, name: str) -> list[str]:
        """Return the flags that both training scripts get; `run` resumes an interrupted training."""
        common = ["--output_dir", str(self.folder / name), "--overwrite_output_dir", "--seed", str(self.args.seed)]
        length = ["--max_length", str(self.args.max_length), "--overflow", self.args.overflow]
        return [*common, *length, *self.hardware_flags()]

    def hardware_flags(self) -> list[str]:
        """Return the flags for scripts that load a model: the device, and the number of threads if it was given."""
        threads = self.args.num_threads
        return ["--device", self.args.device, *(["--num_threads", str(threads)] if threads else [])]

    def _shared_cores(self, words: Sequence[str]) -> list[str]:
        """Return the flag for a script's share of the cores while several run, unless `words` ask for a number."""
        if not self._shared_threads or "--num_threads" in words or "--device" not in words:  # it loads no model
            return []
        return ["--num_threads", str(self._shared_threads)]

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


def _failure(code: int, words: Sequence[str], log: Path, marker: Path) -> Exception:
    """Return the error for a stage that has failed: its own last line, and where to read more."""
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no output"]
    failure = InputError if code == EXIT_BAD_INPUT else RunError
    anew = f"; to start this stage anew, delete {marker}" if "--resume" in words else ""
    what = f"was killed by {_signal(-code)}; its last line" if code < 0 else "failed"
    return failure(f"{words[0]} {what} ({last[0].removeprefix('error: ')}); its whole output is in {log}{anew}")


def _signal(number: int) -> str:
    """Return the name of a signal, and what has probably sent it."""
    name = next((each.name for each in signal.Signals if each == number), f"signal {number}")
    return f"{name}, probably since memory ran out" if name == "SIGKILL" else name
