"""The flag `--lexicon_dir` of every script that reads facts: how it is added, applied and recorded."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from clinical.lexicons import add_lexicon_dir


def add_lexicon_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--lexicon_dir` to a parser or to one of its groups."""
    parser.add_argument(
        "--lexicon_dir",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders of CSV files, named as in lexicons/, that add names, abbreviations, units or limits "
        "(default: none)",
    )


def add_lexicons(folders: Sequence[Path]) -> None:
    """Add the user's word lists to this process; each worker process needs a call of its own.

    Raises InputError as `add_lexicon_dir` does.
    """
    for folder in folders:
        add_lexicon_dir(folder)


def lexicon_settings(folders: Sequence[Path]) -> list[str] | None:
    """Return the name and a digest of the content of each folder, for result files; None without folders.

    Results of two runs can be compared only if these are equal.
    """
    return [f"{Path(folder).resolve().name} sha256:{_digest(folder)}" for folder in folders] or None


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.csv")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
