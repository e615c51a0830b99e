"""Recognise whether the files that a run was started with are still the same when it is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from language_model.model_files import load_config

# what decides the numbers of a model, and the tokens that it reads
_MODEL_FILES = (
    "*.safetensors", "config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja",
)  # fmt: skip
_BLOCK = 2**16  # bytes
_BLOCKS = 1024  # of a larger file, this many are read, evenly spaced: 64 MiB


def identities_of_inputs(
    data: Mapping[str, Sequence[str | Path]], models: Mapping[str, str | Path], trust_remote_code: bool = False
) -> dict[str, str]:
    """Return {flag and file: hash} of data files and models, both given by flag.

    A file that is missing has no entry, and the loader of the file says so. A model of a hub has its commit as hash.
    """
    found: dict[str, str] = {}
    for flag, paths in data.items():
        for number, path in enumerate(paths, start=1):
            if Path(path).is_file():
                found[f"{flag}, file {number}"] = hash_of_file(Path(path))
    for flag, model in models.items():
        folder = Path(model)
        if folder.is_dir():
            files = sorted({file for pattern in _MODEL_FILES for file in folder.glob(pattern)})
            found |= {f"{flag}, {file.name}": hash_of_file(file) for file in files}
        elif commit := getattr(load_config(str(model), trust_remote_code), "_commit_hash", None):
            found[f"{flag}, commit"] = commit
    return found


def hash_of_file(path: Path) -> str:
    """Return a hash of the size and the content of a file; of one above 64 MiB, of blocks from all parts of it.

    Weights that were trained again differ everywhere, so a part of 14 GB shows it as well as the whole.
    """
    size = path.stat().st_size
    step = max(_BLOCK, (size - _BLOCK) // (_BLOCKS - 1))
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        for start in range(0, size, step):
            handle.seek(start)
            digest.update(handle.read(_BLOCK))
    return digest.hexdigest()


def difference(stored: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Return the first input that has changed, or None. Inputs that only one side knows are compared by their path."""
    return next((name for name in stored if name in found and stored[name] != found[name]), None)
