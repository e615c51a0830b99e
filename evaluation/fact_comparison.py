"""Holds one fact of a summary against the facts of its note.

`compare(fact, note_facts)` gives a verdict, the fact of the note that decided it, and the kind of error. A fact is
`supported` where any mention in the note agrees, `contradicted` where the note speaks of the same thing and every
mention disagrees, `unsupported` where the note is silent, and `unverifiable` where silence proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from clinical_facts import Fact
from clinical_text import regular_form

SUPPORTED, CONTRADICTED, UNSUPPORTED, UNVERIFIABLE = "supported", "contradicted", "unsupported", "unverifiable"
FINDINGS = frozenset({"condition", "symptom", "drug", "procedure"})
_ILLNESSES = frozenset({"condition", "symptom"})  # the same word may be either: "anxiety"
_ONCE_A_DAY = frozenset({"morning", "evening", "bedtime"})
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TIMES = frozenset({"duration", "follow_up"})


@dataclass(frozen=True)
class Comparison:
    """`error_type` says what went wrong where that is not the fact's own type: negation, certainty, attribution."""

    verdict: str
    note_fact: Fact | None
    error_type: str


def compare(fact: Fact, note_facts: Sequence[Fact]) -> Comparison | None:
    """The verdict on a fact; None where it adds nothing to another claim."""
    rule = _RULES.get(fact.type, _compare_findings if fact.type in FINDINGS else _compare_values)
    return rule(fact, note_facts)


def _decide(fact: Fact, agreeing: Fact | None, rivals: Sequence[Fact]) -> Comparison:
    if agreeing:
        return Comparison(SUPPORTED, agreeing, fact.type)
    if rivals:
        return Comparison(CONTRADICTED, rivals[0], fact.type)
    return Comparison(UNSUPPORTED, None, fact.type)


def _same_type(fact: Fact, note_facts: Iterable[Fact]) -> list[Fact]:
    return [other for other in note_facts if other.type == fact.type]


def _compare_values(fact: Fact, note_facts: Sequence[Fact]) -> Comparison:
    """Values bound to a key: another value of the same key contradicts; a value without key is looked for anywhere."""
    others = _same_type(fact, note_facts)
    rivals = [other for other in others if other.key == fact.key and fact.key]
    candidates = rivals or [other for other in others if not (fact.key and other.key)]
    return _decide(fact, next((other for other in candidates if agrees(fact, other)), None), rivals)


def agrees(fact: Fact, other: Fact) -> bool:
    """Same value; "once daily" is also true of a drug taken every morning."""
    if fact.value == other.value:
        return True
    if fact.type == "frequency":
        return fact.value == "1 per day" and other.value in _ONCE_A_DAY
    return False


def _compare_age(fact: Fact, note_facts: Sequence[Fact]) -> Comparison:
    """The patient's age; a relative's is only looked for, since no note has a single one."""
    if fact.family:
        return _compare_numbers(fact, note_facts)
    ages = _same_type(fact, note_facts)
    # "8 months old" and an age given as "8-month" differ by rounding only
    near = next((age for age in ages if abs(float(age.value) - float(fact.value)) < 0.05), None)
    return _decide(fact, near, ages)


def _compare_sex(fact: Fact, note_facts: Sequence[Fact]) -> Comparison | None:
    """Nouns decide; pronouns, which may mean a relative, are asked only where the note has no noun."""
    if fact.key == "pronoun":
        return None
    others = _same_type(fact, note_facts)
    nouns = [other for other in others if other.key == "patient"]
    known = nouns or others
    if not known:
        return Comparison(UNVERIFIABLE, None, "sex")
    return _decide(fact, next((other for other in known if other.value == fact.value), None), nouns)


def _compare_times(fact: Fact, note_facts: Sequence[Fact]) -> Comparison:
    """Durations and follow-up intervals: the same length of time of the same kind, bound to the same finding."""
    others = _same_type(fact, note_facts)
    bound = [other for other in others if other.key == fact.key]
    agreeing = next((other for other in [*bound, *others] if other.value == fact.value), None)
    if not agreeing and not (fact.key or fact.type == "follow_up"):
        agreeing = next((other for other in note_facts if other.type in _TIMES and other.value == fact.value), None)
    return _decide(fact, agreeing, [other for other in bound if fact.key or fact.type == "follow_up"])


def _compare_numbers(fact: Fact, note_facts: Sequence[Fact]) -> Comparison:
    """Numbers without a unit of their own, and dates: the same value in any fact of the note."""
    number = fact.value.rstrip("%")
    agreeing = next((other for other in note_facts if number in (other.value, *_numbers_in(other.text))), None)
    return _decide(fact, agreeing, [])


@lru_cache(maxsize=10_000)
def _numbers_in(text: str) -> frozenset[str]:
    """As written, before any conversion of units: "seven pounds" holds 7."""
    return frozenset(_NUMBER.findall(regular_form(text).text))


def _compare_findings(fact: Fact, note_facts: Sequence[Fact]) -> Comparison | None:
    """A condition, symptom, drug or procedure: named in the note, of the patient, with the same polarity."""
    if fact.family and fact.type in _ILLNESSES:
        return None  # read as family_history
    mentions = [other for other in note_facts if _names_same(fact, other)]
    if not mentions:
        return Comparison(UNSUPPORTED, None, "negation" if fact.negated else fact.type)
    own = [other for other in mentions if not other.family]
    if not own:
        return Comparison(CONTRADICTED, mentions[0], "attribution")
    same_polarity = [other for other in own if other.negated == fact.negated]
    if not same_polarity:
        return Comparison(CONTRADICTED, own[0], "negation")
    same_certainty = [other for other in same_polarity if other.uncertain == fact.uncertain]
    if same_certainty or fact.negated or fact.type not in _ILLNESSES:
        return Comparison(SUPPORTED, (same_certainty or same_polarity)[0], fact.type)
    return Comparison(CONTRADICTED, same_polarity[0], "certainty")


def _names_same(fact: Fact, other: Fact) -> bool:
    same_kind = other.type == fact.type or {other.type, fact.type} <= _ILLNESSES
    return same_kind and other.value == fact.value


def _compare_status(fact: Fact, note_facts: Sequence[Fact]) -> Comparison | None:
    """Started or stopped, performed or planned: only where the note says one or the other of the same thing."""
    rivals = [other for other in _same_type(fact, note_facts) if other.key == fact.key]
    if not rivals:
        return None
    return _decide(fact, next((other for other in rivals if other.value == fact.value), None), rivals)


def _compare_allergy(fact: Fact, note_facts: Sequence[Fact]) -> Comparison:
    """A drug allergy; "no known allergies" is contradicted by any allergy that the note names."""
    others = _same_type(fact, note_facts)
    if fact.key == "any" and fact.negated:
        named = [other for other in others if not other.negated and other.key != "any"]
        denied = next((other for other in others if other.negated), None)
        return _decide(fact, None if named else denied, named)
    same = [other for other in others if other.key == fact.key]
    agreeing = next((other for other in same if other.negated == fact.negated), None)
    denied_all = [other for other in others if other.key == "any" and other.negated and not fact.negated]
    return _decide(fact, agreeing, [*same, *denied_all])


def _compare_family_history(fact: Fact, note_facts: Sequence[Fact]) -> Comparison:
    """The relative and the condition; a condition that the note gives to the patient alone is misattributed."""
    same = [other for other in _same_type(fact, note_facts) if other.key == fact.key]
    agreeing = next((other for other in same if other.value == fact.value), None)
    if agreeing or same:
        return _decide(fact, agreeing, same)
    own = [other for other in note_facts if other.type in _ILLNESSES and other.value == fact.key]
    return Comparison(CONTRADICTED, own[0], "attribution") if own else Comparison(UNSUPPORTED, None, fact.type)


Rule = Callable[[Fact, Sequence[Fact]], Comparison | None]
_RULES: dict[str, Rule] = {
    "age": _compare_age,
    "sex": _compare_sex,
    "duration": _compare_times,
    "follow_up": _compare_times,
    "number": _compare_numbers,
    "date": _compare_numbers,
    "drug_status": _compare_status,
    "procedure_status": _compare_status,
    "allergy": _compare_allergy,
    "family_history": _compare_family_history,
}
