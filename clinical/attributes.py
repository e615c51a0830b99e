"""Extract attributes of findings: severity, acuity, stage, direction, cause, order and route.

The text is in regular form (see `clinical.text`). Each attribute is a `Fact` of one of these types:

- severity, acuity: `key` is the finding.
- stage: `key` is the scale, such as "grade".
- direction: `key` is the measure or finding and the kind of direction, such as "potassium level".
- cause: `key` is the effect, `value` is the cause.
- order: `key` is the event, `value` is "before" or "after".
- route: `key` is the drug.

An attribute is left out if the rules cannot tell what it describes.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from clinical.values import PROBLEMS, Fact, ignoring_case

_DEGREES = {  # word -> (type, value)
    word: (kind, value)
    for kind, value, words in (
        ("severity", "mild", "mild mildly slight slightly minimal minimally"),
        ("severity", "moderate", "moderate moderately"),
        ("severity", "severe", "severe severely marked markedly extensive excruciating"),
        ("acuity", "acute", "acute acutely sudden"),
        ("acuity", "subacute", "subacute"),
        ("acuity", "chronic", "chronic chronically longstanding long-standing"),
        ("acuity", "intermittent", "intermittent occasional sporadic rare"),
        ("acuity", "constant", "constant persistent continuous frequent"),
    )
    for word in words.split()
}
_DEGREE = ignoring_case(rf"\b(?P<degree>{'|'.join(sorted(_DEGREES, key=len, reverse=True))})\b")
_RANGE_OF_DEGREES = ignoring_case(r"(?:\bto|-|\bor|/)\s*$")  # "mild to moderate" is not one degree
_TO_DEGREE = ignoring_case(r"\s*(?:to|-|or|/)\s*(?:mild|moderate|severe|chronic|marked)")
_STAGE = ignoring_case(
    r"\b(?P<scale>stage|grade|class|category|degree)[ -](?P<value>(?:iv|i{1,3}|[1-4])[abc]?)\b"
    r"(?!\s*(?:to|-|/|or)\s*[iv\d])"
)
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4"}


def attribute_facts(text: str, findings: Sequence[Fact]) -> list[Fact]:
    """Return facts of types severity, acuity, stage, direction, cause, order and route, without scope flags."""
    problems = [fact for fact in findings if fact.type in PROBLEMS]
    return [
        *_degree_facts(text, problems),
        *_stage_facts(text),
        *_direction_facts(text, findings),
        *_cause_facts(text, problems),
        *_order_facts(text),
        *_route_facts(text, [fact for fact in findings if fact.type == "drug"]),
    ]


def _inside(position: int, facts: Sequence[Fact]) -> bool:
    """Return whether one of the facts, which are sorted by start, covers the position."""
    index = bisect_right(facts, position, key=lambda fact: fact.start)
    return any(fact.start <= position < fact.end for fact in facts[max(0, index - _NEIGHBOURS) : index])


_NEIGHBOURS = 8  # findings examined on each side of an attribute


_BETWEEN = ignoring_case(r"[ -]+(?:(?!and\b|or\b|but\b|with\b|to\b|of\b|for\b)[a-z-]+ ){0,2}")
_PREDICATE = ignoring_case(
    r" (?:is|was|are|were|remains?|has been|appears?|described as|rated as)(?: \w+ly| very| quite)? "
)


def _degree_facts(text: str, problems: Sequence[Fact]) -> Iterator[Fact]:
    """Yield severities and acuities: "severe chest pain" or "the pain is severe"."""
    for match in _DEGREE.finditer(text):
        if _inside(match.start(), problems) or _RANGE_OF_DEGREES.search(text, max(0, match.start() - 4), match.start()):
            continue
        if _TO_DEGREE.match(text, match.end()):
            continue
        index = bisect_left(problems, match.end(), key=lambda fact: fact.start)
        after, before = problems[index : index + _NEIGHBOURS], problems[max(0, index - _NEIGHBOURS) : index]
        bearer = next((f for f in after if _BETWEEN.fullmatch(text, match.end(), f.start)), None)
        bearer = bearer or next((f for f in before if _PREDICATE.fullmatch(text, f.end, match.start())), None)
        if bearer:
            kind, value = _DEGREES[match[0].lower()]
            yield Fact(kind, match.start(), match.end(), "", bearer.key, value)


def _stage_facts(text: str) -> Iterator[Fact]:
    for match in _STAGE.finditer(text):
        written = match["value"].lower()
        root = written.rstrip("abc") or written
        yield Fact(
            "stage", match.start("value"), match.end("value"), "", match["scale"].lower(), _ROMAN.get(root, root)
        )


# ------------------------------------------------------------------------------------------ direction

_MEASURES = (
    "blood pressure|bp|heart rate|pulse|temperature|weight|oxygen saturation|saturation|respiratory rate|"
    "white (?:blood )?cell count|white (?:blood )?count|wbc|hemoglobin a1c|hemoglobin|a1c|hematocrit|platelet count|"
    "platelets|potassium|sodium|calcium|magnesium|glucose|blood sugars?|creatinine|bun|tsh|cholesterol|ldl|hdl|"
    "triglycerides|troponins?|trops?|lactate|bilirubin|liver enzymes|lfts|lipase|inr|crp|esr|psa|bnp|ejection fraction|"
    "albumin|appetite|energy|range of motion|strength|sensation|reflexes|breath sounds|urine output|intake|tone|"
    "vision|hearing|memory|mood|sleep|motion|gait|culture|cultures|test|urinalysis|biopsy|stool|screen|swab|x-ray|"
    "ct|mri|ultrasound|echocardiogram|ekg|exam|examination|symptoms|condition|function|levels?|count"
)
_HIGH, _LOW, _BETTER, _WORSE = "high", "low", "better", "worse"
_DIRECTIONS = {
    word: (kind, value)
    for kind, value, words in (
        ("level", _HIGH, "elevated|high|increased|raised|increasing|gained|elevation|increase"),
        ("level", _LOW, "low|decreased|reduced|diminished|decreasing|lost|decrease"),
        ("level", "normal", "normal|within normal limits|unremarkable"),
        ("level", "abnormal", "abnormal"),
        ("trend", _BETTER, "improved|improving|improves|improve|improvement|better|alleviated|relieved"),
        ("trend", _WORSE, "worsened|worsening|worsens|worsen|worse|aggravated|exacerbated|deteriorated"),
        ("trend", "stable", "stable|unchanged"),
        ("result", "positive", "positive"),
        ("result", "negative", "negative"),
    )
    for word in words.split("|")
}
_DIRECTION = ignoring_case(rf"\b(?P<word>{'|'.join(sorted(_DIRECTIONS, key=len, reverse=True))})\b")
_MEASURE = ignoring_case(rf"\b(?P<measure>{_MEASURES})\b")
_TO_MEASURE = ignoring_case(r"(?: (?:in|of|for|the|his|her|your|blood|serum|total|active|passive))* ?")
_FROM_MEASURE = ignoring_case(
    r"(?: (?:is|was|are|were|has|have|had|been|remains?|comes?|came|back|still|slightly|mildly|markedly|somewhat|"
    r"significantly|significant|a bit|a little|very|much|so|get|getting|gets|got|becoming|made|which|that|level|levels|"
    r"today|also|now|at|in the|did|does|do|not|didn't|doesn't|found to be|overall|even|well))* "
)
# "high risk", "better than", "positive family history", "low back" are not directions of a finding
_NO_DIRECTION = ignoring_case(
    r"[ -]+(?:risk|back|school|dose|grade|fat|salt|fiber|carb|impact|than|at first|blood pressure medic)"
)


def _direction_facts(text: str, findings: Sequence[Fact]) -> Iterator[Fact]:
    """Yield directions of measures and findings: "elevated potassium", "the cough has worsened"."""
    spots: list[_Spot] | None = None
    for match in _DIRECTION.finditer(text):
        if _inside(match.start(), findings) or _NO_DIRECTION.match(text, match.end()):
            continue
        if spots is None:
            spots = _bearers(text, findings)
        kind, value = _DIRECTIONS[match["word"].lower()]
        if kind == "trend" and _NO_TREND.search(text, max(0, match.start() - 24), match.start()):
            value = f"not {value}"
        tests = [
            spot for spot in spots if spot[3]
        ]  # only a test can be positive or negative; "positive for" is not a result
        key = _bearer(text, match.start(), match.end(), tests if kind == "result" else spots)
        if key and not (kind == "result" and text[match.end() : match.end() + 4] == " for"):
            yield Fact("direction", match.start(), match.end(), "", f"{key} {kind}", value)


_NO_TREND = ignoring_case(
    r"\b(?:no|not|without|never|n't)(?: (?:any|much|significant|clinical|clear|been|yet|get|got|getting|gotten))* $"
    r"|n't $"
)
_Spot = tuple[int, int, str, bool]


def _bearers(text: str, findings: Sequence[Fact]) -> list[_Spot]:
    """Return (start, end, key, is a test) of everything that can have a direction, sorted by start."""
    spots = [(f.start, f.end, f.key, f.type == "procedure") for f in findings if f.type in (*PROBLEMS, "procedure")]
    for match in _MEASURE.finditer(text):
        name = match["measure"].lower()
        spots.append((match.start(), match.end(), _SAME_MEASURE.get(name, name), True))
    return sorted(spots)


_SAME_MEASURE = {
    "bp": "blood pressure",
    "pulse": "heart rate",
    "saturation": "oxygen saturation",
    "wbc": "white count",
    "white cell count": "white count",
    "white blood cell count": "white count",
    "white blood count": "white count",
    "a1c": "hemoglobin a1c",
    "platelet count": "platelets",
    "blood sugar": "glucose",
    "blood sugars": "glucose",
    "lfts": "liver enzymes",
    "motion": "range of motion",
    "cultures": "culture",
    "troponins": "troponin",
    "trop": "troponin",
    "trops": "troponin",
    "examination": "exam",
    "levels": "level",
}


def _bearer(text: str, start: int, end: int, spots: Sequence[_Spot]) -> str | None:
    """Return the key of the measure or finding that the word in `text[start:end]` describes, or None."""
    index = bisect_left(spots, (end, 0, "", False))
    following = spots[index] if index < len(spots) else None
    if following and _TO_MEASURE.fullmatch(text[end : following[0]]):
        return following[2]
    before = [spot for spot in spots[max(0, index - 3) : index] if spot[1] <= start]
    if before and _FROM_MEASURE.fullmatch(text[before[-1][1] : start]):
        return before[-1][2]
    return None


# -------------------------------------------------------------------------------------- cause and order

_CONNECTED = (
    r"(?:due to|secondary to|caused by|because of|as a result of|attributed to|resulting from)"
    r" (?:(?:the|a|an|his|her|underlying|known|acute|chronic|severe|likely|possible|recent|suspected) )*"
)
_FOR_CAUSE = ignoring_case(rf"\b{_CONNECTED}$")
_BECAUSE = ignoring_case(
    rf"[ ,]+(?:(?:is|was|are|were|most|likely|probably|felt|to|be|which|thought|presumably)[ ]+)*{_CONNECTED}"
)


def _cause_facts(text: str, problems: Sequence[Fact]) -> Iterator[Fact]:
    """Yield causes. "anemia due to gastritis" has the key anemia, or "" if the lexicons do not contain the effect."""
    for index, cause in enumerate(problems):
        if not _FOR_CAUSE.search(text, max(0, cause.start - 60), cause.start):
            continue
        effect = problems[index - 1] if index else None
        known = effect and _BECAUSE.fullmatch(text[effect.end : cause.start])
        yield Fact("cause", cause.start, cause.end, "", effect.key if effect and known else "", cause.value)


_ORDER = ignoring_case(
    r"\b(?P<word>before|after|prior to|following)(?= (?:(?:the|a|an|his|her|each|every|any|eating|taking|having) )*"
    r"(?P<what>meals?|eating|breakfast|lunch|dinner|food|bed|sleep|exercise|exertion|surgery|delivery|birth|work|"
    r"dialysis|chemotherapy|radiation|the procedure|procedure|operation|accident|fall|injury|treatment|discharge|"
    r"admission|menopause|pregnancy|activity|walking|running|standing|school|meal|taking|hysterectomy|sex|"
    r"intercourse|urination|bowel movements?)\b)"
)


def _order_facts(text: str) -> Iterator[Fact]:
    for match in _ORDER.finditer(text):
        value = "before" if match["word"].lower() in ("before", "prior to") else "after"
        yield Fact("order", match.start("word"), match.end("word"), "", match["what"].lower().rstrip("s"), value)


_ROUTES = {
    word: value
    for value, words in (
        ("oral", "oral|orally|p.o.|po|by mouth"),
        ("intravenous", "intravenous|intravenously|i.v.|iv"),
        ("intramuscular", "intramuscular|intramuscularly|i.m.|im"),
        ("subcutaneous", "subcutaneous|subcutaneously|subq|subcut"),
        ("topical", "topical|topically"),
        ("inhaled", "inhaled"),
        ("rectal", "rectal|rectally"),
        ("nasal", "nasal|intranasal"),
        ("sublingual", "sublingual"),
        ("vaginal", "vaginal|vaginally"),
    )
    for word in words.split("|")
}
_ROUTE = ignoring_case(
    rf"(?<![a-z.])(?P<route>{'|'.join(re.escape(word) for word in sorted(_ROUTES, key=len, reverse=True))})(?![a-z])"
)
_MAX_GAP_TO_DRUG = 30  # characters; the dose may come between drug and route


def _route_facts(text: str, drugs: Sequence[Fact]) -> Iterator[Fact]:
    """Yield routes: "oral prednisone" or "prednisone 40 mg p.o."."""
    for match in _ROUTE.finditer(text) if drugs else ():
        written = match["route"].lower()
        if written in ("im", "iv", "po") and match["route"] == "Im":  # a transcript's spelling of "I'm"
            continue
        after = next((drug for drug in drugs if 0 < drug.start - match.end() <= 2), None)
        before = next(
            (
                drug
                for drug in reversed(drugs)
                if 0 < match.start() - drug.end <= _MAX_GAP_TO_DRUG
                and not re.search(r"[.;,]\s", text[drug.end : match.start()])
            ),
            None,
        )
        if bearer := after or before:
            yield Fact("route", match.start(), match.end(), "", bearer.key, _ROUTES[written])
