"""The training flags that both stages share, their checks, and the learning-rate schedule."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from language_model.length_limits import OVERFLOWS
from language_model.prompt_format import PROMPT_FORMATS
from script_io.errors import InputError

if TYPE_CHECKING:
    import torch
SCHEDULES = ("cosine", "linear", "constant")
TRACKERS = ("none", "tensorboard", "wandb", "trackio")


def add_training_arguments(
    parser: argparse.ArgumentParser, *, output_dir: str, learning_rate: float, batch_size: int, batch_unit: str
) -> None:
    """Adds the flags that both stages share, with the stage's own defaults."""
    data = parser.add_argument_group("Length")
    data.add_argument(
        "--max_length", type=int, default=512, help="tokens of prompt + completion (default: %(default)s)"
    )
    data.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default="drop",
        help="for longer examples; drop: leave them out, counted; shorten_note: cut the note's middle (default: drop)",
    )
    data.add_argument("--prompt_format", choices=PROMPT_FORMATS, help="plain, or the tokenizer's chat template")
    group = parser.add_argument_group("Optimisation")
    group.add_argument("--num_epochs", type=int, default=2, help="passes over the data (default: %(default)s)")
    group.add_argument("--learning_rate", type=float, default=learning_rate, help="peak (default: %(default)s)")
    group.add_argument(
        "--batch_size", type=int, default=batch_size, help=f"{batch_unit} in memory at once (default: %(default)s)"
    )
    group.add_argument(
        "--gradient_accumulation_steps", type=int, default=1, help="batches to an optimiser step (default: %(default)s)"
    )
    group.add_argument("--lr_scheduler", choices=SCHEDULES, default="cosine", help="after warm-up (default: cosine)")
    group.add_argument("--warmup_ratio", type=float, default=0.1, help="share of all steps (default: %(default)s)")
    group.add_argument("--warmup_steps", type=int, default=0, help="if over 0, in place of the ratio (default: 0)")
    group.add_argument("--max_grad_norm", type=float, default=1.0, help="clips the gradient (default: %(default)s)")
    group.add_argument("--weight_decay", type=float, default=0.0, help="of AdamW (default: %(default)s)")
    group.add_argument(
        "--gradient_checkpointing", action="store_true", help="less memory for about a third more time (default: off)"
    )
    evaluation = parser.add_argument_group("Evaluation")
    evaluation.add_argument("--eval_steps", type=int, default=0, help="also every N steps; 0: epochs only (default: 0)")
    evaluation.add_argument("--eval_batch_size", type=int, default=0, help=f"{batch_unit}; 0: as training (default: 0)")
    evaluation.add_argument(
        "--early_stopping_patience",
        type=int,
        default=0,
        help="stop after N evaluations without a better validation loss and keep the best model; 0: off (default: 0)",
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", default=output_dir, help="the run's folder (default: %(default)s)")
    output.add_argument("--overwrite_output_dir", action="store_true", help="delete an earlier run in that folder")
    output.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    output.add_argument("--save_steps", type=int, default=0, help="also every N steps; 0: epochs only (default: 0)")
    output.add_argument("--logging_steps", type=int, default=10, help="steps between console lines (default: 10)")
    output.add_argument(
        "--report_to", choices=TRACKERS, default="none", help="experiment tracker; notes are private (default: none)"
    )


def check_training_arguments(args: argparse.Namespace) -> None:
    """Raises InputError for numbers no run can be made of."""
    for name in ("max_length", "num_epochs", "batch_size", "gradient_accumulation_steps", "logging_steps"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 1")
    if not args.learning_rate > 0:
        raise InputError(f"--learning_rate {args.learning_rate}: must be above 0")
    if not 0 <= args.warmup_ratio <= 1:
        raise InputError(f"--warmup_ratio {args.warmup_ratio}: must be between 0 and 1")
    if args.resume and args.overwrite_output_dir:
        raise InputError("--resume and --overwrite_output_dir exclude each other; choose one")


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """The share of the peak learning rate at a step counted from 0: linear warm-up, then cosine or linear to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if schedule == "linear" else 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, args: argparse.Namespace, step: int, total_steps: int) -> float:
    """Sets and returns the learning rate of a step, as the flags ask for it."""
    warmup_steps = args.warmup_steps if args.warmup_steps > 0 else round(args.warmup_ratio * total_steps)
    rate: float = args.learning_rate * learning_rate_factor(step, total_steps, warmup_steps, args.lr_scheduler)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
