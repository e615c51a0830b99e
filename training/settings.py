"""The training flags that both stages share, their checks, and the learning-rate schedule."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from language_model.length_limits import OVERFLOWS
from language_model.prompt_flags import add_prompt_arguments
from script_io.errors import InputError, at_least

if TYPE_CHECKING:
    import torch

SCHEDULES = ("cosine", "linear", "constant")
TRACKERS = ("none", "tensorboard", "wandb", "trackio")


def add_training_arguments(
    parser: argparse.ArgumentParser, *, output_dir: str, learning_rate: float, batch_size: int, batch_unit: str
) -> None:
    """Add the flags that both stages share, with the stage's own defaults. `batch_unit` is what a batch counts."""
    _add_length_arguments(parser)
    add_prompt_arguments(parser)
    _add_optimisation_arguments(parser, learning_rate, batch_size, batch_unit)
    _add_evaluation_arguments(parser, batch_unit)
    _add_output_arguments(parser, output_dir)


def _add_length_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Length")
    group.add_argument(
        "--max_length",
        type=at_least(1),
        default=512,
        help="longest prompt with completion, in tokens; see --overflow",
    )
    group.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default="drop",
        help="drop: leave longer examples out and count them; shorten_note: cut the middle of the note, marked "
        "(default: drop)",
    )


def _add_optimisation_arguments(
    parser: argparse.ArgumentParser, learning_rate: float, batch_size: int, unit: str
) -> None:
    group = parser.add_argument_group("Optimisation")
    group.add_argument("--num_epochs", type=at_least(1), default=2, help="number of passes over the training data")
    group.add_argument(
        "--learning_rate",
        type=float,
        default=learning_rate,
        help="learning rate of AdamW after warm-up, per step",
    )
    group.add_argument(
        "--batch_size",
        type=at_least(1),
        default=batch_size,
        help=f"number of {unit} in memory at once, per process",
    )
    group.add_argument(
        "--gradient_accumulation_steps",
        type=at_least(1),
        default=1,
        help="number of batches per optimiser step",
    )
    group.add_argument(
        "--lr_scheduler",
        choices=SCHEDULES,
        default="cosine",
        help="course of the learning rate after warm-up; cosine and linear end at 0 (default: cosine)",
    )
    group.add_argument("--warmup_ratio", type=float, default=0.1, help="warm-up as a share of all steps, 0 to 1")
    group.add_argument(
        "--warmup_steps",
        type=at_least(0),
        default=0,
        help="warm-up in steps; 0: use --warmup_ratio",
    )
    group.add_argument(
        "--max_grad_norm",
        type=float,
        default=1.0,
        help="largest L2 norm of the gradient, which is scaled down to it; 0: no clipping",
    )
    group.add_argument(
        "--weight_decay",
        type=float,
        default=0.0,
        help="decoupled weight decay of AdamW, as a share of the weight per unit of learning rate",
    )
    group.add_argument(
        "--gradient_checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, about a third more time",
    )
    group.add_argument(
        "--shard_base",
        action="store_true",
        help="with several processes: split the frozen base over them (FSDP2), for a base larger than one GPU; an FSDP "
        "configuration of accelerate turns it on",
    )
    group.add_argument(
        "--skip_preflight",
        action="store_true",
        help="start without the trial of one short batch: context length, forward and backward pass, save, load, merge",
    )
    group.add_argument(
        "--ignore_memory_estimate",
        action="store_true",
        help="train on a CPU although the run would need more memory than is free, by the estimate",
    )


def _add_evaluation_arguments(parser: argparse.ArgumentParser, unit: str) -> None:
    group = parser.add_argument_group("Evaluation")
    group.add_argument(
        "--eval_steps",
        type=at_least(0),
        default=0,
        help="evaluate every N steps as well as after each epoch; 0: after epochs only",
    )
    group.add_argument(
        "--eval_batch_size",
        type=at_least(0),
        default=0,
        help=f"number of {unit} in memory at once in evaluation; 0: as in training",
    )
    group.add_argument(
        "--early_stopping_patience",
        type=at_least(0),
        default=0,
        help="stop after N evaluations without a better validation loss and keep the best model; 0: never",
    )


def _add_output_arguments(parser: argparse.ArgumentParser, output_dir: str) -> None:
    group = parser.add_argument_group("Output")
    group.add_argument("--output_dir", default=output_dir, help="folder of the run")
    group.add_argument(
        "--overwrite_output_dir",
        action="store_true",
        help="delete the run that --output_dir holds; other files in it stay",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint in --output_dir, or from the beginning if it has none",
    )
    group.add_argument(
        "--save_steps",
        type=at_least(0),
        default=0,
        help="save a checkpoint every N steps as well as after each epoch; 0: after epochs only",
    )
    group.add_argument(
        "--keep_checkpoints",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of checkpoints to keep, the newest ones, and also the one of the best evaluation; 0: all",
    )
    group.add_argument("--logging_steps", type=at_least(1), default=10, help="number of steps between console lines")
    group.add_argument(
        "--report_to",
        choices=TRACKERS,
        default="none",
        help="tracker that gets settings and metrics, but no text of notes; wandb sends them to a server "
        "(default: none)",
    )


def check_training_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for numbers that no run can be made of."""
    for name in ("max_grad_norm", "weight_decay"):
        if not 0 <= getattr(args, name) < math.inf:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 0")
    if not 0 < args.learning_rate < math.inf:
        raise InputError(f"--learning_rate {args.learning_rate}: must be above 0")
    if not 0 <= args.warmup_ratio <= 1:
        raise InputError(f"--warmup_ratio {args.warmup_ratio}: must be between 0 and 1")
    if args.resume and args.overwrite_output_dir:
        raise InputError("--resume and --overwrite_output_dir exclude each other; choose one")


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """Return the factor of the learning rate at a step counted from 0: linear warm-up, then the schedule."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if schedule == "linear" else 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, args: argparse.Namespace, step: int, total_steps: int) -> float:
    """Set the learning rate of a step, as the flags ask for it, and return it."""
    warmup_steps = args.warmup_steps if args.warmup_steps > 0 else round(args.warmup_ratio * total_steps)
    rate: float = args.learning_rate * learning_rate_factor(step, total_steps, warmup_steps, args.lr_scheduler)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
