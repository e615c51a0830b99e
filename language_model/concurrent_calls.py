"""Call a function on many items, several at a time, without delaying the end of the program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def call_concurrently(
    function: Callable[[Item], Result], items: Sequence[Item], concurrency: int
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, `function(item)`) as the calls return, with at most `concurrency` calls at a time.

    The first exception of a call is raised here. After that, or if the caller stops iterating, no further call starts
    and nobody waits for the calls that have not returned. Daemon threads make this possible: at exit, Python joins the
    threads of a ThreadPoolExecutor, so Ctrl-C would take effect only after the slowest reply of a server.
    """
    assert concurrency >= 1
    waiting: SimpleQueue[Item] = SimpleQueue()
    returned: SimpleQueue[tuple[Item, Future[Result]]] = SimpleQueue()
    stopped = threading.Event()
    for item in items:
        waiting.put(item)

    def work() -> None:
        while not stopped.is_set():
            try:
                item = waiting.get_nowait()
            except Empty:
                return
            call: Future[Result] = Future()
            try:
                call.set_result(function(item))
            except BaseException as error:
                call.set_exception(error)
            returned.put((item, call))

    for _ in range(min(concurrency, len(items))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in items:
            item, call = returned.get()
            yield item, call.result()
    finally:
        stopped.set()
