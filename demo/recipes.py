"""The settings of `run_pipeline.py`: one recipe for the demo, one for a small demo, and the defaults for other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.acceptance import SMALL_BOUNDS, Bounds

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# Seconds of each kind of stage in one run of the demo on two cores. Only their ratios are used, to estimate how long a
# run will take; a stage that has run counts with its own time.
STAGE_SHARES: Mapping[str, float] = {
    "sft": 163,
    "negatives": 21,
    "completions": 40,
    "judging": 19,
    "dpo": 112,
    "control": 112,
    "evaluate": 21,
}


@dataclass(frozen=True)
class Recipe:
    """The flags that the pipeline passes to each script, and the bounds that its result must keep.

    Where a field has no flags, the script runs with its own defaults.
    """

    stage_a: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    stage_b: tuple[str, ...] = ("--nll_weight", "1")
    data_weights: tuple[float, float] | None = None  # of hard negatives, of on-policy pairs; None: every pair once
    generation: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    examples: Mapping[str, int] | None = None  # first rows to take of each Phase 1 split; None: all rows
    brief: bool = False  # no base, no control, and only the headline mode
    parallel: int = 1  # stages that may run at a time


_TINY_STAGE_A = (
    "--batch_size", "16", "--lora_dropout", "0", "--lora_target_modules", *LINEAR_LAYERS, "--eval_batch_size", "50",
)  # fmt: skip

# A model of 3.5M parameters needs larger steps than a 7B model, which the scripts' defaults are meant for. The weights
# of the two loss terms of Stage B were found by trial; benchmarks/RESULTS.md lists what else was tried.
DEMO_RECIPE = Recipe(
    stage_a=("--learning_rate", "4e-3", "--num_epochs", "2", *_TINY_STAGE_A),
    negatives=("--adversarial_ratio", "0.1", "--num_workers", "2"),
    sampling=(
        "--num_completions", "8", "--temperature", "1.0", "--max_prompts", "400", "--max_new_tokens", "100",
        "--batch_size", "128",
    ),
    stage_b=(
        "--learning_rate", "1e-3", "--num_epochs", "2", "--batch_size", "16", "--beta", "1", "--nll_weight", "10",
        "--eval_batch_size", "50",
    ),
    data_weights=(0.1, 0.9),
    generation=("--batch_size", "200"),
    parallel=2,  # one thread for each: the products of a model of this size gain little from a second
)  # fmt: skip

# Enough data to see the hallucination rate drop, for machines that test every change. With half of the notes, Stage B
# has too few pairs.
SMALL_RECIPE = Recipe(
    stage_a=("--learning_rate", "2e-3", "--num_epochs", "1", *_TINY_STAGE_A),
    negatives=("--adversarial_ratio", "0.1"),
    sampling=(
        "--num_completions", "6", "--temperature", "1.0", "--max_prompts", "240", "--batch_size", "128",
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
