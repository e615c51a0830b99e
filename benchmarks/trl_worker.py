"""Run one measurement of benchmarks/compare_trl.py, which starts this script in a new process for each one.

    python benchmarks/trl_worker.py job.json result.json
    python -m benchmarks.trl_worker job.json result.json

In:  JOB, a JSON file with the fields of `Job`.
Out: RESULT, a JSON file: seconds of the training steps and of the reference pass, peak memory in bytes, number of
     tokens, a hash of the tokens trained on, and the commit of the code. If the job has `check`, also the loss, and the
     LoRA gradients in a safetensors file with the name of RESULT.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.trl_job import Clock, Example, Job, Probe
from benchmarks.trl_variants import run_ours, run_trl
from script_io.errors import ArgumentParser, run_script
from script_io.files import read_json, write_json
from script_io.provenance import commit

Runner = Callable[[Job, Clock, Probe], list[list[Example]]]  # returns the examples of every step


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path, help="JSON file of the job to run")
    parser.add_argument("result", type=Path, help="JSON file to write the measurement to")
    return parser.parse_args(argv)


def runner_of(variant: str) -> Runner:
    """Return the function that trains a variant."""
    from benchmarks.trl_naive import run_naive

    return {"ours": run_ours, "before": run_ours, "naive": run_naive, "plain": run_naive}.get(variant, run_trl)


def main(args: argparse.Namespace) -> int:
    """Run the job and write its result."""
    import torch

    from training.watching import peak_memory_bytes

    job = Job(**read_json(args.job))
    if job.memory_limit_gb:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.memory_limit_gb * 1e9 / total))
    clock, probe = Clock(job.device), Probe(job)
    steps = runner_of(job.variant)(job, clock, probe)
    result: dict[str, Any] = {
        **clock.seconds,
        "peak_bytes": peak_memory_bytes(torch.device(job.device)),
        "tokens": sum(len(ids) for step in steps for example in step for ids in example),
        "completion_tokens": sum(len(ids) for step in steps for example in step for ids in example[1:]),
        "steps": len(steps),
        "commit": commit(),
        # sorted, since the order within a step has no effect on the gradient
        "tokens_sha256": hashlib.sha256(json.dumps([sorted(step) for step in steps]).encode()).hexdigest(),
    }
    if job.check:
        result |= probe.save(args.result.with_suffix(".safetensors"))
    write_json(args.result, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
