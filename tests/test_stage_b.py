"""Stage B end to end on tiny models: its files, its numbers, its resumption."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from tiny_models import build_tiny_model
from training_helpers import ROOT, random_adapter, tiny_base_and_adapter, write_triplets

import memory_estimate
import stage_b_dpo_training as stage_b
from dpo_dataset import DPODataset
from model_loading import load_tokenizer
from script_io import InputError, RunError
from training_plan import CPU_ROW_TOKENS, BatchPlan


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage_b")
    tiny_base_and_adapter(folder)
    write_triplets(folder / "train.jsonl", 10)
    write_triplets(folder / "val.jsonl", 5, seed=1)
    return folder


def arguments(inputs, output, *extra):
    return stage_b.parse_args(
        [
            *("--sft_model_path", str(inputs / "sft")),
            *("--train_data_path", str(inputs / "train.jsonl"), "--val_data_path", str(inputs / "val.jsonl")),
            *("--output_dir", str(output), "--device", "cpu", "--learning_rate", "1e-3", "--batch_size", "4"),
            *("--logging_steps", "1"),
            *extra,
        ]
    )


def train(inputs, output, *extra):
    assert stage_b.main(arguments(inputs, output, *extra)) == 0
    return output


def metrics(output, kind):
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def weights(output):
    return load_file(output / "final_model" / "adapter_model.safetensors")


def assert_same_weights(first, second, tolerance):
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=tolerance, rtol=0, msg=name)


def test_a_run_leaves_what_the_contract_names(inputs, tmp_path, capsys):
    output = train(inputs, tmp_path / "run")
    printed = capsys.readouterr().out
    for line in (
        "Loaded 10 DPO triplets from",
        "Train batches: 3",
        "Val batches: 2",
        "Reference model: ",
        " params (frozen)",
        " params with LoRA (trainable)",
        "Epoch 1/2",
        "  Train Loss: ",
        "  Val Loss: ",
        "  Chosen Preference: ",
        "  Learning Rate: ",
        "Saved checkpoint to",
        "DPO Training completed!",
        "Saved final model to",
    ):
        assert line in printed, line
    names = {path.name for path in output.iterdir()}
    assert {"final_model", "checkpoint_epoch_1", "checkpoint_epoch_2", "metrics.jsonl"} <= names
    assert {"training_curves.png", "dpo_training_stats.json", "reference_logps"} <= names
    model = {path.name for path in (output / "final_model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "dpo_config.json"} <= model
    first = metrics(output, "train")[0]
    assert first["step"] == 1
    for name in (*stage_b.METRICS, "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_bytes"):
        assert isinstance(first[name], float | int), name
    assert [row["step"] for row in metrics(output, "val")] == [0, 3, 6]


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge", "robust"])
@pytest.mark.parametrize("reference", ["cached", "live"])
def test_step_0_shows_the_zero_margin(inputs, tmp_path, loss_type, reference):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1", "--loss_type", loss_type, "--reference", reference)
    first = metrics(output, "train")[0]
    expected = {"sigmoid": 0.6931472, "robust": 0.6931472, "hinge": 1.0, "ipo": 25.0}[loss_type]
    assert first["loss"] == pytest.approx(expected, abs=1e-5 * max(1, expected))
    assert first["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert first["rewards/rejected"] == pytest.approx(0, abs=1e-5)


def test_a_reference_that_is_not_the_start_stops_the_run(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    for path in (output / "reference_logps").iterdir():
        from safetensors import safe_open
        from safetensors.torch import save_file

        with safe_open(path, framework="pt") as file:
            key, tensors = file.metadata(), {name: file.get_tensor(name) + 0.1 for name in ("chosen", "rejected")}
        save_file(tensors, path, metadata=key)
    with pytest.raises(RunError, match="differ before training"):
        stage_b.main(arguments(inputs, output, "--num_epochs", "1", "--overwrite_output_dir"))


def test_cached_and_live_references_train_the_same(inputs, tmp_path):
    cached = train(inputs, tmp_path / "cached")
    live = train(inputs, tmp_path / "live", "--reference", "live")
    assert_same_weights(cached, live, 1e-5)
    before = load_file(inputs / "sft" / "adapter_model.safetensors")
    moved = max((tensor - before[name]).abs().max().item() for name, tensor in weights(cached).items())
    assert moved > 1e-3


def test_the_cache_is_reused_and_replaced_when_the_data_change(inputs, tmp_path, capsys):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    train(inputs, output, "--num_epochs", "1", "--overwrite_output_dir")
    assert capsys.readouterr().out.count("Reference log-probabilities read from") == 2
    other = tmp_path / "other"
    shutil.copytree(inputs, other)
    write_triplets(other / "train.jsonl", 10, seed=9)
    train(other, output, "--num_epochs", "1", "--overwrite_output_dir")
    printed = capsys.readouterr().out
    assert "Reference log-probabilities saved to" in printed


def test_accumulation_changes_no_gradient(inputs, tmp_path):
    whole = train(inputs, tmp_path / "1x4", "--num_epochs", "1", "--nll_weight", "1")
    parts = train(
        inputs, tmp_path / "4x1", "--num_epochs", "1", "--nll_weight", "1",
        "--batch_size", "1", "--gradient_accumulation_steps", "4",
    )  # fmt: skip
    for one, other in zip(metrics(whole, "train"), metrics(parts, "train"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


def test_two_processes_train_as_one_does(inputs, tmp_path):
    """With texts so long that two of them may not fit into one row: the processes have rows in different numbers."""
    inputs = shutil.copytree(inputs, tmp_path / "inputs")
    write_triplets(inputs / "train.jsonl", 10, seed=2, most_denials=50)
    dataset = DPODataset(inputs / "train.jsonl", load_tokenizer(inputs / "base"))
    plans = [BatchPlan(10, 2, 1, 2, 42, rank, world=2, row_tokens=CPU_ROW_TOKENS) for rank in range(2)]
    numbers = [[len(plan.rows(step, dataset.tokens)) for step in range(plan.total_steps)] for plan in plans]
    assert numbers[0] != numbers[1]
    one = train(inputs, tmp_path / "one")
    options = vars(arguments(inputs, tmp_path / "two", "--batch_size", "2"))
    names = (
        "sft_model_path",
        "train_data_path",
        "val_data_path",
        "output_dir",
        "device",
        "learning_rate",
        "batch_size",
    )
    flags = [word for name in names for word in (f"--{name}", str(options[name]))]
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"),
            *(str(ROOT / "stage_b_dpo_training.py"), *flags),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-2000:]
    assert launched.stdout.count("DPO Training completed!") == 1
    two = tmp_path / "two"
    for kind in ("train", "val"):
        pairs = list(zip(metrics(one, kind), metrics(two, kind), strict=True))
        assert [second["loss"] for _, second in pairs] == pytest.approx([first["loss"] for first, _ in pairs], abs=1e-5)
    assert_same_weights(one, two, 1e-4)


def test_checkpointing_changes_no_gradient(inputs, tmp_path):
    plain = train(inputs, tmp_path / "plain")
    checkpointed = train(inputs, tmp_path / "checkpointed", "--gradient_checkpointing")
    assert_same_weights(plain, checkpointed, 1e-6)


def test_a_resumed_run_is_the_uninterrupted_one(inputs, tmp_path):
    whole = train(inputs, tmp_path / "whole", "--save_steps", "2")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    for name in ("final_model", "checkpoint_epoch_1", "checkpoint_epoch_2", "checkpoint_step_4"):
        shutil.rmtree(cut / name)
    config = json.loads((cut / "run_config.json").read_text())
    config["arguments"]["output_dir"] = str(cut)
    (cut / "run_config.json").write_text(json.dumps(config))
    train(inputs, cut, "--save_steps", "2", "--resume")
    assert_same_weights(whole, cut, 1e-6)
    for kind in ("train", "val"):
        steps = [row["step"] for row in metrics(cut, kind)]
        assert steps == [row["step"] for row in metrics(whole, kind)]
    whole_loss = [row["loss"] for row in metrics(whole, "train")]
    assert [row["loss"] for row in metrics(cut, "train")] == pytest.approx(whole_loss, abs=1e-6)


def test_resuming_under_other_settings_is_refused(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    with pytest.raises(InputError, match="--beta"):
        stage_b.main(arguments(inputs, output, "--num_epochs", "1", "--beta", "0.5", "--resume"))


@pytest.mark.parametrize("bits", ["--use_8bit", "--use_4bit"])
def test_quantised_bases_train_with_gradients_on_every_tensor(inputs, tmp_path, bits):
    # two epochs, with an evaluation between them: 4-bit weights on a CPU lose their gradients after inference unless
    # told not to, and the script itself checks every tensor after the first backward pass of each epoch
    output = train(inputs, tmp_path / "run", bits)
    before = load_file(inputs / "sft" / "adapter_model.safetensors")
    after = weights(output)
    assert all((tensor - before[name]).abs().max() > 1e-6 for name, tensor in after.items())


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
def test_other_architectures(tmp_path, architecture):
    base = build_tiny_model(tmp_path / "base", architecture)
    random_adapter(tmp_path / "sft", base)
    write_triplets(tmp_path / "train.jsonl", 6)
    write_triplets(tmp_path / "val.jsonl", 3, seed=1)
    output = train(tmp_path, tmp_path / "run", "--num_epochs", "1")
    assert metrics(output, "train")[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)


def test_a_fresh_adapter_is_saved_as_one_that_peft_loads_and_merges(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--lora_r", "3")
    model = AutoPeftModelForCausalLM.from_pretrained(output / "final_model").eval()
    ids = torch.arange(3, 30).view(1, -1)
    with torch.no_grad():
        adapted = model(input_ids=ids).logits
        merged = model.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=0)
    assert json.loads((output / "final_model" / "adapter_config.json").read_text())["r"] == 4 + 3


def test_preference_rises_and_loss_falls(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--num_epochs", "4", "--learning_rate", "5e-3")
    before, *_, after = metrics(output, "val")
    assert after["loss"] < before["loss"] - 0.1
    assert after["rewards/margins"] > 0.3 > before["rewards/margins"]
    assert after["chosen_preference"] >= before["chosen_preference"]


def test_the_control_needs_an_nll_term(inputs, tmp_path):
    with pytest.raises(InputError, match="nor both 0"):
        stage_b.main(arguments(inputs, tmp_path / "run", "--preference_weight", "0"))


def test_the_memory_that_a_run_needs_is_checked_before_the_weights_are_loaded(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("memory_estimate.available_bytes", lambda device: 10_000)
    monkeypatch.setattr(stage_b, "load_base_model", lambda *args: pytest.fail("loaded"))
    with pytest.raises(InputError, match="GiB are free"):
        stage_b.main(arguments(inputs, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_judges_of_the_pairs_are_recorded_with_the_model(inputs, tmp_path):
    triplets = [json.loads(line) for line in (inputs / "train.jsonl").read_text().splitlines()]
    judged = tmp_path / "judged.jsonl"
    judged.write_text("".join(json.dumps(row | {"judge": "nli:x"}) + "\n" for row in triplets))
    shutil.copytree(inputs / "sft", tmp_path / "sft")
    (tmp_path / "sft" / "sft_config.json").write_text("{}")
    flags = ("--train_data_path", str(judged), "--sft_model_path", str(tmp_path / "sft"), "--num_epochs", "1")
    output = train(inputs, tmp_path / "run", *flags)
    assert json.loads((output / "final_model" / "dpo_config.json").read_text())["pair_judges"] == ["nli:x"]


def test_a_run_that_turned_checkpointing_on_by_itself_can_be_resumed(inputs, tmp_path, monkeypatch):
    fit_memory = memory_estimate.fit_memory

    def needs_checkpointing(args, *others):
        args.gradient_checkpointing = True
        return fit_memory(args, *others)

    monkeypatch.setattr(memory_estimate, "fit_memory", needs_checkpointing)
    output = train(inputs, tmp_path / "run", "--num_epochs", "1", "--save_steps", "2")
    for name in ("final_model", "checkpoint_epoch_1"):
        shutil.rmtree(output / name)
    train(inputs, output, "--num_epochs", "1", "--save_steps", "2", "--resume")
    assert (output / "final_model").is_dir()
    stored = json.loads((output / "run_config.json").read_text())["arguments"]
    assert (stored["dtype"], stored["gradient_checkpointing"]) == ("float32", True)


def test_attention_dropout_is_off_in_stage_b(tmp_path):
    base, _ = tiny_base_and_adapter(tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    write_triplets(tmp_path / "train.jsonl", 4)
    write_triplets(tmp_path / "val.jsonl", 3, seed=1)
    output = train(tmp_path, tmp_path / "run", "--num_epochs", "1")
    assert metrics(output, "train")[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
