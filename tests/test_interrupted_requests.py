"""Ctrl-C and SIGTERM while requests to a slow server are open: the script ends at once and keeps finished results."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import Server
from repository import ROOT

from language_model.concurrent_calls import call_concurrently
from language_model.prompt_format import build_prompt
from script_io.files import write_jsonl

REPLY_SECONDS = 60.0  # of the slow server
END_SECONDS = 5.0  # from the signal to the end of the process
START_SECONDS = 60.0  # for a busy machine; about 2 on an idle one
INTERRUPTIONS = [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]


class SlowServer(Server):
    """Answers at once, unless the request contains the word slow."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_requests = 0
        self.released = threading.Event()

    def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "slow" in json.dumps(body):
            self.slow_requests += 1
            self.released.wait(REPLY_SECONDS)
        return super().completion(path, body)


@pytest.fixture
def server() -> Iterator[SlowServer]:
    with SlowServer() as server:
        yield server
        server.released.set()


def interrupt(words: list[str], folder: Path, number: signal.Signals, is_ready: Callable[[], bool]) -> tuple[int, str]:
    """Run a script, send the signal once `is_ready`, and return its exit code and what it wrote to stderr."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / words[0]), *words[1:]], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, error = process.communicate(timeout=END_SECONDS)
    finally:
        process.kill()
        process.wait()
    return process.returncode, error


@pytest.mark.parametrize(("number", "code", "word"), INTERRUPTIONS)
def test_sampling_ends_at_once_and_keeps_what_is_finished(
    number: signal.Signals, code: int, word: str, server: SlowServer, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": text} for text in ("first", "slow", "last")])
    output = tmp_path / "completions.jsonl"
    words = ["generate_completions.py", "--prompts_path", "prompts.jsonl", "--output_path", output.name]
    words += ["--base_url", server.url, "--served_model", "sft", "--num_completions", "1", "--concurrency", "2"]

    def is_ready() -> bool:
        return server.slow_requests == 1 and output.exists() and output.read_text().count("\n") == 2

    returned, error = interrupt(words, tmp_path, number, is_ready)
    said = "completions.jsonl keeps the completions so far; the same command goes on from there."
    assert (returned, error.splitlines()[-2:]) == (code, [said, word])
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {row["prompt"] for row in rows} == {"first", "last"}


@pytest.mark.parametrize(("number", "code", "word"), INTERRUPTIONS)
def test_judging_ends_at_once_and_writes_nothing(
    number: signal.Signals, code: int, word: str, server: SlowServer, tmp_path: Path
) -> None:
    row = {"prompt": build_prompt("A slow pulse."), "completions": ["A slow pulse.", "A fast pulse."]}
    write_jsonl(tmp_path / "completions.jsonl", [row])
    words = ["judge_completions.py", "--completions_path", "completions.jsonl", "--output_dir", "out"]
    words += ["--judge", "openai", "--judge_base_url", server.url]
    returned, error = interrupt(words, tmp_path, number, lambda: server.slow_requests == 2)
    assert (returned, error.splitlines()[-1]) == (code, word)
    assert not (tmp_path / "out").exists()


def test_all_results_arrive_with_their_items_and_calls_overlap() -> None:
    barrier = threading.Barrier(3, timeout=10)  # only three calls at a time get through

    def square(number: int) -> int:
        barrier.wait()
        return number * number

    assert sorted(call_concurrently(square, range(9), 3)) == [(number, number * number) for number in range(9)]


def test_no_more_calls_than_allowed_at_a_time() -> None:
    under_way, most, lock = [0], [0], threading.Lock()

    def call(_: int) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.01)
        with lock:
            under_way[0] -= 1

    list(call_concurrently(call, range(20), 4))
    assert most[0] == 4


def assert_no_more_calls_start(called: list[int]) -> None:
    before = len(called)
    time.sleep(0.2)
    assert len(called) <= before + 1  # a thread may have been about to make its call


def test_the_first_error_ends_the_calls() -> None:
    called = []

    def fail(number: int) -> None:
        called.append(number)
        time.sleep(0.001)
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^0$"):
        list(call_concurrently(fail, range(10_000), 1))
    assert_no_more_calls_start(called)


def test_no_call_starts_once_the_caller_has_stopped_iterating() -> None:
    called = []

    def call(number: int) -> None:
        called.append(number)
        time.sleep(0.001)

    calls = call_concurrently(call, range(10_000), 1)
    assert next(calls) == (0, None)
    del calls
    assert_no_more_calls_start(called)
