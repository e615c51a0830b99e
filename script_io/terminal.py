"""Make text that may hold anything safe to print on a terminal, and ask for text in one."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Collection
from contextlib import suppress
from functools import cache


def printable(text: str) -> str:
    """Return the text without characters that could control the terminal. Every line end becomes \\n."""
    return "".join(map(printable_character, text.replace("\r\n", "\n")))


@cache
def printable_character(character: str) -> str:
    """Return the character, or a harmless replacement: control characters could move the cursor."""
    if character.isprintable() or character == "\n":
        return character
    if character in "\r\v\f\x85\u2028\u2029":
        return "\n"
    if character == "\t":
        return "    "
    category = unicodedata.category(character)
    # joiners and direction marks are invisible, and could reverse the text
    return {"Zs": " ", "Cf": ""}.get(category, "\ufffd")


def shows_colour() -> bool:
    """Return whether stdout is a terminal that shows colours, and the user wants them (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ask_lines(question: str, question_of_next_line: str, end: str, leave: Collection[str]) -> str | None:
    """Ask for a text of several lines, which ends at a line that is `end`; blank lines belong to it.

    Returns None if the input ends or the first line is one of the words `leave`.
    """
    with suppress(ImportError):  # Windows has none
        import readline

        # without it, a terminal cuts a line off after 4,095 characters; a pasted tab is no request for completion
        readline.parse_and_bind("bind ^I ed-insert" if "libedit" in (readline.__doc__ or "") else "tab: self-insert")
    lines: list[str] = []
    try:
        while True:
            # a terminal may hand over a paste of many lines as one
            for line in input(question_of_next_line if lines else question).split("\n"):
                if not lines and line.strip().lower() in leave:
                    return None
                if line.strip() == end:
                    return "\n".join(lines).strip()
                lines += [line] if lines or line.strip() else []
    except EOFError:
        print()
        return "\n".join(lines).strip() or None
