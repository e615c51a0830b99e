"""Find the words that texts do not share."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

# "twice", "54-year-old", "142/88", "7.9%", "<0.01": a comparator belongs to its number. The look-behind keeps a row of
# comparators without a number from being searched again from each of them.
_WORD = re.compile(r"(?<![<>≤≥~+])[<>≤≥~+]*\w(?:\S*\w)?%?")
MOST_WORDS = 3_000  # of a text; comparing takes the square of the number
Span = tuple[int, int]  # start and end of characters, end excluded


def word_differences(texts: Sequence[str]) -> list[list[Span]]:
    """Return, for each text, the spans of the words that it does not share.

    The words of the first text are compared with every other text: a word is marked if none has it at this place. The
    words of another text are compared with the first one. Case, and punctuation around words, make no difference.
    Neighbouring words are one span. Where a text has over MOST_WORDS words, nothing is marked.
    """
    places = [list(_WORD.finditer(text)) for text in texts]
    if max(map(len, places)) > MOST_WORDS:
        return [[] for _ in texts]
    words = [[match[0].casefold() for match in each] for each in places]
    shared: list[set[int]] = [set() for _ in texts]
    for other in range(1, len(texts)):
        for block in SequenceMatcher(None, words[0], words[other], autojunk=False).get_matching_blocks():
            shared[0].update(range(block.a, block.a + block.size))
            shared[other].update(range(block.b, block.b + block.size))
    return [_runs(each, known) for each, known in zip(places, shared, strict=True)]


def _runs(words: Sequence[re.Match[str]], without: Collection[int]) -> list[Span]:
    """Return the spans of the words, without those at some indices; words in a row make one span."""
    spans: list[Span] = []
    for index, word in enumerate(words):
        if index in without:
            continue
        if spans and index - 1 not in without:
            spans[-1] = (spans[-1][0], word.end())
        else:
            spans.append(word.span())
    return spans
