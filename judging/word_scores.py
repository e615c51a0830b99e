"""Turn scores of tokens into scores of words, and words into stretches of a summary."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from judging.packed_summaries import Span

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
