"""Apply a function to a stream of items in several processes, with the results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from script_io.errors import RunError
from script_io.stop_signals import SIGHUP

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_AHEAD_PER_WORKER = 8  # enough to keep each worker busy, few enough to hold in memory
_function: Callable[[Any], Any]


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int, set_up: Callable[[], None]
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, result) in the order of the items. Each process receives `function` once and calls `set_up` once.

    With one worker, everything runs in this process and `set_up` is not called. Raises RunError if a worker is killed.
    """
    if num_workers == 1:
        yield from ((item, function(item)) for item in items)
        return
    workers = ProcessPoolExecutor(num_workers, initializer=_start_worker, initargs=(function, set_up))
    under_way: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            under_way.append((item, workers.submit(_call, item)))
            if len(under_way) >= ITEMS_AHEAD_PER_WORKER * num_workers:
                first, future = under_way.popleft()
                yield first, future.result()
        for first, future in under_way:
            yield first, future.result()
    except BrokenProcessPool as error:
        raise RunError("a worker process was killed, perhaps out of memory; use a lower --num_workers") from error
    finally:
        workers.shutdown(cancel_futures=True)


def _start_worker(function: Callable[[Any], Any], set_up: Callable[[], None]) -> None:
    global _function  # noqa: PLW0603  (set once in each process)
    for number in filter(None, (signal.SIGINT, SIGHUP)):  # the parent gets them too and stops its workers
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_up()
    _function = function


def _end_with_parent() -> None:
    """End this process once its parent has, which tells nobody when it is killed."""
    parent = multiprocessing.parent_process()
    assert parent  # a worker has one
    connection.wait([parent.sentinel])
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
