"""Show on stderr how far a loop is and how long it will take: a bar in a terminal, else a plain line now and then.

`run_pipeline.py` reads the plain lines from the logs of its stages.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

QUIET_SECONDS = 5.0  # a shorter loop prints no plain line
PERCENT_STEP, MAX_SECONDS_BETWEEN_LINES = 5, 30.0
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}s, {remaining} left{postfix}"
_PLAIN_LINE = re.compile(r"^(?P<label>.+): +(?P<percent>\d+)%, (?P<left>[\d:]+) left$", re.MULTILINE)


def progress_bar(
    items: Iterable[Any] | None = None, *, label: str | None, total: int | None = None, unit: str, initial: int = 0
) -> tqdm:
    """Return a tqdm over `items`, or one to update by hand; it shows nothing without a label."""
    options: dict[str, Any] = {"desc": label, "total": total, "unit": unit, "initial": initial}
    if label is None:
        return tqdm(items, **options, disable=True)
    if sys.stderr.isatty():
        return tqdm(items, **options, bar_format=_BAR, dynamic_ncols=True)
    return PlainProgress(items, **options)


class PlainProgress(tqdm):
    """A tqdm that draws no bar: it prints `Stage A: 40%, 1:05 left`, at every 5% and at least every 30 seconds."""

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, items: Iterable[Any] | None, *, desc: str, initial: int, **options: Any) -> None:
        super().__init__(items, desc=desc, initial=initial, **options, disable=True)  # tqdm itself prints nothing
        self._label, self._initial = desc, initial
        self._start = self._last_line = self.clock()
        self._last_percent = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Count `n` more items; print a line if one is due."""
        self.n += n or 0
        now = self.clock()
        if not self.total or self.n <= self._initial or now - self._start < QUIET_SECONDS:
            return False
        percent = int(100 * self.n / self.total)
        if percent < self._last_percent + PERCENT_STEP and now - self._last_line < MAX_SECONDS_BETWEEN_LINES:
            return False
        seconds_left = (now - self._start) / (self.n - self._initial) * (self.total - self.n)
        print(f"{self._label}: {percent}%, {self.format_interval(seconds_left)} left", file=sys.stderr, flush=True)
        self._last_line, self._last_percent = now, percent
        return True


@dataclass(frozen=True)
class Position:
    """How far a loop was when it printed its last plain line."""

    label: str
    percent: int
    left: str  # minutes and seconds, as printed

    def __str__(self) -> str:
        return f"{self.label}: {self.percent}%, {self.left} left"


def last_position(text: str) -> Position | None:
    """Return the position that the last plain line in a log tells, or None."""
    found = list(_PLAIN_LINE.finditer(text))
    return Position(found[-1]["label"], int(found[-1]["percent"]), found[-1]["left"]) if found else None
