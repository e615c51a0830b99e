"""Adapters that peft saved: every supported kind generates what peft itself generates, and the others are refused."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
)
from peft_adapters import LAYERS, save_with_peft
from tiny_models import build_tiny_model
from training_helpers import write_phase1
from transformers import AutoConfig, AutoModelForCausalLM

from language_model.adapters import is_mergeable
from language_model.loading import load_for_inference, load_tokenizer
from language_model.local_sampler import LocalSampler
from language_model.prompt_format import build_prompt, encode_prompt
from language_model.sampler import SamplingSettings
from script_io.errors import InputError
from sft_inference import SFTInference

PROMPTS = [build_prompt("A 54-year-old woman with chest pain."), build_prompt("BP 142/88, HR 96 bpm. Denies fever.")]
GREEDY = SamplingSettings(max_new_tokens=12, temperature=0)
LORA = {"r": 4, "target_modules": LAYERS, "task_type": "CAUSAL_LM"}
SUPPORTED = {
    "rslora": LoraConfig(**LORA, use_rslora=True),
    "without_task": LoraConfig(r=4, target_modules=LAYERS),
    "layers": LoraConfig(**LORA, layers_to_transform=[1]),
    "tokens": LoraConfig(**LORA, trainable_token_indices=[1, 40]),
    "bias_all": LoraConfig(**LORA, bias="all"),
    "bias_lora_only": LoraConfig(**LORA, bias="lora_only"),
    "lora_bias": LoraConfig(**LORA, lora_bias=True),
    "dora": LoraConfig(**LORA, use_dora=True),
    "modules_to_save": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "embedding": LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM"),
    "pissa": LoraConfig(**LORA, init_lora_weights="pissa"),
    "replication": LoraConfig(**LORA, layer_replication=[[0, 2], [1, 2]]),
    "parameters": LoraConfig(**LORA, target_parameters=["self_attn.o_proj.weight"]),
    "alora": LoraConfig(**LORA, alora_invocation_tokens=[262]),
    "ia3": IA3Config(target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
    "loha": LoHaConfig(r=4, target_modules=LAYERS, task_type="CAUSAL_LM"),
    "norms": LNTuningConfig(target_modules=["input_layernorm"], task_type="CAUSAL_LM"),
    "trainable_tokens": TrainableTokensConfig(token_indices=[1], task_type="CAUSAL_LM"),
}
VIRTUAL = {"num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}
REFUSED = {
    "PROMPT_TUNING": PromptTuningConfig(**VIRTUAL),
    "P_TUNING": PromptEncoderConfig(**VIRTUAL),
    "PREFIX_TUNING": PrefixTuningConfig(**VIRTUAL),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("adapters") / "base")


def greedy_texts(model: torch.nn.Module, folder: Path) -> list[str]:
    """Return what peft's own `generate` makes of each prompt by itself, without padding and without merging."""
    tokenizer, texts = load_tokenizer(folder), []
    for prompt in PROMPTS:
        ids = torch.tensor([encode_prompt(tokenizer, prompt, "plain")])
        settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": tokenizer.eos_token_id}
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
        texts.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return texts


@pytest.mark.parametrize("kind", SUPPORTED)
def test_a_kind_of_adapter_generates_what_peft_generates(base: Path, tmp_path: Path, kind: str) -> None:
    adapter = save_with_peft(tmp_path / kind, base, SUPPORTED[kind])
    expected = greedy_texts(AutoPeftModelForCausalLM.from_pretrained(adapter).eval(), adapter)
    sampler = LocalSampler(load_for_inference(adapter, device="cpu"), kind)
    results = sampler.complete(PROMPTS, GREEDY)
    assert [completions[0].text for _, completions in sorted(results)] == expected
    if kind != "alora":  # its invocation token may not be in these prompts
        plain = LocalSampler(load_for_inference(base, device="cpu"), "base")
        results = plain.complete(PROMPTS, GREEDY)
        assert [completions[0].text for _, completions in sorted(results)] != expected


def test_only_forms_of_lora_that_can_be_merged_are_merged(base: Path, tmp_path: Path) -> None:
    kinds = ("rslora", "layers", "embedding", "lora_bias", "replication", "alora", "ia3")
    adapters = {kind: save_with_peft(tmp_path / kind, base, SUPPORTED[kind]) for kind in kinds}
    mergeable = {kind: is_mergeable(load_for_inference(path, device="cpu").model) for kind, path in adapters.items()}
    assert [kind for kind, can_merge in mergeable.items() if can_merge] == ["rslora", "layers", "embedding"]


@pytest.mark.parametrize("kind", REFUSED)
def test_virtual_tokens_are_refused_in_one_line(base: Path, tmp_path: Path, kind: str) -> None:
    adapter = save_with_peft(tmp_path / kind, base, REFUSED[kind])
    with pytest.raises(InputError, match=f"adapters of type {kind} are not supported") as caught:
        load_for_inference(adapter, device="cpu")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ the adapter's base


@pytest.fixture
def moved(base: Path, tmp_path: Path) -> tuple[Path, Path]:
    """An adapter whose base was moved, and the folder where its base is now."""
    old = shutil.copytree(base, tmp_path / "old_place")
    adapter = save_with_peft(tmp_path / "adapter", old, LoraConfig(**LORA))
    return adapter, old.rename(tmp_path / "new_place")


def test_a_moved_base_is_an_error_that_names_the_flag(moved: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"old_place is not there; .* --base_model"):
        load_for_inference(moved[0], device="cpu")


def test_a_moved_base_can_be_named(base: Path, moved: tuple[Path, Path], tmp_path: Path) -> None:
    adapter, new_place = moved
    ids = torch.arange(3, 40).view(1, -1)
    same = save_with_peft(tmp_path / "same", base, LoraConfig(**LORA))
    with torch.no_grad():
        expected = load_for_inference(same, device="cpu").model(input_ids=ids).logits
        actual = load_for_inference(adapter, device="cpu", base_model=new_place).model(input_ids=ids).logits
    torch.testing.assert_close(actual, expected)


def test_a_base_that_does_not_exist_is_an_error(moved: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"--base_model \./nowhere: no such model folder"):
        load_for_inference(moved[0], device="cpu", base_model="./nowhere")


@pytest.mark.parametrize("change", [{"hidden_size": 64}, {"num_hidden_layers": 3}], ids=str)
def test_a_base_of_another_shape_is_an_error_that_names_the_flag(
    moved: tuple[Path, Path], tmp_path: Path, change: dict[str, int]
) -> None:
    other = shutil.copytree(moved[1], tmp_path / "other")
    config = AutoConfig.from_pretrained(other)
    for name, value in change.items():
        setattr(config, name, value)
    if hasattr(config, "layer_types"):
        config.layer_types = None
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    with pytest.raises(InputError, match=r"does not fit its base model \(.*--base_model") as caught:
        load_for_inference(moved[0], device="cpu", base_model=other)
    assert "\n" not in str(caught.value)


def test_a_stored_base_that_is_not_known_on_the_hub_names_the_flag(moved: tuple[Path, Path]) -> None:
    path = moved[0] / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "nobody/nothing"}))
    with pytest.raises(InputError, match=r"nobody/nothing: no such folder, .*--base_model"):
        load_for_inference(moved[0], device="cpu")


SCRIPTS = ("sft_inference", "generate_completions", "evaluation.evaluate_model", "export_model")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_that_loads_an_adapter_takes_a_moved_base(
    script: str, moved: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter, new_place = moved
    data, out = str(write_phase1(tmp_path / "notes.csv", 2)), tmp_path / "out"
    arguments = {
        "sft_inference": ["--clinical_note", "Denies fever.", "--max_new_tokens", "2"],
        "generate_completions": ["--prompts_path", data, "--output_path", f"{out}.jsonl", "--max_new_tokens", "2"],
        "evaluation.evaluate_model": ["--test_data", data, "--output_dir", str(out), "--max_new_tokens", "2"],
        "export_model": ["--output_dir", str(out)],
    }[script]
    arguments += ["--model_path", str(adapter), "--device", "cpu"]
    module = importlib.import_module(script)
    with pytest.raises(InputError, match="old_place is not there; name the base's new folder with --base_model"):
        module.main(module.parse_args(arguments))
    assert module.main(module.parse_args([*arguments, "--base_model", str(new_place)])) == 0


def test_the_library_class_takes_a_moved_base(moved: tuple[Path, Path]) -> None:
    adapter, new_place = moved
    model = SFTInference(adapter, "cpu", base_model=new_place)
    assert model.generate_summary("Denies fever.", max_new_tokens=2)["num_tokens"] <= 2
