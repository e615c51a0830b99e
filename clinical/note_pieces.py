"""Tell whether the lines of a text look like pieces of one note, or like a list of notes, one per line."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

from clinical.layout import opening_heading, unwrapped
from clinical.text import dialogue_turns
from script_io.files import read_text

_FEWEST_OPENINGS = 2  # different headings or speakers; in a list of notes each may open with the same
_SHARE_OF_OPEN_LINES = 0.25  # lines that end in mid-sentence; in a list of notes some lack their full stop


def sign_of_one_note(text: str) -> str | None:
    """Return why the lines of a text look like pieces of one note ("line 2 is blank"), or None.

    The signs are a blank line between others, a line that is only a heading, lines with different headings or
    speakers, and many lines that end in mid-sentence.
    """
    lines = text.rstrip().split("\n")
    return _blank_line(lines) or _heading(lines) or _open_lines(lines)


def warn_of_pieces(path: Path) -> None:
    """Warn if the lines of a text file look like pieces of one note: each would get a summary of its own."""
    sign = sign_of_one_note(read_text(path))
    if sign:
        print(
            f"warning: {path}: its lines look like pieces of one note ({sign}), but each line is summarised as a note; "
            "add --one_note_per_file if the file is one note",
            file=sys.stderr,
        )


def _blank_line(lines: list[str]) -> str | None:
    content = [number for number, line in enumerate(lines, start=1) if line.strip()]
    gap = next((number for number, following in pairwise(content) if following > number + 1), None)
    return f"line {gap + 1} is blank" if gap else None


def _heading(lines: list[str]) -> str | None:
    openings: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        opening = opening_heading(line)
        if opening and line.partition(":")[2].strip() == "":
            return f"line {number} is a heading"
        opening = opening or _speaker(line)
        if opening:
            openings.setdefault(opening, number)
    if len(openings) < _FEWEST_OPENINGS:
        return None
    first, second, *_ = openings.values()
    return f"lines {first} and {second} open with a heading or a speaker"


def _speaker(line: str) -> str | None:
    turns = dialogue_turns(line)
    return turns[0].speaker if turns and line.lstrip(" [").lower().startswith(turns[0].speaker) else None


def _open_lines(lines: list[str]) -> str | None:
    """Return the first line whose sentence goes on in the next line, if many lines are so."""
    joined = unwrapped("\n".join(lines))
    position, found = -1, []
    for number, line in enumerate(lines[:-1], start=1):
        position += len(line) + 1
        if joined[position] != "\n":
            found.append(number)
    return (
        f"line {found[0]} ends in mid-sentence" if found and len(found) >= _SHARE_OF_OPEN_LINES * len(lines) else None
    )
