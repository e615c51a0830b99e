"""Keep the summaries that an evaluation has generated so far, so that a stopped run can be continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from evaluation.metrics import Summary
from script_io.partial_file import PartialRows, key_of

NAME = "summaries.partial.jsonl"


class PartialSummaries:
    """The file of one output folder. Summaries are found by the text of their note, in any order of the data."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._rows = PartialRows(folder / NAME, settings, "--output_dir")
        self.kept, self.dtypes = self._rows.kept, self._rows.dtypes

    def of(self, note: str) -> Summary | None:
        """Return the summary of a note, or None."""
        found = self._rows.done.get(key_of(note))
        return None if found is None else Summary(*found)

    def append(self, note: str, summary: Summary) -> None:
        """Append a summary to the file."""
        self._rows.append(key_of(note), astuple(summary))

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        self._rows.remove()
