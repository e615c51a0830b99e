"""The folder of a training run: opened for a fresh run, overwritten, or resumed under the same settings.

It holds `run_config.json` (settings, versions, commit, hashes of data and model), `metrics.jsonl` (one line per step or
evaluation), `checkpoint_*/`, `training_curves.png` and `final_model/`. The order of the examples and the dropout
of each step follow from the seed and the step alone, so a resumed run equals the uninterrupted one.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.model_files import lies_in
from script_io.errors import InputError
from script_io.files import read_json, write_json
from script_io.folder_lock import LOCK_FILE
from script_io.provenance import provenance
from training.checkpoint_folder import delete_leftovers
from training.checkpoints import is_checkpoint, newest_checkpoint
from training.input_identity import difference
from training.metrics_log import METRICS_FILE
from training.processes import check_same_steps
from training.run import stored_arguments

if TYPE_CHECKING:
    from accelerate import Accelerator

CONFIG_FILE = "run_config.json"
# What a run of either stage writes next to its checkpoints and its final model
_FILES = (METRICS_FILE, CONFIG_FILE, "training_curves.png", "training_stats.json", "dpo_training_stats.json")
# Flags that may differ between a run and its resumption. `check_same_steps` limits the sizes of batches.
_FREE_TO_CHANGE = {
    "resume", "overwrite_output_dir", "logging_steps", "save_steps", "report_to", "device", "eval_batch_size",
    "output_dir", "gradient_checkpointing", "shard_base", "ignore_memory_estimate", "base_model", "num_threads",
    "batch_size", "gradient_accumulation_steps", "keep_checkpoints", "skip_preflight",
}  # fmt: skip
# what Stage B did before it had these flags
_UNSTORED: Mapping[str, Any] = {
    **{"lora_exclude_modules": [], "lora_modules_to_save": [], "use_rslora": False, "use_dora": False},
    "lora_init": "zero",
}


def checkpoint_to_resume(args: argparse.Namespace, inputs: Mapping[str, str] | None = None) -> Path | None:
    """Return the checkpoint that the run continues from, or None for a fresh run. Writes nothing.

    `inputs` are the hashes of data and models. Raises InputError if an earlier run is in the way, or if the run to
    resume had other settings or other inputs.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder with --output_dir")
    if args.resume:
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            _check_nothing_is_lost(folder)
            print(f"{folder}: holds no checkpoint yet; starting from the beginning")
            return None
        config = read_json(folder / CONFIG_FILE, "start from the beginning with --overwrite_output_dir")
        stored = config["arguments"]
        if args.dtype == "auto":
            args.dtype = stored["dtype"]  # a second measurement might choose the other dtype
        args.num_threads = args.num_threads or stored.get("num_threads", 0)  # or another number of threads
        _check_same_settings(folder / CONFIG_FILE, stored, args)
        _check_same_inputs(folder / CONFIG_FILE, config.get("inputs", {}), inputs or {})
        check_same_steps(folder / CONFIG_FILE, stored, args, config.get("num_processes"))
        return checkpoint
    _check_model_stays(args, folder)
    if folder.exists() and any(path.name != LOCK_FILE for path in folder.iterdir()) and not args.overwrite_output_dir:
        raise InputError(
            f"{folder}: holds an earlier run; pass --resume to continue it, --overwrite_output_dir to delete it, or "
            "another --output_dir"
        )
    return None


def _check_model_stays(args: argparse.Namespace, folder: Path) -> None:
    """Refuse to start where the model that the run begins with would be deleted with an earlier run."""
    for flag in ("model_name", "sft_model_path", "base_model"):
        name = getattr(args, flag, None)
        if name and lies_in(name, folder):
            raise InputError(f"--{flag} {name}: is inside {folder} and would be deleted; name another --output_dir")


def start_run_folder(args: argparse.Namespace, accelerator: Accelerator, inputs: Mapping[str, str]) -> None:
    """Delete an earlier run and write the settings of the new one, after data and model were loaded without error.

    `inputs` are the hashes of data and models.
    """
    folder = Path(args.output_dir)
    if accelerator.is_main_process:
        if folder.exists():
            _delete_earlier_run(folder)
        run = {"inputs": inputs, "num_processes": accelerator.num_processes}
        write_json(folder / CONFIG_FILE, {"arguments": stored_arguments(args), **run, **provenance()})
    accelerator.wait_for_everyone()


def lengthen_run(args: argparse.Namespace, accelerator: Accelerator) -> None:
    """Say and store that a resumed run has more epochs than before, if it has."""
    path = Path(args.output_dir) / CONFIG_FILE
    config = read_json(path)
    before = config["arguments"]["num_epochs"]
    if args.num_epochs > before:
        print(
            f"--num_epochs {args.num_epochs} instead of {before}: the run goes on from its last checkpoint, and the "
            f"learning rate of the further steps follows --lr_scheduler over {args.num_epochs} epochs"
        )
        config["arguments"]["num_epochs"] = args.num_epochs
        if accelerator.is_main_process:
            write_json(path, config)
    accelerator.wait_for_everyone()


def _check_nothing_is_lost(folder: Path) -> None:
    """Refuse to start from the beginning where a trained model would be deleted."""
    if (folder / "final_model").exists():
        raise InputError(
            f"{folder}: holds a final model but no checkpoint to resume from; pass --overwrite_output_dir to train "
            "again, or another --output_dir"
        )


def _check_same_settings(path: Path, stored: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Raise InputError for a setting that changes the result. More epochs are accepted (`lengthen_run`)."""
    stored = {**_UNSTORED, **stored}
    for name, value in vars(args).items():
        is_longer = name == "num_epochs" and value > stored.get(name, value)
        if name not in _FREE_TO_CHANGE and stored.get(name) != value and not is_longer:
            raise InputError(
                f"{path}: the run was started with --{name} {stored.get(name)}, this command has {value}; use the same "
                "value, or --overwrite_output_dir"
            )


def _check_same_inputs(path: Path, stored: Mapping[str, str], found: Mapping[str, str]) -> None:
    if changed := difference(stored, found):
        raise InputError(
            f"{path}: the content of --{changed} has changed since the run began; restore it, or start again with "
            "--overwrite_output_dir"
        )


def _delete_earlier_run(folder: Path) -> None:
    """Delete the files of a run and no others, since the folder may be the user's own."""
    delete_leftovers(folder)
    for path in folder.iterdir():
        if is_checkpoint(path) or (path.name == "final_model" and path.is_dir()):
            shutil.rmtree(path)
        elif path.name in _FILES and path.is_file():
            path.unlink()
