"""Score preference pairs under the policy and under its reference, and check that both agree before training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dpo_dataset import DPODataset
from dpo_loss import preference_metrics, zero_margin_loss
from scoring.padded_logps import completion_sums
from script_io.errors import RunError
from training.policy_adapters import AdapterPair
from training.run import TrainingRun

# Summed log-probabilities of N pairs in nats, (N, 2, S) float64. The second axis is chosen, rejected. S is 1, or with
# --loss_on 2: of whole completions, and of the tokens that the preference term counts.
Logps = torch.Tensor
# Tolerance of rewards and loss at step 0. Policy and reference score the same rows there (reference_cache.py), so they
# differ only if a device adds up in another order each time. In half precision, other rows would differ by tenths of a
# nat, which beta turns into hundredths of a reward.
ZERO_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-2}


@dataclass(frozen=True)
class PairData:
    """Triplets with the reference's log-probabilities; `reference` is None if it is scored live, or not at all."""

    dataset: DPODataset
    reference: Logps | None
    has_reference: bool = True  # False: the loss compares with none


class PairScores(NamedTuple):
    """Summed log-probabilities in nats, and numbers of tokens, of B pairs. Every field is (B,).

    The first six are of the tokens that the preference term counts, the others of whole completions. The fields of the
    reference are None if the loss has none.
    """

    policy_chosen: torch.Tensor
    policy_rejected: torch.Tensor
    reference_chosen: torch.Tensor | None
    reference_rejected: torch.Tensor | None
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    whole_chosen: torch.Tensor
    whole_rejected: torch.Tensor
    whole_chosen_tokens: torch.Tensor
    chosen_end: torch.Tensor | None  # log-probability of the last token of chosen, the end of the sequence


def pair_logps(
    scorer: torch.nn.Module, dataset: DPODataset, indices: Sequence[int], with_end: bool = False
) -> tuple[Logps, torch.Tensor]:
    """Score B pairs in one row; return their Logps, (B, 2, S), and numbers of tokens in the same shape.

    With `with_end`, the last of S is the last token of each completion.
    """
    examples = [dataset.encoded(index) for index in indices]
    parts = part_masks(dataset, indices, with_end)
    sums, tokens = scorer(examples) if parts is None else scorer(examples, parts)
    if parts is None:
        return sums.view(-1, 2, 1), tokens.view(-1, 2, 1)
    counts = completion_sums(parts, tokens.cpu()).to(tokens)  # (P, 2 B)
    both = torch.cat([tokens[None], counts])
    return sums.T.reshape(len(indices), 2, -1), both.T.reshape(len(indices), 2, -1)


def part_masks(dataset: DPODataset, indices: Sequence[int], with_end: bool) -> torch.Tensor | None:
    """Return the parts of the completions of pairs to sum apart, (P, N) bool over their N tokens; None for P = 0."""
    if dataset.loss_on == "completion" and not with_end:
        return None
    parts: list[list[bool]] = []
    triplets = [dataset.triplets[index] for index in indices]
    if dataset.loss_on != "completion":
        parts.append([counts for triplet in triplets for side in triplet.counted or () for counts in side])
    if with_end:
        completions = [ids for triplet in triplets for ids in (triplet.chosen, triplet.rejected)]
        parts.append([place == len(ids) - 1 for ids in completions for place in range(len(ids))])
    return torch.tensor(parts)


def score_pairs(
    run: TrainingRun, pair: AdapterPair, data: PairData, indices: Sequence[int], with_end: bool = False
) -> PairScores:
    """Score B pairs under policy and reference, if there is one. A live reference sees the same row as the policy."""
    reference = None
    if data.reference is not None:
        reference = data.reference[list(indices)]
    elif data.has_reference:
        with pair.as_reference():
            reference = pair_logps(run.scorer, data.dataset, indices)[0]
    logps, tokens = pair_logps(run.model, data.dataset, indices, with_end)
    counted = 0 if data.dataset.loss_on == "completion" else 1  # place of the counted tokens on the last axis
    by_reference = (None, None) if reference is None else reference.to(logps)[:, :, counted].unbind(1)
    return PairScores(
        policy_chosen=logps[:, 0, counted],
        policy_rejected=logps[:, 1, counted],
        reference_chosen=by_reference[0],
        reference_rejected=by_reference[1],
        chosen_tokens=tokens[:, 0, counted],
        rejected_tokens=tokens[:, 1, counted],
        whole_chosen=logps[:, 0, 0],
        whole_rejected=logps[:, 1, 0],
        whole_chosen_tokens=tokens[:, 0, 0],
        chosen_end=logps[:, 0, -1] if with_end else None,
    )


def rewards(args: argparse.Namespace, scores: PairScores) -> dict[str, torch.Tensor]:
    """Return the rewards of B pairs under their names in the log, each (B,).

    They are beta times the log-ratio to the reference; without one, beta times the mean log-probability of a token,
    which is the reward of SimPO.
    """
    chosen, rejected = scores.policy_chosen, scores.policy_rejected
    if scores.reference_chosen is None or scores.reference_rejected is None:
        chosen = chosen / scores.chosen_tokens.clamp(min=1)
        rejected = rejected / scores.rejected_tokens.clamp(min=1)
    else:
        chosen, rejected = chosen - scores.reference_chosen, rejected - scores.reference_rejected
    return preference_metrics(args.beta * chosen, args.beta * rejected)


def check_zero_margin(
    args: argparse.Namespace, scores: PairScores, preference: torch.Tensor, dtype: torch.dtype
) -> None:
    """Check on the first batch of a fresh run that policy and reference agree: rewards 0, loss of a zero margin.

    Without a reference there is nothing to agree with, which is printed with the loss.
    """
    loss = preference.mean().item()
    if scores.reference_chosen is None or scores.reference_rejected is None:
        why = f"{args.loss_type} has" if args.preference_weight else "--preference_weight 0 needs"
        term = f"preference loss {loss:.6f}; " if args.preference_weight else ""
        print(f"Step 0: {term}{why} no reference, so there is no zero margin to check")
        return
    chosen = (scores.policy_chosen - scores.reference_chosen).abs().max().item()
    rejected = (scores.policy_rejected - scores.reference_rejected).abs().max().item()
    expected = zero_margin_loss(args.loss_type, args.beta, args.label_smoothing, args.factuality_margin)
    tolerance = ZERO_TOLERANCE[str(dtype).removeprefix("torch.")] * max(1.0, expected)
    reward = args.beta * max(chosen, rejected)
    print(f"Step 0: preference loss {loss:.6f} (zero margin {expected:.6f}), largest reward {reward:.1e}")
    if not (reward <= tolerance and abs(loss - expected) <= tolerance):
        raise RunError(
            f"policy and reference differ before training: reward {reward:.2e}, loss {loss:.6f} for {expected:.6f}, "
            f"tolerance {tolerance:.0e}; delete reference_logps in the run's folder, or use --reference live"
        )
