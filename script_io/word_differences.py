"""Find the words in which two texts differ."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+(?:[^\w\s]+\w+)*%?")  # "twice", "54-year-old", "142/88", "7.9%"
Span = tuple[int, int]  # start and end of characters, end excluded


def word_differences(first: str, second: str) -> tuple[list[Span], list[Span]]:
    """Return the spans of each text whose words are not in the other text at that place.

    Case, and punctuation around words, make no difference. Neighbouring words are one span.
    """
    words = [list(_WORD.finditer(text)) for text in (first, second)]
    left, right = ([word[0].casefold() for word in side] for side in words)
    spans: tuple[list[Span], list[Span]] = ([], [])
    for kind, *bounds in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, (start, end) in enumerate((bounds[:2], bounds[2:])):
            if kind != "equal" and start < end:
                spans[side].append((words[side][start].start(), words[side][end - 1].end()))
    return spans
