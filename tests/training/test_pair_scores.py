"""The preference term on counted tokens, compared with a computation token by token on the whole model."""

import json
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from training_helpers import CPU, perturb, tiny_base_and_adapter, write_triplets

from dpo_dataset import DPODataset
from language_model.loading import load_base_model, load_tokenizer
from scoring.completion_scorer import CompletionScorer
from stage_b_dpo_training import losses, pair_metrics, parse_args
from training.pair_scores import PairData, score_pairs
from training.policy_adapters import load_adapter_pair

BETA, MARGIN, NLL = 0.3, 0.2, 0.5
MODES = ("differences", "rejected_differences")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A base, an adapter, and four pairs: two by token difference, one by spans, one without counted tokens."""
    folder = tmp_path_factory.mktemp("pair_scores")
    tiny_base_and_adapter(folder)
    path = write_triplets(folder / "pairs.jsonl", 4)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[2] |= {"chosen_spans": [[0, 6]], "rejected_spans": [[0, 3], [8, 16]]}
    rows[3] |= {"chosen_spans": [], "rejected_spans": []}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def load(inputs, loss_on):
    tokenizer = load_tokenizer(inputs / "base")
    pair = load_adapter_pair(
        load_base_model(inputs / "base", CPU, tokenizer), inputs / "sft", fresh_rank=None, live=True
    )
    perturb(pair.model, 7, 0.05)
    return pair, DPODataset(inputs / "pairs.jsonl", tokenizer, loss_on=loss_on)


def our_step(inputs, loss_type, loss_on, is_packed, dataset=None):
    """Return loss, gradients, scores and metrics as Stage B computes them."""
    pair, own = load(inputs, loss_on)
    dataset = dataset or own
    scorer = CompletionScorer(pair.model, dataset.pad_id)
    if is_packed:
        scorer.choose([dataset.encoded(index) for index in range(2)])
    assert scorer.is_packed == is_packed
    flags = {"beta": BETA, "loss_type": loss_type, "nll_weight": NLL, "loss_on": loss_on}
    if loss_type.startswith("sigmoid") or loss_type == "simpo":
        flags["factuality_margin"] = MARGIN
    args = parse_args([text for name, value in flags.items() for text in (f"--{name}", str(value))])
    run = SimpleNamespace(model=scorer, scorer=scorer)
    data = PairData(dataset, None, has_reference=loss_type != "simpo")
    scores = score_pairs(run, pair, data, range(len(dataset)), with_end=True)
    each = losses(args, scores)[1]
    each.mean().backward()
    return each.mean().item(), gradients_of(pair.model), scores, pair_metrics(args, scores, each)


def gradients_of(model):
    return {
        name.replace(".policy.", "."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def token_logps(model, prompt, completion):
    """Return the log-probability of each token of a completion, from the logits of the whole sequence."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]


def plain_loss(loss_type, ratios, counts):
    """Return the preference term of one pair from the log-ratios of its sides, summed over the counted tokens."""
    means = [ratio / max(count, 1) for ratio, count in zip(ratios, counts, strict=True)]
    if loss_type == "apo_zero":
        return 1 - torch.sigmoid(BETA * ratios[0]) + torch.sigmoid(BETA * ratios[1])
    if loss_type == "sppo_hard":
        return (ratios[0] - 0.5 / BETA) ** 2 + (ratios[1] + 0.5 / BETA) ** 2
    if loss_type == "ipo":
        return (means[0] - means[1] - 1 / (2 * BETA)) ** 2
    chosen, rejected = ratios if loss_type == "sigmoid" else means  # of log-probabilities for simpo
    return torch.log1p(torch.exp(-(BETA * (chosen - rejected) - MARGIN)))


def plain_step(inputs, loss_type, loss_on):
    """Return loss, gradients and the values that Stage B logs, computed token by token."""
    pair, dataset = load(inputs, loss_on)
    total, logged = 0.0, []
    for triplet in dataset.triplets:
        sides = (triplet.chosen, triplet.rejected)
        policy = [token_logps(pair.model, triplet.prompt, side) for side in sides]
        with pair.as_reference(), torch.no_grad():
            reference = [token_logps(pair.model, triplet.prompt, side) for side in sides]
        counted = [torch.tensor(side) for side in triplet.counted]
        if loss_type == "simpo":
            reference = [torch.zeros_like(side) for side in policy]
        ratios = [(p - r)[c].sum() for p, r, c in zip(policy, reference, counted, strict=True)]
        per_token = [max(int(c.sum()), 1) if loss_type == "simpo" else 1 for c in counted]
        total += plain_loss(loss_type, ratios, [int(c.sum()) for c in counted]) - NLL * policy[0].mean()
        logged.append(
            {
                "rewards/chosen": BETA * ratios[0] / per_token[0],
                "rewards/rejected": BETA * ratios[1] / per_token[1],
                "logps/chosen": policy[0].sum(),
                "logps/rejected": policy[1].sum(),
                "chosen_preference": float(policy[0].sum() > policy[1].sum()),
                "end": policy[0][-1],
            }
        )
    loss = total / len(dataset)
    loss.backward()
    return loss.item(), gradients_of(pair.model), logged


CASES = [
    *product(("sigmoid", "sigmoid_norm", "ipo"), MODES, (True, False)),
    *product(("apo_zero", "sppo_hard"), ("differences",), (True,)),
    *product(("simpo",), MODES, (True,)),
]


@pytest.mark.parametrize(("loss_type", "loss_on", "is_packed"), CASES)
def test_counted_tokens_equal_a_computation_token_by_token(inputs, loss_type, loss_on, is_packed):
    loss, gradients, scores, metrics = our_step(inputs, loss_type, loss_on, is_packed)
    expected, expected_gradients, logged = plain_step(inputs, loss_type, loss_on)
    assert loss == pytest.approx(expected, abs=1e-5, rel=3e-6)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        atol = 2e-5 * max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(gradient, expected_gradients[name], atol=atol, rtol=1e-4, msg=name)
        assert gradient.abs().max() > 1e-5, name
    for number, values in enumerate(logged):
        assert scores.chosen_end[number].item() == pytest.approx(values.pop("end").item(), abs=1e-5)
        for name, value in values.items():
            assert metrics[name][number].item() == pytest.approx(torch.as_tensor(value).item(), abs=1e-4), name


def test_the_pair_without_counted_tokens_adds_no_reward(inputs):
    _, _, scores, _ = our_step(inputs, "sigmoid", "differences", True)
    assert (scores.chosen_tokens[3], scores.rejected_tokens[3]) == (0, 0)
    assert (scores.policy_chosen[3], scores.policy_rejected[3]) == (0, 0)
    assert scores.whole_chosen[3] < 0


@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "padded"])
def test_with_all_tokens_counted_it_is_plain_dpo(inputs, is_packed):
    _, dataset = load(inputs, "differences")
    for triplet in dataset.triplets:
        for side in triplet.counted:
            side[:] = [True] * len(side)
    loss, gradients, _, _ = our_step(inputs, "sigmoid", "differences", is_packed, dataset)
    plain, plain_gradients, _, _ = our_step(inputs, "sigmoid", "completion", is_packed)
    assert loss == pytest.approx(plain, abs=1e-9)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], atol=1e-6, rtol=1e-5, msg=name)


def test_plain_dpo_asks_for_no_parts(inputs, monkeypatch):
    pair, dataset = load(inputs, "completion")
    scorer = CompletionScorer(pair.model, dataset.pad_id)
    asked = []
    forward = CompletionScorer.forward
    monkeypatch.setattr(
        CompletionScorer, "forward", lambda self, *call: asked.append(len(call)) or forward(self, *call)
    )
    run = SimpleNamespace(model=scorer, scorer=scorer)
    scores = score_pairs(run, pair, PairData(dataset, None), [0, 1])
    assert asked == [1, 1]  # the examples alone, for reference and policy
    assert scores.chosen_end is None
    assert torch.equal(scores.policy_chosen, scores.whole_chosen)
