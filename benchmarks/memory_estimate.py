"""How far the memory estimate of a training run (memory_estimate.py) is from its real peak.

In:  nothing; models of random weights and data are those of benchmarks/compare_trl.py.
Out: a line for each run and the largest error; with --output_file the same as JSON.

    python benchmarks/memory_estimate.py --parameters 58M --shapes clinical --dtypes float32
    python benchmarks/memory_estimate.py --output_file benchmarks/memory_estimate.json

Every run is a process of its own, and its peak is that of the whole process (on CUDA: of the allocator).
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.stage_runs import estimated_run
from benchmarks.trl_inputs import MODELS, SHAPES, build_model, write_data
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import write_json

MIB = 2**20
DTYPES = ("float32", "bfloat16", "4bit", "8bit")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="+", choices=("dpo", "sft"), default=["dpo", "sft"], help="(default: both)")
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["clinical", "long"], help="(default: the last two)"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["float32", "bfloat16"],
        help="of the base (default: float32 bfloat16)",
    )
    parser.add_argument("--parameters", nargs="+", choices=MODELS, default=["58M", "135M"], help="(default: 58M 135M)")
    parser.add_argument("--batch_size", type=int, default=4, help="examples of a step (default: 4)")
    parser.add_argument("--batches", type=int, default=3, help="steps of a run (default: 3)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument("--output_file", type=Path, help="JSON file of all runs (default: none)")
    return parser.parse_args(argv)


def flags_of(args: argparse.Namespace, stage: str, dtype: str, model: Any, data: Any, folder: str) -> list[str]:
    """The command line of the stage's script."""
    flags = ["--train_data_path", data.train, "--val_data_path", data.val, "--max_length", str(data.max_length)]
    flags += ["--batch_size", str(args.batch_size), "--num_epochs", "1", "--output_dir", f"{folder}/run"]
    flags += ["--sft_model_path", model.adapter] if stage == "dpo" else ["--model_name", model.base]
    flags += [f"--use_{dtype}", "--dtype", "bfloat16"] if dtype in ("4bit", "8bit") else ["--dtype", dtype]
    return [*flags, "--device", args.device]


def main(args: argparse.Namespace) -> int:
    """Runs and prints."""
    if args.batches < 1 or args.batch_size < 1:
        raise InputError(f"--batches {args.batches} --batch_size {args.batch_size}: give 1 or more of both")
    runs = []
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        models = {name: build_model(name, Path(folder, name), 42) for name in args.parameters}
        for stage, shape in itertools.product(args.stage, args.shapes):
            place = Path(folder, f"{stage}-{shape}")
            data = write_data(stage, SHAPES[shape], args.batches, args.batch_size, place, 42)
            for name, dtype, checkpointing in itertools.product(models, args.dtypes, (False, True)):
                with tempfile.TemporaryDirectory() as output, ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    flags = flags_of(args, stage, dtype, models[name], data, output)
                    flags += ["--gradient_checkpointing"] if checkpointing else []
                    found = pool.submit(estimated_run, stage, flags).result()
                error = found["estimate"] / found["peak"] - 1
                case = {"stage": stage, "shape": shape, "model": name, "dtype": dtype, "checkpointing": checkpointing}
                runs.append({**case, **found, "error": round(error, 4)})
                label = f"{stage} {shape:<9}{name:<5}{dtype:<9}{'checkpointing' if checkpointing else '':<14}"
                estimate, peak = (found[key] / MIB for key in ("estimate", "peak"))
                print(f"{label} estimate {estimate:>7,.0f} MiB  peak {peak:>7,.0f} MiB  {error:+.1%}", flush=True)
    print(f"Largest error: {max(abs(run['error']) for run in runs):.1%} in {len(runs)} runs")
    if args.output_file:
        write_json(args.output_file, {"runs": runs})
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
