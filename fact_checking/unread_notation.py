"""Find the parts of a written note that no rule reads, and the facts that they may state.

A claim that the note does not name is not wrong if the note has an abbreviation that may mean it: "HST" may be a
horseshoe tear. Such a claim is left open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from clinical.abbreviations import possible_meanings
from clinical.facts import Fact, extract_facts
from clinical.plain_form import plain_form
from clinical.values import FINDINGS
from fact_checking.comparison import NO_UNIT, numbers_in

_ABBREVIATION = re.compile(r"(?<![\w])(?=\w*[A-Z]\w*[A-Z])[A-Za-z]{2,6}(?![a-z])|(?<![\w])[A-Z]{2,6}(?=\d)")
_ATTACHED = re.compile(r"(?<=[A-Za-z#])\d+(?:\.\d+)?(?!\w)|(?<![\d.])\d+(?=/\d)|(?<=\d/)\d+(?![\d.])")
_NUMBER_IN_NAME = re.compile(r"(?<=[A-Za-z])\d+(?:[A-Za-z]\w*)?(?=\s)")  # "FiO2 40%", "HbA1c 58"
_TRUNCATED = re.compile(r"(?<!\w)[A-Za-z]{6,9}(?!\w)")
_WORD = re.compile(r"[A-Za-z]{2,}")
_LEAST_CUT = 2  # letters that a truncated word lacks at least
_JOINING = frozenset({"of", "the", "and", "to", "in", "with", "by", "for", "on", "or", "a"})
_NAMED = frozenset({*FINDINGS, "allergy", "family_history"})
_MEASURED = frozenset({"age", "dose", "duration", "follow_up", "frequency", "lab", "number", "vital", "date"})


class UnreadNotation:
    """The abbreviations, truncated words and numbers of one written note."""

    def __init__(self, note: str) -> None:
        self.note = note

    def may_state(self, fact: Fact) -> bool:
        """Return whether the note may state the fact in a form that no rule reads."""
        if fact.type in _NAMED:
            return self._is_abbreviated(fact)
        numbers = numbers_in(_NUMBER_IN_NAME.sub("", fact.text))
        return fact.type in _MEASURED and bool(numbers) and numbers <= self._numbers

    def denies(self, word: str) -> bool:
        """Return whether the note denies something that the word names."""
        denial = rf"\b(?:no|not|nil|without|denie[sd]|negative for)\b[^.;\n]{{0,40}}\b{re.escape(word)}"
        return re.search(denial, plain_form(self.note).text, re.IGNORECASE) is not None

    def _is_abbreviated(self, fact: Fact) -> bool:
        names = {fact.key, fact.text.lower()}
        if names & self._possible_names:
            return True
        return any(self._has_short_form(name) for name in names)

    def _has_short_form(self, name: str) -> bool:
        words = _WORD.findall(name.lower())
        if len(words) > 1:
            return not self._abbreviations.isdisjoint(_initials(words)) or self._has_short_ending(words)
        return bool(words) and any(_shortens(short, words[0]) for short in self._abbreviations | self._truncated)

    def _has_short_ending(self, words: list[str]) -> bool:
        """Return whether the note has the first words and the initials of the others: "bicuspid AV"."""
        return any(
            f"{' '.join(words[:cut])} {''.join(word[0] for word in words[cut:])}" in self._lower
            for cut in range(1, len(words) - 1)
        )

    @cached_property
    def _facts(self) -> list[Fact]:
        return extract_facts(self.note)

    @cached_property
    def _lower(self) -> str:
        return self.note.lower()

    @cached_property
    def _numbers(self) -> frozenset[str]:
        """Return the numbers without a unit or a noun: 5 in "finasteride 5 daily", 6 in "C6", 2 in "2/12"."""
        loose = (fact for fact in self._facts if fact.type in ("number", "date") and fact.key in NO_UNIT)
        attached = frozenset(_ATTACHED.findall(plain_form(self.note).text))
        return attached.union(*(numbers_in(fact.text) for fact in loose))

    @cached_property
    def _abbreviations(self) -> frozenset[str]:
        """Return the abbreviations that name no value, in lower case; one in the word lists may have other meanings."""
        read: set[int] = set()
        for fact in self._facts:  # "BP 120/80" names a value, and is no back pain
            if fact.type in _MEASURED:
                read.update(range(fact.start, fact.end))
        found = (match for match in _ABBREVIATION.finditer(self.note) if match.start() not in read)
        return frozenset(match[0].lower() for match in found)

    @cached_property
    def _truncated(self) -> frozenset[str]:
        return frozenset(word.lower() for word in _TRUNCATED.findall(self.note))

    @cached_property
    def _possible_names(self) -> frozenset[str]:
        """Return the names of the facts that abbreviations with several meanings may state."""
        meanings = (meaning for _, _, found in possible_meanings(self.note) for meaning in found)
        return frozenset(fact.key for meaning in meanings for fact in extract_facts(meaning))


def _initials(words: list[str]) -> Iterator[str]:
    yield "".join(word[0] for word in words)
    yield "".join(word[0] for word in words if word not in _JOINING)


def _shortens(short: str, word: str) -> bool:
    """Return whether `short` is the beginning of the word and lacks some letters of it."""
    return word.startswith(short) and len(word) >= len(short) + _LEAST_CUT
