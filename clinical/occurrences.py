"""Find what is before or after many places of one text, in time that grows with the text and not with its square."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

Span = tuple[int, int]
_LOOK_BACK = 80  # characters that the words right before a place may take, without the blanks between them and it


class Occurrences:
    """The matches of a pattern in a text, found once for all places that ask for the match before or after them."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        spans = [match.span() for match in pattern.finditer(text)]
        self._starts, self._ends = [start for start, _ in spans], [end for _, end in spans]
        self._length = len(text)

    def following(self, place: int) -> Span:
        """Return the first match that starts at or after a place, or the empty span at the end of the text."""
        index = bisect_left(self._starts, place)
        return (self._starts[index], self._ends[index]) if index < len(self._starts) else (self._length, self._length)

    def last_end(self, place: int) -> int:
        """Return the end of the last match that ends at or before a place, or 0."""
        index = bisect_right(self._ends, place)
        return self._ends[index - 1] if index else 0


def end_of_words_before(text: str, place: int) -> int:
    """Return the end of the last word before a place."""
    while place and text[place - 1].isspace():
        place -= 1
    return place


def right_before(pattern: re.Pattern[str], text: str, place: int) -> re.Match[str] | None:
    """Search for a pattern that ends with `$` right before a place, without reading the whole text up to there."""
    return pattern.search(text, max(0, end_of_words_before(text, place) - _LOOK_BACK), place)
