"""The log-probabilities of the reference model, scored once before training and stored as a few numbers per pair.

The file name carries a hash of everything that they depend on: the tokens of every pair (and so the data, the tokenizer
and the prompt format), the adapter, the base, the device, the dtype, the quantisation and the layout of the rows.

In half precision a log-probability depends on the other examples of its row, since sums round differently in products
of another shape: by tenths of a nat over a completion. So training pairs are scored in the rows of the first epoch, and
the first step finds policy and reference equal. The rows of later epochs have other neighbours, and there this rounding
is part of the rewards, as it is in every step of a cached reference elsewhere. Scoring the reference again in the rows
of each epoch would cost a third of a step, which is what `--reference live` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from dpo_dataset import DPODataset, Triplet
from language_model.hub import local_adapter
from language_model.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter
from language_model.placement import Placement
from scoring.padded_logps import sum_dtype
from script_io.durable import flush_to_disk, save_tensors
from script_io.errors import InputError
from script_io.progress import progress_bar
from training.loss_settings import reference_kind
from training.pair_scores import Logps, PairData, pair_logps
from training.run import TrainingRun

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class Row(NamedTuple):
    """Pairs that are scored in one row, and the pairs of it whose log-probabilities are kept; indices of a dataset."""

    pairs: list[int]
    kept: list[int]


def cache_key(
    triplets: Sequence[Triplet],
    adapter: str | Path,
    base_name: str,
    base: PreTrainedModel,
    placement: Placement,
    layout: Sequence[object],
) -> str:
    """Return the SHA-256 of everything that the log-probabilities depend on; `layout` says how pairs form rows."""
    digest = hashlib.sha256()
    for triplet in triplets:
        parts = [triplet.prompt, triplet.chosen, triplet.rejected, *(triplet.counted or ())]
        digest.update(json.dumps(parts).encode())
    if is_adapter(adapter):  # a whole model is the base itself
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            digest.update((Path(adapter) / name).read_bytes())
    how = [placement.device.type, str(placement.dtype), placement.quantisation, *layout]
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
    live` there are none, nor if the loss has no reference. `name` is `train` or `val`.
    """
    kind = reference_kind(run.args)
    if kind != "cached":
        return PairData(dataset, None, has_reference=kind == "live")
    adapter, base = local_adapter(run.args.sft_model_path), run.policy.get_base_model()
    rows = training_rows(run, dataset) if name == "train" else validation_rows(run, dataset)
    key = cache_key(dataset.triplets, adapter, base_name, base, placement, layout_of(run, name))
    run.reference_keys[name] = key
    path = run.folder / "reference_logps" / f"{name}-{key[:16]}.safetensors"
    return PairData(
        dataset, read_or_score(path, key, run.accelerator, lambda: score_reference(run, dataset, rows, name))
    )


def layout_of(run: TrainingRun, name: str) -> list[object]:
    """Return what rows and rounding depend on, apart from the pairs; the same on every process."""
    plan = run.plan
    layout: list[object] = [
        run.scorer.is_packed,
        run.scorer.is_fused,
        run.args.lora_r,
        run.eval_batch_size,
        plan.row_tokens,
        plan.num_processes,
    ]
    if run.args.lora_init != "zero" or run.args.use_dora or run.args.lora_modules_to_save:
        # the untrained policy rounds otherwise than the reference itself
        names = ("lora_init", "use_dora", "lora_modules_to_save", "lora_target_modules", "lora_exclude_modules")
        layout += [getattr(run.args, name) for name in (*names, "lora_alpha", "use_rslora")]
    if name == "train":
        layout += [plan.batch_size, plan.accumulation, plan.seed, *map(astuple, plan.sources)]
    return layout


def training_rows(run: TrainingRun, dataset: DPODataset) -> list[Row]:
    """Return the rows of the first epoch on this process, then rows of the pairs that this epoch does not draw.

    A pair is kept from the step that has it first, on one process only. Rows with nothing to keep are left out.
    """
    plan = run.plan
    rows, known = [], set[int]()
    for step in range(plan.steps_per_epoch):
        processes: dict[int, int] = {}  # the last step may repeat pairs, so that every process has one
        for place, index in enumerate(plan.step_indices(step)):
            processes.setdefault(index, place % plan.num_processes)
        mine = {index for index, process in processes.items() if process == plan.rank} - known
        rows += [Row(pairs, sorted(mine & set(pairs))) for pairs in plan.rows(step, dataset.tokens)]
        known |= processes.keys()
    rest = [index for index in range(len(dataset)) if index not in known][plan.rank :: plan.num_processes]
    rows += [Row(pairs, pairs) for pairs in plan.rows_of(rest, run.eval_batch_size, dataset.tokens)]
    return [row for row in rows if row.kept]


def validation_rows(run: TrainingRun, dataset: DPODataset) -> list[Row]:
    """Return the rows that an evaluation computes on this process."""
    rows = run.plan.evaluation_rows(len(dataset), run.eval_batch_size, dataset.tokens)
    return [Row(pairs, pairs) for pairs in rows]


def score_reference(run: TrainingRun, dataset: DPODataset, rows: Sequence[Row], name: str) -> Logps:
    """Score rows of pairs under the untrained policy, and gather the results of all processes on each of them."""
    sums = 1 if dataset.loss_on == "completion" else 2
    logps = torch.zeros(len(dataset), 2, sums, dtype=sum_dtype(run.device), device=run.device)
    with torch.no_grad():
        paced = run.with_pace(rows, dataset)
        for row in progress_bar(paced, label=f"Reference, {name}", total=len(rows), unit="row"):
            places = [row.pairs.index(index) for index in row.kept]
            logps[row.kept] = pair_logps(run.scorer, dataset, row.pairs)[0][places].to(logps)
    gathered: Logps = run.accelerator.reduce(logps, "sum").cpu().double()
    return gathered


def read_or_score(path: Path, key: str, accelerator: Accelerator, score: Callable[[], Logps]) -> Logps:
    """Return the log-probabilities stored in `path` under `key`; if there are none, run `score()` and store the result.

    `score` is run by all processes or by none: it exchanges results between them.
    """
    cached = _read(path, key)
    everywhere = accelerator.gather(torch.tensor([cached is not None], device=accelerator.device)).all()
    if cached is not None and everywhere:
        print(f"Reference log-probabilities read from {path}")
        return cached
    logps = score()
    if accelerator.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        chosen, rejected = (side.contiguous() for side in logps.unbind(1))  # (N, S)
        save_tensors({"chosen": chosen, "rejected": rejected}, temporary, metadata={"key": key})
        flush_to_disk(temporary)
        temporary.replace(path)
        print(f"Reference log-probabilities saved to {path}")
    return logps


def _read(path: Path, key: str) -> Logps | None:
    """Return the log-probabilities in `path` if they belong to `key`."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return torch.stack([file.get_tensor(side) for side in ("chosen", "rejected")], dim=1)
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error}); delete it") from error
