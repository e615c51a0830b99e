"""Run one measurement of benchmarks/compare_sampling.py, which starts this script in a new process for each one.

    python benchmarks/sampling_worker.py job.json result.json
    python -m benchmarks.sampling_worker job.json result.json

In:  JOB, a JSON file: variant, model, dtype, prompts, completions, new_tokens, batch_size, temperature, threads, seed.
     SUITE_FOLDER, an environment variable: the checkout whose sampler is measured (default: the one of this script).
Out: RESULT, a JSON file: wall and CPU seconds of the sampling, number of new tokens, dtype and number of parameters.

The model is loaded, and two tokens are sampled, before the clock starts. All variants sample from the whole vocabulary,
and no token ends a completion, so that all completions have the same number of tokens.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# first, so that an earlier commit's sampler comes with its own modules
sys.path.insert(0, os.environ.get("SUITE_FOLDER") or str(Path(__file__).resolve().parents[1]))

from script_io.errors import ArgumentParser, run_script
from script_io.files import read_json, write_json

if TYPE_CHECKING:
    import torch

NO_TOKEN = -1
Job = dict[str, Any]
Sample = Callable[[list[str], int], int]  # (prompts, new tokens per completion) -> new tokens in all


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path, help="JSON file of the job to run")
    parser.add_argument("result", type=Path, help="JSON file to write the measurement to")
    return parser.parse_args(argv)


def suite_sampler(job: Job) -> tuple[Sample, torch.nn.Module]:
    """Return the sampler of the suite, and its model."""
    from language_model.loading import load_for_inference
    from language_model.local_sampler import LocalSampler
    from language_model.sampler import SamplingSettings

    loaded = load_for_inference(job["model"], device="cpu", dtype=job["dtype"] or "auto")
    sampler = LocalSampler(loaded, job["variant"])
    sampler.end_ids = [NO_TOKEN]

    def sample(prompts: list[str], new_tokens: int) -> int:
        settings = SamplingSettings(job["completions"], new_tokens, job["temperature"], job["batch_size"], job["seed"])
        return sum(each.num_tokens for _, group in sampler.complete(prompts, settings) for each in group)

    return sample, loaded.model


def generate_sampler(job: Job) -> tuple[Sample, torch.nn.Module]:
    """Return `generate` of transformers with padded batches, and its model; the default dtype is the stored one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=job["dtype"] or "auto")
    model.generation_config.eos_token_id = None
    torch.manual_seed(job["seed"])
    group = max(1, job["batch_size"] // job["completions"])  # prompts per batch

    def sample(prompts: list[str], new_tokens: int) -> int:
        count = 0
        for start in range(0, len(prompts), group):
            batch = tokenizer(prompts[start : start + group], padding=True, return_tensors="pt")
            output = model.generate(
                **batch,
                do_sample=True,
                temperature=job["temperature"],
                top_k=0,
                num_return_sequences=job["completions"],
                max_new_tokens=new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
            count += output[:, batch["input_ids"].shape[1] :].numel()
        return count

    return sample, model


def main(args: argparse.Namespace) -> int:
    """Run the job and write its result."""
    import torch

    job = read_json(args.job)
    torch.set_num_threads(job["threads"])
    sample, model = (generate_sampler if job["variant"] == "generate" else suite_sampler)(job)
    sample(job["prompts"][:1], 2)
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = sample(job["prompts"], job["new_tokens"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    weights = list(model.parameters())
    result = {
        "seconds": wall,
        "cpu_seconds": cpu,
        "tokens": tokens,
        "computed_in": str(weights[0].dtype).removeprefix("torch."),
        "model_parameters": sum(weight.numel() for weight in weights),
    }
    write_json(args.result, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
