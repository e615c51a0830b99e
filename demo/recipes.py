"""The settings of `run_pipeline.py`: recipes for the demo and for a real model, each in two sizes, and the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from evaluation.acceptance import SMALL_BOUNDS, Bounds

HEADLINE = "sampled"  # the mode that decides, fixed in advance: users get it when they run inference with its defaults

# What demo/get_real_model.py and demo/get_real_notes.py write, and `run_pipeline.py --real` reads.
REAL_MODEL, REAL_JUDGE, REAL_NOTES = "models/smollm2", "models/judge", "phase1_data/real"
EVIDENCE_MODEL = "{evidence_model}"  # in the flags of a recipe: the folder that --evidence_model names

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
    "comparison": 6,
}
# The same for a model of 135M parameters and 1,201 dialogues; `verdicts` are evaluations by a further judge.
REAL_STAGE_SHARES: Mapping[str, float] = {
    "sft": 2076,
    "completions": 1962,
    "judging": 1114,
    "dpo": 583,
    "control": 497,
    "evaluate": 189,
    "verdicts": 128,
    "comparison": 2,
}


@dataclass(frozen=True)
class Recipe:
    """The flags that the pipeline passes to each script, and the bounds that its result must keep.

    Where a field has no flags, the script runs with its own defaults.
    """

    stage_a: tuple[str, ...] = ()
    negatives: tuple[str, ...] | None = ()  # None: no hard negatives, only on-policy pairs
    sampling: tuple[str, ...] = ()
    judging: tuple[str, ...] = ()
    stage_b: tuple[str, ...] = ("--nll_weight", "1")
    data_weights: tuple[float, ...] | None = None  # of hard negatives, of on-policy pairs; None: every pair once
    generation: tuple[str, ...] = ()
    judges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # further judges of the same summaries, by name
    bounds: Bounds = field(default_factory=Bounds)
    examples: Mapping[str, int] | None = None  # first rows to take of each Phase 1 split; None: all rows
    fitting_prompts: bool = False  # sample only notes whose training examples have at most `max_length` tokens
    max_length: int = 512  # tokens, the default of --max_length
    rounds: int = 1  # the default of --rounds
    evidence_model: str | None = None  # the default of --evidence_model
    control: bool = False  # train the control, also without --control
    brief: bool = False  # no base, and only the headline mode
    parallel: int = 1  # stages that may run at a time
    stage_shares: Mapping[str, float] = field(default_factory=lambda: STAGE_SHARES)

    @property
    def modes(self) -> tuple[str, ...]:
        """Return the modes to evaluate in; the headline mode is last."""
        return (HEADLINE,) if self.brief else ("greedy", HEADLINE)


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
    control=True,
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

# The measured runs of instruct models used plain text; without the flag, their chat template would be used.
_PLAIN = ("--prompt_format", "plain")
_REAL_STAGE_A = (
    *_PLAIN,
    "--learning_rate",
    "1e-3",
    "--batch_size",
    "8",
    "--lora_r",
    "16",
    "--lora_target_modules",
    *LINEAR_LAYERS,
)
_REAL_STAGE_B = (
    "--learning_rate", "1e-4", "--num_epochs", "2", "--batch_size", "8", "--beta", "0.1", "--nll_weight", "0.2",
    "--loss_on", "differences",
)  # fmt: skip
_REAL_SAMPLING = ("--temperature", "0.8", "--max_new_tokens", "150", "--batch_size", "64")
_BY_EVIDENCE = {"evidence": ("--evidence_model", EVIDENCE_MODEL)}

# SmolLM2-135M-Instruct on MTS-Dialog: over half of Stage A's summaries state what the dialogue does not support. The
# trained judge makes the pairs; the rules alone and the trained judge both evaluate. Every prompt is sampled, since
# about a quarter of them give a pair of long texts.
REAL_RECIPE = Recipe(
    stage_a=("--num_epochs", "2", *_REAL_STAGE_A),
    negatives=None,
    sampling=("--num_completions", "12", "--max_prompts", "750", *_REAL_SAMPLING),
    judging=("--choose_by", "share", "--pairs_per_prompt", "2"),
    stage_b=_REAL_STAGE_B,
    generation=("--batch_size", "96", *_PLAIN),
    judges=_BY_EVIDENCE,
    fitting_prompts=True,
    max_length=384,
    evidence_model=REAL_JUDGE,
    control=True,
    parallel=2,
    stage_shares=REAL_STAGE_SHARES,
)

# The same chain on few dialogues, to see it work in minutes; its figures say little.
REAL_SMALL_RECIPE = replace(
    REAL_RECIPE,
    stage_a=("--num_epochs", "1", *_REAL_STAGE_A),
    sampling=("--num_completions", "6", "--max_prompts", "60", *_REAL_SAMPLING),
    judging=("--repair", "always", "--pairs_per_prompt", "3"),  # which few completions suffice for
    bounds=SMALL_BOUNDS,
    examples={"train": 150, "validation": 20, "test": 30},
    brief=True,
)

# The demo's notes with a pretrained model of about this size, judged by the exact truth. The rules read every fact of
# these notes, so they make the pairs.
DEMO_MODEL_RECIPE = Recipe(
    stage_a=("--num_epochs", "2", *_REAL_STAGE_A),
    negatives=None,
    sampling=("--num_completions", "6", "--temperature", "1.0", "--max_prompts", "300", "--max_new_tokens", "100",
              "--batch_size", "64"),
    stage_b=("--learning_rate", "1e-4", "--num_epochs", "2", "--batch_size", "8", "--beta", "0.1", "--nll_weight", "2",
             "--loss_on", "differences"),
    generation=("--batch_size", "32", "--max_new_tokens", "100", *_PLAIN),
    examples={"train": 1000, "validation": 60, "test": 200},
    control=True,
    parallel=2,
    stage_shares=REAL_STAGE_SHARES,
)  # fmt: skip
