"""Stage B from a whole model, from an adapter of another maker, and from folders that are neither."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig
from peft_adapters import LAYERS, save_with_peft
from safetensors.torch import load_file
from tiny_models import build_tiny_model
from training_helpers import CPU, metrics, perturb, train_stage_a, write_triplets

import sft_inference
import stage_b_dpo_training as stage_b
from language_model.loading import load_base_model, load_for_inference, load_tokenizer
from language_model.model_files import is_whole_model
from language_model.prompt_format import build_prompt, encode_prompt
from script_io.errors import InputError
from script_io.files import write_jsonl
from training.pair_scores import score_pairs
from training.policy_adapters import save_policy
from training.start_model import find_start_model


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


VARIANTS = {
    "pissa": ("--lora_init", "pissa", "--lora_r", "4"),
    "dora": ("--use_dora", "--use_rslora", "--lora_alpha", "8", "--lora_r", "4", "--lora_exclude_modules", "k_proj"),
    "whole": ("--lora_modules_to_save", "lm_head", "embed_tokens", "--lora_r", "4"),
}


def arguments(inputs, *flags):
    data = ("--train_data_path", str(inputs / "train.jsonl"), "--val_data_path", str(inputs / "val.jsonl"))
    return stage_b.parse_args(["--sft_model_path", str(inputs / "instruct"), "--device", "cpu", *data, *flags])


def load(inputs):
    return load_base_model(inputs / "instruct", CPU, load_tokenizer(inputs / "instruct")).eval()


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 40).view(1, -1)).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_lora_starts_as_the_whole_model_which_stays_the_reference(inputs, tmp_path, variant):
    expected, args = logits_of(load(inputs)), arguments(inputs, *VARIANTS[variant])
    start = find_start_model(args, "remedy")
    pair = start.add_policy(load(inputs), args)
    pair.model.eval()
    torch.testing.assert_close(logits_of(pair.model), expected, atol=1e-4, rtol=0)
    perturb(pair.model, 0, 0.1)
    with pair.as_reference():
        assert torch.equal(logits_of(pair.model), expected)
    trained = [name for name, parameter in pair.model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("policy" in name.split(".") for name in trained)
    policy = logits_of(pair.model)
    assert (policy - expected).abs().max() > 0.01
    saved = {"tokenizer": load_tokenizer(start.path), "prompt_format": "chat", "base_model": start.base_name}
    save_policy(pair, tmp_path / "saved", **saved)
    torch.testing.assert_close(logits(tmp_path / "saved"), policy, atol=1e-4, rtol=0)
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    found = {name: config[name] for name in ("r", "lora_alpha", "use_dora", "use_rslora", "modules_to_save")}
    plain = {"r": 4, "lora_alpha": 8, "use_dora": False, "use_rslora": False, "modules_to_save": None}
    special = {
        "pissa": {"r": 8, "lora_alpha": 8},  # the sum of two adapters, with a scaling of 1
        "dora": {"use_dora": True, "use_rslora": True},
        "whole": {"modules_to_save": ["lm_head", "embed_tokens"]},
    }
    assert found == plain | special[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_lora_trains_from_the_zero_margin_with_a_live_reference(inputs, tmp_path, variant):
    final = train(inputs, inputs / "instruct", tmp_path / "run", *VARIANTS[variant], "--reference", "live")
    first, *_, last = metrics(tmp_path / "run", "train")
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert (first["rewards/chosen"], first["rewards/rejected"]) == pytest.approx((0, 0), abs=1e-5)
    assert last["rewards/margins"] > 1e-3
    assert (logits(final) - logits(inputs / "instruct")).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_half_precision_a_variant_needs_the_cached_reference(inputs, tmp_path, variant):
    flags = (*VARIANTS[variant], "--dtype", "bfloat16", "--output_dir", str(tmp_path))
    with pytest.raises(InputError, match=r"in bfloat16, the policy does not start equal .* leave --reference out"):
        stage_b.prepare(arguments(inputs, *flags, "--reference", "live"))
    args = arguments(inputs, *flags, "--max_length", "300")
    run, pair, data, _ = stage_b.prepare(args)
    scores = score_pairs(run, pair, data, run.plan.rows(0, data.dataset.tokens)[0])
    assert torch.equal(scores.policy_chosen, scores.reference_chosen)


def test_an_adapter_brings_its_own_settings(inputs, tmp_path):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, task_type="CAUSAL_LM")
    adapter = save_with_peft(tmp_path / "theirs", inputs / "instruct", config)
    for flag in ("--use_dora", "--use_rslora", "--lora_alpha 8", "--lora_init pissa", "--lora_modules_to_save x"):
        args = arguments(inputs, "--sft_model_path", str(adapter), *flag.split())
        with pytest.raises(InputError, match=rf"{flag.split()[0]} is for a whole model, and .*theirs is an adapter"):
            find_start_model(args, "remedy")


def test_pissa_rules_out_what_its_plain_adapter_cannot_hold(inputs):
    with pytest.raises(InputError, match="--lora_init pissa is saved as a plain adapter"):
        stage_b.check_arguments(arguments(inputs, "--lora_init", "pissa", "--use_dora"))


def test_an_adapter_of_another_maker_is_trained_further_without_files_of_ours(inputs, tmp_path, capsys):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, task_type="CAUSAL_LM")
    adapter = save_with_peft(tmp_path / "foreign", inputs / "instruct", config)
    for path in adapter.iterdir():  # as peft alone leaves it: no tokenizer, no prompt format
        if not path.name.startswith("adapter_"):
            path.unlink()
    final = train(inputs, adapter, tmp_path / "run")
    assert "Prompt format: chat (none is stored with" in capsys.readouterr().out
    assert metrics(tmp_path / "run", "train")[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert (logits(final) - logits(adapter)).abs().max() > 1e-3
    assert json.loads((final / "prompt_format.json").read_text())["prompt_format"] == "chat"
    command = ["--model_path", str(adapter), "--clinical_note", "Cough.", "--max_new_tokens", "3", "--device", "cpu"]
    assert sft_inference.main(sft_inference.parse_args(command)) == 0
    assert "Generated Summary:" in capsys.readouterr().out


def test_the_prompt_of_a_whole_model_is_stored_with_its_adapter(inputs, tmp_path):
    template = tmp_path / "prompt.txt"
    template.write_text("Summarise:\n{note}\n")
    flags = ["--lora_target_modules", *LAYERS, "--prompt_template", str(template), "--system_prompt", "Be brief."]
    loaded = load_for_inference(train(inputs, inputs / "instruct", tmp_path / "run", *flags), device="cpu")
    ids = encode_prompt(loaded.tokenizer, build_prompt("Cough."), loaded.prompt_format)
    assert loaded.tokenizer.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSummarise:\nCough.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_what_is_no_model_is_refused_in_one_line(inputs, tmp_path):
    for model, message in (
        (tmp_path / "none", "no adapter_config.json there; name what to train"),
        ("none", "no such folder.*; or name what to train"),
    ):
        args = stage_b.parse_args(["--sft_model_path", str(model)])
        with pytest.raises(InputError, match=message) as caught:
            find_start_model(args, "name what to train")
        assert "\n" not in str(caught.value)
    assert not is_whole_model(tmp_path)
    assert is_whole_model(inputs / "instruct")
    with pytest.raises(InputError, match=r"--base_model is for an adapter, and .* is a whole model"):
        train(inputs, inputs / "instruct", tmp_path / "run", "--base_model", str(inputs / "instruct"))
    with pytest.raises(InputError, match="--lora_target_modules c_attn"):
        train(inputs, inputs / "instruct", tmp_path / "run", "--lora_target_modules", "c_attn")


def test_stage_a_trains_on_conversations(inputs, tmp_path):
    turns = [[(f"What is {n} plus {n}?", f"{2 * n}."), ("And doubled?", f"{4 * n}.")] for n in range(4)]
    rows = [
        {
            "messages": [
                {"role": r, "content": c} for pair in each for r, c in zip(("user", "assistant"), pair, strict=True)
            ]
        }
        for each in turns
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "val.jsonl", rows[:2])
    shutil.copytree(inputs / "instruct", tmp_path / "base")
    flags = ["--train_data_path", str(tmp_path / "train.jsonl"), "--val_data_path", str(tmp_path / "val.jsonl")]
    final = train_stage_a(tmp_path, tmp_path / "run", "--num_epochs", "1", *flags) / "final_model"
    stored = json.loads((final / "prompt_format.json").read_text())
    assert stored["prompt_format"] == "chat"
    assert json.loads((tmp_path / "run" / "training_stats.json").read_text())["data"]["train"]["total"] == 8
