"""Write checkpoints, find the newest one, and continue from it.

A checkpoint folder holds the policy as users load it, and what a resumed run needs: the trained tensors, the state of
the optimiser, and in `training_state.json` the position in the data, the counters, the loss scale, the keys of the
reference cache and the configuration. The random state of a step follows from `--seed` and the step alone
(`TrainingRun.seed_dropout`, `batch_plan.epoch_order`), so the seed and the position say all there is to know of it.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_io.durable import flush_to_disk, save_tensors
from script_io.errors import InputError, RunError
from script_io.files import read_json, write_json
from training.checkpoint_folder import damage, delete_folder, delete_leftovers, new_checkpoint, newest_sound
from training.metrics_log import METRICS_FILE, truncate_metrics
from training.run import TrainingRun, TrainingState, stored_arguments

if TYPE_CHECKING:
    import torch

STATE_FILE, TRAINABLE_FILE, OPTIMIZER_FILE = "training_state.json", "trainable.safetensors", "optimizer.safetensors"
_NAME = re.compile(r"checkpoint_(epoch|step)_[0-9]+")


def checkpoint_name(run: TrainingRun) -> str:
    """Return the name of a checkpoint of the current step."""
    epoch, steps = divmod(run.state.step, run.plan.steps_per_epoch)
    return f"checkpoint_step_{run.state.step}" if steps else f"checkpoint_epoch_{epoch}"


def save_checkpoint(run: TrainingRun) -> None:
    """Write a checkpoint of the current step, on the main process, and delete old ones; the others wait."""
    if run.accelerator.is_main_process:
        folder = run.folder / checkpoint_name(run)
        flush_to_disk(run.folder / METRICS_FILE)  # the checkpoint counts on the lines up to its step
        with new_checkpoint(folder) as temporary:
            run.save_model(temporary)
            save_tensors(_trainable_tensors(run.policy), temporary / TRAINABLE_FILE)
            save_tensors(_optimizer_tensors(run.optimizer), temporary / OPTIMIZER_FILE)
            write_json(temporary / STATE_FILE, _state_of(run))
        print(f"Saved checkpoint to {folder}")
        _delete_old_checkpoints(run)
    run.accelerator.wait_for_everyone()


def _state_of(run: TrainingRun) -> dict[str, Any]:
    """Return the content of `training_state.json`."""
    epoch, position = divmod(run.state.step, run.plan.steps_per_epoch)
    return {
        **asdict(run.state),
        "grad_scaler": run.grad_scaler.state_dict(),
        "sampler": {"seed": run.args.seed, "epoch": epoch, "step_in_epoch": position},
        "reference_keys": run.reference_keys,
        "arguments": stored_arguments(run.args),
    }


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is a folder with the name of a checkpoint; any other may be a user's own."""
    return path.is_dir() and _NAME.fullmatch(path.name) is not None


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, complete or not, from the highest step to the lowest."""
    return sorted(filter(is_checkpoint, folder.glob("checkpoint_*")), key=_order, reverse=True)


def _order(checkpoint: Path) -> tuple[float, float]:
    """Return (step, time of the last change). The step is read from the state, else it counts as infinite."""
    try:
        step = float(read_json(checkpoint / STATE_FILE)["step"])
    except (InputError, KeyError, TypeError, ValueError):
        step = math.inf  # damaged: passed over, and named
    return step, checkpoint.stat().st_mtime


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with the highest step that is not damaged, or None if there is no checkpoint.

    Names damaged ones. Raises InputError if all of them are damaged.
    """
    return newest_sound(checkpoints_in(folder))


def _delete_old_checkpoints(run: TrainingRun) -> None:
    """Keep the newest `--keep_checkpoints` checkpoints up to the current step, and the best one."""
    if not run.args.keep_checkpoints:
        return
    found = checkpoints_in(run.folder)
    # those beyond this step are damaged ones, which were passed over when the run was resumed
    kept = [each for each in found if _order(each)[0] <= run.state.step][: run.args.keep_checkpoints]
    for checkpoint in found:
        if checkpoint not in kept and checkpoint.name != run.state.best_checkpoint:
            delete_folder(checkpoint)


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
    if loss_scale := state["grad_scaler"]:  # empty unless in float16
        run.grad_scaler.load_state_dict(loss_scale)
    if state["reference_keys"] != run.reference_keys:
        print("The reference is scored under another key than in the earlier part of the run (see --device)")
    run.state = TrainingState(**{name: state[name] for name in asdict(run.state)})
    _best_checkpoint(run)  # refuses now what it would refuse after the last step
    if run.accelerator.is_main_process:
        delete_leftovers(run.folder)
        truncate_metrics(run.folder, run.state.step)
    print(f"Resumed from {checkpoint} at step {run.state.step}")


def load_trainable(policy: torch.nn.Module, checkpoint: Path) -> None:
    """Load the trained tensors of a checkpoint into the policy that they were saved from."""
    from safetensors.torch import load_file

    unexpected = policy.load_state_dict(load_file(checkpoint / TRAINABLE_FILE), strict=False).unexpected_keys
    assert not unexpected, unexpected


def restore_best(run: TrainingRun) -> None:
    """Under early stopping, load the weights with the best validation loss."""
    if best := _best_checkpoint(run):
        load_trainable(run.policy, best)
        print(f"Best validation loss {run.state.best_val_loss:.4f}: weights of {best.name}")


def _best_checkpoint(run: TrainingRun) -> Path | None:
    """Return the checkpoint that early stopping keeps, if any. Raises RunError if it is not as it was written."""
    if not run.args.early_stopping_patience or not run.state.best_checkpoint:
        return None
    best = run.folder / run.state.best_checkpoint
    if problem := "it is gone" if not best.is_dir() else damage(best):
        raise RunError(
            f"{best}: {problem}, and its weights are the ones with the best validation loss; put the checkpoint back "
            "and pass --resume, start again with --overwrite_output_dir, or use another checkpoint as the model"
        )
    return best


def _trainable_tensors(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in policy.named_parameters() if p.requires_grad}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }
