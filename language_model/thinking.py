"""Thinking blocks of reasoning models, `<think>...</think>`: never trained on, and left out of summaries."""

from __future__ import annotations

OPENS, CLOSES = "<think>", "</think>"


def without_thinking(text: str) -> str:
    """Return the text without thinking blocks and the white space that follows them.

    The template may have opened the first block in the prompt, and the limit of new tokens may cut the last one off: so
    what precedes a lone end of a block is left out, and what follows a lone start.
    """
    text = _without_blocks(text)
    return text.rpartition(CLOSES)[2].lstrip() if CLOSES in text else text.partition(OPENS)[0]


def _without_blocks(text: str) -> str:
    """Return the text without whole blocks, in time proportional to its length, however many starts have no end."""
    kept, place = [], 0
    while (start := text.find(OPENS, place)) >= 0 and (end := text.find(CLOSES, start)) >= 0:
        kept.append(text[place:start])
        place = end + len(CLOSES)
        while place < len(text) and text[place].isspace():
            place += 1
    return "".join(kept) + text[place:]
