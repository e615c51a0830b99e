"""Thinking blocks of reasoning models, `<think>...</think>`: never trained on, and left out of summaries."""

from __future__ import annotations

import re

OPENS, CLOSES = "<think>", "</think>"
_BLOCK = re.compile(rf"{OPENS}.*?{CLOSES}\s*", re.DOTALL)


def without_thinking(text: str) -> str:
    """Return the text without thinking blocks and the white space that follows them.

    The template may have opened the first block in the prompt, and the limit of new tokens may cut the last one off: so
    what precedes a lone end of a block is left out, and what follows a lone start.
    """
    text = _BLOCK.sub("", text)
    return text.rpartition(CLOSES)[2].lstrip() if CLOSES in text else text.partition(OPENS)[0]
