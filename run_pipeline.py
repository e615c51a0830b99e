"""Run the whole chain: Stage A, preference data, Stage B, its control, and the evaluation of all models.

In:  `--demo` (the embedded model and data), `--real` (a pretrained model and real dialogues, which
     demo/get_real_model.py and demo/get_real_notes.py write), or a base model and a Phase 1 folder of your own.
Out: `--output_dir` with a folder for each stage, their logs under `logs/`, `results.json`, which says whether
     Stage B is accepted, and `comparison.html`, the summaries of all trained models side by side.

    python run_pipeline.py --demo
    python run_pipeline.py --real --size small
    python run_pipeline.py --model_name Qwen/Qwen2.5-1.5B --phase1_dir phase1_data/sft --output_dir runs/qwen --control
    python run_pipeline.py --model_name mistralai/Mistral-7B-v0.3 --hardware 12gb --dry_run
    python run_pipeline.py --status runs/qwen

Each stage is one command of this suite. It is printed before it runs, so you can repeat it by hand. On a rerun, a stage
is skipped if the same command has finished, its outputs are there, and its inputs have not changed since. A training
that was stopped is resumed. Every flag of training and hardware goes to each script that knows it.

The control takes the same steps as Stage B on the same chosen completions, without the preference term. Compare Stage B
with the control, not with Stage A, to see what the preference term adds. In a second round, the policy of the first
round writes the completions and is the reference.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while the imports below take seconds: no traceback

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from demo.recipes import (
    DEMO_MODEL_RECIPE,
    DEMO_RECIPE,
    REAL_JUDGE,
    REAL_MODEL,
    REAL_NOTES,
    REAL_RECIPE,
    REAL_SMALL_RECIPE,
    SMALL_RECIPE,
    Recipe,
)
from language_model.model_files import DEMO_BASE
from language_model.placement import DEVICES
from pipeline.hardware import PRESETS
from pipeline.phase1_tables import SPLITS, Phase1Tables
from pipeline.processes import ROOT
from pipeline.results import report
from pipeline.runner import Pipeline
from pipeline.script_flags import HandedFlags, add_training_flags, check_stage_words, describe, joined
from pipeline.stages import WITHOUT_PREFERENCE, compare, evaluate, preference_pairs, stage_a, stage_b
from pipeline.status import status_of, write_chain
from script_io.columns_flag import PHASE1_ROLES, add_columns_argument
from script_io.errors import EXIT_FAILED, ArgumentParser, InputError, at_least, run_script
from script_io.stop_signals import told_when_stopped

DEMO_DATA = "the demo's data with: python demo/make_phase1_data.py"
OWN_DATA = "the files from your table with: python prepare_phase1_data.py --input TABLE --output_dir"
GET_MODEL = "python demo/get_real_model.py"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    add_data_arguments(parser)
    add_chain_arguments(parser)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        metavar="FOLDER",
        help="folder of the run (default: runs/demo with --demo, runs/real with --real, each with _small at the end "
        "for a small run, runs/demo_model with --demo and --model_name, else runs/pipeline)",
    )
    output.add_argument(
        "--require_acceptance", action="store_true", help="return exit code 1 if Stage B is not accepted"
    )
    output.add_argument("--dry_run", action="store_true", help="print the commands and run nothing")
    output.add_argument(
        "--status",
        metavar="FOLDER",
        help="print which stages of the run in this folder are finished, and run nothing (default: none)",
    )
    add_training_flags(parser)
    argv = joined(sys.argv[1:] if argv is None else argv, ("--stage_a", "--stage_b"))
    args = parser.parse_args(argv, argparse.Namespace(**recipe_defaults(parser.parse_args(argv))))
    check_stage_words(args)
    return args


def recipe_defaults(args: argparse.Namespace) -> dict[str, Any]:
    """Return the defaults of flags that depend on the recipe."""
    defaults: dict[str, Any] = {"model_name": REAL_MODEL, "phase1_dir": REAL_NOTES} if args.real else {}
    recipe = recipe_of(args)
    if args.hardware:
        defaults["device"] = PRESETS[args.hardware].device
    return defaults | {name: getattr(recipe, name) for name in ("max_length", "rounds", "evidence_model")}


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Return the recipe of the flags: a real or a demo run of either size, or else the scripts' own defaults."""
    if args.real:
        return REAL_SMALL_RECIPE if args.size == "small" else REAL_RECIPE
    if args.demo and args.model_name:
        return DEMO_MODEL_RECIPE
    if args.demo:
        return SMALL_RECIPE if args.small else DEMO_RECIPE
    return Recipe()


def add_data_arguments(parser: ArgumentParser) -> None:
    data = parser.add_argument_group("Data and model")
    data.add_argument(
        "--demo", action="store_true", help="run on the embedded model and data, with settings made for them"
    )
    data.add_argument(
        "--small",
        action="store_true",
        help="with --demo: less data, fewer steps, looser bounds, and no control without --control",
    )
    data.add_argument(
        "--real",
        action="store_true",
        help="run on a pretrained model and real dialogues, with settings made for a model of 135M parameters",
    )
    data.add_argument(
        "--size",
        choices=("small", "full"),
        help="with --real: full: every dialogue; small: few dialogues, looser bounds and no base (default: full)",
    )
    data.add_argument(
        "--model_name",
        metavar="MODEL",
        help="folder or hub id of the base model; with --demo, for a pretrained model in place of the embedded one "
        f"(default: none, which needs --demo; with --real {REAL_MODEL})",
    )
    data.add_argument(
        "--base_model",
        metavar="MODEL",
        help="folder of the base model if it was moved after Stage A (default: the path that the adapter names)",
    )
    data.add_argument(
        "--phase1_dir",
        default="phase1_data/sft",
        metavar="FOLDER",
        help="folder of the Phase 1 files, train_set_processed.csv and so on, or .tsv, .jsonl, .json or .parquet "
        f"(default: phase1_data/sft; with --real {REAL_NOTES})",
    )
    add_columns_argument(data, PHASE1_ROLES)
    data.add_argument(
        "--evidence_model",
        metavar="FOLDER",
        help="folder of a trained detector that judges the completions together with the rules (default: none, rules "
        f"alone; with --real {REAL_JUDGE})",
    )
    add_lexicon_argument(data)


def add_chain_arguments(parser: ArgumentParser) -> None:
    chain = parser.add_argument_group("Chain")
    chain.add_argument(
        "--hardware",
        choices=tuple(PRESETS),
        help="flags for a 7B model on such a machine, which are printed; flags that you pass replace them (default: "
        "none, every script's own defaults)",
    )
    for stage in ("a", "b"):
        chain.add_argument(
            f"--stage_{stage}",
            metavar="FLAGS",
            help=f"further flags for Stage {stage.upper()} alone, in quotes (default: none)",
        )
    chain.add_argument("--rounds", type=at_least(1), default=1, help="rounds of sampling, judging and Stage B")
    chain.add_argument(
        "--control",
        action="store_true",
        help="train the control as well (default: off; always on with --real, and with --demo without --small)",
    )
    chain.add_argument("--no_base", action="store_true", help="do not evaluate the untrained base model")
    chain.add_argument(
        "--overflow", choices=("drop", "shorten_note"), default="drop", help="what to do with notes that are too long"
    )
    chain.add_argument(
        "--max_length",
        type=at_least(1),
        default=512,
        help="most tokens of a training example (default: 512; with --real 384)",
    )
    chain.add_argument(
        "--max_examples", type=at_least(1), metavar="N", help="notes to evaluate on (default: the whole test split)"
    )
    chain.add_argument(
        "--device", choices=DEVICES, default="auto", help="device, passed to every script that uses a model"
    )
    chain.add_argument(
        "--num_threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of threads, passed to every script that uses a model; 0: each script chooses",
    )
    chain.add_argument(
        "--parallel",
        type=at_least(1),
        metavar="N",
        help="stages that may run at a time, each with its share of the cores: Stage B and its control, and the "
        "evaluations (default: 1; with --real, and with --demo without --small, 2, where there are two cores)",
    )
    chain.add_argument(
        "--ignore_memory_estimate", action="store_true", help="train even if the estimated memory exceeds what is free"
    )
    chain.add_argument("--seed", type=at_least(0), default=42, help="seed of data, training and sampling")


def trains_control(args: argparse.Namespace, recipe: Recipe) -> bool:
    return bool(args.control or recipe.control)


def planned_stages(args: argparse.Namespace, recipe: Recipe) -> list[str]:
    """Return the names of all stages in the order in which they run."""
    with_control, stages = trains_control(args, recipe), ["sft"]
    for number in range(1, args.rounds + 1):
        suffix = "" if number == args.rounds else f"_{number}"
        stages += [f"negatives_{number}"] * (recipe.negatives is not None)
        stages += [f"completions_{number}", f"judging_{number}", f"dpo{suffix}"]
        stages += [f"control{suffix}"] * with_control
    models = [*["base"] * (not (recipe.brief or args.no_base)), "sft", "dpo", *["control"] * with_control]
    for evaluation in (f"{name}_{mode}" for name in models for mode in recipe.modes):
        stages += [f"evaluate_{evaluation}", *(f"verdicts_{evaluation}_{judge}" for judge in recipe.judges)]
    return [*stages, "comparison"]


def train_models(pipeline: Pipeline, phase1: Phase1Tables, base: str) -> dict[str, Path | str]:
    """Run all stages of training; return the models to evaluate, by name."""
    args, recipe = pipeline.args, pipeline.recipe
    sft = dpo = control = stage_a(pipeline, phase1, base)
    for number in range(1, args.rounds + 1):
        suffix = "" if number == args.rounds else f"_{number}"
        pairs = preference_pairs(pipeline, phase1, dpo, number)
        trained = [partial(stage_b, pipeline, f"dpo{suffix}", dpo, pairs)]
        if trains_control(args, recipe):
            trained.append(partial(stage_b, pipeline, f"control{suffix}", control, pairs, WITHOUT_PREFERENCE))
        dpo, *controls = pipeline.together(*trained)
        control = controls[0] if controls else control
    models: dict[str, Path | str] = {} if recipe.brief or args.no_base else {"base": base}
    models |= {"sft": sft, "dpo": dpo}
    return models if control == sft else models | {"control": control}


def check_arguments(args: argparse.Namespace, recipe: Recipe, phase1: Phase1Tables) -> None:
    """Raise InputError for flags that exclude each other, and for data and models that are not as the stages need."""
    if not (args.demo or args.real or args.model_name) or (args.demo and args.real):
        raise InputError("pass --demo, --real, or --model_name with a base model of yours")
    if args.small and (args.model_name or not args.demo):
        raise InputError("--small is a smaller --demo; pass both, or leave it out (with --real: --size small)")
    if args.size and not args.real:
        raise InputError("--size is the size of a --real run; pass both, or leave it out")
    phase1.check(data_remedy(args, phase1.folder), with_id=("test",) if recipe.negatives is None else SPLITS)
    if args.model_name == REAL_MODEL and not Path(REAL_MODEL).exists():  # which could also be a hub id
        raise InputError(f"{REAL_MODEL}: no such folder; make it with: {GET_MODEL}")
    if args.evidence_model and not (Path(args.evidence_model) / "detector.json").is_file():
        raise InputError(
            f"{args.evidence_model}: holds no detector (detector.json is missing); make it with: {GET_MODEL}"
        )


def data_remedy(args: argparse.Namespace, folder: Path) -> str:
    """Return what to make, and with which command, if a Phase 1 file is missing."""
    if args.real:
        return "the real dialogues with: python demo/get_real_notes.py"
    is_demo = args.demo or folder == Path("phase1_data/sft")
    return DEMO_DATA if is_demo else f"{OWN_DATA} {folder}"


def folder_of(args: argparse.Namespace) -> Path:
    """Return the folder of the run."""
    if args.output_dir:
        return Path(args.output_dir)
    small = "_small" if args.small or args.size == "small" else ""
    if args.demo and args.model_name:
        return Path("runs/demo_model")
    return Path(f"runs/{'demo' if args.demo else 'real'}{small}" if args.demo or args.real else "runs/pipeline")


def evaluate_models(
    pipeline: Pipeline, models: Mapping[str, Path | str], phase1: Phase1Tables
) -> dict[str, dict[str, Any]]:
    """Evaluate all models; return the figures of each by mode."""
    evaluations = [partial(evaluate, pipeline, name, model, phase1) for name, model in models.items()]
    return dict(zip(models, pipeline.together(*evaluations), strict=True))


def main(args: argparse.Namespace) -> int:
    if args.status:
        print(status_of(Path(args.status)))
        return 0
    if args.demo and args.phase1_dir == "phase1_data/sft":
        args.phase1_dir = str(ROOT / args.phase1_dir)  # works from any working folder
    recipe, phase1 = recipe_of(args), Phase1Tables(Path(args.phase1_dir), tuple(args.columns or ()))
    check_arguments(args, recipe, phase1)
    add_lexicons(args.lexicon_dir)  # fails here rather than after Stage A
    folder, handed = folder_of(args), HandedFlags.of(args)
    pipeline = Pipeline(args, recipe, folder, planned_stages(args, recipe), handed)
    base = args.model_name or str(DEMO_BASE)
    print("".join(f"{'# ' * args.dry_run}{line}\n" for line in describe(handed)), end="")
    if not args.dry_run:
        write_chain(folder, args, pipeline.planned, recipe.stage_shares)
    if recipe.examples:
        top = folder / "phase1"
        phase1 = Phase1Tables(top) if args.dry_run else phase1.top(recipe.examples, top)
    with told_when_stopped(lambda: f"The chain in {folder} has stopped; the same command goes on from there."):
        models = train_models(pipeline, phase1, base)
        figures = evaluate_models(pipeline, models, phase1)
        page = compare(pipeline, models)
    if args.dry_run:
        return 0
    accepted = report(pipeline, figures, page)
    return EXIT_FAILED if args.require_acceptance and not accepted else 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
