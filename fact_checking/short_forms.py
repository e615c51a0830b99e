"""Find the short forms in which a typed note may write a name: initials, clipped words, consonants.

"HST" may be a horseshoe tear, "amlod" amlodipine, "panc ca" pancreatic cancer, "MTX" methotrexate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import cached_property

from clinical.lexicons import abbreviations

ABBREVIATION = re.compile(r"(?<![\w])(?=\w*[A-Z]\w*[A-Z])[A-Za-z]{2,6}(?![a-z])|(?<![\w])[A-Z]{2,6}(?=\d)")
_CLIPPED = re.compile(r"(?<!\w)[A-Za-z]{3,9}(?!\w)")
_SKELETON = re.compile(r"(?<!\w)(?:[A-Z]{2,5}|[b-df-hj-np-tv-xz]{3,5})(?!\w)")  # "MTX", "ppx"
_WORD = re.compile(r"[A-Za-z]{2,}")
_LEAST_CUT = 2  # letters that a clipped word lacks at least
# letters that a clipped word has at least: short beginnings of other words than names of drugs mean too much
_LEAST_OF_WORD, _LEAST_OF_DRUG, _LEAST_OF_ABBREVIATION = 6, 3, 2
_LEAST_OF_PHRASE, _LEAST_OF_NAME = 3, 4  # the same in telegram style: of one of several words, of a name of one word
_LONG = 6  # letters of a word that is clipped in telegram style
_MOST = 9  # letters of a clipped word
_OF_THE_BODY = frozenset(  # headings of an examination, which name no finding
    """abdo abd card cardio ext lower upper chest resp neuro pulm gast gastro thor vasc derm psych psycho ophth endo
    musc""".split()
)
# three and four letters that are a word of their own
_WHOLE = frozenset(
    """per pro pre for non can car cal con dis int man mid min mod neg pos new not now old one out pan par pat ref rep
    sat son the tol two was wet all and any are but did end had has her him his how low may mum off our own red run she
    sit ten too via who yes you able also back been ante anti best both came case cold come cont dose each fell felt
    from full gave give good half hand have head here high home hour into just last left less lung made mild more most
    much need next none note once only oral over pain para past plan poor rest same seen self side sips skin slow soft
    some stop such take team than that them then they this time took unit used very walk want warm week well went were
    when wife will with work year""".split()
)
_JOINING = frozenset({"of", "the", "and", "to", "in", "with", "by", "for", "on", "or", "a"})


class ShortForms:
    """The abbreviations and clipped words of a note, in lower case. `read` are the places that name values."""

    def __init__(self, note: str, read: Set[int]) -> None:
        self._note = note
        self._read = read

    def have(self, name: str, *, is_drug: bool) -> bool:
        """Return whether the note has the initials of the name, its first letters or, of a drug, its consonants."""
        words = _WORD.findall(name.lower())
        if len(words) > 1:
            return not self._abbreviations.isdisjoint(_initials(words)) or self._has_short_ending(words)
        if not words:
            return False
        least = _LEAST_OF_DRUG if is_drug else _LEAST_OF_WORD
        if _begins(words[0], self._abbreviations, _LEAST_OF_ABBREVIATION) or _begins(words[0], self._clipped, least):
            return True
        return is_drug and any(_is_skeleton(short, words[0]) for short in self._skeletons.get(words[0][0], ()))

    def have_clipped_word(self, name: str) -> bool:
        """Return whether the note has the beginning of one word of the name: "panc ca", "tib #"."""
        words = _WORD.findall(name.lower())
        least = _LEAST_OF_PHRASE if len(words) > 1 else _LEAST_OF_NAME
        return any(len(word) >= _LONG and _begins(word, self._clipped_findings, least) for word in words)

    def _has_short_ending(self, words: list[str]) -> bool:
        """Return whether the note has the first words and the initials of the others: "bicuspid AV"."""
        return any(
            f"{' '.join(words[:cut])} {''.join(word[0] for word in words[cut:])}" in self._lower
            for cut in range(1, len(words) - 1)
        )

    @cached_property
    def _lower(self) -> str:
        return self._note.lower()

    @cached_property
    def _abbreviations(self) -> frozenset[str]:
        """Return the abbreviations that name no value; one in the word lists may have other meanings."""
        return self._found(ABBREVIATION)

    @cached_property
    def _clipped(self) -> frozenset[str]:
        return frozenset(word.lower() for word in _CLIPPED.findall(self._note)) - _WHOLE

    @cached_property
    def _clipped_findings(self) -> frozenset[str]:
        return self._clipped - _OF_THE_BODY

    @cached_property
    def _skeletons(self) -> dict[str, list[str]]:
        """Map first letters to the abbreviations of capitals or consonants that the word lists do not have."""
        by_letter: dict[str, list[str]] = {}
        for short in sorted(self._found(_SKELETON) - abbreviations().keys()):
            by_letter.setdefault(short[0], []).append(short)
        return by_letter

    def _found(self, pattern: re.Pattern[str]) -> frozenset[str]:
        found = (match for match in pattern.finditer(self._note) if match.start() not in self._read)
        return frozenset(match[0].lower() for match in found)


def _initials(words: list[str]) -> Iterator[str]:
    yield "".join(word[0] for word in words)
    yield "".join(word[0] for word in words if word not in _JOINING)


def _begins(word: str, shorts: Set[str], least: int) -> bool:
    """Return whether one of the short words is the beginning of the word and lacks some letters of it."""
    return any(word[:length] in shorts for length in range(least, min(len(word) - _LEAST_CUT, _MOST) + 1))


def _is_skeleton(short: str, word: str) -> bool:
    """Return whether the letters of `short`, which has the first letter of the word, are in it in this order."""
    letters = iter(word)
    return len(word) >= len(short) + _LEAST_CUT and all(letter in letters for letter in short)
