"""The folder of a training run: opened fresh, overwritten, or resumed under the same settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_io.errors import InputError
from script_io.files import read_json, write_json
from script_io.provenance import provenance
from training.checkpoints import latest_checkpoint
from training.metrics_log import METRICS_FILE

if TYPE_CHECKING:
    from accelerate import Accelerator

CONFIG_FILE = "run_config.json"


def look_into_run_folder(args: argparse.Namespace) -> Path | None:
    """The checkpoint to resume from, or None for a fresh run; writes nothing, so that it can be done before all else.

    Raises InputError where an earlier run is in the way, or where one is to be resumed under other settings.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder with --output_dir")
    used = folder.exists() and any(folder.iterdir())
    if args.resume:
        checkpoint = latest_checkpoint(folder)
        if checkpoint is None:
            raise InputError(f"{folder}: no checkpoint to resume from; leave --resume out to start anew")
        stored = read_json(folder / CONFIG_FILE, "start anew with --overwrite_output_dir")["arguments"]
        if args.dtype == "auto":
            args.dtype = stored["dtype"]  # measured anew it might come out otherwise
        _check_same_settings(folder / CONFIG_FILE, stored, args)
        return checkpoint
    if used and not args.overwrite_output_dir:
        raise InputError(
            f"{folder}: holds an earlier run; pass --resume to go on, --overwrite_output_dir to delete it, or another "
            "--output_dir"
        )
    return None


def start_run_folder(args: argparse.Namespace, accelerator: Accelerator) -> None:
    """Deletes an earlier run and writes the settings of the new one, once data and model have turned out good."""
    folder = Path(args.output_dir)
    if accelerator.is_main_process:
        if folder.exists():
            _delete_earlier_run(folder)
        write_json(folder / CONFIG_FILE, {"arguments": vars(args), **provenance()})
    accelerator.wait_for_everyone()


# What may differ between a run and its resumption.
_FREE_TO_CHANGE = {
    "resume", "overwrite_output_dir", "logging_steps", "save_steps", "report_to", "device", "eval_batch_size",
    "output_dir", "gradient_checkpointing",
}  # fmt: skip


def _check_same_settings(path: Path, stored: Mapping[str, Any], args: argparse.Namespace) -> None:
    for name, value in vars(args).items():
        if name not in _FREE_TO_CHANGE and stored.get(name) != value:
            raise InputError(
                f"{path}: the run was started with --{name} {stored.get(name)}, asked for is {value}; use the same, "
                "or --overwrite_output_dir"
            )


def _delete_earlier_run(folder: Path) -> None:
    """Deletes what a run leaves behind and nothing else, since the folder may be the user's own."""
    import shutil

    for path in folder.iterdir():
        if path.is_dir() and (path.name.startswith("checkpoint_") or path.name == "final_model"):
            shutil.rmtree(path)
        elif path.name in (METRICS_FILE, CONFIG_FILE, "training_curves.png") or path.name.endswith("_stats.json"):
            path.unlink()
