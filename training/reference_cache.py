"""The reference's log-probabilities, scored once and kept as two numbers a pair.

The file's name carries a hash of all that they depend on: the tokens of every pair (so the data, the tokenizer and the
prompt format), the adapter, the base, the dtype, the quantisation and the layout of the rows. Another hash is another
file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dpo_dataset import Triplet
from language_model.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from language_model.placement import Placement
from script_io.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Logps = tuple[torch.Tensor, torch.Tensor]  # chosen and rejected, each (N,) float64, in nats


def cache_key(
    triplets: Sequence[Triplet],
    adapter: str | Path,
    base_name: str,
    base: PreTrainedModel,
    placement: Placement,
    *,
    packed: bool,
) -> str:
    """SHA-256 of everything that the reference's log-probabilities depend on; `packed` is the layout of the rows."""
    digest = hashlib.sha256()
    for triplet in triplets:
        digest.update(json.dumps([triplet.prompt, triplet.chosen, triplet.rejected]).encode())
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        digest.update((Path(adapter) / name).read_bytes())
    how = [str(placement.dtype), placement.quantisation, packed]
    digest.update(json.dumps([*how, _base_identity(base_name, base)]).encode())
    return digest.hexdigest()


def _base_identity(name: str, base: PreTrainedModel) -> list[object]:
    """A hub snapshot's commit, or a folder's weight files with size and time; hashing 14 GB would take a minute."""
    folder = Path(name)
    if not folder.is_dir():
        return [name, getattr(base.config, "_commit_hash", None)]
    files = sorted(folder.glob("*.safetensors"))
    return [name, *([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)]


def read_or_score(path: Path, key: str, count: int, score: Callable[[], Logps]) -> Logps:
    """The cached log-probabilities where `path` holds those of `key`; else those of `score()`, which are then kept."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    if path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("key") == key:
                    cached = (file.get_tensor("chosen"), file.get_tensor("rejected"))
                    assert cached[0].shape == (count,)
                    print(f"Reference log-probabilities read from {path}")
                    return cached
        except SafetensorError as error:
            raise InputError(f"{path}: not a safetensors file ({error}); delete it") from error
    chosen, rejected = score()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # several processes may write the same numbers
    save_file({"chosen": chosen, "rejected": rejected}, temporary, metadata={"key": key})
    temporary.replace(path)
    print(f"Reference log-probabilities saved to {path}")
    return chosen, rejected
