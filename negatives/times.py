"""Editors of time: durations, intervals to the next visit, dates, and "before" or "after"."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from clinical.facts import Fact
from clinical.text import MONTHS, SPELLED_NUMBERS
from clinical.values import parsed_number
from negatives.case import Candidate, Case, cased_like, one_replacement, only_number, shuffled

_UNITS = ("minute", "hour", "day", "week", "month", "year")
_UNIT = re.compile(rf"(?P<unit>{'|'.join(_UNITS)})(?P<s>s?)$", re.IGNORECASE)
_NUMBER_WORDS = SPELLED_NUMBERS[1:13]  # one to twelve
_TRIES = 3  # candidates for each interval


def edit_duration(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _intervals(case, case.of_type("duration"), rng)


def edit_follow_up(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _intervals(case, case.of_type("follow_up"), rng)


def _intervals(case: Case, facts: Sequence[Fact], rng: random.Random) -> Iterator[Candidate]:
    """Replace the number of an interval, or its unit by the next larger or smaller one."""
    for _ in range(_TRIES):
        for fact in shuffled(facts, rng):
            change = _other_unit(fact, rng) if rng.random() < 0.5 else _other_number(case, fact, rng)
            if change:
                yield change


def _other_unit(fact: Fact, rng: random.Random) -> Candidate | None:
    """Replace the unit by the next larger or smaller one, if the number stays plausible."""
    unit = _UNIT.search(fact.text)
    if not unit:
        return None
    index = _UNITS.index(unit["unit"].lower())
    number = _amount(fact)
    near = [i for i in (index - 1, index + 1) if 0 <= i < len(_UNITS) and (_UNITS[i] != "year" or number <= 20)]
    other = _UNITS[rng.choice(near)]
    return one_replacement(fact.start + unit.start(), fact.end, cased_like(unit["unit"], other) + unit["s"])


def _amount(fact: Fact) -> float:
    number = only_number(fact)
    return parsed_number(number[0]) if number else 1.0


def _other_number(case: Case, fact: Fact, rng: random.Random) -> Candidate | None:
    """Replace the number by another in the same style (digits or words), drawn by its use in the corpus."""
    if "-" in fact.value:  # a range
        return None
    words = re.match(r"[A-Za-z]+", fact.text)
    if words and words[0].lower() in _NUMBER_WORDS:
        others = [word for word in _NUMBER_WORDS if word != words[0].lower() and word != "one"]
        new = next(case.corpus.in_proportion(fact.type, others, rng))
        singular = words[0].lower() == "one"
        return None if singular else one_replacement(fact.start, fact.start + words.end(), cased_like(words[0], new))
    number = only_number(fact)
    if not number or number[0] == "1" or "." in number[0]:
        return None
    others = [str(value) for value in (*range(2, 13), 14, 15, 18, 20, 24, 30) if str(value) != number[0]]
    new = next(case.corpus.in_proportion(fact.type, others, rng))
    return one_replacement(fact.start + number.start(), fact.start + number.end(), new)


_FULL_DATE = re.compile(r"(?P<month>0?[1-9]|1[0-2])(?P<mark>/)(?P<day>0?[1-9]|[12]\d|3[01])(?P<rest>/\d{2,4})?$")
_IS_A_SCORE = re.compile(r"\d{1,2}/10$")


def edit_date(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in shuffled(case.of_type("date"), rng):
        yield from _other_year(case, fact, rng)
        yield from _other_day(fact, rng)
        yield from _other_month(fact, rng)


def _other_year(case: Case, fact: Fact, rng: random.Random) -> Iterator[Candidate]:
    if re.fullmatch(r"(?:19|20)\d\d", fact.text):
        years = [str(int(fact.text) + step) for step in (-8, -5, -3, -2, -1, 1, 2, 3, 5)]
        for new in case.corpus.in_proportion("date", [y for y in years if not case.has_number(y)], rng):
            yield one_replacement(fact.start, fact.end, new)


def _other_day(fact: Fact, rng: random.Random) -> Iterator[Candidate]:
    """Replace the day by another day with the same number of digits."""
    written = _FULL_DATE.match(fact.text)
    if written and not _IS_A_SCORE.match(fact.text):
        width = len(written["day"])
        days = [day for day in range(10 if width == 2 else 1, 29 if width == 2 else 10) if day != int(written["day"])]
        day = f"{rng.choice(days):0{width}d}"
        yield one_replacement(fact.start + written.start("day"), fact.start + written.end("day"), day)


def _other_month(fact: Fact, rng: random.Random) -> Iterator[Candidate]:
    month = re.match(r"[A-Za-z]+", fact.text)
    if month and month[0].capitalize() in MONTHS:
        others = [name for name in MONTHS if name != month[0].capitalize()]
        yield one_replacement(fact.start, fact.start + month.end(), cased_like(month[0], rng.choice(others)))


_OPPOSITES = {"before": "after", "after": "before", "prior to": "after", "following": "before"}


def edit_order(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in shuffled(case.of_type("order"), rng):
        if other := _OPPOSITES.get(fact.text.lower()):
            yield one_replacement(fact.start, fact.end, cased_like(fact.text, other))
