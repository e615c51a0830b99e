"""Factual summaries made wrong in exactly one fact, each change verified against the note.

The editors of `registry` propose candidates. `verified_negatives` keeps one only where all of this holds: the
two texts differ in one span (sex: the noun and its pronouns); the note supports the old fact; the note does not
support the new one after normalisation; every other fact of the two texts reads the same. A fabricated detail has no
old fact: none of the facts it brings may be in the note.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clinical.facts import Fact, extract_facts
from negatives.case import SUBSTANCE, Candidate, Case, cased_like, one_replacement, without_citations
from negatives.registry import EDITORS

CONTRADICTED, UNSUPPORTED = "contradicted", "unsupported"
MAX_TRIES_PER_NEGATIVE = 12  # candidates that are verified before a category is given up for a summary


@dataclass(frozen=True)
class Edit:
    """A verified change. The offsets are into the chosen text."""

    type: str
    start: int
    end: int
    old: str
    new: str
    verdict: str


@dataclass(frozen=True)
class Negative:
    """A rejected text with the edits that lead to it from the chosen one."""

    type: str
    rejected: str
    edits: tuple[Edit, ...]


Meaning = tuple[str, str, str, bool, bool, bool]


_ILLS = ("condition", "symptom")
_WITHOUT_SCOPE = frozenset({"sex", "number", "date"})  # a pronoun or a list number is not denied with its sentence


def _meaning(fact: Fact) -> Meaning:
    if fact.type in _WITHOUT_SCOPE:
        return fact.type, fact.key, fact.value, False, False, False
    return fact.type, fact.key, fact.value, fact.negated, fact.uncertain, fact.family


def apply(chosen: str, candidate: Candidate) -> str:
    """The text with all replacements made."""
    for change in sorted(candidate.replacements, key=lambda change: -change.start):
        chosen = chosen[: change.start] + change.new + chosen[change.end :]
    return chosen


def with_agreement(chosen: str, candidate: Candidate) -> Candidate:
    """The candidate with "a" or "an" before its span changed where the new word asks for it."""
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
    """The candidate without the words that its old and its new text begin or end with."""
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
    """The facts that the change takes away and those it brings, whatever place they stand at."""
    after = extract_facts(without_citations(apply(case.chosen, candidate)))
    common = Counter(map(_meaning, case.facts)) & Counter(map(_meaning, after))
    return _beyond(case.facts, common), _beyond(after, common)


def _beyond(facts: Sequence[Fact], common: Counter[Meaning]) -> list[Fact]:
    left = common.copy()
    beyond = []
    for fact in facts:
        if left[_meaning(fact)] > 0:
            left[_meaning(fact)] -= 1
        else:
            beyond.append(fact)
    return beyond


FACT_TYPES: dict[str, tuple[str, ...]] = {  # category -> the types of fact it may change, where not its own name
    "unit": ("dose", "vital", "lab"),
    "entity_merge": ("dose", "frequency"),
    "count": ("number",),
    "negation": ("condition", "symptom", "procedure", "drug", "allergy", "organism"),
    "certainty": ("condition", "symptom"),
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
    """(why the candidate is rejected, or None; the verdict on the new fact)."""
    if apply(case.chosen, candidate) == case.chosen:
        return NO_CHANGE, ""
    gone, come = _changed_facts(case, candidate)
    if category == "fabricated_detail":
        return _against_fabrication(case, gone, come), UNSUPPORTED
    if category == "sex":
        return _against_sex(case, gone, come), CONTRADICTED
    if not gone or not come:
        return NOT_READ, ""
    if category == "subject":
        return _against_subject(case, gone, come), _subject_verdict(come)
    types = FACT_TYPES.get(category, (category,))
    old, new = _principal(gone, types), _principal(come, types)
    if old is None or new is None:
        return ANOTHER_FACT, ""
    if not (
        _all_bound(gone, old) and _all_bound(come, new)
        if category == "management"
        else _only_these(gone, come, old, new)
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
    """A second mention would contradict the change within the text, and give it away without the note."""
    return sum((fact.type, fact.key, fact.value) == (old.type, old.key, old.value) for fact in case.facts) > 1


def _principal(facts: Sequence[Fact], types: Sequence[str]) -> Fact | None:
    """The one fact of the category's types; None where there are more or none."""
    of_types = [fact for fact in facts if fact.type in types]
    return of_types[0] if len(of_types) == 1 else None


def _one_flag_changed(category: str, old: Fact, new: Fact) -> bool:
    flags = {"negation": "negated", "certainty": "uncertain"}
    wanted = replace(old, **{flags[category]: not getattr(old, flags[category])})  # type: ignore[arg-type]
    if category == "negation":  # a finding that is suspected is another matter
        return not old.uncertain and _meaning(wanted) == _meaning(new)
    return not old.negated and _meaning(wanted) == _meaning(new)


def _only_these(gone: Sequence[Fact], come: Sequence[Fact], old: Fact, new: Fact) -> bool:
    """Besides `old` and `new`, only facts bound to them may differ, and only in that or in their scope."""
    rest_gone = Counter(_bound(fact, old) for fact in gone if fact is not old)
    rest_come = Counter(_bound(fact, new) for fact in come if fact is not new)
    return rest_gone == rest_come


def _all_bound(facts: Sequence[Fact], to: Fact) -> bool:
    return all(fact.key == to.key for fact in facts)


def _bound(fact: Fact, to: Fact) -> tuple[object, ...]:
    """What a fact means apart from the one that it is bound to; with its scope only where it is bound to none."""
    parts = tuple("*" if _names(part, to) else part for part in (fact.key, fact.value))
    scope = () if "*" in parts else (fact.negated, fact.uncertain, fact.family)
    return "ill" if fact.type in _ILLS else fact.type, *parts, *scope


def _names(part: str, fact: Fact) -> bool:
    """Whether a key or value is that of `fact`, an attribute of it ("cough trend"), or its body part ("knee" pain)."""
    if not part or not fact.key:
        return bool(part) and part == fact.value
    return part in (fact.key, fact.value) or part.startswith(f"{fact.key} ") or part in fact.key.split()


def supported(case: Case, fact: Fact, category: str, *, loosely: bool = False) -> bool:
    """Whether the note states the fact. `loosely` asks for any hint of it, so that its absence is safe."""
    return any(_states(other, fact, category, loosely) for other in case.note_facts)


_TIMES = frozenset({"duration", "follow_up"})
_NEEDS_NO_KEY = frozenset({"age", *_TIMES})


def _states(other: Fact, fact: Fact, category: str, loosely: bool) -> bool:
    """Whether `other`, of the note, states `fact`."""
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


_ONCE_A_DAY = {"1 per day", "morning", "evening", "bedtime"}  # "every morning" is one way to say "daily"


def _same_value(other: Fact, fact: Fact, loosely: bool) -> bool:
    """Equal; for `loosely` also compatible, or the same as one end of a range."""
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
    if loosely:  # an unclear mention of the same finding counts for both
        return other.negated == fact.negated or other.uncertain
    return other.negated == fact.negated and not other.uncertain and other.family == fact.family


_POLAR = frozenset({"condition", "symptom", "drug", "organism"})


def _contrary(other: Fact, fact: Fact) -> bool:
    return fact.type in _POLAR and (other.negated, other.family) != (fact.negated, fact.family)


_NAMED_OR_NOT = frozenset({"condition", "symptom", "drug", "sound_alike", "procedure", "organism", "management"})


def _verdict(category: str, old: Fact, new: Fact) -> str:
    """`contradicted` where the note says otherwise of the same thing, `unsupported` where it says nothing of the new.

    The note supports the old value, so another value of the same thing contradicts it; another name does not.
    """
    if category in _NAMED_OR_NOT:
        return UNSUPPORTED
    if category == "allergy" and not old.negated and not new.negated:
        return UNSUPPORTED
    return CONTRADICTED


def _against_sex(case: Case, gone: Sequence[Fact], come: Sequence[Fact]) -> str | None:
    if not gone or {fact.type for fact in [*gone, *come]} != {"sex"}:
        return ANOTHER_FACT
    stated = {fact.value for fact in case.note_facts if fact.type == "sex" and fact.key == "patient"}
    if gone[0].value not in stated:
        return OLD_NOT_SUPPORTED
    return NEW_SUPPORTED if come[0].value in stated else None


_OF_A_PERSON = ("condition", "symptom", "procedure")


def _against_subject(case: Case, gone: Sequence[Fact], come: Sequence[Fact]) -> str | None:
    """The patient's finding given to a relative, or the other way round: one finding, asserted in both texts."""
    old, new = _principal(gone, _OF_A_PERSON), _principal(come, _OF_A_PERSON)
    if old is None or new is None or old.key != new.key or old.family == new.family or old.negated or new.negated:
        return ANOTHER_FACT
    rest = [fact for fact in [*gone, *come] if fact not in (old, new)]
    if any(old.key not in (fact.key, fact.value) for fact in rest if fact.type != "sex"):
        return ANOTHER_FACT
    mentions = [f for f in case.note_facts if f.type in _OF_A_PERSON and f.key == old.key and not f.negated]
    of_family = any(fact.family for fact in mentions)
    of_patient = any(not fact.family for fact in mentions)
    if not (of_family if old.family else of_patient):
        return OLD_NOT_SUPPORTED
    return NEW_SUPPORTED if of_family and of_patient else None


def _subject_verdict(come: Sequence[Fact]) -> str:
    """The note that gives a finding to the patient says nothing of the relatives; the other way round it does."""
    return UNSUPPORTED if any(fact.family for fact in come) else CONTRADICTED


def _against_fabrication(case: Case, gone: Sequence[Fact], come: Sequence[Fact]) -> str | None:
    if any(fact.type in SUBSTANCE and not supported(case, fact, "fabricated_detail") for fact in gone):
        return OLD_NOT_SUPPORTED
    substance = [fact for fact in come if fact.type in SUBSTANCE]
    if not substance:
        return NOT_READ
    noted = {(fact.type, fact.key) for fact in [*case.note_facts, *case.facts]}
    if any((fact.type, fact.key) in noted for fact in substance):
        return NEW_SUPPORTED
    return None


# -------------------------------------------------------------------------------------------- choosing


def verified_negatives(
    case: Case, category: str, rng: random.Random, count: int, rejected_for: Counter[str]
) -> list[Negative]:
    """Up to `count` different verified negatives of one category; `rejected_for` counts the others by reason."""
    found: dict[str, Negative] = {}
    hopeless: set[tuple[int, int]] = set()  # spans whose old fact failed: no other replacement can mend that
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
    """The record of a candidate's replacements."""
    return tuple(
        Edit(category, change.start, change.end, case.chosen[change.start : change.end], change.new, verdict)
        for change in candidate.replacements
    )
