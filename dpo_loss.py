"""The losses of Stage B as pure functions of log-probabilities.

Shapes: B pairs. Source: Rafailov et al. 2023, Direct Preference Optimization, arXiv:2305.18290, equation 7. The source
of each variant is named where it is computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOSS_TYPES = ("sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "sppo_hard", "simpo", "orpo")
PER_TOKEN = ("sigmoid_norm", "ipo", "simpo", "orpo")  # types that divide each side by its number of tokens
REFERENCE_FREE = ("simpo", "orpo")  # types of the policy's log-probabilities alone
CERTAIN = -1e-7  # largest mean log-probability of a token in `orpo`: a certain completion would have infinite odds


def preference_losses(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor | None,
    reference_rejected: torch.Tensor | None,
    *,
    beta: float,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
    factuality_margin: float = 0.0,
    dpop_penalty: float = 0.0,
    chosen_tokens: torch.Tensor | None = None,
    rejected_tokens: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the preference term of each pair, (B,). Raises ValueError if a type lacks what it needs.

    Args:
        policy_chosen, policy_rejected: (B,) summed log-probabilities.
        reference_chosen, reference_rejected: the same under the reference; `simpo` and `orpo` have none and ignore it.
        beta: weight of the log-probability ratios; a larger value keeps the policy closer to the reference (in the
            papers: tau of `ipo`, 1 / eta of `sppo_hard`). In `simpo` it is the weight of the mean log-probabilities, in
            `orpo` the weight of the whole term (lambda in its paper).
        loss_type: one of LOSS_TYPES. `sigmoid` with label smoothing is conservative DPO.
        label_smoothing: assumed share of pairs whose labels are swapped, in [0, 0.5); for `sigmoid` and `robust`.
        factuality_margin: what the difference of the rewards must exceed, for `sigmoid`, `sigmoid_norm` and `simpo`. In
            F-DPO (Chaduvula et al. 2026, arXiv:2601.03027) it is beta * lambda for a true chosen and a false rejected
            text; in SimPO it is gamma.
        dpop_penalty: weight of the fall of chosen below the reference, for `sigmoid` and `sigmoid_norm`.
        chosen_tokens, rejected_tokens: (B,) counts; only the types in PER_TOKEN need them. A side without tokens
            counts as 0.
    """
    chosen, rejected = policy_chosen, policy_rejected
    if loss_type not in REFERENCE_FREE:
        if reference_chosen is None or reference_rejected is None:
            raise ValueError(f"{loss_type} compares with a reference: pass reference_chosen and reference_rejected")
        chosen, rejected = chosen - reference_chosen, rejected - reference_rejected  # log-ratios
    if loss_type in PER_TOKEN:
        if chosen_tokens is None or rejected_tokens is None:
            raise ValueError(f"{loss_type} averages over tokens: pass chosen_tokens and rejected_tokens")
        chosen, rejected = chosen / chosen_tokens.clamp(min=1), rejected / rejected_tokens.clamp(min=1)
    if loss_type in ("sigmoid", "sigmoid_norm", "simpo", "robust"):
        logits = beta * (chosen - rejected) - factuality_margin  # the difference of the implicit rewards
        if dpop_penalty:
            # Pal et al. 2024, Smaug, arXiv:2402.13228, eq. 3: lambda * max(0, log(reference / policy))
            logits = logits - beta * dpop_penalty * torch.relu(-chosen)
        return _logistic_losses(logits, loss_type, label_smoothing)
    return _other_losses(chosen, rejected, beta, loss_type)


def _logistic_losses(logits: torch.Tensor, loss_type: str, label_smoothing: float) -> torch.Tensor:
    """Return the loss of a logistic classifier of pairs, (B,), from its logits.

    `sigmoid` is equation 7 on log-ratios of whole completions. `sigmoid_norm` (the name and the form of TRL) takes mean
    log-ratios per token, `simpo` (Meng et al. 2024, arXiv:2405.14734, eq. 6) mean log-probabilities.
    """
    kept, flipped = (1 - label_smoothing) * F.logsigmoid(logits), label_smoothing * F.logsigmoid(-logits)
    if loss_type == "robust":
        # Chowdhury et al. 2024, arXiv:2403.00409, eq. 12: unbiased under flips of known rate
        return -(kept - flipped) / (1 - 2 * label_smoothing)
    return -kept - flipped  # with smoothing: Mitchell 2023, "A note on DPO with noisy preferences"


def _other_losses(chosen: torch.Tensor, rejected: torch.Tensor, beta: float, loss_type: str) -> torch.Tensor:
    """Return the loss of each pair, (B,), from what its two sides have gained against the reference, (B,).

    In `orpo` a side is its mean log-probability.
    """
    if loss_type == "hinge":
        # Zhao et al. 2023, SLiC-HF, arXiv:2305.10425, on the implicit rewards
        return torch.relu(1 - beta * (chosen - rejected))
    if loss_type == "ipo":
        # Azar et al. 2023, arXiv:2310.12036, eq. 17; per token, as its authors ran it, so that beta is free of length
        return (chosen - rejected - 1 / (2 * beta)) ** 2
    if loss_type == "apo_zero":
        # D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7, plus 1 as in TRL, so that it is not negative
        return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)
    if loss_type == "sppo_hard":
        # Wu et al. 2024, arXiv:2405.00675, eq. 4.7 with the probabilities 1 and 0, and eta = 1 / beta
        return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2
    if loss_type == "orpo":
        # Hong et al. 2024, arXiv:2403.07691, eq. 7, times lambda; the log odds of p are log p - log(1 - p)
        return -beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    raise ValueError(f"loss_type {loss_type!r} is not one of {', '.join(LOSS_TYPES)}")


def _log_odds(logps: torch.Tensor) -> torch.Tensor:
    logps = logps.clamp(max=CERTAIN)
    return logps - torch.log(-torch.expm1(logps))


def zero_margin_loss(
    loss_type: str, beta: float, label_smoothing: float = 0.0, factuality_margin: float = 0.0
) -> float:
    """Return the preference term if policy and reference agree, as they must at step 0.

    Raises ValueError for types without a reference: theirs depends on the policy.
    """
    if loss_type in REFERENCE_FREE:
        raise ValueError(f"{loss_type} has no reference, so no value is known before the policy is scored")
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


def preference_metrics(chosen_rewards: torch.Tensor, rejected_rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what is logged of the rewards of both sides, each (B,), detached; names as in other DPO libraries."""
    chosen_rewards, rejected_rewards = chosen_rewards.detach(), rejected_rewards.detach()
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
