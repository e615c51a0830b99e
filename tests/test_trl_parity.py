"""Loss and LoRA gradients of Stage B's step against TRL's DPOTrainer, on the same model and batch, in float32."""

from types import SimpleNamespace

import pytest
import torch
from training_helpers import CPU, perturb, tiny_base_and_adapter, write_triplets

from dpo_dataset import DPODataset
from dpo_loss import preference_losses
from language_model.adapters import attach_adapter
from language_model.loading import load_base_model, load_tokenizer
from scoring.completion_scorer import CompletionScorer
from stage_b_dpo_training import losses, parse_args
from training.dropouts import turn_dropout_off
from training.pair_scores import PairData, score_pairs
from training.policy_adapters import load_adapter_pair

BETA = 0.1


class FakeRun:
    """The fields of a run that scoring pairs reads; the way of scoring is chosen as a run chooses it."""

    def __init__(self, policy, dataset):
        self.model = self.scorer = CompletionScorer(policy, dataset.pad_id)
        self.scorer.choose([dataset.encoded(index) for index in range(2)])
        assert self.scorer.is_packed


def our_step(base, adapter, dataset, loss_type, smoothing):
    tokenizer = load_tokenizer(base)
    pair = load_adapter_pair(load_base_model(base, CPU, tokenizer), adapter, fresh_rank=None, live=True)
    perturb(pair.model, 7, 0.05)
    args = parse_args(["--loss_type", loss_type, "--label_smoothing", str(smoothing), "--beta", str(BETA)])
    scores = score_pairs(FakeRun(pair.model, dataset), pair, PairData(dataset, None), range(len(dataset)))
    loss = losses(args, scores)[1].mean()
    loss.backward()
    gradients = {
        name.replace(".policy.", "."): parameter.grad
        for name, parameter in pair.model.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), gradients


def trl_step(base, adapter, dataset, loss_type, smoothing, folder):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    tokenizer = load_tokenizer(base)
    model = attach_adapter(load_base_model(base, CPU, tokenizer), adapter, "default", trainable=True)
    turn_dropout_off(model)
    config = DPOConfig(
        output_dir=str(folder),
        beta=BETA,
        loss_type=[loss_type],
        label_smoothing=smoothing,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        max_length=None,
    )
    rows = Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}])
    trainer = DPOTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    perturb(trainer.model, 7, 0.05)
    examples = [{"prompt_ids": t.prompt, "chosen_ids": t.chosen, "rejected_ids": t.rejected} for t in dataset.triplets]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
    loss.backward()
    gradients = {
        name.replace(".default.", "."): parameter.grad
        for name, parameter in trainer.model.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), gradients


@pytest.mark.parametrize(
    ("loss_type", "smoothing"),
    [
        *(("sigmoid", 0.0), ("sigmoid_norm", 0.0), ("ipo", 0.0), ("hinge", 0.0), ("robust", 0.1)),
        *(("apo_zero", 0.0), ("sppo_hard", 0.0)),
    ],
)
def test_loss_and_gradients_equal_trl(tmp_path, loss_type, smoothing):
    base, adapter = tiny_base_and_adapter(tmp_path)
    dataset = DPODataset(write_triplets(tmp_path / "t.jsonl", 6), load_tokenizer(base))
    loss, gradients = our_step(base, adapter, dataset, loss_type, smoothing)
    their_loss, their_gradients = trl_step(base, adapter, dataset, loss_type, smoothing, tmp_path / "trl")
    assert loss == pytest.approx(their_loss, abs=1e-5, rel=2e-6)  # sppo_hard is 60, and multiplies rounding by 10
    assert gradients.keys() == their_gradients.keys()
    assert len(gradients) == 16  # two layers, four modules, A and B
    for name, gradient in gradients.items():
        largest = gradient.abs().max()
        assert (gradient - their_gradients[name]).abs().max() < 1e-5 * max(1.0, 3 * largest), name
        assert largest > 1e-5, name  # a comparison of zeros would prove nothing


def their_reference_free_loss(loss_type, means):
    """Return TRL's loss of each pair from mean log-probabilities per token, by the method of its trainer."""
    trainer = SimpleNamespace(beta=2.0, simpo_gamma=0.5, label_smoothing=0.0, alpha=0.0, loss_type=loss_type)
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"))
    if loss_type == "simpo":
        from trl.experimental.cpo import CPOTrainer

        return CPOTrainer.cpo_loss(trainer, *means)[0]
    from trl.experimental.orpo import ORPOTrainer

    return -ORPOTrainer.odds_ratio_loss(trainer, *means)[0]  # the trainer subtracts it


@pytest.mark.filterwarnings("ignore")  # TRL says that the module is experimental
@pytest.mark.parametrize("loss_type", ["simpo", "orpo"])
def test_reference_free_losses_and_gradients_equal_trl(loss_type):
    generator = torch.Generator().manual_seed(3)
    counts = [torch.tensor([4, 9, 30]), torch.tensor([5, 9, 12])]
    ours = [(-2 * count * torch.rand(3, generator=generator)).requires_grad_() for count in counts]
    theirs = [side.detach().clone().requires_grad_() for side in ours]
    options = {"factuality_margin": 0.5} if loss_type == "simpo" else {}
    loss = preference_losses(
        *ours, None, None, beta=2.0, loss_type=loss_type, chosen_tokens=counts[0], rejected_tokens=counts[1], **options
    )
    their_loss = their_reference_free_loss(loss_type, [s / n for s, n in zip(theirs, counts, strict=True)])
    torch.testing.assert_close(loss, their_loss, atol=1e-6, rtol=1e-6)
    loss.sum().backward()
    their_loss.sum().backward()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-6, rtol=1e-5)
        assert own.grad.abs().max() > 1e-3
