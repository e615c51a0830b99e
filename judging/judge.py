"""The interface of a judge, which checks the claims of a summary against its note."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fact_checking.claims import FactCheck

FACTS = "facts"  # the name of the judge that is the fact checker

NoteAndSummary = tuple[str, str]


class Judge(Protocol):
    """A judge of summaries."""

    name: str
    failures: int

    @property
    def usage(self) -> dict[str, Any] | None:
        """Return the replies, tokens and price so far, or None for a judge that runs on this machine."""
        ...

    def check(self, note: str, summary: str) -> FactCheck | None:
        """Return the claims of the summary with their verdicts, or None if the judge failed; `failures` counts it."""
        ...

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """Return the result of `check` for each pair, in order. `progress` labels a progress bar; None: no bar."""
        ...


def nli_name(model: str) -> str:
    """Return the name of an nli judge; a folder is named by its absolute path, so that each has one name."""
    return f"nli:{Path(model).resolve() if Path(model).is_dir() else model}"
