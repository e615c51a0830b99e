"""Run a stage's script in this process, for benchmarks that measure the script itself.

The peak of memory belongs to the process, so call each function in a new process.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any


def estimated_run(stage: str, flags: list[str]) -> dict[str, Any]:
    """Run a stage's script and return the parts and total of its memory estimate and its peaks, in bytes."""
    import stage_a_sft_training
    import stage_b_dpo_training
    from training import memory_estimate
    from training.watching import StopRequest, peak_memory_bytes

    estimates = []
    fit_memory = memory_estimate.fit_memory

    def recorded(*args: Any) -> memory_estimate.MemoryEstimate:
        estimates.append(fit_memory(*args))
        return estimates[0]

    memory_estimate.fit_memory = recorded  # type: ignore[assignment]
    script: Any = stage_b_dpo_training if stage == "dpo" else stage_a_sft_training
    run, *data = script.prepare(script.parse_args(flags))
    loaded = peak_memory_bytes(run.device)
    script.train_loop(run, *data, StopRequest())
    return {
        **asdict(estimates[0]),
        "estimate": estimates[0].total,
        "peak_before_training": loaded,
        "peak": peak_memory_bytes(run.device),
    }


def timed_epoch(flags: list[str]) -> dict[str, Any]:
    """Run Stage B for the epochs of `flags` and return its figures.

    These are the tokens, the CPU seconds of the loop and before it, tokens per CPU-second, and the peak in bytes.
    """
    import torch

    import stage_b_dpo_training as stage_b
    from training.watching import StopRequest, peak_memory_bytes

    torch.set_num_threads(1)
    run, pair, train, val = stage_b.prepare(stage_b.parse_args(flags))
    prepared = start = time.process_time()
    stage_b.train_loop(run, pair, train, val, StopRequest())
    seconds = time.process_time() - start
    tokens = run.state.tokens
    figures = {"tokens": tokens, "cpu_seconds": seconds, "cpu_seconds_before": prepared, "speed": tokens / seconds}
    return figures | {"peak_bytes": peak_memory_bytes(run.device)}
