"""The parts of benchmarks/gpu_check.py: each is a function of what the earlier parts found, and returns figures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from psutil import Process

from benchmarks.gpu_exactness import ALL_LINEAR, check_packed, check_step_0
from benchmarks.gpu_models import random_weights, write_model
from benchmarks.gpu_training import WARM_UP, Case, Place, StepTimes, make_job, measure, train
from benchmarks.trl_inputs import Q_V, SHAPES, Shape, TextWriter
from script_io.files import read_jsonl
from training.metrics_log import METRICS_FILE

ROWS_OF_512 = Shape(392, 120)
MEMORY_LIMIT_GB = 12.0
SEQUENCES, COMPLETIONS, NEW_TOKENS, PROMPTS = 256, 8, 80, Shape(200, 80)
GEMM_SIZE = {"cuda": 8192}  # rows and columns of the matrices of the measured product
SMALL_GEMM_SIZE = 1024


@dataclass(frozen=True)
class Context:
    """What a part works with: the place, the models' names in MODELS, its seconds, and the figures found so far."""

    place: Place
    small: str
    large: str
    seconds: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def flops(self) -> float | None:
        """Return the measured FLOP per second of the device, if that part has run."""
        flops: float | None = self.found.get("product", {}).get("flops")
        return flops

    @property
    def is_tiny(self) -> bool:
        return self.small == self.large

    @property
    def shape(self) -> Shape:
        """Return the lengths of the texts where nothing else is asked for."""
        return SHAPES["short" if self.is_tiny else "clinical"]

    def steps(self, number: int) -> int:
        """Return the most steps of a run: `number`, or the fewest that can be measured for a tiny model."""
        return WARM_UP + 1 if self.is_tiny else number

    def measure(self, case: Case, seconds: float, name: str = "", **options: Any) -> dict[str, Any]:
        """Measure the steps of a case for so many seconds; `name` tells the cases of a part apart."""
        place = replace(self.place, folder=self.place.folder / name)
        return measure(case, place, StepTimes(place.device, seconds), flops=self.flops, **options)


def first_step(context: Context) -> dict[str, Any]:
    """Time the way from the start of this process to the end of the first optimiser step of Stage A."""
    times = StepTimes(context.place.device, 0.0)
    case = Case("sft", context.small, context.shape, 16, ALL_LINEAR, steps=WARM_UP + 1)
    found = measure(case, context.place, times)
    ago = time.perf_counter() - times.ends[0]
    since_start = time.time() - Process().create_time() - ago
    return {"seconds_from_process_start": since_start, "seconds_in_script": found["seconds_to_first_step"]}


def product(context: Context) -> dict[str, Any]:
    """Measure the FLOP per second of a bfloat16 product of two large matrices, the best of ten."""
    device = context.place.device
    size = GEMM_SIZE.get(device.type, SMALL_GEMM_SIZE)
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        wait(device)
        start = time.perf_counter()
        left @ right
        wait(device)
        seconds.append(time.perf_counter() - start)
    return {"size": size, "flops": 2 * size**3 / min(seconds)}


def wait(device: Any) -> None:
    """Wait until the device has computed everything that was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def packed(context: Context) -> dict[str, Any]:
    """Check packed rows against the padded batch."""
    return check_packed(context.small, context.place)


def step_0(context: Context) -> dict[str, Any]:
    """Check the loss of Stage B's first step."""
    return check_step_0(context.small, context.place)


def stage_a_135m(context: Context) -> dict[str, Any]:
    """Measure Stage A with LoRA on all linear layers, with and without dropout."""
    found = {}
    for name, dropout in (("dropout_0.05", 0.05), ("dropout_0", 0.0)):
        lora = replace(ALL_LINEAR, dropout=dropout)
        case = Case("sft", context.small, context.shape, 16, lora, steps=context.steps(40))
        found[name] = context.measure(case, context.seconds / 2, name)
    return found


def stage_b_135m(context: Context) -> dict[str, Any]:
    """Measure Stage B with LoRA on q_proj and v_proj, and on all linear layers."""
    found = {}
    for name, lora in (("q_v", Q_V), ("all_linear", ALL_LINEAR)):
        case = Case("dpo", context.small, context.shape, 8, lora, steps=context.steps(40))
        found[name] = context.measure(case, context.seconds / 2, name)
    return found


def float16(context: Context) -> dict[str, Any]:
    """Train Stage A in float16: whether every loss is finite, and where the scale of the loss settles."""
    lora = replace(Q_V, dropout=0.05)
    case = Case("sft", context.small, context.shape, 4, lora, dtype="float16", steps=context.steps(24))
    job, _ = make_job(case, context.place)
    with random_weights(context.place.seed):
        run = train(job)
    lines = [line for _, line in read_jsonl(run.folder / METRICS_FILE, ("kind",)) if line["kind"] == "train"]
    skipped = [line["step"] for line in lines if line["grad_norm"] is None]
    scale = run.grad_scaler.get_scale()
    return {
        "losses_are_finite": all(line["loss"] is not None for line in lines),
        "loss_scale": scale,
        "steps": len(lines),
        "skipped_steps": skipped,
        "scale_settles": math.isfinite(scale) and len(lines) not in skipped,
    }


def sampling(context: Context) -> dict[str, Any]:
    """Sample 80 new tokens with 256 sequences at a time, after a first run of a few tokens."""
    import random

    from language_model.loading import load_for_inference
    from language_model.local_sampler import LocalSampler
    from language_model.prompt_format import build_prompt
    from language_model.sampler import SamplingSettings

    place, sequences = context.place, COMPLETIONS if context.is_tiny else SEQUENCES
    model = write_model(context.small, place.folder / "model", place.seed)
    with random_weights(place.seed):
        loaded = load_for_inference(model.base, device=place.device.type, dtype="bfloat16")
    writer = TextWriter(loaded.tokenizer, random.Random(place.seed))
    notes = (writer.triplet(str(number), PROMPTS)["note"] for number in range(sequences // COMPLETIONS))
    prompts = list(map(build_prompt, notes))
    sampler = LocalSampler(loaded, context.small)

    def sample(new_tokens: int) -> tuple[int, float]:
        settings = SamplingSettings(COMPLETIONS, new_tokens, 0.9, sequences, place.seed)
        start = time.perf_counter()
        texts = [text for _, completions in sampler.complete(prompts, settings) for text in completions]
        wait(place.device)
        return sum(text.num_tokens for text in texts), time.perf_counter() - start

    _, warm_up_seconds = sample(8)
    tokens, seconds = sample(NEW_TOKENS)
    return {
        "sequences": sequences,
        "completions_per_prompt": COMPLETIONS,
        "new_tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "warm_up_seconds": warm_up_seconds,
    }


def stage_b_7b_4bit(context: Context) -> dict[str, Any]:
    """Measure Stage B of a 4-bit model with checkpointing in 12 GB: 4 pairs of rows of 512 tokens on average."""
    device = context.place.device
    share = MEMORY_LIMIT_GB * 1e9 / torch.cuda.get_device_properties(device).total_memory
    case = Case("dpo", context.large, ROWS_OF_512, 4, Q_V, dtype="4bit", steps=16)

    def limit() -> None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)

    try:
        found = context.measure(case, context.seconds, flags=("--gradient_checkpointing",), made=limit)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    return {**found, "memory_limit_gb": MEMORY_LIMIT_GB}


def _large(stage: str, variant: str) -> Callable[[Context], dict[str, Any]]:
    """Return the part that measures a stage of the large model in bfloat16."""

    def part(context: Context) -> dict[str, Any]:
        case = Case(stage, context.large, context.shape, 4, Q_V, variant=variant, steps=context.steps(16))
        return context.measure(case, context.seconds)

    part.__doc__ = f"Measure {variant} in stage {stage} of the large model in bfloat16, LoRA on q_proj and v_proj."
    return part


@dataclass(frozen=True)
class Part:
    """One part: its function, its share of the seconds for measured steps, and what it needs."""

    run: Callable[[Context], dict[str, Any]]
    share: float = 0.0
    needs_cuda: bool = False  # even with a tiny model
    is_large: bool = False  # needs CUDA unless the model is tiny
    packages: tuple[str, ...] = ()


_TRL = ("trl", "datasets")
PARTS = {
    "first_step": Part(first_step),
    "product": Part(product),
    "packed": Part(packed),
    "step_0": Part(step_0),
    "stage_a_135M": Part(stage_a_135m, 0.04),
    "stage_b_135M": Part(stage_b_135m, 0.04),
    "sampling": Part(sampling),
    "float16": Part(float16),
    "stage_b_7B_4bit": Part(stage_b_7b_4bit, 0.05, needs_cuda=True, packages=("bitsandbytes",)),
    "stage_b_7B": Part(_large("dpo", "ours"), 0.04, is_large=True),
    "stage_b_7B_trl": Part(_large("dpo", "trl_best"), 0.04, is_large=True, packages=_TRL),
    "stage_a_7B": Part(_large("sft", "ours"), 0.04, is_large=True),
    "stage_a_7B_trl": Part(_large("sft", "trl_best"), 0.03, is_large=True, packages=_TRL),
    "stage_a_7B_trl_padded": Part(_large("sft", "trl_padded"), 0.03, is_large=True, packages=_TRL),
}
