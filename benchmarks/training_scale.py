"""Measure speed and memory of Stage B with 100 to 10,000 pairs, to see whether the cost per pair stays the same.

In:  nothing; pairs of random words with the short shape of benchmarks/compare_trl.py, for the demo's model.
Out: one line per number of pairs, with tokens per CPU-second and the peak memory of the process; with --output_file
     the same as JSON.

    python benchmarks/training_scale.py --pairs 100 1000
    python benchmarks/training_scale.py --output_file benchmarks/training_scale.json

Each number of pairs runs in a new process. The speed is the speed of the script's loop over one epoch. The time before
the loop, including the reference pass, is `cpu_seconds_before` in the JSON file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.stage_runs import timed_epoch
from benchmarks.trl_inputs import SHAPES, fresh_lora, lora_parameters, set_lora_values, write_data
from language_model.adapters import save_adapter
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

BATCH_SIZE = 10
MIB = 2**20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pairs",
        nargs="+",
        type=at_least(1),
        default=[100, 1000, 10_000],
        help=f"numbers of pairs to train on, one run each; multiples of {BATCH_SIZE}",
    )
    parser.add_argument("--output_file", type=Path, help="JSON file to write the figures to (default: none is written)")
    return parser.parse_args(argv)


def save_random_adapter(folder: Path) -> None:
    """Save a random adapter on the demo's base, as Stage A would save it."""
    from transformers import AutoModelForCausalLM

    policy = fresh_lora(AutoModelForCausalLM.from_pretrained(DEMO_BASE))
    set_lora_values(lora_parameters(policy), 42)
    save_adapter(policy, folder, load_tokenizer(DEMO_BASE), "plain", base_model=str(DEMO_BASE))


def main(args: argparse.Namespace) -> int:
    """Measure each number of pairs and print its figures."""
    if any(pairs % BATCH_SIZE for pairs in args.pairs):
        raise InputError(f"--pairs {' '.join(map(str, args.pairs))}: give multiples of {BATCH_SIZE}")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_random_adapter(folder / "adapter")
        for pairs in args.pairs:
            data = write_data("dpo", SHAPES["short"], pairs // BATCH_SIZE, BATCH_SIZE, folder / str(pairs), 42)
            flags = ["--train_data_path", data.train, "--val_data_path", data.val, "--device", "cpu"]
            flags += ["--sft_model_path", str(folder / "adapter"), "--output_dir", str(folder / f"run{pairs}")]
            flags += ["--batch_size", str(BATCH_SIZE), "--num_epochs", "1", "--logging_steps", "100000"]
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found[pairs] = pool.submit(timed_epoch, flags).result()
            figures = found[pairs]
            speed, peak = figures["speed"], figures["peak_bytes"] / MIB
            print(f"{pairs:>7,} pairs  {speed:>7,.0f} tokens/CPU-s  peak {peak:>6,.0f} MiB", flush=True)
    if args.output_file:
        write_json(args.output_file, {"batch_size": BATCH_SIZE, "runs": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
