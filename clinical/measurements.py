"""Extract vital signs and laboratory values as facts of types `vital` and `lab` (see `clinical.values`).

Units are converted to degrees Celsius, kilograms, and the customary unit of each laboratory test. The text is in
regular form (see `clinical.text`) and in lower case. `tokens` are its words. For speed, a pattern is tried only at
the words of its names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clinical.scope import Token
from clinical.values import NUMBER, Fact, parsed_number, plain_number

_IS = (  # text allowed between a name and its value
    r"(?:\s*(?::|=|,|~|-(?=[\d<>])|\b(?:is|was|of|at|to|were|are|came back|came out|today|levels?|count|reading|rate|"
    r"value|found|be|in the|a|about|around|approximately|still|elevated|normal|low|high|currently|now|on room air|as|"
    r"has been|had been|been|remains?|remained|stable|fell|dropped|decreased|rose|increased|improved|worsened|peaked|"
    r"res|residual|reduced|raised|lowered|weaned|titrated|climbed|declined|has|fallen|risen|went|from|up|down|"
    r"baseline|initial|initially|admission|on|measured|noted|result|trended|max|goal|target)\b)"
    r"){0,7}\s*"
)
_COMPARATOR = (
    r"(?P<comparator>[<>≤≥]=?|(?:less|lower|fewer|greater|more|higher) than|below|under|above|over|at least|"
    r"at most)?\s*"
)
_MORE = frozenset({">", "≥", ">=", "greater than", "more than", "higher than", "above", "over", "at least"})
_BLOOD_PRESSURE = re.compile(
    rf"(?:(?<![a-z])(?P<name>bp|b/p|blood pressures?){_IS})?"
    r"(?<![\d./])(?P<systolic>\d{2,3})\s*(?:/|over|by)\s*(?P<diastolic>\d{2,3})\b(?!/)"
)
_PAIN_SCORE = "pain score"
_VITAL_NAMES: tuple[tuple[str, str, str], ...] = (
    ("heart rate", r"heart rates?|hr|pulse rate|pulse", r"bpm|beats(?: per minute)?"),
    (
        "temperature",
        r"temperature|temp|tmax|tm(?=[ :=]?\d{2})|t(?=[ :=]*(?:3[4-9]|4[0-2]|9[4-9]|10[0-7])(?:\.\d)?(?![\d/]))|"
        r"fever(?: up)? (?:of|to)|febrile to",
        r"(?:°|degrees?)?\s*(?:celsius|fahrenheit|[cf]\b)",
    ),
    ("respiratory rate", r"respiratory rate|respirations?|rr|resp rate|resps?", r"breaths(?: per minute)?"),
    (
        "oxygen saturation",
        r"spo2|sp02|sao2|o2 ?sats?|oxygen saturations?|oxygen sats?|o2 saturations?|"
        r"pulse ox(?:ygenation|imetry)?|sats|sat(?! with)|satting|saturating|saturations?|desat\w*",
        "%",
    ),
    ("weight", r"(?<!birth )weight|weighs|weighing|weighed|wt", r"kg|kilograms?|kilos?|pounds?|lbs?|g\b|grams?"),
    ("body mass index", r"bmi|body mass index", r"kg/m2|kg/m²"),
    (
        _PAIN_SCORE,
        r"pain (?:score|level)|pain(?=[ :]*(?:(?:is|was|rated|at|now|has|had|went|improved|worsened|decreased|"
        r"increased|reduced|rose|fell|dropped|down|up|from|as|a|,|:)[ ]*){0,4}\d{1,2} ?/)",
        r"/ ?10",
    ),
)
_VALUE = (
    rf"{_IS}{_COMPARATOR}(?<![\d.])(?P<low>{NUMBER})(?![\d]|[.,]\d)"
    rf"(?:\s*(?:-(?!>)|–|to)\s*(?P<high>{NUMBER})(?![\d.]*\d))?"
)
_VITALS = tuple(
    (
        name,
        re.compile(
            rf"(?<![a-z])(?:{names}){_VALUE}\s*(?P<unit>{units})?(?!\s*(?:weeks?|days?|months?|years?|hours?)\b)"
        ),
    )
    for name, names, units in _VITAL_NAMES
)
_PLAUSIBLE = {
    "heart rate": (20, 300),
    "temperature": (25, 115),
    "respiratory rate": (4, 80),
    "oxygen saturation": (30, 100),
    _PAIN_SCORE: (0, 10),
}

_FULL_NAME = re.compile(r"(?:heart rate|temperature|respiratory rate|oxygen saturation|pain (?:score|level))\b")

_LAB_NAMES: tuple[tuple[str, str], ...] = (
    ("hemoglobin a1c", r"hemoglobin a1c|hba1c|a1c|a one c|glycated hemoglobin|hgba1c|hb a1c|glycosylated hemoglobin"),
    ("hemoglobin", r"hemoglobin|haemoglobin|hgb|hb"),
    ("hematocrit", r"hematocrit|haematocrit|hct|crit"),
    (
        "white cell count",
        r"white (?:blood )?cell counts?|white (?:blood )?counts?|white cells?|wbcs?|wcc|leukocytes?|"
        r"leukocytosis|white count",
    ),
    ("platelets", r"platelet counts?|platelets?|plts?|thrombocytes?"),
    ("potassium", r"potassium|k\+|k(?=[ :=~-]{0,3}[1-9]\.\d)"),
    ("sodium", r"sodium|na\+|na(?=[ :=~-]{0,3}1[0-7]\d\b)"),
    ("chloride", r"chloride|cl-?(?=[ :=~-]{0,3}(?:[89]\d|1[0-3]\d)\b)"),
    ("bicarbonate", r"bicarbonate|bicarb|hco3|co2"),
    (
        "creatinine",
        r"(?:serum )?creatinine|creat|scr|cr(?=[ :=~-]{0,3}(?:[<>~]|\d|peaked|rose|up|was|is|of|on|at|down|"
        r"stable|baseline))",
    ),
    ("urea nitrogen", r"blood urea nitrogen|bun|urea|ur(?=[ :=]\d)"),
    (
        "glucose",
        r"(?:fasting )?(?:blood )?(?:glucose|sugars?)|fingersticks?|accu-cheks?|accucheks?|glu(?=[ :=-])|fsbg|"
        r"fsbs|bsl?(?=[ :=-]{1,2}\d)|cbg|bgl?(?=[ :=-]{1,2}\d)",
    ),
    ("calcium", r"calcium|ca(?=[ :=-]{1,2}\d{1,2}\.\d)"),
    ("magnesium", r"magnesium|mg(?=[ :=-]{1,2}\d\.\d\b)"),
    ("phosphorus", r"phosphorus|phosphate|phos|po4"),
    ("troponin", r"(?:hs-?|high[- ]sensitivity )?(?:troponins?(?: [it])?|trops?|tni|tnt)"),
    ("creatine kinase", r"creatine kinase|cpk|ck"),
    ("thyroid stimulating hormone", r"thyroid[- ]stimulating hormone|tsh"),
    ("free t4", r"free t4|ft4|t4"),
    ("lactate", r"lactates?|lactic acid|lac(?=[ :=-]{1,2}\d)"),
    ("c-reactive protein", r"c[- ]reactive protein|crp"),
    ("sedimentation rate", r"sedimentation rate|sed rate|esr"),
    ("d-dimer", r"d[- ]dimer"),
    ("bilirubin", r"(?:total )?bilirubin|(?:t|total )?[ .]?bili|tbili"),
    ("albumin", r"albumin|alb(?=[ :=-]{1,2}\d)"),
    ("ast", r"ast|sgot"),
    ("alt", r"alt|sgpt"),
    ("alkaline phosphatase", r"alkaline phosphatase|alk ?phos|alp"),
    ("lipase", r"lipase"),
    ("amylase", r"amylase"),
    ("inr", r"inr"),
    ("prothrombin time", r"prothrombin time|pt(?=\s+\d)"),
    ("cholesterol", r"(?:total )?cholesterol"),
    ("ldl", r"ldl"),
    ("hdl", r"hdl"),
    ("triglycerides", r"triglycerides?"),
    ("bnp", r"nt[- ]probnp|ntprobnp|probnp|bnp"),
    ("ferritin", r"ferritin"),
    ("psa", r"psa"),
    ("ejection fraction", r"(?:left ventricular )?ejection fraction|lvef|ef"),
    ("egfr", r"(?:estimated )?glomerular filtration rate|egfr|gfr"),
    ("ph", r"ph(?=[ :=]+(?:of |was |is )?[67]\.)"),
)
# measurements and scores without a normal limit
_OTHER_NAMES: tuple[tuple[str, str], ...] = (
    ("viral load", r"(?:hiv )?viral load|vl(?=[ :=<>])|hiv rna"),
    ("cd4 count", r"cd4(?:\+)?(?: t)?(?:[- ]cell)?(?: count)?"),
    ("neutrophil count", r"anc|absolute neutrophil count|neutrophils?|neuts?"),
    ("fev1", r"fev1|fev 1"),
    ("vitamin d", r"vitamin d levels?|25-oh vitamin d"),
    ("cea", r"cea"),
    ("beta-hcg", r"(?:beta[- ]?|b-?|β-?)hcg|hcg"),
    ("estimated blood loss", r"estimated blood loss|ebl|blood loss"),
    ("urine output", r"urine output|uop|uo(?=[ :=]\d)"),
    ("peep", r"peep"),
    ("fio2", r"fio2"),
    ("anion gap", r"anion gap|ag(?=[ :=]\d)"),
    ("mean arterial pressure", r"mean arterial pressure|maps?(?=[ :=<>]{1,3}\d)"),
    ("ankle-brachial index", r"abi|ankle[- ]brachial index"),
    ("gleason score", r"gleason(?: score)?"),
    ("apnea-hypopnea index", r"ahi|apnea[- ]hypopnea index"),
    ("vancomycin level", r"vanc(?:omycin)? (?:trough|level)"),
    ("uric acid", r"uric acid"),
    ("ammonia", r"ammonia|nh3"),
    ("procalcitonin", r"procalcitonin|pct"),
    ("birth weight", r"birth ?weight|bw"),
    ("height", r"height|ht(?=[ :=]\d)"),
    ("gcs", r"gcs|glasgow coma (?:scale|score)"),
    ("intraocular pressure", r"iop|intraocular pressure"),
    ("phq-9 score", r"phq[- ]?9(?: score)?"),
    ("gad-7 score", r"gad[- ]?7(?: score)?"),
    ("mmse score", r"mmse(?: score)?|mini[- ]mental(?: state exam(?:ination)?)?(?: score)?"),
    ("moca score", r"moca(?: score)?"),
    ("meld score", r"meld(?:-na)?(?: score)?"),
    ("epds score", r"epds(?: score)?"),
    ("nihss score", r"nihss(?: score)?|nih stroke scale"),
    ("gravidity", r"gravida"),
    ("parity", r"para"),
    ("head circumference", r"head circumference|hc(?=[ :=]\d\d)|ofc(?=[ :=]\d\d)"),
    ("fundal height", r"sfh|fundal height|symphysis[- ]fundal height"),
    ("fetal heart rate", r"fetal heart rate|fhr"),
)
_LAB_UNITS = (
    r"g/dl|g/l|mg/dl|mmol/l|mmol/mol|meq/l|umol/l|[µμ]mol/l|k/ul|x ?10\^?[39]/?u?l?|ng/ml|ng/l|miu/l|mg/l|"
    r"%|percent|[kmu]+/[a-z]+|copies/ml|cells|ml|mmhg|cm ?h2o|cmh2o"
)
_NEXT_UNITS = rf"/10\b|kg|kilograms?|kilos?|lbs?|pounds?|g\b(?!/)|grams?|°? ?[cf]\b|{_LAB_UNITS}"
_LAB_VALUE = (
    rf"{_VALUE}(?!\s*(?:mg(?!\s*/)|mcg|times|days?|weeks?|months?|years?|tab|hours?|units)\b)"
    rf"(?:\s*(?P<unit>{_LAB_UNITS}))?"
)
_LABS = tuple((name, re.compile(rf"(?<![a-z])(?:{names}){_LAB_VALUE}")) for name, names in (*_LAB_NAMES, *_OTHER_NAMES))
# the next value of the same measurement: "Cr 2.1 (baseline 1.2)", "88% RA -> 93% on 2L", "Hgb 7.2 -> 2u pRBC -> 9.1"
_NEXT_VALUE = re.compile(
    rf"(?:\s*(?:%|(?P<event>(?:->|→|=>)[^;,.:\n→>-]{{1,50}})(?=->|→|=>)|\((?:['’]\d\d|(?:19|20)\d\d|[a-z]{{1,10}})\)|"
    r"\(|\)|,| - |/(?=\s?\d)|->|→|=>|-->|–>|;|\b(?:kg|f|c|on|ra|room air|baseline|"
    rf"bl|to|then|now|and|"
    rf"peaked|peak|at|goal|target|prev|"
    rf"discharge|admission|today|yesterday|down|up|from|improved|increased|decreased|rose|fell|rising|trending|"
    rf"trended|"
    rf"repeat|rechecked|was|is|before|after|initially|initial|prior|previously|last|mg/dl|g/dl|mmol/l|meq/l|"
    rf"ng/ml|day|"
    rf"nadir|nadired|max|with|later|but|by|the|a(?= goal)|of|following|reached|rpt|day \d+|\d+ hours? (?:later|"
    rf"ago))(?![a-z]))\s*)"
    rf"{{1,8}}(?<![\d.])(?P<low>{NUMBER})(?![\d]|[.,]\d|\s*(?:l\b|liters?|days?|weeks?|hours?|months?|years?|units?\b|puffs?|tab|mcg|"
    rf"h\b|/(?!10\b)))"
    rf"(?:-(?P<high>{NUMBER})(?!\w|[/-]|\.\d))?"
    rf"(?P<comparator>)\s*(?P<unit>{_NEXT_UNITS})?"
)
_LAB_FACTORS = {
    ("hemoglobin", "g/l"): 0.1,
    ("albumin", "g/l"): 0.1,
    ("creatinine", "umol/l"): 1 / 88.4,
    ("creatinine", "µmol/l"): 1 / 88.4,  # micro sign and Greek mu
    ("creatinine", "μmol/l"): 1 / 88.4,
    ("glucose", "mmol/l"): 18.0,
    ("bilirubin", "umol/l"): 1 / 17.1,
    ("bilirubin", "µmol/l"): 1 / 17.1,
    ("bilirubin", "μmol/l"): 1 / 17.1,
}


# values from here on have the SI unit if none is written
_TOO_HIGH = {"hemoglobin": (30.0, "g/l"), "albumin": (12.0, "g/l"), "creatinine": (20.0, "umol/l")}
_LEAST_IFCC = 20.0  # a haemoglobin A1c from here on is in mmol/mol, not in percent
# how far two roundings of one value in different units may be apart, in the unit to which values are converted
_ROUNDING = {
    "weight": 0.55,
    "temperature": 0.15,
    "hemoglobin a1c": 0.1,
    "creatinine": 0.1,
    "glucose": 1.0,
    "bilirubin": 0.1,
    "hemoglobin": 0.05,
    "albumin": 0.05,
}
_LAST_NUMBER = re.compile(r"\d+(?:\.\d+)?(?=\D*$)")


def same_in_other_units(first: Fact, second: Fact) -> bool:
    """Return whether one of two values was converted from another unit, and they differ by rounding only."""
    tolerance = _ROUNDING.get(first.key)
    if tolerance is None or _is_converted(first) == _is_converted(second):
        return False
    return abs(float(first.value) - float(second.value)) <= tolerance if _are_plain(first, second) else False


def _are_plain(*facts: Fact) -> bool:
    return all(re.fullmatch(r"\d+(?:\.\d+)?", fact.value) for fact in facts)


def _is_converted(fact: Fact) -> bool:
    written = _LAST_NUMBER.search(fact.text.replace(",", ""))
    return written is not None and _are_plain(fact) and float(written[0]) != float(fact.value)


_Patterns = dict[str, list[tuple[str, re.Pattern[str]]]]


def _patterns_by_word(patterns: Sequence[tuple[str, re.Pattern[str]]], names: Sequence[str]) -> _Patterns:
    """Map every word of a name to the patterns to try at that word, in order."""
    table: _Patterns = {}
    for (name, pattern), written in zip(patterns, names, strict=True):
        words = set(re.findall(r"[a-z0-9]+", written))
        for word in words | {word.removesuffix("s") for word in words}:
            table.setdefault(word, []).append((name, pattern))
    return table


_VITALS_BY_WORD = _patterns_by_word(_VITALS, [names for _, names, _ in _VITAL_NAMES])
_LABS_BY_WORD = _patterns_by_word(_LABS, [names for _, names in (*_LAB_NAMES, *_OTHER_NAMES)])


_TOLD = (
    r"(?: (?:levels?|counts?|score|reading))?(?: (?:has|had|have|is|was|are|were|been|then|since|also|now|already))* "
    r"(?:(?P<up>risen|rose|rising|increased|increasing|gone up|went up|climbed)|"
    r"fallen|fell|falling|decreased|decreasing|dropped|gone down|went down|come down|came down)"
    r"(?![a-z])(?!(?: \w+)? \d)"
)


def _told_patterns(names: Sequence[tuple[str, str]]) -> _Patterns:
    patterns = [(name, re.compile(rf"(?<![a-z])(?:{written}){_TOLD}")) for name, written in names]
    return _patterns_by_word(patterns, [written for _, written in names])


_TOLD_BY_WORD = _told_patterns([(row[0], row[1]) for row in (*_VITAL_NAMES, *_LAB_NAMES, *_OTHER_NAMES)])


def _measurements(text: str, tokens: Sequence[Token], table: _Patterns) -> Iterator[tuple[str, list[re.Match[str]]]]:
    """Yield (name, matches of its values) from left to right, without overlaps.

    The first match begins with the name. The others are further values of the same measurement, as in "2.1 -> 1.5".
    """
    done = 0
    for token in tokens:
        patterns = table.get(token.word) or table.get(token.word.rstrip("0123456789"), [])  # "hgb9.1"
        for name, pattern in patterns if token.start >= done else []:
            if match := pattern.match(text, token.start):
                matches = [match]
                while len(matches) < _MOST_VALUES and (following := _NEXT_VALUE.match(text, matches[-1].end())):
                    if _is_date(name, text, following):
                        break
                    matches.append(following)
                yield name, matches
                done = matches[-1].end()
                break


_MOST_VALUES = 8  # of one measurement in a row
_ON = re.compile(r"\bon $")


def _is_date(name: str, text: str, value: re.Match[str]) -> bool:
    """Return whether a further value is a date: "K 3.1 -> 4/10", but not "pain 8/10 -> 3/10"."""
    out_of_ten = (value["unit"] or "").startswith("/")
    return out_of_ten and (name != _PAIN_SCORE or bool(_ON.search(text, value.start(), value.start("low"))))


def vital_facts(text: str, tokens: Sequence[Token]) -> Iterator[Fact]:
    """Yield the vital signs. Implausible values are skipped unless the name is written in full."""
    pressures: list[re.Match[str]] = []
    for match in _BLOOD_PRESSURE.finditer(text) if any(mark in text for mark in ("/", "over", "by")) else ():
        systolic, diastolic = int(match["systolic"]), int(match["diastolic"])
        plausible = 40 <= systolic <= 300 and 15 <= diastolic < systolic
        if match["name"] or (plausible and systolic >= 70 and diastolic >= 30):
            yield Fact("vital", match.start(), match.end(), "", "blood pressure", f"{systolic}/{diastolic}")
            pressures.append(match)
    yield from _pressure_changes(text, pressures)
    for name, matches in _measurements(text, tokens, _VITALS_BY_WORD):
        low, high = _PLAUSIBLE.get(name, (0.0, 1e9))
        readings = _readings(text, matches)
        for start, end, reading in readings:
            if low <= reading.low <= high or _FULL_NAME.match(text, start):
                yield Fact("vital", start, end, "", name, _vital_value(name, reading))
        yield from _changes(name, text, readings)


_TO_NEXT_PRESSURE = re.compile(r"\s*(?:->|-->|→|=>|to|then)\s*")


def _pressure_changes(text: str, matches: Sequence[re.Match[str]]) -> Iterator[Fact]:
    """Yield the changes of the systolic pressure: "90/60 -> 120/80", "fell to 90/60"."""
    joined = {
        second for first, second in pairwise(matches) if _TO_NEXT_PRESSURE.fullmatch(text, first.end(), _at(second))
    }
    for first, second in pairwise(matches):
        old, new = int(first["systolic"]), int(second["systolic"])
        if second in joined and old != new:
            values = f"{old}/{first['diastolic']} {new}/{second['diastolic']}"
            way = "up" if new > old else "down"
            yield Fact("change", first.start(), second.end(), "", "blood pressure", f"{way} {values}")
    for match in matches:
        said = text[match.start() : match.start("systolic")]
        way = "up" if _UP.search(said) else "down" if _DOWN.search(said) else ""
        if way and match not in joined and not _FROM.search(said):
            value = f"{way} ? {match['systolic']}/{match['diastolic']}"
            yield Fact("change", match.start(), match.end(), "", "blood pressure", value)


def _at(match: re.Match[str]) -> int:
    return match.start("systolic")


@dataclass(frozen=True)
class _Reading:
    """A value, or a range if it has a `high` end. `limit` is "<" or ">" if the value is only a limit.

    A value without a unit has the `unit` of the next value in the row, or else of the one before.
    """

    low: float
    high: float | None
    limit: str
    unit: str

    def text(self, factor: float = 1.0) -> str:
        ends = [plain_number(end * factor) for end in (self.low, self.high) if end is not None]
        return self.limit + "-".join(ends)


def _readings(text: str, matches: Sequence[re.Match[str]]) -> list[tuple[int, int, _Reading]]:
    """Return (start, end, reading) of each value; "from 4.2 to 1.9" has two values and is no range."""
    found = []
    for match, unit in zip(matches, _units(matches), strict=True):
        low, high = parsed_number(match["low"]), parsed_number(match["high"]) if match["high"] else None
        start = match.start("low") if match.groupdict().get("event") else match.start()
        written = match["comparator"]
        limit = "" if not written else ">" if written in _MORE else "<"
        if high is not None and (high < low or _FROM.search(text, max(0, match.start("low") - 8), match.start("low"))):
            found.append((start, match.end("low"), _Reading(low, None, limit, unit)))
            found.append((match.start("high"), match.end(), _Reading(high, None, "", unit)))
        else:
            found.append((start, match.end(), _Reading(low, high, limit, unit)))
    return found


def _units(matches: Sequence[re.Match[str]]) -> list[str]:
    """Return the unit of each value, "" if none has one."""
    written = [match["unit"] or "" for match in matches]
    return [next(filter(None, [*written[i:], *written[:i][::-1]]), "") for i in range(len(written))]


def _vital_value(name: str, reading: _Reading) -> str:
    if name == "temperature" and reading.low > 45:
        return plain_number(round((reading.low - 32) / 1.8, 1))  # degrees Celsius
    if name == "weight" and reading.unit.startswith(("p", "l")):
        return plain_number(round(reading.low * 0.45359237, 1))  # kilograms
    if name == "weight" and reading.unit.startswith("g") and reading.low >= 200:
        return plain_number(reading.low / 1000)
    return reading.text()


_FROM = re.compile(r"\bfrom\s*$")
_ASIDE = re.compile(
    r"baseline|\bbl\b|prior|previously|last|\((?!\s*(?:down|up|decreased|increased|from))|,|;|/|\band\b"
)
_IS_FROM = re.compile(r"\bfrom\b")
_WAS = re.compile(r"\(\s*(?:was|prev|previously|last)\b")
_AT_EARLIER_TIME = re.compile(
    r"\s*(?:at booking|yest(?:erday)?\b|in [a-z]{3,9}\)|last (?:yr|year|month|week|visit)|previously)\b"
)
_UP = re.compile(r"\b(?:rose|risen|increased|up|rising|climbed|gained)\b")
_DOWN = re.compile(r"\b(?:fell|fallen|decreased|dropped|down|reduced|declined|lost|falling)\b")


def _changes(name: str, text: str, readings: Sequence[tuple[int, int, _Reading]]) -> Iterator[Fact]:
    """Yield a fact of type `change` for each step between neighbouring values: "down 4.2 1.9".

    Its value is the direction, the value before (or ?) and the value after.
    """
    start, end = readings[0][0], readings[-1][1]
    values = [reading.low for _, _, reading in readings]
    if len(values) == 1:
        said = text[start:end]
        if way := "up" if _UP.search(said) else "down" if _DOWN.search(said) else "":
            yield Fact("change", start, end, "", name, f"{way} ? {plain_number(values[0])}")
    for old, (new_start, new_end, reading) in zip(values, readings[1:], strict=False):
        ends = [old, reading.low]
        if was := _WAS.search(text[new_start:new_end]) or _AT_EARLIER_TIME.match(text, new_end):  # "12 (was 31)"
            ends = [reading.low, values[0]]
        elif was := _IS_FROM.search(text[new_start:new_end]):  # "18 (down from 96)"
            ends.reverse()
        if ends[0] != ends[1] and (
            was or not _ASIDE.search(text[new_start:new_end].partition(plain_number(reading.low))[0])
        ):
            direction = "up" if ends[1] > ends[0] else "down"
            yield Fact("change", start, end, "", name, f"{direction} {plain_number(ends[0])} {plain_number(ends[1])}")


def lab_facts(text: str, tokens: Sequence[Token]) -> Iterator[Fact]:
    """Yield the laboratory values."""
    for name, matches in _measurements(text, tokens, _LABS_BY_WORD):
        readings = _readings(text, matches)
        for start, end, reading in readings:
            yield Fact("lab", start, end, "", name, _lab_value(name, reading))
        yield from _changes(name, text, readings)


def told_changes(text: str, tokens: Sequence[Token]) -> Iterator[Fact]:
    """Yield changes without a number: "lactate has risen" is "up ? ?"."""
    for token in tokens:
        for name, pattern in _TOLD_BY_WORD.get(token.word, ()):
            if match := pattern.match(text, token.start):
                way = "up" if match["up"] else "down"
                yield Fact("change", match.start(), match.end(), "", name, f"{way} ? ?")
                break


def _lab_value(name: str, reading: _Reading) -> str:
    if name == "hemoglobin a1c" and reading.low >= _LEAST_IFCC:
        return plain_number(round(reading.low * 0.09148 + 2.152, 2))  # the master equation of NGSP and IFCC
    factor = _LAB_FACTORS.get((name, reading.unit), 1.0)
    if not reading.unit and name in _TOO_HIGH and reading.low >= _TOO_HIGH[name][0]:
        factor = _LAB_FACTORS[name, _TOO_HIGH[name][1]]
    if name == "birth weight" and reading.low >= 200:
        factor = 0.001  # from grams to kilograms
    if name in ("white cell count", "platelets") and reading.low >= 1000:
        factor = 0.001  # from cells per microlitre to thousands of cells per microlitre
    return reading.text(factor) if factor in (1.0, 0.001, 0.1) else plain_number(round(reading.low * factor, 2))
