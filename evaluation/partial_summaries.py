"""Summaries that an evaluation has generated so far, kept so that a run that was stopped can go on.

One JSON line a summary behind a first line that says what they depend on. A line is written whole as soon as its
summary is there; the last one may still be torn when the machine goes down, and is then left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.metrics import Summary
from language_model.model_files import ADAPTER_CONFIG, is_adapter
from script_io.errors import InputError

NAME = "summaries.partial.jsonl"


def model_state(model_path: str) -> list[list[Any]]:
    """Name, size and time of change of a model's files, and of its base's where both are folders; none of a hub id.

    It tells a model that was trained anew at the same place without reading gigabytes.
    """
    folder = Path(model_path)
    files = sorted(file for file in folder.glob("*") if file.is_file())
    state = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    if is_adapter(folder):
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
        state += model_state(base) if base else []
    return state


class PartialSummaries:
    """The file of one output folder. Notes are known by their text, so another order of the data does no harm."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.settings = json.loads(json.dumps(settings))
        self.done = self._read()

    def _read(self) -> dict[str, Summary]:
        """Key of a note -> its summary; empty where there is no file, or one of other settings."""
        if not self.path.is_file():
            return {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *rows = [json.loads(line) for line in whole.decode().splitlines()]
            found = {key: Summary(text, finished, seconds) for key, text, finished, seconds in rows}
        except (ValueError, TypeError):
            first, found = None, {}
        if first != self.settings:
            print(f"{self.path}: left by a run of another model or other settings; it is not used")
            return {}
        with self.path.open("r+b") as handle:
            handle.truncate(len(whole))
        return found

    def of(self, note: str) -> Summary | None:
        """The summary of a note, where there is one."""
        return self.done.get(_key(note))

    def append(self, note: str, summary: Summary) -> None:
        """Adds a summary; the first one opens the file."""
        lines = [] if self.done else [self.settings]
        lines.append([_key(note), summary.text, summary.finished, summary.seconds])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab" if self.done else "wb") as handle:
                handle.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write there ({error.strerror}); name another --output_dir"
            ) from error
        self.done[_key(note)] = summary

    def remove(self) -> None:
        """Once the results are written."""
        self.path.unlink(missing_ok=True)


def _key(note: str) -> str:
    return hashlib.sha256(note.encode("utf-8", "surrogatepass")).hexdigest()
