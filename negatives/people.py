"""Editors of persons: the patient's sex, the name of a relative, and the patient or a relative as the subject."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from clinical.facts import Fact
from negatives.case import (
    Candidate,
    Case,
    Replacement,
    capital_like,
    cased_like,
    one_replacement,
    rewordings,
    rules,
    shuffled,
)

_OTHER_SEX = {
    "woman": "man",
    "female": "male",
    "lady": "gentleman",
    "girl": "boy",
    "she": "he",
    "hers": "his",
    "herself": "himself",
    "f": "m",
    "mrs": "mr",
    "ms": "mr",
}
_OTHER_SEX |= {new: old for old, new in _OTHER_SEX.items() if new not in ("his", "mr")} | {
    "his": "her",
    "him": "her",
    "mr": "ms",
}
# words that imply a sex: they would contradict the changed sex within the summary
SEXED = re.compile(
    r"\b(?:pregnan\w*|menstru\w*|menopaus\w*|vaginal|ovar\w*|uter\w*|hysterectomy|gravida|cervical|pap smear|"
    r"prostat\w*|testic\w*|penile|penis|scrot\w*|vasectomy|erectile|husband|wife|miss|mother|father|brother|sister|"
    r"daughter|son|uncle|aunt|breast\w*|g\d+\s?p\d+|iud|midwife|mom|dad|boyfriend|girlfriend)\b",
    re.IGNORECASE,
)


def edit_sex(case: Case, rng: random.Random) -> Iterator[Candidate]:
    del rng  # there is only one way to change it
    facts = case.of_type("sex")
    if SEXED.search(case.text) or len({fact.value for fact in facts}) != 1:
        return
    if not any(fact.key == "patient" for fact in facts) or any(
        f.text.lower() not in {*_OTHER_SEX, "her"} for f in facts
    ):
        return
    changes = [Replacement(fact.start, fact.end, _other_sex(case.text, fact)) for fact in facts]
    yield Candidate(tuple(changes))


_AFTER_OBJECT = re.compile(
    r"\s*(?:$|[.,;:)]|(?:to|for|with|in|on|at|and|or|that|from|as|by|when|if|was|is|has|had|because|after|before)\b)"
)


def _other_sex(text: str, fact: Fact) -> str:
    if fact.text.lower() == "her":  # a possessive before a noun, else an object
        return cased_like(fact.text, "him" if _AFTER_OBJECT.match(text, fact.end) else "his")
    return cased_like(fact.text, _OTHER_SEX[fact.text.lower()])


_RELATIVES = {
    "mother": ("father", "sister"),
    "father": ("mother", "brother"),
    "sister": ("brother", "mother"),
    "brother": ("sister", "father"),
    "grandmother": ("grandfather", "aunt"),
    "grandfather": ("grandmother", "uncle"),
    "uncle": ("aunt", "grandfather"),
    "aunt": ("uncle", "grandmother"),
    "son": ("daughter",),
    "daughter": ("son",),
}
_PRONOUN = re.compile(r"\b(?:he|she|his|her|him)\b", re.IGNORECASE)
_STOP = re.compile(r"[.;]\s+|[.;\n]")


def edit_relative(case: Case, rng: random.Random) -> Iterator[Candidate]:
    told = {fact.value for fact in case.of_type("family_history")}
    mentions = [
        match
        for match in re.finditer(rf"\b(?:{'|'.join(_RELATIVES)})\b", case.text, re.IGNORECASE)
        if any(value.endswith(match[0].lower()) for value in told)
    ]
    # a relative whom the summary already names could die twice
    unnamed = {other for other in _RELATIVES if mentions and not re.search(rf"\b{other}", case.text, re.IGNORECASE)}
    for match in shuffled(mentions, rng):
        if not _pronoun_follows(case, match.end()):
            others = [other for other in _RELATIVES[match[0].lower()] if other in unnamed]
            for other in case.corpus.in_proportion("relative", others, rng):
                yield one_replacement(match.start(), match.end(), cased_like(match[0], other))


def _pronoun_follows(case: Case, place: int) -> bool:
    """Return whether a pronoun that may refer to the relative follows: "Her brother had a stroke. He smokes."."""
    start, end = case.occurrences(_STOP).following(place)
    goes_on = end - start > 1  # by a full stop or semicolon and a blank, so that the next clause counts too
    return case.follows(_PRONOUN, place, _STOP) or (goes_on and case.follows(_PRONOUN, end, _STOP))


_END = r"(?= (?:has|had|was diagnosed with) (?:a )?[a-z0-9][a-z0-9' -]{2,40}(?:[.;\n]|$))"
_OPENS = r"(?:(?<=[.:;] )|(?<=[.:;]  )|(?<=\n)|^)"
_KIN = "mother|father|brother|sister|grandmother|grandfather|aunt|uncle"
_SUBJECTS = rules(
    (rf"\bthe patient{_END}", "the patient's mother", "the patient's father"),
    (rf"{_OPENS}patient{_END}", "patient's mother", "patient's father"),
    # a relative of the other sex, so that later pronouns still refer to the patient
    (rf"{_OPENS}he{_END}", "his mother", "his sister"),
    (rf"{_OPENS}she{_END}", "her father", "her brother"),
    (rf"\b(?:his|her|the patient's) (?:{_KIN}){_END}", "the patient"),
    (rf"{_OPENS}(?:{_KIN}){_END}", "the patient"),
    (rf"{_OPENS}history of(?= [a-z0-9][a-z0-9' -]{{2,40}}(?:[.;\n]|$))", "family history of"),
    (r"\bfamily history of(?= [a-z0-9][a-z0-9' -]{2,40}(?:[.;\n]|$))", "personal history of"),
    (r"\bhas a (?:past medical )?history of(?= [a-z0-9][a-z0-9' -]{2,40}(?:[.;\n]|$))", "has a family history of"),
)
_PRONOUNS = {"mother": "female", "sister": "female", "father": "male", "brother": "male"}


def edit_subject(case: Case, rng: random.Random) -> Iterator[Candidate]:
    sexes = {fact.value for fact in case.facts if fact.type == "sex"}
    for candidate in rewordings(case, rng, _SUBJECTS):
        (change,) = candidate.replacements
        if _PRONOUNS.get(change.new.rsplit(" ", 1)[-1]) not in sexes:
            yield one_replacement(change.start, change.end, capital_like(case.text[change.start], change.new))
