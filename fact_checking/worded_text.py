"""Read a text as words with roots, clauses and sentences, and claim that one text contradicts a word of another."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from clinical.facts import Fact, scoped_spans, sentences
from clinical.plain_form import plain_form
from fact_checking.claims import CONTRADICTED, ERROR, Claim, Contrast
from fact_checking.content_words import family, is_content_word

_TOKEN = re.compile(r"[A-Za-z][A-Za-z'’]*|\d+(?:[.,:/]\d+)*%?|[<>]")
_CLAUSE_END = re.compile(r"[.?!](?=\s|$)|[;\n]|\b(?:but|whereas|while|although)\b|->|→")
_MOST_MENTIONS = 20  # of one word of the note, a limit for long texts


class Said(NamedTuple):
    """A subject, and what the summary and the note say of it."""

    subject: str
    summary: str
    note: str


@dataclass(frozen=True)
class Word:
    """A word or number at `start` to `end` of the plain form, in lower case, and the number of its clause."""

    text: str
    start: int
    end: int
    clause: int

    @property
    def is_number(self) -> bool:
        return self.text[0].isdigit()

    @property
    def roots(self) -> frozenset[str]:
        """Return the forms under which the word is compared; a number has only itself."""
        return frozenset([self.text]) if self.is_number else family(self.text)


class Wording:
    """The words of one text in plain form, with indices by root."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.form = plain_form(text)
        ends = [match.start() for match in _CLAUSE_END.finditer(self.form.text)]
        self.words = [
            Word(match[0].lower(), match.start(), match.end(), bisect_right(ends, match.start()))
            for match in _TOKEN.finditer(self.form.text)
        ]
        self.content = [word for word in self.words if word.is_number or is_content_word(word.text)]
        self._starts = [word.start for word in self.content]

    @cached_property
    def by_root(self) -> dict[str, list[int]]:
        """Map each root to the indices of its first words in `content`."""
        found: dict[str, list[int]] = {}
        for index, word in enumerate(self.content):
            for root in word.roots:
                indices = found.setdefault(root, [])
                if len(indices) < _MOST_MENTIONS:
                    indices.append(index)
        return found

    @cached_property
    def scoped(self) -> list[Fact]:
        """Return the content words with the flags of their scope."""
        return scoped_spans(self._text, [(word.start, word.end) for word in self.content])

    def after(self, word: Word, reach: int) -> list[Word]:
        """Return the next content words of the clause, at most `reach`."""
        index = bisect_right(self._starts, word.start)
        return [each for each in self.content[index : index + reach] if each.clause == word.clause]

    def before(self, word: Word, reach: int) -> list[Word]:
        """Return the content words of the clause before the word, the nearest first, at most `reach`."""
        index = bisect_left(self._starts, word.start)
        return [each for each in self.content[max(0, index - reach) : index][::-1] if each.clause == word.clause]

    def span(self, word: Word) -> tuple[int, int]:
        """Return the span of the word in the original text."""
        return self.form.original_span(word.start, word.end)

    def written(self, word: Word) -> str:
        """Return the word as the original text has it."""
        return self._text[slice(*self.span(word))]

    def sentence_of(self, word: Word) -> tuple[int, str]:
        """Return (start, text) of the sentence of the original text that holds the word."""
        return self.sentence_at(self.span(word)[0])

    def sentence_at(self, place: int) -> tuple[int, str]:
        """Return (start, text) of the sentence that holds a place of the original text."""
        index = bisect_right(self._sentences, place, key=lambda bounds: bounds[0]) - 1
        start, end = self._sentences[max(0, index)]
        return start, self._text[start:end]

    @cached_property
    def _sentences(self) -> list[tuple[int, int]]:
        return sentences(self._text)

    def claim(self, kind: str, word: Word, note: Wording, told: Word, said: Said | None = None) -> Claim:
        """Return the claim that the word `told` of the note contradicts this word of the summary.

        `said` is the subject and what summary and note say of it; without it, they say the two words.
        """
        subject, in_summary, in_note = said or Said("", self.written(word), note.written(told))
        contrast = Contrast(subject, in_summary, in_note, *note.span(told))
        evidence_start, evidence = note.sentence_of(told)
        place = (self.written(word), *self.span(word))
        return Claim(kind, *place, CONTRADICTED, ERROR, evidence, evidence_start, contrast)
