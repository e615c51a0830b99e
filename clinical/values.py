"""Extract values: doses, frequencies, durations, ages, sex, sides, dates and other numbers.

The text is in regular form (see `clinical.text`) and in lower case, which keeps the patterns fast. Each generator
yields facts of one type without scope flags. `clinical.facts` binds them to drugs and findings and adds the flags.
Units are converted to base units: mg, mL, hours. Vital signs and laboratory values are in `clinical.measurements`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from clinical.lexicons import on_change, units
from clinical.scope import Token
from clinical.text import MONTHS, Turn


@dataclass(frozen=True)
class Fact:
    """One fact of a text. `start` and `end` are its span, `text` is the text of that span.

    `key` is the subject that the value belongs to, such as a drug. `value` is normalised, so that `==` compares it.
    `family`: the fact is about a relative. `asked`: the text only asks about it, and the rules did not understand the
    answer. `spoken`: it is from a dialogue. `ownerless`: the sentence names no person ("Hypertension, gout.").
    `sentence` is the number of the sentence, from 0.
    """

    type: str
    start: int
    end: int
    text: str
    key: str
    value: str
    negated: bool = False
    uncertain: bool = False
    historical: bool = False
    family: bool = False
    asked: bool = False
    spoken: bool = False
    ownerless: bool = False
    sentence: int = 0


PROBLEMS = ("condition", "symptom")  # types of fact; "anxiety" may be either
FINDINGS = (*PROBLEMS, "drug", "procedure", "organism")

NUMBER = r"(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
_RANGE = rf"(?P<low>{NUMBER})(?:\s*(?:-|–|to|or)\s*(?P<high>{NUMBER}))?"


class Spanned(Protocol):
    """Something with a span."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


def covered(length: int, items: Iterable[Spanned]) -> bytearray:
    """Return one byte for each of `length` characters: 1 if an item covers it."""
    taken = bytearray(length)
    for item in items:
        taken[item.start : item.end] = b"\1" * (item.end - item.start)
    return taken


def ignoring_case(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE)


def parsed_number(text: str) -> float:
    """Parse a number: "1,500.5" -> 1500.5."""
    return float(text.replace(",", ""))


def plain_number(value: float) -> str:
    """Format a number with at most six decimals and no exponent: 0.125, 1500, 37.4."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def scaled(match: re.Match[str], factor: float = 1.0) -> str:
    """Return the number `low` or the range `low-high` of the match, times `factor`."""
    low = plain_number(parsed_number(match["low"]) * factor)
    return f"{low}-{plain_number(parsed_number(match['high']) * factor)}" if match["high"] else low


@lru_cache(maxsize=1)
def _dose() -> re.Pattern[str]:
    """Return the pattern of a dose: a number and a known unit, but no concentration and no dose per kg."""
    spellings = "|".join(map(re.escape, sorted(units(), key=len, reverse=True)))
    return re.compile(
        rf"(?<![\d.,/]){_RANGE}[ \t]*-?[ \t]*(?P<unit>{spellings})s?\b"
        r"(?![ \t]*(?:/|per)[ \t]*(?:d?l|ml|kg|deciliter|liter)\b)"
    )


on_change(_dose.cache_clear)

_COUNT = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
# "twice a week", but not "for about a week"
_A = (
    "".join(f"(?<!{word} )" for word in "for about in been than over within after almost nearly like maybe".split())
    + "an?"
)
_Z = r"(?! (?:early|ago|later|old|before|after|or|and|of|off)\b)"
_COUNTED_PER = r"\b(?P<count>once|twice|thrice|\d+(?: times?|x))[ -]*(?:an?|per|each|every)?[ -]*"
# pattern, words (every match contains at least one; they are searched first, for speed), value
_FREQUENCIES: tuple[tuple[re.Pattern[str], tuple[str, ...], str], ...] = tuple(
    (re.compile(expression), tuple(words.split("|")), value)
    for expression, words, value in (
        (r"\bevery other day\b|\bq\.?o\.?d\b", "other day|q", "0.5 per day"),
        (rf"\b(?:every|each|q\.?)[ \t]*{_RANGE}[ \t-]*(?:h|hr|hour)s?\b", "every|each|q", "every hours"),
        (rf"\bevery {_RANGE} (?:day)s?\b", "every", "every days"),
        (rf"\bevery {_RANGE} (?:week)s?\b", "every", "every weeks"),
        (rf"{_COUNTED_PER}(?:day|daily)\b", "day|daily", "count per day"),
        (rf"{_COUNTED_PER}(?:week|weekly)\b", "week", "count per week"),
        (r"\bb\.? ?i\.? ?d\b\.?", "bid|b.i|b. i|bi d|bi. d|b i", "2 per day"),
        (r"\bb\.d\b\.?", "b.d", "2 per day"),
        (r"\bt\.? ?i\.? ?d\b\.?|\bt\.?d\.?s\b\.?", "tid|t.i|t. i|ti d|ti. d|t i|tds|t.d", "3 per day"),
        (r"\bq\.? ?i\.? ?d\b\.?|\bq\.?d\.?s\b\.?", "q", "4 per day"),
        (
            r"\bq\.?[ ]?h\.?s\b\.?|\b(?:at|before) (?:bed ?time|night|bed)\b|\bnightly\b|\b(?:every|each) night\b",
            "q|bed|night",
            "bedtime",
        ),
        (r"\bq\.?a\.?m\b\.?|\b(?:every|each|in the) mornings?\b", "q|morning", "morning"),
        (r"\bq\.?p\.?m\b\.?|\b(?:every|each|in the) evenings?\b", "q|evening", "evening"),
        (
            rf"\bq\.?d\b\.?|\bq ?day\b|\b(?:every|each|per|{_A}) day\b{_Z}|(?<!times )\bdaily\b",
            "q|day|daily",
            "1 per day",
        ),
        (
            rf"\bweekly\b|\b(?:every|each|per|{_A}) week\b{_Z}",
            "week",
            "1 per week",
        ),
        (
            rf"\bmonthly\b|\b(?:every|each|per|{_A}) month\b{_Z}",
            "month",
            "1 per month",
        ),
        (r"\bp\.?r\.?n\b\.?|\bas[ -]needed\b|\bwhen needed\b|\bif needed\b", "p.r|prn|pr.n|needed", "as needed"),
    )
)

_HOURS = {  # a month is a twelfth of a year of 365 days
    "second": 1 / 3600,
    "minute": 1 / 60,
    "min": 1 / 60,
    "hour": 1,
    "hr": 1,
    "day": 24,
    "week": 168,
    "wk": 168,
    "month": 730,
    "mo": 730,
    "year": 8760,
    "yr": 8760,
    "decade": 87600,
}
_TIME_UNIT = "|".join(sorted(_HOURS, key=len, reverse=True))
_DURATION = re.compile(
    rf"(?<![\d.,/])(?:{_RANGE}|(?P<one>\ban?\b|(?=\bcouple\b))(?: ?(?P<couple>couple)(?: of)?)?)[ \t-]+"
    rf"(?!(?<=a )second\b)(?P<unit>{_TIME_UNIT})s?\b(?P<half> and a half\b)?"
    rf"|(?<![\d.,/]){_RANGE.replace('low', 'low2').replace('high', 'high2')}(?P<unit2>{_TIME_UNIT})s?\b"
)
# text before "a day" that makes it a duration; "two packs a day" is a rate
_LASTS = re.compile(
    r"(?:^|[^a-z\s]|\b(?:for|in|about|over|within|after|nearly|almost|than|like|maybe|last(?:s|ed|ing)?|only|"
    r"just|past"
    r"|was|is|been|once|during|or|and|approximately|around|every|through|of|to|next|took|takes|at least|another|half"
    r"|before))\s*$"
)
_PASSES = re.compile(r" (?:ago|later|old|off|before|after|history|prior|earlier|long|or|period|supply)\b|-")
_FOLLOW_UP = re.compile(
    r"\b(?:follow(?:ed|ing)?[- ]?up|return|review|recheck|come back|rtc|return to clinic|see (?:you|him|her|me|"
    r"us|them)|re-?evaluat\w+)\b"
    r"(?:(?:dr\.|[^.;?!\n]){0,50}?\b(?:in|after|within|at)(?: about| approximately| around)?[ ]*|:?[ ]{0,2})$"
)
# "f/u PCP 1-2 wks, cardiology 4 wks"
_FOLLOW_UP_LIST = re.compile(
    r"\b(?:follow[- ]?up|return|rtc|return to clinic)\b"
    r"(?:(?!\b(?:for|of|ago|since|with|from|over|last|past|x|was|is|has|had|after)\b)[^.;?!\n]){1,50}$"
)
_ENDS_FOLLOW_UP = re.compile(r"\s*(?:$|[.,;)\n])")

_NOT_OF_AGE = (
    "months?|weeks?|days?|hours?|minutes?|pounds?|lbs?|kilos?|kg|percent|feet|foot|ft|inch|miles?|mg|pills?|drinks?|"
    "times?|packs?|cigarettes?|of|out|for|years? (?:ago|in|now|out|sober|clean|post|since|smoke)|to|or"
)
_AGE = re.compile(
    r"\b(?P<years>\d{1,2})[ -]years?,?[ -](?:and )?(?P<months>\d{1,2})[ -]months?[ -]old\b"
    rf"|\b(?P<age>{NUMBER})[ \t-]*(?P<unit>year|yr|month|week|day|mo)s?(?:\.)?[ \t-]*(?:old\b|of age\b)"
    r"|\b(?P<age2>\d{1,3})[ \t-]*y\.?(?:r\.?)?[ \t]*/?[ \t]*o\b\.?"
    r"|\baged?:? (?:of |is )?(?P<age3>\d{1,3})\b(?!\s*(?:mg|%|to|-))"
    r"|\bhow old[^?\n]{0,40}\?(?:[^?\n]{0,80}\?)?\s*(?:\[?[A-Za-z_]+\]?:?)?[^\n\d?]{0,60}?\b(?P<age4>\d{1,3})\b(?!\.\d)"
    r"(?! (?:month|week|day|decade))"
    r"|(?<!scale )(?<!score )(?<!status )(?<!level )(?<!rate )(?<!pain )(?<!it )(?<!that )\b(?:is|"
    r"be) (?P<age5>\d{1,3})"
    r"(?=(?: years?(?: old)?)?\s*(?:[.,!?](?!\d)|$|sir\b|ma'am\b))"
    r"|\b(?:i'm|i am|you're|you are|he is|she is|he's|she's|turned|turning)(?: now| only| about| already| just|"
    r" like)? "
    rf"(?P<age6>\d{{1,3}})(?![\d.,]*\d|%|/| ?(?:{_NOT_OF_AGE})|-)(?: years?\b)?"
    r"|\b(?P<age7>\d{1,3})(?: years (?:young|on (?:this|the) (?:earth|planet))|(?:st|nd|rd|th) birthday)"
)
_YEARS = {"year": 1.0, "yr": 1.0, "month": 1 / 12, "mo": 1 / 12, "week": 7 / 365, "day": 1 / 365}

_SEX = {  # word -> (kind, sex)
    word: (kind, sex)
    for kind, sex, words in (
        ("noun", "female", "woman female lady girl gentlewoman"),
        ("noun", "male", "man male gentleman boy"),
        ("address", "female", "ma'am miss mrs ms"),
        ("address", "male", "sir mister mr"),
        ("pronoun", "female", "she her hers herself"),
        ("pronoun", "male", "he his him himself"),
        ("letter", "female", "f"),
        ("letter", "male", "m"),
    )
    for word in words.split()
}
_BEFORE_SEX = re.compile(r"(?:(?<![\d.])(?:\d|[1-8]\d|9[0-4]) |\by/?o |old )$")  # not "101.3 F"

_BODY_PARTS = (
    "abdomen|ankle|arm|armpit|axilla|back|breast|buttock|calf|cheek|chest|clavicle|collarbone|ear|elbow|extremity|"
    "extremities|eye|eyelid|face|femur|fibula|finger|flank|foot|feet|forearm|forehead|groin|hamstring|hand|heel|"
    "hemibody|"
    "hemisphere|hip|humerus|jaw|kidney|knee|leg|limb|lobe|lung|neck|nostril|ovary|patella|pinky|radius|rib|scapula|"
    "shin|shoulder|shoulder blade|side|temple|testicle|thigh|thumb|tibia|toe|tonsil|upper quadrant|"
    "lower quadrant|ventricle|wrist|handed"
)
_LATERALITY = re.compile(
    r"\b(?P<side>left|right|bilateral|bilaterally|lt|rt|both)\b"
    r"(?=(?:[ -]sided?|(?<=both)(?: of)? (?:my|your|his|her|the))?(?P<gap>(?:[ -]+[a-z]+){0,2}?)[ -]+"
    rf"(?P<part>{_BODY_PARTS})s?\b)"
)
_SIDE = re.compile(r"\b(?P<side>left|right|bilateral)\b(?P<sided>[ -]sided)?[ ]+")
UNNAMED_PART = "part"  # key of a side whose body part is not known
_SIDE_OF_ANYTHING = re.compile(
    r"(?<![a-z-])(?<!he )(?<!patient )(?<!pt )(?<!all )(?<!is )(?:left|right)(?![a-z]|[ -]hand(?:ed)?\b)"
    r"(?! (?:the|a|an|him|her|them|with|without|against|to|in|as|now|away|before|after|when|at|for|work|home)\b)"
)
_SIDES = {
    "left": "left",
    "lt": "left",
    "right": "right",
    "rt": "right",
    "bilateral": "both",
    "bilaterally": "both",
    "both": "both",
}
_SIDE_ALONE = re.compile(
    r"(?:\b(?:my|the|your|his|her|on|is|just|it's|was)|\bwhich (?:[a-z]+ ){0,4}[a-z]+\?\s*[a-z_]+:(?: um,| uh,)?) "
    r"(?P<side>left|right)(?= (?:one|side|ones)\b|\s*[.;,?!]|\s*$)"
)
_NO_SIDE_GAP = frozenset(
    "now the a my of and or but that when after away there i you he she it was is for to in on".split()
)

_MONTH_NUMBERS = {month[:3].lower(): number for number, month in enumerate(MONTHS, start=1)}
_MONTHS = "|".join([*(f"{month[:3]}(?:{month[3:]})?".lower() for month in MONTHS), "sept"])  # whole or abbreviated
_DATE = re.compile(
    rf"\b(?P<month>{_MONTHS})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<year>(?:19|20)\d\d))?"
    rf"|\b(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month2>{_MONTHS})\b"
    r"|(?<=\bthe )(?P<day3>\d{1,2})(?:st|nd|rd|th)\b"
    r"(?! (?:percentile|grade|birthday|time|day|month|week|year|toe|finger|rib))"
    r"|(?<![\d/.])(?<![ (]\d-)(?P<m>0?[1-9]|1[0-2])/(?P<d>0?[1-9]|[12]\d|3[01])(?:/(?P<y>(?:19|20)?\d\d))?(?![\d/])"
    r"(?![ -](?:mile|pack|tab|pill|cup|hour|inch|block|bottle|year|month|week|day))"
    r"|(?<![\d/.])(?P<m2>0?[1-9]|1[0-2])/(?P<y2>(?:19|20)\d\d|[3-9]\d)(?![\d/])"
    r"|(?<![\d.,/])(?P<only>(?:19|20)\d\d)(?![\d,/]|\.\d)\b"
)
_BARE_NUMBER = re.compile(
    r"(?P<limit>(?<![-=–])[<>≤≥]=?\s?|\b(?:less than|under|below|greater than|more than|over|above) )?"
    rf"(?<![\w.,/:#])(?<![\w)]-)(?P<low>{NUMBER})(?![.,]?\d|(?:st|nd|rd|th)\b)"
    rf"(?:(?:[-–]|[ ]to[ ])(?P<high>{NUMBER})(?![\d/]|[.,]\d))?(?P<unit>%)?(?:[ -]+(?P<noun>[a-z]+))?(?![\w]*:\d)"
)
_OVER = frozenset({">", "≥", ">=", "greater than", "more than", "over", "above"})


_RAISED_OR_LOWERED = re.compile(rf"(?<![\w.,/])(?P<old>{NUMBER}) ?(?:->|-->|→|=>) ?$")
_REACH_OF_OLD = 16  # characters before a dose in which the one that it replaces is looked for


def dose_facts(text: str) -> Iterator[Fact]:
    for match in _dose().finditer(text):
        factor, unit = units()[match["unit"]]
        if match["high"] and text.endswith("from ", 0, match.start()):  # "from 24 to 28 units" is no range
            for end in ("low", "high"):
                value = plain_number(parsed_number(match[end]) * factor)
                yield Fact(
                    "dose", match.start(end), match.end(end) if end == "low" else match.end(), "", "", f"{value} {unit}"
                )
            continue
        if old := _RAISED_OR_LOWERED.search(text, max(0, match.start() - _REACH_OF_OLD), match.start()):
            value = plain_number(parsed_number(old["old"]) * factor)
            yield Fact("dose", old.start("old"), old.end("old"), "", "", f"{value} {unit}")  # "80 -> 40 mg"
        yield Fact("dose", match.start(), match.end(), "", "", f"{scaled(match, factor)} {unit}")


def frequency_facts(text: str) -> Iterator[Fact]:
    for pattern, words, value in _FREQUENCIES:
        for match in pattern.finditer(text) if any(word in text for word in words) else ():
            yield Fact("frequency", match.start(), match.end(), "", "", _frequency(match, value))


def _frequency(match: re.Match[str], value: str) -> str:
    if value.startswith("count"):
        count = match["count"]
        number = _COUNT.get(count) or float(re.sub(r"\D", "", count))
        return f"{plain_number(number)}{value.removeprefix('count')}"
    if value == "every hours" and not match["high"] and parsed_number(match["low"]):
        return f"{plain_number(24 / parsed_number(match['low']))} per day"
    return value.replace("every", f"every {scaled(match)}", 1) if value.startswith("every ") else value


def duration_facts(text: str) -> Iterator[Fact]:
    for match in _DURATION.finditer(text):
        hours = _HOURS[(match["unit"] or match["unit2"])]
        if match["one"] in ("a", "an") and not match["couple"] and not match["half"] and not _is_lasting(text, match):
            continue
        if match["one"] is not None:
            whole = 0.5 if text.endswith("half ", 0, match.start()) else 2 if match["couple"] else 1
            value = plain_number((1.5 if match["half"] else whole) * hours)
        else:
            ends = [end for name in ("low", "high", "low2", "high2") if (end := match[name])]
            if len(ends) > 1 and text.endswith("from ", 0, match.start()):  # "from 90 to 20 minutes" is no range
                ends = ends[1:]
            value = "-".join(plain_number(parsed_number(end) * hours) for end in ends)
        is_return = _FOLLOW_UP.search(text, max(0, match.start() - 90), match.start()) or (
            _ENDS_FOLLOW_UP.match(text, match.end())
            and _FOLLOW_UP_LIST.search(text, max(0, match.start() - 60), match.start())
        )
        yield Fact("follow_up" if is_return else "duration", match.start(), match.end(), "", "", f"{value} hours")


def _is_lasting(text: str, match: re.Match[str]) -> bool:
    """Return whether "a day" is a length of time. Otherwise it is a rate."""
    before = _LASTS.search(text, max(0, match.start() - 16), match.start())
    return before is not None or _PASSES.match(text, match.end()) is not None


_WHOLE_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def of_whole_numbers(text: str, facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts that neither begin nor end inside a number, such as the 5 of "5.9"."""
    inner = bytearray(len(text) + 1)
    for match in _WHOLE_NUMBER.finditer(text):
        inner[match.start() + 1 : match.end()] = b"\1" * (match.end() - match.start() - 1)
    return [fact for fact in facts if not (inner[fact.start] or inner[fact.end])]


_SUBJECT = re.compile(r"\b(?:he|she|patient|pt|who|baby|child|infant|mother|father) (?:now |currently )?$")


def age_facts(text: str, *, in_dialogue: bool) -> Iterator[Fact]:
    """Yield the ages. In written text, "is 5" is an age only after a person."""
    for match in _AGE.finditer(text) if any(map(str.isdigit, text)) else ():
        if match["age5"] and not in_dialogue and not _SUBJECT.search(text, max(0, match.start() - 24), match.start()):
            continue
        if match["years"]:
            value = plain_number(int(match["years"]) + int(match["months"]) / 12)
            yield Fact("age", match.start(), match.end(), "", "", value)
            continue
        name = next(name for name in ("age", "age2", "age3", "age4", "age5", "age6", "age7") if match[name])
        years = parsed_number(match[name]) * _YEARS[match["unit"] or "year"]
        if years <= 120:
            start = match.start(name)
            yield Fact("age", start, match.end(name) if name == "age4" else match.end(), "", "", plain_number(years))


def sex_facts(text: str, tokens: Sequence[Token], turns: Sequence[Turn]) -> Iterator[Fact]:
    """Yield the sexes. The key is `pronoun` for pronouns, `patient` for nouns and a doctor's forms of address.

    `text` must keep its capitals, because "MS" is a disease and "Ms" a form of address.
    """
    for word, start, end in tokens:
        spoken = word if word in _SEX else word.partition("'")[0]  # "he's"
        if spoken not in _SEX or text[start:end] in ("MS", "ms", "miss"):  # multiple sclerosis, milliseconds, a verb
            continue
        kind, sex = _SEX[spoken]
        if kind == "letter" and not _BEFORE_SEX.search(text, max(0, start - 6), start):
            continue
        if kind == "address" and turns and not any(turn.start <= start < turn.end for turn in turns if turn.by_doctor):
            continue
        yield Fact("sex", start, start + len(spoken), "", "pronoun" if kind == "pronoun" else "patient", sex)


def laterality_facts(text: str, findings: Sequence[Fact], *, in_dialogue: bool) -> Iterator[Fact]:
    """Yield the sides. The key is the body part within the next two words, or the finding directly after the side.

    A side without either ("the left one") has the key "", or in written text UNNAMED_PART.
    """
    done = set()
    for match in _LATERALITY.finditer(text):
        if not _NO_SIDE_GAP & set(match["gap"].split()) or match["part"] == "side":
            done.add(match.start())
            part = match["part"]
            key = {"feet": "foot", "extremities": "extremity"}.get(part, part)
            yield Fact("laterality", match.start("side"), match.end("side"), "", key, _SIDES[match["side"]])
    for match in _SIDE_ALONE.finditer(text):
        if match.start("side") not in done:
            done.add(match.start("side"))
            yield Fact("laterality", match.start("side"), match.end("side"), "", "", match["side"])
    starts = {fact.start: fact for fact in findings if fact.type in PROBLEMS}
    for match in _SIDE.finditer(text):
        fact = starts.get(match.end())
        if fact and match.start() not in done:
            done.add(match.start())
            yield Fact("laterality", match.start("side"), match.end("side"), "", fact.key, _SIDES[match["side"]])
    for match in _SIDE_OF_ANYTHING.finditer(text) if not in_dialogue else ():
        if match.start() not in done:
            yield Fact("laterality", match.start(), match.end(), "", UNNAMED_PART, _SIDES[match[0]])


def date_facts(text: str) -> Iterator[Fact]:
    for match in _DATE.finditer(text):
        if match["only"] or match["day3"]:
            value = match["only"] or f"/{int(match['day3'])}"
        elif name := match["month"] or match["month2"]:
            value = f"{_MONTH_NUMBERS[name[:3]]}/{int(match['day'] or match['day2'])}"
        elif match["y2"]:
            value = f"{int(match['m2'])}/{match['y2']}"
        else:
            value = f"{int(match['m'])}/{int(match['d'])}"
        yield Fact("date", match.start(), match.end(), "", "", value)


_PACKS_FOR_YEARS = re.compile(
    r"(?<![\d.])(?P<packs>\d+(?:\.\d+)?)[ -]*packs? (?:per|a|each|every) day "
    r"(?:for|x) (?:about )?(?P<years>\d+) ?years?\b"
)
_PACK_YEAR = "pack year"
_PACK_YEARS = re.compile(r"[ -]*(?:packs?[ -]*(?:years?|yrs?)|py)\b")


def pack_year_facts(text: str) -> Iterator[Fact]:
    """Yield the pack-years of "1 pack per day for 20 years"."""
    for match in _PACKS_FOR_YEARS.finditer(text):
        years = parsed_number(match["packs"]) * parsed_number(match["years"])
        yield Fact("number", match.start("packs"), match.end("packs"), "", _PACK_YEAR, plain_number(years))


def number_facts(text: str) -> Iterator[Fact]:
    """Yield the other numbers and ranges. The key is the noun after the number, a limit has < or > in its value."""
    for match in _BARE_NUMBER.finditer(text):
        noun = (match["noun"] or "").rstrip("s")
        if _PACK_YEARS.match(text, match.end("high") if match["high"] else match.end("low")):
            noun = _PACK_YEAR
        end = match.end("unit") if match["unit"] else match.end("high") if match["high"] else match.end("low")
        limit = (match["limit"] or "").strip()
        sign = "" if not limit else ">" if limit in _OVER else "<"
        low_end = match.end("low")
        if match["high"] and text.endswith("from ", 0, match.start("low")):  # "from 14 to 10" is no range
            yield Fact("number", match.start("low"), low_end, "", "", plain_number(parsed_number(match["low"])))
            value = plain_number(parsed_number(match["high"])) + (match["unit"] or "")
            yield Fact("number", match.start("high"), end, "", noun, value)
            continue
        yield Fact("number", match.start("low"), end, "", noun, sign + scaled(match) + (match["unit"] or ""))
