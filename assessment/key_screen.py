"""Lay out the single-key form: one line of title, the note with its summaries, and a panel with the question.

The panel has the same height at every question, so the note stays where it is while the assessor answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assessment.screen import FEWEST_ROWS, SEPARATOR, Page, Texts, blocks, columns, page_of, paged, wrap

PANEL_ROWS = 7  # with the line above it
RATED = ", rate this one"  # ends the title of the current summary, where several are shown
NARROWEST = 34  # cells of a column in a comparison of summaries
SMALLEST = (60, 16)  # cells and rows below which the tool asks line by line


@dataclass(frozen=True)
class Shown:
    """What is to be shown of one example: the note and other texts to read, and one column of texts per summary."""

    read: Texts
    summaries: Sequence[Texts]
    current: int = 0  # which of the summaries is rated now


def body(shown: Shown, width: int, rows: int, page: int) -> Page:
    """Return one page of the note with the summaries, at most `rows` lines high.

    Several summaries of one note are next to each other. A summary that leaves the note too few rows is read in pages
    as well, after the note.
    """
    if len(shown.summaries) > 1:
        compared = _compared(shown, width, rows, page)
        if compared is not None:
            return compared
    alone = f" of {len(shown.summaries)}; a larger terminal shows the others"
    fixed = {title.replace(RATED, alone): text for title, text in shown.summaries[shown.current].items()}
    laid_out = page_of(shown.read, fixed, width=width, rows=rows, number=page)
    if len(laid_out.lines) <= rows:
        return laid_out
    part, number, count = paged(blocks({**shown.read, **fixed}, width), rows, page)
    return Page([*part], number, count, part)


def _compared(shown: Shown, width: int, rows: int, page: int) -> Page | None:
    """Return a page with the summaries side by side, next to the note or below it; None if they do not fit."""
    count = len(shown.summaries)
    in_a_row = (width - count * len(SEPARATOR)) // (count + 1)
    column = in_a_row if in_a_row >= NARROWEST else (width - (count - 1) * len(SEPARATOR)) // count
    if column < NARROWEST:
        return None
    summaries = side_by_side([blocks(texts, column) for texts in shown.summaries], column)
    if in_a_row >= NARROWEST:
        if len(summaries) > rows:
            return None
        part, number, pages = paged(blocks(shown.read, column), rows, page)
        return Page(columns(part, summaries, column), number, pages, part)
    room = rows - 1 - len(summaries)
    if room < FEWEST_ROWS:
        return None
    part, number, pages = paged(blocks(shown.read, width), room, page)
    return Page([*part, "", *summaries], number, pages, part)


def side_by_side(texts: Sequence[Sequence[str]], width: int) -> list[str]:
    """Join any number of lists of lines into columns of `width` cells."""
    *before, joined = texts
    for lines in reversed(before):
        joined = columns(lines, joined, width)
    return list(joined)


def fit(lines: Sequence[str], rows: int) -> list[str]:
    """Return exactly `rows` lines: empty ones are added at the end, and what does not fit is cut."""
    return [*lines[:rows], *[""] * (rows - len(lines))]


def one_line(text: str, width: int) -> str:
    """Return a text on one line; what does not fit is cut and replaced by three dots."""
    lines = wrap(text, width)
    return lines[0] if len(lines) == 1 else f"{wrap(text, width - 3)[0]}..."


def screen(title: str, page: Page, panel: Sequence[str], width: int, rows: int) -> list[str]:
    """Return all lines of the screen."""
    lines = fit(page.lines, rows - 1 - PANEL_ROWS)
    wrapped = [part for line in panel for part in wrap(line, width)]
    return [one_line(title, width), *lines, "-" * width, *fit(wrapped, PANEL_ROWS - 1)]
