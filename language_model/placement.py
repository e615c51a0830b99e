"""Choose where and how a model is loaded: device, dtype, quantisation, and the flags that set them."""

from __future__ import annotations

import argparse
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_model.model_files import load_config
from language_model.threads import set_environment, use_threads
from script_io.errors import InputError, at_least

if TYPE_CHECKING:
    import torch

set_environment()  # here, because every script that loads a model imports this module before torch

DEVICES = ("auto", "cuda", "mps", "cpu")
DTYPES = ("auto", "float32", "bfloat16", "float16")
# On a CPU, bfloat16 is used if the model's hidden size is at least the first number, since casts cost more than is
# gained below it, and if matrix products are faster by at least the second
MIN_BFLOAT16_SIZE, MIN_BFLOAT16_GAIN = 512, 1.5


@dataclass(frozen=True)
class Placement:
    """Where and how a model is loaded, as decided from `--device`, `--dtype`, `--use_8bit` and `--use_4bit`."""

    device: torch.device
    dtype: torch.dtype
    quantisation: str  # none, 8bit or 4bit
    trust_remote_code: bool = False


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that all model scripts share."""
    group = parser.add_argument_group("Hardware")
    group.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto: CUDA, else MPS, else the CPU (default: auto)"
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="dtype of the model's weights; auto: bfloat16 on a GPU that has it, else float16; on a CPU float32, or "
        "bfloat16 to train or sample with if it is measured to be faster (default: auto)",
    )
    group.add_argument(
        "--num_threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of threads to compute with on a CPU; 0: OMP_NUM_THREADS if it is set, else chosen by a short "
        "measurement for small models and one per core for large ones",
    )
    group.add_argument(
        "--use_8bit", action="store_true", help="load the base in 8-bit: about a quarter of the memory of float32"
    )
    group.add_argument(
        "--use_4bit", action="store_true", help="load the base in 4-bit NF4: about an eighth of the memory of float32"
    )
    group.add_argument(
        "--seed", type=at_least(0), default=42, help="seed of random weights, data order, dropout and sampling"
    )
    group.add_argument(
        "--trust_remote_code", action="store_true", help="run Python code that the model's folder brings"
    )


def add_base_model_argument(group: argparse._ActionsContainer) -> None:
    """Add the flag of the scripts that load an adapter, to their group of model flags."""
    group.add_argument(
        "--base_model",
        metavar="MODEL",
        help="folder or hub id of the adapter's base model, if it was moved (default: the base that the adapter names)",
    )


def choose_placement(args: argparse.Namespace, trained_model: str | None = None) -> Placement:
    """Return the placement for the flags of `add_model_arguments`, and print what was chosen and why.

    For training, pass the base as `trained_model`: on a CPU, the dtype and the number of threads then depend on what is
    faster for its size, and are stored in `args`.
    """
    placement = placement_for(
        args.device, args.dtype, args.use_8bit, args.use_4bit, args.trust_remote_code, trained_model=trained_model
    )
    size = _hidden_size(trained_model, args.trust_remote_code) if trained_model else None
    threads = use_threads(args.num_threads, size) if placement.device.type == "cpu" else args.num_threads
    if trained_model:  # a resumed run must use the same
        args.dtype = str(placement.dtype).removeprefix("torch.")
        args.num_threads = threads
    return placement


def placement_for(
    device: str,
    dtype: str,
    use_8bit: bool = False,
    use_4bit: bool = False,
    trust_remote_code: bool = False,
    *,
    trained_model: str | None = None,
    sampled_model: str | None = None,
) -> Placement:
    """Return where and how to load a model, and print it. Raises InputError for choices that exclude each other.

    On a CPU, the dtype depends on what is faster for the size of a base that will be trained or sampled from.
    """
    import torch

    if use_8bit and use_4bit:
        raise InputError("--use_8bit and --use_4bit exclude each other; choose one")
    quantisation = "8bit" if use_8bit else "4bit" if use_4bit else "none"
    if quantisation != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(f"--use_{quantisation} needs bitsandbytes; run: pip install bitsandbytes")
    chosen_device, device_reason = _choose_device(device)
    base = trained_model or sampled_model
    size = _hidden_size(base, trust_remote_code) if base and dtype == "auto" else None
    chosen_dtype, dtype_reason = _choose_dtype(dtype, chosen_device, size)
    if sampled_model and dtype == "auto" and chosen_device.type == "cpu" and chosen_dtype == torch.bfloat16:
        dtype_reason += "; texts differ from those in float32 by rounding"
    quantised = "" if quantisation == "none" else f", base in {quantisation}"
    print(f"Device: {chosen_device} ({device_reason}); dtype: {str(chosen_dtype)[6:]} ({dtype_reason}){quantised}")
    if chosen_device.type != "cpu":
        print(f"A repeated run on {chosen_device.type} may differ in the last digits: its sums have no fixed order")
    return Placement(chosen_device, chosen_dtype, quantisation, trust_remote_code)


def _choose_device(name: str) -> tuple[torch.device, str]:
    import torch

    if name not in DEVICES:
        raise InputError(f"device {name!r} is not known; choose one of {', '.join(DEVICES)}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise InputError(f"--device {name}: this machine or this torch build has none; pass --device auto or cpu")
    if name != "auto":
        return _cuda_device() if name == "cuda" else torch.device(name), "asked for"
    if cuda:
        return _cuda_device(), f"auto: found {torch.cuda.get_device_name()}"
    return (torch.device("mps"), "auto: found Apple MPS") if mps else (torch.device("cpu"), "auto: no GPU found")


def _cuda_device() -> torch.device:
    import torch

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # a launcher starts one process per GPU


def _choose_dtype(name: str, device: torch.device, size: int | None) -> tuple[torch.dtype, str]:
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype, "asked for"
    if device.type == "cpu":
        return _choose_cpu_dtype(size)
    if device.type == "mps" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "auto: half the memory at float32's range"
    return torch.float16, "auto: this GPU has no bfloat16"


def _choose_cpu_dtype(size: int | None) -> tuple[torch.dtype, str]:
    """Return float32, which is exact, or bfloat16 for a model of this hidden size that it makes much faster here."""
    import torch

    if size is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return torch.float32, "auto: exact"  # each process would measure, and they might decide differently
    if size < MIN_BFLOAT16_SIZE:
        return torch.float32, "auto: exact, and bfloat16 does not pay for so small a model"
    gain = _seconds_of_product(size, torch.float32) / _seconds_of_product(size, torch.bfloat16)
    if gain >= MIN_BFLOAT16_GAIN:
        return torch.bfloat16, f"auto: measured, {gain:.1f} times as fast as float32 here"
    return torch.float32, f"auto: measured, bfloat16 is only {gain:.2g} times as fast here"


def _seconds_of_product(size: int, dtype: torch.dtype) -> float:
    """Return the shortest time of 6 products of 512 tokens with a matrix of the size in the model's layers."""
    import time

    import torch

    tokens, matrix = torch.ones(512, size, dtype=dtype), torch.ones(size, 4 * size, dtype=dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(tokens, matrix)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _hidden_size(name: str, trust_remote_code: bool) -> int:
    return int(load_config(name, trust_remote_code).get_text_config().hidden_size)
