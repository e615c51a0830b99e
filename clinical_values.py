"""Values in clinical text: one generator of facts for each type, on text in regular form (see `clinical_text`).

Each yields facts without scope; `clinical_facts` binds them to drugs and findings and adds the scope. Units are
converted to one base: mg, mL, hours, degrees Celsius, kilograms, and the customary unit of each laboratory test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clinical_text import Turn


@dataclass(frozen=True)
class Fact:
    """One fact. `text[start:end]` states it; `key` is what the value belongs to, `value` is comparable by `==`."""

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
    sentence: int = 0


_N = r"(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
_RANGE = rf"(?P<low>{_N})(?:\s*(?:-|–|to|or)\s*(?P<high>{_N}))?"


def ignoring_case(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE)


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def plain_number(value: float) -> str:
    """Six decimals at most and no exponent: 0.125, 1500, 37.4."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _scaled(match: re.Match[str], factor: float = 1.0) -> str:
    """`low` or `low-high` of a range, times `factor`."""
    low = plain_number(_number(match["low"]) * factor)
    return f"{low}-{plain_number(_number(match['high']) * factor)}" if match["high"] else low


_DOSE_UNITS = {  # first letters -> (factor, base unit)
    "mg": (1.0, "mg"),
    "milligram": (1.0, "mg"),
    "mcg": (0.001, "mg"),
    "microgram": (0.001, "mg"),
    "ug": (0.001, "mg"),
    "µg": (0.001, "mg"),
    "gram": (1000.0, "mg"),
    "gm": (1000.0, "mg"),
    "g": (1000.0, "mg"),
    "ml": (1.0, "mL"),
    "milliliter": (1.0, "mL"),
    "cc": (1.0, "mL"),
    "liter": (1000.0, "mL"),
    "l": (1000.0, "mL"),
    "unit": (1.0, "units"),
    "iu": (1.0, "units"),
    "meq": (1.0, "mEq"),
    "puff": (1.0, "puffs"),
    "tablet": (1.0, "tablets"),
    "tab": (1.0, "tablets"),
    "pill": (1.0, "tablets"),
    "capsule": (1.0, "tablets"),
    "drop": (1.0, "drops"),
}
_DOSE = ignoring_case(
    rf"(?<![\d.,/]){_RANGE}[ \t]*-?[ \t]*(?P<unit>{'|'.join(sorted(_DOSE_UNITS, key=len, reverse=True))})s?\b"
    r"(?![ \t]*(?:/|per)[ \t]*(?:d?l|ml|kg|deciliter|liter)\b)"
)

_COUNT = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
_FREQUENCIES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (ignoring_case(expression), value)
    for expression, value in (
        (r"\bevery other day\b|\bq\.?o\.?d\b", "0.5 per day"),
        (rf"\b(?:every|each|q\.?)[ \t]*{_RANGE}[ \t-]*(?:h|hr|hour)s?\b", "every hours"),
        (rf"\bevery {_RANGE} (?:day)s?\b", "every days"),
        (rf"\bevery {_RANGE} (?:week)s?\b", "every weeks"),
        (
            r"\b(?P<count>once|twice|thrice|\d+(?: times?|x))[ -]*(?:an?|per|each|every)?[ -]*(?:day|daily)\b",
            "count per day",
        ),
        (
            r"\b(?P<count>once|twice|thrice|\d+(?: times?|x))[ -]*(?:an?|per|each|every)?[ -]*(?:week|weekly)\b",
            "count per week",
        ),
        (r"\bb\.? ?i\.? ?d\b\.?", "2 per day"),
        (r"\bt\.? ?i\.? ?d\b\.?", "3 per day"),
        (r"\bq\.? ?i\.? ?d\b\.?", "4 per day"),
        (
            r"\bq\.?[ ]?h\.?s\b\.?|\b(?:at|before) (?:bed ?time|night|bed)\b|\bnightly\b|\b(?:every|each) night\b",
            "bedtime",
        ),
        (r"\bq\.?a\.?m\b\.?|\b(?:every|each|in the) morning\b", "morning"),
        (r"\bq\.?p\.?m\b\.?|\b(?:every|each|in the) evening\b", "evening"),
        (r"\bq\.?d\b\.?|\bq ?day\b|\b(?:every|each|an?|per) day\b|(?<!times )\bdaily\b", "1 per day"),
        (r"\bweekly\b|\b(?:every|each|an?|per) week\b", "1 per week"),
        (r"\bmonthly\b|\b(?:every|each|a|per) month\b", "1 per month"),
        (r"\bp\.?r\.?n\b\.?|\bas[ -]needed\b|\bwhen needed\b|\bif needed\b", "as needed"),
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
_DURATION = ignoring_case(
    rf"(?<![\d.,/])(?:{_RANGE}|(?P<one>\ban?\b)(?: (?P<couple>couple)(?: of)?)?)[ \t-]+(?P<unit>{_TIME_UNIT})s?\b"
    rf"|(?<![\d.,/]){_RANGE.replace('low', 'low2').replace('high', 'high2')}(?P<unit2>{_TIME_UNIT})s?\b"
)
_FOLLOW_UP = ignoring_case(
    r"\b(?:follow(?:ed|ing)?[- ]?up|return|review|recheck|come back|see (?:you|him|her|me|us|them)|re-?evaluat\w+)\b"
    r"[^.;?!\n]{0,50}?\b(?:in|after|within|at)(?: about| approximately| around)?[ ]*$"
)

_AGE = ignoring_case(
    rf"\b(?P<age>{_N})[ \t-]*(?P<unit>year|yr|month|week|day|mo)s?(?:\.)?[ \t-]*(?:old\b|of age\b)"
    r"|\b(?P<age2>\d{1,3})[ \t-]*y\.?(?:r\.?)?[ \t]*/?[ \t]*o\b\.?"
    r"|\baged?:? (?:of |is )?(?P<age3>\d{1,3})\b(?!\s*(?:mg|%|to|-))"
    r"|\bhow old[^?\n]{0,40}\?(?:[^?\n]{0,80}\?)?\s*(?:\[?[A-Za-z_]+\]?:?)?[^\n\d?]{0,60}?\b(?P<age4>\d{1,3})\b"
    r"(?! (?:month|week|day))"
    r"|\b(?:i'm|i am|he is|she is|he's|she's|is|turned|turning|be) (?P<age5>\d{1,3})"
    r"(?=(?: years?(?: old)?)?\s*(?:[.,!?]|$|sir\b|ma'am\b))"
)
_YEARS = {"year": 1.0, "yr": 1.0, "month": 1 / 12, "mo": 1 / 12, "week": 7 / 365, "day": 1 / 365}

_SEX = ignoring_case(
    r"\b(?P<female>woman|female|lady|girl|gentlewoman)\b|\b(?P<male>man|male|gentleman|boy)\b"
    r"|(?<=\d )(?:y/?o )?(?P<f>f)\b|(?<=\d )(?:y/?o )?(?P<m>m)\b"
    r"|(?:(?<=y/o )|(?<=yo )|(?<=old ))(?:(?P<f2>f)|(?P<m2>m))\b"
    r"|\b(?P<address_female>ma'am|miss|mrs|ms)\b|\b(?P<address_male>sir|mister|mr)\b"
    r"|\b(?P<she>she|her|hers|herself)\b|\b(?P<he>he|his|him|himself)\b"
)

_IS = (  # what may stand between a name and its value
    r"(?:\s*(?::|=|,|is|was|of|at|to|were|are|came back|today|level|levels|count|reading|rate|value|found|be|in the|a|"
    r"about|around|still|elevated|normal|low|high|currently|now|on room air|as)){0,5}\s*"
)
_BLOOD_PRESSURE = ignoring_case(
    rf"(?:(?<![a-z])(?P<name>bp|b/p|blood pressures?){_IS})?"
    r"(?<![\d./])(?P<systolic>\d{2,3})\s*(?:/|over)\s*(?P<diastolic>\d{2,3})\b(?!/)"
)
_VITALS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, ignoring_case(rf"\b(?:{names}){_IS}(?P<low>{_N})(?:\s*(?:-|to)\s*(?P<high>{_N}))?\s*(?P<unit>{units})?"))
    for name, names, units in (
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
)
_PLAUSIBLE = {
    "heart rate": (20, 300),
    "temperature": (25, 115),
    "respiratory rate": (4, 80),
    "oxygen saturation": (30, 100),
}

_LABS: tuple[tuple[str, str], ...] = (
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
    ("glucose", r"(?:fasting )?(?:blood )?(?:glucose|sugars?)|fingersticks?|accu-?cheks?"),
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
    ("bnp", r"(?:nt[- ]?pro)?bnp"),
    ("ferritin", r"ferritin"),
    ("psa", r"psa"),
    ("ejection fraction", r"ejection fraction|lvef|ef"),
    ("egfr", r"e?gfr"),
    ("ph", r"ph(?=\s+[67]\.)"),
)
_LAB_NAMES = [name for name, _ in _LABS]
_LAB = ignoring_case(
    r"(?<![a-z])(?:"
    + "|".join(f"(?P<l{i}>{names})" for i, (_, names) in enumerate(_LABS))
    + rf"){_IS}(?<![\d.])(?P<low>{_N})(?:\s*(?:-|to)\s*(?P<high>{_N}))?"
    r"(?!\s*(?:mg(?!\s*/)|mcg|times|days?|weeks?|months?|years?|tab|hours?)\b)"
    r"(?:\s*(?P<unit>g/dl|g/l|mg/dl|mmol/l|meq/l|umol/l|µmol/l|k/ul|x ?10\^?[39]/?u?l?|ng/ml|ng/l|miu/l|mg/l|"
    r"%|percent|[kmu]+/[a-z]+))?"
)
_LAB_FACTORS = {
    ("hemoglobin", "g/l"): 0.1,
    ("albumin", "g/l"): 0.1,
    ("creatinine", "umol/l"): 1 / 88.4,
    ("creatinine", "µmol/l"): 1 / 88.4,
    ("glucose", "mmol/l"): 18.0,
    ("bilirubin", "umol/l"): 1 / 17.1,
    ("bilirubin", "µmol/l"): 1 / 17.1,
}

_BODY_PARTS = (
    "abdomen|ankle|arm|armpit|axilla|back|breast|buttock|calf|cheek|chest|clavicle|collarbone|ear|elbow|extremity|"
    "extremities|eye|eyelid|face|femur|fibula|finger|flank|foot|feet|forearm|forehead|groin|hamstring|hand|heel|hemibody|"
    "hemisphere|hip|humerus|jaw|kidney|knee|leg|limb|lobe|lung|neck|nostril|ovary|patella|pinky|radius|rib|scapula|"
    "shin|shoulder|shoulder blade|side|temple|testicle|thigh|thumb|tibia|toe|tonsil|upper quadrant|"
    "lower quadrant|ventricle|wrist|handed"
)
_LATERALITY = ignoring_case(
    r"\b(?P<side>left|right|bilateral|bilaterally|lt|rt)\b(?=(?:[ -]sided?)?(?P<gap>(?:[ -]+[a-z]+){0,2}?)[ -]+"
    rf"(?P<part>{_BODY_PARTS})s?\b)"
)
_SIDE = ignoring_case(r"\b(?P<side>left|right|bilateral)\b(?P<sided>[ -]sided)?[ ]+")
_SIDES = {"left": "left", "lt": "left", "right": "right", "rt": "right", "bilateral": "both", "bilaterally": "both"}
_NO_SIDE_GAP = frozenset(
    "now the a my of and or but that when after away there i you he she it was is for to in on".split()
)

_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_DATE = ignoring_case(
    rf"\b(?P<month>{_MONTHS})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<year>(?:19|20)\d\d))?"
    r"|(?<![\d/.])(?P<m>0?[1-9]|1[0-2])/(?P<d>0?[1-9]|[12]\d|3[01])(?:/(?P<y>(?:19|20)?\d\d))?(?![\d/])"
    r"|(?<![\d.,/])(?P<only>(?:19|20)\d\d)(?![\d,/]|\.\d)\b"
)
_BARE_NUMBER = ignoring_case(rf"(?<![\w.,/:#-])(?P<low>{_N})(?P<unit>%)?(?:[ -]+(?P<noun>[a-z]+))?(?![\w]*:\d)")


def dose_facts(text: str) -> Iterator[Fact]:
    for match in _DOSE.finditer(text):
        factor, unit = _DOSE_UNITS[match["unit"].lower()]
        yield Fact("dose", match.start(), match.end(), "", "", f"{_scaled(match, factor)} {unit}")


def frequency_facts(text: str) -> Iterator[Fact]:
    for pattern, value in _FREQUENCIES:
        for match in pattern.finditer(text):
            yield Fact("frequency", match.start(), match.end(), "", "", _frequency(match, value))


def _frequency(match: re.Match[str], value: str) -> str:
    if value.startswith("count"):
        count = match["count"].lower()
        number = _COUNT.get(count) or float(re.sub(r"\D", "", count))
        return f"{plain_number(number)}{value.removeprefix('count')}"
    if value == "every hours" and not match["high"] and _number(match["low"]):
        return f"{plain_number(24 / _number(match['low']))} per day"
    return value.replace("every", f"every {_scaled(match)}", 1) if value.startswith("every ") else value


def duration_facts(text: str) -> Iterator[Fact]:
    for match in _DURATION.finditer(text):
        hours = _HOURS[(match["unit"] or match["unit2"]).lower()]
        if match["one"]:
            value = plain_number((2 if match["couple"] else 1) * hours)
        else:
            ends = [end for name in ("low", "high", "low2", "high2") if (end := match[name])]
            value = "-".join(plain_number(_number(end) * hours) for end in ends)
        is_return = _FOLLOW_UP.search(text, max(0, match.start() - 90), match.start())
        yield Fact("follow_up" if is_return else "duration", match.start(), match.end(), "", "", f"{value} hours")


def age_facts(text: str) -> Iterator[Fact]:
    for match in _AGE.finditer(text):
        name = next(name for name in ("age", "age2", "age3", "age4", "age5") if match[name])
        years = _number(match[name]) * _YEARS[(match["unit"] or "year").lower()]
        if years <= 120:
            start = match.start(name)
            yield Fact("age", start, match.end(name) if name == "age4" else match.end(), "", "", plain_number(years))


def sex_facts(text: str, turns: Sequence[Turn]) -> Iterator[Fact]:
    """Key `patient` for nouns and a doctor's forms of address, `pronoun` for pronouns."""
    doctors = [(turn.start, turn.end) for turn in turns if turn.speaker in ("doctor", "clinician", "nurse", "provider")]
    for match in _SEX.finditer(text):
        name = match.lastgroup or ""
        if match[0] in ("MS", "ms", "miss"):  # multiple sclerosis, milliseconds, a verb
            continue
        if name.startswith("address") and turns and not any(start <= match.start() < end for start, end in doctors):
            continue
        female = name in ("female", "f", "f2", "address_female", "she")
        key = "pronoun" if name in ("she", "he") else "patient"
        yield Fact("sex", match.start(name), match.end(name), "", key, "female" if female else "male")


def vital_facts(text: str) -> Iterator[Fact]:
    for match in _BLOOD_PRESSURE.finditer(text):
        systolic, diastolic = int(match["systolic"]), int(match["diastolic"])
        if (
            (match["name"] or (systolic >= 70 and diastolic >= 30))
            and 40 <= systolic <= 300
            and 15 <= diastolic < systolic
        ):
            yield Fact("vital", match.start(), match.end(), "", "blood pressure", f"{systolic}/{diastolic}")
    for name, pattern in _VITALS:
        for match in pattern.finditer(text):
            low, high = _PLAUSIBLE.get(name, (0.0, 1e9))
            if low <= _number(match["low"]) <= high:
                yield Fact("vital", match.start(), match.end(), "", name, _vital_value(name, match))


def _vital_value(name: str, match: re.Match[str]) -> str:
    unit, number = (match["unit"] or "").lower(), _number(match["low"])
    if name == "temperature" and ("f" in unit or number > 45):
        return plain_number(round((number - 32) / 1.8, 1))  # degrees Celsius
    if name == "weight" and unit.startswith(("p", "l")):
        return plain_number(round(number * 0.45359237, 1))  # kilograms
    return _scaled(match)


def lab_facts(text: str) -> Iterator[Fact]:
    for match in _LAB.finditer(text):
        name = next(name for i, name in enumerate(_LAB_NAMES) if match[f"l{i}"])
        factor = _LAB_FACTORS.get((name, (match["unit"] or "").lower()), 1.0)
        if name in ("white cell count", "platelets") and _number(match["low"]) >= 1000:
            factor = 0.001  # cells per microlitre, where thousands are usual
        value = _scaled(match, factor) if factor in (1.0, 0.001, 0.1) else f"{_number(match['low']) * factor:.1f}"
        yield Fact("lab", match.start(), match.end(), "", name, value)


def laterality_facts(text: str, findings: Sequence[Fact]) -> Iterator[Fact]:
    """Bound to the body part that follows within two words, else to the finding that follows at once."""
    done = set()
    for match in _LATERALITY.finditer(text):
        if not _NO_SIDE_GAP & set(match["gap"].lower().split()) or match["part"].lower() == "side":
            done.add(match.start())
            part = match["part"].lower()
            key = {"feet": "foot", "extremities": "extremity"}.get(part, part)
            yield Fact("laterality", match.start("side"), match.end("side"), "", key, _SIDES[match["side"].lower()])
    starts = {fact.start: fact for fact in findings if fact.type in ("condition", "symptom")}
    for match in _SIDE.finditer(text):
        fact = starts.get(match.end())
        if fact and match.start() not in done:
            yield Fact(
                "laterality", match.start("side"), match.end("side"), "", fact.key, _SIDES[match["side"].lower()]
            )


def date_facts(text: str) -> Iterator[Fact]:
    for match in _DATE.finditer(text):
        if match["only"]:
            value = match["only"]
        elif match["month"]:
            month = "jan feb mar apr may jun jul aug sep oct nov dec".split().index(match["month"][:3].lower()) + 1
            value = f"{month}/{int(match['day'])}"
        else:
            value = f"{int(match['m'])}/{int(match['d'])}"
        yield Fact("date", match.start(), match.end(), "", "", value)


def number_facts(text: str) -> Iterator[Fact]:
    for match in _BARE_NUMBER.finditer(text):
        noun = (match["noun"] or "").lower().rstrip("s")
        end = match.end("unit") if match["unit"] else match.end("low")
        yield Fact("number", match.start(), end, "", noun, plain_number(_number(match["low"])) + (match["unit"] or ""))
