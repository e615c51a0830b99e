"""Compare names of small closed sets: relatives, weekdays, months and times of day.

A summary that says "the mother" of a note with "Dad happy w/ plan", or "Tuesday" of one with "Mon" and "Fri" only,
names one of a set of which the note names others. A name whose set the note does not mention at all is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from clinical.text import MONTHS
from fact_checking.claims import Claim
from fact_checking.worded_text import Word, Wording

# relatives that words may mean, and the words
_KIN = {
    word: frozenset(names.split())
    for names, words in (
        ("mother", "mother mom mum mummy mommy mo mothers mums moms maternal mat"),
        ("father", "father dad daddy fa fathers dads paternal pat"),
        ("mother father", "parents parent"),
        ("brother", "brother bro brothers"),
        ("sister", "sister sis sisters"),
        ("brother sister", "sibling siblings sib sibs twin"),
        ("son", "son sons"),
        ("daughter", "daughter daughters dtr dtrs dau"),
        ("wife", "wife"),
        ("husband", "husband"),
        ("wife husband partner", "spouse partner"),
        ("grandmother", "grandmother grandma gran granny nan gm mgm pgm"),
        ("grandfather", "grandfather grandpa grandad granddad mgf pgf"),
        ("grandmother grandfather", "grandparents grandparent"),
        ("grandson", "grandson grandsons"),
        ("granddaughter", "granddaughter granddaughters"),
        ("aunt", "aunt auntie aunts"),
        ("uncle", "uncle uncles"),
        ("niece", "niece"),
        ("nephew", "nephew"),
        ("cousin", "cousin cousins"),
        ("boyfriend partner", "boyfriend bf"),
        ("girlfriend partner", "girlfriend"),
        ("grandfather girlfriend partner", "gf"),
    )
    for word in words.split()
}
_PARENTS, _SPOUSES = frozenset({"mother", "father"}), frozenset({"wife", "husband", "partner"})
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_SHORT_DAYS = {"tues": "tuesday", "thur": "thursday", "thurs": "thursday", "weds": "wednesday"}
_WEEKDAYS = {
    **{short: frozenset([day]) for short, day in _SHORT_DAYS.items()},
    **{word: frozenset([day.lower()]) for day in _DAYS for word in (day.lower(), day[:3].lower())},
}
_MONTH_NAMES = {word: frozenset([month.lower()]) for month in MONTHS for word in (month.lower(), month[:3].lower())} | {
    "sept": frozenset(["september"])
}
_NO_MONTH = frozenset({"may", "mar"})  # "may" is a verb, "MAR" a record of drugs
_NUMERIC_DATE = re.compile(r"(?<![\d/.])\d{1,2}/\d{1,2}(?:/\d{2,4})?(?![\d/])|(?<!\d)\d{4}-\d\d-\d\d(?!\d)")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_MILITARY = re.compile(r"(?<![\d.,/:-])([01]\d|2[0-3])([0-5]\d)(?:h|hrs)?(?![\w.,/:-]*\d|\w)")
_Names = Callable[[Word], frozenset[str]]


def closed_set_claims(note: Wording, summary: Wording) -> Iterator[Claim]:
    """Yield a claim for each name of a set that the note lacks while it has other names of the set."""
    yield from _claims(note, summary, "attribution", _relative)
    yield from _claims(note, summary, "date", lambda word: _WEEKDAYS.get(word.text, frozenset()))
    if not _NUMERIC_DATE.search(note.form.text):  # "5/9" may be the date that the summary writes out
        yield from _claims(note, summary, "date", _month)
    yield from _time_claims(note, summary)


def _relative(word: Word) -> frozenset[str]:
    return _KIN.get(word.text, frozenset())


def _month(word: Word) -> frozenset[str]:
    return frozenset() if word.text in _NO_MONTH else _MONTH_NAMES.get(word.text, frozenset())


def _claims(note: Wording, summary: Wording, kind: str, names_of: _Names) -> Iterator[Claim]:
    told: dict[frozenset[str], Word] = {}
    for word in note.words:
        if names := names_of(word):
            told.setdefault(names, word)
    known = frozenset[str]().union(*told)
    for word in summary.words if known else ():
        names = names_of(word)
        if not names or names & known:
            continue
        # a note on a pregnancy calls its patient no mother, but may name her husband
        rivals = (each for others, each in told.items() if not (names <= _PARENTS and others <= _SPOUSES))
        if rival := next(rivals, None):
            yield summary.claim(kind, word, note, rival)


# -------------------------------------------------------------------------------------- times of day


def _time_claims(note: Wording, summary: Wording) -> Iterator[Claim]:
    """Yield a claim for each time of day that the note does not have, if it has others."""
    told = [word for word in note.words if _CLOCK.fullmatch(word.text)]
    known = {_minutes(match) for match in _CLOCK.finditer(note.form.text)}
    known |= {_minutes(match) for match in _MILITARY.finditer(note.form.text)}
    for word in summary.words if told else ():
        time = _CLOCK.fullmatch(word.text)
        if time and _minutes(time) not in known:
            yield summary.claim("date", word, note, told[0])


def _minutes(time: re.Match[str]) -> int:
    return 60 * int(time[1]) + int(time[2])
