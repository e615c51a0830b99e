"""Compare the side of a finding where both sides are in one sentence: "L foot ulcer, R foot normal"."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from clinical.facts import Fact
from clinical.values import FINDINGS
from fact_checking.claims import CONTRADICTED
from fact_checking.comparison import Comparison

_ENDS_CLAUSE = re.compile(r"[,;:.?!\n()]|->|→|\b(?:and|but|with|while|whereas|versus|vs|than)\b|[&+]")
_REACH = 40  # characters between a finding and its side
_BOTH = "both"


def with_sides(
    note: str, summary: str, judged: Sequence[tuple[Fact, Comparison | None]], note_facts: Sequence[Fact]
) -> list[tuple[Fact, Comparison | None]]:
    """Return the judged facts, where a side is contradicted if the note has its finding on the other side only."""
    wrong = dict(_wrong_sides(note, summary, [fact for fact, _ in judged], note_facts))
    return [(fact, wrong.get(fact, comparison)) for fact, comparison in judged]


def _wrong_sides(
    note: str, summary: str, facts: Sequence[Fact], note_facts: Sequence[Fact]
) -> Iterator[tuple[Fact, Comparison]]:
    own, told_sides = _sides(facts), _sides(note_facts)
    mentions: dict[tuple[str, bool, bool], list[Fact]] = {}
    for fact in note_facts if own and told_sides else ():
        if fact.type in FINDINGS:
            mentions.setdefault(_named(fact), []).append(fact)
    told_of: dict[tuple[str, bool, bool], list[Fact | None]] = {}
    for fact in facts:
        side = _side_of(summary, fact, own) if _named(fact) in mentions and not fact.family else None
        if side is None or side.value == _BOTH:
            continue
        name = _named(fact)
        if name not in told_of:
            told_of[name] = _one_of_each([_side_of(note, mention, told_sides) for mention in mentions[name]])
        first = told_of[name][0]
        if first and all(told and told.value not in (side.value, _BOTH) for told in told_of[name]):
            yield side, Comparison(CONTRADICTED, first, side.type)


def _one_of_each(sides: Sequence[Fact | None]) -> list[Fact | None]:
    """Return the first side of each value; the mentions of a finding may be as many as the words of the note."""
    first: dict[str | None, Fact | None] = {}
    for side in sides:
        first.setdefault(side.value if side else None, side)
    return list(first.values())


def _named(fact: Fact) -> tuple[str, bool, bool]:
    return fact.value, fact.negated, fact.family


def _sides(facts: Sequence[Fact]) -> list[Fact]:
    return sorted((fact for fact in facts if fact.type == "laterality"), key=lambda fact: fact.start)


def _side_of(text: str, finding: Fact, sides: Sequence[Fact]) -> Fact | None:
    """Return the side in the clause of a finding, None if the clause has none or several."""
    first = bisect_left(sides, finding.start - 2 * _REACH, key=lambda side: side.start)
    last = bisect_left(sides, finding.end + _REACH, key=lambda side: side.start)
    near = [side for side in sides[first:last] if _is_in_clause(text, side, finding)]
    return near[0] if len({side.value for side in near}) == 1 else None


def _is_in_clause(text: str, side: Fact, finding: Fact) -> bool:
    start, end = min(side.end, finding.end), max(side.start, finding.start)
    return end - start <= _REACH and _ENDS_CLAUSE.search(text, start, end) is None
