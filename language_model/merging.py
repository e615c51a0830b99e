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
# Largest share of the logits that rounding explains: the sum of a weight and its adapter is rounded once more.
# SmolLM2-135M after Stage A changes by 2e-6 in float32 and 0.026 in bfloat16, where one logit moves by up to 2.7; wrong
# merges change more (tests/language_model/test_merging.py). A fault that changes the logits by less than this passes in
# half precision: merge in float32 to see it.
TOLERANCE = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}


def probe_logits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt_format: str, device: torch.device
) -> torch.Tensor:
    """Return the logits (T, V) of a fixed note, as float32 on the CPU."""
    import torch

    ids = encode_prompt(tokenizer, build_prompt(PROBE_NOTE), prompt_format)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids], device=device)).logits[0]
    return logits.float().cpu()


def changed_share(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the root mean square of the change of the logits (T, V) by that of the logits.

    The mean over V is taken off both, since no probability depends on it.
    """
    change, whole = (logits - logits.mean(dim=-1, keepdim=True) for logits in (after - before, before))
    return (change.norm() / whole.norm()).item()


def tolerance_of(dtype: torch.dtype) -> float:
    """Return the largest `changed_share` of a sound merge in this dtype."""
    return TOLERANCE[str(dtype).removeprefix("torch.")]


def require_same_logits(name: str, before: torch.Tensor, after: torch.Tensor, dtype: torch.dtype) -> str:
    """Return how much of the logits (T, V) merging changed, in words.

    Raises RunError if it is more than the rounding of merged weights in `dtype` explains; `name` is the model's.
    """
    share, tolerance = changed_share(before, after), tolerance_of(dtype)
    if not share <= tolerance:
        remedy = "this adapter cannot be merged" if dtype.itemsize == 4 else "merge in --dtype float32"
        raise RunError(f"{name}: merging changed the logits by {share:.1%}; {remedy}")
    return f"{share:.1e} of their size (tolerance {tolerance:g})"
