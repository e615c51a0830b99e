"""Policy and reference on one base: equal at the start, the reference unmoved, the joined adapter equal to both."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, IA3Config, LoraConfig, PromptTuningConfig
from peft_adapters import LAYERS, save_with_peft
from safetensors.torch import load_file
from tiny_models import build_tiny_model
from training_helpers import CPU, perturb, tiny_base_and_adapter, write_phase1, write_triplets
from transformers import AutoModelForCausalLM

import stage_a_sft_training as stage_a
import stage_b_dpo_training as stage_b
from language_model.adapters import attach_adapter
from language_model.loading import load_base_model, load_for_inference, load_tokenizer
from script_io.errors import InputError
from training.policy_adapters import (
    JOINED,
    POLICY,
    joined_adapter,
    load_adapter_pair,
    require_sft_adapter,
    save_policy,
)

IDS = torch.arange(3, 40).view(1, -1)
PLAIN = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=LAYERS, task_type="CAUSAL_LM")
# Kinds of LoRA that a fresh adapter can be trained on top of
JOINABLE = {
    "plain": PLAIN,
    "rslora": replace(PLAIN, use_rslora=True),
    "embedding": replace(PLAIN, target_modules=["q_proj", "embed_tokens"]),
    "head": replace(PLAIN, target_modules=["q_proj", "lm_head"]),
    "layers": replace(PLAIN, layers_to_transform=[1]),
    "patterns": replace(PLAIN, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}),
    "expression": replace(PLAIN, target_modules=r".*\.(q|v)_proj", exclude_modules=r".*\.0\..*v_proj"),
}
# Kinds that can only be trained further
TRAINABLE = {
    "dora": replace(PLAIN, use_dora=True),
    "modules_to_save": replace(PLAIN, modules_to_save=["lm_head"]),
    "tokens": replace(PLAIN, trainable_token_indices=[5, 40, 41]),
}


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny_base_and_adapter(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def adapters(folders, tmp_path_factory):
    """A folder with an adapter of each kind."""
    parent = tmp_path_factory.mktemp("kinds")
    for name, config in {**JOINABLE, **TRAINABLE}.items():
        save_with_peft(parent / name, folders[0], copy.deepcopy(config))
    return parent


def make_pair(base, adapter, *, dtype=torch.float32, **options):
    return load_adapter_pair(load_base_model(base, replace(CPU, dtype=dtype), load_tokenizer(base)), adapter, **options)


def save(pair, folder, base):
    save_policy(pair, folder, tokenizer=load_tokenizer(base), prompt_format="plain", base_model=str(base))
    return folder


def reloaded(folder):
    """Load a saved policy on a fresh base, as a user of peft would."""
    return AutoPeftModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("rank", [None, 3])
def test_policy_starts_as_the_sft_model_and_not_as_the_base(folders, rank):
    base, adapter = folders
    plain = load_base_model(base, CPU, load_tokenizer(base))
    base_logits = logits(plain)
    sft_logits = logits(attach_adapter(plain, adapter, "default", trainable=False).eval())
    pair = make_pair(*folders, fresh_rank=rank, live=True)
    pair.model.train()  # the adapter's stored dropout of 0.05 must not be at work
    torch.testing.assert_close(logits(pair.model), sft_logits, atol=1e-6, rtol=0)
    with pair.as_reference():
        torch.testing.assert_close(logits(pair.model), sft_logits, atol=1e-6, rtol=0)
    assert (sft_logits - base_logits).abs().max() > 0.1


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("kind", ["plain", "embedding"])
def test_only_the_policy_trains_and_the_reference_stays(folders, adapters, kind, rank):
    pair = make_pair(folders[0], adapters / kind, fresh_rank=rank, live=True)
    with pair.as_reference():
        before = logits(pair.model)
    trainable = {name for name, p in pair.model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in pair.model.named_parameters() if POLICY in name.split(".")}
    assert any("embed_tokens" in name for name in trainable) == (kind == "embedding")
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


# ------------------------------------------------------------------------------------------ the joined adapter


@pytest.mark.parametrize("kind", JOINABLE)
def test_the_joined_adapter_equals_the_policy_on_a_fresh_base(folders, adapters, tmp_path, kind):
    base = folders[0]
    pair = make_pair(base, adapters / kind, fresh_rank=3, live=False)
    perturb(pair.model, 5, 0.3)
    with pair.as_reference():
        reference = logits(pair.model)
    joined = reloaded(save(pair, tmp_path / "joined", base))
    torch.testing.assert_close(logits(joined), logits(pair.model), atol=1e-5, rtol=2e-6)
    assert (logits(joined) - reference).abs().max() > 0.1
    config = joined.active_peft_config
    assert (config.r, config.lora_alpha, config.use_rslora, config.lora_dropout) == (4 + 3, 4 + 3, False, 0.0)
    for option in ("target_modules", "exclude_modules", "layers_to_transform"):
        assert getattr(config, option) == getattr(JOINABLE[kind], option)


def product(tensors, name, scaling):
    """Return the change of a linear layer's weight, in float64."""
    a, b = (tensors[f"{name}.lora_{letter}.weight"].double() for letter in "AB")
    return scaling * b @ a


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "scaling"), [("plain", 8 / 4), ("rslora", 8 / 4**0.5)])
def test_the_scalings_are_folded_into_the_joined_tensors(folders, adapters, kind, scaling, dtype):
    pair = make_pair(folders[0], adapters / kind, fresh_rank=3, live=False, dtype=dtype)
    perturb(pair.model, 5, 0.3)
    fresh = {name: p for name, p in pair.model.named_parameters() if p.requires_grad}
    sft = load_file(adapters / kind / "adapter_model.safetensors")
    joined, config = joined_adapter(pair.model)
    assert (config.lora_alpha / config.r, config.use_rslora) == (1, False)
    name = "base_model.model.model.layers.1.mlp.down_proj"
    expected = product(sft, name, scaling) + product(
        {key.replace(f".{POLICY}", ""): value for key, value in fresh.items()}, name, 2.0
    )
    # half precision would be wrong by about 1e-3
    torch.testing.assert_close(product(joined, name, 1.0), expected, atol=2e-6, rtol=0)
    assert {tensor.dtype for tensor in joined.values()} == {torch.float32}


def train_step(pair, optimizer):
    pair.model(input_ids=IDS).logits.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["plain", "rslora", "embedding"])
def test_saving_during_training_does_not_disturb_it(folders, adapters, tmp_path, kind):
    def trained(*, save_between):
        torch.manual_seed(0)  # the random start of the fresh adapter
        pair = make_pair(folders[0], adapters / kind, fresh_rank=3, live=True)
        optimizer = torch.optim.AdamW([p for p in pair.model.parameters() if p.requires_grad], lr=1e-2)
        train_step(pair, optimizer)
        if save_between:
            before = [(name, id(p), p.requires_grad) for name, p in pair.model.named_parameters()]
            modules = [name for name, _ in pair.model.named_modules()]
            save(pair, tmp_path / kind, folders[0])
            assert [(name, id(p), p.requires_grad) for name, p in pair.model.named_parameters()] == before
            assert [name for name, _ in pair.model.named_modules()] == modules
            assert JOINED not in pair.model.peft_config
            assert tuple(pair.model.active_adapters) == pair.policy_names
        train_step(pair, optimizer)
        with pair.as_reference():
            reference = logits(pair.model)
        return logits(pair.model), reference

    torch.testing.assert_close(trained(save_between=True), trained(save_between=False), atol=0, rtol=0)


# --------------------------------------------------------------------------------------- other kinds of adapter


@pytest.mark.parametrize("kind", TRAINABLE)
def test_an_adapter_that_cannot_be_joined_can_be_trained_further(folders, adapters, tmp_path, kind):
    base, sft = folders[0], logits(reloaded(adapters / kind))
    assert require_sft_adapter(adapters / kind, "", None)["r"] == 4
    pair = make_pair(base, adapters / kind, fresh_rank=None, live=True)
    torch.testing.assert_close(logits(pair.model), sft, atol=1e-6, rtol=0)
    optimizer = torch.optim.SGD([p for p in pair.model.parameters() if p.requires_grad], lr=0.1)
    train_step(pair, optimizer)
    with pair.as_reference():
        torch.testing.assert_close(logits(pair.model), sft, atol=1e-6, rtol=0)
    policy = logits(pair.model)
    assert (policy - sft).abs().max() > 1e-3
    torch.testing.assert_close(logits(reloaded(save(pair, tmp_path / "policy", base))), policy, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kind", "option"), [*((kind, kind) for kind in ("modules_to_save",)), ("dora", "use_dora")])
def test_what_cannot_be_joined_is_refused_with_a_fresh_rank(adapters, kind, option):
    with pytest.raises(InputError, match=f"--lora_r: the SFT adapter uses {option}, which cannot be joined"):
        require_sft_adapter(adapters / kind, "", 3)


REFUSED = {
    "ia3": (IA3Config(target_modules=["v_proj"], feedforward_modules=[], task_type="CAUSAL_LM"), "type IA3"),
    "prompt": (PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"), "type PROMPT_TUNING are not supported"),
    "bias": (replace(PLAIN, bias="all"), "uses bias, which Stage B cannot train"),
    "lora_bias": (replace(PLAIN, lora_bias=True), "uses lora_bias, which Stage B cannot train"),
    "replication": (replace(PLAIN, layer_replication=[[0, 2], [1, 2]]), "uses layer_replication"),
    "pissa": (replace(PLAIN, init_lora_weights="pissa"), "init_lora_weights pissa changes the base"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_stage_b_refuses_other_adapters_in_one_line_before_it_loads_a_model(folders, tmp_path, monkeypatch, kind):
    config, message = REFUSED[kind]
    adapter = save_with_peft(tmp_path / "sft", folders[0], config)
    monkeypatch.setattr(stage_b, "load_base_model", lambda *args: pytest.fail("loaded"))
    with pytest.raises(InputError, match=message) as caught:
        stage_b.main(stage_b_arguments(adapter, tmp_path))
    assert "\n" not in str(caught.value)
    assert str(adapter) in str(caught.value)
    assert not (tmp_path / "dpo").exists()


# ------------------------------------------------------------------------------------------------ through the stages


def stage_b_arguments(adapter: Path, folder: Path, *extra: str):
    train, val = write_triplets(folder / "train.jsonl", 8), write_triplets(folder / "val.jsonl", 4, seed=1)
    return stage_b.parse_args(
        [
            *("--sft_model_path", str(adapter), "--output_dir", str(folder / "dpo"), "--device", "cpu"),
            *("--train_data_path", str(train), "--val_data_path", str(val), "--learning_rate", "1e-2"),
            *("--num_epochs", "1"),
            *extra,
        ]
    )


@pytest.mark.parametrize("tied", [False, True])
def test_an_adapter_of_the_embeddings_goes_through_both_stages(tmp_path, capsys, tied):
    base = build_tiny_model(tmp_path / "base")
    if tied:
        tie_embeddings(base)
    data = [str(write_phase1(tmp_path / f"{split}.csv", 8, seed)) for seed, split in enumerate(("train", "val"))]
    arguments = [
        *("--model_name", str(base), "--output_dir", str(tmp_path / "sft"), "--device", "cpu"),
        *("--train_data_path", data[0], "--val_data_path", data[1], "--num_epochs", "1", "--learning_rate", "1e-2"),
        *("--lora_target_modules", "q_proj", "embed_tokens"),
    ]
    assert stage_a.main(stage_a.parse_args(arguments)) == 0
    assert ("the model ties its embeddings" in capsys.readouterr().err) == tied
    sft = tmp_path / "sft" / "final_model"
    assert not [name for name in load_file(sft / "adapter_model.safetensors") if "lora_" not in name]
    for extra in (["--lora_r", "4"], ["--reference", "live", "--overwrite_output_dir"]):
        assert stage_b.main(stage_b_arguments(sft, tmp_path, *extra)) == 0
        policy = load_file(tmp_path / "dpo" / "checkpoint_epoch_1" / "trainable.safetensors")
        assert sum("embed_tokens" in name for name in policy) == 2
        # peft by itself, and our own loading, which unties what merging would change
        expected = logits(reloaded(tmp_path / "dpo" / "final_model"))
        loaded = load_for_inference(tmp_path / "dpo" / "final_model", device="cpu").model
        torch.testing.assert_close(logits(loaded), expected, atol=1e-5, rtol=0)
        loaded.merge_adapter()
        torch.testing.assert_close(logits(loaded), expected, atol=1e-4, rtol=0)
        assert (expected - logits(reloaded(sft))).abs().max() > 1e-3


def tie_embeddings(base: Path) -> None:
    """Give the model in `base` an output head that shares the weights of its input embeddings."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(base)


def test_stage_b_takes_a_moved_base_and_stores_its_new_place(tmp_path):
    old = build_tiny_model(tmp_path / "old_place")
    sft = save_with_peft(tmp_path / "sft", old, copy.deepcopy(PLAIN))
    new = old.rename(tmp_path / "new_place")
    with pytest.raises(InputError, match="old_place is not there; name the base's new folder with --base_model"):
        stage_b.main(stage_b_arguments(sft, tmp_path))
    assert stage_b.main(stage_b_arguments(sft, tmp_path, "--base_model", str(new))) == 0
    config = json.loads((tmp_path / "dpo" / "final_model" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(new)
