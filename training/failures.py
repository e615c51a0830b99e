"""Turn failures of a training run that a user can do something about into one line that says what."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from script_io.errors import RunError

if TYPE_CHECKING:
    from training.memory_estimate import MemoryEstimate

# What the run was estimated to need, once that is known
ESTIMATE: ContextVar[MemoryEstimate | None] = ContextVar("ESTIMATE", default=None)
_LOST_PEER = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


@contextmanager
def explained_failures(args: argparse.Namespace) -> Iterator[None]:
    """Within the block, running out of memory and the death of another training process raise RunError."""
    import torch

    known = ESTIMATE.set(None)
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(_out_of_memory(args, error)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # torch on a CPU
            raise RunError(_out_of_memory(args, error)) from error
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            raise
        if not isinstance(error, torch.distributed.DistError) and not any(word in str(error) for word in _LOST_PEER):
            raise
        raise RunError(
            f"another process of this run has ended ({_first_sentence(error)}); look for its own message, then "
            "continue with the same command and --resume"
        ) from error
    finally:
        ESTIMATE.reset(known)


def _out_of_memory(args: argparse.Namespace, error: BaseException) -> str:
    estimate = ESTIMATE.get()
    estimated = f"; the estimate was {estimate}" if estimate else ""
    return f"out of memory ({_first_sentence(error)}){estimated}; try {', or '.join(smaller_settings(args))}"


def smaller_settings(args: argparse.Namespace) -> list[str]:
    """Return flags with which the run would need less memory, the ones that change least first."""
    settings = [] if args.gradient_checkpointing else ["--gradient_checkpointing (also with --resume)"]
    if args.batch_size > 1:
        half, accumulation = args.batch_size // 2, args.gradient_accumulation_steps * 2
        settings.append(f"--batch_size {half} --gradient_accumulation_steps {accumulation}")
    if not (args.use_8bit or args.use_4bit):
        settings.append("--use_4bit")
    return [*settings, f"a --max_length below {args.max_length}"]


def _first_sentence(error: BaseException) -> str:
    return " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
