"""The interface of a judge: a note and a summary in, the checked claims out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fact_checking.claims import FactCheck

Pair = tuple[str, str]  # note, summary


class Judge(Protocol):
    """Whatever can hold a summary against its note."""

    name: str
    failures: int

    @property
    def usage(self) -> dict[str, Any] | None:
        """What has been asked of a judge that is paid by the token; None for one that is not."""
        ...

    def check(self, note: str, summary: str) -> FactCheck | None:
        """The claims of the summary with their verdicts; None where the judge failed (counted in `failures`)."""
        ...

    def check_all(self, pairs: Sequence[Pair], progress: str | None = None) -> list[FactCheck | None]:
        """As `check` for each pair, in their order. `progress` labels a progress bar, None for no bar."""
        ...


def hides(progress: str | None) -> bool | None:
    """The `disable` of a progress bar: hidden without a label, else where nobody looks at a terminal."""
    return True if progress is None else None


def nli_name(model: str) -> str:
    """The name of an nli judge; a folder stands in it as its absolute path, however it was spelled."""
    return f"nli:{Path(model).resolve() if Path(model).is_dir() else model}"
