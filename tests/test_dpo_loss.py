"""The loss against numbers worked by hand, and the log-probabilities against PyTorch's cross-entropy."""

import math

import pytest
import torch

from dpo_loss import (
    LOSS_TYPES,
    REFERENCE_FREE,
    completion_metrics,
    nll_losses,
    preference_losses,
    preference_metrics,
    zero_margin_loss,
)
from scoring.padded_logps import completion_logps, completion_sums
from training import loss_settings

# One pair: the policy moved +2 nats on chosen and -1 on rejected; with beta 0.1 the margin is 0.3.
POLICY = (torch.tensor([-8.0]), torch.tensor([-13.0]))
REFERENCE = (torch.tensor([-10.0]), torch.tensor([-12.0]))


def loss(loss_type: str, smoothing: float = 0.0) -> float:
    counts = {"chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([5])}
    return preference_losses(
        *POLICY, *REFERENCE, beta=0.1, loss_type=loss_type, label_smoothing=smoothing, **counts
    ).item()


def test_sigmoid_by_hand():
    # -log(1 / (1 + e^-0.3)) = log(1 + 0.7408182) = 0.5543552
    assert loss("sigmoid") == pytest.approx(0.5543552, abs=1e-6)
    # the flipped pair costs log(1 + e^0.3) = 0.8543552; with smoothing 0.1: 0.9 * 0.5543552 + 0.1 * 0.8543552
    assert loss("sigmoid", 0.1) == pytest.approx(0.5843552, abs=1e-6)


def test_robust_by_hand():
    # (0.9 * 0.5543552 - 0.1 * 0.8543552) / 0.8
    assert loss("robust", 0.1) == pytest.approx(0.5168552, abs=1e-6)
    assert loss("robust") == pytest.approx(loss("sigmoid"), abs=1e-7)


def test_sigmoid_norm_by_hand():
    # mean ratios per token 2/4 and -1/5: margin 0.1 * 0.7 = 0.07, -log sigmoid(0.07) = 0.6587596
    assert loss("sigmoid_norm") == pytest.approx(math.log(1 + math.exp(-0.07)), abs=1e-6)


def test_factuality_margin_by_hand():
    # the reward difference 0.3 must exceed 0.5: -log sigmoid(-0.2)
    margin = preference_losses(*POLICY, *REFERENCE, beta=0.1, factuality_margin=0.5).item()
    assert margin == pytest.approx(math.log(1 + math.exp(0.2)), abs=1e-6)
    assert zero_margin_loss("sigmoid", 0.1, factuality_margin=0.5) == pytest.approx(
        math.log(1 + math.exp(0.5)), abs=1e-9
    )


@pytest.mark.parametrize("loss_type", ["sigmoid_norm", "ipo"])
def test_a_side_without_counted_tokens_adds_nothing(loss_type):
    none = torch.tensor([0])
    found = preference_losses(
        torch.zeros(1), POLICY[1], torch.zeros(1), REFERENCE[1],
        beta=0.1, loss_type=loss_type, chosen_tokens=none, rejected_tokens=torch.tensor([5]),
    ).item()  # fmt: skip
    expected = math.log(1 + math.exp(-0.1 * 0.2)) if loss_type == "sigmoid_norm" else (0.2 - 5) ** 2
    assert found == pytest.approx(expected, abs=1e-5)


def test_hinge_by_hand():
    assert loss("hinge") == pytest.approx(0.7, abs=1e-6)


def test_ipo_by_hand():
    # (2/4 - (-1)/5 - 1/(2 * 0.1))^2 = (0.7 - 5)^2
    assert loss("ipo") == pytest.approx(18.49, abs=1e-4)


def test_apo_zero_by_hand():
    # rewards 0.2 and -0.1: (1 - 0.5498340) + 0.4750208
    assert loss("apo_zero") == pytest.approx(0.9251868, abs=1e-6)


def test_sppo_hard_by_hand():
    # (2 - 5)^2 + (-1 + 5)^2
    assert loss("sppo_hard") == pytest.approx(25.0, abs=1e-5)


def test_dpops_penalty_counts_only_what_chosen_has_lost():
    gained = preference_losses(*POLICY, *REFERENCE, beta=0.1, dpop_penalty=5.0).item()
    assert gained == pytest.approx(loss("sigmoid"), abs=1e-7)
    # chosen lost 2 nats and rejected 4: the reward difference is 0.1 * (-2 + 4 - 5 * 2) = -0.8
    fallen = (torch.tensor([-12.0]), torch.tensor([-16.0]))
    lost = preference_losses(*fallen, *REFERENCE, beta=0.1, dpop_penalty=5.0).item()
    assert lost == pytest.approx(math.log(1 + math.exp(0.8)), abs=1e-6)
    # per token: 0.1 * (-2/4 + 4/5 - 5 * 2/4) = -0.22
    counts = {"chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([5])}
    mean = preference_losses(*fallen, *REFERENCE, beta=0.1, loss_type="sigmoid_norm", dpop_penalty=5.0, **counts).item()
    assert mean == pytest.approx(math.log(1 + math.exp(0.22)), abs=1e-6)


def reference_free(loss_type, beta, policy=POLICY, **options):
    counts = {"chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([5])}
    return preference_losses(*policy, None, None, beta=beta, loss_type=loss_type, **counts, **options).item()


def test_simpo_by_hand():
    # means -2.0 and -2.6: 2 * 0.6 - 0.5 = 0.7
    found = reference_free("simpo", 2.0, factuality_margin=0.5)
    assert found == pytest.approx(math.log(1 + math.exp(-0.7)), abs=1e-6)


def test_orpo_by_hand():
    # probabilities e^-2.0 = 0.1353353 and e^-2.6 = 0.0742736: odds 0.1565176 and 0.0802327, ratio 1.9507957;
    # -0.1 * log(1.9507957 / 2.9507957)
    assert reference_free("orpo", 0.1) == pytest.approx(0.0413828, abs=1e-6)


def test_orpo_of_a_certain_completion_is_finite():
    certain = (torch.tensor([0.0], dtype=torch.float64), torch.tensor([-13.0], dtype=torch.float64))
    assert 0 < reference_free("orpo", 0.1, certain) < 1e-6
    assert 1 < reference_free("orpo", 0.1, certain[::-1]) < 3


@pytest.mark.parametrize("loss_type", REFERENCE_FREE)
def test_reference_free_types_ignore_a_reference_and_have_no_known_start(loss_type):
    assert loss(loss_type) == reference_free(loss_type, 0.1)
    with pytest.raises(ValueError, match="no reference"):
        zero_margin_loss(loss_type, 0.1)


def test_a_missing_reference_is_refused():
    with pytest.raises(ValueError, match="apo_zero compares with a reference"):
        preference_losses(*POLICY, None, None, beta=0.1, loss_type="apo_zero")


def test_the_flags_name_the_types_of_the_losses():
    assert loss_settings.LOSS_TYPES == LOSS_TYPES
    assert loss_settings.REFERENCE_FREE == REFERENCE_FREE


@pytest.mark.parametrize(
    ("loss_type", "value"),
    [("sigmoid", math.log(2)), ("hinge", 1.0), ("ipo", 25.0), ("apo_zero", 1.0), ("sppo_hard", 50.0)],
)
def test_zero_margin_values(loss_type, value):
    assert zero_margin_loss(loss_type, beta=0.1) == pytest.approx(value, abs=1e-9)


def test_zero_margin_of_robust_is_free_of_smoothing():
    assert zero_margin_loss("robust", 0.3, 0.2) == pytest.approx(math.log(2), abs=1e-9)


def test_ipo_without_counts_and_unknown_types_are_refused():
    with pytest.raises(ValueError, match="chosen_tokens"):
        preference_losses(*POLICY, *REFERENCE, beta=0.1, loss_type="ipo")
    with pytest.raises(ValueError, match="not one of"):
        preference_losses(*POLICY, *REFERENCE, beta=0.1, loss_type="apo")


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_the_gradient_raises_chosen_and_lowers_rejected(loss_type):
    chosen, rejected = (part.clone().requires_grad_() for part in POLICY)
    counts = {"chosen_tokens": torch.tensor([4]), "rejected_tokens": torch.tensor([5])}
    preference_losses(chosen, rejected, *REFERENCE, beta=0.1, loss_type=loss_type, **counts).sum().backward()
    assert chosen.grad.item() < 0 < rejected.grad.item()


def test_metrics_by_hand_and_detached():
    chosen = POLICY[0].clone().requires_grad_()
    rewards = (0.1 * (mine - reference) for mine, reference in zip((chosen, POLICY[1]), REFERENCE, strict=True))
    metrics = preference_metrics(*rewards) | completion_metrics(chosen, POLICY[1])
    shown = {name: round(value.item(), 6) for name, value in metrics.items()}
    assert shown == {
        "chosen_preference": 1.0,
        "rewards/chosen": 0.2,
        "rewards/rejected": -0.1,
        "rewards/margins": 0.3,
        "rewards/accuracies": 1.0,
        "logps/chosen": -8.0,
        "logps/rejected": -13.0,
    }
    assert not any(value.requires_grad for value in metrics.values())
    assert nll_losses(POLICY[0], torch.tensor([4])).item() == 2.0


def test_completion_logps_sum_over_the_completion_alone():
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 6, 11), torch.randint(0, 11, (2, 6))
    labels = ids.clone()
    labels[0, :3] = -100  # prompt of three tokens
    labels[1, :2] = -100
    labels[1, 5] = -100  # padding
    token_logps, counts = completion_logps(logits, labels)
    logps = completion_sums(token_logps, counts)
    assert counts.tolist() == [3, 3]
    assert logps.dtype == torch.float64
    for row in range(2):
        expected = -torch.nn.functional.cross_entropy(
            logits[row, :-1].double(), labels[row, 1:], ignore_index=-100, reduction="sum"
        )
        assert logps[row].item() == pytest.approx(expected.item(), abs=1e-6)


def test_half_precision_logits_are_summed_in_full():
    logits = torch.randn(1, 400, 50, generator=torch.Generator().manual_seed(1)).bfloat16()
    labels = torch.randint(0, 50, (1, 400), generator=torch.Generator().manual_seed(2))
    exact = logits[0, :-1].double().log_softmax(-1).gather(-1, labels[0, 1:, None]).sum()
    assert completion_sums(*completion_logps(logits, labels)).item() == pytest.approx(exact.item(), abs=2e-4)
