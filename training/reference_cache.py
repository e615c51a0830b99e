"""The log-probabilities of the reference model, scored once before training and stored as two numbers per pair.

The file name carries a hash of everything that they depend on: the tokens of every pair (and so the data, the tokenizer
and the prompt format), the adapter, the base, the dtype, the quantisation and the layout of the rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from dpo_dataset import DPODataset, Triplet
from language_model.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from language_model.placement import Placement
from scoring.padded_logps import sum_dtype
from script_io.errors import InputError
from training.pair_scores import Logps, PairData, pair_logps
from training.run import TrainingRun

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def cache_key(
    triplets: Sequence[Triplet],
    adapter: str | Path,
    base_name: str,
    base: PreTrainedModel,
    placement: Placement,
    *,
    packed: bool,
) -> str:
    """Return the SHA-256 of everything that the log-probabilities depend on; `packed` is the layout of the rows."""
    digest = hashlib.sha256()
    for triplet in triplets:
        digest.update(json.dumps([triplet.prompt, triplet.chosen, triplet.rejected]).encode())
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        digest.update((Path(adapter) / name).read_bytes())
    how = [str(placement.dtype), placement.quantisation, packed]
    digest.update(json.dumps([*how, _base_identity(base_name, base)]).encode())
    return digest.hexdigest()


def _base_identity(name: str, base: PreTrainedModel) -> list[object]:
    """Return the commit of a hub snapshot, or size and time of a folder's weights: hashing 14 GB takes a minute."""
    folder = Path(name)
    if not folder.is_dir():
        return [name, getattr(base.config, "_commit_hash", None)]
    files = sorted(folder.glob("*.safetensors"))
    return [name, *([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)]


def with_reference(run: TrainingRun, dataset: DPODataset, name: str, base_name: str, placement: Placement) -> PairData:
    """Return the triplets with their log-probabilities under the untrained policy, which is the reference.

    They are read from the run's folder if the file of the same key is there, else scored and saved. With `--reference
    live` there are none. `name` is `train` or `val`.
    """
    if run.args.reference == "live":
        return PairData(dataset, None)
    adapter, base = run.args.sft_model_path, run.policy.get_base_model()
    key = cache_key(dataset.triplets, adapter, base_name, base, placement, packed=run.scorer.is_packed)
    path = run.folder / "reference_logps" / f"{name}-{key[:16]}.safetensors"
    return PairData(dataset, read_or_score(path, key, run.accelerator, lambda: score_reference(run, dataset, name)))


def score_reference(run: TrainingRun, dataset: DPODataset, name: str) -> Logps:
    """Score the pairs under the untrained policy, each process its share, and gather the results on all of them."""
    logps = torch.zeros(len(dataset), 2, dtype=sum_dtype(run.device), device=run.device)
    rows = run.plan.evaluation_rows(len(dataset), run.eval_batch_size, dataset.tokens)
    with torch.no_grad():
        for row in tqdm(rows, desc=f"Reference, {name}", unit="row", disable=None):
            logps[row] = pair_logps(run.scorer, dataset, row)[0].to(logps)
    chosen, rejected = run.accelerator.reduce(logps, "sum").cpu().double().unbind(1)
    return chosen.contiguous(), rejected.contiguous()


def read_or_score(path: Path, key: str, accelerator: Accelerator, score: Callable[[], Logps]) -> Logps:
    """Return the log-probabilities stored in `path` under `key`; if there are none, run `score()` and store the result.

    `score` is run by all processes or by none: it exchanges results between them.
    """
    cached = _read(path, key)
    everywhere = accelerator.gather(torch.tensor([cached is not None], device=accelerator.device)).all()
    if cached is not None and everywhere:
        print(f"Reference log-probabilities read from {path}")
        return cached
    chosen, rejected = score()
    if accelerator.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        save_file({"chosen": chosen, "rejected": rejected}, temporary, metadata={"key": key})
        temporary.replace(path)
        print(f"Reference log-probabilities saved to {path}")
    return chosen, rejected


def _read(path: Path, key: str) -> Logps | None:
    """Return the log-probabilities in `path` if they belong to `key`."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return file.get_tensor("chosen"), file.get_tensor("rejected")
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error}); delete it") from error
