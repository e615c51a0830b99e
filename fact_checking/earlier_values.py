"""Tell the current value of a measurement or a dose from its earlier values and its goal.

"Cr 2.1 (baseline 1.2)", "INR goal 2-3, today 1.8" and "metoprolol 25 -> 50 mg" have two values each. A summary that
gives one of them without saying which it is must give the current one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from clinical.facts import Fact
from clinical.text import lower_case
from clinical.values import ignoring_case
from fact_checking.claims import CONTRADICTED, SUPPORTED
from fact_checking.comparison import Comparison, agrees

_CURRENT, _EARLIER, _GOAL = "current", "earlier", "goal"
_MEASURED = frozenset({"vital", "lab", "dose"})
# "up from a BP of 150/90"; not "prior MI, BP 150/90" and not "came from home with BP 90/60"
_EARLIER_BEFORE = re.compile(
    r"(?:\b(?:baseline|bl|previous(?:ly)?|prev|prior)\b[^\d\n.;,]{0,14}"
    r"|[(,;]\s*(?:last|was|were)\b[^\d\n.;]{0,14}"
    r"|\bfrom(?: (?:an?|about|around|his|her|the))?(?: [a-z]+ of)? ?[~(]?)$"
)
_EARLIER_AFTER = re.compile(
    r"\s*(?:last (?:yr|year|mo|month|week|visit|time)|yest(?:erday)?\b|at booking|previously|"
    r"(?:prior|before)(?! (?:to|bed|bedtime|sleep|meals?|food|eating|breakfast|lunch|dinner|supper|exercise)\b)|"
    r"in (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|"
    r"(?:in )?(?:19|20)\d\d"
    r"|['’]\d\d|\d+ ?(?:y|yr|year|mo|month|wk|week)s? ago)\b"
)
# not "above goal at 8.2%", which is the present value
_GOAL_BEFORE = re.compile(r"(?<!at )(?<!above )(?<!below )(?<!over )(?<!under )\b(?:goal|target)\b[^\d\n.;,]{0,12}$")
_GOAL_AFTER = re.compile(r"\s*(?:goal|target)\b")
_TO_NEXT = re.compile(r"\s*(?:->|-->|→|=>|\bto\b)\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:\s*[-–/]\s*\d+(?:\.\d+)?)?(?=\D*$)")
_LEAD = 20  # characters before a value that can say what it is
_SENTENCE_REACH = 400  # characters on either side; a row of values without a full stop would take quadratic time
# words by which a sentence of a summary says that its value is not the present one, or compares two
_OF_ANOTHER_TIME = ignoring_case(
    r"baseline|previous|\bprev|prior|\blast\b|\bfrom\b|before|\bago\b|earlier|initial|admission|arriv|"
    r"present(?:ed|ation)|triage|booking|\bup\b|\bdown\b|\brose|\brisen|\bfell|\bfallen|\bclimb|\bweaned|increas|decreas|improv|worsen|->|→|"
    r"\b(?:19|20)\d\d\b|goal|target|range|\bthen\b|trend|peak|titrat|taper|chang|reduc|drop|\bto \d"
)


def with_current_values(
    note: str, summary: str, judged: Sequence[tuple[Fact, Comparison | None]], note_facts: Sequence[Fact]
) -> list[tuple[Fact, Comparison | None]]:
    """Return the judged facts, where a value is contradicted if the note has it as an earlier value or a goal only."""
    own, told = _kinds(summary, [fact for fact, _ in judged]), _kinds(note, note_facts)
    if all(kind == _CURRENT for kind in told.values()):
        return list(judged)
    readings: dict[tuple[str, str], list[Fact]] = {}
    for fact in told:
        readings.setdefault((fact.type, fact.key), []).append(fact)
    return [
        (fact, _outdated(fact, readings.get((fact.type, fact.key), []), told) or comparison)
        if comparison and comparison.verdict == SUPPORTED and fact.key and _is_told_as_current(summary, fact, own)
        else (fact, comparison)
        for fact, comparison in judged
    ]


def _is_told_as_current(summary: str, fact: Fact, kinds: Mapping[Fact, str]) -> bool:
    return kinds.get(fact) == _CURRENT and not _OF_ANOTHER_TIME.search(_around(summary, fact))


def _around(text: str, fact: Fact) -> str:
    """Return the sentence around a fact, without what is far from it."""
    first, last = max(0, fact.start - _SENTENCE_REACH), fact.end + _SENTENCE_REACH
    start = max(first - 1, text.rfind(". ", first, fact.start), text.rfind("\n", first, fact.start))
    ends = [end for end in (text.find(". ", fact.end, last), text.find("\n", fact.end, last)) if end >= 0]
    return text[start + 1 : min(ends, default=last)]


def _outdated(fact: Fact, readings: Sequence[Fact], kinds: Mapping[Fact, str]) -> Comparison | None:
    agreeing = [other for other in readings if agrees(fact, other)]
    current = [other for other in readings if kinds[other] == _CURRENT]
    if agreeing and current and not any(kinds[other] == _CURRENT for other in agreeing):
        return Comparison(CONTRADICTED, current[0], fact.type)
    return None


def _kinds(text: str, facts: Sequence[Fact]) -> dict[Fact, str]:
    """Map each measurement and dose to whether it is the current value, an earlier one or a goal."""
    lower = lower_case(text)
    measured = [fact for fact in facts if fact.type in _MEASURED]
    kinds = {fact: _kind(lower, fact) for fact in measured}
    for first, second in pairwise(measured):
        of_one_drug = first.type == "dose" and (first.type, first.key) == (second.type, second.key)
        if of_one_drug and _TO_NEXT.fullmatch(lower, first.end, second.start):
            kinds[first] = _EARLIER
    return kinds


def _kind(text: str, fact: Fact) -> str:
    number = _NUMBER.search(text, fact.start, fact.end)
    start = number.start() if number else fact.start
    line = text.rfind("\n", 0, start) + 1
    before = text[max(line, start - _LEAD) : start]
    if _GOAL_BEFORE.search(before) or _GOAL_AFTER.match(text, fact.end):
        return _GOAL
    return _EARLIER if _EARLIER_BEFORE.search(before) or _EARLIER_AFTER.match(text, fact.end) else _CURRENT
