"""Several training processes: set up accelerate, keep the others quiet, and end without a hang."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_io.errors import EXIT_FAILED, InputError

if TYPE_CHECKING:
    from types import TracebackType

    from accelerate import Accelerator

    from language_model.placement import Placement


CONFIGS = "configs/accelerate"
# Variables that `accelerate launch` sets for what this loop does not do -> why, and what to use instead
_REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed is not supported, and only adapters are trained, whose optimiser needs no "
    f"splitting; use {CONFIGS}/many_gpus.yaml instead of ZeRO-2, {CONFIGS}/fsdp2.yaml instead of ZeRO-3",
    "ACCELERATE_USE_MEGATRON_LM": f"Megatron-LM is not supported; use {CONFIGS}/fsdp2.yaml",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context and sequence parallelism are not supported; use "
    f"{CONFIGS}/fsdp2.yaml",
    "FSDP_OFFLOAD_PARAMS": "FSDP's offloading to the CPU is not supported; set fsdp_offload_params: false, and take "
    "more GPUs or --use_4bit",
}


def launched_processes() -> int:
    """Return the number of processes that torchrun or `accelerate launch` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def read_launch_settings(args: argparse.Namespace) -> None:
    """Take over FSDP2 from the environment that `accelerate launch` sets, as `args.shard_base`.

    Raises InputError for settings that the loop does not support. The variables of FSDP are removed: with them,
    accelerate and transformers would split the model in their own way.
    """
    for variable, reason in _REFUSED.items():
        if _is_on(variable):
            raise InputError(f"accelerate's configuration: {reason}")
    if _is_on("ACCELERATE_USE_FSDP"):
        if os.environ.get("FSDP_VERSION", "1") != "2":
            config = f"set fsdp_version: 2 ({CONFIGS}/fsdp2.yaml)"
            raise InputError(f"accelerate's configuration: FSDP1 is not supported; {config}")
        args.shard_base = True
        args.gradient_checkpointing = args.gradient_checkpointing or _is_on("FSDP_ACTIVATION_CHECKPOINTING")
        for variable in [name for name in os.environ if name == "ACCELERATE_USE_FSDP" or name.startswith("FSDP_")]:
            del os.environ[variable]
    if args.shard_base and launched_processes() == 1:
        print("--shard_base has no effect with one process: the base stays whole")
        args.shard_base = False


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1", "yes")


def make_accelerator(args: argparse.Namespace, placement: Placement) -> Accelerator:
    """Return accelerate's view of devices and processes, with the tracker of `--report_to` started.

    Only the main process prints; errors of all processes are shown.
    """
    read_launch_settings(args)
    if args.shard_base:
        from training.sharding import check_sharding

        check_sharding(args, placement)
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.utils import GradientAccumulationPlugin

    tracker = None if args.report_to == "none" else args.report_to
    if tracker and find_spec(tracker) is None:
        raise InputError(f"--report_to {tracker} needs a package that is not installed; run: pip install {tracker}")
    accelerator = Accelerator(
        cpu=placement.device.type == "cpu",
        # Whatever accelerate's own configuration says: it would apply precision and accumulation to the loss a second
        # time, and compile the layers that the loop has replaced
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        log_with=tracker,
        project_dir=args.output_dir,
        # No buffer changes, and no forward pass may wait: the processes have rows in different numbers
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if accelerator.num_processes > 1:
        sys.excepthook = end_with_traceback
    if not accelerator.is_main_process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    accelerator.wait_for_everyone()  # every process has looked into the run folder before one writes there
    if tracker:
        accelerator.init_trackers(Path(args.output_dir).name, config={k: str(v) for k, v in vars(args).items()})
    return accelerator


def check_same_steps(
    path: Path, stored: Mapping[str, Any], args: argparse.Namespace, num_processes: int | None
) -> None:
    """Check that each step of the resumed run reads the examples that it would have read in the run of `stored`.

    The examples of a step follow from the seed, the step and their number. So batch size, accumulation and number of
    processes may change if their product does not. The run then goes on as it would have, up to rounding, the masks of
    Stage A's dropout, and a last step of an epoch with fewer examples than processes, which repeats some. With another
    product, the step of the checkpoint would be another place in the data: InputError names flags that keep it.

    `num_processes` is the earlier number; None if it is not known, and then taken to be the present one.
    """
    now = launched_processes()
    num_processes = num_processes or now
    before = stored["batch_size"] * stored["gradient_accumulation_steps"] * num_processes
    if before == args.batch_size * args.gradient_accumulation_steps * now:
        return
    size, remedy = args.batch_size, "the earlier number of processes"
    if before % (size * now) == 0:
        remedy = f"--gradient_accumulation_steps {before // (size * now)}"
    elif before % now == 0:
        remedy = f"--batch_size {before // now} --gradient_accumulation_steps 1"
    raise InputError(
        f"{path}: a step of the run has {before} examples ({stored['batch_size']} x "
        f"{stored['gradient_accumulation_steps']} accumulation x {num_processes} process(es)), a step of this command "
        f"{size * args.gradient_accumulation_steps * now} ({now} process(es)), so the data would come in another "
        f"order; use {remedy}, or --overwrite_output_dir"
    )


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


def end_with_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error and end this process of several, without the teardown that can hang (`end_process`).

    The launcher sees the exit code and ends the other processes, which wait for this one.
    """
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    os._exit(EXIT_FAILED)
