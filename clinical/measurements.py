"""Extract vital signs and laboratory values as facts of types `vital` and `lab` (see `clinical.values`).

Units are converted to degrees Celsius, kilograms, and the customary unit of each laboratory test. The text is in
regular form (see `clinical.text`) and in lower case. `tokens` are its words. For speed, a pattern is tried only at
the words of its names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from clinical.scope import Token
from clinical.values import NUMBER, Fact, parsed_number, plain_number, scaled

_IS = (  # text allowed between a name and its value
    r"(?:\s*(?::|=|,|is|was|of|at|to|were|are|came back|came out|today|level|levels|count|reading|rate|value|found|be|"
    r"in the|a|about|around|still|elevated|normal|low|high|currently|now|on room air|as)){0,5}\s*"
)
_BLOOD_PRESSURE = re.compile(
    rf"(?:(?<![a-z])(?P<name>bp|b/p|blood pressures?){_IS})?"
    r"(?<![\d./])(?P<systolic>\d{2,3})\s*(?:/|over|by)\s*(?P<diastolic>\d{2,3})\b(?!/)"
)
_VITAL_NAMES: tuple[tuple[str, str, str], ...] = (
    ("heart rate", r"heart rate|hr|pulse|pulse rate", r"bpm|beats"),
    (
        "temperature",
        r"temperature|temp|t(?=[ :=]+\d{2}\.\d)|fever of",
        r"(?:°|degrees?)?\s*(?:celsius|fahrenheit|[cf]\b)",
    ),
    ("respiratory rate", r"respiratory rate|respirations?|rr|resp rate|resp", r"breaths"),
    (
        "oxygen saturation",
        r"spo2|sao2|o2 sats?|oxygen saturations?|oxygen sats?|o2 saturations?|"
        r"pulse ox(?:ygenation|imetry)?|sats?|saturation",
        "%",
    ),
    ("weight", r"weight|weighs|weighing|weighed|wt", r"kg|kilograms?|kilos?|pounds?|lbs?"),
    ("body mass index", r"bmi|body mass index", r"kg/m2"),
    ("pain score", r"pain score|pain level", "/10"),
)
_VITALS = tuple(
    (
        name,
        re.compile(rf"\b(?:{names}){_IS}(?P<low>{NUMBER})(?:\s*(?:-|to)\s*(?P<high>{NUMBER}))?\s*(?P<unit>{units})?"),
    )
    for name, names, units in _VITAL_NAMES
)
_PLAUSIBLE = {
    "heart rate": (20, 300),
    "temperature": (25, 115),
    "respiratory rate": (4, 80),
    "oxygen saturation": (30, 100),
}

_LAB_NAMES: tuple[tuple[str, str], ...] = (
    ("hemoglobin a1c", r"hemoglobin a1c|hba1c|a1c|a one c|glycated hemoglobin|hgba1c"),
    ("hemoglobin", r"hemoglobin|haemoglobin|hgb|hb"),
    ("hematocrit", r"hematocrit|hct|crit"),
    ("white cell count", r"white (?:blood )?cell counts?|white (?:blood )?counts?|white cells?|wbcs?|leukocytes?"),
    ("platelets", r"platelet counts?|platelets?|plts?"),
    ("potassium", r"potassium|k\+"),
    ("sodium", r"sodium|na\+"),
    ("chloride", r"chloride"),
    ("bicarbonate", r"bicarbonate|bicarb|hco3|co2"),
    ("creatinine", r"creatinine|cr(?=\s+\d)"),
    ("urea nitrogen", r"blood urea nitrogen|bun|urea"),
    ("glucose", r"(?:fasting )?(?:blood )?(?:glucose|sugars?)|fingersticks?|accu-cheks?|accucheks?"),
    ("calcium", r"calcium"),
    ("magnesium", r"magnesium"),
    ("phosphorus", r"phosphorus|phosphate"),
    ("troponin", r"troponins?(?: [it])?"),
    ("creatine kinase", r"creatine kinase|cpk|ck"),
    ("thyroid stimulating hormone", r"thyroid[- ]stimulating hormone|tsh"),
    ("free t4", r"free t4|t4"),
    ("lactate", r"lactate|lactic acid"),
    ("c-reactive protein", r"c[- ]reactive protein|crp"),
    ("sedimentation rate", r"sedimentation rate|sed rate|esr"),
    ("d-dimer", r"d[- ]dimer"),
    ("bilirubin", r"(?:total )?bilirubin|bili"),
    ("albumin", r"albumin"),
    ("ast", r"ast|sgot"),
    ("alt", r"alt|sgpt"),
    ("alkaline phosphatase", r"alkaline phosphatase|alk phos"),
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
    ("ejection fraction", r"ejection fraction|lvef|ef"),
    ("egfr", r"egfr|gfr"),
    ("ph", r"ph(?=\s+[67]\.)"),
)
_LAB_VALUE = (
    rf"{_IS}(?<![\d.])(?P<low>{NUMBER})(?:\s*(?:-|to)\s*(?P<high>{NUMBER}))?"
    r"(?!\s*(?:mg(?!\s*/)|mcg|times|days?|weeks?|months?|years?|tab|hours?)\b)"
    r"(?:\s*(?P<unit>g/dl|g/l|mg/dl|mmol/l|meq/l|umol/l|[µμ]mol/l|k/ul|x ?10\^?[39]/?u?l?|ng/ml|ng/l|miu/l|mg/l|"
    r"%|percent|[kmu]+/[a-z]+))?"
)
_LABS = tuple((name, re.compile(rf"(?<![a-z])(?:{names}){_LAB_VALUE}")) for name, names in _LAB_NAMES)
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
_LABS_BY_WORD = _patterns_by_word(_LABS, [names for _, names in _LAB_NAMES])


def _measurements(text: str, tokens: Sequence[Token], table: _Patterns) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield (name, match) from left to right, without overlaps."""
    done = 0
    for token in tokens:
        patterns = table.get(token.word) or table.get(token.word.rstrip("0123456789"), [])  # "hgb9.1"
        for name, pattern in patterns if token.start >= done else []:
            if match := pattern.match(text, token.start):
                yield name, match
                done = match.end()
                break


def vital_facts(text: str, tokens: Sequence[Token]) -> Iterator[Fact]:
    """Yield the vital signs. Implausible values are skipped."""
    for match in _BLOOD_PRESSURE.finditer(text) if any(mark in text for mark in ("/", "over", "by")) else ():
        systolic, diastolic = int(match["systolic"]), int(match["diastolic"])
        if (
            (match["name"] or (systolic >= 70 and diastolic >= 30))
            and 40 <= systolic <= 300
            and 15 <= diastolic < systolic
        ):
            yield Fact("vital", match.start(), match.end(), "", "blood pressure", f"{systolic}/{diastolic}")
    for name, match in _measurements(text, tokens, _VITALS_BY_WORD):
        low, high = _PLAUSIBLE.get(name, (0.0, 1e9))
        if low <= parsed_number(match["low"]) <= high:
            yield Fact("vital", match.start(), match.end(), "", name, _vital_value(name, match))


def _vital_value(name: str, match: re.Match[str]) -> str:
    unit, number = match["unit"] or "", parsed_number(match["low"])
    if name == "temperature" and ("f" in unit or number > 45):
        return plain_number(round((number - 32) / 1.8, 1))  # degrees Celsius
    if name == "weight" and unit.startswith(("p", "l")):
        return plain_number(round(number * 0.45359237, 1))  # kilograms
    return scaled(match)


def lab_facts(text: str, tokens: Sequence[Token]) -> Iterator[Fact]:
    """Yield the laboratory values."""
    for name, match in _measurements(text, tokens, _LABS_BY_WORD):
        factor = _LAB_FACTORS.get((name, match["unit"] or ""), 1.0)
        if name in ("white cell count", "platelets") and parsed_number(match["low"]) >= 1000:
            factor = 0.001  # from cells per microlitre to thousands of cells per microlitre
        value = scaled(match, factor) if factor in (1.0, 0.001, 0.1) else f"{parsed_number(match['low']) * factor:.1f}"
        yield Fact("lab", match.start(), match.end(), "", name, value)
