"""Compare the memory estimate of a training run (training/memory_estimate.py) with its measured peak.

In:  nothing; models of random weights and texts of random words are built as in benchmarks/compare_trl.py.
Out: one line per run and the largest error; with --output_file the same as JSON.

    python benchmarks/memory_estimate.py --parameters 58M --shapes clinical --dtypes float32
    python benchmarks/memory_estimate.py --output_file benchmarks/memory_estimate.json

Each run has its own process. The peak is the peak of the whole process, or on CUDA of the allocator.
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
from benchmarks.trl_inputs import LINEAR_LAYERS, MODELS, Q_V, SHAPES, Data, Lora, Model, build_model, write_data
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

MIB = 2**20
DTYPES = ("float32", "bfloat16", "4bit", "8bit")
ADAPTERS = {"q_v": Q_V, "all": Lora(LINEAR_LAYERS), "all_dropout": Lora(LINEAR_LAYERS, 0.05)}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stage", nargs="+", choices=("dpo", "sft"), default=["dpo", "sft"], help="stages to run")
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["clinical", "long"], help="lengths of the examples"
    )
    parser.add_argument(
        "--adapters",
        nargs="+",
        choices=ADAPTERS,
        default=list(ADAPTERS),
        help="adapted layers: q_proj and v_proj, or all linear layers, without or with a dropout of 0.05; Stage B has "
        "no dropout and leaves out all_dropout",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["float32", "bfloat16"],
        help="dtype or quantisation of the base",
    )
    parser.add_argument(
        "--parameters", nargs="+", choices=MODELS, default=["58M", "135M"], help="sizes of the model in parameters"
    )
    parser.add_argument("--batch_size", type=at_least(1), default=4, help="number of examples per step")
    parser.add_argument("--batches", type=at_least(1), default=3, help="number of steps per run")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="device of the runs")
    parser.add_argument("--output_file", type=Path, help="JSON file of all runs (default: none)")
    return parser.parse_args(argv)


def flags_of(args: argparse.Namespace, case: dict[str, Any], model: Model, data: Data, folder: str) -> list[str]:
    """Return the command line of the stage's script."""
    flags = ["--train_data_path", data.train, "--val_data_path", data.val, "--max_length", str(data.max_length)]
    flags += ["--batch_size", str(args.batch_size), "--num_epochs", "1", "--output_dir", f"{folder}/run"]
    if case["stage"] == "dpo":
        flags += ["--sft_model_path", model.adapter]
    else:
        lora = ADAPTERS[case["adapter"]]
        flags += ["--model_name", model.base, "--lora_dropout", str(lora.dropout)]
        flags += ["--lora_target_modules", *lora.target_modules]
    dtype = case["dtype"]
    flags += [f"--use_{dtype}", "--dtype", "bfloat16"] if dtype in ("4bit", "8bit") else ["--dtype", dtype]
    flags += ["--gradient_checkpointing"] if case["checkpointing"] else []
    return [*flags, "--device", args.device]


def cases_of(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the settings of every run."""
    names = ("stage", "shape", "model", "dtype", "adapter", "checkpointing")
    settings = (args.stage, args.shapes, args.parameters, args.dtypes, args.adapters, (False, True))
    cases = [dict(zip(names, values, strict=True)) for values in itertools.product(*settings)]
    found = [case for case in cases if case["stage"] == "sft" or not ADAPTERS[case["adapter"]].dropout]
    if not found:
        raise InputError("--stage dpo --adapters all_dropout: Stage B has no dropout; add --adapters all")
    return found


def build_models(args: argparse.Namespace, folder: str) -> dict[tuple[str, str], Model]:
    """Return (size, adapter) -> saved model. Stage A reads only the base, so one model serves all its adapters."""
    built: dict[tuple[str, str], Model] = {}
    for name, adapter in itertools.product(args.parameters, args.adapters):
        start = "all" if "dpo" in args.stage and adapter != "q_v" else "q_v"
        if (name, start) not in built:
            built[name, start] = build_model(name, Path(folder, name, start), 42, ADAPTERS[start])
        built[name, adapter] = built[name, start]
    return built


def main(args: argparse.Namespace) -> int:
    """Run every case and print it."""
    cases, runs = cases_of(args), []
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        models = build_models(args, folder)
        data = {
            (stage, shape): write_data(
                stage, SHAPES[shape], args.batches, args.batch_size, Path(folder, f"{stage}-{shape}"), 42
            )
            for stage, shape in itertools.product(args.stage, args.shapes)
        }
        for case in cases:
            model, texts = models[case["model"], case["adapter"]], data[case["stage"], case["shape"]]
            with tempfile.TemporaryDirectory() as output, ProcessPoolExecutor(1, mp_context=spawn) as pool:
                flags = flags_of(args, case, model, texts, output)
                found = pool.submit(estimated_run, case["stage"], flags).result()
            runs.append({**case, **found, "error": round(found["estimate"] / found["peak"] - 1, 4)})
            print(line_of(runs[-1]), flush=True)
    print(f"Largest error: {max(abs(run['error']) for run in runs):.1%} in {len(runs)} runs")
    if args.output_file:
        write_json(args.output_file, {"runs": runs})
    return 0


def line_of(run: dict[str, Any]) -> str:
    """Return a line with the case, the estimate, the peak and the error of a run."""
    checkpointing = "checkpointing" if run["checkpointing"] else ""
    label = f"{run['stage']} {run['shape']:<9}{run['model']:<5}{run['dtype']:<9}{run['adapter']:<12}{checkpointing:<14}"
    estimate, peak = (run[key] / MIB for key in ("estimate", "peak"))
    return f"{label} estimate {estimate:>7,.0f} MiB  peak {peak:>7,.0f} MiB  {run['error']:+.1%}"


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
