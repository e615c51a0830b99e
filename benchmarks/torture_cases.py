"""The stages that benchmarks/torture.py kills, each on few rows of the demo, and the files that they read."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from benchmarks.torture_runs import Case, launch_in_child, run_in_child

ROOT = Path(__file__).resolve().parents[1]
ROWS = {"train": 24, "validation": 6, "test": 8}  # of each Phase 1 split
FEW_ROWS = {"train": 8, "validation": 2, "test": 2}  # of the short form
HARDWARE = ("--device", "cpu", "--num_threads", "1", "--dtype", "float32")
TRAINING = ("--learning_rate", "1e-3", "--num_epochs", "2", "--batch_size", "4", "--save_steps", "2", *HARDWARE)


def _stage_a(inputs: Path) -> list[str]:
    data = ("--train_data_path", inputs / "train_set_processed.csv", "--val_data_path")
    return _words(*data, inputs / "validation_set_processed.csv", "--output_dir", "run", "--resume", *TRAINING)


def _stage_b(inputs: Path) -> list[str]:
    data = ("--train_data_path", inputs / "pairs/train_dpo.jsonl", "--val_data_path", inputs / "pairs/val_dpo.jsonl")
    model = ("--sft_model_path", inputs / "sft/run/final_model")
    return _words(*data, *model, "--output_dir", "run", "--resume", "--nll_weight", "1", *TRAINING)


def _completions(inputs: Path) -> list[str]:
    data = ("--prompts_path", inputs / "train_set_processed.csv", "--model_path", inputs / "sft/run/final_model")
    sampling = ("--num_completions", "2", "--max_new_tokens", "40", "--batch_size", "4", "--max_prompts", "12")
    return _words(*data, "--output_path", "run/completions.jsonl", *sampling, *HARDWARE)


def _judging(inputs: Path) -> list[str]:
    return _words("--completions_path", inputs / "sampled/run/completions.jsonl", "--output_dir", "run")


def _evaluation(inputs: Path) -> list[str]:
    data = ("--test_data", inputs / "test_set_processed.csv", "--model_path", inputs / "sft/run/final_model")
    return _words(*data, "--output_dir", "run", "--batch_size", "2", "--max_new_tokens", "40", *HARDWARE)


def _pipeline(inputs: Path) -> list[str]:
    flags = ("--device", "cpu", "--num_threads", "1", "--parallel", "1")
    return _words("--demo", "--small", "--phase1_dir", inputs, "--output_dir", "run", *flags)


def _prepare_pipeline(module: ModuleType) -> None:
    """Make the recipe smaller still, and the stages forks of this process."""
    from pipeline import runner

    runner.launch = launch_in_child  # type: ignore[assignment]
    stage = ("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8")
    module.SMALL_RECIPE = replace(  # type: ignore[attr-defined]
        module.SMALL_RECIPE,
        stage_a=stage,
        stage_b=(*stage, "--nll_weight", "1"),
        sampling=("--num_completions", "2", "--max_prompts", "12", "--max_new_tokens", "40"),
        generation=("--batch_size", "32", "--max_new_tokens", "40"),
        examples=None,
    )


def _words(*words: object) -> list[str]:
    return [str(word) for word in words]


CASES = {
    case.name: case
    for case in (
        Case("stage_a", "stage_a_sft_training", _stage_a),
        Case("stage_b", "stage_b_dpo_training", _stage_b),
        Case("completions", "generate_completions", _completions),
        Case("judging", "judge_completions", _judging),
        Case("evaluation", "evaluation.evaluate_model", _evaluation),
        Case("pipeline", "run_pipeline", _pipeline, _prepare_pipeline),
    )
}
NEGATIVES = Case(
    "negatives",
    "generate_phase2_data",
    lambda inputs: _words("--phase1_dir", inputs, "--phase2_dir", inputs / "pairs", "--num_workers", "1"),
)


def make_inputs(folder: Path, names: Sequence[str], rows: Mapping[str, int]) -> Path:
    """Write the first `rows` of each split of the demo's data, and run the stages that the named cases build on."""
    folder.mkdir()
    for split, count in rows.items():
        name = f"{split}_set_processed.csv"
        with (ROOT / "phase1_data" / "sft" / name).open(newline="", encoding="utf-8") as source:
            kept = list(csv.reader(source))[: count + 1]
        with (folder / name).open("w", newline="", encoding="utf-8") as target:
            csv.writer(target).writerows(kept)
    if {"stage_b", "completions", "judging", "evaluation"} & set(names):
        _make(CASES["stage_a"], folder, "sft")
    if "stage_b" in names:
        _make(NEGATIVES, folder, "negatives")
    if "judging" in names:
        _make(CASES["completions"], folder, "sampled")
    return folder


def _make(case: Case, inputs: Path, name: str) -> None:
    result = run_in_child(case, inputs, inputs / name)
    if result.exit_code != 0:
        raise RuntimeError(f"{case.name} failed: {result.tail()}")
