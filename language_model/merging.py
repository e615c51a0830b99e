"""Check that a model computes the same logits before and after its adapter was added to its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from language_model.prompt_format import build_prompt, encode_prompt
from script_io.errors import RunError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PROBE_NOTE = (
    "Patient is a 54-year-old woman with 3 weeks of chest pain. Denies fever. BP 142/88, HR 96 bpm. Suspected "
    "pulmonary embolism. Started apixaban 10 mg twice daily. Follow up in 2 weeks."
)
# Largest accepted difference between a logit with the adapter and after merging, which rounds half-precision weights
LOGIT_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.5, "float16": 0.1}


def probe_logits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt_format: str, device: torch.device
) -> torch.Tensor:
    """Return the logits (T, V) of a fixed note, as float32 on the CPU."""
    import torch

    ids = encode_prompt(tokenizer, build_prompt(PROBE_NOTE), prompt_format)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids], device=device)).logits[0]
    return logits.float().cpu()


def require_same_logits(name: str, before: torch.Tensor, after: torch.Tensor, dtype: torch.dtype) -> str:
    """Return the largest difference of the logits (T, V) in words.

    Raises RunError if it is larger than the rounding of merged weights in `dtype` explains; `name` is the model's.
    """
    difference = (after - before).abs().max().item()
    tolerance = LOGIT_TOLERANCE[str(dtype).removeprefix("torch.")]
    if not difference <= tolerance:
        remedy = "this adapter cannot be merged" if dtype.itemsize == 4 else "merge in --dtype float32"
        raise RunError(f"{name}: merging changed the logits by {difference:.1e}; {remedy}")
    return f"{difference:.1e} (tolerance {tolerance:g})"
