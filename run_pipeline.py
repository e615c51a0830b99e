"""Run the whole chain: Stage A, preference data, Stage B, its control, and the evaluation of all models.

In:  `--demo` (the embedded model and data), or a base model and a Phase 1 folder of your own.
Out: `--output_dir` with a folder for each stage, their logs under `logs/`, and `results.json`, which says whether
     Stage B is accepted.

    python run_pipeline.py --demo
    python run_pipeline.py --model_name Qwen/Qwen2.5-1.5B --phase1_dir phase1_data/sft --output_dir runs/qwen --control

Each stage is one command of this suite. It is printed before it runs, so you can repeat it by hand. On a rerun, a stage
is skipped if the same command has finished and its inputs have not changed since.

The control takes the same steps as Stage B on the same chosen completions, without the preference term. Compare Stage B
with the control, not with Stage A, to see what the preference term adds. In a second round, the policy of the first
round writes the completions and is the reference.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from demo.recipes import DEMO_RECIPE, SMALL_RECIPE, STAGE_SHARES, Recipe
from evaluation.acceptance import Check, acceptance, is_accepted, verdict
from language_model.model_files import DEMO_BASE
from language_model.placement import DEVICES
from script_io.csv_files import read_csv, write_csv
from script_io.errors import EXIT_BAD_INPUT, EXIT_FAILED, ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import read_json, write_json
from script_io.provenance import provenance
from script_io.stage_clock import StageLine, about, seconds_left

ROOT = Path(__file__).resolve().parent
MODES = {"greedy": "0", "sampled": "0.7"}  # temperature of each mode; 0.7 is the default of sft_inference.py
SECONDS_BETWEEN_LOOKS = 1.0  # at the log of a running stage
RUNNING: set[subprocess.Popen[bytes]] = set()  # processes of the stages
HEADLINE = "sampled"  # the mode that decides, fixed in advance: users get it when they run inference with its defaults


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data and model")
    data.add_argument(
        "--demo", action="store_true", help="run on the embedded model and data, with settings made for them"
    )
    data.add_argument(
        "--small", action="store_true", help="with --demo: less data, fewer steps, looser bounds and no control"
    )
    data.add_argument(
        "--model_name",
        metavar="MODEL",
        help="folder or hub id of the base model (default: none, which needs --demo)",
    )
    data.add_argument(
        "--base_model",
        metavar="MODEL",
        help="folder of the base model if it was moved after Stage A (default: the path that the adapter names)",
    )
    data.add_argument("--phase1_dir", default="phase1_data/sft", metavar="FOLDER", help="folder of the Phase 1 CSVs")
    add_lexicon_argument(data)
    chain = parser.add_argument_group("Chain")
    chain.add_argument("--rounds", type=at_least(1), default=1, help="rounds of sampling, judging and Stage B")
    chain.add_argument(
        "--control",
        action="store_true",
        help="train the control as well (default: off; always on with --demo, never with --small)",
    )
    chain.add_argument("--no_base", action="store_true", help="do not evaluate the untrained base model")
    chain.add_argument(
        "--overflow", choices=("drop", "shorten_note"), default="drop", help="what to do with notes that are too long"
    )
    chain.add_argument("--max_length", type=at_least(1), default=512, help="most tokens of a training example")
    chain.add_argument(
        "--max_examples", type=at_least(1), metavar="N", help="notes to evaluate on (default: the whole test split)"
    )
    chain.add_argument("--device", choices=DEVICES, default="auto", help="device, passed to every script")
    chain.add_argument(
        "--num_threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of threads, passed to every script that loads a model; 0: each script chooses",
    )
    chain.add_argument(
        "--parallel",
        type=at_least(1),
        metavar="N",
        help="stages that may run at a time, each with its share of the cores: Stage B and its control, and the "
        "evaluations (default: 1; with --demo 2, where there are two cores)",
    )
    chain.add_argument(
        "--ignore_memory_estimate", action="store_true", help="train even if the estimated memory exceeds what is free"
    )
    chain.add_argument("--seed", type=at_least(0), default=42, help="seed of data, training and sampling")
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        metavar="FOLDER",
        help="folder of the run (default: runs/demo with --demo, runs/demo_small with --small, else runs/pipeline)",
    )
    output.add_argument(
        "--require_acceptance", action="store_true", help="return exit code 1 if Stage B is not accepted"
    )
    return parser.parse_args(argv)


@dataclass
class Pipeline:
    """Run commands of the suite, each once, and record how many seconds each took.

    `planned` holds the names of all stages, from which the time left is estimated.
    """

    args: argparse.Namespace
    recipe: Recipe
    folder: Path
    planned: Sequence[str] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    _shared_threads: int = 0  # of each stage while several run; 0: each chooses

    @property
    def parallel(self) -> int:
        """Return how many stages may run at a time."""
        asked: int | None = self.args.parallel
        return asked or min(self.recipe.parallel, usable_cores())

    def together(self, *stages: Callable[[], Any]) -> list[Any]:
        """Run stages that do not need each other, `parallel` at a time; return what they return, in order."""
        if self.parallel == 1:
            return [stage() for stage in stages]
        self._shared_threads = max(1, usable_cores() // self.parallel)
        failed = threading.Event()

        def guarded(stage: Callable[[], Any]) -> Any:
            try:
                return None if failed.is_set() else stage()
            except BaseException:
                failed.set()  # before this worker takes the next stage
                raise

        try:
            with ThreadPoolExecutor(self.parallel) as pool:
                futures = [pool.submit(guarded, stage) for stage in stages]
                try:
                    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                    return [each.result() for each in (futures if len(done) == len(futures) else done)]
                except BaseException:
                    failed.set()
                    for process in list(RUNNING):
                        process.kill()
                    raise
        finally:
            self._shared_threads = 0

    def run(self, name: str, script: str, *arguments: str | Path, extra: Sequence[str] = ()) -> None:
        """Run one script, or skip it if the same command has finished and its inputs have not changed since.

        `extra` holds flags that do not change what the script writes, so they do not count in this comparison.
        """
        command = [script, *map(str, arguments)]
        marker = self.folder / "stages" / f"{name}.json"
        if is_finished(command, marker):
            self.seconds[name] = read_json(marker)["seconds"]
            print(f"[{name}] finished before, skipped")
            return
        print(f"[{name}] python {shlex.join([*command, *extra])}", flush=True)
        marker.unlink(missing_ok=True)
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        code = launch([*command, *extra], log)
        self.seconds[name] = round(time.perf_counter() - start, 1)
        if code:
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
            failure = InputError if code == EXIT_BAD_INPUT else RunError
            raise failure(f"{script} failed ({last[0].removeprefix('error: ')}); its whole output is in {log}")
        write_json(marker, {"command": command, "seconds": self.seconds[name]})
        left = seconds_left(self.planned, self.seconds, STAGE_SHARES) / (self.parallel if self._shared_threads else 1)
        print(f"[{name}] {self.seconds[name]:.0f} s{f'; {about(left)} left' if left else ''}", flush=True)

    def training_flags(self, name: str) -> list[str]:
        """Return the flags that both training scripts get; an interrupted training starts from the beginning."""
        common = ["--output_dir", str(self.folder / name), "--overwrite_output_dir", "--seed", str(self.args.seed)]
        length = ["--max_length", str(self.args.max_length), "--overflow", self.args.overflow]
        return [*common, *length, *self.hardware_flags()]

    def hardware_flags(self) -> list[str]:
        """Return the flags for scripts that load a model: the device, and the number of threads if it was given."""
        threads = self.args.num_threads or self._shared_threads
        return ["--device", self.args.device, *(["--num_threads", str(threads)] if threads else [])]

    def lexicon_flags(self) -> list[str]:
        """Return the flag for scripts that read facts, if it was given."""
        return ["--lexicon_dir", *map(str, self.args.lexicon_dir)] if self.args.lexicon_dir else []

    def memory_flags(self) -> list[str]:
        """Return the flag for training that does without the memory estimate, if it was given."""
        return ["--ignore_memory_estimate"] if self.args.ignore_memory_estimate else []

    def base_flags(self) -> list[str]:
        """Return the flag for scripts that load an adapter whose base was moved, if it was given."""
        return ["--base_model", self.args.base_model] if self.args.base_model else []


def usable_cores() -> int:
    """Return the number of cores, or of those that OMP_NUM_THREADS leaves to this run."""
    cores = os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(allowed)) if allowed.isdecimal() and int(allowed) else cores


def is_finished(command: Sequence[str], marker: Path) -> bool:
    """Return whether the marker names the same command and is newer than everything that the command reads."""
    if not marker.exists() or read_json(marker)["command"] != command:
        return False
    return newest(inputs_of(command)) <= newest([marker])


def launch(command: Sequence[str], log: Path) -> int:
    """Run a script of the suite with its output going to `log`, and show its progress; return its exit code."""
    words = [sys.executable, str(ROOT / command[0]), *command[1:]]
    line = StageLine(log.stem)
    with log.open("w", encoding="utf-8") as handle, subprocess.Popen(words, stdout=handle, stderr=handle) as process:
        RUNNING.add(process)
        try:
            while True:
                try:
                    return process.wait(SECONDS_BETWEEN_LOOKS)
                except subprocess.TimeoutExpired:
                    line.show(log)
        except BaseException:
            process.kill()
            raise
        finally:
            RUNNING.discard(process)
            line.clear()


OUTPUT_FLAGS = ("--output_dir", "--output_path", "--phase2_dir")


def inputs_of(command: Sequence[str]) -> list[Path]:
    """Return the files and folders that a command names and reads."""
    return [Path(word) for flag, word in pairwise(command) if flag not in OUTPUT_FLAGS and Path(word).exists()]


def newest(paths: Sequence[Path]) -> float:
    """Return when any of these files, or any file below these folders, last changed, in seconds since 1970."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


@dataclass(frozen=True)
class Pairs:
    """The files with the preference pairs of one round."""

    train: tuple[Path, ...]
    val: tuple[Path, ...]


def top_of(phase1: Path, examples: Mapping[str, int], folder: Path) -> Path:
    """Write a Phase 1 folder with the first rows of each split, unless it is there already; return the folder."""
    for split, count in examples.items():
        name = f"{split}_set_processed.csv"
        rows = [row for _, row in read_csv(phase1 / name, ())][:count]
        if not (folder / name).exists() or [row for _, row in read_csv(folder / name, ())] != rows:
            write_csv(folder / name, list(rows[0]), rows)
    return folder


def stage_a(pipeline: Pipeline, phase1: Path, base: str) -> Path:
    """Train the SFT adapter and return its folder."""
    pipeline.run(
        "sft",
        "stage_a_sft_training.py",
        *("--model_name", base),
        *("--train_data_path", phase1 / "train_set_processed.csv"),
        *("--val_data_path", phase1 / "validation_set_processed.csv"),
        *pipeline.training_flags("sft"),
        *pipeline.recipe.stage_a,
        extra=pipeline.memory_flags(),
    )
    return pipeline.folder / "sft" / "final_model"


def preference_pairs(pipeline: Pipeline, phase1: Path, model: Path, number: int) -> Pairs:
    """Make the hard negatives of one round, and its on-policy pairs from the completions of `model`."""
    folder, seed = pipeline.folder / f"pairs_{number}", str(pipeline.args.seed + number)
    pipeline.run(
        f"negatives_{number}",
        "generate_phase2_data.py",
        *("--phase1_dir", phase1, "--phase2_dir", folder / "negatives", "--seed", seed),
        *pipeline.recipe.negatives,
        *pipeline.lexicon_flags(),
    )
    completions = folder / "completions.jsonl"
    if completions.exists() and newest([model]) > newest([completions]):
        completions.unlink()  # the model was trained again after it had written them
        completions.with_suffix(".config.json").unlink(missing_ok=True)
    pipeline.run(
        f"completions_{number}",
        "generate_completions.py",
        *("--prompts_path", phase1 / "train_set_processed.csv", "--model_path", model),
        *("--output_path", completions, "--seed", seed),
        *pipeline.hardware_flags(),
        *("--overflow", pipeline.args.overflow),
        *pipeline.recipe.sampling,
        extra=pipeline.base_flags(),
    )
    pipeline.run(
        f"judging_{number}",
        "judge_completions.py",
        *("--completions_path", completions, "--output_dir", folder / "on_policy"),
        # the same seed in every round, so that no prompt validates in one round and trains in another
        *("--seed", str(pipeline.args.seed + 1)),
        *pipeline.lexicon_flags(),
    )
    negatives, on_policy = folder / "negatives", folder / "on_policy"
    validation = (negatives / "val_dpo.jsonl", on_policy / "val.jsonl")
    # with a handful of on-policy pairs, the validation file may be empty
    return Pairs(
        (negatives / "train_dpo.jsonl", on_policy / "train.jsonl"),
        tuple(path for path in validation if path.stat().st_size),
    )


def stage_b(pipeline: Pipeline, name: str, model: Path, pairs: Pairs, flags: Sequence[str]) -> Path:
    """Train a policy with `model` as the reference; return its folder."""
    weights = pipeline.recipe.data_weights
    pipeline.run(
        name,
        "stage_b_dpo_training.py",
        *("--sft_model_path", model),
        *("--train_data_path", *map(str, pairs.train), "--val_data_path", *map(str, pairs.val)),
        *(["--data_weights", *map(str, weights)] if weights else []),
        *pipeline.training_flags(name),
        *flags,
        extra=[*pipeline.memory_flags(), *pipeline.base_flags()],
    )
    return pipeline.folder / name / "final_model"


def trains_control(args: argparse.Namespace, recipe: Recipe) -> bool:
    return bool(args.control or (args.demo and not recipe.brief))


def planned_stages(args: argparse.Namespace, recipe: Recipe) -> list[str]:
    """Return the names of all stages in the order in which they run."""
    with_control, stages = trains_control(args, recipe), ["sft"]
    for number in range(1, args.rounds + 1):
        suffix = "" if number == args.rounds else f"_{number}"
        stages += [f"negatives_{number}", f"completions_{number}", f"judging_{number}", f"dpo{suffix}"]
        stages += [f"control{suffix}"] * with_control
    models = [*["base"] * (not (recipe.brief or args.no_base)), "sft", "dpo", *["control"] * with_control]
    return [*stages, *(f"evaluate_{name}_{mode}" for name in models for mode in modes_of(recipe))]


def train_models(pipeline: Pipeline, phase1: Path, base: str) -> dict[str, Path | str]:
    """Run all stages of training; return the models to evaluate, by name."""
    args, recipe = pipeline.args, pipeline.recipe
    sft = dpo = control = stage_a(pipeline, phase1, base)
    for number in range(1, args.rounds + 1):
        suffix = "" if number == args.rounds else f"_{number}"
        pairs = preference_pairs(pipeline, phase1, dpo, number)
        trained = [partial(stage_b, pipeline, f"dpo{suffix}", dpo, pairs, recipe.stage_b)]
        if trains_control(args, recipe):
            without = (*recipe.stage_b, "--preference_weight", "0", "--nll_weight", "1")
            trained.append(partial(stage_b, pipeline, f"control{suffix}", control, pairs, without))
        dpo, *controls = pipeline.together(*trained)
        control = controls[0] if controls else control
    models: dict[str, Path | str] = {} if recipe.brief or args.no_base else {"base": base}
    models |= {"sft": sft, "dpo": dpo}
    return models if control == sft else models | {"control": control}


def evaluate(pipeline: Pipeline, name: str, model: Path | str, phase1: Path) -> dict[str, Any]:
    """Evaluate one model in each mode; return its figures by mode, on the demo also by the exact truth."""
    figures = {}
    limit = ["--max_examples", str(pipeline.args.max_examples)] if pipeline.args.max_examples else []
    for mode in modes_of(pipeline.recipe):
        folder = pipeline.folder / "evaluation" / f"{name}_{mode}"
        pipeline.run(
            f"evaluate_{name}_{mode}",
            "evaluation/evaluate_model.py",
            *("--model_path", model, "--test_data", phase1 / "test_set_processed.csv", "--output_dir", folder),
            *("--temperature", MODES[mode], "--seed", str(pipeline.args.seed)),
            *pipeline.hardware_flags(),
            *("--overflow", pipeline.args.overflow),
            *pipeline.recipe.generation,
            *limit,
            *pipeline.lexicon_flags(),
            extra=[] if name == "base" else pipeline.base_flags(),
        )
        figures[mode] = read_json(folder / "evaluation_summary.json")
        if pipeline.args.demo:
            from demo.exact_truth import all_facts, exact_figures

            figures[mode]["exact"] = exact_figures(folder / "evaluation_results.csv", all_facts())
    return figures


def modes_of(recipe: Recipe) -> list[str]:
    """Return the modes to evaluate in; the headline mode is last."""
    return [*([] if recipe.brief else [mode for mode in MODES if mode != HEADLINE]), HEADLINE]


def best_truth(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by the exact truth if there are any, else the figures of the judge."""
    exact: dict[str, Any] = figures.get("exact", figures)
    return exact


def table(models: dict[str, dict[str, Any]], mode: str) -> str:
    """Return an aligned table of all models in one mode, by the exact truth if it is known."""
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
    for split in ("train", "validation", "test"):
        path = Path(args.phase1_dir) / f"{split}_set_processed.csv"
        if not path.exists():
            raise InputError(f"{path}: no such file; make the demo's data with: python demo/make_phase1_data.py")


def main(args: argparse.Namespace) -> int:
    if args.demo and args.phase1_dir == "phase1_data/sft":
        args.phase1_dir = str(ROOT / args.phase1_dir)  # works from any working folder
    check_arguments(args)
    add_lexicons(args.lexicon_dir)  # fails here rather than after Stage A
    demo_folder = "runs/demo_small" if args.small else "runs/demo"
    folder = Path(args.output_dir or (demo_folder if args.demo else "runs/pipeline"))
    recipe = SMALL_RECIPE if args.small else DEMO_RECIPE if args.demo else Recipe()
    pipeline = Pipeline(args, recipe, folder, planned_stages(args, recipe))
    phase1, base = Path(args.phase1_dir), str(DEMO_BASE) if args.demo else args.model_name
    if recipe.examples:
        phase1 = top_of(phase1, recipe.examples, folder / "phase1")
    models = train_models(pipeline, phase1, base)
    evaluations = [partial(evaluate, pipeline, name, model, phase1) for name, model in models.items()]
    figures = dict(zip(models, pipeline.together(*evaluations), strict=True))
    checks = {
        mode: acceptance(best_truth(figures["sft"][mode]), best_truth(figures["dpo"][mode]), recipe.bounds)
        for mode in modes_of(recipe)
    }
    write_results(pipeline, figures, checks)
    print(f"\nResults: {folder / 'results.json'}; {(time.perf_counter() - pipeline.start) / 60:.1f} minutes")
    print(f"See them: {folder / 'evaluation' / f'dpo_{next(iter(checks))}' / 'report.html'}\n")
    print("\n\n".join(f"{table(figures, mode)}\n{acceptance_line(mode, checks[mode])}" for mode in checks))
    return EXIT_FAILED if args.require_acceptance and not is_accepted(checks[HEADLINE]) else 0


def write_results(
    pipeline: Pipeline, figures: Mapping[str, dict[str, Any]], checks: Mapping[str, Sequence[Check]]
) -> None:
    """Write `results.json`: the figures of all models, the checks of each mode, and what was run with what."""
    results: dict[str, Any] = {
        "seed": pipeline.args.seed,
        "headline": HEADLINE,
        "accepted": is_accepted(checks[HEADLINE]),
        "acceptance": {mode: [check.as_dict() for check in checks[mode]] for mode in checks},
        "models": {name: figures[name] for name in figures if name != "control"},
    }
    if "control" in figures:
        results["control"] = figures["control"]
    write_json(pipeline.folder / "results.json", {**results, "stages": pipeline.seconds, **provenance()})


def acceptance_line(mode: str, checks: Sequence[Check]) -> str:
    """Return for example `accepted: no: coverage 31.2%, at least 97.3% asked`; only the headline mode decides."""
    return f"accepted: {verdict(checks)}" if mode == HEADLINE else f"by the same bounds: {verdict(checks)}"


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
