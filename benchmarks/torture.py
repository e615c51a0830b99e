"""Kill every stage at random moments, resume it, and compare its files with the files of an uninterrupted run.

    python benchmarks/torture.py              # at least 120 kills
    python benchmarks/torture.py --short      # a few kills of Stage A, for every change of the code

Each stage is killed with SIGKILL, together with its child processes: at a random time; at a random write, the file that
is being written cut in half; and in training before and inside a checkpoint. The same command continues it, and may be
killed again. Once it ends, every file must equal the uninterrupted run's, without the fields in script_io/measured.py.
Python and torch are loaded once: this process forks one child for each run. Linux only.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

from benchmarks.torture_cases import CASES, FEW_ROWS, ROWS, make_inputs
from benchmarks.torture_runs import Case, Event, KillAt, differences, run_in_child
from script_io.errors import ArgumentParser, at_least

MOST_KILLS_OF_ONE_RUN = 3
SLOW_IMPORTS = (
    *("torch", "accelerate", "peft", "matplotlib.pyplot", "transformers.models.llama.modeling_llama"),
    "scoring.completion_scorer",
)
EXIT_LOST = 1


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: its folder, how long it took, and its writes."""

    folder: Path
    seconds: float
    events: Sequence[Event]

    def first_checkpoint(self) -> float:
        """Return the seconds until the first checkpoint is begun, or until the end if there is none."""
        return next((event.seconds for event in self.events if event.in_checkpoint), self.seconds)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=at_least(1), default=21, help="number of kills that the runs of each stage get")
    parser.add_argument(
        "--cases", nargs="+", choices=sorted(CASES), default=list(CASES), metavar="NAME", help="stages to kill"
    )
    parser.add_argument("--short", action="store_true", help="kill Stage A alone, 4 times, on fewer rows")
    parser.add_argument("--seed", type=at_least(0), default=42, help="seed of the moments")
    parser.add_argument(
        "--jobs", type=at_least(1), default=2, help="number of processes that run stages at the same time"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path("/dev/shm") if Path("/dev/shm").is_dir() else None,
        help="folder for the runs, which are deleted (default: /dev/shm, else the system's temporary folder)",
    )
    return parser.parse_args(argv)


def moment(rng: random.Random, reference: Reference, number: int) -> KillAt:
    """Return when to kill a run: in turn at any time, at any write, before a checkpoint and inside one."""
    inside = [event.number for event in reference.events if event.in_checkpoint]
    kinds = ["time", "write", "before", "inside"] if inside else ["time", "write"]
    kind = kinds[number % len(kinds)]
    if kind in ("write", "inside"):
        return KillAt(write=rng.choice(inside if kind == "inside" else [event.number for event in reference.events]))
    return KillAt(seconds=rng.uniform(0, reference.seconds if kind == "time" else reference.first_checkpoint()))


def torture(case: Case, inputs: Path, scratch: Path, reference: Reference, kills: int, seed: int) -> tuple[int, int]:
    """Return (kills that the case survived, kills tried)."""
    rng = random.Random(f"{case.name}-{seed}")
    survived = tried = trials = 0
    while tried < kills:
        folder = scratch / f"{case.name}_{trials}"
        done: list[KillAt] = []
        planned = min(rng.randint(1, MOST_KILLS_OF_ONE_RUN), kills - tried)
        for _ in range(planned):
            when = moment(rng, reference, tried + len(done))
            if not run_in_child(case, inputs, folder, when).was_killed:
                break
            done.append(when)
        trials += 1
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        result = run_in_child(case, inputs, folder)
        found = differences(reference.folder, folder) if result.exit_code == 0 else [result.tail()]
        tried += len(done)
        survived += 0 if found else len(done)
        if found:
            print(f"{case.name}: NOT survived: {done}\n  " + "\n  ".join(found[:10]), flush=True)
        shutil.rmtree(folder)
    print(f"{case.name}: {survived} of {tried} kills survived, {trials} runs", flush=True)
    return survived, tried


def preload(modules: Sequence[str]) -> None:
    """Import what a child has loaded, so that the next ones find it loaded."""
    for name in sorted(set(modules) - set(sys.modules)):
        with suppress(Exception):  # made at run time, or only there under another name
            importlib.import_module(name)


def reference_of(case: Case, inputs: Path, scratch: Path) -> Reference:
    """Run a case twice without a kill. Raises RuntimeError if it fails, or if the two runs differ."""
    runs = []
    for number in (1, 2):
        result = run_in_child(case, inputs, scratch / f"{case.name}_whole_{number}")
        if result.exit_code != 0:
            raise RuntimeError(f"{case.name} failed without a kill: {result.tail()}")
        preload(result.modules)
        runs.append(Reference(result.folder, result.seconds, result.events))
    if found := differences(runs[0].folder, runs[1].folder):
        raise RuntimeError(f"{case.name}: two uninterrupted runs differ: {'; '.join(found[:10])}")
    print(f"{case.name}: a whole run takes {runs[1].seconds:.1f} s, {result.cpu_seconds:.1f} s of a core", flush=True)
    return runs[1]


def main(args: argparse.Namespace) -> int:
    """Run the cases and print the number of kills that they survived."""
    start = time.perf_counter()
    names, kills = (["stage_a"], 4) if args.short else (args.cases, args.kills)
    preload(SLOW_IMPORTS)
    scratch = Path(tempfile.mkdtemp(prefix="torture.", dir=args.scratch))
    try:
        inputs = make_inputs(scratch / "inputs", names, FEW_ROWS if args.short else ROWS)
        references = [reference_of(CASES[name], inputs, scratch) for name in names]

        def one(name: str, reference: Reference) -> tuple[int, int]:
            return torture(CASES[name], inputs, scratch, reference, kills, args.seed)

        with ThreadPoolExecutor(args.jobs) as pool:  # the threads only fork and wait
            counts = list(pool.map(one, names, references))
    finally:
        shutil.rmtree(scratch)
    survived, tried = (sum(each) for each in zip(*counts, strict=True))
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes")
    print(f"kills survived: {survived} of {tried}")
    return 0 if survived == tried else EXIT_LOST


if __name__ == "__main__":
    raise SystemExit(main(parse_args()))
