"""Stage A end to end on tiny models."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from training_helpers import ROOT, metrics, stage_a_flags, train_stage_a, write_stage_a_inputs

import stage_a_sft_training as stage_a
from script_io.errors import InputError, RunError
from training.watching import NonFiniteGuard, check_gradients


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_stage_a_inputs(tmp_path_factory.mktemp("stage_a"), 10, 5)


def weights(output):
    return load_file(output / "final_model" / "adapter_model.safetensors")


def test_a_run_leaves_what_the_contract_names(inputs, tmp_path, capsys):
    output = train_stage_a(inputs, tmp_path / "run")
    printed = capsys.readouterr().out
    for line in (
        "Loaded 10 examples from",
        "Filtered to 10 factual examples",
        "Applied LoRA with r=16, alpha=32",
        "Train batches: 3",
        "Val batches: 2",
        "Epoch 2/2",
        "  Train Loss: ",
        "  Val Loss: ",
        "  Learning Rate: ",
        "Saved checkpoint to",
        "Training completed!",
        "Saved final model to",
    ):
        assert line in printed, line
    names = {path.name for path in output.iterdir()}
    assert {"final_model", "checkpoint_epoch_1", "checkpoint_epoch_2", "training_stats.json"} <= names
    assert {"metrics.jsonl", "training_curves.png"} <= names
    model = {path.name for path in (output / "final_model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "sft_config.json"} <= model
    assert "generation_config.json" in model
    card = (output / "final_model" / "README.md").read_text()
    assert "| Examples, train | 10 |" in card
    assert "chest pain" not in card
    losses = [row["loss"] for row in metrics(output, "val")]
    assert losses[-1] < losses[0]
    assert (output / "training_curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_saved_adapter_loads_by_itself_and_merges(inputs, tmp_path):
    output = train_stage_a(inputs, tmp_path / "run", "--num_epochs", "1")
    model = AutoPeftModelForCausalLM.from_pretrained(output / "final_model").eval()
    ids = torch.arange(3, 30).view(1, -1)
    with torch.no_grad():
        adapted = model(input_ids=ids).logits
        merged = model.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=0)


def test_accumulation_changes_no_gradient(inputs, tmp_path):
    # the loss is a mean over the tokens of the whole step, though the batches hold different numbers of them
    options = ("--num_epochs", "1", "--lora_dropout", "0")
    whole = train_stage_a(inputs, tmp_path / "1x4", *options)
    parts = train_stage_a(inputs, tmp_path / "4x1", *options, "--batch_size", "1", "--gradient_accumulation_steps", "4")
    for one, other in zip(metrics(whole, "train"), metrics(parts, "train"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


def test_checkpointing_changes_no_gradient(inputs, tmp_path):
    plain = weights(train_stage_a(inputs, tmp_path / "plain", "--lora_dropout", "0"))
    less_memory = weights(train_stage_a(inputs, tmp_path / "less", "--lora_dropout", "0", "--gradient_checkpointing"))
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, less_memory[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("bits", ["--use_8bit", "--use_4bit"])
def test_quantised_bases_train(inputs, tmp_path, bits):
    output = train_stage_a(inputs, tmp_path / "run", bits)
    moved = [tensor.abs().max().item() for name, tensor in weights(output).items() if "lora_B" in name]
    assert len(moved) == 8
    assert min(moved) > 0


def test_early_stopping_keeps_the_best_model(inputs, tmp_path):
    output = train_stage_a(inputs, tmp_path / "run", "--early_stopping_patience", "1", "--num_epochs", "40")
    stats = json.loads((output / "training_stats.json").read_text())
    assert stats["steps"] < 40 * 3
    losses = [row["loss"] for row in metrics(output, "val")]
    assert stats["best_val_loss"] == min(losses)
    best = losses.index(min(losses)) + 1
    kept = load_file(output / f"checkpoint_epoch_{best}" / "adapter_model.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(output).items())


# 17 s. Proves that a run stopped by SIGTERM and resumed ends with the weights of an uninterrupted one.
def test_sigterm_saves_a_checkpoint_and_resuming_ends_where_an_uninterrupted_run_does(inputs, tmp_path):
    options = ("--num_epochs", "60", "--batch_size", "1", "--logging_steps", "1")
    whole = train_stage_a(inputs, tmp_path / "whole", *options)
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "stage_a_sft_training.py"), *stage_a_flags(inputs, cut, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    while "step  20/600" not in (line := process.stdout.readline()):
        assert line, "the run ended before step 20"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    process.stdout.close()
    train_stage_a(inputs, cut, *options, "--resume")
    other = weights(cut)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=0)


def test_a_used_folder_is_refused_and_foreign_files_survive_overwriting(inputs, tmp_path):
    output = train_stage_a(inputs, tmp_path / "run", "--num_epochs", "1")
    (output / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds an earlier run"):
        stage_a.main(stage_a.parse_args(stage_a_flags(inputs, output)))
    train_stage_a(inputs, output, "--num_epochs", "1", "--overwrite_output_dir")
    assert (output / "notes.txt").read_text() == "mine"


def test_unknown_lora_modules_are_named_with_what_there_is(inputs, tmp_path):
    with pytest.raises(InputError, match=r"Wqkv.*q_proj"):
        stage_a.main(stage_a.parse_args(stage_a_flags(inputs, tmp_path / "run", "--lora_target_modules", "Wqkv")))


def test_three_non_finite_steps_in_a_row_stop_the_run(capsys):
    guard = NonFiniteGuard()
    assert not guard.is_finite(float("nan"), 1.0, ["r1", "r2"])
    assert "ids: r1, r2" in capsys.readouterr().err
    assert guard.is_finite(1.0, 1.0, ["r3"])
    assert not guard.is_finite(1.0, float("inf"), ["r4"])
    assert not guard.is_finite(float("inf"), 1.0, ["r5"])
    with pytest.raises(RunError, match="3 steps in a row"):
        guard.is_finite(float("nan"), 1.0, ["r6"])


def test_gradients_that_are_missing_zero_or_wild_stop_the_run():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    with pytest.raises(RunError, match=r"2 of 2 trainable tensors, first 0\.weight"):
        check_gradients(model)
    for layer in model:
        layer.weight.grad = torch.zeros(2, 2)
    with pytest.raises(RunError, match="every gradient is zero"):
        check_gradients(model)
    check_gradients(model, may_be_zero=True)
    model[1].weight.grad[0, 0] = 1.0
    check_gradients(model)
    model[1].weight.grad[0, 0] = float("nan")
    with pytest.raises(RunError, match=r"first 1\.weight"):
        check_gradients(model)
