"""Compare the speed of sampling several completions per prompt with `generate` and with an earlier commit, on a CPU.

In:  nothing; random models and texts of given lengths are made in a temporary folder. `demo` is the demo's base model.
Out: on stdout one line per measurement, a table, and one JSON document as the last line; with --output_file the
     document as a file.

    python benchmarks/compare_sampling.py --parameters 135M
    python benchmarks/compare_sampling.py --parameters 135M demo --dtypes default bfloat16 --before ../earlier_commit

Variants, all with the same weights, prompts, batch size, temperature, and with the whole vocabulary to sample from:
  ours      LocalSampler of language_model/local_sampler.py
  generate  `generate` of transformers with num_return_sequences, left padding and its default cache
  before    LocalSampler of the checkout that --before names; make one with: git worktree add FOLDER COMMIT

Every completion has --new_tokens tokens: random weights end a text at no natural rate, so no token ends one here. That
leaves out what continuous batching gains where lengths differ. Speed is the number of new tokens per second of wall
time, prompts included, loading and a first call of two tokens excluded; other processes on the machine disturb the
second figure, tokens per CPU second, less. Each measurement has its own process, and the variants take turns. The table
shows medians of the repeats, and ratios of the medians. The dtype `default` is what each variant chooses on its own:
ours measures, before takes float32, and generate takes the dtype of the stored weights, here float32.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.earlier_checkout import require_checkout
from benchmarks.trl_inputs import MODELS, Shape, TextWriter
from benchmarks.trl_report import hardware
from language_model.model_files import DEMO_BASE
from language_model.prompt_format import build_prompt
from script_io.errors import ArgumentParser, RunError, at_least, run_script
from script_io.files import read_json, write_json
from script_io.provenance import commit, package_versions

WORKER = Path(__file__).with_name("sampling_worker.py")
# The shapes of benchmarks/trl_inputs.py; 135M is SmolLM2-135M with its own vocabulary and tied head.
SHAPES = {
    "tiny": MODELS["tiny"],
    "58M": MODELS["58M"],
    "135M": MODELS["135M"] | {"vocab_size": 49152, "tie_word_embeddings": True},
}
VARIANTS = ("ours", "generate")
TEMPERATURE = 0.9
PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Setup:
    """A combination to measure; the dtype `default` is left to the variant."""

    model: str
    dtype: str
    variant: str


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--parameters", nargs="+", choices=(*SHAPES, "demo"), default=["135M"], help="sizes of the model in parameters"
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="samplers to measure")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="checkout of an earlier commit to measure too (default: none)"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("default", "float32", "bfloat16"),
        default=["default"],
        help="dtypes of the computation; default: what each variant chooses",
    )
    parser.add_argument("--prompts", type=at_least(1), default=16, help="number of prompts")
    parser.add_argument("--prompt_tokens", type=at_least(40), default=220, help="mean number of tokens of a prompt")
    parser.add_argument("--completions", type=at_least(1), default=8, help="number of completions per prompt")
    parser.add_argument("--new_tokens", type=at_least(1), default=80, help="number of tokens of every completion")
    parser.add_argument("--batch_size", type=at_least(1), default=64, help="sequences at a time")
    parser.add_argument("--threads", type=at_least(1), default=1, help="number of CPU threads of each process")
    parser.add_argument("--repeats", type=at_least(1), default=3, help="number of measurements per combination")
    parser.add_argument("--seed", type=at_least(0), default=42, help="seed of the random weights, texts and samples")
    parser.add_argument(
        "--output_file", type=Path, help="JSON file to write the document to (default: none is written)"
    )
    return parser.parse_args(argv)


def setups_of(args: argparse.Namespace) -> list[Setup]:
    """Return all combinations that the flags ask for; the variants of a model and dtype are in a row."""
    variants = [*args.variants, "before"] if args.before else list(args.variants)
    return [Setup(*each) for each in itertools.product(args.parameters, args.dtypes, variants)]


def build_model(name: str, folder: Path, seed: int) -> str:
    """Return the demo's base model, or save a model of random weights with the demo's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from language_model.loading import load_tokenizer

    if name == "demo":
        return str(DEMO_BASE)
    disable_progress_bar()
    tokenizer = load_tokenizer(DEMO_BASE)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("pad", "bos", "eos")}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**SHAPES[name], **ends), dtype=torch.float32)
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return str(folder / name)


def prompts_of(args: argparse.Namespace) -> list[str]:
    """Return prompts of random words; their lengths vary as in benchmarks/compare_trl.py."""
    from language_model.loading import load_tokenizer

    writer = TextWriter(load_tokenizer(DEMO_BASE), random.Random(args.seed))
    shape = Shape(args.prompt_tokens, args.new_tokens)
    return [build_prompt(writer.triplet(f"p{number}", shape)["note"]) for number in range(args.prompts)]


def measure(setup: Setup, model: str, prompts: Sequence[str], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the result of the worker in a new process. Raises RunError if it fails."""
    job = {name: getattr(args, name) for name in ("completions", "new_tokens", "batch_size", "threads", "seed")}
    dtype = None if setup.dtype == "default" else setup.dtype
    job |= {"variant": setup.variant, "dtype": dtype, "model": model, "prompts": prompts, "temperature": TEMPERATURE}
    write_json(folder / "job.json", job)
    suite = {"SUITE_FOLDER": str(args.before.resolve())} if setup.variant == "before" else {}
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, str(WORKER), str(folder / "job.json"), str(folder / "result.json")]
    done = subprocess.run(command, env=environment | suite, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{setup}: the worker failed: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = read_json(folder / "result.json")
    expected = len(prompts) * args.completions * args.new_tokens
    if result["tokens"] != expected:
        raise RunError(f"{setup}: sampled {result['tokens']} tokens in place of {expected}; nothing can be compared")
    return result


def case_of(setup: Setup, results: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return the medians of the repeats of one combination."""
    shape = {name: getattr(args, name) for name in ("prompts", "prompt_tokens", "completions", "new_tokens")}
    return {
        "variant": setup.variant,
        "model": setup.model,
        "model_parameters": results[0]["model_parameters"],
        "dtype": setup.dtype,
        "computed_in": results[0]["computed_in"],
        "tokens_per_second": median(result["tokens"] / result["seconds"] for result in results),
        "tokens_per_cpu_second": median(result["tokens"] / result["cpu_seconds"] for result in results),
        **shape,
        "batch_size": args.batch_size,
        "seconds": [result["seconds"] for result in results],
        "cpu_seconds": [result["cpu_seconds"] for result in results],
    }


def ratios(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the speed of ours divided by the speed of each other variant, for every model and dtype."""
    ours = {(case["model"], case["dtype"]): case for case in cases if case["variant"] == "ours"}
    speeds = ("tokens_per_second", "tokens_per_cpu_second")
    return [
        {"model": case["model"], "dtype": case["dtype"], "over": case["variant"]}
        | {name: ours[case["model"], case["dtype"]][name] / case[name] for name in speeds}
        for case in cases
        if case["variant"] != "ours" and (case["model"], case["dtype"]) in ours
    ]


def print_table(document: Mapping[str, Any]) -> None:
    """Print the medians and their ratios."""
    print(f"\n{'model':6} {'dtype':9} {'variant':9} {'computed in':11} {'tokens/s':>9} {'tokens/CPU s':>13}")
    for case in document["cases"]:
        names = f"{case['model']:6} {case['dtype']:9} {case['variant']:9} {case['computed_in']:11}"
        print(f"{names} {case['tokens_per_second']:9.1f} {case['tokens_per_cpu_second']:13.1f}")
    for ratio in document["ratios"]:
        times = f"{ratio['tokens_per_second']:.1f} ({ratio['tokens_per_cpu_second']:.1f} by CPU time)"
        print(f"{ratio['model']}, {ratio['dtype']}: ours is {times} times as fast as {ratio['over']}")


def main(args: argparse.Namespace) -> int:
    """Measure all combinations in turns, and print the table and the document."""
    if args.before:
        require_checkout(args.before, ("language_model/local_sampler.py",))
    setups = setups_of(args)
    results: dict[Setup, list[dict[str, Any]]] = {setup: [] for setup in setups}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {model: build_model(model, folder, args.seed) for model in dict.fromkeys(args.parameters)}
        prompts = prompts_of(args)
        for repeat, setup in itertools.product(range(args.repeats), setups):
            result = measure(setup, models[setup.model], prompts, args, folder)
            results[setup].append(result)
            speed = result["tokens"] / result["seconds"]
            print(f"{repeat + 1}: {setup.model} {setup.dtype} {setup.variant}: {speed:.1f} tokens/s", flush=True)
    cases = [case_of(setup, found, args) for setup, found in results.items()]
    document = {
        "cases": cases,
        "ratios": ratios(cases),
        "hardware": hardware("cpu", args.threads, None),
        "commit": commit(),
        "versions": package_versions(PACKAGES),
    }
    print_table(document)
    if args.output_file:
        write_json(args.output_file, document)
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
