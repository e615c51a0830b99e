"""Order, look-ahead and the death of a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from training_helpers import ROOT

from negatives.parallel_map import ITEMS_AHEAD_PER_WORKER, ordered_map
from script_io.errors import RunError


def no_set_up() -> None:
    pass


def slow_if_even(number: int) -> int:
    time.sleep(0.02 if number % 2 == 0 else 0)
    return number * number


def killed_at_three(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(ordered_map(slow_if_even, range(20), workers, no_set_up)) == [(n, n * n) for n in range(20)]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 2 * ITEMS_AHEAD_PER_WORKER)])
def test_items_are_taken_as_they_are_needed(workers: int, ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = ordered_map(slow_if_even, items(), workers, no_set_up)
    assert next(results) == (0, 0)
    assert len(taken) == ahead
    results.close()


def test_a_killed_worker_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(RunError, match="a worker process was killed"):
        list(ordered_map(killed_at_three, range(10), 2, no_set_up))


PROGRAM = """
import time
from negatives.parallel_map import ordered_map
from script_io.errors import run_script
def main(args):
    for _ in ordered_map(lambda number: number, range(4), 2, lambda: None):
        print("ready", flush=True)
        time.sleep(60)
raise SystemExit(run_script(main, None))
"""


def test_workers_end_with_a_parent_that_is_killed() -> None:
    """They waited for further items, for ever."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        workers = psutil.Process(parent.pid).children()
        parent.kill()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=30)[1] == []


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGHUP, "hung up")])
def test_a_signal_to_parent_and_workers_ends_them_with_one_line(number: signal.Signals, word: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "ready\n"
        os.killpg(parent.pid, number)  # as the terminal does
        _, error = parent.communicate(timeout=30)
    assert (parent.returncode, error) == (128 + number, f"{word}\n")
