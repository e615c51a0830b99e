"""Lay out a note and its summary on a terminal: cleaned, wrapped, and side by side if the terminal is wide enough.

Widths are counted in terminal cells. A Chinese character takes two cells, a combining accent none.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest

from wcwidth import wcwidth

from assessment.ratings import find_words
from script_io.terminal import printable

SIDE_BY_SIDE = 100  # cells; two columns are readable from this width on
WIDEST_COLUMN = 80  # cells; longer lines are tiring to read
FEWEST_ROWS = 5  # rows of the note on each page, even on a very low terminal
SEPARATOR = " | "
INDENT = "  "
_NOT_A_TERMINAL = (80, 10_000)  # cells, rows: output to a file has one page
Texts = Mapping[str, str]  # title -> text


@dataclass(frozen=True)
class Page:
    """One screenful: the whole summary, and the part of the note that fits."""

    lines: list[str]
    number: int  # counted from 0
    count: int
    part: Sequence[str] = ()  # the lines of the note alone


def terminal_size() -> tuple[int, int]:
    """Return the current (cells, rows) of the terminal. Leaves out the last cell, after which some terminals wrap."""
    size = shutil.get_terminal_size(_NOT_A_TERMINAL)
    return max(20, size.columns - 1), size.lines


def cells(text: str) -> int:
    """Return the width of a printable text in terminal cells."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


@cache
def _cells_of(character: str) -> int:
    return max(0, wcwidth(character))


def wrap(text: str, width: int) -> list[str]:
    """Clean a text and break it at spaces into lines of at most `width` cells (2 or more)."""
    cleaned = printable(text).strip("\n").rstrip()
    return [part for line in cleaned.split("\n") for part in _wrap_line(line.rstrip(), width)]


def _wrap_line(line: str, width: int) -> list[str]:
    lines, current = [], ""
    for word in re.findall(r" +|(?:\[\d+\] )?[^ ]+", line):  # the number of a phrase stays with its first word
        if cells(current + word) <= width:
            current += word
            continue
        if current.strip():
            lines.append(current.rstrip())
        *full, current = [""] if word.isspace() else _pieces(word, width)
        lines += full
    return [*lines, current.rstrip()]


def _pieces(word: str, width: int) -> list[str]:
    """Cut a word into pieces that fit. An accent stays with its letter."""
    pieces, used = [""], 0
    for character in word:
        needed = _cells_of(character)
        if used + needed > width:
            pieces.append("")
            used = 0
        pieces[-1] += character
        used += needed
    return pieces


def page_of(read: Texts, fixed: Texts, *, width: int, rows: int, number: int) -> Page:
    """Return page `number` of the texts to `read`, the note first. Every page shows all of the `fixed` texts.

    On a wide terminal, the right column has the fixed texts and, if the rows suffice, every text but the note. On a
    narrow terminal, the texts follow one another, with the fixed texts last, just above the question.
    """
    if width + 1 < SIDE_BY_SIDE:
        always = blocks(fixed, width)
        part, number, count = paged(blocks(read, width), rows - 1 - len(always), number)
        return Page([*part, "", *always], number, count, part)
    column = min(WIDEST_COLUMN, (width - len(SEPARATOR)) // 2)
    note, *others = read.items()
    right = blocks({**fixed, **dict(others)}, column)
    left = blocks(dict([note]), column)
    if len(right) > rows:
        right, left = blocks(fixed, column), blocks(read, column)
    part, number, count = paged(left, max(rows, len(right)), number)
    return Page(columns(part, right, column), number, count, part)


def paged(lines: Sequence[str], rows: int, number: int) -> tuple[Sequence[str], int, int]:
    """Return the lines of the page, its number (at most the last page's) and the count of pages."""
    rows = max(FEWEST_ROWS, rows)
    count = -(-len(lines) // rows)
    number = min(number, count - 1)
    return lines[number * rows : (number + 1) * rows], number, count


def page_with(words: str, parts: Sequence[Sequence[str]], current: int) -> int | None:
    """Return the first page after the current one whose lines have the words; after the last page the first again."""
    order = [*range(current + 1, len(parts)), *range(current + 1)]
    return next((number for number in order if find_words(words, " ".join(parts[number]))), None)


def columns(left: Sequence[str], right: Sequence[str], width: int, separator: str = SEPARATOR) -> list[str]:
    """Join two lists of lines into two columns, with the left one padded to `width` cells."""
    pairs = zip_longest(left, right, fillvalue="")
    return [f"{a}{' ' * (width - cells(a))}{separator}{b}".rstrip() for a, b in pairs]


def blocks(texts: Texts, width: int) -> list[str]:
    """Return each title with its indented text below it, and an empty line between the texts."""
    lines: list[str] = []
    for title, text in texts.items():
        body = [f"{INDENT}{line}".rstrip() for line in wrap(text, width - len(INDENT))]
        lines += ["", title, *body] if lines else [title, *body]
    return lines
