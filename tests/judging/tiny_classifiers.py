"""Tiny checkpoints with heads of several kinds, for the judges that read classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import build_tokenizer

from judging.checkpoint_head import load_checkpoint
from judging.nli_judge import NliJudge
from judging.span_judge import SpanJudge

NLI_LABELS = ["entailment", "neutral", "contradiction"]


def build_classifier(
    folder: Path,
    labels: list[str],
    architecture: str = "llama",
    *,
    auto: str = "AutoModelForSequenceClassification",
    zero: bool = True,
    **settings: Any,
) -> str:
    """Save a tiny model of this auto class and return its folder; with `zero`, its head gives zero for every input.

    `settings` are for its configuration.
    """
    tokenizer = build_tokenizer("llama")
    config = transformers.AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        initializer_range=0.5,
        **settings,
    )
    torch.manual_seed(0)
    model = getattr(transformers, auto).from_config(config)
    if zero:
        for parameter in head_of(model).parameters():
            parameter.data.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def head_of(model: Any) -> torch.nn.Linear:
    """Return the last layer of a classifier."""
    return model.score if hasattr(model, "score") else model.classifier


def nli_judge(folder: str) -> NliJudge:
    """Return the judge of a folder with a sequence-classification model, on the CPU."""
    return NliJudge(load_checkpoint(folder, "cpu"))


def span_judge(folder: str) -> SpanJudge:
    """Return the judge of a folder with a token-classification model, on the CPU."""
    return SpanJudge(load_checkpoint(folder, "cpu"))
