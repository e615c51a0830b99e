"""Editors: small functions that propose how to make one fact of a summary wrong, one for each category.

`EDITORS` maps a category to its editor and a description. What an editor proposes is grammatical by construction as
far as its rules reach; whether it is true of the note is for `hard_negatives` to verify.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from clinical_facts import Fact, concepts, extract_facts
from clinical_text import regular_form, sentences
from clinical_values import plain_number

CITATION = re.compile(r"\s*\[Evidence:[^\]]*\]")
_DETAILS_TRIED = 48


@dataclass(frozen=True)
class Replacement:
    """Replace `chosen[start:end]` by `new`; an insertion has `start == end`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Candidate:
    """One change, of one fact: a single replacement, or several where pronouns must follow."""

    replacements: tuple[Replacement, ...]


@dataclass(frozen=True)
class Detail:
    """A statement of another note's factual summary."""

    source: str  # the note it was made about
    text: str


@dataclass
class Case:
    """One factual summary with its note, parsed once."""

    note: str
    chosen: str
    details: Sequence[Detail] = ()
    note_facts: list[Fact] = field(init=False)
    note_numbers: frozenset[str] = field(init=False)
    facts: list[Fact] = field(init=False)

    def __post_init__(self) -> None:
        self.note_facts = extract_facts(self.note)
        self.note_numbers = frozenset(
            plain_number(float(number.replace(",", "")))
            for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", regular_form(self.note).text)
        )
        self.facts = extract_facts(without_citations(self.chosen))

    def of_type(self, *types: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.type in types]


def without_citations(text: str) -> str:
    """`text` with evidence citations blanked, so that every offset stays."""
    return CITATION.sub(lambda match: " " * len(match[0]), text)


Editor = Callable[[Case, random.Random], Iterator[Candidate]]
EDITORS: dict[str, tuple[Editor, str]] = {}


def _editor(name: str, description: str) -> Callable[[Editor], Editor]:
    def register(editor: Editor) -> Editor:
        EDITORS[name] = (editor, description)
        return editor

    return register


def _shuffled(items: Sequence[Fact], rng: random.Random) -> list[Fact]:
    return rng.sample(items, len(items))


def one_replacement(start: int, end: int, new: str) -> Candidate:
    return Candidate((Replacement(start, end, new),))


# -------------------------------------------------------------------------------------- numeric facts

_DIGITS = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def _written_like(old: str, value: float) -> str:
    """`value` with as many decimals as `old`."""
    decimals = len(old.partition(".")[2])
    return f"{value:,.{decimals}f}" if "," in old else f"{value:.{decimals}f}"


def _only_number(fact: Fact) -> re.Match[str] | None:
    """The number of a fact that holds one only, in digits."""
    numbers = list(_DIGITS.finditer(fact.text))
    return numbers[0] if len(numbers) == 1 else None


def _new_numbers(
    case: Case, facts: Sequence[Fact], rng: random.Random, alternatives: Callable[[str], Sequence[str]]
) -> Iterator[Candidate]:
    """Replaces the number of each fact by one of the `alternatives` that occurs nowhere in the note."""
    for fact in _shuffled(facts, rng):
        number = _only_number(fact)
        if not number:
            continue
        values = [v for v in alternatives(number[0]) if plain_number(_value(v)) not in case.note_numbers]
        for value in rng.sample(values, len(values)):
            yield one_replacement(fact.start + number.start(), fact.start + number.end(), value)


def _value(number: str) -> float:
    return float(number.replace(",", ""))


@_editor("dose", "another strength of the same drug: ten times, a tenth, double or half")
def edit_dose(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        value = _value(old)
        return [plain_number(v) for v in (value * 10, value / 10, value * 2, value / 2) if 0.01 <= v <= 10000]

    strengths = [f for f in case.of_type("dose") if f.value.endswith(("mg", "mL", "units", "mEq")) and f.key]
    yield from _new_numbers(case, strengths, rng, alternatives)


_FREQUENCY_STYLES: tuple[tuple[str, ...], ...] = (
    ("BID", "TID", "QID", "QHS"),
    ("bid", "tid", "qid", "qhs"),
    ("b.i.d.", "t.i.d.", "q.i.d.", "q.h.s."),
    ("once a day", "twice a day", "three times a day", "four times a day", "every other day"),
    ("once per day", "twice per day", "three times per day", "four times per day"),
    ("q4h", "q6h", "q8h", "q12h"),
    ("daily", "twice daily", "three times daily", "weekly"),
    (
        "once daily", "twice daily", "three times daily", "every 6 hours", "every 8 hours", "every 12 hours",
        "at bedtime", "every morning", "weekly", "as needed",
    ),
    ("every 4 hours", "every 6 hours", "every 8 hours", "every 12 hours"),
    ("q.d.", "b.i.d.", "t.i.d.", "q.h.s."),
    ("a day", "twice a day", "three times a day"),
    ("nightly", "every morning", "twice daily", "weekly"),
    ("every night", "every morning", "every other day"),
)  # fmt: skip


@_editor("frequency", "another number of times a day, or time of day, for the same drug")
def edit_frequency(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in _shuffled(case.of_type("frequency"), rng):
        style = next((style for style in _FREQUENCY_STYLES if fact.text in style), ())
        taken = {other.value for other in case.note_facts if other.type == "frequency" and other.key == fact.key}
        others = [text for text in style if _frequency_value(text) not in taken and text != fact.text]
        for other in rng.sample(others, len(others)):
            yield one_replacement(fact.start, fact.end, other)


def _frequency_value(text: str) -> str:
    return next((fact.value for fact in extract_facts(f"aspirin {text}") if fact.type == "frequency"), "")


@_editor("vital", "another value of a vital sign")
def edit_vital(case: Case, rng: random.Random) -> Iterator[Candidate]:
    pressures = [fact for fact in case.of_type("vital") if fact.key == "blood pressure"]
    for fact in _shuffled(pressures, rng):
        systolic = re.search(r"\d{2,3}", fact.text)
        if systolic and systolic[0] + "/" in fact.value + "/":
            new = int(systolic[0]) + rng.choice((-40, -30, 30, 40, 50))
            low = int(fact.value.partition("/")[2]) + 10
            if low <= new <= 240 and str(new) not in case.note_numbers:
                yield one_replacement(fact.start + systolic.start(), fact.start + systolic.end(), str(new))
    steps = {
        "heart rate": (-30, -25, 25, 30, 40),
        "temperature": (-1.5, 1.2, 1.8, 2.3),
        "respiratory rate": (-6, 8, 10, 12),
        "oxygen saturation": (-12, -9, -7, -5, 5, 7),
        "weight": (-15, -10, 10, 15, 20),
        "body mass index": (-5, 5, 7),
    }
    limits = {"heart rate": (30, 220), "oxygen saturation": (60, 100), "respiratory rate": (8, 50)}
    for key, deltas in steps.items():
        low_limit, high_limit = limits.get(key, (1, 1000))

        def alternatives(
            old: str, deltas: Sequence[float] = deltas, low: float = low_limit, high: float = high_limit
        ) -> list[str]:
            return [_written_like(old, _value(old) + d) for d in deltas if low <= _value(old) + d <= high]

        yield from _new_numbers(case, [f for f in case.of_type("vital") if f.key == key], rng, alternatives)


@_editor("lab", "another value of a laboratory test")
def edit_lab(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        return [
            new for factor in (0.5, 0.7, 1.4, 1.8, 2.5) if _value(new := _written_like(old, _value(old) * factor)) > 0
        ]

    labs = [fact for fact in case.of_type("lab") if not re.search(r"[a-z]\d", fact.text, re.IGNORECASE)]
    yield from _new_numbers(case, labs, rng, alternatives)


@_editor("age", "another age")
def edit_age(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        age = int(_value(old))
        steps = (-30, -20, -10, -7, 7, 10, 20, 30) if age >= 18 else (-3, -2, 2, 3, 4)
        return [str(age + step) for step in steps if (18 if age >= 18 else 2) <= age + step <= 98]

    own = [fact for fact in case.of_type("age") if not fact.family and "." not in fact.text]
    yield from _new_numbers(case, own, rng, alternatives)


_TIME_UNITS = ("hour", "day", "week", "month", "year")


def _other_interval(fact: Fact, rng: random.Random) -> Candidate | None:
    """Another number of the same unit, or the next unit up or down."""
    number = _only_number(fact)
    unit = re.search(rf"({'|'.join(_TIME_UNITS)})(s?)", fact.text)
    if not number or not unit:
        return None
    if rng.random() < 0.5 or number[0] == "1":
        index = _TIME_UNITS.index(unit[1])
        other = _TIME_UNITS[index + 1 if index < 3 and (index == 0 or rng.random() < 0.5) else index - 1]
        return one_replacement(fact.start + unit.start(), fact.start + unit.end(), other + unit[2])
    old = int(_value(number[0]))
    new = rng.choice([value for value in (2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 20) if value != old])
    return one_replacement(fact.start + number.start(), fact.start + number.end(), str(new))


@_editor("duration", "another length of time")
def edit_duration(case: Case, rng: random.Random) -> Iterator[Candidate]:
    facts = case.of_type("duration")
    for fact in [*_shuffled(facts, rng), *_shuffled(facts, rng), *_shuffled(facts, rng)]:
        if candidate := _other_interval(fact, rng):
            yield candidate


@_editor("follow_up", "another time to the next visit")
def edit_follow_up(case: Case, rng: random.Random) -> Iterator[Candidate]:
    facts = case.of_type("follow_up")
    for fact in [*_shuffled(facts, rng), *_shuffled(facts, rng), *_shuffled(facts, rng)]:
        if candidate := _other_interval(fact, rng):
            yield candidate


@_editor("count", "another number of anything else: packs, siblings, children, a score")
def edit_count(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        value = int(_value(old)) if "." not in old else 0
        near = (value - 2, value - 1, value + 1, value + 2) if value < 10 else (value // 2, value * 2, value * 3)
        return [str(new) for new in near if new >= 2] if value >= 2 else []

    # the end of a scale ("5 out of 10", "0 to 10") is no count
    ends_scale = re.compile(r"(?:out of|to|over|-)\s*$")
    counted = [f for f in case.of_type("number") if f.key and not ends_scale.search(case.chosen[: f.start])]
    yield from _new_numbers(case, counted, rng, alternatives)
    for fact in _shuffled(counted, rng):
        if (old := fact.text.lower()) in _COUNT_WORDS:
            words = [w for w in _COUNT_WORDS if w != old and str(_COUNT_WORDS.index(w) + 2) not in case.note_numbers]
            if words:
                yield one_replacement(fact.start, fact.end, cased_like(fact.text, rng.choice(words)))


_COUNT_WORDS = ("two", "three", "four", "five", "six", "seven", "eight")


@_editor("date", "another year")
def edit_date(case: Case, rng: random.Random) -> Iterator[Candidate]:
    def alternatives(old: str) -> list[str]:
        return [str(int(old) + step) for step in (-8, -5, -3, -2, 2, 3, 5)]

    yield from _new_numbers(case, [f for f in case.of_type("date") if f.text.isdigit()], rng, alternatives)


# ------------------------------------------------------------------------------------ words for words


def cased_like(old: str, new: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[0].upper() + new[1:] if old[:1].isupper() else new


@_editor("laterality", "left for right, or right for left")
def edit_laterality(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in _shuffled(case.of_type("laterality"), rng):
        if other := {"left": "right", "right": "left"}.get(fact.text.lower()):
            yield one_replacement(fact.start, fact.end, cased_like(fact.text, other))


# what may stand after a finding so that another finding reads as well in its place
_READS_ON = re.compile(
    r"\s*(?:$|[.,;:)]|\b(?:and|or|but|with|for|since|who|which|was|is|were|are|after|today|discontinued|"
    r"ruled out|\d+)\b)",
    re.IGNORECASE,
)
_NO_ADJECTIVE = re.compile(
    r"(?:^|[.;:,(\n]|\b(?:of|with|for|has|had|have|and|or|nor|denies|denied|reports|reported|suspected|possible|likely|"
    r"probable|confirmed|no|without|including|include|includes|to|on|as|takes|taking|started|continue|her|his|"
    r"stopped|discontinued|plus|from|any|both|prescribed|given))\s*$",
    re.IGNORECASE,
)
# too general to be another finding's like
_NO_SUBSTITUTE = frozenset(
    "pain swelling mass lump fall bleeding bruise tenderness edema weak stiffness cancer tumor metastasis hernia "
    "arthritis fracture sprain dislocation laceration sulfa calcium vitamin insulin smoking".split()
) | {
    "alcohol use",
    "heart disease",
    "lung disease",
    "liver disease",
    "kidney disease",
    "thyroid disease",
    "blood clot",
    "mental illness",
}
_COUNTABLE_OR_PLURAL = re.compile(
    r"(?:tear|fracture|cyst|mass|sprain|ulcer|polyps|stone|stones|tumor|disc|clot|hernia|aneurysm|bunion|fibroids)$"
)


def _swaps(case: Case, rng: random.Random, fact_type: str) -> Iterator[Candidate]:
    """Another finding of the same group that the note does not name, where its neighbours allow it."""
    known = concepts(fact_type)
    named = {fact.key for fact in [*case.note_facts, *case.facts]}
    for fact in _shuffled(case.of_type(fact_type), rng):
        if fact.key in _NO_SUBSTITUTE or fact.key not in known or not _stands_free(case.chosen, fact):
            continue
        others = [
            concept.name
            for name, concept in known.items()
            if concept.group == known[fact.key].group
            and name not in named
            and _fits(name)
            and not set(name.split()) & set(fact.key.split())  # type 1 diabetes would only say more than diabetes
        ]
        if others:
            new = rng.choice(others)
            yield one_replacement(
                fact.start, fact.end, new[0].upper() + new[1:] if _opens_sentence(case.chosen, fact) else new
            )


def _fits(name: str) -> bool:
    return name not in _NO_SUBSTITUTE and not _COUNTABLE_OR_PLURAL.search(name)


def _stands_free(text: str, fact: Fact) -> bool:
    if _COUNTABLE_OR_PLURAL.search(fact.text.lower()):
        return False
    return bool(_READS_ON.match(text, fact.end) and _NO_ADJECTIVE.search(text[max(0, fact.start - 30) : fact.start]))


def _opens_sentence(text: str, fact: Fact) -> bool:
    before = text[: fact.start].rstrip()
    return fact.text[0].isupper() and (not before or before[-1] in ".;:\n")


_RELATIVES = {"mother": "father", "father": "mother", "sister": "brother", "brother": "sister"}


@_editor("relative", "a relative's condition given to another relative")
def edit_relative(case: Case, rng: random.Random) -> Iterator[Candidate]:
    told = case.of_type("family_history")
    text = without_citations(case.chosen)
    mentions = [
        match
        for match in re.finditer(r"\b(?:mother|father|sister|brother)\b", text, re.IGNORECASE)
        if any(fact.value == match[0].lower() for fact in told)
    ]
    for match in rng.sample(mentions, len(mentions)):
        # "Her brother had a stroke. He smokes.": a pronoun may be the relative's
        if not re.match(
            r"[^.;\n]*(?:[.;]\s+)?(?:\bhe\b|\bshe\b|[^.;\n]*\b(?:he|she|his|her)\b)", text[match.end() :], re.I
        ):
            yield one_replacement(match.start(), match.end(), cased_like(match[0], _RELATIVES[match[0].lower()]))


@_editor("condition", "another diagnosis of the same kind that the note does not name")
def edit_condition(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "condition")


@_editor("symptom", "another symptom of the same kind that the note does not name")
def edit_symptom(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "symptom")


@_editor("procedure", "another procedure of the same kind that the note does not name")
def edit_procedure(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "procedure")


@_editor("drug", "another drug of the same class that the note does not name")
def edit_drug(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "drug")


def _rewordings(case: Case, rng: random.Random, rules: Sequence[tuple[re.Pattern[str], str]]) -> Iterator[Candidate]:
    """Each match of each rule, in random order."""
    text = without_citations(case.chosen)
    found = [(match, new) for pattern, new in rules for match in pattern.finditer(text)]
    for match, new in rng.sample(found, len(found)):
        replacement = match.expand(new)
        yield one_replacement(match.start(), match.end(), _first_letter_like(match[0], replacement))


def _first_letter_like(old: str, new: str) -> str:
    return new[:1].upper() + new[1:] if old[0].isupper() else new


def _rules(*pairs: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(expression, re.IGNORECASE), new) for expression, new in pairs)


_NEGATIONS = _rules(
    (r"\bdenies(?= )(?! (?:any|having|other|use|all|the use)\b)", "reports"),
    (r"\bdenied(?= )(?! (?:any|having|other|use|all|the use)\b)", "reported"),
    (r"\bdenies any (?=[a-z])", "reports "),
    (r"\bdenied any (?=[a-z])", "reported "),
    (r"\b(?:reports|complains of|endorses)(?= (?!that|being|having|he|she))", "denies"),
    (r"\b(?:reported|complained of)(?= (?!that|being|having|he|she))", "denied"),
    (r"(?<=denies )(?P<first>[a-z][a-z ]{2,30}) or(?= [a-z ]+[.;])", r"\g<first> but reports"),
    (r"(?<=denied )(?P<first>[a-z][a-z ]{2,30}) or(?= [a-z ]+[.;])", r"\g<first> but reported"),
    (r"\bdoes not have\b(?: any)?", "has"),
    (r"\bdid not have\b(?: any)?", "had"),
    (r"\bdo not have\b(?: any)?", "have"),
    (r"\bhas no (?=history of)", "has a "),
    (r"\bhas (?:a )?(?:past )?(?:medical )?(?=history of)", "has no "),
    (r"\bhas no (?!known|other|further|significant|history)", "has "),
    (r"\bhad no (?!known|other|further|significant|history)", "had "),
    (r"\bhas (?=[a-z]+(?: [a-z]+)?[.;])", "does not have "),
    (r"\bno (?=history of)", "a "),
    (r"\bno evidence of\b", "evidence of"),
    (r"\b(?<=there )is no\b(?: evidence of)?", "is"),
    (r"\bno known (?=(?:drug |medication |food |latex )?allerg)", "known "),
    (r"\bnegative for\b", "positive for"),
    (r"\bpositive for\b", "negative for"),
    (r"\bwithout(?= [a-z]+(?: [a-z]+)?[.,;])", "with"),
    (r"(?<=man |ale |boy )with(?= (?![a-z ]+ for \d))", "without"),
    (r"(?<=girl )with(?= (?![a-z ]+ for \d))", "without"),
    (r"\bpresenting with(?= )", "presenting without"),
    (r"\bpresents with(?= )", "presents without"),
    (r"(?:(?<=\. )|(?<=; )|^)Symptoms include\b", "Symptoms do not include"),
    (r"(?:(?<=\. )|(?<=: )|(?<=; )|(?<=, )|^)no (?=[a-z]+(?: [a-z]+)?[.;])", ""),
    (r"\bruled out\b", "confirmed"),
    (r"\b(?:is |was )confirmed\b", "was ruled out"),
    (r"\bis not (?=pregnant|diabetic|depressed|obese|anemic)", "is "),
    (r"\bis (?=pregnant|diabetic|depressed|obese|anemic)", "is not "),
    (r"\bnever had\b", "had"),
)


_LISTS = re.compile(r"[^.;\n]*?(?:,|/|\b(?:and|or|nor|as well as)\b)")


def _governs_a_list(text: str, change: Replacement) -> bool:
    """Whether more follows than one finding: the parser may not know them all, and each would change."""
    is_about_the_last_item = change.new.endswith(("but reports", "but reported"))
    is_about_what_stands_before = change.new.endswith(("confirmed", "ruled out"))
    return not is_about_the_last_item and not is_about_what_stands_before and bool(_LISTS.match(text, change.end))


@_editor("negation", "a denied finding stated as present, or the other way round")
def edit_negation(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for candidate in _rewordings(case, rng, _NEGATIONS):
        (change,) = candidate.replacements
        if _governs_a_list(case.chosen, change):
            continue
        if change.new:
            yield candidate
        else:  # "No fever." -> "Fever."
            first = case.chosen[change.end]
            new = first.upper() if case.chosen[change.start].isupper() else first
            yield one_replacement(change.start, change.end + 1, new)


_CERTAINTIES = _rules(
    (r"\b(?:suspected|possible|probable|presumed|likely)(?= [a-z])", "confirmed"),
    (r"\bconfirmed(?= [a-z])", "suspected"),
    (r"\bdiagnosed with(?= [a-z])", "suspected of having"),
    (r"(?:(?<=\. )|(?<=; )|^)Diagnosed with(?= [a-z])", "Suspected"),
    (r"\b(?:may|might|could) have(?= [a-z]+)", "has"),
    (r"\b(?:is|was) suspected\b", "was confirmed"),
    (r"\b(?:is|was) confirmed\b", "is suspected"),
    (r"\bconcern for\b", "confirmation of"),
    (r"\bhas (?:a |an )?(?=[a-z]+(?: [a-z]+)?[.;])", "may have "),
)


@_editor("certainty", "a suspicion stated as a diagnosis, or a diagnosis as a suspicion")
def edit_certainty(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _rewordings(case, rng, _CERTAINTIES)


# ------------------------------------------------------------------------------------------------ sex

_OTHER_SEX = {
    "woman": "man",
    "female": "male",
    "lady": "gentleman",
    "girl": "boy",
    "she": "he",
    "hers": "his",
    "herself": "himself",
    "f": "m",
}
_OTHER_SEX |= {new: old for old, new in _OTHER_SEX.items() if new != "his"} | {"his": "her", "him": "her"}
# only of one sex, so that the note contradicts the changed summary by more than the word
_SEXED = re.compile(
    r"\b(?:pregnan\w*|menstru\w*|menopaus\w*|vaginal|ovar\w*|uter\w*|hysterectomy|gravida|cervical|pap smear|"
    r"prostat\w*|"
    r"testic\w*|penile|penis|husband|wife|mrs?\.?|ms\.?|miss|mother|father|brother|sister|daughter|son|breast)\b",
    re.IGNORECASE,
)


@_editor("sex", "man for woman or woman for man, the pronouns following")
def edit_sex(case: Case, rng: random.Random) -> Iterator[Candidate]:
    del rng  # there is one way to change it
    facts = case.of_type("sex")
    if _SEXED.search(case.chosen) or len({fact.value for fact in facts}) != 1:
        return
    if not any(fact.key == "patient" for fact in facts):
        return
    changes = [Replacement(fact.start, fact.end, _other_sex(case.chosen, fact)) for fact in facts]
    yield Candidate(tuple(changes))


def _other_sex(text: str, fact: Fact) -> str:
    word = fact.text.lower()
    if word == "her":  # possessive before a noun, else the object
        is_object = re.match(
            r"\s*(?:$|[.,;:)]|(?:to|for|with|in|on|at|and|or|that|from|as|by|when|if)\b)", text[fact.end :]
        )
        return cased_like(fact.text, "him" if is_object else "his")
    return cased_like(fact.text, _OTHER_SEX[word])


# ---------------------------------------------------------------------------------- fabricated detail

SUBSTANCE = ("condition", "symptom", "drug", "dose", "vital", "lab", "procedure", "allergy", "follow_up")
_REFERS_BACK = re.compile(
    r"^(?:this|that|these|those|it|they|however|then|also|there|other|which|and|but|his|her|he was|she was|\d)|"
    r"\b(?:above|this|that|these|both|mr|mrs|ms|dr)\b",
    re.IGNORECASE,
)


def details_of(source: str, summary: str) -> list[Detail]:
    """The statements of a summary that say one or two things of substance and can stand alone."""
    text = CITATION.sub("", summary)
    found = []
    for start, end in sentences(text):
        for clause in re.split(r";\s+", text[start:end]):
            statement = clause.strip().rstrip(".")
            facts = [fact for fact in extract_facts(statement) if fact.type in SUBSTANCE]
            if 1 <= len(facts) <= 2 and 2 <= len(statement.split()) <= 14 and _stands_alone(statement):
                found.append(Detail(source, statement[0].upper() + statement[1:] + "."))
    return found


def _stands_alone(statement: str) -> bool:
    plain_end = statement[-1].isalnum() or statement[-1] in "%)"
    return plain_end and statement[0].isalnum() and not _REFERS_BACK.search(statement) and "\n" not in statement


@_editor("fabricated_detail", "a statement taken from another note's factual summary")
def edit_fabricated_detail(case: Case, rng: random.Random) -> Iterator[Candidate]:
    if not case.details:
        return
    body = without_citations(case.chosen)
    sex = {fact.value for fact in case.facts if fact.type == "sex"}
    for _ in range(_DETAILS_TRIED):
        detail = rng.choice(case.details)
        told = {fact.value for fact in extract_facts(detail.text) if fact.type == "sex"}
        if detail.source == case.note or (sex and told - sex):
            continue
        spans = sentences(body)
        position = rng.randrange(len(spans) + 1)
        if position < len(spans):
            start = spans[position][0]
            yield one_replacement(start, start, f"{detail.text} ")
        elif body[: spans[-1][1]].endswith((".", "!", "?")):
            yield one_replacement(spans[-1][1], spans[-1][1], f" {detail.text}")
