"""Make text that may hold anything safe to print on a terminal."""

from __future__ import annotations

import unicodedata
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
