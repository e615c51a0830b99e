"""The losses of Stage B as pure functions of log-probabilities.

Shapes: B pairs. Source: Rafailov et al. 2023, Direct Preference Optimization, arXiv:2305.18290, equation 7. The source
of each variant is named where it is computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOSS_TYPES = ("sigmoid", "sigmoid_norm", "ipo", "hinge", "robust")
PER_TOKEN = ("sigmoid_norm", "ipo")  # types that divide the ratio of each side by its number of tokens


def preference_losses(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    *,
    beta: float,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
    factuality_margin: float = 0.0,
    chosen_tokens: torch.Tensor | None = None,
    rejected_tokens: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the preference term of each pair, (B,).

    Args:
        policy_chosen, policy_rejected, reference_chosen, reference_rejected: (B,) summed log-probabilities.
        beta: weight of the log-probability ratios; a larger value keeps the policy closer to the reference (for `ipo`,
            tau in its paper).
        loss_type: `sigmoid` (with label smoothing: conservative DPO), `sigmoid_norm`, `ipo`, `hinge` or `robust`.
        label_smoothing: assumed share of pairs whose labels are swapped, in [0, 0.5).
        factuality_margin: what the difference of the rewards must exceed, for `sigmoid` and `sigmoid_norm`. In F-DPO
            (Chaduvula et al. 2026, arXiv:2601.03027) it is beta * lambda for a true chosen and a false rejected text.
        chosen_tokens, rejected_tokens: (B,) counts; only `ipo` and `sigmoid_norm` need them. A side without tokens has
            the ratio 0.
    """
    chosen_ratio = policy_chosen - reference_chosen
    rejected_ratio = policy_rejected - reference_rejected
    if loss_type in PER_TOKEN:
        if chosen_tokens is None or rejected_tokens is None:
            raise ValueError(f"{loss_type} averages over tokens: pass chosen_tokens and rejected_tokens")
        chosen_ratio = chosen_ratio / chosen_tokens.clamp(min=1)
        rejected_ratio = rejected_ratio / rejected_tokens.clamp(min=1)
    logits = beta * (chosen_ratio - rejected_ratio)  # the difference of the implicit rewards
    if loss_type == "sigmoid_norm":
        # the name and the form of TRL: `sigmoid` on mean log-ratios per token
        return -F.logsigmoid(logits - factuality_margin)
    if loss_type == "sigmoid":
        # eq. 7: -log sigmoid(beta * difference); with smoothing, Mitchell 2023, "A note on DPO with noisy preferences"
        logits = logits - factuality_margin
        return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)
    if loss_type == "robust":
        # Chowdhury et al. 2024, arXiv:2403.00409, eq. 12: unbiased under flips of known rate
        kept, flipped = (1 - label_smoothing) * F.logsigmoid(logits), label_smoothing * F.logsigmoid(-logits)
        return -(kept - flipped) / (1 - 2 * label_smoothing)
    if loss_type == "hinge":
        # Zhao et al. 2023, SLiC-HF, arXiv:2305.10425, on the implicit rewards
        return torch.relu(1 - logits)
    if loss_type == "ipo":
        # Azar et al. 2023, arXiv:2310.12036, eq. 17; per token, as its authors ran it, so that beta is free of length
        return (chosen_ratio - rejected_ratio - 1 / (2 * beta)) ** 2
    raise ValueError(f"loss_type {loss_type!r} is not one of {', '.join(LOSS_TYPES)}")


def zero_margin_loss(
    loss_type: str, beta: float, label_smoothing: float = 0.0, factuality_margin: float = 0.0
) -> float:
    """Return the preference term if policy and reference agree, as they must at step 0."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1)
    return preference_losses(
        zero,
        zero,
        zero,
        zero,
        beta=beta,
        loss_type=loss_type,
        label_smoothing=label_smoothing,
        factuality_margin=factuality_margin,
        chosen_tokens=one,
        rejected_tokens=one,
    ).item()


def nll_losses(policy_chosen: torch.Tensor, chosen_tokens: torch.Tensor) -> torch.Tensor:
    """Return the per-token negative log-likelihood of each chosen completion, (B,).

    It counters likelihood displacement (Razin et al. 2024, arXiv:2410.08847). Source: Pang et al. 2024,
    arXiv:2404.19733, eq. 1.
    """
    return -policy_chosen / chosen_tokens


def preference_metrics(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
) -> dict[str, torch.Tensor]:
    """Return the rewards of each pair, each (B,), detached; names as in other DPO libraries."""
    chosen_rewards = beta * (policy_chosen - reference_chosen).detach()
    rejected_rewards = beta * (policy_rejected - reference_rejected).detach()
    return {
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/margins": chosen_rewards - rejected_rewards,
        "rewards/accuracies": (chosen_rewards > rejected_rewards).to(chosen_rewards.dtype),
    }


def completion_metrics(whole_chosen: torch.Tensor, whole_rejected: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what is logged of whole completions, each (B,), from their summed log-probabilities in nats, (B,)."""
    return {
        "chosen_preference": (whole_chosen > whole_rejected).to(whole_chosen.dtype),
        "logps/chosen": whole_chosen.detach(),
        "logps/rejected": whole_rejected.detach(),
    }
