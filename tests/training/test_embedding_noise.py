"""NEFTune's noise: its size by hand, in training mode only."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_models import build_tiny_model
from training_helpers import CPU

from language_model.adapters import add_lora
from language_model.loading import load_base_model, load_tokenizer
from language_model.lora_settings import LoraVariant
from scoring.packed_rows import PromptCompletions
from training.embedding_noise import add_embedding_noise


class Model:
    """A model of which only the embeddings are looked at."""

    def __init__(self) -> None:
        self.embeddings = torch.nn.Embedding(10, 4)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embeddings


# 8 tokens on average and 4 features: 3 / sqrt(8 * 4) = 0.5303
EXAMPLES = [PromptCompletions([1] * 4, ([2] * 2,)), PromptCompletions([1] * 6, ([2] * 4,))]


def test_the_noise_has_the_size_of_the_paper_and_evaluation_has_none() -> None:
    model = Model()
    add_embedding_noise(model, 3.0, EXAMPLES)
    tokens = torch.arange(10).repeat(100)
    noise = model.embeddings(tokens) - model.embeddings.weight[tokens]
    assert 0.52 < noise.abs().max() <= 3 / 32**0.5
    assert abs(noise.mean()) < 0.03
    model.embeddings.eval()
    assert torch.equal(model.embeddings(tokens), model.embeddings.weight[tokens])


def test_alpha_0_changes_nothing() -> None:
    model = Model()
    add_embedding_noise(model, 0.0, EXAMPLES)
    assert not model.embeddings._forward_hooks


def test_an_adapter_around_the_embeddings_gets_the_noise_as_well(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "base")
    for targets, whole in ((["q_proj", "embed_tokens"], ()), (["q_proj"], ("embed_tokens",))):
        model = load_base_model(base, CPU, load_tokenizer(base))
        policy = add_lora(model, 4, 8, 0.0, targets, LoraVariant(modules_to_save=whole)).train()
        add_embedding_noise(policy, 3.0, EXAMPLES)
        tokens = torch.arange(10)
        embeddings = policy.get_input_embeddings()
        noise = (embeddings(tokens) - embeddings.weight[tokens]).abs().max()
        assert 0 < noise <= 3 / (8 * 32) ** 0.5
