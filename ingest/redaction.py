"""Replace identifiers with tags: [NAME_A], [DATE_B]. Equal identifiers of one patient get equal tags.

Patterns find dates (the year is kept), phone numbers, e-mail addresses, record numbers, names after a title or a label,
addresses, and ages over 89. They cannot find a name without a title or a label, a place or an employer in a sentence, a
rare disease or event that gives a person away, or what is misspelled. A person has to read the text before it is
shared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.identifiers import AGE, COMPILED, DATE, KINDS, NAME, YEAR_IN_DATE
from ingest.records import Record

LIMITS = (
    "patterns find no name without a title or a label or in small letters, no place or employer in a sentence and no "
    "misspelled identifier; a person has to read the texts before they are shared"
)


@dataclass(frozen=True)
class Identifier:
    """What a pattern found: `text[start:end]` is of this kind."""

    kind: str
    start: int
    end: int


def identifiers(text: str) -> list[Identifier]:
    """Return the identifiers of a text in its order, without overlaps. A longer one wins over what it overlaps."""
    found = [
        Identifier(kind, *match.span("id" if "id" in pattern.groupindex else 0))
        for kind in KINDS
        for pattern in COMPILED[kind]
        for match in pattern.finditer(text)
    ]
    kept: list[Identifier] = []
    taken = bytearray(len(text))
    for each in sorted(found, key=lambda item: (item.start - item.end, KINDS.index(item.kind), item.start)):
        if taken.find(1, each.start, each.end) < 0:
            kept.append(each)
            _take(taken, each)
    return sorted(kept, key=lambda item: item.start)


def _take(taken: bytearray, item: Identifier) -> None:
    taken[item.start : item.end] = b"\1" * (item.end - item.start)


class Redactor:
    """Replaces the identifiers in all texts of one patient, and counts them by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._tags: dict[tuple[str, str], str] = {}
        self._used = Counter[str]()  # tags of each kind

    def redact(self, texts: Sequence[str]) -> list[str]:
        """Return the texts with tags. A name with a title is also replaced where a text has it without the title."""
        found = [identifiers(text) for text in texts]
        names = {
            word
            for text, items in zip(texts, found, strict=True)
            for item in items
            if item.kind == NAME
            for word in re.findall(r"[^\W\d_][\w'’-]+", text[item.start : item.end])
            if word[0].isupper()
        }
        return [self._replaced(text, items, names) for text, items in zip(texts, found, strict=True)]

    def _replaced(self, text: str, items: Sequence[Identifier], names: set[str]) -> str:
        taken = bytearray(len(text))
        for item in items:
            _take(taken, item)
        again = [
            Identifier(NAME, *match.span())
            for name in sorted(names)
            for match in re.finditer(rf"\b{re.escape(name)}\b", text)
            if taken.find(1, *match.span()) < 0
        ]
        pieces, done = [], 0
        for item in sorted([*items, *again], key=lambda item: item.start):
            if item.start < done:
                continue
            self.counts[item.kind] += 1
            pieces += [text[done : item.start], self._tag(item.kind, text[item.start : item.end])]
            done = item.end
        return "".join([*pieces, text[done:]])

    def _tag(self, kind: str, value: str) -> str:
        if kind == AGE:
            return "[AGE]"  # one category for all ages over 89
        year = YEAR_IN_DATE.search(value) if kind == DATE else None
        # a name is known by its last word, so that "Ms. Anna Smith" and "Ms. Smith" are one
        key = value.split()[-1] if kind == NAME else " ".join(value.split())
        known = (kind, key.lower())
        if known not in self._tags:
            self._tags[known] = f"[{kind}_{_letters(self._used[kind])}]"
            self._used[kind] += 1
        tag = self._tags[known]
        return f"{tag} {year[0]}" if year else tag


def _letters(number: int) -> str:
    """Return A, B, ... Z, AA, AB for 0, 1, ... Letters, because the fact checker would read digits as values."""
    letters = ""
    number += 1
    while number:
        number, place = divmod(number - 1, 26)
        letters = chr(ord("A") + place) + letters
    return letters


def redacted(records: Sequence[Record]) -> tuple[list[Record], Counter[str]]:
    """Return the records with tags and with neutral ids, and the number of identifiers replaced by kind.

    Tags are stable within a group, or within a note if the records have no group.
    """
    redactors: dict[str, Redactor] = {}
    found = []
    for number, record in enumerate(records, start=1):
        redactor = redactors.setdefault(record.group or record.note, Redactor())
        note, summary = redactor.redact([record.note, record.summary])
        found.append(replace(record, id=f"row-{number:05d}", note=note, summary=summary))
    return found, sum((redactor.counts for redactor in redactors.values()), Counter())
