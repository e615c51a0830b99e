"""Editors of numbers: doses, frequencies, vital signs, laboratory values, ages and counts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from clinical.facts import Fact, extract_facts
from clinical.lexicons import reference_ranges
from clinical.occurrences import right_before
from clinical.text import SPELLED_NUMBERS
from clinical.values import parsed_number, plain_number
from negatives.case import (
    Candidate,
    Case,
    capital_like,
    cased_like,
    one_replacement,
    only_number,
    shuffled,
)


def _new_numbers(
    case: Case, facts: Sequence[Fact], rng: random.Random, alternatives: Callable[[str], Sequence[str]]
) -> Iterator[Candidate]:
    """Replace the number of each fact by each of the `alternatives` that the note does not contain."""
    for fact in shuffled(facts, rng):
        number = only_number(fact)
        if not number:
            continue
        others = [other for other in alternatives(number[0]) if not case.has_number(other)]
        for other in case.corpus.in_proportion(fact.type, others, rng):
            yield one_replacement(fact.start + number.start(), fact.start + number.end(), other)


def _written_like(old: str, value: float) -> str:
    """Format `value` with the decimals and the thousands separator of `old`."""
    decimals = len(old.partition(".")[2])
    return f"{value:,.{decimals}f}" if "," in old else f"{value:.{decimals}f}"


# ----------------------------------------------------------------------------------------------- drugs

_STRENGTHS = ("mg", "mL", "units", "mEq")


def _strengths(case: Case) -> list[Fact]:
    return [fact for fact in case.of_type("dose") if fact.key and fact.value.endswith(_STRENGTHS)]


def edit_dose(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        value = parsed_number(old)
        others = [plain_number(other) for other in (value * 10, value / 10) if 0.01 <= other <= 100_000]
        return [f"{parsed_number(other):,.0f}" if "," in old and "." not in other else other for other in others]

    yield from _new_numbers(case, _strengths(case), rng, alternatives)


_UNITS = {  # spelling in lower case -> other units, in the same style
    "mg": ("mcg", "g"),
    "mcg": ("mg",),
    "g": ("mg",),
    "gm": ("mg",),
    "gram": ("milligram",),
    "grams": ("milligrams",),
    "milligram": ("microgram", "gram"),
    "milligrams": ("micrograms", "grams"),
    "micrograms": ("milligrams",),
    "ml": ("L",),
    "cc": ("L",),
    "l": ("mL",),
    "liter": ("milliliter",),
    "liters": ("milliliters",),
    "kg": ("pounds",),
    "kilograms": ("pounds",),
    "pounds": ("kilograms",),
    "lbs": ("kg",),
    "mg/dl": ("g/dL",),
    "g/dl": ("mg/dL",),
}


def edit_unit(case: Case, rng: random.Random) -> Iterator[Candidate]:
    measured = [fact for fact in case.of_type("vital", "lab") if fact.key in ("weight", "hemoglobin", "albumin")]
    for fact in shuffled([*_strengths(case), *measured], rng):
        unit = re.search(r"(?<=[\d\s-])(?P<unit>[A-Za-z]+(?:/d[lL])?)$", fact.text)
        for other in case.corpus.in_proportion("unit", _UNITS.get(unit["unit"].lower(), ()) if unit else (), rng):
            new = other.upper() if unit and unit["unit"].isupper() and len(unit["unit"]) > 1 else other
            yield one_replacement(fact.end - len(unit["unit"]) if unit else fact.end, fact.end, new)


_FREQUENCY_STYLES: tuple[tuple[str, ...], ...] = (
    ("QD", "BID", "TID", "QID", "QHS"),
    ("daily", "BID", "TID", "QID", "QHS", "weekly"),
    ("qd", "bid", "tid", "qid", "qhs"),
    ("q.d.", "b.i.d.", "t.i.d.", "q.i.d.", "q.h.s."),
    ("daily", "b.i.d.", "t.i.d.", "q.i.d.", "q.h.s.", "weekly"),
    ("a day", "twice a day", "three times a day", "four times a day"),
    ("once a day", "twice a day", "three times a day", "four times a day", "every other day", "once a week"),
    ("once per day", "twice per day", "three times per day", "four times per day"),
    ("once a week", "twice a week", "three times a week", "once a day", "once a month"),
    ("q4h", "q6h", "q8h", "q12h"),
    ("q.4h", "q.6h", "q.8h", "q.12h"),
    ("q.4h.", "q.6h.", "q.8h.", "q.12h."),
    ("q4 hours", "q6 hours", "q8 hours", "q12 hours"),
    ("daily", "twice daily", "three times daily", "four times daily", "weekly", "every other day", "as needed"),
    ("once daily", "twice daily", "three times daily", "every 6 hours", "every 8 hours", "every 12 hours",
     "at bedtime", "every morning", "weekly", "as needed"),
    ("every 4 hours", "every 6 hours", "every 8 hours", "every 12 hours"),
    ("every four hours", "every six hours", "every eight hours", "every twelve hours"),
    ("every day", "every other day", "every week", "twice a day"),
    ("nightly", "every morning", "daily", "twice daily", "weekly"),
    ("every night", "every morning", "every other day"),
    ("at bedtime", "at night", "in the morning", "twice daily", "every morning"),
    ("weekly", "daily", "monthly", "every other week"),
    ("prn", "daily", "bid"),
    ("p.r.n.", "daily", "b.i.d."),
    ("as needed", "daily", "twice daily", "three times a day", "at bedtime"),
)  # fmt: skip
_STYLE_OF = {text.lower(): style for style in reversed(_FREQUENCY_STYLES) for text in style}


def edit_frequency(case: Case, rng: random.Random) -> Iterator[Candidate]:
    told = {(fact.key, fact.value) for fact in case.note_facts if fact.type == "frequency"}
    for fact in shuffled(case.of_type("frequency"), rng):
        style = _STYLE_OF.get(fact.text.lower(), ())
        others = [
            text for text in style if text.lower() != fact.text.lower() and (fact.key, _frequency(text)) not in told
        ]
        for other in case.corpus.in_proportion("frequency", others, rng):
            yield one_replacement(fact.start, fact.end, capital_like(fact.text, other))


@lru_cache(maxsize=256)
def _frequency(text: str) -> str:
    return next((fact.value for fact in extract_facts(f"aspirin {text}") if fact.type == "frequency"), "")


def edit_entity_merge(case: Case, rng: random.Random) -> Iterator[Candidate]:
    texts: dict[tuple[str, ...], list[str]] = {}  # the same for every mention of the same fact in the same words
    for fact in shuffled([*_strengths(case), *case.of_type("frequency")], rng):
        mention = (fact.type, fact.key, fact.value, fact.text)
        if mention not in texts:
            others = [
                other
                for other in [*case.note_facts, *case.facts]
                if other.type == fact.type and other.key not in ("", fact.key) and other.value != fact.value
            ]
            texts[mention] = sorted(_mergeable(fact, others))
        for text in case.corpus.in_proportion(fact.type, texts[mention], rng):
            number = only_number(fact) if fact.type == "dose" else None
            end = fact.start + number.end() if number else fact.end
            yield one_replacement(fact.start, end, text if number else capital_like(fact.text, text))


def _mergeable(fact: Fact, others: Sequence[Fact]) -> set[str]:
    """Return the texts that can replace the fact: numbers of doses in the same unit, or frequencies in its style."""
    if fact.type == "frequency":
        style = {text.lower() for text in _STYLE_OF.get(fact.text.lower(), ())}
        return {other.text for other in others if other.text.lower() in style}
    number, unit = only_number(fact), fact.value.partition(" ")[2]
    scale = (
        parsed_number(fact.value.partition(" ")[0]) / parsed_number(number[0])
        if number and parsed_number(number[0])
        else 0.0
    )
    same = [
        other for other in others if other.value == f"{other.value.partition(' ')[0]} {unit}" and only_number(other)
    ]
    return {
        found[0]
        for other in same
        if (found := only_number(other))
        and parsed_number(found[0]) * scale == parsed_number(other.value.partition(" ")[0])
    }


# ------------------------------------------------------------------------- vital signs and laboratory


def edit_vital(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in shuffled(case.of_type("vital"), rng):
        yield from _pressures(case, fact, rng) if fact.key == "blood pressure" else _across(case, fact, rng)


def edit_lab(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in shuffled(case.of_type("lab"), rng):
        yield from _across(case, fact, rng)


def _pressures(case: Case, fact: Fact, rng: random.Random) -> Iterator[Candidate]:
    """Replace the systolic pressure by values on the other side of its normal limit."""
    written = re.search(r"(?P<systolic>\d{2,3})(?:\s*/\s*|\s+over\s+)(?P<diastolic>\d{2,3})", fact.text)
    if not written:
        return
    diastolic = int(written["diastolic"])
    for value in _other_side("systolic blood pressure", float(written["systolic"]), rng):
        new = f"{value:.0f}"
        if int(new) >= diastolic + 15 and not case.has_number(new):
            yield one_replacement(fact.start + written.start("systolic"), fact.start + written.end("systolic"), new)


def _across(case: Case, fact: Fact, rng: random.Random) -> Iterator[Candidate]:
    """Replace a value by values on the other side of its normal limit, first by values that the corpus contains."""
    number = _value_in(fact)
    if not number:
        return
    old = parsed_number(number[0])
    scale = float(fact.value) / old if old and re.fullmatch(r"[\d.]+", fact.value) else 0.0
    if not 0.999 < scale < 1.001:  # the text has another unit than the reference ranges
        return
    seen = case.corpus.uses.get(fact.type, ())
    values = [_written_like(number[0], value) for value in _other_side(fact.key, old, rng)]
    likely = [form for form in values if form in seen]
    for new in [*likely, *values][:6]:
        if not case.has_number(new):
            yield one_replacement(fact.start + number.start(), fact.start + number.end(), new)


def _value_in(fact: Fact) -> re.Match[str] | None:
    """Return the match of the fact's value, its last number ("Hemoglobin A1c 7.2", "T4 1.1")."""
    numbers = list(re.finditer(r"(?<![A-Za-z\d.])\d+(?:,\d{3})*(?:\.\d+)?", fact.text))
    return numbers[-1] if numbers else None


_DRAWS = 12


def _other_side(name: str, value: float, rng: random.Random) -> Iterator[float]:
    """Yield plausible values that are abnormal if `value` is normal, and normal if it is abnormal."""
    limits = reference_ranges().get(name)
    if limits is None:
        return
    low, high = limits.low, limits.high
    inside = (low is None or value >= low) and (high is None or value <= high)
    floor, ceiling = limits.plausible_low, limits.plausible_high
    if inside:
        spans = [(floor, low)] if low is not None and low > floor else []
        spans += [(high, ceiling)] if high is not None and high < ceiling else []
    else:
        spans = [(floor if low is None else low, ceiling if high is None else high)]
    for _ in range(_DRAWS if spans else 0):
        start, end = rng.choice(spans)
        step = 10**-limits.decimals
        new = start + (end - start) * rng.random() ** (2 if inside and start == high else 1)
        if abs(new - start) > step / 2 and abs(end - new) > step / 2:
            yield round(new, limits.decimals)


# ------------------------------------------------------------------------------------- age and counts


def edit_age(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        age = int(parsed_number(old))
        if age < 18:
            return [str(other) for other in range(max(2, age - 4), age + 5) if other != age]
        return [str(other) for other in range(max(18, age - 30), min(99, age + 31)) if abs(other - age) >= 5]

    own = [fact for fact in case.of_type("age") if not fact.family and "." not in fact.text]
    yield from _new_numbers(case, own, rng, alternatives)


_COUNT_WORDS = SPELLED_NUMBERS[2:9]  # two to eight
# the end of a scale ("5 out of 10", "0 to 10") or of a range is not a count
_ENDS_A_SCALE = re.compile(r"(?:out of|to|over|-|–|/|\bof|\bin|\d\s+and)\s*$")
_BEGINS_A_RANGE = re.compile(r"\s*(?:to\b|over\b|or\b|-|–)")
_SCALE = re.compile(r"\s*(?:out of|of|/)\s*(?P<end>\d+)")


def edit_count(case: Case, rng: random.Random) -> Iterator[Candidate]:
    counted = [
        fact
        for fact in case.of_type("number")
        if fact.key
        and not right_before(_ENDS_A_SCALE, case.text, fact.start)
        and not _BEGINS_A_RANGE.match(case.text, fact.end)
    ]
    for fact in shuffled(counted, rng):
        yield from _new_numbers(case, [fact], rng, lambda old, fact=fact: _other_counts(case.text, fact, old))  # type: ignore[misc]
    for fact in shuffled(counted, rng):
        if (old := fact.text.lower()) in _COUNT_WORDS:
            words = [word for i, word in enumerate(_COUNT_WORDS, 2) if word != old and not case.has_number(str(i))]
            for word in case.corpus.in_proportion("number", words, rng):
                yield one_replacement(fact.start, fact.end, cased_like(fact.text, word))


def _other_counts(text: str, fact: Fact, old: str) -> list[str]:
    """Return other counts of similar size, within the scale if there is one."""
    value = int(parsed_number(old)) if "." not in old else 0
    scale = _SCALE.match(text, fact.end)
    near = range(2, 10) if value < 10 else (value // 2, value * 2, value * 3)
    highest = int(scale["end"]) if scale else max(near)
    return [str(new) for new in near if 2 <= new <= highest and new != value] if value >= 2 else []
