"""The command of each stage of the chain: what it reads, what it writes, and the flags that it gets from the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.recipes import HEADLINE
from language_model.loading import load_tokenizer
from language_model.prompt_format import load_prompt_format
from pipeline.phase1_tables import Phase1Tables, write_phase1
from pipeline.runner import Pipeline
from script_io.files import read_json
from sft_dataset import SFTDataset

MODES = {"greedy": "0", "sampled": "0.7"}  # temperature of each mode; 0.7 is the default of sft_inference.py
WITHOUT_PREFERENCE = ("--preference_weight", "0", "--nll_weight", "1")  # of the control
TITLES = {"sft": "SFT", "dpo": "DPO", "control": "control"}  # columns of the comparison
RESULTS, SUMMARY = "evaluation_results.csv", "evaluation_summary.json"  # files of an evaluation


@dataclass(frozen=True)
class Pairs:
    """The files with the preference pairs of one round."""

    train: tuple[Path, ...]
    val: tuple[Path, ...]


def prompts_that_fit(pipeline: Pipeline, phase1: Phase1Tables, model: Path) -> Path:
    """Write the training rows that `model` was trained on, those within --max_length, and return the CSV.

    A pair of a longer note would be left out of Stage B, after its completions have been sampled and judged.
    """
    path = (pipeline.folder / "prompts" / phase1.file("train").name).with_suffix(".csv")
    if pipeline.args.dry_run:
        return path
    tokenizer = load_tokenizer(model, pipeline.handed.given.get("trust_remote_code", False))
    options = {"max_length": pipeline.args.max_length, "prompt_format": load_prompt_format(model, tokenizer)}
    kept = set(SFTDataset(phase1.file("train"), tokenizer, columns=phase1.columns, **options).ids)
    write_phase1(path, [row for row in phase1.rows("train") if row["id"] in kept])
    return path


def stage_a(pipeline: Pipeline, phase1: Phase1Tables, base: str) -> Path:
    """Train the SFT adapter and return its folder."""
    pipeline.run(
        "sft",
        "stage_a_sft_training.py",
        *("--model_name", base),
        *("--train_data_path", phase1.file("train"), "--val_data_path", phase1.file("validation")),
        *phase1.flags,
        *pipeline.training_flags("sft"),
        *pipeline.recipe.stage_a,
        extra=pipeline.memory_flags(),
    )
    return pipeline.folder / "sft" / "final_model"


def preference_pairs(pipeline: Pipeline, phase1: Phase1Tables, model: Path, number: int) -> Pairs:
    """Make the pairs of one round: hard negatives if the recipe has any, and pairs from the completions of `model`."""
    folder = pipeline.folder / f"pairs_{number}"
    train, val = [], []
    if pipeline.recipe.negatives is not None:
        hard_negatives(pipeline, phase1, folder / "negatives", number)
        train.append(folder / "negatives" / "train_dpo.jsonl")
        val.append(folder / "negatives" / "val_dpo.jsonl")
    on_policy_pairs(pipeline, phase1, model, folder, number)
    train.append(folder / "on_policy" / "train.jsonl")
    val.append(folder / "on_policy" / "val.jsonl")
    if pipeline.args.dry_run:
        return Pairs(tuple(train), tuple(val))
    # with a handful of on-policy pairs, the validation file may be empty
    return Pairs(tuple(train), tuple(path for path in val if path.stat().st_size) or tuple(train))


def hard_negatives(pipeline: Pipeline, phase1: Phase1Tables, folder: Path, number: int) -> None:
    """Make the hard negatives of one round."""
    pipeline.run(
        f"negatives_{number}",
        "generate_phase2_data.py",
        *("--phase1_dir", str(phase1.folder), *phase1.flags, "--phase2_dir", str(folder)),
        *("--seed", str(pipeline.args.seed + number)),
        *(pipeline.recipe.negatives or ()),
        *pipeline.lexicon_flags(),
    )


def on_policy_pairs(pipeline: Pipeline, phase1: Phase1Tables, model: Path, folder: Path, number: int) -> None:
    """Sample completions of `model` and make pairs of them, in `on_policy` below `folder`."""
    completions, prompts = folder / "completions.jsonl", [str(phase1.file("train")), *phase1.flags]
    if pipeline.recipe.fitting_prompts and pipeline.args.overflow == "drop":
        prompts = [str(prompts_that_fit(pipeline, phase1, model))]
    pipeline.run(
        f"completions_{number}",
        "generate_completions.py",
        *("--prompts_path", *prompts, "--model_path", str(model)),
        *("--output_path", completions, "--seed", str(pipeline.args.seed + number)),
        *pipeline.hardware_flags(),
        *("--overflow", pipeline.args.overflow),
        *pipeline.recipe.sampling,
        extra=pipeline.base_flags(),
        continues=[completions, completions.with_suffix(".config.json")],
    )
    pipeline.run(
        f"judging_{number}",
        "judge_completions.py",
        *("--completions_path", completions, "--output_dir", folder / "on_policy"),
        # the same seed in every round, so that no prompt validates in one round and trains in another
        *("--seed", str(pipeline.args.seed + 1)),
        *pipeline.hardware_flags(),
        *pipeline.filled_in(pipeline.recipe.judging),
        *pipeline.evidence_flags(),
        *pipeline.lexicon_flags(),
    )


def stage_b(pipeline: Pipeline, name: str, model: Path, pairs: Pairs, last: Sequence[str] = ()) -> Path:
    """Train a policy with `model` as the reference; return its folder. `last` replaces all other flags."""
    weights = pipeline.recipe.data_weights
    pipeline.run(
        name,
        "stage_b_dpo_training.py",
        *("--sft_model_path", model),
        *("--train_data_path", *map(str, pairs.train), "--val_data_path", *map(str, pairs.val)),
        *(["--data_weights", *map(str, weights)] if weights else []),
        *pipeline.training_flags(name),
        *pipeline.recipe.stage_b,
        extra=[*pipeline.memory_flags(), *pipeline.base_flags()],
        last=last,
    )
    return pipeline.folder / name / "final_model"


def evaluate(pipeline: Pipeline, name: str, model: Path | str, phase1: Phase1Tables) -> dict[str, Any]:
    """Evaluate one model in each mode of the recipe; return its figures by mode.

    The figures are those of `evaluation_summary.json`, on the demo also by the exact truth (`exact`), and by every
    further judge of the recipe (`judges`).
    """
    figures = {}
    limit = ["--max_examples", str(pipeline.args.max_examples)] if pipeline.args.max_examples else []
    for mode in pipeline.recipe.modes:
        folder = pipeline.folder / "evaluation" / f"{name}_{mode}"
        pipeline.run(
            f"evaluate_{name}_{mode}",
            "evaluation/evaluate_model.py",
            *("--model_path", model, "--test_data", phase1.file("test"), *phase1.flags, "--output_dir", folder),
            *("--temperature", MODES[mode], "--seed", str(pipeline.args.seed)),
            *pipeline.hardware_flags(),
            *("--overflow", pipeline.args.overflow),
            *pipeline.filled_in(pipeline.recipe.generation),
            *limit,
            *pipeline.lexicon_flags(),
            extra=[] if name == "base" else pipeline.base_flags(),
        )
        judges = pipeline.recipe.judges
        by_judge = {judge: judge_again(pipeline, folder, judge, judges[judge]) for judge in judges}
        figures[mode] = figures_of(pipeline, folder) | ({"judges": by_judge} if judges else {})
    return figures


def figures_of(pipeline: Pipeline, folder: Path) -> dict[str, Any]:
    """Return the figures of an evaluation, on the demo also by the exact truth; none where nothing was run."""
    if pipeline.args.dry_run:
        return {}
    figures: dict[str, Any] = read_json(folder / SUMMARY)
    if pipeline.args.demo:
        from demo.exact_truth import all_facts, exact_figures

        figures["exact"] = exact_figures(folder / RESULTS, all_facts())
    return figures


def compare(pipeline: Pipeline, names: Iterable[str]) -> Path:
    """Compare the evaluations of these trained models in the headline mode; return the page that shows them."""
    trained = [name for name in names if name in TITLES]
    pipeline.run(
        "comparison",
        "evaluation/compare_models.py",
        *(pipeline.folder / "evaluation" / f"{name}_{HEADLINE}" for name in trained),
        *("--names", *(TITLES[name] for name in trained)),
        *("--output_dir", pipeline.folder, "--seed", str(pipeline.args.seed)),
    )
    return pipeline.folder / "comparison.html"


def judge_again(pipeline: Pipeline, folder: Path, judge: str, flags: Sequence[str]) -> dict[str, Any]:
    """Return the figures of the summaries of an evaluation by another judge; nothing is generated."""
    judged = folder.with_name(f"{folder.name}_by_{judge}")
    pipeline.run(
        f"verdicts_{folder.name}_{judge}",
        "evaluation/evaluate_model.py",
        *("--predictions", folder / RESULTS, "--output_dir", judged, "--seed", str(pipeline.args.seed)),
        *pipeline.hardware_flags(),
        *pipeline.filled_in(flags),
        *pipeline.lexicon_flags(),
    )
    return {} if pipeline.args.dry_run else dict(read_json(judged / SUMMARY))
