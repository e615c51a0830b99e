"""Find the parts of a written note that no rule reads, and the facts that they may state.

A claim that the note does not name is not wrong if the note has an abbreviation that may mean it: "HST" may be a
horseshoe tear. Such a claim is left open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

from clinical.abbreviations import possible_meanings
from clinical.facts import Fact, extract_facts
from clinical.lexicons import abbreviations, on_change, phrase_table
from clinical.plain_form import plain_form
from clinical.values import FINDINGS
from fact_checking.comparison import NO_UNIT, numbers_in

_ABBREVIATION = re.compile(r"(?<![\w])(?=\w*[A-Z]\w*[A-Z])[A-Za-z]{2,6}(?![a-z])|(?<![\w])[A-Z]{2,6}(?=\d)")
_ATTACHED = re.compile(r"(?<=[A-Za-z#])\d+(?:\.\d+)?(?!\w)|(?<![\d.])\d+(?=/\d)|(?<=\d/)\d+(?![\d.])")
_NUMBER_IN_NAME = re.compile(r"(?<=[A-Za-z])\d+(?:[A-Za-z]\w*)?(?=\s)")  # "FiO2 40%", "HbA1c 58"
_TRUNCATED = re.compile(r"(?<!\w)[A-Za-z]{3,9}(?!\w)")
_LEAST_OF_WORD, _LEAST_OF_DRUG = 6, 3  # letters of a truncated word; short beginnings of other words mean too much
_SKELETON = re.compile(r"(?<!\w)(?:[A-Z]{2,5}|[b-df-hj-np-tv-xz]{3,5})(?!\w)")  # "MTX", "ppx"
_LEAST_OF_PHRASE, _LEAST_OF_CLIPPED = 3, 4  # letters of a clipped word of a longer name, and of a name of one word
_LONG = 6  # letters of a word that may be clipped
_OF_THE_BODY = frozenset(  # headings of an examination, which name no finding
    """abdo abd card cardio ext lower upper chest resp neuro pulm gast gastro thor vasc derm psych psycho ophth endo
    musc""".split()
)
# three and four letters that begin a word of their own
_WHOLE = frozenset(
    """per pro pre for non can car cal con dis int man mid min mod neg pos new not now old one out pan par pat ref rep
    sat son the tol two was wet all and any are but did end had has her him his how low may mum off our own red run she
    sit ten too via who yes you able also back been ante anti best both came case cold come cont dose each fell felt
    from full gave give good half hand have head here high home hour into just last left less lung made mild more most
    much need next none note once only oral over pain para past plan poor rest same seen self side sips skin slow soft
    some stop such take team than that them then they this time took unit used very walk want warm week well went were
    when wife will with work year""".split()
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_LEAST_CUT = 2  # letters that a truncated word lacks at least
_DOSE_REACH = 45  # characters after a drug in which a number without a unit may be its dose
_DOSE_UNIT = r"(?:mg|mcg|[µμ]g|micrograms?|g|grams?|ml|l|units?|u|iu|meq|mmol|puffs?|tabs?)\b"
_BARE = re.compile(rf"(?<![\d.])\d+(?:\.\d+)?(?![\d.]|\s?{_DOSE_UNIT}|%| ?(?:->|→|=>))")
_ENDS_DOSES = re.compile(r"[;\n]|\. ")
_TERSE = 0.12  # rewrites and abbreviations for each word; prose has less than 0.11, shorthand 0.18 or more
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
        if fact.type == "frequency":
            return fact.value in (self._frequencies if self.is_terse else self._loose_frequencies)
        numbers = numbers_in(_NUMBER_IN_NAME.sub("", fact.text))
        return fact.type in _MEASURED and bool(numbers) and numbers <= self._numbers

    @cached_property
    def is_terse(self) -> bool:
        """Return whether the note is written in telegram style, of which the rules cannot know every short form."""
        form, words = plain_form(self.note), _WORD.findall(self.note)
        short = len(form.changes) + sum(1 for _ in _ABBREVIATION.finditer(form.text))
        return short >= _TERSE * len(words)

    def may_also_state(self, fact: Fact) -> bool:
        """Return whether the note may have the dose or frequency besides the one that contradicts it.

        That is a number without a unit shortly after the drug ("clozapine 350 mg/d (150 mane/200 nocte)"), or a
        frequency that belongs to no drug that the rules know ("MF 500 mg OD, -> BD after 1/52").
        """
        if fact.type == "frequency":
            return fact.value in self._loose_frequencies
        numbers = numbers_in(fact.text) if fact.type == "dose" else frozenset[str]()
        return any(numbers <= self._numbers_after(drug) for drug in self._facts if numbers and _is_of(drug, fact.key))

    def _numbers_after(self, drug: Fact) -> frozenset[str]:
        after = self.note[drug.end : drug.end + _DOSE_REACH]
        return frozenset(_BARE.findall(_ENDS_DOSES.split(after, 1)[0]))

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
        if any(self._has_short_form(name, is_drug=fact.type == "drug") for name in names):
            return True
        return self.is_terse and fact.type != "drug" and any(map(self._has_clipped_word, names))

    def _has_clipped_word(self, name: str) -> bool:
        """Return whether a note in telegram style has the beginning of a word of the name: "panc ca", "tib #"."""
        words = _WORD.findall(name)
        least = _LEAST_OF_PHRASE if len(words) > 1 else _LEAST_OF_CLIPPED
        clipped = {short for short in self._truncated - _OF_THE_BODY if len(short) >= least}
        return any(len(word) >= _LONG and _shortens(short, word) for word in words for short in clipped)

    def _has_short_form(self, name: str, *, is_drug: bool) -> bool:
        """Return whether the note has the initials of the name, its first letters or its consonants."""
        words = _WORD.findall(name.lower())
        least = _LEAST_OF_DRUG if is_drug else _LEAST_OF_WORD
        if len(words) > 1:
            return not self._abbreviations.isdisjoint(_initials(words)) or self._has_short_ending(words)
        cut = {word for word in self._truncated if len(word) >= least}
        if not words:
            return False
        if any(_shortens(short, words[0]) for short in self._abbreviations | cut):
            return True
        return is_drug and any(_is_skeleton(short, words[0]) for short in self._skeletons)

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
        found = (match for match in _ABBREVIATION.finditer(self.note) if match.start() not in self._read)
        return frozenset(match[0].lower() for match in found)

    @cached_property
    def _read(self) -> frozenset[int]:
        """Return the places in names of values: "BP 120/80" is no back pain."""
        measured = (fact for fact in self._facts if fact.type in _MEASURED)
        return frozenset(place for fact in measured for place in range(fact.start, fact.end))

    @cached_property
    def _truncated(self) -> frozenset[str]:
        return frozenset(word.lower() for word in _TRUNCATED.findall(self.note)) - _WHOLE

    @cached_property
    def _skeletons(self) -> frozenset[str]:
        """Return the abbreviations of a few capitals or consonants that the word lists do not have, in lower case."""
        found = (match for match in _SKELETON.finditer(self.note) if match.start() not in self._read)
        return frozenset(match[0].lower() for match in found) - abbreviations().keys()

    @cached_property
    def _possible_names(self) -> frozenset[str]:
        """Return the names of the facts that abbreviations with several meanings may state."""
        meanings = (meaning for _, _, found in possible_meanings(self.note) for meaning in found)
        return frozenset(fact.key for meaning in meanings for fact in extract_facts(meaning))


def _is_of(drug: Fact, key: str) -> bool:
    return drug.type == "drug" and drug.value == key


def _initials(words: list[str]) -> Iterator[str]:
    yield "".join(word[0] for word in words)
    yield "".join(word[0] for word in words if word not in _JOINING)


def _shortens(short: str, word: str) -> bool:
    """Return whether `short` is the beginning of the word and lacks some letters of it."""
    return word.startswith(short) and len(word) >= len(short) + _LEAST_CUT


def _is_skeleton(short: str, word: str) -> bool:
    """Return whether the letters of `short` are in the word in this order, its first letter at the beginning."""
    letters = iter(word)
    return word[0] == short[0] and len(word) >= len(short) + _LEAST_CUT and all(letter in letters for letter in short)


@lru_cache(maxsize=512)
def _other_names(kind: str, key: str) -> frozenset[str]:
    """Return the synonyms of one word that the lexicon has for a name."""
    return frozenset(
        phrase[0]
        for phrase, term in phrase_table()[0].items()
        if (term.type, term.name) == (kind, key) and len(phrase) == 1
    )


on_change(_other_names.cache_clear)
