"""Find the lay expressions of a dialogue: "I got my appendix out", "my knee hurts".

They have other words in between, name a body part or contain a list: "any problems with your heart, lungs, or
kidneys?" Fixed lay phrases are synonyms in `lexicons/` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clinical.values import Fact, ignoring_case

_OWNER = r"(?:(?:my|your|his|her|their|the|this|that|both|one of) )*"
_SIDE = r"(?:(?:left|right|lower|upper|mid|middle|whole|entire|big|side of the|back of the|front of the) )*"
_WORDS = r"(?:[\w']+ ){0,3}?"  # up to three words in between

_PAIN_OF = {  # body part -> name of its pain in lexicons/symptoms.csv
    part: f"{name} pain" if name not in ("headache", "toothache", "sore throat") else name
    for name, parts in (
        ("abdominal", "stomach belly tummy abdomen abdominal"),
        ("ankle", "ankle"),
        ("arm", "arm forearm"),
        ("back", "back spine"),
        ("breast", "breast"),
        ("buttock", "buttock butt bottom"),
        ("calf", "calf"),
        ("chest", "chest"),
        ("ear", "ear"),
        ("elbow", "elbow"),
        ("eye", "eye"),
        ("facial", "face"),
        ("finger", "finger thumb pinky"),
        ("foot", "foot feet heel"),
        ("groin", "groin"),
        ("hand", "hand"),
        ("headache", "head"),
        ("hip", "hip"),
        ("jaw", "jaw"),
        ("joint", "joint"),
        ("knee", "knee"),
        ("leg", "leg shin"),
        ("muscle", "muscle"),
        ("neck", "neck"),
        ("pelvic", "pelvis pelvic"),
        ("rib", "rib"),
        ("shoulder", "shoulder"),
        ("sore throat", "throat"),
        ("tailbone", "tailbone"),
        ("testicular", "testicle"),
        ("thigh", "thigh"),
        ("toe", "toe"),
        ("toothache", "tooth teeth gum"),
        ("wrist", "wrist"),
    )
    for part in parts.split()
}
_PART = "|".join(sorted(_PAIN_OF, key=len, reverse=True))
_PAINS = tuple(
    map(
        ignoring_case,
        (
            r"\b(?:pains?|ach(?:e|es|ing)|discomfort|soreness|hurting|hurts) (?:is |was |are )?"
            rf"(?:in|on|around|over|of) {_OWNER}{_SIDE}(?P<part>{_PART})s?\b",
            rf"\b(?P<part>{_PART})s?(?: (?:is|are|was|were|has|have|had|been|really|also|just|still|always|started|to"
            r"|does|do|did|it|feels?|so|very|a|bit|little|kind|of|been|that|much|more))*"
            r" (?:hurt(?:s|ing)?|sore|ach(?:es|ing|y)|painful|pain|ache)\b",
            # "knee, ankle, or foot pain"
            rf"\b(?P<part>{_PART})s?(?=(?:(?:, (?:and |or )?| and | or ){_SIDE}(?:{_PART})s?)+ (?:pain|ache)s?\b)",
        ),
    )
)

_REMOVAL_OF = (  # organ, name of its removal in lexicons/procedures.csv
    (r"appendix", "appendectomy"),
    (r"tonsils?", "tonsillectomy"),
    (r"adenoids?", "adenoidectomy"),
    (r"gall ?bladder", "cholecystectomy"),
    (r"uterus|womb", "hysterectomy"),
    (r"ovar(?:y|ies)", "oophorectomy"),
    (r"thyroid", "thyroidectomy"),
    (r"parathyroids?(?: glands?)?", "parathyroidectomy"),
    (r"spleen", "splenectomy"),
    (r"prostate", "prostatectomy"),
    (r"kidney", "nephrectomy"),
    (r"cataracts?", "cataract surgery"),
)
_IN_REMOVAL = (
    r"(?:[ ,]+(?:was|were|is|are|has|have|had|been|being|be|to|get|got|getting|also|all|both|and|or|my|the|his|her|your"
    r"|surgically|completely|along|with|glands?|tubes?|fallopian|tonsils?|adenoids?|uterus|ovar(?:y|ies)))*"
)
_REMOVALS = tuple(
    (
        ignoring_case(
            rf"\b(?:{organ})(?={_IN_REMOVAL} (?:removed|taken out|took out|resected|out(?! of)\b))"
            r"|\b(?:remov(?:ed|al|e|ing)|took out|taken out)\b"
            rf"(?= (?:of )?(?:(?!from\b|in\b|on\b|near\b)[\w,]+ ){{0,5}}?(?:{organ})\b)"
        ),
        name,
    )
    for organ, name in _REMOVAL_OF
)

_TO_URINATE = r"(?:urinat\w+|pee(?:ing)?|pass(?:ing)? urine|urine)\b"
_DIFFICULT = (
    r"\b(?:difficult(?:y|ies)|trouble|problems?|issues?|hard time|hard|unable|not able|can't|cannot|couldn't)"
    r"(?: (?:in|with|to|any|your|my|his|her|the|even|really|properly))* "
)
_ABILITIES = (
    ("difficulty swallowing", r"swallow\w*"),
    ("hearing loss", r"hear(?:ing)?\b"),
    ("visual changes", r"(?:see(?:ing)?|vision|eyesight)\b"),
    ("shortness of breath", r"(?:breath(?:e|ing)|catch(?:ing)? (?:my|your|his|her) breath)\b"),
    ("difficulty walking", r"walk(?:ing)?\b"),
    ("difficulty speaking", r"(?:speak(?:ing)?|talk(?:ing)?)\b"),
    ("insomnia", r"sleep(?:ing)?\b"),
    ("poor concentration", r"(?:concentrat\w+|focus\w*)\b"),
    ("urinary hesitancy", r"(?:urinat(?:e|ing)|pee(?:ing)?)\b"),
)
_SYMPTOMS = tuple(
    (ignoring_case(expression), name)
    for name, expression in (
        (
            "painful urination",
            rf"\b(?:pain(?:ful)?|burn(?:s|ing)?|hurts?|sting(?:s|ing)?|discomfort) {_WORDS}{_TO_URINATE}",
        ),
        ("blood in urine", rf"\b(?:blood|bleeding) {_WORDS}{_TO_URINATE}"),
        (
            "urinary incontinence",
            r"\b(?:leak(?:s|ed|ing|age)? (?:of )?(?:any |some |my |your )?(?:urine|pee|bladder)"
            r"|involuntary urination"
            rf"|(?:can't|cannot|trouble|difficulty|problems?) {_WORDS}(?:hold|control)\w* {_WORDS}"
            r"(?:urine|pee|bladder))\b",
        ),
        (
            "urinary frequency",
            rf"\b(?:{_TO_URINATE}|go(?:ing)? to the (?:bathroom|restroom)) {_WORDS}(?:frequently|a lot|often|more)\b"
            rf"|\b(?:frequent|frequency) (?:(?:of|in|with|when|your|my|the|to) )*(?:{_TO_URINATE}|urination\b)"
            r"|\b(?:urinat\w+|urination)(?=[^.?!\n]{0,20} frequency\b)",
        ),
        (
            "nocturia",
            r"\b(?:get(?:ting)? up|wak(?:e|ing)(?: up)?)(?=[^.?!\n]{0,40}\bnight) (?:[\w']+ ){0,6}?"
            rf"(?:{_TO_URINATE}|to the (?:bathroom|restroom))",
        ),
        ("urinary hesitancy", rf"\b(?:strain\w*|push\w*|force) {_WORDS}{_TO_URINATE}"),
        ("facial droop", r"\b(?:face|mouth)(?=[^.?!\n]{0,40} droop)"),
        ("coughing up blood", r"\bblood (?:in|with) (?:\w+ )?(?:sputum|phlegm|cough|spit)\b"),
        ("vomiting blood", r"\bblood (?:in|with) (?:\w+ )?(?:vomit|throw-?up)\b"),
        (
            "ringing in the ears",
            r"\bringing (?:or \w+ )?(?:noises?|sounds?)?\b(?=[^.?!\n]{0,40}\bears?\b|[^.?!\n]{0,20}noise)",
        ),
        (
            "lymphadenopathy",
            r"\b(?:swollen|enlarged|inflamed|swelling (?:of|in)) (?:\w+ ){0,2}(?:lymph nodes?|glands?)\b",
        ),
        *((name, _DIFFICULT + ability) for name, ability in _ABILITIES),
    )
)

_PROBLEM_OF = {  # organ -> (type, name) of its disease in the lexicons
    "heart": ("condition", "heart disease"),
    "lung": ("condition", "lung disease"),
    "thyroid": ("condition", "thyroid disease"),
    "kidney": ("condition", "kidney disease"),
    "liver": ("condition", "liver disease"),
    "bladder": ("symptom", "urinary symptoms"),
}
_ORGAN = "|".join(_PROBLEM_OF)
_PROBLEMS = ignoring_case(
    r"\b(?:problems?|issues?|trouble|conditions?|diseases?|dysfunctions?) (?:\w+ )?(?:with|of|in|to) "
    rf"(?P<organs>(?:(?:{_OWNER}(?:{_ORGAN})s?)(?:, (?:or |and )?| or | and |\b))+)"
)
_ORGANS = ignoring_case(rf"\b(?P<organ>{_ORGAN})s?\b")

_THERAPY = re.compile(r"\bPT\b(?![ ]*[/:\d])")  # physical therapy, not prothrombin time; in written notes also patient

_DRUGS = ignoring_case(
    r"\b(?:do|does|doing|did|done|use|uses|used|using|take|taking|tried|try|to|on|any|other|about|or|and|no|of|more|hard"
    r"|illegal|illicit|street|recreational|inhalation|intravenous|iv) "
    r"(?:(?:any|some|other|more|those|illegal|illicit|street|recreational|hard) )*"
    r"(?P<drugs>drugs|substances)\b(?! (?:for|that help|interact))"
)
_OF_MEDICINES = ignoring_case(r"allerg|medic|prescri|pharmac|reaction|side effect|\bthe two drugs|combin")
_SENTENCE_END = re.compile(r"[.?!\n]")
_REACH = 120  # characters before "drugs" in which a word about medicines is searched


def lay_findings(text: str) -> Iterator[Fact]:
    """Yield the findings of lay expressions, without scope flags. Findings may overlap."""
    for pattern in _PAINS:
        for match in pattern.finditer(text):
            yield _finding("symptom", match.start(), match.end(), _PAIN_OF[match["part"].lower()])
    for pattern, name in _REMOVALS:
        for match in pattern.finditer(text):
            yield _finding("procedure", match.start(), match.end(), name)
    for pattern, name in _SYMPTOMS:
        for match in pattern.finditer(text):
            yield _finding("symptom", match.start(), match.end(), name)
    for match in _THERAPY.finditer(text):
        yield _finding("procedure", match.start(), match.end(), "physical therapy")
    for match in _PROBLEMS.finditer(text):
        start = match.start()
        for organ in _ORGANS.finditer(text, *match.span("organs")):
            kind, name = _PROBLEM_OF[organ["organ"].lower()]
            yield _finding(kind, start, organ.end(), name)
            start = organ.end()
    for match in _DRUGS.finditer(text):
        end = _SENTENCE_END.search(text, match.end())
        if not _OF_MEDICINES.search(text, max(0, match.start() - _REACH), end.start() if end else len(text)):
            yield _finding("condition", match.start("drugs"), match.end(), "drug abuse")


def _finding(kind: str, start: int, end: int, name: str) -> Fact:
    return Fact(kind, start, end, "", name, name)
