"""What can go wrong while a stage trains, and that a run survives it: values that are not finite, kills, overflows."""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from accelerate.state import AcceleratorState
from training_helpers import CPU, ROOT, metrics, stage_a_flags, train_stage_a, write_stage_a_inputs

import stage_a_sft_training as stage_a
from script_io.errors import InputError, RunError
from training.processes import end_process, make_accelerator
from training.run import TrainingState
from training.watching import NonFiniteGuard


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_stage_a_inputs(tmp_path_factory.mktemp("faults"), 8, 3)


def strict_json(path):
    """JSON in which NaN, which Python's reader would take, is an error."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{path}: {name}"))


def losses(output, kind):
    return [row["loss"] for row in metrics(output, kind)]


def test_a_validation_loss_that_is_not_a_number_is_said_and_stored_and_can_be_resumed(
    inputs, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        patch.setattr(stage_a, "evaluate", lambda run, dataset: {"loss": math.nan})
        output = train_stage_a(inputs, tmp_path / "run", "--early_stopping_patience", "5")
    told = capsys.readouterr()
    assert told.err.count("the validation loss is nan") == 2
    assert "Val Loss: nan" in told.out
    assert losses(output, "val") == [None, None]
    stats = strict_json(output / "training_stats.json")
    assert (stats["best_val_loss"], stats["epochs"][0]["val_loss"]) == (None, None)
    strict_json(output / "checkpoint_epoch_2" / "training_state.json")
    for name in ("checkpoint_epoch_2", "final_model"):
        shutil.rmtree(output / name)
    train_stage_a(inputs, output, "--early_stopping_patience", "5", "--resume")
    assert losses(output, "val")[0] is None
    assert losses(output, "val")[1] > 0


def test_a_run_that_stopped_early_takes_no_further_step_when_resumed(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(stage_a, "evaluate", lambda run, dataset: {"loss": math.nan})
    flags = ("--early_stopping_patience", "1")
    output = train_stage_a(inputs, tmp_path / "run", *flags)
    weights = (output / "final_model" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(output / "final_model")  # as if killed before it was saved
    train_stage_a(inputs, output, *flags, "--resume")
    assert len(losses(output, "train")) == 2  # one epoch
    assert (output / "final_model" / "adapter_model.safetensors").read_bytes() == weights


def test_a_loss_that_is_not_a_number_is_never_the_best():
    state = TrainingState()
    assert not state.record_val_loss(math.nan)
    assert state.record_val_loss(2.0)
    assert not state.record_val_loss(math.nan)
    assert (state.best_val_loss, state.evaluations_without_improvement) == (2.0, 1)


def test_an_epoch_of_which_every_step_is_skipped_ends_as_any_other(inputs, tmp_path, monkeypatch, capsys):
    summed_loss, calls = stage_a.summed_loss, iter(range(100))

    def nan_in_the_first_epoch(run, dataset, indices):
        loss = summed_loss(run, dataset, indices)
        return loss * math.nan if run.model.training and next(calls) < 2 else loss

    monkeypatch.setattr(stage_a, "summed_loss", nan_in_the_first_epoch)
    output = train_stage_a(inputs, tmp_path / "run")
    assert "Train Loss: nan" in capsys.readouterr().out
    first, second = strict_json(output / "training_stats.json")["epochs"]
    assert first["train_loss"] is None
    assert first["val_loss"] > second["val_loss"] > 0


def test_resuming_a_run_that_was_killed_before_its_first_checkpoint_starts_it_again(inputs, tmp_path, capsys):
    whole = train_stage_a(inputs, tmp_path / "whole")
    killed = shutil.copytree(whole, tmp_path / "killed")
    for path in killed.glob("checkpoint_*"):
        shutil.rmtree(path)
    with pytest.raises(InputError, match="holds a final model but no checkpoint"):
        train_stage_a(inputs, killed, "--resume")
    shutil.rmtree(killed / "final_model")
    capsys.readouterr()
    train_stage_a(inputs, killed, "--resume")
    assert "holds no checkpoint yet; starting from the beginning" in capsys.readouterr().out
    assert losses(killed, "train") == losses(whole, "train")  # the killed run's lines are gone


@pytest.mark.parametrize("limit", ["0", "1e-3"])
def test_a_max_grad_norm_of_0_turns_clipping_off(inputs, tmp_path, monkeypatch, limit):
    seen = []
    step = torch.optim.AdamW.step

    def noting(self, *args, **kwargs):
        gradients = [parameter.grad for group in self.param_groups for parameter in group["params"]]
        seen.append(torch.nn.utils.get_total_norm(gradients).item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    output = train_stage_a(inputs, tmp_path / "run", "--max_grad_norm", limit, "--num_epochs", "1")
    before = [row["grad_norm"] for row in metrics(output, "train")]
    assert min(before) > 0.01
    assert seen == pytest.approx(before if limit == "0" else [1e-3] * len(before), rel=1e-3)


# ---------------------------------------------------------------------------------------------- float16


def gradient_of_first_rows(inputs, output, dtype, divisor, *, scaled=True):
    """The gradient of Stage A's loss on four examples, as one vector, in float64."""
    args = stage_a.parse_args(
        stage_a_flags(inputs, output, "--dtype", dtype, "--lora_dropout", "0", "--max_grad_norm", "0")
    )
    run, dataset, _ = stage_a.prepare(args)
    if not scaled:
        run.grad_scaler = torch.amp.GradScaler("cpu", enabled=False)
    with torch.no_grad():  # B starts at 0, which leaves A without a gradient
        for name, parameter in run.policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    run.backward(stage_a.summed_loss(run, dataset, [0, 1, 2, 3]) / divisor)
    run.clip_gradients()
    gradients = [p.grad.flatten() for p in run.policy.parameters() if p.requires_grad]
    return torch.cat(gradients).double()


def test_float16_gradients_do_not_underflow(inputs, tmp_path):
    """A step of many tokens divides every term by their number, which float16 rounds to 0 without a scaled loss."""
    divisor = 5e6
    exact = gradient_of_first_rows(inputs, tmp_path / "32", "float32", divisor)
    scaled = gradient_of_first_rows(inputs, tmp_path / "16", "float16", divisor)
    unscaled = gradient_of_first_rows(inputs, tmp_path / "16u", "float16", divisor, scaled=False)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(exact, scaled, dim=0) > 0.99
    assert cosine(exact, unscaled, dim=0) < 0.9


def test_an_overflow_halves_the_scale_and_is_no_fault_of_the_examples(capsys):
    guard = NonFiniteGuard()
    for _ in range(5):
        assert not guard.is_finite(1.0, math.inf, ["r1"], loss_scale=65536.0)
    assert "overflowed at loss scale 65536" in capsys.readouterr().out
    for _ in range(2):
        assert not guard.is_finite(1.0, math.inf, ["r1"], loss_scale=1.0)
    with pytest.raises(RunError, match="3 steps in a row"):
        guard.is_finite(1.0, math.inf, ["r1"], loss_scale=1.0)


def test_the_loss_scale_is_restored_with_a_checkpoint(inputs, tmp_path):
    flags = ("--dtype", "float16", "--save_steps", "1", "--num_epochs", "1")
    output = tmp_path / "run"
    run, *data = stage_a.prepare(stage_a.parse_args(stage_a_flags(inputs, output, *flags)))
    run.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=50)
    stage_a.train_loop(run, *data, stage_a.StopRequest())
    scale = run.grad_scaler.get_scale()
    assert scale < 2.0**30  # the steps overflowed and were skipped, not blamed on the examples
    resumed, *_ = stage_a.prepare(stage_a.parse_args(stage_a_flags(inputs, output, *flags, "--resume")))
    assert resumed.grad_scaler.state_dict() == run.grad_scaler.state_dict()
    assert resumed.grad_scaler.get_scale() == scale


# ------------------------------------------------------------------------------------------ what is logged


def test_the_speed_of_a_step_does_not_include_the_evaluation_before_it(inputs, tmp_path, monkeypatch):
    clock = {"now": 0.0}
    summed_loss, evaluate = stage_a.summed_loss, stage_a.evaluate

    def a_second_a_row(run, dataset, indices):
        clock["now"] += 1.0
        return summed_loss(run, dataset, indices)

    def an_hour(run, dataset):
        clock["now"] += 3600.0
        return evaluate(run, dataset)

    monkeypatch.setattr(stage_a, "summed_loss", a_second_a_row)
    monkeypatch.setattr(stage_a, "evaluate", an_hour)
    monkeypatch.setattr("training.watching.time.perf_counter", lambda: clock["now"])
    output = train_stage_a(inputs, tmp_path / "run", "--eval_steps", "1", "--num_epochs", "1")
    stats = strict_json(output / "training_stats.json")
    speeds = [row["tokens_per_second"] for row in metrics(output, "train")]
    assert stats["seconds"] == 2.0  # two steps of one row each
    assert sum(speeds) == pytest.approx(stats["tokens"])


def test_trackers_get_training_and_validation_metrics(inputs, tmp_path, monkeypatch):
    prepare, logged = stage_a.prepare, []

    def with_tracker(args):
        run, *data = prepare(args)
        monkeypatch.setattr(run.accelerator, "log", lambda values, step: logged.append((step, set(values))))
        return run, *data

    monkeypatch.setattr(stage_a, "prepare", with_tracker)
    train_stage_a(inputs, tmp_path / "run", "--num_epochs", "1")
    assert (2, {"val/loss"}) in logged
    assert any("train/grad_norm" in names for _, names in logged)


# ------------------------------------------------------------------------------------- several processes


def test_the_configuration_of_accelerate_does_not_change_the_precision(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as `accelerate launch` sets it
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    args = argparse.Namespace(report_to="none", output_dir=str(tmp_path), shard_base=False)
    assert make_accelerator(args, CPU).mixed_precision == "no"


PROGRAM = """
import atexit, os, sys
sys.path.insert(0, {root!r})
import torch.distributed
from training.processes import end_process
torch.distributed.init_process_group("gloo")
atexit.register(lambda: print("torn down", flush=True))
torch.distributed.all_reduce(torch.ones(1))
print("done", flush=True)
raise SystemExit(end_process(0))
"""


def in_two_processes(text, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(text.format(root=str(ROOT)))
    return subprocess.run(
        [*(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"), str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_several_processes_end_without_tearing_down_the_group(tmp_path):
    """The group's destructor may wait for ever for a thread that waits for the interpreter's lock."""
    launched = in_two_processes(PROGRAM, tmp_path)
    assert launched.returncode == 0, launched.stderr[-2000:]
    assert launched.stdout.count("done") == 2
    assert "torn down" not in launched.stdout


LOSING = """
import argparse, os, signal, sys
sys.path.insert(0, {root!r})
import torch.distributed
from script_io.errors import run_script
from training.failures import explained_failures
from training.processes import end_process

def main(args):
    with explained_failures(args):
        torch.distributed.init_process_group("gloo")
        torch.distributed.all_reduce(torch.ones(1))
        if torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        torch.distributed.all_reduce(torch.ones(1))
    return 0

raise SystemExit(end_process(run_script(main, argparse.Namespace())))
"""


# 6 s. Two processes under torchrun, since the other end of a lost connection cannot be made up.
def test_a_process_whose_peer_dies_ends_with_a_message(tmp_path):
    launched = in_two_processes(LOSING, tmp_path)
    assert launched.returncode == 1
    assert "error: another process of this run has ended" in launched.stderr
    assert "continue with the same command and --resume" in launched.stderr


def test_one_process_ends_as_any_script():
    assert end_process(3) == 3
