"""Show on one machine what a GPU has to show: exactness, speed and memory of training, and speed of sampling.

In:  nothing; models of random weights are made on the device, and texts of given lengths in a temporary folder.
Out: one line per part, and --output_file, a JSON file with the figures, written after every part.

    python benchmarks/gpu_check.py
    python benchmarks/gpu_check.py --parts stage_b_7B stage_b_7B_trl --output_file stage_b_7B.json
    python benchmarks/gpu_check.py --device cpu --tiny --output_file tiny.json

All parts run in one process, since a start takes tens of seconds on such a machine. A part that is in --output_file is
not run again, so the same command continues after an interruption. A part that failed is run again. Parts that need
CUDA, a larger machine or a package that is not installed are left out and listed.

  first_step       seconds from the start of the process to the end of the first step of Stage A
  product          FLOP per second of a bfloat16 product of large matrices
  packed           packed rows against the padded batch: log-probabilities and gradients, with and without checkpointing
  step_0           loss and largest reward of Stage B before training: 0.693147 and 0
  stage_a_135M     Stage A with LoRA on all linear layers, 16 examples a step
  stage_b_135M     Stage B, 8 pairs a step
  sampling         80 new tokens for 256 sequences at a time
  float16          Stage A in float16: losses, and the scale of the loss
  stage_b_7B_4bit  Stage B in 4 bits with gradient checkpointing, 4 pairs of 512 tokens, within 12 GB of memory
  stage_b_7B, stage_a_7B              in bfloat16, 4 pairs or examples a step
  stage_b_7B_trl, stage_a_7B_trl ...  the same with the fastest settings of TRL, in Stage A with and without padding

Speed is useful tokens (prompt, chosen and rejected, each once) per second, from the fourth step on. `utilisation` is
the FLOP per second that these tokens need, divided by `product`. Texts have the clinical shape of compare_trl.py.
`bounds` are the figures that a run on an H100 is held against.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.gpu_bounds import bound_line, hold_against
from language_model.placement import DEVICES
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import read_json, write_json
from script_io.provenance import commit, package_versions

if TYPE_CHECKING:
    from benchmarks.gpu_parts import Context, Part

PART_NAMES = (
    "first_step", "product", "packed", "step_0", "stage_a_135M", "stage_b_135M", "sampling", "float16",
    "stage_b_7B_4bit", "stage_b_7B", "stage_b_7B_trl", "stage_a_7B", "stage_a_7B_trl", "stage_a_7B_trl_padded",
)  # fmt: skip
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "datasets", "bitsandbytes")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=DEVICES, default="auto", help="device; auto: CUDA, else MPS, else the CPU")
    parser.add_argument(
        "--seconds",
        type=at_least(1),
        default=480,
        help="number of seconds for all parts: sizes the measured steps, and no part begins after that",
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PART_NAMES, default=PART_NAMES, help="parts to run, in this order"
    )
    parser.add_argument("--tiny", action="store_true", help="use a tiny model in every part, to try the command")
    parser.add_argument(
        "--seed", type=at_least(0), default=42, help="seed of the random weights, of the texts and of their order"
    )
    parser.add_argument("--output_file", type=Path, default=Path("gpu_check.json"), help="JSON file of the figures")
    return parser.parse_args(argv)


def obstacle(part: Part, device: str, is_tiny: bool) -> str | None:
    """Return why a part cannot run here, or None."""
    if part.needs_cuda and device != "cuda":
        return "needs CUDA"
    if part.is_large and device != "cuda" and not is_tiny:
        return "needs CUDA for a model of this size; --tiny uses a tiny one"
    missing = [package for package in part.packages if find_spec(package) is None]
    return f"needs {' and '.join(missing)}, not installed" if missing else None


def begin(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    """Return the document of an earlier run that --output_file has, or a new one.

    Raises InputError if the earlier run had another device or other models.
    """
    setup = {"device": device_name(device), "tiny": args.tiny, "seed": args.seed}
    if args.output_file.exists():
        document: dict[str, Any] = read_json(args.output_file)
        if not isinstance(document, dict) or document.get("setup") != setup or "parts" not in document:
            raise InputError(
                f"{args.output_file}: has no figures of the same device, --tiny and --seed; name another --output_file"
            )
        return document
    return {"setup": setup, "versions": package_versions(PACKAGES), "commit": commit(), "parts": {}, "left_out": {}}


def device_name(device: Any) -> str:
    """Return the name of the GPU, or the kind of another device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def run_part(name: str, context: Context) -> dict[str, Any]:
    """Run a part; return its figures with its seconds, or the error that ended it."""
    import torch

    from benchmarks.gpu_models import release_memory
    from benchmarks.gpu_parts import PARTS

    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = replace(context.place, folder=Path(folder))
            found = PARTS[name].run(replace(context, place=place))
    except Exception as error:  # whatever a library of another version raises, the other parts have to run
        found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    release_memory(context.place.device)
    torch.compiler.reset()  # PyTorch keeps few programs of a function, and then runs it without compiling it
    return {**found, "seconds": time.perf_counter() - start}


def headlines(found: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the figures of a part for its line, those of its cases with their names."""
    for key, value in found.items():
        if isinstance(value, dict):
            yield from headlines(value, f"{prefix}{key} ")
        elif key in ("tokens_per_second", "utilisation", "peak_bytes", "flops", "loss", "largest_reward"):
            yield f"{prefix}{key} {value:,.4g}"
        elif key in ("equal", "seconds_from_process_start", "scale_settles", "error"):
            yield f"{prefix}{key} {value}"


def main(args: argparse.Namespace) -> int:
    """Run the parts that are not in the output file yet, and write each as soon as it is there."""
    start = time.perf_counter()
    from benchmarks.gpu_parts import PARTS, Context
    from benchmarks.gpu_training import Place
    from language_model.placement import placement_for

    device = placement_for(args.device, "float32").device
    document = begin(args, device)
    found, left_out = document["parts"], document["left_out"]
    small, large = ("tiny", "tiny") if args.tiny else ("135M", "7B")
    for name in PART_NAMES:
        if name not in args.parts or ("error" not in found.get(name, {"error": ""})):
            continue
        reason = obstacle(PARTS[name], device.type, args.tiny)
        if reason is None and time.perf_counter() - start > args.seconds:
            reason = "no time left; the same command continues"
        left_out.pop(name, None)
        if reason:
            left_out[name] = reason
            print(f"{name}: left out: {reason}", flush=True)
        else:
            context = Context(Place(device, Path(), args.seed), small, large, args.seconds * PARTS[name].share, found)
            found[name] = run_part(name, context)
            print(f"{name}: {', '.join(headlines(found[name]))} ({found[name]['seconds']:.1f} s)", flush=True)
        document["bounds"] = [] if args.tiny else hold_against(found)
        write_json(args.output_file, document)
    for record in document.get("bounds", []):
        print(bound_line(record))
    print(f"Wrote {args.output_file}")
    return 1 if any("error" in found.get(name, {}) for name in args.parts) else 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
