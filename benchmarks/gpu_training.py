"""Training runs of benchmarks/gpu_check.py: their inputs, and the speed of their steps, for our scripts and for TRL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu_models import random_weights, release_memory, write_model
from benchmarks.trl_inputs import Lora, Model, Shape, write_data
from benchmarks.trl_job import Clock, Job, Probe, steps_of, token_ids
from benchmarks.trl_report import flops_per_token
from benchmarks.trl_variants import our_command_line, run_trl
from training.watching import peak_memory_bytes

if TYPE_CHECKING:
    from training.run import TrainingRun

WARM_UP = 3  # steps that are not measured: they compile, and find their kernels


@dataclass(frozen=True)
class Case:
    """One training run: the stage, the model by its name in MODELS, the rows, LoRA, and the dtype as in `Job`."""

    stage: str
    model: str
    shape: Shape
    batch_size: int
    lora: Lora
    dtype: str = "bfloat16"
    variant: str = "ours"
    steps: int = 40


@dataclass(frozen=True)
class Place:
    """Where cases run: the device, a folder for their files, and the seed of weights and data."""

    device: torch.device
    folder: Path
    seed: int


class BudgetSpent(Exception):
    """The seconds of a case are over."""


class StepTimes:
    """The times at which optimiser steps ended (`time.perf_counter`), whoever runs them.

    After `seconds`, counted from the end of the first step, it raises BudgetSpent out of the step, if at least one step
    after the warm-up is measured.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds
        self.ends: list[float] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the steps within the block, which ends early when the seconds are over."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        hook = register_optimizer_step_post_hook(self._end_step)
        try:
            yield
        except BudgetSpent:
            pass
        finally:
            hook.remove()

    def _end_step(self, *_: Any) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.perf_counter())
        if len(self.ends) > WARM_UP and self.ends[-1] - self.ends[0] > self.seconds:
            raise BudgetSpent

    def tokens_per_second(self, tokens: list[int]) -> float:
        """Return the speed of the steps after the warm-up; `tokens` has the useful tokens of every step."""
        measured = tokens[WARM_UP : len(self.ends)]
        return sum(measured) / (self.ends[-1] - self.ends[WARM_UP - 1])


def make_job(case: Case, place: Place) -> tuple[Job, Model]:
    """Write the files of a case and return its job."""
    model = write_model(case.model, place.folder / "model", place.seed, case.lora)
    data = write_data(case.stage, case.shape, case.steps, case.batch_size, place.folder / "data", place.seed)
    job = Job(
        stage=case.stage,
        variant=case.variant,
        dtype=case.dtype,
        device=place.device.type,
        base=model.base,
        adapter=model.adapter,
        lora_target_modules=list(case.lora.target_modules),
        lora_dropout=case.lora.dropout,
        train=data.train,
        val=data.val,
        max_length=data.max_length,
        batch_size=case.batch_size,
        epochs=1,
        check=False,
        seed=place.seed,
        memory_limit_gb=None,
        folder=str(place.folder),
    )
    return job, model


def measure(
    case: Case,
    place: Place,
    times: StepTimes,
    *,
    flops: float | None = None,
    flags: tuple[str, ...] = (),
    made: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train a case as long as `times` lets it; return speed, peak memory and utilisation.

    `flops` is what the device computes per second, `flags` are more flags of our script, and `made` is called when the
    model has its weights.
    """
    job, model = make_job(case, place)
    steps = steps_of(job, token_ids(job))
    tokens = [sum(len(ids) for example in step for ids in example) for step in steps]
    release_memory(place.device)
    _forget_processes()
    start = time.perf_counter()
    with random_weights(place.seed, made), times.recording():
        if case.variant == "ours":
            train(job, *flags)
        else:
            run_trl(job, Clock(job.device), Probe(job))
    speed = times.tokens_per_second(tokens)
    result = {
        "variant": case.variant,
        "model_parameters": model.parameters,
        "batch_size": case.batch_size,
        "dtype": case.dtype,
        "lora_target_modules": list(case.lora.target_modules),
        "lora_dropout": case.lora.dropout,
        "longest_tokens": job.max_length,
        "tokens_per_second": speed,
        "steps": len(times.ends),
        "peak_bytes": peak_memory_bytes(place.device),
        "seconds_to_first_step": times.ends[0] - start,
    }
    if flops:
        completion = sum(len(ids) for step in steps for example in step for ids in example[1:])
        needed = flops_per_token(model, case.stage, {"tokens": sum(tokens), "completion_tokens": completion})
        result["utilisation"] = speed * needed / flops
    return result


def _forget_processes() -> None:
    """Let accelerate be set up anew: TRL chooses another precision than our scripts, for the whole process."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def train(job: Job, *flags: str) -> TrainingRun:
    """Run the stage's script from its command line to the end of its loop, and return the run."""
    from training.watching import StopRequest

    script = stage_script(job.stage)
    run, *data = script.prepare(script.parse_args([*our_command_line(job), *flags]))
    script.train_loop(run, *data, StopRequest())
    trained: TrainingRun = run
    return trained


def stage_script(stage: str) -> Any:
    """Return the module of Stage A (`sft`) or of Stage B (`dpo`)."""
    import stage_a_sft_training
    import stage_b_dpo_training

    return stage_b_dpo_training if stage == "dpo" else stage_a_sft_training
