"""Two texts next to each other, at the widths of terminals."""

from __future__ import annotations

import re

import pytest

from script_io.side_by_side import side_by_side


@pytest.mark.parametrize("width", [80, 140])
def test_both_texts_start_on_the_same_line_and_fit(width: int) -> None:
    texts = ["first summary " * 20, "second summary " * 10]
    lines = side_by_side(["one/model", "other"], texts, width=width, colour=False).splitlines()
    assert max(map(len, lines)) <= width
    assert re.fullmatch(r" one/model +\| other", lines[0])
    columns = [line.split("|") for line in lines[2:]]
    left, right = (" ".join(" ".join(column).split()) for column in zip(*columns, strict=True))
    assert (left, right) == tuple(text.strip() for text in texts)


def test_colours_stay_with_their_words_or_are_left_out() -> None:
    texts = ["\x1b[1;31m[1 10 mg]\x1b[0m daily", "5 mg daily"]
    assert "\x1b[1;31m[1 10 mg]\x1b[0m daily" in side_by_side(["a", "b"], texts, width=80, colour=True)
    assert "\x1b" not in side_by_side(["a", "b"], texts, width=80, colour=False)


def test_a_long_name_is_not_cut() -> None:
    name = "models/" + "x" * 60
    shown = side_by_side([name, "b"], ["", ""], width=80, colour=False)
    assert name in "".join(re.split(r"[\s|]+", shown))
