"""Prepare wrong claims for a page: marked in the summary, listed below it, and linked to sentences of the note.

(flags,) = number_flags([claims], sentences(note), "x1")      # claims as in the column unsupported_spans
segments(summary, flags)                                      # the summary, cut at its wrong claims
note_pieces(note, sentences(note), flags, cited=())           # the note, cut at the sentences they point to
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

WIDEST_QUOTE = 240  # characters; a judge's evidence may be pages long
Span = dict[str, Any]
Bounds = Sequence[tuple[int, int]]
Part = tuple[str, bool]  # a piece of a text, and whether it is marked


@dataclass(frozen=True)
class Flag:
    """A wrong claim. An error has a number, which the summary, the list below it and the note show."""

    span: Span
    example: str  # prefix of the anchors
    number: int | None = None
    sentence: int | None = None  # number of the note's sentence about it

    @property
    def mark(self) -> str:
        """Return the anchor of the words in the summary."""
        return f"{self.example}-mark{self.number}"

    @property
    def entry(self) -> str:
        """Return the anchor of the entry in the list of errors."""
        return f"{self.example}-error{self.number}"

    @property
    def target(self) -> str:
        """Return the anchor that the words link to: the note's sentence, or the list if there is none."""
        return self.entry if self.sentence is None else f"{self.example}-s{self.sentence}"

    @property
    def contrast(self) -> Span | None:
        """Return what summary and note say differently, if the judge knows it."""
        return self.span.get("contrast")

    @property
    def told(self) -> tuple[int, int] | None:
        """Return the span of the note's words that contradict the claim, if they are known."""
        return (self.contrast["start"], self.contrast["end"]) if self.contrast else None

    @property
    def evidence(self) -> list[Part]:
        """Return the quoted sentence of the note, with the words that contradict the claim marked."""
        quote = self.span["evidence"] or ""
        first = 0
        if self.told and self.told[1] - self.span["evidence_start"] > WIDEST_QUOTE:
            first = max(0, self.told[0] - self.span["evidence_start"] - WIDEST_QUOTE // 2)
        cut = quote[first : first + WIDEST_QUOTE]
        parts = parts_of(cut, [self.told] if self.told else [], first + (self.span["evidence_start"] or 0))
        ends = ("… " * (first > 0), " …" * (first + WIDEST_QUOTE < len(quote)))
        return [part for part in ((ends[0], False), *parts, (ends[1], False)) if part[0]]


@dataclass(frozen=True)
class Segment:
    """A piece of a summary. `flags` are its wrong claims, the marked one first."""

    text: str
    flags: tuple[Flag, ...] = ()
    parts: tuple[Part, ...] = ()  # the text, with the words that differ from other summaries marked


@dataclass(frozen=True)
class NotePiece:
    """A piece of a note. `sentence` is its number if a claim or citation refers to it; `flags` are these claims."""

    text: str
    sentence: int | None = None
    flags: tuple[Flag, ...] = ()
    is_cited: bool = False
    parts: tuple[Part, ...] = ()  # the text, with the words that contradict a claim marked


def number_flags(sides: Sequence[Sequence[Span]], bounds: Bounds, example: str) -> list[list[Flag]]:
    """Return the claims of each side as flags. Errors are numbered from 1 across all sides."""
    numbers = count(1)
    return [
        [
            Flag(span, example, next(numbers), sentence_at(bounds, span["evidence_start"]))
            if span["level"] == "error"
            else Flag(span, example)
            for span in spans
        ]
        for spans in sides
    ]


def sentence_at(bounds: Bounds, offset: int | None) -> int | None:
    """Return the number, from 1, of the sentence at this offset of the note, or of the sentence before it."""
    if offset is None or not bounds:
        return None
    return max(1, bisect_right(bounds, (offset, sys.maxsize)))


def segments(text: str, flags: Sequence[Flag], different: Bounds = ()) -> list[Segment]:
    """Split a summary at its flags, and mark the words at the spans `different` in each piece.

    Of overlapping flags only one is marked: an error before a word for review, then the earliest, then the longest.
    Other errors at the same place are added to its segment.
    """
    chosen: list[list[Flag]] = []
    for flag in sorted(flags, key=lambda flag: (flag.number is None, flag.span["start"], -flag.span["end"])):
        group = next((group for group in chosen if _overlap(group[0].span, flag.span)), None)
        if group is None:
            chosen.append([flag])
        elif flag.number:
            group.append(flag)
    groups: list[tuple[int, int, tuple[Flag, ...]]] = []
    position = 0
    for group in sorted(chosen, key=lambda group: int(group[0].span["start"])):
        start, end = group[0].span["start"], group[0].span["end"]
        groups += [(position, start, ()), (start, end, tuple(group))]
        position = end
    return [
        Segment(text[start:end], group, _marked(text[start:end], different, start))
        for start, end, group in [*groups, (position, len(text), ())]
        if start < end
    ]


def _marked(text: str, spans: Bounds, offset: int) -> tuple[Part, ...]:
    """Return the parts of a text, or () if nothing in it is marked."""
    parts = parts_of(text, spans, offset)
    return tuple(parts) if any(is_marked for _, is_marked in parts) else ()


def parts_of(text: str, spans: Bounds, offset: int = 0) -> list[Part]:
    """Split a text that begins at `offset` of a longer text at the spans, which count from the start of the latter."""
    parts, position = [], 0
    for first, last in sorted(spans):
        start, end = max(first - offset, position), min(last - offset, len(text))
        if start < end:
            parts += [(text[position:start], False), (text[start:end], True)]
            position = end
    return [part for part in [*parts, (text[position:], False)] if part[0]]


def _overlap(one: Span, other: Span) -> bool:
    return bool(one["start"] < other["end"] and other["start"] < one["end"])


def note_pieces(note: str, bounds: Bounds, flags: Sequence[Flag], cited: Collection[int]) -> list[NotePiece]:
    """Split a note at the sentences that flags or citations refer to. Cited sentences that do not exist are ignored."""
    pointed = {flag.sentence for flag in flags if flag.sentence is not None} | set(cited)
    pieces, position = [], 0
    for number in sorted(pointed & set(range(1, len(bounds) + 1))):
        start, end = bounds[number - 1]
        here = tuple(flag for flag in flags if flag.sentence == number)
        parts = _marked(note[start:end], [flag.told for flag in here if flag.told], start)
        pieces += [NotePiece(note[position:start])]
        pieces += [NotePiece(note[start:end], number, here, number in cited, parts)]
        position = end
    return [piece for piece in [*pieces, NotePiece(note[position:])] if piece.text]
