"""Measure Stage A on the demo's model alone and next to busy processes, for several ways of waiting threads.

In:  the demo's base model and the first rows of its training data.
Out: one line per run with its tokens per second, then a JSON line with the median of each case. `loss_factor` is the
     speed alone divided by the speed next to the busy processes.

    python benchmarks/thread_contention.py
    python benchmarks/thread_contention.py --settings default 5000 passive --repeats 3 --num_threads 2

The settings take turns within a repeat, so that a change of the machine meets all of them. `default` is libgomp's own:
300,000 rounds of a busy loop. A number is GOMP_SPINCOUNT, `passive` is OMP_WAIT_POLICY=PASSIVE, and `ours` is what the
scripts set themselves, with the number of threads that they choose.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from demo.recipes import DEMO_RECIPE
from script_io.csv_files import read_csv, write_csv
from script_io.errors import ArgumentParser, InputError, RunError, at_least, run_script

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("default", "20000", "5000", "1000", "passive", "ours")
SKIPPED_STEPS = 2  # the first steps of a run, which allocate memory
VALIDATION_ROWS = 4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    group = parser.add_argument_group("Runs")
    group.add_argument(
        "--settings",
        nargs="+",
        default=list(SETTINGS),
        metavar="NAME",
        help="how threads wait: default, ours, passive, or a number of rounds of the busy loop",
    )
    group.add_argument("--repeats", type=at_least(1), default=3, help="number of runs of each case")
    group.add_argument("--rows", type=at_least(64), default=480, help="number of notes to train on, once each")
    group.add_argument("--busy", type=at_least(1), default=1, help="number of busy processes next to a run")
    group.add_argument(
        "--num_threads", type=at_least(1), default=2, help="number of threads, except in the setting `ours`"
    )
    return parser.parse_args(argv)


def waiting(setting: str) -> dict[str, str]:
    """Return the environment variables of a setting. Raises InputError for an unknown one."""
    if setting == "ours":
        return {}
    if setting == "passive":
        return {"OMP_WAIT_POLICY": "PASSIVE"}
    if setting == "default":
        return {"GOMP_SPINCOUNT": "300000"}
    if not setting.isdecimal():
        raise InputError(f"--settings {setting}: choose default, ours, passive or a number of rounds")
    return {"GOMP_SPINCOUNT": setting}


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` cores busy within the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def write_rows(split: str, count: int, folder: Path) -> Path:
    """Write the first rows of a split of the demo's data; return the file."""
    name = f"{split}_set_processed.csv"
    rows = [row for _, row in read_csv(ROOT / "phase1_data" / "sft" / name, ())][:count]
    write_csv(folder / name, list(rows[0]), rows)
    return folder / name


def tokens_per_second(folder: Path, data: tuple[Path, Path], setting: str, num_threads: int) -> float:
    """Train once and return the median speed of the steps. Raises RunError if the training fails."""
    command = [
        *(sys.executable, str(ROOT / "stage_a_sft_training.py"), *DEMO_RECIPE.stage_a, "--num_epochs", "1"),
        *("--train_data_path", str(data[0]), "--val_data_path", str(data[1]), "--device", "cpu"),
        *("--output_dir", str(folder), "--overwrite_output_dir"),
        *([] if setting == "ours" else ["--num_threads", str(num_threads)]),
    ]
    unset = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | waiting(setting)
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RunError(f"Stage A failed: {process.stderr.strip().splitlines()[-1:]}")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    speeds = [line["tokens_per_second"] for line in lines if line["kind"] == "train"]
    return statistics.median(speeds[SKIPPED_STEPS:])


def summary(setting: str, alone: list[float], contended: list[float]) -> dict[str, Any]:
    """Return the medians of a setting, in tokens per second, and by what factor it slows down."""
    medians = statistics.median(alone), statistics.median(contended)
    return {
        "setting": setting,
        "tokens_per_second_alone": round(medians[0]),
        "tokens_per_second_contended": round(medians[1]),
        "loss_factor": round(medians[0] / medians[1], 2),
    }


def measured(args: argparse.Namespace, folder: Path) -> dict[tuple[str, int], list[float]]:
    """Return the speeds of all runs by setting and number of busy processes, and print each."""
    data = write_rows("train", args.rows, folder), write_rows("validation", VALIDATION_ROWS, folder)
    speeds: dict[tuple[str, int], list[float]] = {}
    for repeat in range(1, args.repeats + 1):
        for busy in (0, args.busy):
            with busy_processes(busy):
                for setting in args.settings:
                    speed = tokens_per_second(folder / "run", data, setting, args.num_threads)
                    speeds.setdefault((setting, busy), []).append(speed)
                    print(f"{repeat}/{args.repeats}  {setting:>8}  busy {busy}  {speed:7.0f} tokens/s", flush=True)
    return speeds


def main(args: argparse.Namespace) -> int:
    for setting in args.settings:
        waiting(setting)  # fails before anything runs
    with tempfile.TemporaryDirectory() as name:
        speeds = measured(args, Path(name))
    cases = [summary(setting, speeds[setting, 0], speeds[setting, args.busy]) for setting in args.settings]
    print(json.dumps({"busy_processes": args.busy, "num_threads": args.num_threads, "cases": cases}))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
