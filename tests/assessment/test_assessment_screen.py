"""Texts on a terminal: which characters are shown, how wide they are, and how they are laid out."""

from __future__ import annotations

import sys

import pytest

from assessment import questions
from assessment.screen import cells, columns, page_of, terminal_size, wrap


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("dose", 4),
        ("患者", 4),  # two cells each
        ("ｍｇ", 4),  # full width forms
        ("cafe\u0301", 4),  # e and a combining accent
        ("µg½", 3),
        ("❤\ufe0f", 1),  # a variation selector has no width of its own
    ],
)
def test_width_in_cells(text: str, width: int) -> None:
    assert cells(text) == width


def test_wrapping() -> None:
    assert wrap("Takes metformin 500 mg.\r\n\r\n  Denies pain.\n", 15) == [
        "Takes metformin",
        "500 mg.",
        "",
        "  Denies pain.",
    ]
    assert wrap("", 15) == [""]
    # what has no spaces is broken at the width, two cells a character, an accent staying with its letter
    assert wrap("患者七十三岁", 5) == ["患者", "七十", "三岁"]
    assert wrap("ae\u0301e\u0301e\u0301", 2) == ["ae\u0301", "e\u0301e\u0301"]
    assert wrap("go " + "x" * 12, 5) == ["go", "xxxxx", "xxxxx", "xx"]


@pytest.mark.parametrize("width", [18, 40, 79])
def test_no_line_is_wider_than_asked_and_no_word_is_lost(width: int) -> None:
    text = "Der Patient 患者 nimmt Metformin 500 mg ein, e\u0301tat stable " * 9
    lines = wrap(text, width)
    assert max(map(cells, lines)) <= width
    assert " ".join(lines).split() == text.split()


def test_columns_line_up_after_wide_characters() -> None:
    assert columns(["患者", "abc"], ["x", "y", "z"], 5) == ["患者  | x", "abc   | y", "      | z"]


NOTE = "\n".join(f"note {number}" for number in range(1, 31))
FIXED = {"Generated Summary:": "all of it"}


def test_side_by_side_from_100_columns_on() -> None:
    page = page_of({"Clinical Note:": NOTE}, FIXED, width=99, rows=40, number=0)
    assert page.count == 1
    assert page.lines[0] == f"{'Clinical Note:':<48} | Generated Summary:"
    assert page.lines[1] == f"{'  note 1':<48} |   all of it"
    page = page_of({"Clinical Note:": NOTE}, FIXED, width=98, rows=40, number=0)
    assert page.lines[0] == "Clinical Note:"
    assert page.lines[-3:] == ["", "Generated Summary:", "  all of it"]


@pytest.mark.parametrize("width", [59, 119])
def test_every_page_of_a_long_note_shows_the_whole_summary(width: int) -> None:
    pages = [page_of({"Clinical Note:": NOTE}, FIXED, width=width, rows=14, number=number) for number in range(9)]
    count = pages[0].count
    assert count > 1
    assert [page.number for page in pages] == [min(number, count - 1) for number in range(9)]
    assert all(len(page.lines) <= 14 for page in pages)
    assert all(any(line.endswith("all of it") for line in page.lines) for page in pages)
    seen = "\n".join(line for page in pages[:count] for line in page.lines)
    assert all(f"  note {number}" in seen for number in range(1, 31))


def test_a_long_reference_is_read_with_the_note_and_pushes_no_summary_off_the_page() -> None:
    read = {"Clinical Note:": "short", "Reference Summary:": "\n".join("r" * 40)}
    page = page_of(read, FIXED, width=119, rows=14, number=0)
    assert page.count == 4  # 44 lines of note and reference, 14 on a page
    assert len(page.lines) == 14
    assert page.lines[1].endswith("|   all of it")
    read["Reference Summary:"] = "r"
    assert page_of(read, FIXED, width=119, rows=14, number=0).lines[3].endswith("| Reference Summary:")


def test_nothing_is_paged_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "30")
    assert terminal_size() == (59, 30)


def test_a_line_that_the_terminal_has_cut_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "ä" * (questions.LONGEST_LINE // 2) + "x"
    given = iter([long, "in lines", long])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(given))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(questions.select, "select", lambda *_: ([], [], []))
    monkeypatch.setitem(sys.modules, "readline", None)
    assert questions.ask_text("Comment") == "in lines"
    assert "so your text was cut. Nothing is saved" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setitem(sys.modules, "readline", questions)  # any module: with readline, a long line is whole
    assert questions.ask_text("Comment") == long
