"""Keep the summaries that an evaluation has generated so far, so that a stopped run can be continued.

The first line of the JSONL file holds the settings of the run, and each following line a summary. A line is written as
soon as the summary exists. If the machine crashes, the last line may be incomplete; it is then ignored.
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
from script_io.files import private_opener

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
        self.path = folder / NAME
        self.settings = json.loads(json.dumps(settings))
        self.done = self._read()

    def _read(self) -> dict[str, Summary]:
        """Return {key of the note: summary}, empty if there is no file or its settings differ."""
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
        """Return the summary of a note, or None."""
        return self.done.get(_key(note))

    def append(self, note: str, summary: Summary) -> None:
        """Append a summary to the file. The first one starts a new file."""
        lines = [] if self.done else [self.settings]
        lines.append([_key(note), summary.text, summary.finished, summary.seconds])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab" if self.done else "wb", opener=private_opener) as handle:
                handle.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write there ({error.strerror}); name another --output_dir"
            ) from error
        self.done[_key(note)] = summary

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        self.path.unlink(missing_ok=True)


def _key(note: str) -> str:
    return hashlib.sha256(note.encode("utf-8", "surrogatepass")).hexdigest()
