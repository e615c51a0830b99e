"""Describe one measurement of benchmarks/compare_trl.py, time it, and record its loss and gradients."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.trl_inputs import Lora, fresh_lora, lora_parameters, set_lora_values
from training.batch_plan import BatchPlan

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

LEARNING_RATE = 5e-6
BETA = 0.1
NO_CLIPPING = 1e9
CHECK_SEED = 7  # seed of the adapter's values in the step that is compared
Example = tuple[list[int], ...]  # token ids: prompt, chosen and, in Stage B, rejected


@dataclass(frozen=True)
class Job:
    """One measurement.

    `dtype` is the dtype of the base model, or "4bit" if it is quantised. TRL's variants load the base in the dtype of
    their settings, and quantise it for "4bit" too. A check has no dropout, since every library draws masks of its own.
    """

    stage: str
    variant: str
    dtype: str
    device: str
    base: str
    adapter: str  # of Stage A; Stage B trains it further, with its dropout turned off
    lora_target_modules: list[str]
    lora_dropout: float
    train: str
    val: str
    max_length: int
    batch_size: int
    epochs: int
    check: bool
    seed: int
    memory_limit_gb: float | None
    folder: str  # output folder of the library

    @property
    def lora(self) -> Lora:
        return Lora(tuple(self.lora_target_modules), self.lora_dropout)

    @property
    def max_grad_norm(self) -> float:
        return NO_CLIPPING if self.check else 1.0


class Clock:
    """Add up the CPU and wall-clock seconds of the parts of a run, as `PART_cpu` and `PART_wall`."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        self._wait()
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self._wait()
        for name, spent in (("cpu", time.process_time() - cpu), ("wall", time.perf_counter() - wall)):
            self.seconds[f"{part}_{name}"] = self.seconds.get(f"{part}_{name}", 0.0) + spent

    def _wait(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


class Probe:
    """Record loss and LoRA gradients of the second step.

    After the first step, the adapter gets values that are the same for every variant. The first step itself shows
    nothing in Stage B: policy and reference are equal there, so the loss is ln 2 even if log-probabilities are wrong.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.losses: list[float] = []
        self.gradients: dict[str, torch.Tensor] = {}
        self.hooks: list[Any] = []

    def watch(self, model: torch.nn.Module) -> None:
        """Record the gradients of `model` before every optimiser step, and set its adapter after every step."""
        if not self.job.check:
            return
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        parameters = lora_parameters(model)

        def take(*_: Any) -> None:
            gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
            self.gradients = {name: gradient.float().cpu().clone() for name, gradient in gradients.items()}

        move = partial(set_lora_values, parameters, CHECK_SEED)
        self.hooks = [register_optimizer_step_pre_hook(take), register_optimizer_step_post_hook(lambda *_: move())]

    def save(self, path: Path) -> dict[str, float]:
        """Write the gradients to `path` and return the loss."""
        from safetensors.torch import save_file

        for hook in self.hooks:
            hook.remove()
        save_file({name: each.contiguous() for name, each in self.gradients.items()}, path)
        return {"loss": self.losses[1]}


def steps_of(job: Job, examples: Sequence[Any]) -> list[list[Any]]:
    """Return the examples of every step, in the order of our scripts."""
    plan = BatchPlan(len(examples), job.batch_size, accumulation=1, num_epochs=job.epochs, seed=job.seed)
    return [[examples[index] for index in plan.step_indices(step)] for step in range(plan.total_steps)]


def token_ids(job: Job) -> list[Example]:
    """Return the examples of the training file as our scripts tokenise them."""
    from dpo_dataset import DPODataset
    from language_model.loading import load_tokenizer
    from sft_dataset import SFTDataset

    tokenizer = load_tokenizer(job.base)
    if job.stage == "dpo":
        triplets = DPODataset(job.train, tokenizer, max_length=job.max_length).triplets
        return [(triplet.prompt, triplet.chosen, triplet.rejected) for triplet in triplets]
    return list(SFTDataset(job.train, tokenizer, max_length=job.max_length).examples)


def load_policy(job: Job, dtype: str, attention: str = "sdpa") -> PeftModel:
    """Load the base with a trainable adapter: the saved adapter in Stage B, a new one in Stage A."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "device_map": {"": job.device},
        "attn_implementation": attention,
    }
    if job.dtype == "4bit":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(job.base, **options)
    model.config.use_cache = False
    if job.stage == "dpo":
        return PeftModel.from_pretrained(model, job.adapter, is_trainable=True)
    torch.manual_seed(job.seed)
    return fresh_lora(model, job.lora)
