"""Factual summaries made wrong in exactly one fact, each change verified against the note.

The editors of `negative_editors` propose candidates. `verified_negatives` keeps one only where all of this holds: the
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

from clinical_facts import Fact, extract_facts
from negative_editors import EDITORS, SUBSTANCE, Candidate, Case, cased_like, one_replacement, without_citations

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


def _meaning(fact: Fact) -> Meaning:
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
    return bool(re.match(r"8\d*\b|11\b|18\b|(?!uni|use|eu|one\b)[aeiou]", text, re.IGNORECASE))


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


_FACT_TYPES = {  # category -> the types of fact it may change; those of the findings besides
    "fabricated_detail": (),
    "negation": ("condition", "symptom", "procedure", "drug", "allergy"),
    "certainty": ("condition", "symptom"),
    "count": ("number",),
    "relative": ("family_history",),
}


def reason_against(case: Case, category: str, candidate: Candidate) -> tuple[str | None, str]:
    """(why the candidate is rejected, or None; the verdict on the new fact)."""
    if apply(case.chosen, candidate) == case.chosen:
        return "no change", ""
    gone, come = _changed_facts(case, candidate)
    if category == "fabricated_detail":
        return _against_fabrication(case, gone, come), UNSUPPORTED
    if category == "sex":
        return _against_sex(case, gone, come), CONTRADICTED
    types = _FACT_TYPES.get(category, (category,))
    if not gone or not come:
        return "the change is not one that the parser reads", ""
    old, new = _principal(gone, types), _principal(come, types)
    if old is None or new is None or not _only_these(gone, come, old, new):
        return "another fact would change", ""
    if category in ("negation", "certainty") and not _one_flag_changed(category, old, new):
        return "another fact would change", ""
    if not supported(case, old, category):
        return "the note does not support the old fact", ""
    if supported(case, new, category, loosely=True):
        return "the note supports the new fact", ""
    return None, _verdict(case, category, new)


def _principal(facts: Sequence[Fact], types: Sequence[str]) -> Fact | None:
    """The one fact of the category's types; None where there are more or none."""
    of_types = [fact for fact in facts if fact.type in types]
    return of_types[0] if len(of_types) == 1 else None


def _one_flag_changed(category: str, old: Fact, new: Fact) -> bool:
    flags = {"negation": "negated", "certainty": "uncertain"}
    wanted = replace(old, **{flags[category]: not getattr(old, flags[category])})  # type: ignore[arg-type]
    if category == "negation":  # a finding that is suspected or a relative's is another matter
        return not old.uncertain and not old.family and _meaning(wanted) == _meaning(new)
    return not old.negated and _meaning(wanted) == _meaning(new)


def _only_these(gone: Sequence[Fact], come: Sequence[Fact], old: Fact, new: Fact) -> bool:
    """Besides `old` and `new`, only facts bound to them by key may differ, and only in that key or scope."""
    rest_gone = Counter(_bound(fact, old) for fact in gone if fact is not old)
    rest_come = Counter(_bound(fact, new) for fact in come if fact is not new)
    return rest_gone == rest_come


def _bound(fact: Fact, to: Fact) -> tuple[str, str, str]:
    key = "*" if fact.key == to.key else fact.key
    return fact.type, key, "*" if fact.value == to.value else fact.value


def supported(case: Case, fact: Fact, category: str, *, loosely: bool = False) -> bool:
    """Whether the note states the fact. `loosely` asks for any hint of it, so that its absence is safe."""
    for other in case.note_facts:
        same_kind = other.type == fact.type or {other.type, fact.type} == {"duration", "follow_up"}
        if not same_kind or not _same_value(other, fact, loosely):
            continue
        keys_agree = other.key == fact.key or fact.type in ("age", "duration", "follow_up")
        if not keys_agree and not (loosely and not other.key):
            continue
        if category == "certainty" and (other.uncertain, other.negated) != (fact.uncertain, fact.negated):
            continue
        if category == "negation" and not _may_hold(other, fact, loosely):
            continue
        if not loosely and category not in ("negation", "certainty") and _contrary(other, fact):
            continue
        return True
    return False


_ONCE_A_DAY = {"1 per day", "morning", "evening", "bedtime"}  # "every morning" is one way to say "daily"


def _same_value(other: Fact, fact: Fact, loosely: bool) -> bool:
    """Equal; for `loosely` also compatible, or the same as one end of a range."""
    if other.value == fact.value:
        return True
    if not loosely:
        return False
    if "1 per day" in (other.value, fact.value) and {other.value, fact.value} <= _ONCE_A_DAY:
        return True
    number, _, unit = other.value.partition(" ")
    return fact.value in {f"{end} {unit}".strip() for end in number.split("-")}


def _may_hold(other: Fact, fact: Fact, loosely: bool) -> bool:
    if loosely:  # an unclear mention of the same finding counts for both
        return other.negated == fact.negated or other.uncertain
    return other.negated == fact.negated and not other.uncertain and other.family == fact.family


def _contrary(other: Fact, fact: Fact) -> bool:
    return fact.type in ("condition", "symptom", "drug") and (other.negated, other.family) != (
        fact.negated,
        fact.family,
    )


def _verdict(case: Case, category: str, new: Fact) -> str:
    """`contradicted` where the note says otherwise of the same thing, `unsupported` where it says nothing."""
    if category in ("condition", "symptom", "drug"):
        return UNSUPPORTED
    same = any(other.type == new.type and (other.key == new.key or new.type == "age") for other in case.note_facts)
    return CONTRADICTED if same else UNSUPPORTED


def _against_sex(case: Case, gone: Sequence[Fact], come: Sequence[Fact]) -> str | None:
    if not gone or {fact.type for fact in [*gone, *come]} != {"sex"}:
        return "another fact would change"
    stated = {fact.value for fact in case.note_facts if fact.type == "sex" and fact.key == "patient"}
    if gone[0].value not in stated:
        return "the note does not support the old fact"
    return "the note supports the new fact" if come[0].value in stated else None


def _against_fabrication(case: Case, gone: Sequence[Fact], come: Sequence[Fact]) -> str | None:
    if gone:
        return "another fact would change"
    substance = [fact for fact in come if fact.type in SUBSTANCE]
    if not substance:
        return "the change is not one that the parser reads"
    noted = {(fact.type, fact.key) for fact in [*case.note_facts, *case.facts]}
    if any((fact.type, fact.key) in noted for fact in substance):
        return "the note supports the new fact"
    return None


# -------------------------------------------------------------------------------------------- choosing


def verified_negatives(
    case: Case, category: str, rng: random.Random, count: int, rejected_for: Counter[str]
) -> list[Negative]:
    """Up to `count` different verified negatives of one category; `rejected_for` counts the others by reason."""
    found: dict[str, Negative] = {}
    editor, _ = EDITORS[category]
    for tried, proposed in enumerate(editor(case, rng)):
        if len(found) >= count or tried >= MAX_TRIES_PER_NEGATIVE * count:
            break
        candidate = minimal(case.chosen, with_agreement(case.chosen, proposed))
        reason, verdict = reason_against(case, category, candidate)
        if reason:
            rejected_for[f"{category}: {reason}"] += 1
            continue
        rejected = apply(case.chosen, candidate)
        edits = tuple(
            Edit(category, change.start, change.end, case.chosen[change.start : change.end], change.new, verdict)
            for change in candidate.replacements
        )
        found.setdefault(rejected, Negative(category, rejected, edits))
    return list(found.values())
