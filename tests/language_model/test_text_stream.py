"""A stream prints each part of a text once, and never half a character."""

from __future__ import annotations

import pytest

from language_model.text_stream import TextStream


def test_each_part_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    stream = TextStream("Summary:")
    assert capsys.readouterr().out == ""  # no heading before there is a text
    printed = []
    for text in ("9", "9 \ufffd", "9 µ", "9 µg"):
        stream(text)
        printed.append(capsys.readouterr().out)
    assert printed == ["Summary:\n9", " ", "µ", "g"]
    stream.finish("9 µg.", "(broken off)")
    assert capsys.readouterr().out == ".\n(broken off)\n"


def test_a_text_that_changed_is_printed_anew_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    stream = TextStream("Summary:")
    stream("<think")
    stream("Cough")
    stream.finish("Cough.", "")
    assert capsys.readouterr().out == "Summary:\n<think\nCough.\n"


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stream = TextStream("Summary:")
    stream("a\x1b[2J")
    assert "\x1b" not in capsys.readouterr().out
