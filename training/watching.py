"""Watch a run: signals, steps that are not finite, missing gradients, lost likelihood, speed and peak memory."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from script_io.errors import RunError
from script_io.progress import progress_bar
from script_io.stop_signals import exit_code_of, handled
from training.run import TrainingRun

if TYPE_CHECKING:
    import torch

MAX_NON_FINITE_STEPS = 3
DISPLACEMENT_LIMIT = 5.0  # nats that the mean log-probability of chosen completions may fall before a warning
END_LIMIT = 1.0  # nats that the mean log-probability of their end may fall before a warning


class StopRequest:
    """Set by Ctrl-C, SIGTERM or SIGHUP: the loop finishes its step, saves a checkpoint and exits with `exit_code`.

    The request takes effect at the end of a step, for all processes at once, whichever of them got the signal.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._signalled = 0

    def __bool__(self) -> bool:
        return self.exit_code != 0

    def settle(self, run: TrainingRun) -> None:
        """At the end of a step, find out whether any process got a signal."""
        self.exit_code = self._signalled
        if run.plan.num_processes > 1:
            import torch

            codes = run.accelerator.gather(torch.tensor([self._signalled], device=run.device))
            self.exit_code = int(codes.max())

    def set(self, signal_number: int) -> None:
        """Take a signal. The second one raises KeyboardInterrupt, which ends the run at once."""
        if self._signalled:
            raise KeyboardInterrupt
        self._signalled = exit_code_of(signal_number)
        print("\nStopping after this step, with a checkpoint.", file=sys.stderr)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP into a StopRequest while the block runs."""
    request = StopRequest()
    with handled(request.set):
        yield request


class NonFiniteGuard:
    """Names the examples of a step whose loss or gradient is not finite; stops the run after three in a row.

    In float16 a gradient overflows whenever the loss scale has grown too large. Such a step is skipped and the scale
    halved, which is no fault of the examples: it counts only once the scale cannot fall any further.
    """

    def __init__(self) -> None:
        self.in_a_row = 0

    def is_finite(self, loss: float, grad_norm: float, ids: Sequence[str], loss_scale: float = 1.0) -> bool:
        """Return whether the optimiser may take the step."""
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.in_a_row = 0
            return True
        if math.isfinite(loss) and loss_scale > 1:
            print(f"Step skipped: the float16 gradient overflowed at loss scale {loss_scale:g}; the scale is halved")
            return False
        self.in_a_row += 1
        print(f"warning: loss {loss}, gradient norm {grad_norm}; step skipped, ids: {', '.join(ids)}", file=sys.stderr)
        if self.in_a_row >= MAX_NON_FINITE_STEPS:
            raise RunError(
                f"{MAX_NON_FINITE_STEPS} steps in a row had no finite loss or gradient; the last checkpoint is intact: "
                "lower --learning_rate, or check the examples named above"
            )
        return False


def check_gradients(model: torch.nn.Module, *, may_be_zero: bool = False) -> None:
    """Check after a backward pass that every trainable tensor has a finite gradient and some are not zero.

    `may_be_zero`: the loss itself may have no gradient, so that zeros say nothing about the model. Raises RunError
    naming the first tensor that fails.
    """
    trainable = [(name, p.grad) for name, p in model.named_parameters() if p.requires_grad]
    missing = [name for name, gradient in trainable if gradient is None]
    if missing:
        raise RunError(f"no gradient reached {len(missing)} of {len(trainable)} trainable tensors, first {missing[0]}")
    wild = [name for name, gradient in trainable if gradient is not None and not gradient.isfinite().all()]
    if wild:
        raise RunError(f"the gradient is not finite in {len(wild)} trainable tensors, first {wild[0]}")
    if not may_be_zero and not any(gradient is not None and gradient.any() for _, gradient in trainable):
        raise RunError(f"every gradient is zero, from {trainable[0][0]} on; the frozen base passes none on")


def warn_of_displacement(before: float | None, now: float) -> None:
    """Warn if the chosen completions have become less likely than `before` training (None: not known), in mean nats."""
    if before is not None and before - now > DISPLACEMENT_LIMIT:
        print(
            f"warning: likelihood displacement: the chosen completions lost {before - now:.1f} nats on average (limit "
            f"{DISPLACEMENT_LIMIT:g}); raise --nll_weight, or lower --learning_rate",
            file=sys.stderr,
        )


def warn_of_endings(before: float | None, now: float) -> None:
    """Warn if the end of the chosen completions has become less likely than `before` training (None: not known)."""
    if before is not None and before - now > END_LIMIT:
        print(
            f"warning: the end of the chosen completions lost {before - now:.1f} nats on average (limit "
            f"{END_LIMIT:g}): the model may go on where it should stop; raise --nll_weight, or lower --learning_rate",
            file=sys.stderr,
        )


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of CUDA's allocator, or on other devices the peak resident size of this process."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # Linux: its ru_maxrss would include the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    import psutil

    return int(getattr(psutil.Process().memory_info(), "peak_wset"))  # noqa: B009 - only Windows has it


class StepTimer:
    """The progress bar, and the time and tokens of training steps. Evaluations and checkpoints are not counted.

    `tokens` are the tokens that the model reads, without padding.
    """

    def __init__(self, run: TrainingRun, description: str) -> None:
        self.run = run
        label = description if run.accelerator.is_main_process else None
        total = run.plan.total_steps
        self.bar = progress_bar(label=label, total=total, unit="step", initial=run.state.step)
        self._step_start = time.perf_counter()

    def start_step(self) -> None:
        self._step_start = time.perf_counter()

    def end_step(self, tokens: int) -> dict[str, float]:
        """Count a step; return its speed (tokens per second) and the peak memory so far (bytes)."""
        seconds = time.perf_counter() - self._step_start
        self.run.state.seconds += seconds
        self.run.state.tokens += tokens
        self.bar.update()
        return {"tokens_per_second": tokens / seconds, "peak_memory_bytes": peak_memory_bytes(self.run.device)}

    def close(self) -> None:
        self.bar.close()
