"""The whole chain: Stage A, preference data, Stage B, its control, and the evaluation of all of them.

In:  `--demo` (the embedded model and data), or a base model and a Phase 1 folder of your own.
Out: `--output_dir` with every stage's folder, its log under `logs/`, and `results.json`.

    python run_pipeline.py --demo
    python run_pipeline.py --model_name Qwen/Qwen2.5-1.5B --phase1_dir phase1_data/sft --output_dir runs/qwen --control

Every stage is one command of this suite, printed before it runs, so that each can be run again by hand. A stage that
has finished under the same command, on inputs that have not changed since, is skipped on a rerun. The control takes
Stage B's steps on the same chosen texts without the preference term: what Stage B adds is its distance to the control,
not to Stage A.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from model_loading import DEMO_BASE, DEVICES
from script_io import (
    EXIT_BAD_INPUT,
    ArgumentParser,
    InputError,
    RunError,
    read_json,
    read_jsonl,
    run_script,
    write_json,
    write_jsonl,
)
from training_run import provenance

ROOT = Path(__file__).resolve().parent
MODES = {"greedy": "0", "sampled": "0.7"}  # temperatures; 0.7 is the default of inference
HEADLINE = "sampled"  # named in advance: what people get who run inference as it comes
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """The flags that the pipeline passes on; empty ones leave a script its own defaults."""

    stage_a: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    stage_b: tuple[str, ...] = ("--nll_weight", "1")
    generation: tuple[str, ...] = ()


# A model of 3.5M parameters needs larger steps than one of 7B, for which the scripts' defaults are made. The weights of
# the two terms of Stage B were found by trying; benchmarks/RESULTS.md has the others.
DEMO_RECIPE = Recipe(
    stage_a=(
        "--learning_rate", "1e-3", "--num_epochs", "2", "--batch_size", "16", "--lora_dropout", "0",
        "--lora_target_modules", *LINEAR_LAYERS, "--eval_batch_size", "50",
    ),
    negatives=("--adversarial_ratio", "0.1"),
    sampling=("--num_completions", "8", "--temperature", "1.0", "--max_prompts", "300", "--batch_size", "128"),
    stage_b=(
        "--learning_rate", "2e-3", "--num_epochs", "3", "--batch_size", "16", "--beta", "0.1", "--nll_weight", "10",
        "--eval_batch_size", "50",
    ),
    generation=("--batch_size", "100"),
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data and model")
    data.add_argument("--demo", action="store_true", help="the embedded model and data, with settings of their own")
    data.add_argument("--model_name", help="base model, a folder or hub id; needed unless --demo")
    data.add_argument("--phase1_dir", default="phase1_data/sft", help="folder of the Phase 1 CSVs (%(default)s)")
    chain = parser.add_argument_group("Chain")
    chain.add_argument("--rounds", type=int, default=1, help="of sampling, judging and Stage B (default: 1)")
    chain.add_argument("--control", action="store_true", help="train the control too; always on for --demo")
    chain.add_argument("--overflow", choices=("drop", "shorten_note"), default="drop", help="for long notes (drop)")
    chain.add_argument("--max_length", type=int, default=512, help="tokens of an example (default: 512)")
    chain.add_argument("--max_examples", type=int, help="notes to evaluate on (default: all of the test split)")
    chain.add_argument("--device", choices=DEVICES, default="auto", help="passed to every script (default: auto)")
    chain.add_argument("--seed", type=int, default=42, help="of everything (default: 42)")
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", help="folder of the run (default: runs/demo for --demo, else runs/pipeline)")
    return parser.parse_args(argv)


@dataclass
class Pipeline:
    """Runs commands of the suite, each once, and notes how long each took."""

    args: argparse.Namespace
    recipe: Recipe
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, script: str, *arguments: str | Path) -> None:
        """Runs one script; skips it where the same command has finished before."""
        command = [script, *map(str, arguments)]
        marker = self.folder / "stages" / f"{name}.json"
        if (
            marker.exists()
            and read_json(marker)["command"] == command
            and newest(inputs_of(command)) <= newest([marker])
        ):
            self.seconds[name] = read_json(marker)["seconds"]
            print(f"[{name}] finished before, skipped")
            return
        print(f"[{name}] python {shlex.join(command)}", flush=True)
        marker.unlink(missing_ok=True)
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with log.open("w", encoding="utf-8") as handle:
            process = subprocess.run(
                [sys.executable, str(ROOT / script), *command[1:]], stdout=handle, stderr=subprocess.STDOUT, check=False
            )
        self.seconds[name] = round(time.perf_counter() - start, 1)
        if process.returncode:
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
            failure = InputError if process.returncode == EXIT_BAD_INPUT else RunError
            raise failure(f"{script} failed ({last[0].removeprefix('error: ')}); its whole output is in {log}")
        write_json(marker, {"command": command, "seconds": self.seconds[name]})
        print(f"[{name}] {self.seconds[name]:.0f} s", flush=True)

    def training(self, name: str) -> list[str]:
        """Flags of a training script: where to, how long, from which seed; an unfinished run of it starts anew."""
        common = ["--output_dir", str(self.folder / name), "--overwrite_output_dir", "--seed", str(self.args.seed)]
        length = ["--max_length", str(self.args.max_length), "--overflow", self.args.overflow]
        return [*common, *length, "--device", self.args.device]


OUTPUT_FLAGS = ("--output_dir", "--output_path", "--phase2_dir")


def inputs_of(command: Sequence[str]) -> list[Path]:
    """The files and folders that a command names and reads."""
    return [Path(word) for flag, word in pairwise(command) if flag not in OUTPUT_FLAGS and Path(word).exists()]


def newest(paths: Sequence[Path]) -> float:
    """When the last change was made to any of these files, or below these folders; seconds since 1970."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def stage_a(pipeline: Pipeline, phase1: Path, base: str) -> Path:
    """Trains the SFT adapter; returns its folder."""
    pipeline.run(
        "sft",
        "stage_a_sft_training.py",
        *("--model_name", base),
        *("--train_data_path", phase1 / "train_set_processed.csv"),
        *("--val_data_path", phase1 / "validation_set_processed.csv"),
        *pipeline.training("sft"),
        *pipeline.recipe.stage_a,
    )
    return pipeline.folder / "sft" / "final_model"


def preference_pairs(pipeline: Pipeline, phase1: Path, model: Path, number: int) -> Path:
    """Hard negatives and on-policy pairs of one round; returns the folder of `train.jsonl` and `val.jsonl`."""
    folder, seed = pipeline.folder / f"pairs_{number}", str(pipeline.args.seed + number)
    pipeline.run(
        f"negatives_{number}",
        "generate_phase2_data.py",
        *("--phase1_dir", phase1, "--phase2_dir", folder / "negatives", "--seed", seed),
        *pipeline.recipe.negatives,
    )
    completions = folder / "completions.jsonl"
    if completions.exists() and newest([model]) > newest([completions]):
        completions.unlink()  # of a model that has been trained anew since
        completions.with_suffix(".config.json").unlink(missing_ok=True)
    pipeline.run(
        f"completions_{number}",
        "generate_completions.py",
        *("--prompts_path", phase1 / "train_set_processed.csv", "--model_path", model),
        *("--output_path", completions, "--seed", seed, "--device", pipeline.args.device),
        *("--overflow", pipeline.args.overflow),
        *pipeline.recipe.sampling,
    )
    pipeline.run(
        f"judging_{number}",
        "judge_completions.py",
        *("--completions_path", completions, "--output_dir", folder / "on_policy", "--seed", seed),
    )
    for split in ("train", "val"):
        sources = (folder / "negatives" / f"{split}_dpo.jsonl", folder / "on_policy" / f"{split}.jsonl")
        joined = folder / f"{split}.jsonl"
        if not joined.exists() or newest(sources) > newest([joined]):
            rows = [row for path in sources for _, row in read_jsonl(path, ("prompt", "chosen", "rejected"))]
            write_jsonl(joined, rows)
    return folder


def stage_b(pipeline: Pipeline, name: str, model: Path, pairs: Path, *extra: str) -> Path:
    """Trains a policy against `model`; returns its folder."""
    pipeline.run(
        name,
        "stage_b_dpo_training.py",
        *("--sft_model_path", model),
        *("--train_data_path", pairs / "train.jsonl", "--val_data_path", pairs / "val.jsonl"),
        *pipeline.training(name),
        *pipeline.recipe.stage_b,
        *extra,
    )
    return pipeline.folder / name / "final_model"


def evaluate(pipeline: Pipeline, name: str, model: Path | str, phase1: Path) -> dict[str, Any]:
    """The figures of one model, greedy and sampled; on the demo also by the exact truth."""
    figures = {}
    limit = ["--max_examples", str(pipeline.args.max_examples)] if pipeline.args.max_examples else []
    for mode, temperature in MODES.items():
        folder = pipeline.folder / "evaluation" / f"{name}_{mode}"
        pipeline.run(
            f"evaluate_{name}_{mode}",
            "evaluation/evaluate_model.py",
            *("--model_path", model, "--test_data", phase1 / "test_set_processed.csv", "--output_dir", folder),
            *("--temperature", temperature, "--seed", str(pipeline.args.seed), "--device", pipeline.args.device),
            *("--overflow", pipeline.args.overflow),
            *pipeline.recipe.generation,
            *limit,
        )
        figures[mode] = read_json(folder / "evaluation_summary.json")
        if pipeline.args.demo:
            from demo.exact_truth import all_facts, exact_figures

            figures[mode]["exact"] = exact_figures(folder / "evaluation_results.csv", all_facts())
    return figures


def table(models: dict[str, dict[str, Any]], mode: str) -> str:
    """The figures of all models in one mode, aligned; by the exact truth where there is one."""
    exact = all("exact" in figures[mode] for figures in models.values())
    judge = "exact truth" if exact else next(iter(models.values()))[mode]["judge"]
    heading = f"{mode}, temperature {MODES[mode]}, judged by {judge}"
    header = (
        f"{'model':<8}  {'hallucination rate [95% CI]':<28}  {'facts correctly stated':<23}  {'words':>5}  {'n':>5}"
    )
    lines = [heading, header]
    for name, figures in models.items():
        row = figures[mode]["exact"] if exact else figures[mode]
        low, high = row["hallucination_rate_ci95"]
        rate = f"{row['hallucination_rate']:.1%} [{low:.1%}, {high:.1%}]"
        coverage = "n/a" if row["coverage"] is None else f"{row['coverage']:.1%}"
        lines.append(f"{name:<8}  {rate:<28}  {coverage:<23}  {row['mean_summary_words']:>5.1f}  {row['n']:>5}")
    return "\n".join(lines)


def check_arguments(args: argparse.Namespace) -> None:
    if args.demo == bool(args.model_name):
        raise InputError("pass either --demo or --model_name with a base model of yours")
    if args.rounds < 1:
        raise InputError(f"--rounds {args.rounds}: must be at least 1")
    for split in ("train", "validation", "test"):
        path = Path(args.phase1_dir) / f"{split}_set_processed.csv"
        if not path.exists():
            raise InputError(f"{path}: no such file; make the demo's data with: python demo/make_phase1_data.py")


def main(args: argparse.Namespace) -> int:
    if args.demo and args.phase1_dir == "phase1_data/sft":
        args.phase1_dir = str(ROOT / args.phase1_dir)  # from any working folder
    check_arguments(args)
    folder = Path(args.output_dir or ("runs/demo" if args.demo else "runs/pipeline"))
    pipeline = Pipeline(args, DEMO_RECIPE if args.demo else Recipe(), folder)
    phase1, base = Path(args.phase1_dir), str(DEMO_BASE) if args.demo else args.model_name
    sft = dpo = control = stage_a(pipeline, phase1, base)
    for number in range(1, args.rounds + 1):
        suffix = "" if number == args.rounds else f"_{number}"
        pairs = preference_pairs(pipeline, phase1, dpo, number)
        dpo = stage_b(pipeline, f"dpo{suffix}", dpo, pairs)
        if args.demo or args.control:
            without = ("--preference_weight", "0", "--nll_weight", "1")
            control = stage_b(pipeline, f"control{suffix}", control, pairs, *without)
    models = {
        name: evaluate(pipeline, name, path, phase1) for name, path in (("base", base), ("sft", sft), ("dpo", dpo))
    }
    results: dict[str, Any] = {"seed": args.seed, "headline": HEADLINE, "models": models}
    if control != sft:
        results["control"] = evaluate(pipeline, "control", control, phase1)
    write_json(folder / "results.json", {**results, "stages": pipeline.seconds, **provenance()})
    shown = models | ({"control": results["control"]} if "control" in results else {})
    print(f"\nResults: {folder / 'results.json'}; {sum(pipeline.seconds.values()) / 60:.1f} minutes of work")
    print(f"See them: {folder / 'evaluation' / 'dpo_greedy' / 'report.html'}\n")
    modes = [mode for mode in MODES if mode != HEADLINE] + [HEADLINE]  # the headline last
    print("\n\n".join(table(shown, mode) for mode in modes))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
