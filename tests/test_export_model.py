"""Merged models stand alone, say the same, and remember their prompt format."""

import json

import pytest
import torch
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
