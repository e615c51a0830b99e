"""Run our variants and TRL's variants of benchmarks/compare_trl.py, each as its users run it.

Our variants call `parse_args`, `prepare` and `train_loop` of the stage's script, of this tree or of an earlier commit.
TRL's variants construct its trainer and call `train`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.trl_inputs import LORA_ALPHA, LORA_R
from benchmarks.trl_job import BETA, LEARNING_RATE, Clock, Example, Job, Probe, load_policy, steps_of, token_ids
from language_model.prompt_format import build_prompt
from script_io.csv_files import read_csv
from script_io.files import read_jsonl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TRLSettings:
    """The settings of one variant that differ from TRL's defaults. `run_trl` sets more, the same for all variants."""

    weights: str  # dtype of the loaded base
    config: dict[str, Any] = field(default_factory=dict)
    dpo: dict[str, Any] = field(default_factory=dict)
    sft: dict[str, Any] = field(default_factory=dict)  # only if no example is over PADDING_FREE_UP_TO
    environment: dict[str, str] = field(default_factory=dict)
    attention: str = "sdpa"


# By default glibc returns freed memory to the system and requests it again at every step. With these it keeps it.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}
NO_CHECKPOINTING, PRECOMPUTED = {"gradient_checkpointing": False}, {"precompute_ref_log_probs": True}
NO_PADDING = {"padding_free": True, "max_length": None}  # TRL supports it only in SFT and without a maximum length
# Attention spans all examples of a flattened row: 131 tokens per CPU-second at the long shape, and 214 with padding.
PADDING_FREE_UP_TO = 1024  # tokens of the longest example
TRL_SETTINGS = {
    "trl_default": TRLSettings("float32"),
    "trl_best": TRLSettings("bfloat16", NO_CHECKPOINTING, PRECOMPUTED, NO_PADDING, KEEP_MEMORY),
    "trl_fp32": TRLSettings("float32", NO_CHECKPOINTING | {"bf16": False}, PRECOMPUTED, NO_PADDING, KEEP_MEMORY),
    # from trl_default to trl_best, one change at a time
    "trl_no_checkpointing": TRLSettings("float32", NO_CHECKPOINTING),
    "trl_precomputed": TRLSettings("float32", NO_CHECKPOINTING, PRECOMPUTED),
    "trl_bf16_weights": TRLSettings("bfloat16", NO_CHECKPOINTING, PRECOMPUTED),
    "trl_padded": TRLSettings("bfloat16", NO_CHECKPOINTING, PRECOMPUTED, environment=KEEP_MEMORY),
    # alternatives to trl_best
    "trl_pure_bf16": TRLSettings("bfloat16", NO_CHECKPOINTING | {"bf16": False}, PRECOMPUTED, NO_PADDING, KEEP_MEMORY),
    # 5% faster on a CPU with 11% more memory at the clinical shape; the memory grows with the square of the length
    "trl_eager": TRLSettings("bfloat16", NO_CHECKPOINTING, PRECOMPUTED, NO_PADDING, KEEP_MEMORY, attention="eager"),
    "trl_best_checkpointing": TRLSettings("bfloat16", {}, PRECOMPUTED, NO_PADDING, KEEP_MEMORY),
    "trl_fp32_padded": TRLSettings("float32", NO_CHECKPOINTING | {"bf16": False}, PRECOMPUTED, {}, KEEP_MEMORY),
}
# The same settings with padded rows. Which is faster depends on the processor: on one, padding cost 14%; on another,
# padded rows were faster by 26% with 58M parameters (q_proj, v_proj), and by 28% with 135M (all linear layers).
PADDED = {"trl_best": "trl_padded", "trl_fp32": "trl_fp32_padded"}


def run_ours(job: Job, clock: Clock, probe: Probe) -> list[list[Example]]:
    """Run the stage's script from its command line to its loop, and return the examples of every step."""
    import stage_a_sft_training
    import stage_b_dpo_training
    from training import reference_cache
    from training.metrics_log import METRICS_FILE
    from training.watching import StopRequest

    script: Any = stage_b_dpo_training if job.stage == "dpo" else stage_a_sft_training
    reference_cache.read_or_score = _timed(reference_cache.read_or_score, clock)
    args = script.parse_args(our_command_line(job))
    run, *data = script.prepare(args)
    probe.watch(run.policy)
    with clock.measure("training"):
        script.train_loop(run, *data, StopRequest())
    lines = [json.loads(line) for line in (run.folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    probe.losses = [line["loss"] for line in lines if line["kind"] == "train"]
    examples = token_ids(job)
    return [[examples[index] for index in run.plan.step_indices(step)] for step in range(run.plan.total_steps)]


def _timed(function: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with clock.measure("reference"):
            return function(*args, **kwargs)

    return call


def our_command_line(job: Job) -> list[str]:
    """Return the command line of the stage's script. All other flags keep their defaults."""
    options: dict[str, Any] = {
        "train_data_path": job.train,
        "val_data_path": job.val,
        "output_dir": f"{job.folder}/run",
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": job.max_grad_norm,
        "batch_size": job.batch_size,
        "num_epochs": job.epochs,
        "max_length": job.max_length,
        "device": job.device,
        "dtype": "bfloat16" if job.dtype == "4bit" else job.dtype,
        "seed": job.seed,
    }
    if job.stage == "dpo":
        options |= {"sft_model_path": job.adapter, "beta": BETA}
    else:
        options |= {"model_name": job.base, "lora_r": LORA_R, "lora_alpha": LORA_ALPHA}
        options["lora_dropout"] = job.lora_dropout
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    flags += ["--lora_target_modules", *job.lora_target_modules] if job.stage == "sft" else []
    return [*flags, "--use_4bit"] if job.dtype == "4bit" else flags


def run_trl(job: Job, clock: Clock, probe: Probe) -> list[list[Example]]:
    """Run TRL's trainer on the same files in the same order, and return the examples of every step as it read them."""
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from language_model.loading import load_tokenizer

    disable_progress_bars()
    settings, is_dpo = TRL_SETTINGS[job.variant], job.stage == "dpo"
    base_trainer: Any = DPOTrainer if is_dpo else SFTTrainer

    batches: list[dict[str, torch.Tensor]] = []

    class Trainer(base_trainer):
        def _precompute_ref_logps(self, *args: Any) -> Any:
            with clock.measure("reference"):
                return super()._precompute_ref_logps(*args)

        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
            batches.append(dict(inputs))
            loss: torch.Tensor = super().training_step(model, inputs, *args)
            if job.check:
                probe.losses.append(loss.item())
            return loss

    common = {
        "output_dir": f"{job.folder}/run",
        "per_device_train_batch_size": job.batch_size,
        "num_train_epochs": 1,
        "max_length": job.max_length,  # the default, 1024, would cut the long shape silently
        "train_sampling_strategy": "sequential",  # `rows` are in the order of our batches
        "use_cpu": job.device == "cpu",
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": job.max_grad_norm,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job.seed,
    }
    config: Any = DPOConfig if is_dpo else SFTConfig
    short = job.max_length <= PADDING_FREE_UP_TO
    own = {"beta": BETA, **settings.dpo} if is_dpo else settings.sft if short else {}
    rows = [row for step in steps_of(job, trl_rows(job)) for row in step]
    trainer = Trainer(
        model=load_policy(job, settings.weights, settings.attention),
        args=config(**common | settings.config | own),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(job.base),
    )
    probe.watch(trainer.model)
    with clock.measure("training"):
        trainer.train()
    return [_trained_on(batch) for batch in batches]


def trl_rows(job: Job) -> list[dict[str, str]]:
    """Return the training file in TRL's format. The space before a completion is part of its text."""
    if job.stage == "dpo":
        triplets = [row for _, row in read_jsonl(job.train, ("prompt", "chosen", "rejected"))]
        return [
            {"prompt": row["prompt"], "chosen": f" {row['chosen']}", "rejected": f" {row['rejected']}"}
            for row in triplets
        ]
    pairs = [row for _, row in read_csv(job.train, ("clinical_note", "model_summary"))]
    return [{"prompt": build_prompt(row["clinical_note"]), "completion": f" {row['model_summary']}"} for row in pairs]


def _trained_on(batch: dict[str, torch.Tensor]) -> list[Example]:
    """Return the examples in a batch of TRL's collators, after they cut examples to the maximum length."""
    ids = batch["input_ids"]
    supervised = batch["completion_mask"].bool() if "completion_mask" in batch else batch["labels"] != -100
    if "attention_mask" in batch:
        kept = batch["attention_mask"].bool()
        rows = [(row[mask], own[mask]) for row, own, mask in zip(ids, supervised, kept, strict=True)]
    else:  # padding_free: all examples in one row, each with positions from 0
        starts = (batch["position_ids"][0] == 0).nonzero()[1:, 0].tolist()
        rows = list(zip(ids[0].tensor_split(starts), supervised[0].tensor_split(starts), strict=True))
    split = [(row[~own].tolist(), row[own].tolist()) for row, own in rows]
    if "completion_mask" not in batch:
        return list(split)
    pairs = len(split) // 2  # all chosen completions come first
    return [(*split[index], split[pairs + index][1]) for index in range(pairs)]
