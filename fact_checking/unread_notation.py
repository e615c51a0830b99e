"""Find the parts of a written note that no rule reads, and the facts that they may state.

A claim that the note does not name is not wrong if the note has an abbreviation that may mean it: "HST" may be a
horseshoe tear. Such a claim is left open.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache

from clinical.abbreviations import possible_meanings
from clinical.facts import Fact, extract_facts
from clinical.lexicons import on_change, phrase_table
from clinical.plain_form import plain_form
from clinical.values import FINDINGS
from fact_checking.comparison import NO_UNIT, numbers_in
from fact_checking.short_forms import ABBREVIATION, ShortForms

_ATTACHED = re.compile(r"(?<=[A-Za-z#])\d+(?:\.\d+)?(?!\w)|(?<![\d.])\d+(?=/\d)|(?<=\d/)\d+(?![\d.])")
_NUMBER_IN_NAME = re.compile(r"(?<=[A-Za-z])\d+(?:[A-Za-z]\w*)?(?=\s)")  # "FiO2 40%", "HbA1c 58"
_WORD = re.compile(r"[A-Za-z]{2,}")
_DOSE_REACH = 45  # characters after a drug in which a number without a unit may be its dose
_DOSE_UNIT = r"(?:mg|mcg|[µμ]g|micrograms?|g|grams?|ml|l|units?|u|iu|meq|mmol|puffs?|tabs?)\b"
_BARE = re.compile(rf"(?<![\d.])\d+(?:\.\d+)?(?![\d.]|\s?{_DOSE_UNIT}|%| ?(?:->|→|=>))")
_ENDS_DOSES = re.compile(r"[;\n]|\. ")
_TERSE = 0.12  # rewrites and abbreviations for each word; prose has less than 0.11, nearly all shorthand 0.18 or more
_NAMED = frozenset({*FINDINGS, "allergy", "family_history"})
_MEASURED = frozenset({"age", "dose", "duration", "follow_up", "frequency", "lab", "number", "vital", "date"})


class UnreadNotation:
    """The short forms and numbers of one written note."""

    def __init__(self, note: str) -> None:
        self.note = note

    def may_state(self, fact: Fact) -> bool:
        """Return whether the note may state the fact in a form that no rule reads."""
        if fact.type in _NAMED:
            return self._is_abbreviated(fact)
        if fact.type == "frequency":
            return fact.value in (self._frequencies if self.is_terse else self._loose_frequencies)
        numbers = numbers_in(_NUMBER_IN_NAME.sub("", fact.text))
        return fact.type in _MEASURED and bool(numbers) and numbers <= self._numbers

    @cached_property
    def is_terse(self) -> bool:
        """Return whether the note is written in telegram style, of which the rules cannot know every short form."""
        form, words = plain_form(self.note), _WORD.findall(self.note)
        short = len(form.changes) + sum(1 for _ in ABBREVIATION.finditer(form.text))
        return short >= _TERSE * len(words)

    def may_also_state(self, fact: Fact) -> bool:
        """Return whether the note may have the dose or frequency besides the one that contradicts it.

        That is a number without a unit shortly after the drug ("clozapine 350 mg/d (150 mane/200 nocte)"), or a
        frequency that belongs to no drug that the rules know ("MF 500 mg OD, -> BD after 1/52").
        """
        if fact.type == "frequency":
            return fact.value in self._loose_frequencies
        numbers = numbers_in(fact.text) if fact.type == "dose" else frozenset[str]()
        return bool(numbers) and numbers <= self._bare_doses.get(fact.key, set())

    @cached_property
    def _bare_doses(self) -> dict[str, set[str]]:
        """Map each drug to the numbers without a unit that follow it in the note."""
        found: dict[str, set[str]] = {}
        for drug in self._facts:
            if drug.type == "drug":
                after = self.note[drug.end : drug.end + _DOSE_REACH]
                found.setdefault(drug.value, set()).update(_BARE.findall(_ENDS_DOSES.split(after, 1)[0]))
        return found

    @cached_property
    def _frequencies(self) -> frozenset[str]:
        return frozenset(fact.value for fact in self._facts if fact.type == "frequency")

    @cached_property
    def _loose_frequencies(self) -> frozenset[str]:
        return frozenset(fact.value for fact in self._facts if fact.type == "frequency" and not fact.key)

    def denies(self, word: str) -> bool:
        """Return whether the note denies something that the word names."""
        denial = rf"\b(?:no|not|nil|without|denie[sd]|negative for)\b[^.;\n]{{0,40}}\b{re.escape(word)}"
        return re.search(denial, plain_form(self.note).text, re.IGNORECASE) is not None

    def _is_abbreviated(self, fact: Fact) -> bool:
        names = {fact.key, fact.text.lower()}
        if names & self._possible_names:
            return True
        if fact.type == "drug":
            names |= _other_names("drug", fact.key)
        if any(self._short_forms.have(name, is_drug=fact.type == "drug") for name in names):
            return True
        return self.is_terse and fact.type != "drug" and any(map(self._short_forms.have_clipped_word, names))

    @cached_property
    def _facts(self) -> list[Fact]:
        return extract_facts(self.note)

    @cached_property
    def _numbers(self) -> frozenset[str]:
        """Return the numbers without a unit or a noun: 5 in "finasteride 5 daily", 6 in "C6", 2 in "2/12"."""
        loose = (fact for fact in self._facts if fact.type in ("number", "date") and fact.key in NO_UNIT)
        attached = frozenset(_ATTACHED.findall(plain_form(self.note).text))
        return attached.union(*(numbers_in(fact.text) for fact in loose))

    @cached_property
    def _read(self) -> frozenset[int]:
        """Return the places in names of values: "BP 120/80" is no back pain."""
        measured = (fact for fact in self._facts if fact.type in _MEASURED)
        return frozenset(place for fact in measured for place in range(fact.start, fact.end))

    @cached_property
    def _short_forms(self) -> ShortForms:
        return ShortForms(self.note, self._read)

    @cached_property
    def _possible_names(self) -> frozenset[str]:
        """Return the names of the facts that abbreviations with several meanings may state."""
        meanings = (meaning for _, _, found in possible_meanings(self.note) for meaning in found)
        return frozenset(fact.key for meaning in meanings for fact in extract_facts(meaning))


@lru_cache(maxsize=512)
def _other_names(kind: str, key: str) -> frozenset[str]:
    """Return the synonyms of one word that the lexicon has for a name."""
    return frozenset(
        phrase[0]
        for phrase, term in phrase_table()[0].items()
        if (term.type, term.name) == (kind, key) and len(phrase) == 1
    )


on_change(_other_names.cache_clear)
