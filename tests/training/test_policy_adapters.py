"""Policy and reference on one base: equal at the start, the reference unmoved, the joined adapter equal to both."""

import pytest
import torch
from training_helpers import CPU, perturb, tiny_base_and_adapter

from language_model.adapters import attach_adapter, write_adapter
from language_model.loading import load_base_model, load_tokenizer
from training.policy_adapters import POLICY, REFERENCE, joined_adapter, load_adapter_pair

IDS = torch.arange(3, 40).view(1, -1)


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny_base_and_adapter(tmp_path_factory.mktemp("adapters"))


def make_pair(folders, **options):
    base, adapter = folders
    return load_adapter_pair(load_base_model(base, CPU, load_tokenizer(base)), adapter, **options)


@pytest.mark.parametrize("rank", [None, 3])
def test_policy_starts_as_the_sft_model_and_not_as_the_base(folders, rank):
    base, adapter = folders
    plain = load_base_model(base, CPU, load_tokenizer(base))
    base_logits = logits(plain)
    sft_logits = logits(attach_adapter(plain, adapter, "default", trainable=False).eval())
    pair = make_pair(folders, fresh_rank=rank, live=True)
    pair.model.train()  # the adapter's stored dropout of 0.05 must not be at work
    torch.testing.assert_close(logits(pair.model), sft_logits, atol=1e-6, rtol=0)
    with pair.as_reference():
        torch.testing.assert_close(logits(pair.model), sft_logits, atol=1e-6, rtol=0)
    assert (sft_logits - base_logits).abs().max() > 0.1


@pytest.mark.parametrize("rank", [None, 3])
def test_only_the_policy_trains_and_the_reference_stays(folders, rank):
    pair = make_pair(folders, fresh_rank=rank, live=True)
    with pair.as_reference():
        before = logits(pair.model)
    trainable = [name for name, p in pair.model.named_parameters() if p.requires_grad]
    assert trainable
    assert all(f".{POLICY}." in name for name in trainable)
    optimizer = torch.optim.SGD([p for p in pair.model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        with pair.as_reference():
            logits(pair.model)
        pair.model(input_ids=IDS).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    policy = logits(pair.model)
    with pair.as_reference():
        assert torch.equal(logits(pair.model), before)
    assert (policy - before).abs().max() > 1e-3


def test_the_joined_adapter_equals_both_on_the_original_base(folders, tmp_path):
    base, _ = folders
    pair = make_pair(folders, fresh_rank=3, live=False)
    perturb(pair.model, 5, 0.3)
    state, config = joined_adapter(pair.model)
    assert (config.r, config.lora_alpha) == (4 + 3, 4 + 3)
    tokenizer = load_tokenizer(base)
    write_adapter(tmp_path / "joined", state, config, tokenizer, "plain", str(base))
    joined = attach_adapter(load_base_model(base, CPU, tokenizer), tmp_path / "joined", "default", trainable=False)
    torch.testing.assert_close(logits(joined), logits(pair.model), atol=1e-5, rtol=0)
    with pair.as_reference():
        assert (logits(joined) - logits(pair.model)).abs().max() > 0.1
    assert REFERENCE not in "".join(state)
