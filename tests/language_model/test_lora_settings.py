"""Which layers a fresh adapter gets from the flags, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build_tiny_model
from training_helpers import CPU, train_stage_a, write_phase1
from transformers import AutoModelForCausalLM, GPT2Config

import stage_a_sft_training as stage_a
from language_model.adapters import add_lora, count_parameters, save_adapter
from language_model.loading import load_base_model, load_for_inference, load_tokenizer
from language_model.local_sampler import LocalSampler
from language_model.lora_settings import LoraVariant, check_lora_arguments
from script_io.errors import InputError, RunError
from training.planned_adapters import fresh_adapter, trained_whole

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
VARIANTS: dict[str, tuple[list[str], LoraVariant]] = {
    "names": (["q_proj", "v_proj"], LoraVariant()),
    "all-linear": (["all-linear"], LoraVariant()),
    "dora": (["q_proj", "down_proj"], LoraVariant(use_dora=True)),
    "rslora": (["q_proj"], LoraVariant(use_rslora=True)),
    "head": (["q_proj", "lm_head"], LoraVariant()),
    "whole": (["q_proj"], LoraVariant(modules_to_save=("lm_head",))),
    "excluded": (["all-linear"], LoraVariant(exclude_modules=("mlp",))),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("lora") / "base")


def adapted(base: Path, targets: list[str], variant: LoraVariant | None = None) -> Any:
    return add_lora(load_base_model(base, CPU, load_tokenizer(base)), 4, 8, 0.0, targets, variant or LoraVariant())


def layers_of(policy: Any) -> set[str]:
    return set(policy.base_model.targeted_module_names)


def test_all_linear_is_every_linear_layer_but_the_head(base: Path) -> None:
    layers = layers_of(adapted(base, ["all-linear"]))
    assert {path.rsplit(".", 1)[-1] for path in layers} == LINEAR
    assert len(layers) == 2 * len(LINEAR)


def test_a_regular_expression_and_a_whole_path_choose_single_layers(base: Path) -> None:
    assert layers_of(adapted(base, [r".*layers\.1\..*_proj"])) == {
        path for path in layers_of(adapted(base, ["all-linear"])) if ".1." in path
    }
    assert layers_of(adapted(base, ["model.layers.0.self_attn.q_proj"])) == {"model.layers.0.self_attn.q_proj"}
    assert len(layers_of(adapted(base, ["self_attn.q_proj"]))) == 2


@pytest.mark.parametrize(("excluded", "left"), [(("mlp",), 8), (("mlp", "k_proj"), 6), ((r".*layers\.0\..*",), 7)])
def test_excluded_parts_are_not_adapted(base: Path, excluded: tuple[str, ...], left: int) -> None:
    assert len(layers_of(adapted(base, ["all-linear"], LoraVariant(exclude_modules=excluded)))) == left


@pytest.mark.parametrize(
    ("targets", "variant", "message"),
    [
        (["Wqkv"], LoraVariant(), r"--lora_target_modules Wqkv: .* it has .*k_proj, lm_head, o_proj"),
        ([".*Wqkv.*"], LoraVariant(), r"--lora_target_modules \.\*Wqkv"),
        (["(q_proj"], LoraVariant(), "is not a regular expression"),
        (["q_proj"], LoraVariant(exclude_modules=("vision_tower",)), "--lora_exclude_modules vision_tower: .* no such"),
        (["q_proj"], LoraVariant(modules_to_save=("score",)), "--lora_modules_to_save score: .* no such module"),
        (["q_proj"], LoraVariant(exclude_modules=("self_attn",)), "peft cannot adapt this model"),
    ],
)
def test_modules_that_are_not_there_are_refused(
    base: Path, targets: list[str], variant: LoraVariant, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        adapted(base, targets, variant)


def test_a_model_with_other_names_is_listed_by_its_own() -> None:
    model = AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20))
    with pytest.raises(InputError, match="it has c_attn, c_fc, c_proj, lm_head, wpe, wte"):
        add_lora(model, 4, 8, 0.0, ["q_proj", "v_proj"])
    with pytest.raises(InputError, match=r"--lora_modules_to_save lm_head: the model ties its output head"):
        add_lora(model, 4, 8, 0.0, ["c_attn"], LoraVariant(modules_to_save=("lm_head",)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lora_init pissa", "add --lora_dropout 0"),
        ("--lora_init pissa --use_dora", "leave them out"),
        ("--lora_init pissa --lora_modules_to_save lm_head", "leave them out"),
        ("--neftune_noise_alpha -1", "must be a number of 0 or more"),
        ("--lora_dropout 1", "below 1"),
    ],
)
def test_flags_that_exclude_each_other(flags: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_lora_arguments(stage_a.parse_args(flags.split()))


@pytest.mark.parametrize("kind", VARIANTS)
def test_the_memory_estimate_counts_every_trained_parameter(base: Path, kind: str) -> None:
    targets, variant = VARIANTS[kind]
    policy = adapted(base, targets, variant)
    planned = fresh_adapter(str(base), CPU, 4, 0.0, targets, variant)
    in_layers = sum(
        tensor.numel() for name, tensor in policy.named_parameters() if "lora_" in name and ".layers." in name
    ) - sum(tensor.numel() for name, tensor in policy.named_parameters() if "magnitude" in name)
    assert planned.other_trained == count_parameters(policy, trainable=True) - in_layers
    assert set(planned.target_modules) == {path.rsplit(".", 1)[-1] for path in layers_of(policy)}


def test_modules_trained_whole_are_float32_and_stage_b_counts_them(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.loop.plot_curves", lambda *_: None)
    inputs = tmp_path
    (inputs / "base").symlink_to(base)
    for split in ("train", "val"):
        write_phase1(inputs / f"{split}.csv", 4)
    flags = ("--num_epochs", "1", "--dtype", "bfloat16", "--lora_modules_to_save", "lm_head")
    folder = train_stage_a(inputs, tmp_path / "run", *flags) / "final_model"
    model = load_base_model(base, CPU, load_tokenizer(base))
    assert trained_whole(folder) == model.get_output_embeddings().weight.numel()
    head = load_for_inference(folder, device="cpu").model.get_output_embeddings()
    assert not torch.equal(head.weight, model.get_output_embeddings().weight)


def test_inference_stops_if_merging_changes_the_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build_tiny_model(tmp_path / "base", "gemma3")  # with a tied head
    policy = adapted(base, ["lm_head"])
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if "lora_B" in name:
                tensor.normal_()
    save_adapter(policy, tmp_path / "adapter", load_tokenizer(base), "plain", base_model=str(base))
    LocalSampler(load_for_inference(tmp_path / "adapter", device="cpu"), "untied first")
    monkeypatch.setattr("language_model.loading.untie_adapted_embeddings", lambda model: None)
    with pytest.raises(RunError, match="still tied: merging changed the logits"):
        LocalSampler(load_for_inference(tmp_path / "adapter", device="cpu"), "still tied")
