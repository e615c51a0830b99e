"""Measure what the guards of a training cost: the folder lock, the signal handlers, the checks of loss and gradient.

In:  nothing; the demo's model and data.
Out: per pair of blocks the ratio of processor times, their median with its interquartile range, and the time of the
     guards alone as a share of a step; with --output_file the same as JSON.

    python benchmarks/guard_cost.py
    python benchmarks/guard_cost.py --pairs 40 --steps 20 --output_file runs/guard_cost.json

Both blocks of a pair run the loop of Stage A over the same steps, in one process, one with the guards and one without,
and change places from pair to pair. A block with guards checks the gradients once, which a run does once an epoch.
Checkpoints and evaluations are left out of both. The ratio is of processor time, but on a machine with other work
shared caches still blur it; the share of the guards alone is measured over 200 calls of each and is the sharper figure.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from language_model.model_files import DEMO_BASE
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json
from script_io.folder_lock import lock_folder
from sft_dataset import SFTDataset
from training.run import TrainingRun
from training.watching import NonFiniteGuard, StopRequest, check_gradients, stop_on_signals

ROOT = Path(__file__).resolve().parents[1]
stage_a: Any = importlib.import_module("stage_a_sft_training")
CALLS = 200  # of each guard alone


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    group = parser.add_argument_group("Blocks")
    group.add_argument("--pairs", type=at_least(2), default=20, help="pairs of blocks (default: %(default)s)")
    group.add_argument("--steps", type=at_least(1), default=10, help="steps of a block (default: %(default)s)")
    group.add_argument("--batch_size", type=at_least(1), default=8, help="examples of a step (default: %(default)s)")
    group.add_argument("--model_name", default=str(DEMO_BASE), help="base model (default: the demo's tiny base)")
    group.add_argument("--output_file", type=Path, help="JSON file of the result (default: none, print only)")
    return parser.parse_args(argv)


class NoGuard:
    """Lets every step pass."""

    def is_finite(self, *_: object) -> bool:
        return True


@contextmanager
def guarded(folder: Path) -> Iterator[StopRequest]:
    """Hold what a run holds: the lock of its folder and the handlers of its signals."""
    with lock_folder(folder), stop_on_signals() as stop:
        yield stop


@contextmanager
def unguarded() -> Iterator[StopRequest]:
    """Replace the guards of Stage A's loop by nothing."""
    stop = StopRequest()
    without: dict[str, Any] = {"NonFiniteGuard": NoGuard, "check_gradients": lambda policy: None}
    with mock.patch.multiple(stage_a, **without), mock.patch.object(stop, "settle"):
        yield stop


def block_seconds(run: TrainingRun, data: tuple[SFTDataset, SFTDataset], first: int, steps: int, guards: bool) -> float:
    """Return the processor time of Stage A's loop over `steps` steps from step `first` on."""
    run.state.step = first
    start = time.process_time()
    with guarded(run.folder) if guards else unguarded() as stop:

        def is_over(training: TrainingRun) -> bool:
            return training.state.step >= first + steps

        with mock.patch.object(stage_a.loop, "stops_early", is_over):
            stage_a.train_loop(run, *data, stop)
    return time.process_time() - start


def seconds_alone(run: TrainingRun, ids: list[str]) -> dict[str, float]:
    """Return the processor time of one call of each guard, in seconds."""
    guard, stop = NonFiniteGuard(), StopRequest()
    for parameter in run.policy.parameters():
        if parameter.requires_grad:
            parameter.grad = parameter.detach().clone() + 1

    def each_step() -> None:
        guard.is_finite(1.0, 1.0, ids)
        stop.settle(run)

    calls = {"each step": each_step, "each epoch": lambda: check_gradients(run.policy)}
    found = {}
    for name, call in calls.items():
        start = time.process_time()
        for _ in range(CALLS):
            call()
        found[name] = (time.process_time() - start) / CALLS
    run.optimizer.zero_grad()
    return found


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the pairs of blocks; return the figures."""
    phase1 = ROOT / "phase1_data" / "sft"
    flags = ["--train_data_path", str(phase1 / "train_set_processed.csv"), "--output_dir", str(folder / "run")]
    flags += ["--val_data_path", str(phase1 / "validation_set_processed.csv"), "--model_name", args.model_name]
    flags += ["--device", "cpu", "--dtype", "float32", "--num_threads", "1", "--batch_size", str(args.batch_size)]
    flags += ["--overflow", "shorten_note", "--num_epochs", "1"]
    run, *data = stage_a.prepare(stage_a.parse_args(flags))
    ratios, seconds = [], {True: 0.0, False: 0.0}
    steps = run.plan.total_steps
    if args.steps >= steps:
        raise InputError(f"--steps {args.steps}: the run has {steps} steps; give fewer")
    nothing: dict[str, Any] = {"evaluation_is_due": lambda run: False, "checkpoint_is_due": lambda run, stop: False}
    with mock.patch.multiple(stage_a.loop, **nothing):
        block_seconds(run, (data[0], data[1]), 0, args.steps, True)  # the first allocations
        for pair in range(args.pairs):
            first, found = pair * args.steps % (steps - args.steps), {}
            for guards in (True, False) if pair % 2 else (False, True):
                found[guards] = block_seconds(run, (data[0], data[1]), first, args.steps, guards)
                seconds[guards] += found[guards]
            ratios.append(found[True] / found[False])
    alone = seconds_alone(run, [str(number) for number in range(args.batch_size)])
    step = seconds[False] / (args.pairs * args.steps)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "pairs": args.pairs,
        "steps": args.steps,
        "ratio": {"median": middle, "quartiles": [low, high], "of_sums": seconds[True] / seconds[False]},
        "cpu_seconds_per_step": step,
        "guards_each_step_share": alone["each step"] / step,
        "guards_each_epoch_share": alone["each epoch"] / (step * run.plan.steps_per_epoch),
        "ratios": ratios,
    }


def main(args: argparse.Namespace) -> int:
    """Measure and print; write the figures if asked."""
    with tempfile.TemporaryDirectory() as name:
        found = measure(args, Path(name))
    ratio = found["ratio"]
    print(f"with guards to without: median {ratio['median']:.4f}, quartiles {ratio['quartiles'][0]:.4f} to", end=" ")
    print(f"{ratio['quartiles'][1]:.4f}, of the sums {ratio['of_sums']:.4f} ({args.pairs} pairs, {args.steps} steps)")
    print(f"guards alone: {found['guards_each_step_share']:.4%} of a step, and once an epoch", end=" ")
    print(f"{found['guards_each_epoch_share']:.4%} of it; a step takes {found['cpu_seconds_per_step']:.3f} CPU seconds")
    if args.output_file:
        write_json(args.output_file, found)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, parse_args()))
