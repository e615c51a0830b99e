"""Log-probabilities of completions from a padded batch through the unchanged model.

completion_scorer.py falls back to it, and checks packed rows against it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from scoring.packed_rows import PromptCompletions

IGNORED = -100


def completion_logps(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each completion token.

    Args:
        logits: (B, T, V), any floating dtype; position t predicts token t + 1.
        labels: (B, T) long, -100 for every token outside the completion.

    Returns:
        (N,) float32 log-probabilities in nats of the completion tokens of all rows, row by row, and (B,) long counts of
        completion tokens.
    """
    targets = labels[:, 1:]
    mask = targets != IGNORED
    predicting = logits[:, :-1].float()
    target_logits = predicting.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (target_logits - predicting.logsumexp(dim=-1))[mask], mask.sum(dim=-1)


def completion_sums(token_logps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the summed log-probability of each completion, log pi(y|x), (K,), in nats.

    Args:
        token_logps: (..., N) log-probabilities of the tokens of K completions, one completion after another.
        tokens: (K,) long counts of tokens.

    Terms are float32 and sums float64: float32 sums of a hundred terms are off by up to 1e-5 nats.
    """
    size = token_logps.shape[-1]  # given, so that a GPU need not be asked
    completion = torch.arange(len(tokens), device=tokens.device).repeat_interleave(tokens, output_size=size)
    dtype = sum_dtype(token_logps.device)
    sums = torch.zeros(*token_logps.shape[:-1], len(tokens), dtype=dtype, device=token_logps.device)
    return sums.index_add(-1, completion.to(token_logps.device), token_logps.to(dtype))


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of summed log-probabilities: float64, except on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def pad_examples(examples: Sequence[PromptCompletions], pad_id: int, min_length: int = 0) -> dict[str, torch.Tensor]:
    """Return one right-padded row per completion, after its prompt: `input_ids`, `attention_mask`, `labels`, (K, T).

    Labels are -100 on prompts and padding. T is at least `min_length`.
    """
    rows = [(example.prompt, completion) for example in examples for completion in example.completions]
    length = max(min_length, *(len(prompt) + len(completion) for prompt, completion in rows))
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
    """Return the log-probabilities (N,) of all completion tokens and the tokens of each row's completion, (K,).

    See `completion_logps`.

    Args:
        model: a causal language model, wrapped by peft or not.
        batch: the result of `pad_examples`, on the model's device.

    The head starts at the last token of the shortest prompt: earlier positions predict no completion token.
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
    """Return whether the innermost model's forward takes `logits_to_keep`."""
    inner: Any = model
    if hasattr(inner, "get_base_model"):  # peft
        inner = inner.get_base_model()
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
