"""Stage B from a whole model, from an adapter of another maker, and from folders that are neither."""

import json

import pytest
import torch
from peft_adapters import LAYERS
from safetensors.torch import load_file
from tiny_models import build_tiny_model
from training_helpers import metrics, write_triplets

import stage_b_dpo_training as stage_b
from language_model.loading import load_for_inference


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A whole model that speaks ChatML, and pairs."""
    folder = tmp_path_factory.mktemp("start")
    build_tiny_model(folder / "instruct", "qwen2")
    write_triplets(folder / "train.jsonl", 8)
    write_triplets(folder / "val.jsonl", 4, seed=1)
    return folder


def train(inputs, model, output, *extra):
    flags = [
        *("--sft_model_path", str(model), "--output_dir", str(output), "--device", "cpu", "--num_epochs", "1"),
        *("--train_data_path", str(inputs / "train.jsonl"), "--val_data_path", str(inputs / "val.jsonl")),
        *("--learning_rate", "1e-2", "--logging_steps", "1", "--max_length", "300", *extra),
    ]
    assert stage_b.main(stage_b.parse_args(flags)) == 0
    return output / "final_model"


def logits(folder):
    loaded = load_for_inference(folder, device="cpu", dtype="float32")
    with torch.no_grad():
        return loaded.model(input_ids=torch.arange(3, 40).view(1, -1)).logits


@pytest.fixture(scope="module")
def from_whole(inputs):
    return train(inputs, inputs / "instruct", inputs / "run", "--lora_target_modules", *LAYERS)


def test_a_whole_model_is_the_reference_and_its_adapter_loads(inputs, from_whole):
    first = metrics(inputs / "run", "train")[0]
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert first["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert first["rewards/rejected"] == pytest.approx(0, abs=1e-5)
    config = json.loads((from_whole / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((inputs / "instruct").resolve())
    assert (config["r"], config["lora_alpha"], sorted(config["target_modules"])) == (16, 32, sorted(LAYERS))
    assert (logits(from_whole) - logits(inputs / "instruct")).abs().max() > 1e-3


def test_cached_and_live_references_of_a_whole_model_train_the_same(inputs, from_whole, tmp_path):
    live = train(inputs, inputs / "instruct", tmp_path, "--lora_target_modules", *LAYERS, "--reference", "live")
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (from_whole, live))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=0, msg=name)
