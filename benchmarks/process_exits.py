"""Run Stage A with two processes many times, and count the runs that do not end by themselves.

In:  the demo's base model and the first rows of its training data.
Out: one line per run, and a JSON line with the counts. A run counts as hung if its processes are still there
     `--patience` seconds after it started.

    python benchmarks/process_exits.py
    python benchmarks/process_exits.py --runs 5 --patience 60

Two gloo processes that destroy their group at the end can wait for each other for ever (see training/processes.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from script_io.errors import ArgumentParser, InputError, run_script

ROOT = Path(__file__).resolve().parents[1]
ROWS = 32  # of the training data: four steps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    group = parser.add_argument_group("Runs")
    group.add_argument("--runs", type=int, default=50, help="number of runs (default: %(default)s)")
    group.add_argument(
        "--patience", type=int, default=120, help="seconds after which a run counts as hung (default: %(default)s)"
    )
    return parser.parse_args(argv)


def run_ends(folder: Path, data: Path, patience: int) -> bool:
    """Run Stage A once with two processes; return whether it ended within `patience` seconds with exit code 0."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"),
        *(str(ROOT / "stage_a_sft_training.py"), "--device", "cpu", "--num_epochs", "1", "--batch_size", "4"),
        *("--train_data_path", str(data), "--val_data_path", str(data), "--output_dir", str(folder)),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(patience) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return False


def main(args: argparse.Namespace) -> int:
    if args.runs < 1 or args.patience < 1:
        raise InputError(f"--runs {args.runs} --patience {args.patience}: must be at least 1")
    source = ROOT / "phase1_data" / "sft" / "train_set_processed.csv"
    ended, start = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "train.csv"
        data.write_text("".join(source.read_text(encoding="utf-8").splitlines(keepends=True)[: ROWS + 1]))
        for number in range(1, args.runs + 1):
            ends = run_ends(folder / f"run_{number}", data, args.patience)
            ended += ends
            print(f"run {number}/{args.runs}: {'ended' if ends else 'hung or failed'}", flush=True)
    print(json.dumps({"runs": args.runs, "ended": ended, "seconds": round(time.perf_counter() - start)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
