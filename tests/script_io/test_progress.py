"""Plain progress lines: when they are printed, what they say, and that they can be read back."""

from __future__ import annotations

import sys

import pytest

from script_io.progress import PlainProgress, Position, last_position, progress_bar


@pytest.fixture
def clock(monkeypatch):
    """Return the clock of the progress lines: a list with the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(PlainProgress, "clock", staticmethod(lambda: now[0]))
    return now


def lines_of(capsys) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_line_every_five_percent_with_the_time_left(clock, capsys):
    bar = progress_bar(label="Stage A", total=100, unit="step")
    for _ in range(20):
        clock[0] += 6
        bar.update()
    assert lines_of(capsys)[:2] == ["Stage A: 5%, 09:30 left", "Stage A: 10%, 09:00 left"]


def test_a_slow_loop_prints_every_thirty_seconds(clock, capsys):
    for _ in progress_bar(range(3), label="Judging", total=1000, unit="summary"):
        clock[0] += 31
    assert len(lines_of(capsys)) == 3


def test_a_short_loop_prints_nothing(clock, capsys):
    for _ in progress_bar(range(10), label="Judging", total=10, unit="summary"):
        clock[0] += 0.4
    assert lines_of(capsys) == []


def test_without_a_label_nothing_is_printed(clock, capsys):
    for _ in progress_bar(range(10), label=None, total=10, unit="summary"):
        clock[0] += 60
    assert lines_of(capsys) == []


def test_steps_of_an_earlier_run_do_not_count_as_speed(clock, capsys):
    bar = progress_bar(label="Stage B", total=100, unit="step", initial=80)
    clock[0] += 60
    bar.update(10)
    assert lines_of(capsys) == ["Stage B: 90%, 01:00 left"]


def test_a_postfix_and_an_update_by_nothing_print_no_line(clock, capsys):
    bar = progress_bar(label="Sampling", total=10, unit="prompt")
    clock[0] += 60
    bar.set_postfix_str("30 tokens/s", refresh=False)
    bar.update(0)
    bar.close()
    assert lines_of(capsys) == []


def test_a_terminal_gets_a_bar_with_percent_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = progress_bar(label="Stage A", total=4, unit="step")
    bar.update(2)
    bar.refresh()
    bar.close()
    shown = capsys.readouterr().err
    assert "Stage A:  50%" in shown
    assert "2/4 steps" in shown
    assert " left" in shown


def test_the_last_line_of_a_log_is_read_back(clock, capsys):
    bar = progress_bar(label="Reference, train", total=10, unit="row")
    for _ in range(2):
        clock[0] += 400
        bar.update()
    log = f"Device: cpu\n{capsys.readouterr().err}step 3/9  loss 1.0\n"
    assert last_position(log) == Position("Reference, train", 20, "53:20")
    assert str(last_position(log)) == "Reference, train: 20%, 53:20 left"
    assert last_position("Accuracy: 20%, 3 left out\n") is None
