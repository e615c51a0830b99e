"""The presets of `--hardware`: flags with which a 7B model trains on a machine of that size, by the memory estimate.

docs/speed_and_memory.md has the estimates. They are by `training/memory_estimate.py`, for examples of 512 tokens and
adapters on all linear layers, and a test holds the presets against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GENERATING = ("generate_completions.py", "evaluation/evaluate_model.py")
EXCLUDE_EACH_OTHER = {"use_4bit": "use_8bit", "use_8bit": "use_4bit"}


@dataclass(frozen=True)
class Preset:
    """Flags by script. `fits` says which models they are for."""

    device: str
    fits: str
    every: tuple[str, ...]  # for each script that knows the flag
    stage_a: tuple[str, ...]
    stage_b: tuple[str, ...]
    generation: tuple[str, ...] = ()

    def words(self, script: str) -> list[str]:
        """Return the flags of one script, without `every` and the device."""
        if script in GENERATING:
            return list(self.generation)
        return list({"stage_a_sft_training.py": self.stage_a, "stage_b_dpo_training.py": self.stage_b}.get(script, ()))


def _batch(size: int, accumulation: int = 1) -> tuple[str, ...]:
    return "--batch_size", str(size), "--gradient_accumulation_steps", str(accumulation)


_4BIT, _CHECKPOINTING = ("--use_4bit",), ("--gradient_checkpointing",)

# Every preset takes 8 examples or triplets per optimiser step. For generation, `--batch_size` is what the keys and
# values of a 7B model without grouped heads leave room for: 0.35 GB per sequence of 660 tokens.
PRESETS = {
    "cpu": Preset(
        device="cpu",
        fits="1B with 8 GB of memory, 3B with 16 GB, 8B with 32 GB, in bfloat16; float32 takes about twice as much",
        every=(),
        stage_a=(*_CHECKPOINTING, *_batch(1, 8)),
        stage_b=(*_CHECKPOINTING, *_batch(1, 8)),
    ),
    "mac": Preset(
        device="mps",
        fits="3B with 16 GB of unified memory, 8B with 32 GB, in bfloat16",
        every=(),
        stage_a=(*_CHECKPOINTING, *_batch(1, 8)),
        stage_b=(*_CHECKPOINTING, *_batch(1, 8)),
    ),
    "12gb": Preset(
        device="cuda",
        fits="up to 8B, in 4-bit",
        every=_4BIT,
        stage_a=(*_CHECKPOINTING, *_batch(2, 4)),
        stage_b=(*_CHECKPOINTING, *_batch(1, 8)),
        generation=("--batch_size", "8"),
    ),
    "24gb": Preset(
        device="cuda",
        fits="up to 8B, in bfloat16 (14B with --use_4bit)",
        every=(),
        stage_a=(*_CHECKPOINTING, *_batch(4, 2)),
        stage_b=(*_CHECKPOINTING, *_batch(2, 4)),
        generation=("--batch_size", "16"),
    ),
    "80gb": Preset(
        device="cuda",
        fits="up to 14B, in bfloat16 (32B with --gradient_checkpointing, 70B with --use_4bit as well)",
        every=(),
        stage_a=_batch(8),
        stage_b=_batch(4, 2),
        generation=("--batch_size", "64"),
    ),
}


def excluded_by(given: Mapping[str, object]) -> set[str]:
    """Return the flags of a preset that flags of the user replace: the same ones, and ones that exclude them."""
    return {*given, *(EXCLUDE_EACH_OTHER[name] for name in given if given[name] and name in EXCLUDE_EACH_OTHER)}
