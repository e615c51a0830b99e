"""Signals that end a script: Ctrl-C (SIGINT), SIGTERM, and SIGHUP, which comes when its terminal or SSH session closes.

A session that closes may send SIGHUP twice, or together with SIGTERM. So SIGHUP counts only if it is the first signal.
Under `nohup` it is ignored from the start, and stays so.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
_held: list[int] | None = None  # the signals that came while they are held back; None: they are not


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Not an `Exception`, so that handlers of ordinary errors do not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__("hung up" if number == SIGHUP else "terminated")
        self.exit_code = exit_code_of(number)


def exit_code_of(number: int) -> int:
    """Return the exit code of a script that this signal ended: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number


def handle(stop: Callable[[int], object], numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> dict[int, Any]:
    """From now on, call `stop` with the number of a signal; return the earlier handlers.

    SIGHUP is added to `numbers`, unless it is ignored.
    """
    first = True

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal first
        was_first, first = first, False
        if number == SIGHUP:
            drop_lost_output()
        if was_first or number != SIGHUP:
            stop(number)

    if SIGHUP is not None and signal.getsignal(SIGHUP) is not signal.SIG_IGN:
        numbers = (*numbers, SIGHUP)
    return {number: signal.signal(number, handler) for number in numbers}


@contextmanager
def handled(stop: Callable[[int], object], numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[None]:
    """As `handle`, while the block runs."""
    earlier = handle(stop, numbers)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def raise_stop(number: int) -> None:
    """Raise KeyboardInterrupt or Terminated for a signal, or later if signals are held back."""
    if _held is not None:
        _held.append(number)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(number)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold the exceptions of `raise_stop` back until the block ends; other threads than the main one get none anyway.

    The handlers stay as they are: while they were replaced, a signal could arrive between two of them.
    """
    global _held  # noqa: PLW0603  (read by the handler)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = _held = []
    try:
        yield
    finally:
        _held = None
        if came:
            raise_stop(came[0])


@contextmanager
def told_when_stopped(said: Callable[[], str]) -> Iterator[None]:
    """If a signal ends the block, print how to go on, unless it is an empty text."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if line := said():
            print(line, file=sys.stderr)
        raise


def drop_lost_output() -> None:
    """From now on, drop what cannot be printed: the terminal has closed, or the process at the end of the pipe."""
    for name in ("stdout", "stderr"):
        if stream := getattr(sys, name):
            setattr(sys, name, _Tolerant(stream))


class _Tolerant:
    """A text stream without errors of the system."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
