"""Verify that a change makes exactly one fact of a factual summary wrong.

The editors of `registry` propose candidates. `verified_negatives` keeps a candidate if all of this holds:

- The two texts differ in one span (for the sex: in the noun and its pronouns).
- The note supports the old fact.
- The note does not support the new fact, after normalisation.
- All other facts of the two texts are equal.

A fabricated detail has no old fact. The note must contain none of its facts.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clinical.facts import Fact, extract_facts
from clinical.values import FINDINGS, PROBLEMS
from fact_checking.claims import CONTRADICTED, UNSUPPORTED, without_citations
from negatives.case import SUBSTANCE, Candidate, Case, cased_like, one_replacement
from negatives.registry import EDITORS

MAX_TRIES_PER_NEGATIVE = 12  # candidates tried per wanted negative of a category


@dataclass(frozen=True)
class Edit:
    """A verified change. `start` and `end` are offsets into the chosen text."""

    type: str
    start: int
    end: int
    old: str
    new: str
    verdict: str


@dataclass(frozen=True)
class Negative:
    """A rejected text, and the edits that turn the chosen text into it."""

    type: str
    rejected: str
    edits: tuple[Edit, ...]


Meaning = tuple[str, str, str, bool, bool, bool]


_WITHOUT_SCOPE = frozenset({"sex", "number", "date"})  # negating a sentence does not negate its pronouns or numbers


def _meaning(fact: Fact) -> Meaning:
    if fact.type in _WITHOUT_SCOPE:
        return fact.type, fact.key, fact.value, False, False, False
    return fact.type, fact.key, fact.value, fact.negated, fact.uncertain, fact.family


def apply(chosen: str, candidate: Candidate) -> str:
    """Return the chosen text with all replacements made."""
    pieces: list[str] = []
    end = 0
    for change in sorted(candidate.replacements, key=lambda change: change.start):
        pieces += [chosen[end : change.start], change.new]
        end = change.end
    return "".join([*pieces, chosen[end:]])


def with_agreement(chosen: str, candidate: Candidate) -> Candidate:
    """Return the candidate with the article before it ("a" or "an") changed if the new word requires it."""
    if len(candidate.replacements) != 1:
        return candidate
    (change,) = candidate.replacements
    article = re.search(r"\b([Aa]n?) $", chosen[: change.start])
    if not article or not change.new or change.start == change.end:
        return candidate
    wanted = "an" if _vowel_sound(change.new + chosen[change.end :]) else "a"
    if article[1].lower() == wanted:
        return candidate
    return one_replacement(article.start(1), change.end, f"{cased_like(article[1][0], wanted)} {change.new}")


def _vowel_sound(text: str) -> bool:
    if re.match(r"[FHLMNRSX][A-Z]+\b|[XxFf]-", text):  # letters that are spelled out: "an MRI", "an x-ray"
        return True
    return bool(re.match(r"8\d*\b|11\b|18\b|hour|honest|heir|(?!uni|use|eu|one\b)[aeiou]", text, re.IGNORECASE))


def minimal(chosen: str, candidate: Candidate) -> Candidate:
    """Return the candidate without the words that its old and new text share at the start or the end."""
    if len(candidate.replacements) != 1:
        return candidate
    (change,) = candidate.replacements
    old, new = chosen[change.start : change.end], change.new
    while (word := re.match(r"\S+\s+", old)) and new.startswith(word[0]):
        old, new = old[word.end() :], new[word.end() :]
    start = change.end - len(old)
    while (word := re.search(r"\s+\S+$", old)) and new.endswith(word[0]):
        old, new = old[: word.start()], new[: -len(word[0])]
    return one_replacement(start, start + len(old), new)


def _changed_facts(case: Case, candidate: Candidate) -> tuple[list[Fact], list[Fact]]:
    """Return (facts that the change removes, facts that it adds), regardless of their position."""
    after = extract_facts(without_citations(apply(case.chosen, candidate)))
    common = Counter(map(_meaning, case.facts)) & Counter(map(_meaning, after))
    return _beyond(case.facts, common), _beyond(after, common)


def _beyond(facts: Sequence[Fact], common: Counter[Meaning]) -> list[Fact]:
    """Return the facts whose meaning is not in `common`."""
    left = common.copy()
    beyond = []
    for fact in facts:
        if left[_meaning(fact)] > 0:
            left[_meaning(fact)] -= 1
        else:
            beyond.append(fact)
    return beyond


FACT_TYPES: dict[str, tuple[str, ...]] = {  # category -> types of fact it may change, if not the type of the same name
    "unit": ("dose", "vital", "lab"),
    "entity_merge": ("dose", "frequency"),
    "count": ("number",),
    "negation": (*FINDINGS, "allergy"),
    "certainty": PROBLEMS,
    "sound_alike": ("drug",),
    "condition": ("condition", "organism"),
    "organism": ("organism", "condition"),
    "management": ("drug", "procedure"),
    "severity": ("severity", "acuity", "stage"),
    "status": ("drug_status", "procedure_status"),
    "relative": ("family_history",),
}
NO_CHANGE = "no change"
NOT_READ = "the change is not one that the parser reads"
ANOTHER_FACT = "another fact would change"
SAID_AGAIN = "the summary says the old fact elsewhere too"
OLD_NOT_SUPPORTED = "the note does not support the old fact"
NEW_SUPPORTED = "the note supports the new fact"


def reason_against(case: Case, category: str, candidate: Candidate) -> tuple[str | None, str]:
    """Return (reason for rejecting the candidate or None, verdict on the new fact)."""
    if apply(case.chosen, candidate) == case.chosen:
        return NO_CHANGE, ""
    removed, added = _changed_facts(case, candidate)
    if category == "fabricated_detail":
        return _against_fabrication(case, removed, added), UNSUPPORTED
    if category == "sex":
        return _against_sex(case, removed, added), CONTRADICTED
    if not removed or not added:
        return NOT_READ, ""
    if category == "subject":
        return _against_subject(case, removed, added), _subject_verdict(added)
    types = FACT_TYPES.get(category, (category,))
    old, new = _principal(removed, types), _principal(added, types)
    if old is None or new is None:
        return ANOTHER_FACT, ""
    if not (
        _all_bound(removed, old) and _all_bound(added, new)
        if category == "management"
        else _only_these(removed, added, old, new)
    ):
        return ANOTHER_FACT, ""
    if category in ("negation", "certainty") and not _one_flag_changed(category, old, new):
        return ANOTHER_FACT, ""
    if _said_again(case, old):
        return SAID_AGAIN, ""
    if not supported(case, old, category):
        return OLD_NOT_SUPPORTED, ""
    if supported(case, new, category, loosely=True):
        return NEW_SUPPORTED, ""
    return None, _verdict(category, old, new)


def _said_again(case: Case, old: Fact) -> bool:
    """Return whether the summary states the old fact again, which would give the change away without the note."""
    return sum((fact.type, fact.key, fact.value) == (old.type, old.key, old.value) for fact in case.facts) > 1


def _principal(facts: Sequence[Fact], types: Sequence[str]) -> Fact | None:
    """Return the only fact of these types, or None if there are more or none."""
    of_types = [fact for fact in facts if fact.type in types]
    return of_types[0] if len(of_types) == 1 else None


def _one_flag_changed(category: str, old: Fact, new: Fact) -> bool:
    flags = {"negation": "negated", "certainty": "uncertain"}
    wanted = replace(old, **{flags[category]: not getattr(old, flags[category])})  # type: ignore[arg-type]
    if category == "negation":  # a suspected finding is neither present nor absent
        return not old.uncertain and _meaning(wanted) == _meaning(new)
    return not old.negated and _meaning(wanted) == _meaning(new)


def _only_these(removed: Sequence[Fact], added: Sequence[Fact], old: Fact, new: Fact) -> bool:
    """Return whether all other changed facts are bound to `old` or `new` and differ only in that or in their scope."""
    rest_removed = Counter(_bound(fact, old) for fact in removed if fact is not old)
    rest_added = Counter(_bound(fact, new) for fact in added if fact is not new)
    return rest_removed == rest_added


def _all_bound(facts: Sequence[Fact], to: Fact) -> bool:
    return all(fact.key == to.key for fact in facts)


def _bound(fact: Fact, to: Fact) -> tuple[object, ...]:
    """Return the meaning of a fact with the fact `to` masked. The scope is included if it is not bound to `to`."""
    parts = tuple("*" if _names(part, to) else part for part in (fact.key, fact.value))
    scope = () if "*" in parts else (fact.negated, fact.uncertain, fact.family)
    return "problem" if fact.type in PROBLEMS else fact.type, *parts, *scope


def _names(part: str, fact: Fact) -> bool:
    """Return whether a key or value names `fact`, an attribute of it ("cough trend") or its body part ("knee" pain)."""
    if not part or not fact.key:
        return bool(part) and part == fact.value
    return part in (fact.key, fact.value) or part.startswith(f"{fact.key} ") or part in fact.key.split()


def supported(case: Case, fact: Fact, category: str, *, loosely: bool = False) -> bool:
    """Return whether the note states the fact. With `loosely`, any hint of the fact counts."""
    return any(_states(other, fact, category, loosely) for other in case.note_facts)


_TIMES = frozenset({"duration", "follow_up"})
_NEEDS_NO_KEY = frozenset({"age", *_TIMES})


def _states(other: Fact, fact: Fact, category: str, loosely: bool) -> bool:
    """Return whether `other`, a fact of the note, states `fact`."""
    same_kind = other.type == fact.type or {other.type, fact.type} == _TIMES
    if not same_kind or not _same_value(other, fact, loosely):
        return False
    keys_agree = other.key == fact.key or fact.type in _NEEDS_NO_KEY
    if fact.type == "cause":
        keys_agree = loosely or not fact.key or keys_agree
    if not keys_agree and not (loosely and not other.key):
        return False
    if fact.type == "allergy" and other.negated != fact.negated:
        return False
    if category == "certainty":
        return (other.uncertain, other.negated) == (fact.uncertain, fact.negated)
    if category == "negation":
        return _may_hold(other, fact, loosely)
    return loosely or not _contrary(other, fact)


_ONCE_A_DAY = {"1 per day", "morning", "evening", "bedtime"}  # "every morning" can mean "daily"


def _same_value(other: Fact, fact: Fact, loosely: bool) -> bool:
    """Return whether the values are equal. With `loosely`, compatible values and the ends of a range also count."""
    if other.value == fact.value:
        return True
    if not loosely:
        return False
    if fact.type == "laterality":
        return "both" in (other.value, fact.value)
    if "1 per day" in (other.value, fact.value) and {other.value, fact.value} <= _ONCE_A_DAY:
        return True
    number, _, unit = other.value.partition(" ")
    return fact.value in {f"{end} {unit}".strip() for end in number.split("-")}


def _may_hold(other: Fact, fact: Fact, loosely: bool) -> bool:
    if loosely:  # an uncertain finding counts as present and as absent
        return other.negated == fact.negated or other.uncertain
    return other.negated == fact.negated and not other.uncertain and other.family == fact.family


_POLAR = frozenset({"condition", "symptom", "drug", "organism"})


def _contrary(other: Fact, fact: Fact) -> bool:
    return fact.type in _POLAR and (other.negated, other.family) != (fact.negated, fact.family)


_NAMED_OR_NOT = frozenset({"condition", "symptom", "drug", "sound_alike", "procedure", "organism", "management"})


def _verdict(category: str, old: Fact, new: Fact) -> str:
    """Return `contradicted` if the note contradicts the new fact, `unsupported` if it says nothing about it.

    The note supports the old value, so another value of the same thing contradicts it. Another name does not.
    """
    if category in _NAMED_OR_NOT:
        return UNSUPPORTED
    if category == "allergy" and not old.negated and not new.negated:
        return UNSUPPORTED
    return CONTRADICTED


def _against_sex(case: Case, removed: Sequence[Fact], added: Sequence[Fact]) -> str | None:
    if not removed or {fact.type for fact in [*removed, *added]} != {"sex"}:
        return ANOTHER_FACT
    stated = {fact.value for fact in case.note_facts if fact.type == "sex" and fact.key == "patient"}
    if removed[0].value not in stated:
        return OLD_NOT_SUPPORTED
    return NEW_SUPPORTED if added[0].value in stated else None


_OF_A_PERSON = (*PROBLEMS, "procedure")


def _against_subject(case: Case, removed: Sequence[Fact], added: Sequence[Fact]) -> str | None:
    """Return a reason against giving the patient's finding to a relative, or the reverse, or None.

    Exactly one finding may change, and both texts must assert it.
    """
    old, new = _principal(removed, _OF_A_PERSON), _principal(added, _OF_A_PERSON)
    if old is None or new is None or old.key != new.key or old.family == new.family or old.negated or new.negated:
        return ANOTHER_FACT
    rest = [fact for fact in [*removed, *added] if fact not in (old, new)]
    if any(old.key not in (fact.key, fact.value) for fact in rest if fact.type != "sex"):
        return ANOTHER_FACT
    mentions = [f for f in case.note_facts if f.type in _OF_A_PERSON and f.key == old.key and not f.negated]
    of_family = any(fact.family for fact in mentions)
    of_patient = any(not fact.family for fact in mentions)
    if not (of_family if old.family else of_patient):
        return OLD_NOT_SUPPORTED
    return NEW_SUPPORTED if of_family and of_patient else None


def _subject_verdict(added: Sequence[Fact]) -> str:
    """Return `unsupported` if a relative now has the finding, about whom the note says nothing, else `contradicted`."""
    return UNSUPPORTED if any(fact.family for fact in added) else CONTRADICTED


def _against_fabrication(case: Case, removed: Sequence[Fact], added: Sequence[Fact]) -> str | None:
    if any(fact.type in SUBSTANCE and not supported(case, fact, "fabricated_detail") for fact in removed):
        return OLD_NOT_SUPPORTED
    substance = [fact for fact in added if fact.type in SUBSTANCE]
    if not substance:
        return NOT_READ
    noted = {(fact.type, fact.key) for fact in [*case.note_facts, *case.facts]}
    if any((fact.type, fact.key) in noted for fact in substance):
        return NEW_SUPPORTED
    return None


# -------------------------------------------------------------------------------- verified negatives


def verified_negatives(
    case: Case, category: str, rng: random.Random, count: int, rejected_for: Counter[str]
) -> list[Negative]:
    """Return up to `count` different verified negatives of one category. Adds rejected candidates to `rejected_for`."""
    found: dict[str, Negative] = {}
    hopeless: set[tuple[int, int]] = set()  # spans whose old fact failed, so that every replacement fails
    editor, _ = EDITORS[category]
    tries = 0
    for proposed in editor(case, rng):
        span = proposed.replacements[0].start, proposed.replacements[0].end
        if span in hopeless:
            continue
        if len(found) >= count or tries >= MAX_TRIES_PER_NEGATIVE * count:
            break
        tries += 1
        candidate = minimal(case.chosen, with_agreement(case.chosen, proposed))
        reason, verdict = reason_against(case, category, candidate)
        if reason:
            rejected_for[f"{category}: {reason}"] += 1
            if reason in (OLD_NOT_SUPPORTED, SAID_AGAIN):
                hopeless.add(span)
            continue
        rejected = apply(case.chosen, candidate)
        found.setdefault(rejected, Negative(category, rejected, edits_of(case, category, candidate, verdict)))
    return list(found.values())


def edits_of(case: Case, category: str, candidate: Candidate, verdict: str) -> tuple[Edit, ...]:
    """Return the replacements of a candidate as edits."""
    return tuple(
        Edit(category, change.start, change.end, case.chosen[change.start : change.end], change.new, verdict)
        for change in candidate.replacements
    )
