"""The whole chain: Stage A, preference data, Stage B, its control, and the evaluation of all of them.

In:  `--demo` (the embedded model and data), or a base model and a Phase 1 folder of your own.
Out: `--output_dir` with every stage's folder, its log under `logs/`, and `results.json`, which says whether Stage B is
     accepted.

    python run_pipeline.py --demo --rounds 2
    python run_pipeline.py --model_name Qwen/Qwen2.5-1.5B --phase1_dir phase1_data/sft --output_dir runs/qwen --control

Every stage is one command of this suite, printed before it runs, so that each can be run again by hand. A stage that
has finished under the same command, on inputs that have not changed since, is skipped on a rerun. The control takes
Stage B's steps on the same chosen texts without the preference term: what Stage B adds is its distance to the control,
not to Stage A. In a second round the policy of the first one writes the completions and is the reference.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluation.acceptance import SMALL_BOUNDS, Bounds, Check, acceptance, is_accepted, verdict
from language_model.model_files import DEMO_BASE
from language_model.placement import DEVICES
from script_io.csv_files import read_csv, write_csv
from script_io.errors import EXIT_BAD_INPUT, EXIT_FAILED, ArgumentParser, InputError, RunError, run_script
from script_io.files import read_json, write_json
from script_io.provenance import provenance

ROOT = Path(__file__).resolve().parent
MODES = {"greedy": "0", "sampled": "0.7"}  # temperatures; 0.7 is the default of inference
HEADLINE = "sampled"  # named in advance: what people get who run inference as it comes
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """The flags that the pipeline passes on, and what it asks of the result; no flags: a script's own defaults."""

    stage_a: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    stage_b: tuple[str, ...] = ("--nll_weight", "1")
    data_weights: tuple[float, float] | None = None  # of hard negatives and on-policy pairs; None: all pairs once
    generation: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    examples: Mapping[str, int] | None = None  # of each Phase 1 split, from its top; None: all
    brief: bool = False  # neither base nor control, and the headline's mode alone


_OF_A_TINY_STAGE_A = (
    "--batch_size", "16", "--lora_dropout", "0", "--lora_target_modules", *LINEAR_LAYERS, "--eval_batch_size", "50",
)  # fmt: skip

# A model of 3.5M parameters needs larger steps than one of 7B, for which the scripts' defaults are made. The weights of
# the two terms of Stage B were found by trying; benchmarks/RESULTS.md has the others.
DEMO_RECIPE = Recipe(
    stage_a=("--learning_rate", "4e-3", "--num_epochs", "4", "--early_stopping_patience", "2", *_OF_A_TINY_STAGE_A),
    negatives=("--adversarial_ratio", "0.1"),
    sampling=(
        "--num_completions", "8", "--temperature", "1.0", "--max_prompts", "800", "--max_new_tokens", "100",
        "--batch_size", "128",
    ),
    stage_b=(
        "--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "16", "--beta", "1", "--nll_weight", "10",
        "--eval_batch_size", "50",
    ),
    data_weights=(0.1, 0.9),
    generation=("--batch_size", "128"),
)  # fmt: skip

# Enough to see the drop, for machines that test every change; with half of the notes Stage B has too few pairs.
SMALL_RECIPE = Recipe(
    stage_a=("--learning_rate", "2e-3", "--num_epochs", "1", *_OF_A_TINY_STAGE_A),
    negatives=("--adversarial_ratio", "0.1"),
    sampling=(
        "--num_completions", "6", "--temperature", "1.0", "--max_prompts", "80", "--batch_size", "128",
        "--max_new_tokens", "64",
    ),
    stage_b=(
        "--learning_rate", "2e-3", "--num_epochs", "3", "--batch_size", "16", "--beta", "0.1", "--nll_weight", "10",
        "--eval_batch_size", "50",
    ),
    data_weights=(0.1, 0.9),
    generation=("--batch_size", "100", "--max_new_tokens", "64"),
    bounds=SMALL_BOUNDS,
    examples={"train": 600, "validation": 16, "test": 80},
    brief=True,
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data and model")
    data.add_argument("--demo", action="store_true", help="the embedded model and data, with settings of their own")
    data.add_argument(
        "--small", action="store_true", help="with --demo: little data, few steps, looser bounds; no control"
    )
    data.add_argument("--model_name", help="base model, a folder or hub id; needed unless --demo")
    data.add_argument("--phase1_dir", default="phase1_data/sft", help="folder of the Phase 1 CSVs (%(default)s)")
    chain = parser.add_argument_group("Chain")
    chain.add_argument("--rounds", type=int, default=1, help="of sampling, judging and Stage B (default: 1)")
    chain.add_argument(
        "--control", action="store_true", help="train the control too; always on for --demo, not for --small"
    )
    chain.add_argument("--no_base", action="store_true", help="leave the untrained base out of the evaluation")
    chain.add_argument("--overflow", choices=("drop", "shorten_note"), default="drop", help="for long notes (drop)")
    chain.add_argument("--max_length", type=int, default=512, help="tokens of an example (default: 512)")
    chain.add_argument("--max_examples", type=int, help="notes to evaluate on (default: all of the test split)")
    chain.add_argument("--device", choices=DEVICES, default="auto", help="passed to every script (default: auto)")
    chain.add_argument("--seed", type=int, default=42, help="of everything (default: 42)")
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir", help="folder of the run (default: runs/demo or runs/demo_small for --demo, else runs/pipeline)"
    )
    output.add_argument(
        "--require_acceptance", action="store_true", help="exit code 1 where Stage B is not accepted (default: 0)"
    )
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
        code = launch(command, log)
        self.seconds[name] = round(time.perf_counter() - start, 1)
        if code:
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
            failure = InputError if code == EXIT_BAD_INPUT else RunError
            raise failure(f"{script} failed ({last[0].removeprefix('error: ')}); its whole output is in {log}")
        write_json(marker, {"command": command, "seconds": self.seconds[name]})
        print(f"[{name}] {self.seconds[name]:.0f} s", flush=True)

    def training(self, name: str) -> list[str]:
        """Flags of a training script: where to, how long, from which seed; an unfinished run of it starts anew."""
        common = ["--output_dir", str(self.folder / name), "--overwrite_output_dir", "--seed", str(self.args.seed)]
        length = ["--max_length", str(self.args.max_length), "--overflow", self.args.overflow]
        return [*common, *length, "--device", self.args.device]


def launch(command: Sequence[str], log: Path) -> int:
    """Runs a script of the suite, all that it prints going to `log`; returns its exit code."""
    words = [sys.executable, str(ROOT / command[0]), *command[1:]]
    with log.open("w", encoding="utf-8") as handle:
        return subprocess.run(words, stdout=handle, stderr=subprocess.STDOUT, check=False).returncode


OUTPUT_FLAGS = ("--output_dir", "--output_path", "--phase2_dir")


def inputs_of(command: Sequence[str]) -> list[Path]:
    """The files and folders that a command names and reads."""
    return [Path(word) for flag, word in pairwise(command) if flag not in OUTPUT_FLAGS and Path(word).exists()]


def newest(paths: Sequence[Path]) -> float:
    """When the last change was made to any of these files, or below these folders; seconds since 1970."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


@dataclass(frozen=True)
class Pairs:
    """The files of one round's preference pairs."""

    train: tuple[Path, ...]
    val: tuple[Path, ...]


def top_of(phase1: Path, examples: Mapping[str, int], folder: Path) -> Path:
    """A Phase 1 folder with the first rows of each split; written where it differs from what is there."""
    for split, count in examples.items():
        name = f"{split}_set_processed.csv"
        rows = [row for _, row in read_csv(phase1 / name, ())][:count]
        if not (folder / name).exists() or [row for _, row in read_csv(folder / name, ())] != rows:
            write_csv(folder / name, list(rows[0]), rows)
    return folder


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


def preference_pairs(pipeline: Pipeline, phase1: Path, model: Path, number: int) -> Pairs:
    """Hard negatives and on-policy pairs of one round, the latter from what `model` writes."""
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
        *("--completions_path", completions, "--output_dir", folder / "on_policy"),
        *("--seed", str(pipeline.args.seed + 1)),  # the same in every round: what validates in one trains in no other
    )
    negatives, on_policy = folder / "negatives", folder / "on_policy"
    validation = (negatives / "val_dpo.jsonl", on_policy / "val.jsonl")
    # of a handful of on-policy pairs none may be left for validation
    return Pairs(
        (negatives / "train_dpo.jsonl", on_policy / "train.jsonl"),
        tuple(path for path in validation if path.stat().st_size),
    )


def stage_b(pipeline: Pipeline, name: str, model: Path, pairs: Pairs, flags: Sequence[str]) -> Path:
    """Trains a policy against `model`; returns its folder."""
    weights = pipeline.recipe.data_weights
    pipeline.run(
        name,
        "stage_b_dpo_training.py",
        *("--sft_model_path", model),
        *("--train_data_path", *map(str, pairs.train), "--val_data_path", *map(str, pairs.val)),
        *(["--data_weights", *map(str, weights)] if weights else []),
        *pipeline.training(name),
        *flags,
    )
    return pipeline.folder / name / "final_model"


def train_models(pipeline: Pipeline, phase1: Path, base: str) -> dict[str, Path | str]:
    """All stages of training; returns the models to evaluate, by name."""
    args, recipe = pipeline.args, pipeline.recipe
    sft = dpo = control = stage_a(pipeline, phase1, base)
    for number in range(1, args.rounds + 1):
        suffix = "" if number == args.rounds else f"_{number}"
        pairs = preference_pairs(pipeline, phase1, dpo, number)
        dpo = stage_b(pipeline, f"dpo{suffix}", dpo, pairs, recipe.stage_b)
        if args.control or (args.demo and not recipe.brief):
            without = ("--preference_weight", "0", "--nll_weight", "1")
            control = stage_b(pipeline, f"control{suffix}", control, pairs, (*recipe.stage_b, *without))
    models: dict[str, Path | str] = {} if recipe.brief or args.no_base else {"base": base}
    models |= {"sft": sft, "dpo": dpo}
    return models if control == sft else models | {"control": control}


def evaluate(pipeline: Pipeline, name: str, model: Path | str, phase1: Path) -> dict[str, Any]:
    """The figures of one model in each mode; on the demo also by the exact truth."""
    figures = {}
    limit = ["--max_examples", str(pipeline.args.max_examples)] if pipeline.args.max_examples else []
    for mode in modes_of(pipeline.recipe):
        folder = pipeline.folder / "evaluation" / f"{name}_{mode}"
        pipeline.run(
            f"evaluate_{name}_{mode}",
            "evaluation/evaluate_model.py",
            *("--model_path", model, "--test_data", phase1 / "test_set_processed.csv", "--output_dir", folder),
            *("--temperature", MODES[mode], "--seed", str(pipeline.args.seed), "--device", pipeline.args.device),
            *("--overflow", pipeline.args.overflow),
            *pipeline.recipe.generation,
            *limit,
        )
        figures[mode] = read_json(folder / "evaluation_summary.json")
        if pipeline.args.demo:
            from demo.exact_truth import all_facts, exact_figures

            figures[mode]["exact"] = exact_figures(folder / "evaluation_results.csv", all_facts())
    return figures


def modes_of(recipe: Recipe) -> list[str]:
    """The modes to evaluate in, the headline's last."""
    return [*([] if recipe.brief else [mode for mode in MODES if mode != HEADLINE]), HEADLINE]


def best_truth(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures by the exact truth where there is one, else those of the judge."""
    exact: dict[str, Any] = figures.get("exact", figures)
    return exact


def table(models: dict[str, dict[str, Any]], mode: str) -> str:
    """The figures of all models in one mode, aligned; by the exact truth where there is one."""
    judge = best_truth(next(iter(models.values()))[mode])["judge"]
    heading = f"{mode}, temperature {MODES[mode]}, judged by {'exact truth' if judge == 'exact' else judge}"
    header = (
        f"{'model':<8}  {'hallucination rate [95% CI]':<28}  {'facts correctly stated':<23}  {'words':>5}  {'n':>5}"
    )
    lines = [heading, header]
    for name, figures in models.items():
        row = best_truth(figures[mode])
        low, high = row["hallucination_rate_ci95"]
        rate = f"{row['hallucination_rate']:.1%} [{low:.1%}, {high:.1%}]"
        coverage = "n/a" if row["coverage"] is None else f"{row['coverage']:.1%}"
        lines.append(f"{name:<8}  {rate:<28}  {coverage:<23}  {row['mean_summary_words']:>5.1f}  {row['n']:>5}")
    return "\n".join(lines)


def check_arguments(args: argparse.Namespace) -> None:
    if args.demo == bool(args.model_name):
        raise InputError("pass either --demo or --model_name with a base model of yours")
    if args.small and not args.demo:
        raise InputError("--small is a smaller --demo; pass both, or leave it out")
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
    demo_folder = "runs/demo_small" if args.small else "runs/demo"
    folder = Path(args.output_dir or (demo_folder if args.demo else "runs/pipeline"))
    recipe = SMALL_RECIPE if args.small else DEMO_RECIPE if args.demo else Recipe()
    pipeline = Pipeline(args, recipe, folder)
    phase1, base = Path(args.phase1_dir), str(DEMO_BASE) if args.demo else args.model_name
    if recipe.examples:
        phase1 = top_of(phase1, recipe.examples, folder / "phase1")
    trained = train_models(pipeline, phase1, base)
    figures = {name: evaluate(pipeline, name, path, phase1) for name, path in trained.items()}
    checks = {
        mode: acceptance(best_truth(figures["sft"][mode]), best_truth(figures["dpo"][mode]), recipe.bounds)
        for mode in modes_of(recipe)
    }
    results: dict[str, Any] = {
        "seed": args.seed,
        "headline": HEADLINE,
        "accepted": is_accepted(checks[HEADLINE]),
        "acceptance": {mode: [check.as_dict() for check in checks[mode]] for mode in checks},
        "models": {name: figures[name] for name in figures if name != "control"},
    }
    if "control" in figures:
        results["control"] = figures["control"]
    write_json(folder / "results.json", {**results, "stages": pipeline.seconds, **provenance()})
    print(f"\nResults: {folder / 'results.json'}; {sum(pipeline.seconds.values()) / 60:.1f} minutes of work")
    print(f"See them: {folder / 'evaluation' / f'dpo_{next(iter(checks))}' / 'report.html'}\n")
    print("\n\n".join(f"{table(figures, mode)}\n{acceptance_line(mode, checks[mode])}" for mode in checks))
    return EXIT_FAILED if args.require_acceptance and not results["accepted"] else 0


def acceptance_line(mode: str, checks: Sequence[Check]) -> str:
    """`accepted: no: coverage 31.2%, at least 97.3% asked`; of another mode than the headline's it decides nothing."""
    return f"accepted: {verdict(checks)}" if mode == HEADLINE else f"by the same bounds: {verdict(checks)}"


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
