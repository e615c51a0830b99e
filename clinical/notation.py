"""Rewrite the notation of typed notes in words: "62F", "x7d", "q2wk", "38,5 °C", "↑".

Each rewrite is (start, end, new words); see `clinical.text.rewritten`. Only notation with one meaning is here.
Abbreviations, which may have several, are in `clinical.abbreviations`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from clinical.abbreviations import PARTS_OF_BODY
from clinical.text import Rewrite

_UNITS_OF_TIME = {
    unit: name
    for name, units in (
        ("minute", "min mins minute"),
        ("hour", "h hr hrs hour"),
        ("day", "d day"),
        ("week", "w wk wks week"),
        ("month", "mo mos mth mths month"),
        ("year", "y yr yrs year"),
    )
    for unit in units.split()
}
_TIME = "|".join(sorted(_UNITS_OF_TIME, key=len, reverse=True))
_SEX = {"f": "female", "m": "male"}
_SIDES = {"R": "right", "L": "left"}
_NUMBER = r"\d+(?:\.\d+)?"
_SIGN_CODES = {
    "od": "once daily",
    "om": "every morning",
    "on": "every night",
    "bd": "twice daily",
    "bds": "twice daily",
    "tds": "3 times daily",
    "qds": "4 times daily",
    "qd": "daily",
    "qday": "daily",
    "nocte": "at bedtime",
    "mane": "every morning",
}
_AFTER_WEEKS = r"(?:ago|later|of|hx|post|prior|now|and)\b"  # elsewhere "w" before a word is "with"
_BARE_DOSE = re.compile(
    r"(?:[A-Za-z]|->|→|=>) ?\d+(?:\.\d+)?$|\b(?:oint|ointment|cream|gel|drops|gtts?|spray|inhaler)$"
)
_SIGNATURE_REACH = 24  # characters before a signature code in which its dose is looked for
_DOSED = re.compile(
    r"\d\s?(?:mg|mcg|[µμ]g|g|ml|units?|u|iu|meq|mmol|puffs?|tabs?|caps?|drops?|gtts?|%|mg/\w+|tablets?|capsules?)\.?"
    r"(?: (?:po|sc|sl|s/c|iv|im|pr|oral|neb|nebs|inhaled|topically|orally))?$",
    re.IGNORECASE,
)


def _age_and_sex(match: re.Match[str]) -> str | None:
    groups = match.groupdict()
    number = int(groups["age"] or groups["spaced"])
    unit = _UNITS_OF_TIME[groups["unit"].lower()] if groups.get("unit") else "year"
    most = {"year": 115, "month": 60, "week": 60, "day": 60}.get(unit, 0)
    return f"{number}-{unit}-old {_SEX[match['sex'].lower()]}" if number <= most else None


def _length(match: re.Match[str]) -> str:
    number = "".join(match["number"].split())
    return f"{number} {_UNITS_OF_TIME[match['unit'].lower()]}{'' if number == '1' else 's'}"


def _for_a_time(match: re.Match[str]) -> str:
    return f"for {_length(match)}"


def _every(match: re.Match[str]) -> str:
    return f"every {''.join(match['number'].split())} {_UNITS_OF_TIME[match['unit'].lower()]}s"


_PERIODS = {
    "wk": "weekly",
    "week": "weekly",
    "mo": "monthly",
    "month": "monthly",
    "am": "every morning",
    "pm": "every evening",
    "hs": "at bedtime",
}


def _per(match: re.Match[str]) -> str:
    if match["q"]:
        return _PERIODS[match["q"].lower()]
    return " a week" if match["per"][0].lower() == "w" else " a day"


def _time_of_day(match: re.Match[str]) -> str:
    """Return the time on a clock of 24 hours: the half of the day is "a", "morning", or another."""
    is_early = (match["half"] or "").lower() in ("a", "morning")
    return f"{int(match['h']) % 12 + (0 if is_early else 12)}:{match['m'] or '00'}"


_FAMILY = re.compile(r"\b(?:FHx?|fam(?:ily)? (?:history|hx))\b[^.\n]*$", re.IGNORECASE)
_FAMILY_REACH = 200  # characters before a letter in which its line says that it is about the family


def _parent(match: re.Match[str]) -> str | None:
    """Return the parent that a letter means in a line on the family, elsewhere None."""
    is_family = _FAMILY.search(match.string, max(0, match.start() - _FAMILY_REACH), match.start())
    return {"F": "father", "M": "mother"}[match["kin"]] if is_family else None


def _european(match: re.Match[str]) -> str | None:
    """Return the words of a European dosing code, None if the doses of a day differ."""
    doses = match["doses"].split("-")
    given = [index for index, dose in enumerate(doses) if dose != "0"]
    if len({doses[index] for index in given}) != 1:
        return None
    alone = {0: "every morning", 2: "every evening", 3: "at bedtime"}
    return alone.get(given[0], "daily") if len(given) == 1 else f"{len(given)} times daily"


# "3/52" and "for 3/12" are durations only; a note that has one writes the others the same way
_BRITISH_NOTE = re.compile(
    r"(?<![\d/.])(?:\d{1,2}/52|(?:24|48|72)/24)(?![\d/])|"
    r"\b(?:for|x|in|over|last|past|every|hx) ?\d{1,2}/(?:7|12)(?![\d/])|"
    r"\b(?i:bds?|tds|qds|od) \d{1,2}/7(?![\d/])"
)
_PARTS_OF_TIME = {"7": "days", "12": "months", "24": "hours"}
_PREGNANCY = re.compile(
    r"\bG\d{1,2}[ ,]{0,2}P\d|\b(?:gest|pregnan|gravid|antenatal|booking|fetal|FHR|SFH|LSCS|primip|multip)",
    re.IGNORECASE,
)


@lru_cache(maxsize=16)
def _has(pattern: re.Pattern[str], text: str) -> bool:
    """Return whether the text has the pattern. A rewrite asks this at each of its matches, hence the cache."""
    return pattern.search(text) is not None


def _british_time_alone(match: re.Match[str]) -> str | None:
    if not (match["told"] is not None or _has(_BRITISH_NOTE, match.string)):
        return None
    return f"{match['number']} {_PARTS_OF_TIME[match['unit']]}"


def _british_time(match: re.Match[str]) -> str:
    before = "for" if match["before"].lower() == "x" else match["before"]
    return f"{before} {match['number']} { {'7': 'days', '52': 'weeks', '12': 'months'}[match['unit']] }"


def _signature(match: re.Match[str]) -> str | None:
    """Return the words of a signature code after a dose, or None: "OD" is also the right eye, "on" a preposition."""
    before = match.string[max(0, match.start() - _SIGNATURE_REACH) : match.start()]
    code = match["code"].lower()
    if code == "on" and match.string[match.end() :].lstrip(" ")[:1].isalnum():
        return None
    if code == match["code"] and _BARE_DOSE.search(before):
        return f" {_SIGN_CODES[code]}"  # "rivaroxaban 15 od"
    dosed = code in ("bd", "bds", "tds", "qds") or _DOSED.search(before)
    return f" {_SIGN_CODES[code]}" if dosed else None


Replace = Callable[[re.Match[str]], str | None]
_RANGE = rf"(?P<number>{_NUMBER}(?:\s*[-–/]\s*{_NUMBER})?)"
# text that every match contains, pattern, new words; None leaves the text as it is
_PATTERNS: tuple[tuple[str, re.Pattern[str], Replace], ...] = (
    (  # "62F", "45 M" at the start of a sentence; not "98.6F" and not "T 99F"
        "FM",
        re.compile(
            r"(?:(?<![\w.,/:-])(?<![Tt] )(?<![Tt]emp )(?P<age>\d{2,3}|[1-9])(?=[FM])"
            r"|(?:(?<=^)|(?<=\n)|(?<=[.:] )|(?<= a )|"
            r"(?<= an ))(?P<spaced>\d{1,3})[ -])(?P<sex>[FM])(?![\w/°'’-])(?! [A-Z](?: |$))"
        ),
        _age_and_sex,
    ),
    (  # "71yo f", "3 mo M", "62 y/o F", "26yr F"
        "fFmM",
        re.compile(
            r"(?<![\w.,/:-])(?P<age>\d{1,3})[ -]?(?:(?P<unit>mo|mth|wk|d|day|month|week)s?\.?(?:[ /-]?o(?:ld)?\b)?"
            r"|y(?:ears?|rs?)?\.?(?:[ ./-]*o(?:ld)?\b)?\.?)[ ,-]{1,2}(?P<sex>[FMfm])(?![\w/°'’-])"
        ),
        _age_and_sex,
    ),
    (  # "x7d", "x 3 wks", "× 10 days"
        "x×X",
        re.compile(rf"(?<!\w)[xX×][ ]?{_RANGE}[ ]?(?P<unit>{_TIME})s?\b(?!/)", re.IGNORECASE),
        _for_a_time,
    ),
    (  # "q2wk", "q 3 months"; hours are read by clinical.values
        "qQ",
        re.compile(rf"\bq[ ]?{_RANGE}[ ]?(?P<unit>w|wk|week|mo|month|d|day|min)s?\b", re.IGNORECASE),
        _every,
    ),
    (  # "5 d", "6 wks", "3d", "24h"; not "5 D" of lenses, "5-mo-old", "2 w/", "pain 3/10 w meds"
        "dhwmy",
        re.compile(
            rf"(?<![\w.,/°-]){_RANGE}[ ]?(?!w (?!{_AFTER_WEEKS})[A-Za-z])(?P<unit>d|h|hr|w|wk|mo|mth|yr|y)s?\b"
            r"(?![/\w'’-])(?!\.\d)(?! ?(?:old|o\b))"
        ),
        _length,
    ),
    (  # "10 U", "12U": insulin
        "Uu",
        re.compile(r"(?<![\w.,/-])(?P<number>\d{1,3}(?:\.\d)?)[ ]?(?:U|u)(?![\w&])"),
        lambda match: f"{match['number']} units",
    ),
    (  # "500 mg bd", "10 mg/d od", "2 tabs tds"
        "dDnN",
        re.compile(r"(?<=[\w>→])[ ](?P<code>od|om|on|bds?|tds|qds|qd|qday|nocte|mane)(?![\w/:])", re.IGNORECASE),
        _signature,
    ),
    (  # decimal comma: "38,5", "0,125"; "1,204" is a thousand
        ",",
        re.compile(r"(?<![\w.,:;/-])(?P<whole>\d{1,3}),(?P<fraction>\d{1,2}|(?<=0,)\d{3})(?![\d,]|\.\d)"),
        lambda match: f"{match['whole']}.{match['fraction']}",
    ),
    (  # "qwk", "10 mg/wk", "3x/wk", "q AM"
        "qQ/",
        re.compile(
            r"\b(?:q ?(?P<q>wk|week|mo|month|am|pm|hs)\b|(?<=[a-z\d])/(?P<per>wk|week|d|day)\b(?![ ]?\d))",
            re.IGNORECASE,
        ),
        _per,
    ),
    (  # "x4/7", "for 2/12": British days, weeks and months
        "/",
        re.compile(
            r"\b(?P<before>for|x|in|over|last|past|every)[ ]?(?P<number>\d{1,2})/(?P<unit>7|52|"
            r"12)(?![\d/])",
            re.IGNORECASE,
        ),
        _british_time,
    ),
    (  # "3/52": weeks; "2/12" alone may be a date
        "/",
        re.compile(r"(?<![\d/.])(?P<number>\d{1,2})/(?P<unit>52)(?![\d/])"),
        lambda match: f"{match['number']} weeks",
    ),
    (  # "pain 3/12", "6/12 hx of pain", "r/v 24/24": not a date, a score or a fraction
        "/",
        re.compile(
            r"(?:(?<=[A-Za-z:;,.(] )|(?<=\n)|(?<=^))(?<!\bon )(?<!since )(?<!until )(?<!by )(?<!end )(?<!dated )"
            r"(?<!from )(?<!seen )(?<!appt )(?<!appointment )(?<!clinic )(?<!booked )(?<!due )(?<!grade )(?<!score )"
            r"(?<!power )(?P<number>\d{1,2})/(?P<unit>7|12|24)(?![\d/])(?! ?at \d)(?=\s|[.,;)]|$)"
            r"(?P<told>(?= (?:hx|history|h/o|of|ago|old)\b))?"
        ),
        _british_time_alone,
    ),
    (  # sides: "R knee", "nostril L"; not "2 L" and not "L/min"
        "RL",
        re.compile(r"(?<![\w./>+-])(?<!\d )(?<!\d\.\d )(?P<side>[RL])(?=[ ,;.)(-]|$|\n)(?!\.[A-Z ])(?! ?[/>=])"),
        lambda match: _SIDES[match["side"]],
    ),
    (  # "r elbow" in a note without capitals
        "rl",
        re.compile(rf"(?<![\w./>+'’-])(?P<side>[rl]) (?=(?:{PARTS_OF_BODY})\b)"),
        lambda match: f"{_SIDES[match['side'].upper()]} ",
    ),
    (  # "edema R>L", "L > R"
        ">",
        re.compile(r"(?<![\w.])(?P<more>[RL])[ ]?>[ ]?(?P<less>[RL])(?!\w)"),
        lambda match: f"{_SIDES[match['more']]} more than {_SIDES[match['less']]}",
    ),
    (  # "FHx: M breast ca, F MI"
        "FM",
        re.compile(r"(?<=[:;,( ])(?P<kin>[FM])(?=(?: |: ?|[ ]?- ?)[A-Za-z])"),
        _parent,
    ),
    (  # "4 pm", "9:10 a.m.": a time of day
        "mM",
        re.compile(
            r"(?<![\w.:/-])(?P<h>1[0-2]|0?[1-9])(?::(?P<m>[0-5]\d))? ?(?P<half>[ap])(?:\.m\.?|m)(?!\w)", re.IGNORECASE
        ),
        _time_of_day,
    ),
    (  # "2 in the morning", "9 in the evening"
        "i",
        re.compile(
            r"(?<![\w.:/-])(?P<h>1[0-2]|0?[1-9])(?::(?P<m>[0-5]\d))?(?: o['’]clock)? "
            r"(?:in the (?P<half>morning|afternoon|evening)|at night\b)"
        ),
        _time_of_day,
    ),
    (  # "6-wkly"
        "k",
        re.compile(r"(?<![\w.,/-])(?P<number>\d{1,2})[ -]?(?:wkly|weekly)\b"),
        lambda match: f"every {match['number']} weeks",
    ),
    (  # "buckle # distal radius", "R NOF#", "no #"; not "#1" and not the mark of a problem
        "#",
        re.compile(r"(?<=[A-Za-z)])[ ]?#(?=[ ]?(?:[A-Za-z,.;:)(→]|$|\n))"),
        lambda match: " fracture",
    ),
    ("øØ∅⌀", re.compile(r"(?<!\w)[øØ∅⌀][ ]?(?=[A-Za-z])"), lambda match: "no "),
    (  # "wt loss 11 kg/4mo"
        "/",
        re.compile(rf"(?<=[a-z%])/(?P<number>\d{{1,2}})[ ]?(?P<unit>{_TIME})s?\b"),
        lambda match: f" over {_length(match)}",
    ),
    (  # "POD1", "POD #2": days after surgery
        "P",
        re.compile(r"\bPOD ?#?(?P<number>\d{1,2})\b"),
        lambda match: f"{match['number']} day{'' if match['number'] == '1' else 's'} after surgery",
    ),
    (  # "IOP 9/15": right and left eye
        "I",
        re.compile(r"\bIOPs?:? ?(?P<right>\d{1,2})/(?P<left>\d{1,2})\b(?!/)"),
        lambda match: f"intraocular pressure {match['right']} in the right eye, {match['left']} in the left eye",
    ),
    (  # "wt down 6 kg", "weight ↓"
        "Ww",
        re.compile(r"\b(?:wt|weight)\.? (?P<way>down|loss|decreased|↓|up|gain|↑)(?!\w)", re.IGNORECASE),
        lambda match: "weight gain" if match["way"] in ("up", "gain", "↑") else "weight loss",
    ),
    (  # "@0812", "at 0812 h": a time of day
        "@hH",
        re.compile(
            r"(?:(?<=@)|(?<=@ ))(?P<h>[01]\d|2[0-3])(?P<m>[0-5]\d)\b|\b(?P<h2>[01]\d|"
            r"2[0-3])(?P<m2>[0-5]\d)(?=h\b)"
        ),
        lambda match: f"{match['h'] or match['h2']}:{match['m'] or match['m2']}",
    ),
    (  # European doses a day, morning-noon-evening(-night): "1-0-1", "0-0-0-1"
        "-",
        re.compile(r"(?<![\w.,/-])(?P<doses>[0-3](?:-[0-3]){2,3})(?![\w/-])"),
        _european,
    ),
    (  # "G3P2", "G3P1011" (term, preterm, abortions, living), "P2+1"
        "G",
        re.compile(r"\bG(?P<gravida>\d{1,2})[ ,]{0,2}P(?P<para>\d)(?:(?P<preterm>\d)\d\d|\+\d)?(?!\w)"),
        lambda match: f"gravida {match['gravida']}, para {int(match['para']) + int(match['preterm'] or 0)}",
    ),
    (  # weeks and days of pregnancy: "34w2d", "@ 31+4", "38+2/40"
        "+w",
        re.compile(
            r"(?<![\w.+/-])(?P<weeks>[1-3]\d|4[0-3])(?:\+(?P<days>[0-6])(?:/40|/7|w| weeks)?|w(?P<d>[0-6])d)(?![\w+/.])"
        ),
        lambda match: f"{match['weeks']} weeks {match['days'] or match['d']} days",
    ),
    (  # "rv 34/40", "9/40 scan" in the note of a pregnancy
        "/40",
        re.compile(r"(?<![\d/.])(?!20)(?P<weeks>\d{1,2})/40(?![\d/])"),
        lambda match: f"{match['weeks']} weeks" if _has(_PREGNANCY, match.string) else None,
    ),
    (  # "88 thousand"
        "ht",
        re.compile(r"(?<![\d.,])(?P<number>\d{1,3}(?:\.\d+)?) thousand\b"),
        lambda match: f"{float(match['number']) * 1000:.0f}",
    ),
    (  # "All: nil known"
        ":",
        re.compile(r"\bAll(?:ergies)?:\s*(?:nil|none) known\b", re.IGNORECASE),
        lambda match: "No known allergies",
    ),
    ("nN", re.compile(r"\bnon(?=(?:smok|drink)ers?\b)", re.IGNORECASE), lambda match: f"{match[0]}-"),
    ("↑", re.compile(r"[↑⬆]+\s?"), lambda match: "increased "),
    ("↓", re.compile(r"[↓⬇]+\s?"), lambda match: "decreased "),
    ("+", re.compile(r"(?<=[A-Za-z]) \+(?=\s*(?:[,;.)\n]|$))"), lambda match: " positive"),  # "NAAT +"
    ("-–", re.compile(r"(?<=[A-Za-z]) [-–](?=[ ]?[,;.)])"), lambda match: " negative"),  # "nitrite -"
    ("+ve", re.compile(r"(?<!\w)\+ve\b"), lambda match: "positive"),
    ("-ve", re.compile(r"(?<!\w)[-–]ve\b"), lambda match: "negative"),
    ("½", re.compile(r"(?<=\d)\s?½"), lambda match: ".5"),
    ("[**", re.compile(r"\[\*\*(?![\d-]+\*\*\])[^\]\n]{0,60}\*\*\]"), lambda match: "X"),  # a de-identification mask
)
# British spellings, as stems: "haemoglobin", "oedema", "diarrhoea", "caesarean"
_BRITISH = re.compile(
    r"(?<![A-Za-z])[A-Za-z]*?(?:haem|aem(?=i)|(?<!i)oed(?=em)|(?<![a-z])oesoph|rrhoea|caes|paed|faec|gynaec|"
    r"anaes|(?<=par)aes|foet|pnoea|coel|tumour|"
    r"orrhoe|leuco(?=cy|pen)|caec|aetio|oestr|anaem|ischaem)[a-z]*",
    re.IGNORECASE,
)
_SPELLINGS = (("ae", "e"), ("oe", "e"), ("tumour", "tumor"), ("leuco", "leuko"))


def _american(match: re.Match[str]) -> str:
    word = match[0]
    for british, american in _SPELLINGS:
        word = re.sub(british, american, word, flags=re.IGNORECASE)
    return word if match[0].islower() else word.capitalize()


def notation_rewrites(text: str) -> Iterator[Rewrite]:
    """Yield the rewrites of a written text. Where two overlap, the first is meant."""
    for characters, pattern, replace in _PATTERNS:
        present = (
            characters in text
            if characters in ("[**", "+ve", "-ve", "/40")
            else any(character in text for character in characters)
        )
        for match in pattern.finditer(text) if present else ():
            new = replace(match)
            if new is not None:
                yield match.start(), match.end(), new
    if "ae" in text or "oe" in text or "our" in text or "euco" in text:
        for match in _BRITISH.finditer(text):
            yield match.start(), match.end(), _american(match)
