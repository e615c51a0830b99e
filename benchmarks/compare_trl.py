"""Compare speed, memory and exactness of both stages with TRL and with a naive training loop.

In:  nothing; random models, an adapter and texts of given lengths are made in a temporary folder.
Out: on stdout one line per measurement, a table, and one JSON document as the last line; with --output_file the
     document with every repeat, the settings and the commits.

    python benchmarks/compare_trl.py --stage dpo --shapes clinical --parameters 58M
    python benchmarks/compare_trl.py --stage dpo --shapes clinical --parameters 7B --dtypes 4bit --memory_limit_gb 12
    python benchmarks/compare_trl.py --stage sft --shapes clinical --parameters 135M --lora_dropout 0.05 \\
        --lora_target_modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj --before ../earlier_commit

Variants, all with the same weights, LoRA (r=16, on q_proj and v_proj unless --lora_target_modules names other layers),
batches and order of examples:
  ours         parse_args, prepare and train_loop of the stage's script
  before       the same with the code of the checkout that --before names; make one with: git worktree add FOLDER COMMIT
  trl_default  TRL's trainer with its defaults, except for the batch size, learning rate, seed, number of epochs and
               order of examples, a maximum length that cuts no example, no saving or reports, and use_cpu on a CPU
  trl_best     the fastest settings found with TRL's default attention: base in bfloat16, no gradient checkpointing,
               precomputed reference, a malloc of glibc that keeps freed memory, and in Stage A the faster of rows with
               and without padding by a trial of two steps on this machine (with padding if examples are long)
  trl_fp32     like trl_best, in float32
  naive        logits of every position, with rows padded to the maximum length; in Stage B two whole models and four
               forward passes
The other names of --variants are steps from trl_default to trl_best, or alternatives to trl_best.

Speed is the number of useful tokens (prompt, chosen and rejected, each once) per second of the whole training loop. The
loop includes the optimiser and logging, and for ours also a checkpoint and an evaluation of one short example. Half of
the time of a precomputed reference pass is added, because two epochs, the default, share one pass. Loading is excluded.
Memory is the peak of the whole process, including imports, loading and the reference pass; on CUDA it is the peak of
the allocator. Each measurement has its own process, and the variants take turns. The table shows the median speed and
the largest peak of the repeats.

--lora_dropout is the dropout of the adapter. It is on in Stage A. In Stage B every variant turns it off (TRL by its
default disable_dropout), since policy and reference must be the same network.

Differences compare the first batch with a plain computation in float32, one row at a time and without padding. For the
comparison the adapter gets values that differ from the reference, and dropout is 0, since every library draws masks of
its own. `loss diff` is in nats. `grad diff` is the largest difference of any element of the LoRA gradients, divided by
the largest element. In 4bit the differences include the quantisation error. `utilisation`, on a GPU only, is the FLOP
per second that useful tokens need, divided by the FLOP per second of a large product of matrices.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.earlier_checkout import require_checkout
from benchmarks.trl_bench import Bench
from benchmarks.trl_inputs import LINEAR_LAYERS, LORA_R, MODELS, Q_V, SHAPES
from benchmarks.trl_report import (
    Differences,
    Setup,
    hardware,
    matrix_product_ceiling,
    ratio_lines,
    ratios,
    summarise,
    table,
    tokens_per_second,
)
from benchmarks.trl_variants import TRL_SETTINGS
from script_io.errors import ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import write_json
from script_io.provenance import commit, package_versions

VARIANTS = ("ours", "trl_default", "trl_best", "trl_fp32", "naive")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "datasets", "bitsandbytes")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stage", nargs="+", choices=("dpo", "sft"), default=["dpo", "sft"], help="stages to measure")
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=SHAPES,
        default=list(SHAPES),
        help=f"lengths of the examples, as mean tokens of prompt + answer: {_lengths()}",
    )
    variants = [*VARIANTS, *(name for name in TRL_SETTINGS if name not in VARIANTS)]
    parser.add_argument(
        "--variants", nargs="+", choices=variants, default=VARIANTS, help="training loops to measure, as listed above"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("float32", "bfloat16", "4bit"),
        default=["float32", "bfloat16"],
        help="dtypes of the computation; a variant runs only in the dtypes that it supports",
    )
    parser.add_argument(
        "--parameters", nargs="+", choices=MODELS, default=["58M", "135M"], help="sizes of the model in parameters"
    )
    parser.add_argument(
        "--lora_target_modules",
        nargs="+",
        choices=LINEAR_LAYERS,
        default=list(Q_V.target_modules),
        help=f"names of the layers that get LoRA of rank {LORA_R}, in every variant",
    )
    parser.add_argument(
        "--lora_dropout",
        type=float,
        default=Q_V.dropout,
        help="share of the adapters' input that is dropped in training; Stage B turns it off in every variant",
    )
    parser.add_argument(
        "--before",
        type=Path,
        help="checkout of an earlier commit of this suite, measured as the variant before (default: none is measured)",
    )
    parser.add_argument("--batches", type=at_least(1), default=8, help="number of training steps per measurement")
    parser.add_argument("--repeats", type=at_least(1), default=3, help="number of measurements per combination")
    parser.add_argument("--threads", type=at_least(1), default=1, help="number of CPU threads of each process")
    parser.add_argument("--batch_size", type=at_least(1), default=4, help="number of examples per step")
    parser.add_argument(
        "--seed", type=at_least(0), default=42, help="seed of the random weights, of the texts and of their order"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="device; auto uses CUDA if there is a GPU"
    )
    parser.add_argument("--memory_limit_gb", type=float, help="GPU memory of each process in GB (default: no limit)")
    parser.add_argument("--skip_differences", action="store_true", help="measure only speed and memory")
    parser.add_argument(
        "--output_file", type=Path, help="JSON file to write all measurements to (default: none is written)"
    )
    return parser.parse_args(argv)


def _lengths() -> str:
    """Return the mean lengths of every shape for the help text."""
    return ", ".join(f"{name} {shape.prompt} + {shape.answer}" for name, shape in SHAPES.items())


def dtypes_of(variant: str) -> tuple[str, ...]:
    """Return the dtypes that a variant supports. TRL computes in bfloat16 unless its settings say otherwise."""
    if variant in ("ours", "before"):
        return ("float32", "bfloat16", "4bit")
    if variant == "naive":
        return ("float32",)
    settings = TRL_SETTINGS[variant]
    is_float32 = settings.weights == "float32" and settings.config.get("bf16") is False
    return ("float32",) if is_float32 else ("bfloat16", "4bit")


def setups_of(args: argparse.Namespace) -> list[Setup]:
    """Return all combinations that the flags ask for; each stage, shape and model has its variants in a row."""
    settings = itertools.product(args.stage, args.shapes, args.parameters)
    variants = ["before", *args.variants] if args.before else args.variants
    return [
        Setup(stage, shape, model, variant, dtype)
        for stage, shape, model in settings
        for variant in variants
        for dtype in dtypes_of(variant)
        if dtype in args.dtypes
    ]


def check_setups(bench: Bench, setups: Sequence[Setup]) -> dict[Setup, Differences]:
    """Return the loss and gradient differences of each setup, or None for both if memory ran out."""
    plain: dict[tuple[str, str, str], dict[str, Any]] = {}
    found: dict[Setup, Differences] = {}
    for setup in setups:
        key = (setup.stage, setup.shape, setup.model)
        if key not in plain:
            plain[key] = bench.run(Setup(*key, "plain", "float32"), check=True)
        own = bench.run(setup, check=True)
        found[setup] = differences(own, plain[key]) if own and plain[key] else (None, None)
        print(f"checked   {setup}: differences of loss and gradient {found[setup]}", flush=True)
    return found


def differences(own: dict[str, Any], plain: dict[str, Any]) -> tuple[float, float]:
    """Return the difference of the loss in nats, and the relative difference of the gradients.

    The second is the largest difference of any element divided by the largest element of `plain`.
    """
    if own["tokens_sha256"] != plain["tokens_sha256"]:
        raise RunError("the libraries were trained on different tokens; nothing can be compared")
    if own["gradients"].keys() != plain["gradients"].keys():
        raise RunError("the libraries trained different LoRA tensors; nothing can be compared")
    pairs = [(own["gradients"][name], expected) for name, expected in plain["gradients"].items()]
    largest = max(expected.abs().max().item() for _, expected in pairs)
    apart = max((gradient - expected).abs().max().item() for gradient, expected in pairs)
    return abs(own["loss"] - plain["loss"]), apart / largest


def measure_setups(bench: Bench, setups: Sequence[Setup], repeats: int) -> dict[Setup, list[dict[str, Any]]]:
    """Measure every setup `repeats` times.

    The setups take turns, so a minute in which the machine is busy affects all of them.
    """
    found: dict[Setup, list[dict[str, Any]]] = {setup: [] for setup in setups}
    tokens: dict[tuple[str, str], str] = {}
    for repeat in range(1, repeats + 1):
        for setup in setups:
            result = bench.run(setup, check=False)
            found[setup].append(result)
            if not result:
                print(f"repeat {repeat}  {setup}: out of memory", flush=True)
                continue
            if tokens.setdefault((setup.stage, setup.shape), result["tokens_sha256"]) != result["tokens_sha256"]:
                raise RunError(f"{setup}: trained on other tokens than the variant before; nothing can be compared")
            speed, peak = tokens_per_second(result, "cpu"), result["peak_bytes"] / 1e6
            print(f"repeat {repeat}  {setup}: {speed:.1f} tokens/CPU-s, peak {peak:.0f} MB", flush=True)
    return found


def choose_device(name: str) -> str:
    """Return `cuda` or `cpu` for the value of --device."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA GPU here; pass --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def check_arguments(args: argparse.Namespace) -> None:
    """Raise InputError if the flags cannot be used together or a library is missing."""
    if args.memory_limit_gb is not None and not args.memory_limit_gb > 0:
        raise InputError(f"--memory_limit_gb {args.memory_limit_gb}: must be above 0")
    if not 0 <= args.lora_dropout < 1:
        raise InputError(f"--lora_dropout {args.lora_dropout}: must be at least 0 and below 1")
    if args.before:
        require_checkout(args.before, ("stage_a_sft_training.py", "stage_b_dpo_training.py"))
    if not setups_of(args):
        raise InputError(f"--dtypes {' '.join(args.dtypes)}: no variant of --variants supports it; add another dtype")
    missing = [package for package in ("trl", "datasets") if find_spec(package) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed; run: pip install trl")


def commit_before(measured: Mapping[Setup, Sequence[dict[str, Any]]]) -> str | None:
    """Return the commit that `before` ran, or None if it was not measured or its folder is no git checkout."""
    results = itertools.chain.from_iterable(found for setup, found in measured.items() if setup.variant == "before")
    return next((result["commit"] for result in results if result), None)


def main(args: argparse.Namespace) -> int:
    """Check and measure every setup, then print the table and the JSON document."""
    check_arguments(args)
    device = choose_device(args.device)
    if device == "cpu" and (args.memory_limit_gb or "4bit" in args.dtypes):
        raise InputError("--memory_limit_gb and --dtypes 4bit need a GPU; leave them out")
    setups = setups_of(args)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, device, Path(folder))
        checked = {} if args.skip_differences else check_setups(bench, setups)
        measured = measure_setups(bench, setups, args.repeats)
        ceiling = matrix_product_ceiling() if device == "cuda" else None
        records = [
            summarise(setup, bench.lora, bench.model(setup.model), results, checked.get(setup, (None, None)), ceiling)
            for setup, results in measured.items()
        ]
    found = ratios(records)
    document = {
        "hardware": hardware(device, args.threads, ceiling),
        "versions": package_versions(PACKAGES),
        "cases": records,
        "ratios": found,
    }
    if args.output_file:
        repeats = {str(setup): results for setup, results in measured.items()}
        settings = {name: value for name, value in vars(args).items() if name not in ("output_file", "before")}
        trl = {name: asdict(TRL_SETTINGS[name]) for name in args.variants if name in TRL_SETTINGS}
        commits = {"commit": commit(), "commit_before": commit_before(measured)}
        write_json(
            args.output_file, {**document, **commits, "arguments": settings, "trl_settings": trl, "repeats": repeats}
        )
        print(f"Wrote {args.output_file}")
    modules = " ".join(bench.lora.target_modules)
    print(f"LoRA r={LORA_R} on {modules}, dropout {bench.lora.dropout} (checks of differences and Stage B: 0)")
    print(table(records), *ratio_lines(found), json.dumps(document), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
