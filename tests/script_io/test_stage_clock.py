"""The line about a running stage, and the estimate of the time left."""

from __future__ import annotations

import io

import pytest

from script_io.stage_clock import TAIL_BYTES, StageLine, about, seconds_left

SHARES = {"sft": 10.0, "evaluate": 2.0, "dpo": 5.0}
PLANNED = ["sft", "dpo", "evaluate_sft_greedy", "evaluate_dpo_greedy"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        ({"sft": 100.0}, 50 + 20 + 20),  # ten seconds for each unit of share
        ({"sft": 100.0, "dpo": 5.0}, 2 * 2 * 105 / 15),
        ({"sft": 100.0, "dpo": 5.0, "evaluate_sft_greedy": 7.0}, 7),  # as long as the other evaluation took
        (dict.fromkeys(PLANNED, 3.0), 0),
        ({}, 0),
    ],
)
def test_the_time_left_follows_from_the_stages_that_are_done(seconds, left):
    assert seconds_left(PLANNED, seconds, SHARES) == pytest.approx(left)


def test_the_time_left_is_said_in_minutes():
    assert [about(seconds) for seconds in (3, 89, 91, 600)] == [
        "about 1 minute",
        "about 1 minute",
        "about 2 minutes",
        "about 10 minutes",
    ]


def test_a_terminal_shows_one_line_that_is_overwritten(tmp_path):
    log, stream = tmp_path / "sft.log", Terminal()
    line = StageLine("sft", stream)
    log.write_text("Device: cpu\n")
    line.show(log)
    assert stream.getvalue() == ""
    log.write_text("x" * TAIL_BYTES + "\nStage A: 10%, 01:00 left\n")
    line.show(log)
    line.show(log)
    line.clear()
    assert stream.getvalue() == "\r[sft] Stage A: 10%, 01:00 left\x1b[K\r\x1b[K"


def test_a_log_gets_a_line_every_thirty_seconds(tmp_path):
    now, stream, log = [0.0], io.StringIO(), tmp_path / "sft.log"
    line = StageLine("sft", stream, lambda: now[0])
    for percent in range(1, 81):
        now[0] += 1
        log.write_text(f"Stage A: {percent}%, 01:00 left\n")
        line.show(log)
    line.clear()
    assert stream.getvalue() == "[sft] Stage A: 30%, 01:00 left\n[sft] Stage A: 60%, 01:00 left\n"
