"""PiSSA trains what peft's PiSSA trains, leaves the base as it is, and is saved as a plain adapter for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import build_tiny_model
from training_helpers import CPU, perturb, train_stage_a, write_phase1

from language_model.adapters import add_lora
from language_model.loading import load_base_model, load_for_inference, load_tokenizer
from script_io.errors import InputError
from training.pissa import save_as_plain_adapter, start_from_singular_values

TARGETS = ["q_proj", "down_proj"]
TOKENS = torch.tensor([[5, 60, 70, 80, 90]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("pissa") / "base")


def load(base: Path) -> Any:
    return load_base_model(base, CPU, load_tokenizer(base)).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(TOKENS).logits
    return result


def test_it_starts_as_the_base_and_trains_as_the_pissa_of_peft(base: Path, tmp_path: Path) -> None:
    original = load(base)
    policy = add_lora(load(base), 4, 8, 0.0, TARGETS).eval()
    start_from_singular_values(policy)
    torch.testing.assert_close(logits(policy), logits(original), atol=1e-4, rtol=0)

    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    by_peft = get_peft_model(load(base), LoraConfig(**settings, init_lora_weights="pissa")).eval()
    for model in (policy, by_peft):
        perturb(model, 0, 0.1)
    assert (logits(by_peft) - logits(original)).abs().max() > 0.1
    torch.testing.assert_close(logits(policy), logits(by_peft), atol=1e-3, rtol=0)

    tokenizer = load_tokenizer(base)
    save_as_plain_adapter(policy, tmp_path / "saved", tokenizer=tokenizer, prompt_format="plain", base_model=str(base))
    loaded = load_for_inference(tmp_path / "saved", device="cpu").model
    torch.testing.assert_close(logits(loaded), logits(policy), atol=1e-4, rtol=0)
    config = loaded.active_peft_config
    assert (config.r, config.init_lora_weights, config.use_rslora) == (8, True, False)


def test_only_the_adapter_from_singular_values_is_trained(base: Path) -> None:
    policy = add_lora(load(base), 4, 8, 0.0, TARGETS)
    start_from_singular_values(policy)
    names = [name for name, tensor in policy.named_parameters() if tensor.requires_grad]
    assert len(names) == 2 * 2 * len(TARGETS)
    assert all(".default." in name for name in names)


def test_an_embedding_is_refused(base: Path) -> None:
    policy = add_lora(load(base), 4, 8, 0.0, ["embed_tokens"])
    with pytest.raises(InputError, match="embed_tokens is quantised or an embedding"):
        start_from_singular_values(policy)


def test_stage_a_resumes_it(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loop.plot_curves", lambda *_: None)
    (tmp_path / "base").symlink_to(base)
    for split in ("train", "val"):
        write_phase1(tmp_path / f"{split}.csv", 4)
    flags = ("--num_epochs", "2", "--lora_init", "pissa", "--lora_dropout", "0", "--neftune_noise_alpha", "5")
    whole = train_stage_a(tmp_path, tmp_path / "whole", *flags)
    first = logits(load_for_inference(whole / "final_model", device="cpu").model)
    for name in ("final_model", "checkpoint_epoch_2"):
        (whole / name).rename(tmp_path / name)
    train_stage_a(tmp_path, whole, *flags, "--resume")
    again = logits(load_for_inference(whole / "final_model", device="cpu").model)
    torch.testing.assert_close(again, first, atol=1e-4, rtol=0)
