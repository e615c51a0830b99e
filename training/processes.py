"""Several training processes: set up accelerate, keep the others quiet, and end without a hang."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from script_io.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from language_model.placement import Placement


def make_accelerator(args: argparse.Namespace, placement: Placement) -> Accelerator:
    """Return accelerate's view of devices and processes, with the tracker of `--report_to` started.

    Only the main process prints; errors of all processes are shown.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    tracker = None if args.report_to == "none" else args.report_to
    if tracker and find_spec(tracker) is None:
        raise InputError(f"--report_to {tracker} needs a package that is not installed; run: pip install {tracker}")
    accelerator = Accelerator(
        cpu=placement.device.type == "cpu",
        mixed_precision="no",  # whatever accelerate's own configuration says: it would scale the loss a second time
        log_with=tracker,
        project_dir=args.output_dir,
        # No buffer changes, and no forward pass may wait: the processes have rows in different numbers
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if not accelerator.is_main_process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    accelerator.wait_for_everyone()  # every process has looked into the run folder before one writes there
    if tracker:
        accelerator.init_trackers(Path(args.output_dir).name, config={k: str(v) for k, v in vars(args).items()})
    return accelerator


def finish_trackers(accelerator: Accelerator) -> None:
    """Flush and close the trackers. Unlike `Accelerator.end_training`, keep the process group (see `end_process`)."""
    for tracker in accelerator.trackers:
        tracker.finish()


def end_process(exit_code: int) -> int:
    """Return `exit_code`; if there are several processes, end this one at once with that code instead.

    Destroying the gloo process group can hang for ever: its destructor holds the interpreter's lock (GIL) while it
    waits for a gloo thread, and that thread may be waiting for the GIL to release a tensor. So the group is never
    destroyed: the process ends without tearing the interpreter down. Everything is on disk by then.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
