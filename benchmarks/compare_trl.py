"""Speed, memory and exactness of both stages beside TRL, and beside the loop that one writes first.

In:  nothing; models of random weights, an adapter and data of given lengths are made in a temporary folder.
Out: on stdout a line for each measurement, a table, and as the last line one JSON document; with --output_file the
     same with every repeat, the settings and the commit.

    python benchmarks/compare_trl.py --stage dpo --shapes clinical --parameters 58M
    python benchmarks/compare_trl.py --stage dpo --shapes clinical --parameters 7B --dtypes 4bit --memory_limit_gb 12

Variants, all with the same weights, LoRA (r=16 on q_proj and v_proj), batches and order of the examples:
  ours         the stage's script: its parse_args, prepare and train_loop
  trl_default  TRL's trainer with its defaults; set are --batch_size, the learning rate, a maximum length that cuts no
               example, the order of the examples, no saving, and on a CPU use_cpu
  trl_best     the fastest settings found for its default attention: base in bfloat16, no checkpointing, precomputed
               reference, in Stage A no padding unless examples are long, glibc's malloc told to keep freed memory
  trl_fp32     those in float32
  naive        two whole models, four forward passes padded to the maximum length, logits of every position
Speed counts useful tokens (prompt, chosen and rejected once) over the time of the whole loop: the optimiser, logging,
and of ours the end of an epoch with one short example and a checkpoint. Half of a reference pass made ahead is added,
since two epochs, the default, share one. What comes before, such as loading, is left out. Memory is the peak of the
whole process with its imports, loading and the reference pass; on CUDA that of the allocator. Every measurement is a
process of its own, the variants take turns, and medians over the repeats are given. Variant names beyond those above
lead to the best settings.
Differences are those of the first batch from a plain float32 computation, a row at a time without padding, at an
adapter that has moved away from the reference: of the loss in nats, and of the LoRA gradients the largest of any
element, as a part of the largest element. A GPU adds the utilisation: the arithmetic that a useful token needs over
that of a large product of matrices in the same time; in 4bit the differences hold those of the quantisation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.trl_inputs import MODELS, SHAPES, Data, Model, build_model, write_data
from benchmarks.trl_job import Job
from benchmarks.trl_report import (
    Case,
    Differences,
    hardware,
    matrix_product_ceiling,
    ratios,
    summarise,
    table,
    tokens_per_second,
)
from benchmarks.trl_variants import TRL_SETTINGS
from script_io.errors import ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import read_json, write_json
from script_io.provenance import commit, package_versions

WORKER = Path(__file__).with_name("trl_worker.py")
VARIANTS = ("ours", "trl_default", "trl_best", "trl_fp32", "naive")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "datasets", "bitsandbytes")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stage", nargs="+", choices=("dpo", "sft"), default=["dpo", "sft"], help="(default: both)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="lengths (default: all)")
    variants = [*VARIANTS, *(name for name in TRL_SETTINGS if name not in VARIANTS)]
    parser.add_argument("--variants", nargs="+", choices=variants, default=VARIANTS, help="(default: the five above)")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("float32", "bfloat16", "4bit"),
        default=["float32", "bfloat16"],
        help="of the computation; a variant of another dtype is left out (default: float32 bfloat16)",
    )
    parser.add_argument("--parameters", nargs="+", choices=MODELS, default=["58M", "135M"], help="(default: 58M 135M)")
    parser.add_argument("--batches", type=int, default=8, help="steps of one measurement (default: 8)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each case (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: 1)")
    parser.add_argument("--batch_size", type=int, default=4, help="examples of a step (default: 4)")
    parser.add_argument("--seed", type=at_least(0), default=42, help="of weights, texts and order (default: 42)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA, else CPU)")
    parser.add_argument("--memory_limit_gb", type=float, help="of GPU memory, for each process (default: none)")
    parser.add_argument("--skip_differences", action="store_true", help="measure speed and memory only (default: off)")
    parser.add_argument("--output_file", type=Path, help="JSON file for all that was measured (default: none)")
    return parser.parse_args(argv)


def dtypes_of(variant: str) -> tuple[str, ...]:
    """What a variant is measured in; TRL's computes in bfloat16 unless its settings say otherwise."""
    if variant == "ours":
        return ("float32", "bfloat16", "4bit")
    if variant == "naive":
        return ("float32",)
    settings = TRL_SETTINGS[variant]
    is_float32 = settings.weights == "float32" and settings.config.get("bf16") is False
    return ("float32",) if is_float32 else ("bfloat16", "4bit")


def cases_of(args: argparse.Namespace) -> list[Case]:
    """All cases asked for, those of one stage, shape and model side by side."""
    settings = itertools.product(args.stage, args.shapes, args.parameters)
    return [
        Case(stage, shape, model, variant, dtype)
        for stage, shape, model in settings
        for variant in args.variants
        for dtype in dtypes_of(variant)
        if dtype in args.dtypes
    ]


class Bench:
    """Runs measurements on inputs that are made once, in a temporary folder."""

    def __init__(self, args: argparse.Namespace, device: str, folder: Path) -> None:
        self.args, self.device, self.folder = args, device, folder
        self.models: dict[str, Model] = {}
        self.data: dict[tuple[str, str], Data] = {}

    def model(self, name: str) -> Model:
        if name not in self.models:
            self.models[name] = build_model(name, self.folder / name, self.args.seed)
        return self.models[name]

    def data_of(self, case: Case) -> Data:
        key = (case.stage, case.shape)
        if key not in self.data:
            args, folder = self.args, self.folder / "-".join(key)
            self.data[key] = write_data(
                case.stage, SHAPES[case.shape], args.batches, args.batch_size, folder, args.seed
            )
        return self.data[key]

    def job(self, case: Case, folder: str, *, check: bool) -> Job:
        model, data = self.model(case.model), self.data_of(case)
        return Job(
            stage=case.stage,
            variant=case.variant,
            dtype=case.dtype,
            device=self.device,
            base=model.base,
            adapter=model.adapter,
            train=data.check if check else data.train,
            val=data.val,
            max_length=data.max_length,
            batch_size=self.args.batch_size,
            epochs=2 if check else 1,  # the first batch twice: see Probe
            check=check,
            seed=self.args.seed,
            memory_limit_gb=self.args.memory_limit_gb,
            folder=folder,
        )

    def run(self, case: Case, *, check: bool) -> dict[str, Any]:
        """What the worker found, with the LoRA gradients where it checked; empty where memory did not suffice."""
        from safetensors.torch import load_file

        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            job, result = Path(folder, "job.json"), Path(folder, "result.json")
            write_json(job, asdict(self.job(case, folder, check=check)))
            command = [sys.executable, str(WORKER), str(job), str(result)]
            done = subprocess.run(
                command, env=self._environment(case, folder), capture_output=True, text=True, check=False
            )
            if done.returncode == -signal.SIGKILL or (done.returncode and "OutOfMemoryError" in done.stderr):
                return {}  # Linux kills the process that asks for more than there is; CUDA's allocator raises
            if done.returncode:
                raise RunError(f"{case}: {' '.join(done.stderr.strip().splitlines()[-1:]) or 'no message'}")
            found: dict[str, Any] = read_json(result)
            return found | ({"gradients": load_file(result.with_suffix(".safetensors"))} if check else {})

    def _environment(self, case: Case, folder: str) -> dict[str, str]:
        settings = TRL_SETTINGS.get(case.variant)
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{folder}/cache", "TQDM_DISABLE": "1"}
        threads = {"OMP_NUM_THREADS": str(self.args.threads), "TOKENIZERS_PARALLELISM": "false"}
        return {**os.environ, **offline, **threads, **(settings.environment if settings else {})}


def check_cases(bench: Bench, cases: Sequence[Case]) -> dict[Case, Differences]:
    """Loss and gradient difference of each case; None where memory did not suffice."""
    plain: dict[tuple[str, str, str], dict[str, Any]] = {}
    found: dict[Case, Differences] = {}
    for case in cases:
        key = (case.stage, case.shape, case.model)
        if key not in plain:
            plain[key] = bench.run(Case(*key, "plain", "float32"), check=True)
        own = bench.run(case, check=True)
        found[case] = differences(own, plain[key]) if own and plain[key] else (None, None)
        print(f"checked   {case}: differences of loss and gradient {found[case]}", flush=True)
    return found


def differences(own: dict[str, Any], plain: dict[str, Any]) -> tuple[float, float]:
    """Of the loss in nats; and the largest of any gradient's element, as a part of the largest element."""
    if own["tokens_sha256"] != plain["tokens_sha256"]:
        raise RunError("the libraries were trained on different tokens; nothing can be compared")
    if own["gradients"].keys() != plain["gradients"].keys():
        raise RunError("the libraries trained different LoRA tensors; nothing can be compared")
    pairs = [(own["gradients"][name], expected) for name, expected in plain["gradients"].items()]
    largest = max(expected.abs().max().item() for _, expected in pairs)
    apart = max((gradient - expected).abs().max().item() for gradient, expected in pairs)
    return abs(own["loss"] - plain["loss"]), apart / largest


def measure_cases(bench: Bench, cases: Sequence[Case], repeats: int) -> dict[Case, list[dict[str, Any]]]:
    """Every case `repeats` times, the cases taking turns, so that a busy minute meets them all."""
    found: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    tokens: dict[tuple[str, str], str] = {}
    for repeat in range(1, repeats + 1):
        for case in cases:
            result = bench.run(case, check=False)
            found[case].append(result)
            if not result:
                print(f"repeat {repeat}  {case}: out of memory", flush=True)
                continue
            if tokens.setdefault((case.stage, case.shape), result["tokens_sha256"]) != result["tokens_sha256"]:
                raise RunError(f"{case}: trained on other tokens than the variant before; nothing can be compared")
            speed, peak = tokens_per_second(result, "cpu"), result["peak_bytes"] / 1e6
            print(f"repeat {repeat}  {case}: {speed:.1f} tokens/CPU-s, peak {peak:.0f} MB", flush=True)
    return found


def choose_device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine or this torch build has none; pass --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def check_arguments(args: argparse.Namespace) -> None:
    for name in ("batches", "repeats", "threads", "batch_size"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 1")
    if args.memory_limit_gb is not None and not args.memory_limit_gb > 0:
        raise InputError(f"--memory_limit_gb {args.memory_limit_gb}: must be above 0")
    if not cases_of(args):
        raise InputError(f"--dtypes {' '.join(args.dtypes)}: no variant asked for is measured in it; add another dtype")
    missing = [package for package in ("trl", "datasets") if find_spec(package) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed; run: pip install trl")


def main(args: argparse.Namespace) -> int:
    """Checks and measures every case, then prints the table and the JSON document."""
    check_arguments(args)
    device = choose_device(args.device)
    if device == "cpu" and (args.memory_limit_gb or "4bit" in args.dtypes):
        raise InputError("--memory_limit_gb and --dtypes 4bit need a GPU; leave them out")
    cases = cases_of(args)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, device, Path(folder))
        checked = {} if args.skip_differences else check_cases(bench, cases)
        measured = measure_cases(bench, cases, args.repeats)
        ceiling = matrix_product_ceiling() if device == "cuda" else None
        records = [
            summarise(case, bench.model(case.model), results, checked.get(case, (None, None)), ceiling)
            for case, results in measured.items()
        ]
    document = {
        "hardware": hardware(device, args.threads, ceiling),
        "versions": package_versions(PACKAGES),
        "cases": records,
    }
    if args.output_file:
        repeats = {str(case): results for case, results in measured.items()}
        settings = {name: value for name, value in vars(args).items() if name != "output_file"}
        trl = {name: asdict(TRL_SETTINGS[name]) for name in args.variants if name in TRL_SETTINGS}
        write_json(
            args.output_file,
            {**document, "commit": commit(), "arguments": settings, "trl_settings": trl, "repeats": repeats},
        )
        print(f"Wrote {args.output_file}")
    print(table(records), ratios(records), json.dumps(document), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
