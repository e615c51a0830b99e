"""Say before the first step what a run will write, and refuse it if the disk has no room for that."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from script_io.errors import InputError
from script_io.files import read_json
from training.batch_plan import BatchPlan
from training.checkpoints import STATE_FILE, checkpoints_in

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

MIB = 2**20
FLOAT32_BYTES = 4
MOMENTS = 2  # of AdamW, per trained parameter
LOG_LINE_BYTES = 1024  # per step: its line in metrics.jsonl, with room for evaluations


def check_disk_space(
    args: argparse.Namespace,
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    plan: BatchPlan,
    checkpoint: Path | None,
) -> None:
    """Print what the run will write, from `checkpoint` on if it is resumed. Raises InputError if it does not fit."""
    step = read_json(checkpoint / STATE_FILE)["step"] if checkpoint else 0
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad) * FLOAT32_BYTES
    saved = sum(p.numel() for name, p in policy.named_parameters() if p.requires_grad or "lora_" in name)
    model = saved * FLOAT32_BYTES + _tokenizer_bytes(tokenizer)
    one, count = model + (1 + MOMENTS) * trained, most_checkpoints(args, plan, step)
    needed = count * one + model + (plan.total_steps - step) * LOG_LINE_BYTES
    free = _free_bytes(Path(args.output_dir)) + (_deleted_bytes(Path(args.output_dir)) if checkpoint is None else 0)
    parts = f"{count} checkpoint{'s' if count > 1 else ''} of {one / MIB:,.1f} MiB and the final model"
    print(f"Disk: about {needed / MIB:,.1f} MiB ({parts}) of {free / MIB:,.0f} MiB that are free")
    if needed > free:
        raise InputError(
            f"{args.output_dir}: the run writes about {needed / MIB:,.1f} MiB ({parts}) and {free / MIB:,.1f} MiB are "
            "free; free some space, name another --output_dir, or keep fewer checkpoints (--keep_checkpoints 2)"
        )


def most_checkpoints(args: argparse.Namespace, plan: BatchPlan, step: int) -> int:
    """Return how many new checkpoints may be on the disk at a time, after `step` steps."""
    every = {plan.steps_per_epoch, args.save_steps, args.eval_steps if args.early_stopping_patience else 0} - {0}
    due = {due for interval in every for due in range(interval, plan.total_steps + 1, interval) if due > step}
    # one that is written before an old one is deleted, and the best one
    kept = args.keep_checkpoints + 1 + bool(args.early_stopping_patience)
    return min(len(due), kept) if args.keep_checkpoints else len(due)


def _tokenizer_bytes(tokenizer: PreTrainedTokenizerBase) -> int:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return len(backend.to_str(pretty=True).encode()) if backend else MIB


def _free_bytes(folder: Path) -> int:
    """Return the free bytes where `folder` is, or will be."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(place).free


def _deleted_bytes(folder: Path) -> int:
    """Return the size of the models of an earlier run, which is deleted before this one starts."""
    models = [*checkpoints_in(folder), *folder.glob("final_model")]
    return sum(file.stat().st_size for model in models for file in model.rglob("*") if file.is_file())
