"""Train a token detector (token_detector.py) on summaries whose unsupported words are marked.

The loss of a summary's tokens is binary cross-entropy, with weight `positive_weight` on unsupported ones, averaged over
the tokens of a step. The end of each summary learns in the same way whether the summary has an error.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from judging.marked_summaries import MarkedSummary
from judging.packed_summaries import PackedSummaries, Span, pack_summaries
from judging.token_detector import SUMMARY, TOKEN, FrozenInput, TokenDetector
from judging.word_scores import word_scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of one training run."""

    epochs: int = 3
    rows_per_step: int = 2
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    positive_weight: float = 1.0
    summary_weight: float = 0.5  # of the loss of the summaries' ends
    max_grad_norm: float = 1.0
    seed: int = 42


@dataclass(frozen=True, eq=False)
class TrainingRow:
    """A packed row with its labels, (N, 2): columns TOKEN and SUMMARY; NaN where a position has no label."""

    packed: PackedSummaries
    labels: torch.Tensor
    frozen: FrozenInput | None = None


def training_row(
    detector: TokenDetector, tokenizer: PreTrainedTokenizerBase, group: Sequence[MarkedSummary], passes: int
) -> TrainingRow:
    """Return the row of some summaries of one note, with the output of the frozen layers if there are any."""
    packed = pack_summaries(tokenizer, group[0].note, [marked.summary for marked in group], passes).to(detector.device)
    frozen = detector.frozen_input(packed) if detector.first_layer else None
    return TrainingRow(packed, token_labels(packed, group).to(detector.device), frozen)


def token_labels(packed: PackedSummaries, group: Sequence[MarkedSummary]) -> torch.Tensor:
    """Return the labels of a row, (N, 2).

    A token is unsupported if it shares a character with a marked span. Only the end has a label for the summary.
    """
    rows: list[tuple[float, float]] = []
    for summary, marked in zip(packed.summaries, group, strict=True):
        spans = marked.spans
        rows += [(math.nan if spans is None else float(_overlaps(token, spans)), math.nan) for token in summary.spans]
        rows.append((math.nan, float(marked.has_error)))
    return torch.tensor(rows)


def _overlaps(token: Span, spans: Sequence[Span]) -> bool:
    return any(token[0] < end and start < token[1] for start, end in spans)


def train(
    detector: TokenDetector,
    rows: Sequence[TrainingRow],
    settings: TrainingSettings,
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Train adapter and head; `report` gets (step, steps, loss) after every step.

    The learning rate rises linearly, then falls linearly to 0.
    """
    order = random.Random(settings.seed)
    torch.manual_seed(settings.seed)  # dropout
    parameters = detector.trained_parameters()
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    steps_per_epoch = -(-len(rows) // settings.rows_per_step)
    steps = settings.epochs * steps_per_epoch
    warmup = max(1, round(settings.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    detector.train()
    step = 0
    for _ in range(settings.epochs):
        shuffled = order.sample(range(len(rows)), len(rows))
        for first in range(0, len(rows), settings.rows_per_step):
            loss = _backward([rows[i] for i in shuffled[first : first + settings.rows_per_step]], detector, settings)
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            report(step, steps, loss)
    detector.eval()


def _backward(rows: Sequence[TrainingRow], detector: TokenDetector, settings: TrainingSettings) -> float:
    """Add the gradients of a step and return its loss."""
    counts = torch.stack([(~row.labels.isnan()).sum(dim=0) for row in rows]).sum(dim=0)  # tokens and summaries
    total = 0.0
    for row in rows:
        logits = detector(row.packed, row.frozen)
        labels = row.labels
        token, summary = (~labels[:, column].isnan() for column in (TOKEN, SUMMARY))
        weight = torch.tensor(settings.positive_weight, device=logits.device)
        of_tokens = binary_cross_entropy_with_logits(
            logits[token, TOKEN], labels[token, TOKEN], pos_weight=weight, reduction="sum"
        )
        of_summaries = binary_cross_entropy_with_logits(
            logits[summary, SUMMARY], labels[summary, SUMMARY], reduction="sum"
        )
        loss = of_tokens / counts[TOKEN].clamp(min=1) + settings.summary_weight * of_summaries / counts[SUMMARY]
        loss.backward()
        total += float(loss.detach())
    return total


@torch.no_grad()
def token_probabilities(
    detector: TokenDetector, packed: PackedSummaries, frozen: FrozenInput | None = None
) -> list[tuple[list[float], float]]:
    """Return for each summary (probability of each token, probability that the summary has an error)."""
    probabilities = detector(packed, frozen).sigmoid().cpu()
    return [(part[:-1, TOKEN].tolist(), float(part[-1, SUMMARY])) for part in packed.split(probabilities)]


def predictions(detector: TokenDetector, row: TrainingRow, group: Sequence[MarkedSummary]) -> list[dict[str, Any]]:
    """Return the prediction for each summary of a row in the form of `out_of_fold.jsonl`."""
    found = []
    scored = token_probabilities(detector, row.packed, row.frozen)
    for marked, encoded, (tokens, probability) in zip(group, row.packed.summaries, scored, strict=True):
        words = word_scores(marked.summary, encoded.spans, tokens, max)
        found.append(
            {
                "id": marked.row_id,
                "clinical_note": marked.note,
                "generated_summary": marked.summary,
                "has_error": marked.has_error,
                "spans": marked.spans,
                "words": [(word.start, word.end, round(word.score, 5)) for word in words],
                "summary_probability": round(probability, 5),
            }
        )
    return found
