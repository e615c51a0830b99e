"""The phrases of a summary, and the words of it that an assessor means."""

from __future__ import annotations

import re

from assessment.keys import unquoted
from assessment.ratings import find_all_words
from clinical.text import sentences

Span = tuple[int, int]  # start, end: characters from the beginning of the summary

FEWEST_WORDS = 2  # of a phrase; a shorter one joins the next
_NEXT_PHRASE = re.compile(r"(?<=[,;])\s+|\s+(?=\()|\s+(?=(?:and|but|with|without|which|who|because)\s)", re.IGNORECASE)
_NUMBERS = re.compile(r"(\d{1,3})(?:\s*-\s*(\d{1,3}))?")
_CONTEXT = 25  # characters shown on each side of an occurrence


def phrases(summary: str) -> list[Span]:
    """Return the phrases of a summary: its sentences, divided at commas and at words such as "and" and "with"."""
    return [phrase for start, end in sentences(summary) for phrase in _phrases_of(summary, start, end)]


def _phrases_of(summary: str, start: int, end: int) -> list[Span]:
    found: list[Span] = []
    for gap in _NEXT_PHRASE.finditer(summary, start, end):
        if len(summary[start : gap.start()].split()) >= FEWEST_WORDS:
            found.append((start, gap.start()))
            start = gap.end()
    if found and len(summary[start:end].split()) < FEWEST_WORDS:
        start = found.pop()[0]
    return [*found, (start, end)]


def sentence_of(span: Span, summary: str) -> Span:
    """Return the sentence in which a span begins."""
    return next((each for each in sentences(summary) if each[0] <= span[0] < each[1]), span)


def numbered(summary: str) -> str:
    """Return the summary with `[1] ` before its first phrase, `[2] ` before its second, and so on."""
    pieces, end = [], 0
    for number, (start, _) in enumerate(phrases(summary), start=1):
        pieces += [summary[end:start], f"[{number}] "]
        end = start
    return "".join([*pieces, summary[end:]])


def numbered_words(answer: str, summary: str) -> Span | None:
    """Return the words that `3` or `3-5` means; None if the answer is no number of a phrase."""
    match = _NUMBERS.fullmatch(answer.strip())
    places = phrases(summary)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    return (places[first - 1][0], places[last - 1][1]) if 1 <= first <= last <= len(places) else None


def places_meant(answer: str, summary: str) -> list[Span]:
    """Return every place that an answer may mean: the phrase with this number, or all occurrences of these words."""
    span = numbered_words(answer, summary)
    return [span] if span else find_all_words(unquoted(answer), summary)


def in_context(span: Span, summary: str) -> str:
    """Return the words in brackets, with a few characters before and after them, on one line."""
    start, end = span
    before, after = summary[max(0, start - _CONTEXT) : start], summary[end : end + _CONTEXT]
    left, right = "..." * (start > _CONTEXT), "..." * (end + _CONTEXT < len(summary))
    return " ".join(f"{left}{before}[{summary[start:end]}]{after}{right}".split())
