"""Follow a chain of stages that run as child processes: where the running one is, and how long all will take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from script_io.progress import last_position

TAIL_BYTES = 4096  # of a log, enough for its last progress line
SECONDS_BETWEEN_LINES = 30.0  # where the output is no terminal


class StageLine:
    """One line about the running stage: overwritten in a terminal, printed every 30 seconds elsewhere."""

    def __init__(self, name: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.stream, self.clock = name, stream or sys.stderr, clock
        self._shown, self._last = "", clock()

    def show(self, log: Path) -> None:
        """Show the last progress line of the stage's log, if it is new."""
        position = last_position(tail(log))
        text = f"[{self.name}] {position}" if position else ""
        if not text or text == self._shown:
            return
        if self.stream.isatty():
            self.stream.write(f"\r{text}\x1b[K")  # erases what a longer line left
        elif self.clock() - self._last >= SECONDS_BETWEEN_LINES:
            self.stream.write(f"{text}\n")
        else:
            return
        self.stream.flush()
        self._shown, self._last = text, self.clock()

    def clear(self) -> None:
        """Erase the line from the terminal."""
        if self._shown and self.stream.isatty():
            self.stream.write("\r\x1b[K")
            self.stream.flush()


def tail(log: Path) -> str:
    """Return the end of a log that is being written."""
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return handle.read().decode("utf-8", errors="replace")


def seconds_left(planned: Sequence[str], seconds: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """Estimate how long the planned stages that are not in `seconds` will take.

    The kind of a stage is its name up to the first underscore. A stage takes as long as finished stages of its kind
    took on average. For a kind that has not run, its share is scaled by what the finished stages took for theirs.
    """
    by_kind: dict[str, list[float]] = {}
    for name in seconds:
        by_kind.setdefault(kind_of(name), []).append(seconds[name])
    scale = sum(seconds.values()) / sum(shares[kind_of(name)] for name in seconds) if seconds else 0.0
    typical = {kind: scale * share for kind, share in shares.items()}
    typical |= {kind: statistics.mean(taken) for kind, taken in by_kind.items()}
    return sum(typical[kind_of(name)] for name in planned if name not in seconds)


def kind_of(name: str) -> str:
    return name.split("_")[0]


def about(seconds: float) -> str:
    """Return for example `about 5 minutes`."""
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'s' * (minutes > 1)}"
