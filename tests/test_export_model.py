"""Merged models stand alone, say the same, and remember their prompt format."""

import json
import re

import pytest
import torch
from peft import IA3Config, LoraConfig
from peft_adapters import save_with_peft
from tiny_models import build_tiny_model
from training_helpers import CPU, tiny_base_and_adapter
from transformers import AutoModelForCausalLM

import export_model
from language_model.adapters import attach_adapter
from language_model.loading import load_base_model, load_for_inference, load_tokenizer
from language_model.merging import changed_share
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
def test_quantised_exports_are_the_merged_model_quantised(folders, tmp_path, bits, capsys):
    output = export(folders[1], tmp_path / bits, "--quantize", bits)
    said = re.search(r"Quantising changed the logits by ([\d.]+)%: evaluate", capsys.readouterr().out)
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
    # of other tokens: the share in percent lies near that of the probe
    assert 100 * changed_share(whole[0], stored[0]) / 3 < float(said[1]) < 100 * changed_share(whole[0], stored[0]) * 3


@pytest.mark.parametrize("bits", [8, 4])
def test_an_adapter_of_a_quantised_base_is_merged_into_other_weights_and_that_is_said(bits, capsys):
    export_model.say_if_trained_quantised({"arguments": {f"use_{bits}bit": True}})
    assert f"trained on its base in {bits} bits and is merged into the unquantised base" in capsys.readouterr().out
    export_model.say_if_trained_quantised({"arguments": {"use_8bit": False, "use_4bit": False}})
    assert not capsys.readouterr().out


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
    for path in [*adapter.glob("tokenizer*"), *adapter.glob("special_tokens*")]:  # peft alone saves none
        path.unlink()
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


def test_an_export_has_a_card_and_settings_for_generation(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(export_model, "upload", lambda *_: pytest.fail("nobody asked for an upload"))
    output = export(folders[1], tmp_path / "merged")
    assert "Not for clinical use" in (output / "README.md").read_text()
    assert json.loads((output / "generation_config.json").read_text())["eos_token_id"] == 2


@pytest.mark.parametrize("whole", [False, True], ids=["adapter", "whole"])
def test_gguf_of_an_adapter_and_of_a_whole_model(folders, tmp_path, capsys, whole):
    base, adapter = folders
    output = export(base if whole else adapter, tmp_path / "gguf", "--gguf", "f16")
    names = {path.name for path in output.iterdir()}
    assert names == {"model-F16.gguf", "Modelfile", "README.md", "generation_config.json"}
    read = AutoModelForCausalLM.from_pretrained(output, gguf_file="model-F16.gguf", dtype=torch.float32)
    expected = load_for_inference(base if whole else adapter, device="cpu").model
    ids = torch.arange(3, 40).view(1, -1)
    with torch.no_grad():
        torch.testing.assert_close(read(input_ids=ids).logits, expected(input_ids=ids).logits, atol=0.05, rtol=0)
    assert "FROM ./model-F16.gguf\n" in (output / "Modelfile").read_text()
    assert "relative error 0." in capsys.readouterr().out


def test_a_shape_that_gguf_cannot_hold_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    base = build_tiny_model(tmp_path / "gemma", "gemma3")
    monkeypatch.setattr(export_model, "load_base_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"not gemma3_text; convert it with llama.cpp's convert_hf_to_gguf\.py"):
        export(base, tmp_path / "out", "--gguf", "f16")


def test_an_upload_is_checked_first_and_done_last(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(export_model, "require_upload", lambda repository: None)
    uploads = []
    monkeypatch.setattr(export_model, "upload", lambda *call: uploads.append((*call, sorted(call[0].iterdir()))))
    output = export(folders[1], tmp_path / "merged", "--push_to_hub", "me/model")
    assert uploads == [(output, "me/model", sorted(output.iterdir()))]


def test_the_working_folder_is_filled_if_it_is_empty_and_never_replaced(folders, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(folders[1], ".")
    assert load_for_inference(".", device="cpu").prompt_format == "plain"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    for place in (".", ".."):
        with pytest.raises(InputError, match="holds the working folder, which would be replaced"):
            export(folders[1], place, "--overwrite_output_dir")


def test_an_export_that_fails_leaves_nothing(folders, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(export_model, "write_model_card", full)
    with pytest.raises(OSError, match="the disk is full"):
        export(folders[1], tmp_path / "merged")
    assert not list(tmp_path.iterdir())
