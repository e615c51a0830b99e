"""Log-probabilities of completions by a padded batch through the model as it is: the plain way of completion_scorer.py,
and what its fast way is held against.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from scoring.packed_rows import Sample

IGNORED = -100


def completion_logps(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability of each row's completion, log pi(y|x).

    Args:
        logits: (B, T, V), any floating dtype; position t predicts token t + 1.
        labels: (B, T) long, -100 wherever a token is not of the completion.

    Returns:
        (B,) float64 sums in nats and (B,) long counts of the completion's tokens. Token terms are float32 and their
        sums float64: float32 sums of a hundred terms are off by up to 1e-5 nats.
    """
    targets = labels[:, 1:]
    mask = targets != IGNORED
    chosen_logits = logits[:, :-1].float()
    token_logits = chosen_logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    token_logps = (token_logits - chosen_logits.logsumexp(dim=-1)).masked_fill(~mask, 0.0)
    return token_logps.sum(dim=-1, dtype=sum_dtype(logits.device)), mask.sum(dim=-1)


def sum_dtype(device: torch.device) -> torch.dtype:
    """What sums of log-probabilities are kept in: float64, save on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def pad_samples(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    """One right-padded row a completion, each behind its prompt: `input_ids`, `attention_mask`, `labels`, all (K, T).

    Labels are -100 on prompts and padding.
    """
    rows = [(sample.prompt, completion) for sample in samples for completion in sample.completions]
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, mask, labels = [], [], []
    for prompt, completion in rows:
        padding = length - len(prompt) - len(completion)
        ids.append([*prompt, *completion, *[pad_id] * padding])
        mask.append([1] * (length - padding) + [0] * padding)
        labels.append([*[IGNORED] * len(prompt), *completion, *[IGNORED] * padding])
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
    }


def batch_logps(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability and number of tokens of each row's completion, each (K,); see `completion_logps`.

    Args:
        model: a causal language model, wrapped by peft or not.
        batch: as `pad_samples` makes it, on the model's device.

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
    if hasattr(inner, "get_base_model"):  # peft
        inner = inner.get_base_model()
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
