"""Keep the summaries that an evaluation has generated so far, so that a stopped run can be continued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.metrics import Summary
from language_model.model_files import ADAPTER_CONFIG, is_adapter
from script_io.partial_file import PartialFile

NAME = "summaries.partial.jsonl"


def model_state(model_path: str, base_model: str | None = None) -> list[list[Any]]:
    """Return name, size and modification time of the files of a model, and of its base if that is a folder too.

    They show whether a model at the same path was trained again, without reading gigabytes. The list is empty for a
    hub id.
    """
    folder = Path(model_path)
    files = sorted(file for file in folder.glob("*") if file.is_file())
    state = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    if is_adapter(folder):
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = base_model or config.get("base_model_name_or_path")
        state += model_state(base) if base else []
    return state


class PartialSummaries:
    """The file of one output folder. Summaries are found by the text of their note, in any order of the data."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.file = PartialFile(folder / NAME, settings)
        rows = self.file.rows
        self.done = {key: Summary(text, finished, seconds) for key, text, finished, seconds in rows}

    def of(self, note: str) -> Summary | None:
        """Return the summary of a note, or None."""
        return self.done.get(_key(note))

    def append(self, note: str, summary: Summary) -> None:
        """Append a summary to the file. The first one starts a new file."""
        self.file.append([_key(note), summary.text, summary.finished, summary.seconds])
        self.done[_key(note)] = summary

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        self.file.remove()


def _key(note: str) -> str:
    return hashlib.sha256(note.encode("utf-8", "surrogatepass")).hexdigest()
