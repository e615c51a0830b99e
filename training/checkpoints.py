"""Write and restore checkpoints."""

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


def save_checkpoint(run: TrainingRun, name: str) -> None:
    """Writes `checkpoint_*`: the model as people load it, and what a resumed run needs; the position comes last."""
    from safetensors.torch import save_file

    folder = run.folder / name
    if run.accelerator.is_main_process:
        run.save_model(folder)
        save_file(_trainable_tensors(run.policy), folder / TRAINABLE_FILE)
        save_file(_optimizer_tensors(run.optimizer), folder / OPTIMIZER_FILE)
        write_json(folder / STATE_FILE, asdict(run.state))
        print(f"Saved checkpoint to {folder}")
    run.accelerator.wait_for_everyone()


def latest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the highest step."""
    found = [path.parent for path in folder.glob(f"checkpoint_*/{STATE_FILE}")]
    return max(found, key=lambda path: read_json(path / STATE_FILE)["step"], default=None)


def resume_from(run: TrainingRun, checkpoint: Path) -> None:
    """Restores weights, optimiser and position, and drops the logged steps that will be run again."""
    from safetensors.torch import load_file

    load_trainable(run.policy, checkpoint)
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(checkpoint / OPTIMIZER_FILE).items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = tensor
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    run.state = TrainingState(**read_json(checkpoint / STATE_FILE))
    if run.accelerator.is_main_process:
        truncate_metrics(run.folder, run.state.step)
    print(f"Resumed from {checkpoint} at step {run.state.step}")


def load_trainable(policy: torch.nn.Module, checkpoint: Path) -> None:
    """Puts a checkpoint's trained tensors back into the model that they came from."""
    from safetensors.torch import load_file

    missing = policy.load_state_dict(load_file(checkpoint / TRAINABLE_FILE), strict=False).unexpected_keys
    assert not missing, missing


def _trainable_tensors(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in policy.named_parameters() if p.requires_grad}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def keep_best(run: TrainingRun) -> None:
    """Under early stopping, puts the weights with the best validation loss back."""
    if run.args.early_stopping_patience and run.state.best_checkpoint:
        load_trainable(run.policy, run.folder / run.state.best_checkpoint)
        print(f"Best validation loss {run.state.best_val_loss:.4f}: weights of {run.state.best_checkpoint}")
