"""Watch a run: stop signals, non-finite steps, missing gradients, speed and peak memory."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from script_io.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, RunError
from training.run import TrainingRun

if TYPE_CHECKING:
    import torch

MAX_NON_FINITE_STEPS = 3


class StopRequest:
    """Made by Ctrl-C or SIGTERM; the loop finishes its step, saves a checkpoint and leaves with `exit_code`.

    It holds from the end of a step on, for all processes at once, whichever of them was asked.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._asked = 0

    def __bool__(self) -> bool:
        return self.exit_code != 0

    def settle(self, run: TrainingRun) -> None:
        """At the end of a step: whether any process has been asked."""
        self.exit_code = self._asked
        if run.plan.world > 1:
            import torch

            codes = run.accelerator.gather(torch.tensor([self._asked], device=run.device))
            self.exit_code = int(codes.max())

    def _set(self, signal_number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt  # asked twice: leave at once
        self._asked = EXIT_INTERRUPTED if signal_number == signal.SIGINT else EXIT_TERMINATED
        print("\nStopping after this step; a checkpoint follows.", file=sys.stderr)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a StopRequest while the block runs."""
    request = StopRequest()
    earlier = {number: signal.signal(number, request._set) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class NonFiniteGuard:
    """Names the examples of a step whose loss or gradient is not finite; stops the run after three in a row."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def is_finite(self, loss: float, grad_norm: float, ids: Sequence[str]) -> bool:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        print(f"warning: loss {loss}, gradient norm {grad_norm}; step skipped, ids: {', '.join(ids)}", file=sys.stderr)
        if self.in_a_row >= MAX_NON_FINITE_STEPS:
            raise RunError(
                f"{MAX_NON_FINITE_STEPS} steps in a row had no finite loss or gradient; the last checkpoint is intact: "
                "lower --learning_rate, or check the examples named above"
            )
        return False


def check_gradients(model: torch.nn.Module) -> None:
    """After a backward pass: every trainable tensor has a finite gradient and some are non-zero, or RunError."""
    trainable = [(name, p.grad) for name, p in model.named_parameters() if p.requires_grad]
    missing = [name for name, gradient in trainable if gradient is None]
    if missing:
        raise RunError(f"no gradient reached {len(missing)} of {len(trainable)} trainable tensors, first {missing[0]}")
    wild = [name for name, gradient in trainable if gradient is not None and not gradient.isfinite().all()]
    if wild:
        raise RunError(f"the gradient is not finite in {len(wild)} trainable tensors, first {wild[0]}")
    if not any(gradient is not None and gradient.any() for _, gradient in trainable):
        raise RunError(f"every gradient is zero, from {trainable[0][0]} on; the frozen base passes none on")


def peak_memory_bytes(device: torch.device) -> int:
    """CUDA: the allocator's peak. Otherwise: the peak resident size of this process."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its ru_maxrss would be that of the process that started this one, if that was larger
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    import psutil

    return int(getattr(psutil.Process().memory_info(), "peak_wset"))  # noqa: B009 - Windows alone has it


class StepTimer:
    """The progress bar and the speed: tokens are those that the model reads, padding aside."""

    def __init__(self, run: TrainingRun, description: str) -> None:
        from tqdm import tqdm

        self.run = run
        hidden = True if not run.accelerator.is_main_process else None  # None: hidden where stderr is no terminal
        total = run.plan.total_steps
        self.bar = tqdm(total=total, initial=run.state.step, desc=description, unit="step", disable=hidden)
        self.first_step = run.state.step
        self.seconds_before, self.start = run.state.seconds, time.perf_counter()
        self.step_start = self.start

    def is_first_of_epoch(self, step: int) -> bool:
        """True at the first step of an epoch, and at the first after resuming."""
        return step % self.run.plan.steps_per_epoch == 0 or step == self.first_step

    def after_step(self, tokens: int) -> dict[str, float]:
        now = time.perf_counter()
        elapsed, self.step_start = now - self.step_start, now
        self.run.state.seconds = self.seconds_before + now - self.start
        self.run.state.tokens += tokens
        self.bar.update()
        return {"tokens_per_second": tokens / elapsed, "peak_memory_bytes": peak_memory_bytes(self.run.device)}

    def close(self) -> None:
        self.bar.close()
