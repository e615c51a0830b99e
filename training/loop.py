"""The steps that the loops of both stages share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_io.errors import InputError
from script_io.files import write_json
from script_io.provenance import provenance
from training.checkpoints import keep_best, save_checkpoint
from training.curves import plot_curves
from training.metrics_log import log_metrics
from training.run import TrainingRun, TrainingState
from training.watching import StopRequest, peak_memory_bytes

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from language_model.placement import Placement
    from scoring.completion_scorer import CompletionScorer


def after_step(run: TrainingRun, evaluate: Callable[[], dict[str, float]], stop: StopRequest) -> bool:
    """Evaluates and saves where the settings ask for it; True where the run shall end early.

    `evaluate` returns the validation metrics, `loss` among them.
    """
    args, state, plan = run.args, run.state, run.plan
    stop.settle(run)
    epoch_ends = state.step % plan.steps_per_epoch == 0
    stopping = False
    checkpoint = (
        f"checkpoint_epoch_{state.step // plan.steps_per_epoch}" if epoch_ends else f"checkpoint_step_{state.step}"
    )
    save_due = epoch_ends or bool(stop) or (args.save_steps > 0 and state.step % args.save_steps == 0)
    if epoch_ends or (args.eval_steps > 0 and state.step % args.eval_steps == 0):
        values = evaluate()
        better = is_better(state, values["loss"])
        if better and args.early_stopping_patience:
            state.best_checkpoint, save_due = checkpoint, True
        stopping = 0 < args.early_stopping_patience <= state.evaluations_without_improvement
        if run.accelerator.is_main_process:
            log_metrics(run.folder, "val", state.step, state.step / plan.steps_per_epoch, values)
        if epoch_ends:
            _close_epoch(run, values)
    if save_due:
        save_checkpoint(run, checkpoint)
    return stopping


def _close_epoch(run: TrainingRun, val: Mapping[str, float]) -> None:
    """Prints the epoch's block and notes its means."""
    state = run.state
    train = state.close_epoch()
    epoch = state.step // run.plan.steps_per_epoch
    learning_rate = run.optimizer.param_groups[0]["lr"]
    print(f"Epoch {epoch}/{run.plan.num_epochs} done")
    print(f"  Train Loss: {train['loss']:.4f}")
    print(f"  Val Loss: {val['loss']:.4f}")
    if "chosen_preference" in val:
        print(f"  Chosen Preference: {val['chosen_preference']:.0%}")
    print(f"  Learning Rate: {learning_rate:.2e}")
    prefixed = {
        f"{split}_{name}": value for split, row in (("train", train), ("val", val)) for name, value in row.items()
    }
    state.epochs.append({"epoch": epoch, "step": state.step, "learning_rate": learning_rate, **prefixed})


def is_better(state: TrainingState, val_loss: float) -> bool:
    """Notes an evaluation in `state`; True where it is the best so far."""
    if state.best_val_loss is None or val_loss < state.best_val_loss:
        state.best_val_loss, state.evaluations_without_improvement = val_loss, 0
        return True
    state.evaluations_without_improvement += 1
    return False


def make_accelerator(args: argparse.Namespace, placement: Placement) -> Accelerator:
    """accelerate's view of the devices and processes; a launcher's processes are found by themselves."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    tracker = None if args.report_to == "none" else args.report_to
    if tracker and find_spec(tracker) is None:
        raise InputError(f"--report_to {tracker} needs a package that is not installed; run: pip install {tracker}")
    accelerator = Accelerator(
        cpu=placement.device.type == "cpu",
        log_with=tracker,
        project_dir=args.output_dir,
        # no buffer changes, and a forward pass must wait for nobody: the processes have rows in different numbers
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if not accelerator.is_main_process:  # one process speaks for all; errors still come through
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    accelerator.wait_for_everyone()  # all have looked into the folder before one writes there
    if tracker:
        accelerator.init_trackers(Path(args.output_dir).name, config={k: str(v) for k, v in vars(args).items()})
    return accelerator


def make_optimizer(
    scorer: CompletionScorer, args: argparse.Namespace, accelerator: Accelerator
) -> tuple[torch.nn.Module, CompletionScorer, torch.optim.Optimizer]:
    """The scorer as accelerate prepared it, the scorer itself, and AdamW over its trainable tensors."""
    import torch

    trainable = [p for p in scorer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.learning_rate, weight_decay=args.weight_decay)
    # One process has nothing to wrap, and the model is on its device already.
    model = accelerator.prepare(scorer) if accelerator.num_processes > 1 else scorer
    model.train()
    return model, scorer, optimizer


def row_of_step(run: TrainingRun, *, is_last: bool) -> AbstractContextManager[Any]:
    """For the forward and backward pass of one row: processes exchange their gradients with the last row alone.

    DistributedDataParallel settles in the forward pass whether the backward one will wait for the other processes, and
    they may have more rows or fewer.
    """
    return nullcontext() if is_last else run.accelerator.no_sync(run.model)


def backward(run: TrainingRun, loss: torch.Tensor) -> None:
    """Adds the gradient of this process's share of the step's loss."""
    # gradients are averaged over the processes, and the loss is already divided by what all of them see
    run.accelerator.backward(loss * run.plan.world)


def clip_gradients(run: TrainingRun) -> float:
    """Clips to `--max_grad_norm` and returns the norm before."""
    norm: float = run.accelerator.clip_grad_norm_(
        [p for p in run.policy.parameters() if p.requires_grad], run.args.max_grad_norm
    ).item()
    return norm


def warn_if_same_file(train_path: str, val_path: str) -> None:
    if Path(train_path).read_bytes() == Path(val_path).read_bytes():
        print("warning: the validation file equals the training file; its figures say nothing new", file=sys.stderr)


def finish(
    run: TrainingRun,
    data: Mapping[str, Any],
    stats_name: str,
    config_name: str,
    panels: Mapping[str, Sequence[tuple[str, str]]],
    **facts: Any,
) -> None:
    """Saves the final model with its settings, the statistics and the plot, and says where they are.

    `facts` are kept with the settings.
    """
    keep_best(run)
    run.accelerator.end_training()
    if not run.accelerator.is_main_process:
        return
    run.save_model(run.final_model)
    settings = {"arguments": vars(run.args), **provenance(), **facts}
    write_json(run.final_model / config_name, settings)
    print(f"Saved final model to {run.final_model}")
    state = run.state
    write_json(
        run.folder / stats_name,
        {
            "steps": state.step,
            "seconds": round(state.seconds, 3),
            "tokens": state.tokens,
            "tokens_per_second": round(state.tokens / state.seconds, 1) if state.seconds else None,
            "peak_memory_bytes": peak_memory_bytes(run.device),
            "best_val_loss": state.best_val_loss,
            "epochs": state.epochs,
            "data": data,
            **settings,
        },
    )
    plot_curves(run.folder, panels)
    print(f"Statistics: {run.folder / stats_name}; curves: {run.folder / 'training_curves.png'}")
