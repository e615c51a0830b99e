"""Write checkpoints, find the newest one, and continue from it.

A checkpoint folder holds the policy as users load it, and what a resumed run needs: the trained tensors, the state of
the optimiser, and in `training_state.json`, written last, the position and the loss scale.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from script_io.files import read_json, write_json
from training.metrics_log import truncate_metrics
from training.run import TrainingRun, TrainingState

if TYPE_CHECKING:
    import torch

STATE_FILE, TRAINABLE_FILE, OPTIMIZER_FILE = "training_state.json", "trainable.safetensors", "optimizer.safetensors"


def checkpoint_name(run: TrainingRun) -> str:
    """Return the name of a checkpoint of the current step."""
    epoch, steps = divmod(run.state.step, run.plan.steps_per_epoch)
    return f"checkpoint_step_{run.state.step}" if steps else f"checkpoint_epoch_{epoch}"


def save_checkpoint(run: TrainingRun) -> None:
    """Write a checkpoint of the current step, on the main process; the others wait."""
    from safetensors.torch import save_file

    if run.accelerator.is_main_process:
        folder = run.folder / checkpoint_name(run)
        run.save_model(folder)
        save_file(_trainable_tensors(run.policy), folder / TRAINABLE_FILE)
        save_file(_optimizer_tensors(run.optimizer), folder / OPTIMIZER_FILE)
        write_json(folder / STATE_FILE, {**asdict(run.state), "grad_scaler": run.grad_scaler.state_dict()})
        print(f"Saved checkpoint to {folder}")
    run.accelerator.wait_for_everyone()


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint with the highest step, or None."""
    found = [path.parent for path in folder.glob(f"checkpoint_*/{STATE_FILE}")]
    return max(found, key=lambda path: read_json(path / STATE_FILE)["step"], default=None)


def resume_from(run: TrainingRun, checkpoint: Path) -> None:
    """Restore weights, optimiser, loss scale and position; delete the logged steps that will be run again."""
    from safetensors.torch import load_file

    load_trainable(run.policy, checkpoint)
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(checkpoint / OPTIMIZER_FILE).items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = tensor
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    state = read_json(checkpoint / STATE_FILE)
    if loss_scale := state.pop("grad_scaler", None):  # empty unless in float16; older checkpoints have none
        run.grad_scaler.load_state_dict(loss_scale)
    run.state = TrainingState(**state)
    if run.accelerator.is_main_process:
        truncate_metrics(run.folder, run.state.step)
    print(f"Resumed from {checkpoint} at step {run.state.step}")


def load_trainable(policy: torch.nn.Module, checkpoint: Path) -> None:
    """Load the trained tensors of a checkpoint into the policy that they were saved from."""
    from safetensors.torch import load_file

    unexpected = policy.load_state_dict(load_file(checkpoint / TRAINABLE_FILE), strict=False).unexpected_keys
    assert not unexpected, unexpected


def restore_best(run: TrainingRun) -> None:
    """Under early stopping, load the weights with the best validation loss."""
    if run.args.early_stopping_patience and run.state.best_checkpoint:
        load_trainable(run.policy, run.folder / run.state.best_checkpoint)
        print(f"Best validation loss {run.state.best_val_loss:.4f}: weights of {run.state.best_checkpoint}")


def _trainable_tensors(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in policy.named_parameters() if p.requires_grad}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }
