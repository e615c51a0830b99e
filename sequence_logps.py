"""Log-probabilities of completions under a model, computing no more of the vocabulary than they need."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from dpo_loss import IGNORED, completion_logps


def batch_logps(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability and number of tokens of each row's completion, each (B,); see `completion_logps`.

    Args:
        model: a causal language model, wrapped by peft or accelerate or neither.
        batch: right-padded `input_ids`, `attention_mask` and `labels`, each (B, T); labels are -100 off the completion.

    The head is applied from the last prompt token of the shortest prompt on: what lies before predicts no completion.
    """
    supervised = (batch["labels"] != IGNORED).any(dim=0)
    first = int(supervised.int().argmax())  # position of the first completion token in any row
    kept = batch["labels"].shape[1] - max(first - 1, 0)
    arguments = {"logits_to_keep": kept} if _can_keep_logits(model) else {}
    logits = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False, **arguments
    ).logits
    return completion_logps(logits[:, -kept:], batch["labels"][:, -kept:])


def _can_keep_logits(model: torch.nn.Module) -> bool:
    """Whether the innermost model's forward takes `logits_to_keep`."""
    inner: Any = model
    while hasattr(inner, "module"):  # DistributedDataParallel
        inner = inner.module
    if hasattr(inner, "get_base_model"):  # peft
        inner = inner.get_base_model()
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
