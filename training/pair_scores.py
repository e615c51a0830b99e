"""Score preference pairs under the policy and under its reference, and check that both agree before training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dpo_dataset import DPODataset
from dpo_loss import zero_margin_loss
from script_io.errors import RunError
from training.policy_adapters import AdapterPair
from training.run import TrainingRun

Logps = tuple[torch.Tensor, torch.Tensor]  # chosen and rejected, each (N,) float64, in nats
# Tolerance of rewards and loss at step 0. Policy and reference score the same rows there (reference_cache.py), so they
# differ only if a device adds up in another order each time. In half precision, other rows would differ by tenths of a
# nat, which beta turns into hundredths of a reward.
ZERO_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-2}


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
    logps, tokens = scorer([dataset.encoded(index) for index in indices])
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


def check_zero_margin(
    args: argparse.Namespace, scores: PairScores, preference: torch.Tensor, dtype: torch.dtype
) -> None:
    """Check on the first batch of a fresh run that policy and reference agree: rewards 0, loss of a zero margin."""
    chosen = (scores.policy_chosen - scores.reference_chosen).abs().max().item()
    rejected = (scores.policy_rejected - scores.reference_rejected).abs().max().item()
    expected = zero_margin_loss(args.loss_type, args.beta, args.label_smoothing)
    tolerance = ZERO_TOLERANCE[str(dtype).removeprefix("torch.")] * max(1.0, expected)
    reward, loss = args.beta * max(chosen, rejected), preference.mean().item()
    print(f"Step 0: preference loss {loss:.6f} (zero margin {expected:.6f}), largest reward {reward:.1e}")
    if not (reward <= tolerance and abs(loss - expected) <= tolerance):
        raise RunError(
            f"policy and reference differ before training: reward {reward:.2e}, loss {loss:.6f} for {expected:.6f}, "
            f"tolerance {tolerance:.0e}; delete reference_logps in the run's folder, or use --reference live"
        )
