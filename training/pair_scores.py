"""Score preference pairs under the policy and under its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dpo_dataset import DPODataset
from training.policy_adapters import AdapterPair
from training.run import TrainingRun

Logps = tuple[torch.Tensor, torch.Tensor]  # chosen and rejected, each (N,) float64, in nats


@dataclass(frozen=True)
class PairData:
    """Triplets with the reference's log-probabilities; `reference` is None if it is scored live."""

    dataset: DPODataset
    reference: Logps | None


class PairScores(NamedTuple):
    """Summed log-probabilities in nats, and completion tokens, of B pairs. Every field is (B,)."""

    policy_chosen: torch.Tensor
    policy_rejected: torch.Tensor
    reference_chosen: torch.Tensor
    reference_rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor


def pair_logps(
    scorer: torch.nn.Module, dataset: DPODataset, indices: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and token counts of B pairs scored in one row, both (B, 2): chosen, rejected."""
    logps, tokens = scorer([dataset.sample(index) for index in indices])
    return logps.view(-1, 2), tokens.view(-1, 2)


def score_pairs(run: TrainingRun, pair: AdapterPair, data: PairData, indices: Sequence[int]) -> PairScores:
    """Score B pairs under policy and reference. A live reference sees the same row as the policy."""
    if data.reference is None:
        with pair.as_reference():
            reference = pair_logps(run.scorer, data.dataset, indices)[0].unbind(1)
    else:
        reference = tuple(logps[list(indices)] for logps in data.reference)
    logps, tokens = pair_logps(run.model, data.dataset, indices)
    on_device = (part.to(logps.device, logps.dtype) for part in reference)
    return PairScores(*logps.unbind(1), *on_device, *tokens.unbind(1))
