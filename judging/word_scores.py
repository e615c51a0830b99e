"""Turn scores of tokens into scores of words, and words into stretches of a summary."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Protocol

from judging.packed_summaries import Span

LENGTH_PENALTY = 0.5  # of the sureness of a pair, per unit of |log(words of one text / words of the other)|
_WORD = re.compile(r"\w[\w'’]*(?:[./-]\w+)*|[^\w\s]")
_HAS_LETTER_OR_DIGIT = re.compile(r"\w")


@dataclass(frozen=True)
class WordScore:
    """A word `summary[start:end]`, or a mark of punctuation, and its score."""

    start: int
    end: int
    score: float


def word_scores(
    summary: str, tokens: Sequence[Span], scores: Sequence[float], join: Callable[[Sequence[float]], float]
) -> list[WordScore]:
    """Return the words of a summary with the joined scores of their tokens, such as `max` or `sum`.

    Words without a token are left out, and so is punctuation.
    """
    found = []
    for match in _WORD.finditer(summary):
        if not _HAS_LETTER_OR_DIGIT.search(match[0]):
            continue
        start, end = match.span()
        own = [score for (a, b), score in zip(tokens, scores, strict=True) if a < end and start < b]
        if own:
            found.append(WordScore(start, end, float(join(own))))
    return found


def stretches(words: Sequence[WordScore], threshold: float) -> list[WordScore]:
    """Join neighbouring words with scores of at least `threshold`; the score of a stretch is its highest."""
    joined: list[WordScore] = []
    previous_marked = False
    for word in words:
        is_marked = word.score >= threshold
        if is_marked and previous_marked:
            last = joined.pop()
            joined.append(WordScore(last.start, word.end, max(last.score, word.score)))
        elif is_marked:
            joined.append(word)
        previous_marked = is_marked
    return joined


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text, without case and punctuation; a decimal point is part of its number."""
    return re.findall(r"\w+(?:\.\d+)?", text.casefold())


def similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of words that both texts have in the same order, 0 to 1 (Ratcliff and Obershelp)."""
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def length_penalty(first: int, second: int) -> float:
    """Return what two texts of different numbers of words lose in sureness when they are paired."""
    return LENGTH_PENALTY * abs(math.log(max(first, 1) / max(second, 1)))


class Stretch(Protocol):
    """A part of a summary: a word, a claim or a sentence."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


def overlaps(stretch: Stretch, others: Iterable[Stretch]) -> bool:
    """Return whether a part of a summary shares a character with one of the others."""
    return any(stretch.start < other.end and other.start < stretch.end for other in others)
