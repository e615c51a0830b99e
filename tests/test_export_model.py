"""Merged models stand alone, say the same, and remember their prompt format."""

import json

import pytest
import torch
from peft import IA3Config, LoraConfig
from peft_adapters import save_with_peft
from training_helpers import CPU, tiny_base_and_adapter
from transformers import AutoModelForCausalLM

import export_model
from language_model.adapters import attach_adapter
from language_model.loading import load_base_model, load_for_inference, load_tokenizer
from script_io.errors import InputError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny_base_and_adapter(tmp_path_factory.mktemp("export"))


def export(adapter, output, *extra):
    arguments = ["--model_path", str(adapter), "--output_dir", str(output), "--device", "cpu", *extra]
    assert export_model.main(export_model.parse_args(arguments)) == 0
    return output


def test_the_merged_model_has_the_adapters_logits(folders, tmp_path):
    base, adapter = folders
    output = export(adapter, tmp_path / "merged")
    adapted = attach_adapter(load_base_model(base, CPU, load_tokenizer(base)), adapter, "default", trainable=False)
    ids = torch.arange(3, 40).view(1, -1)
    with torch.no_grad():
        expected = adapted.eval()(input_ids=ids).logits
        actual = AutoModelForCausalLM.from_pretrained(output)(input_ids=ids).logits
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
    assert load_for_inference(output, device="cpu").prompt_format == "plain"


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantised_exports_are_the_merged_model_quantised(folders, tmp_path, bits):
    output = export(folders[1], tmp_path / bits, "--quantize", bits)
    config = json.loads((output / "config.json").read_text())["quantization_config"]
    assert config[f"load_in_{bits}"] is True
    exact = export(folders[1], tmp_path / "exact")
    models = (
        load_for_inference(output, device="cpu"),
        load_for_inference(exact, device="cpu", **{f"use_{bits}": True}),
        load_for_inference(exact, device="cpu"),
    )
    ids = torch.arange(3, 40).view(1, -1)
    with torch.no_grad():
        stored, quantised, whole = (loaded.model(input_ids=ids).logits.float() for loaded in models)
    torch.testing.assert_close(stored, quantised, atol=1e-5, rtol=0)
    assert (stored - whole).abs().max() > 1e-3


def test_a_used_folder_is_refused(folders, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export(folders[1], tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM"),
        IA3Config(target_modules=["v_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
    ],
    ids=["embeddings", "head", "dora", "ia3"],
)
def test_other_adapters_of_a_model_with_tied_embeddings_are_merged_too(folders, tmp_path, config):
    base = AutoModelForCausalLM.from_pretrained(folders[0])
    base.config.tie_word_embeddings = True
    base.lm_head.weight = base.model.embed_tokens.weight
    base.save_pretrained(tmp_path / "base")
    load_tokenizer(folders[0]).save_pretrained(tmp_path / "base")
    adapter = save_with_peft(tmp_path / "adapter", tmp_path / "base", config)
    merged = AutoModelForCausalLM.from_pretrained(export(adapter, tmp_path / "merged"))
    ids = torch.arange(3, 40).view(1, -1)
    with torch.no_grad():
        expected = load_for_inference(adapter, device="cpu").model(input_ids=ids).logits
        actual, before = merged(input_ids=ids).logits, base(input_ids=ids).logits
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
    assert (actual - before).abs().max() > 0.01


def test_what_peft_cannot_merge_is_one_line(folders, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj"], lora_bias=True, task_type="CAUSAL_LM")
    adapter = save_with_peft(tmp_path / "adapter", folders[0], config)
    with pytest.raises(InputError, match=r"peft cannot merge this adapter \(.*lora_bias") as caught:
        export(adapter, tmp_path / "merged")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "merged").exists()
