"""Normalise clinical text: sentences, dialogue turns, and spelled-out numbers as digits.

`sentences` works on the original text. `regular_form` returns a copy in which "twenty-five" is "25", "two and a half"
is "2.5" and dictated letters ("M G", "C T") are joined, so that later patterns need only one spelling. The copy maps
its spans back to the original.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MONTHS = "January February March April May June July August September October November December".split()
SPELLED_NUMBERS = (  # the index of a word is its value
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_UNITS = {word: value for value, word in enumerate(SPELLED_NUMBERS)}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_TENS["fourty"] = 40  # a frequent misspelling in transcripts
_ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
} | {"thirtieth": 30, "nineth": 9}
_ORDINAL_ENDINGS = ("first", "second", "third", "urth", "fth", "xth", "enth", "ghth", "inth", "neth", "tieth")
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_NUMBER_WORD = "|".join(sorted([*_UNITS, *_TENS, *_SCALES, "point"], key=len, reverse=True))
_SPOKEN_NUMBER = re.compile(
    rf"\b(?:{_NUMBER_WORD})(?:(?:(?:(?<=hundred)|(?<=thousand))[ ]+and[ ]+|[ -]+)(?:{_NUMBER_WORD}))*\b"
    r"(?P<half>[ ]+and a half\b)?",
    re.IGNORECASE,
)
# "one" alone is usually a pronoun; it is a number only before something measured or counted
_COUNTED = re.compile(
    r"[ -]+(?:(?:and a half )?(?:second|minute|hour|day|week|month|year|time|tablet|pill|capsule|puff|unit|drop|pack"
    r"|gram|milligram|microgram|liter|pound|or two|to two)s?\b|m ?l\b|m ?g\b|mcg\b|m c g\b)",
    re.IGNORECASE,
)
_MONTH = f"(?:{'|'.join(MONTHS)})"
_MONTH_DAY = re.compile(
    rf"(?:\b{_MONTH} (?:the )?)?"
    rf"\b(?P<day>(?:(?P<tens>{'|'.join(_TENS)})[ -])?(?P<ordinal>{'|'.join(_ORDINALS)}))\b(?:(?: of)? {_MONTH}\b)?",
    re.IGNORECASE,
)
# "from November fifth to the fourteenth", but not "the fifth toe"
_DAY_ALONE = (
    re.compile(r"\bthe $", re.IGNORECASE),
    re.compile(r"\s*(?:[.,;?!]|$|(?:of (?:this|last|next|the)|and|to) )"),
)
_DAY_NUMBER = "|".join(
    sorted([*_UNITS, *(f"{tens} {unit}" for tens in ("twenty", "thirty") for unit in _UNITS), *_TENS], key=len)[::-1]
)
_DAY_AND_YEAR = re.compile(  # "June thirty two thousand and four" does not mean 32,004
    rf"\b{_MONTH} (?P<date>(?P<day>{_DAY_NUMBER})[ ,]+(?P<year>two thousand(?: and)?(?: (?:{_NUMBER_WORD}))?"
    rf"|nineteen (?:{_NUMBER_WORD})(?:[ -](?:{_NUMBER_WORD}))?"
    rf"|twenty (?:{'|'.join([*SPELLED_NUMBERS[10:], 'twenty'])})))\b",
    re.IGNORECASE,
)
_DECADES = {"twenties": "20s", "thirties": "30s", "forties": "40s", "fifties": "50s", "sixties": "60s"} | {
    "seventies": "70s",
    "eighties": "80s",
    "nineties": "90s",
}
_DECADE = re.compile(rf"\b(?P<century>nineteen )?(?P<decade>{'|'.join(_DECADES)})\b", re.IGNORECASE)
_SHORT_YEAR = re.compile(r"\bO (?P<year>one|two|three|four|five|six|seven|eight|nine)\b(?!-)")
_HALF = re.compile(r"(?<![\w./])(?P<whole>\d{1,3})[ -]1/2(?![\d/])")  # "2-1/2 months"
# "4 M G I M" becomes "4 MG IM"
_DICTATED_LETTERS = re.compile(r"\b(?!I )(?:M C G|M G|M L(?! K)|[A-Z](?: [A-Z]){1,4})\b(?!')")
_HEDGED_RANGE = re.compile(  # "three or maybe it is four years"
    r"(?<= )or(?:,? (?:maybe|perhaps|possibly|about|like|it is|it's|even|um|uh)\b,?)+ "
    rf"(?=(?:{_NUMBER_WORD}|\d+)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RegularForm:
    """A rewritten text. A change is (start in `text`, end in `text`, start in the original, end in the original)."""

    text: str
    changes: tuple[tuple[int, int, int, int], ...]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original that became `text[start:end]`."""
        return self._position(start, 2), self._position(end, 3)

    def _position(self, position: int, side: int) -> int:
        """Return the position in the original. Inside a change, `side` 2 gives the change's start, 3 its end."""
        index = bisect_right(self.changes, position, key=lambda change: change[0]) - 1
        if index < 0:
            return position
        change = self.changes[index]
        if side == 3 and position == change[0]:  # the span ends before this change begins
            return change[2]
        return change[side] if position < change[1] else position - change[1] + change[3]


Rewrite = tuple[int, int, str]  # start and end in the text, and the new words


def rewritten(text: str, rewrites: Iterable[Rewrite]) -> RegularForm:
    """Return `text` with the rewrites made. Of rewrites that overlap, the one given first is made."""
    pieces: list[str] = []
    changes: list[tuple[int, int, int, int]] = []
    done = length = 0
    for start, end, new in _without_overlaps(rewrites):
        pieces += [text[done:start], new]
        length += start - done + len(new)
        changes.append((length - len(new), length, start, end))
        done = end
    return RegularForm("".join([*pieces, text[done:]]), tuple(changes))


def _without_overlaps(rewrites: Iterable[Rewrite]) -> list[Rewrite]:
    kept: list[Rewrite] = []
    for rewrite in rewrites:
        index = bisect_left(kept, rewrite)
        follows = index == 0 or kept[index - 1][1] <= rewrite[0]
        if follows and (index == len(kept) or rewrite[1] <= kept[index][0]):
            kept.insert(index, rewrite)
    return kept


def regular_form(text: str) -> RegularForm:
    """Return `text` with spelled-out numbers as digits and dictated letters joined."""
    return rewritten(text, spoken_rewrites(text))


def spoken_rewrites(text: str) -> list[Rewrite]:
    """Return the rewrites of spelled-out numbers, dates and dictated letters, in the order of the text."""
    found = [(m.start(), m.end(), m[0].replace(" ", "")) for m in _DICTATED_LETTERS.finditer(text)]
    if " or" in text:
        found += [(m.start(), m.end(), "or ") for m in _HEDGED_RANGE.finditer(text)]
    if "1/2" in text:
        found += [(m.start(), m.end(), f"{m['whole']}.5") for m in _HALF.finditer(text)]
    first = list(_ordinals_decades_and_short_years(text))  # first, because their words are also numbers
    for match in _SPOKEN_NUMBER.finditer(text):
        if any(start < match.end() and match.start() < end for start, end, _ in first):
            continue
        if match[0].lower() == "one" and not _COUNTED.match(text, match.end()):
            continue
        value = spoken_number(match[0][: -len(match["half"])] if match["half"] else match[0])
        if value is not None:
            found.append((match.start(), match.end(), f"{float(value) + 0.5:g}" if match["half"] else value))
    return sorted([*found, *first])


def _ordinals_decades_and_short_years(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield rewrites: "July twenty first" -> 21th, "in her seventies" -> 70s, "O four" -> 04."""
    lower = text.lower()
    for match in _MONTH_DAY.finditer(text) if any(ending in lower for ending in _ORDINAL_ENDINGS) else ():
        before, after = _DAY_ALONE
        number = _TENS.get((match["tens"] or "").lower(), 0) + _ORDINALS[match["ordinal"].lower()]
        alone = before.search(text, max(0, match.start() - 4), match.start()) and after.match(text, match.end())
        if (alone and number > 3) or match.span() != match.span("day") or text.startswith(" birthday", match.end()):
            yield *match.span("day"), f"{number}th"
    for match in _DAY_AND_YEAR.finditer(text) if "thousand" in lower or "teen" in lower or "twenty" in lower else ():
        day, year = spoken_number(match["day"]), spoken_number(match["year"])
        if day and year:
            yield *match.span("date"), f"{day}, {year}"
    for match in _DECADE.finditer(text) if "ties" in lower else ():
        yield match.start(), match.end(), ("19" if match["century"] else "") + _DECADES[match["decade"].lower()]
    for match in _SHORT_YEAR.finditer(text) if "O " in text else ():
        yield match.start(), match.end(), f"0{_UNITS[match['year']]}"


def spoken_number(words: str) -> str | None:
    """Return a spelled-out number in digits, or None if the words are not one number.

    "one hundred and five" -> "105", "point one two five" -> "0.125", "nineteen ninety three" -> "1993".
    """
    whole, point, fraction = " ".join(re.findall(_NUMBER_WORD, words.lower())).partition("point")
    value = _whole_number(whole.split())
    if value is None or "point" in fraction:
        return None
    if not point:
        return str(value)
    if fraction.split() and all(word in _UNITS for word in fraction.split()):
        return f"{value}.{''.join(str(_UNITS[word]) for word in fraction.split())}"
    whole_fraction = _whole_number(fraction.split())
    return f"{value}.{whole_fraction}" if fraction.split() and whole_fraction is not None else None


def _whole_number(words: list[str]) -> int | None:
    total = group = 0
    previous = ""
    for word in words:
        if word in _SCALES:
            if word == "hundred":
                group = max(group, 1) * 100
            else:
                total, group = total + max(group, 1) * _SCALES[word], 0
        elif word in _TENS or _UNITS[word] >= 10:
            value = _TENS.get(word) or _UNITS[word]
            if group and previous not in _SCALES:  # "one forty" is 140, "nineteen ninety" 1990
                group *= 100
            group += value
        else:
            if previous in _UNITS:  # digits one by one: a telephone number or two numbers
                return None
            group += _UNITS[word]
        previous = word
    return total + group


# ------------------------------------------------------------------------------------------ sentences

_ABBREVIATIONS = frozenset(
    "dr mr mrs ms prof st jr sr vs etc approx no fig dept est e.g i.e p.o b.i.d t.i.d q.i.d q.d q.h.s p.r.n h.s i.v "
    "i.m s.c a.m p.m u.s mg ml tab tabs cap caps wk wks hr hrs yr yrs mo mos min pt hx dx".split()
)
# a mark may follow white space: some transcripts put a space before every mark
_SENTENCE_END = re.compile(r"[.?!]+[\"')\]]*(?=\s|$)|\n+")
_LIST_MARKER = re.compile(r"(?:^|[.?!:;]\s+|\n\s*)\d{1,2}$")


def sentences(text: str) -> list[tuple[int, int]]:
    """Return the spans of the sentences, without the white space around them.

    A line break ends a sentence. Decimals, abbreviations and list numbers ("1. ") do not.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if _ends_sentence(text, start, match):
            _append_stripped(spans, text, start, match.end())
            start = match.end()
    _append_stripped(spans, text, start, len(text))
    return spans


def _append_stripped(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    if stripped := piece.strip():
        start += len(piece) - len(piece.lstrip())
        spans.append((start, start + len(stripped)))


def _ends_sentence(text: str, start: int, mark: re.Match[str]) -> bool:
    if not mark[0].startswith("."):
        return True
    before = text[start : mark.start()]
    word = before.rsplit(None, 1)[-1].lower().lstrip("(\"'[") if before.strip() else ""
    following = text[mark.end() : mark.end() + 3].lstrip()[:1]
    if word in _ABBREVIATIONS:
        # a title never ends a sentence; another abbreviation does unless a lower-case letter follows
        return word not in {"dr", "mr", "mrs", "ms", "prof", "st", "vs"} and not following.islower()
    if re.search(r"\d\s+[CF]$", before):  # a temperature ("101 F"), not an initial
        return True
    if re.fullmatch(r"[a-z]", word) and following.isalpha():  # an initial
        return following.isupper() and len(before.split()) > 1 and not before.rsplit(None, 1)[-1].isupper()
    return not _LIST_MARKER.search(text[max(0, start - 3) : mark.start()])


# ---------------------------------------------------------------------------------------------- turns

_SPEAKER = re.compile(  # at the start of a line, or after a sentence if turns share a line
    r"(?m)(?:^[ \t]*\[(\w{2,})\]"
    r"|(?:^[ \t]*|(?<=[.?!])[ \t]+)(Doctor|Patient|Guest_\w+|Clinician|Nurse|Provider)[ ]?:)[ \t]*"
)


@dataclass(frozen=True)
class Turn:
    """One turn of a dialogue: the speaker in lower case, and the span of the spoken text."""

    speaker: str
    start: int
    end: int

    @property
    def by_doctor(self) -> bool:
        return self.speaker in ("doctor", "clinician", "nurse", "provider")


def dialogue_turns(text: str) -> list[Turn]:
    """Return the turns of a dialogue ("Doctor: …" or "[doctor] …"), none if the text is not a dialogue."""
    marks = list(_SPEAKER.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [Turn((mark[1] or mark[2]).lower(), mark.end(), end) for mark, end in zip(marks, ends, strict=False)]


def turn_at(turns: Sequence[Turn], end: int) -> int | None:
    """Return the index of the turn in which a sentence ends, or None. `end` is the end of the sentence."""
    index = bisect_left(turns, end, key=lambda turn: turn.end)
    return index if index < len(turns) and turns[index].start < end else None


def lower_case(text: str) -> str:
    """Return `text` in lower case with its length unchanged, so that spans stay valid ("İ" would become longer)."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
