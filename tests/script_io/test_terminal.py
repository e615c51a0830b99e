"""Text for the terminal: what is replaced, and what is kept."""

from __future__ import annotations

from script_io.terminal import printable


def test_controls_are_harmless_and_line_ends_stay() -> None:
    assert printable("a\x1b[2Jb\x07c\u202ed\u200be\u00a0f\tg\x0bh") == "a\ufffd[2Jb\ufffdcde f    g\nh"
    assert printable("a\r\nb\rc\u2028d°") == "a\nb\nc\nd°"
