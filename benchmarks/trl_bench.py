"""Run the measurements of benchmarks/compare_trl.py, each in a process of its own, on inputs that are made once."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.earlier_checkout import with_these_benchmarks
from benchmarks.trl_inputs import SHAPES, Data, Lora, Model, build_model, write_data
from benchmarks.trl_job import Job
from benchmarks.trl_report import Setup, tokens_per_second
from benchmarks.trl_variants import PADDED, PADDING_FREE_UP_TO, TRL_SETTINGS
from script_io.errors import RunError
from script_io.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]


class Bench:
    """Make models and data in a temporary folder when they are first needed, and run workers on them."""

    def __init__(self, args: argparse.Namespace, device: str, folder: Path) -> None:
        self.args, self.device, self.folder = args, device, folder
        self.lora = Lora(tuple(args.lora_target_modules), args.lora_dropout)
        self.model = cache(self._model)
        self.data = cache(self._data)
        self.tree = cache(self._tree)
        self.fastest = cache(self._fastest)

    def _model(self, name: str) -> Model:
        return build_model(name, self.folder / name, self.args.seed, self.lora)

    def _data(self, stage: str, shape: str) -> Data:
        args, folder = self.args, self.folder / f"{stage}-{shape}"
        return write_data(stage, SHAPES[shape], args.batches, args.batch_size, folder, args.seed)

    def _tree(self, variant: str) -> Path:
        """Return the root of the code that the variant runs."""
        return with_these_benchmarks(self.args.before, self.folder / variant) if variant == "before" else ROOT

    def _fastest(self, setup: Setup) -> Setup:
        """Return the setup to run: in Stage A, the faster of TRL's two layouts of rows by a trial of two steps."""
        padded = PADDED.get(setup.variant)
        if not padded or setup.stage == "dpo" or self.data(setup.stage, setup.shape).max_length > PADDING_FREE_UP_TO:
            return setup
        clock = "wall" if self.device == "cuda" else "cpu"
        trials = {each: self._measure(each, check=True) for each in (setup, replace(setup, variant=padded))}
        speeds = {each: tokens_per_second(result, clock) for each, result in trials.items() if result}
        fastest = max(speeds, key=speeds.__getitem__, default=setup)
        figures = ", ".join(f"{each.variant} {speed:.1f}" for each, speed in speeds.items())
        print(f"trial     {setup}: {figures} tokens per second; runs as {fastest.variant}", flush=True)
        return fastest

    def job(self, setup: Setup, folder: str, *, check: bool) -> Job:
        model, data = self.model(setup.model), self.data(setup.stage, setup.shape)
        return Job(
            stage=setup.stage,
            variant=setup.variant,
            dtype=setup.dtype,
            device=self.device,
            base=model.base,
            adapter=model.adapter,
            lora_target_modules=list(self.lora.target_modules),
            lora_dropout=0.0 if check else self.lora.dropout,
            train=data.check if check else data.train,
            val=data.val,
            max_length=data.max_length,
            batch_size=self.args.batch_size,
            epochs=2 if check else 1,  # a check trains on the first batch twice: see Probe
            check=check,
            seed=self.args.seed,
            memory_limit_gb=self.args.memory_limit_gb,
            folder=folder,
        )

    def run(self, setup: Setup, *, check: bool) -> dict[str, Any]:
        """Return the result of the worker, with `check` also the LoRA gradients; empty if memory ran out."""
        return self._measure(self.fastest(setup), check=check)

    def _measure(self, setup: Setup, *, check: bool) -> dict[str, Any]:
        from safetensors.torch import load_file

        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            job, result = Path(folder, "job.json"), Path(folder, "result.json")
            write_json(job, asdict(self.job(setup, folder, check=check)))
            worker = self.tree(setup.variant) / "benchmarks" / "trl_worker.py"
            command = [sys.executable, str(worker), str(job), str(result)]
            done = subprocess.run(
                command, env=self._environment(setup, folder), capture_output=True, text=True, check=False
            )
            if done.returncode == -signal.SIGKILL or (done.returncode and "OutOfMemoryError" in done.stderr):
                return {}  # Linux kills a process that needs too much memory; CUDA's allocator raises
            if done.returncode:
                raise RunError(f"{setup}: {' '.join(done.stderr.strip().splitlines()[-1:]) or 'no message'}")
            found: dict[str, Any] = read_json(result)
            found["variant"] = setup.variant
            return found | ({"gradients": load_file(result.with_suffix(".safetensors"))} if check else {})

    def _environment(self, setup: Setup, folder: str) -> dict[str, str]:
        settings = TRL_SETTINGS.get(setup.variant)
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{folder}/cache", "TQDM_DISABLE": "1"}
        threads = {"OMP_NUM_THREADS": str(self.args.threads), "TOKENIZERS_PARALLELISM": "false"}
        # an unpacked commit without git has no commit, not the commit of a repository around it
        git = {"GIT_CEILING_DIRECTORIES": str(self.args.before.resolve().parent)} if setup.variant == "before" else {}
        return {**os.environ, **offline, **threads, **git, **(settings.environment if settings else {})}
