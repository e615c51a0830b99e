"""Compare one fact of a summary with the facts of its note.

`compare(fact, note_facts)` returns a verdict, the fact of the note that decided it, and the kind of error. A fact is
`supported` if any mention in the note agrees, `contradicted` if the note mentions the same thing and no mention agrees,
`unsupported` if the note does not mention it, and `unverifiable` if the note may say it in other words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from clinical.body_systems import systems_of
from clinical.facts import REACTION, Fact, concepts
from clinical.measurements import same_in_other_units
from clinical.plain_form import plain_form
from clinical.relatives import same_relative
from clinical.values import FINDINGS, PROBLEMS, UNNAMED_PART
from fact_checking.claims import CONTRADICTED, SUPPORTED, UNSUPPORTED, UNVERIFIABLE

STATUSES = frozenset({"drug_status", "procedure_status"})
ATTRIBUTES = frozenset({"severity", "acuity", "stage", "direction", "cause", "order", "route", "change"})
_HABITS = frozenset(
    "smoking;alcohol use;alcohol abuse;drug abuse;cocaine use;marijuana use;methamphetamine use;chewing tobacco".split(
        ";"
    )
)
_REGIONS = {  # body part -> region; a side without a part ("the left one") fits every region
    part: region
    for region, parts in (
        ("leg", "leg foot ankle knee hip thigh calf shin toe heel extremity limb groin tibia fibula femur patella"),
        ("arm", "arm hand wrist elbow shoulder finger thumb forearm humerus radius pinky clavicle collarbone scapula"),
        ("trunk", "chest lung lobe rib breast axilla armpit flank abdomen back kidney"),
    )
    for part in parts.split()
}
_WHOLE_PARTS = frozenset("leg arm limb extremity chest lung abdomen back".split())
_PAIN_IN = {f"{part} pain": region for part, region in _REGIONS.items() if region != "trunk"}  # "knee pain" -> leg
_SAID_FREELY = frozenset({"condition", "symptom", "procedure"})
_PARTS_OF_NAMES = frozenset({"pain", "fall", "use", "mass"})  # "X pain" is not always a kind of "pain"
_ONCE_A_DAY = frozenset({"morning", "evening", "bedtime"})
_OPPOSITE_STATUS = {
    "started": ("stopped",),
    "stopped": ("started", "continued", "increased"),
    "continued": ("stopped",),
    "increased": ("decreased", "stopped"),
    "decreased": ("increased",),
    "planned": ("performed", "removed"),
    "performed": ("planned",),
    "removed": ("placed", "planned"),
    "placed": ("removed",),
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_YEAR = re.compile(r"(?<![\d/])(?:19|20)\d\d$|(?<=/)(?:(?:19|20)\d\d|[3-9][2-9]|[4-9]\d)$")
NO_UNIT = frozenset(  # words after a number without a unit
    (
        "daily once twice every at in and qd qday od bd bid tid tds qds qid qhs qam qpm po prn per weekly nightly for "
        "iv im sc sl pr oral orally intravenous subcutaneous "
        "to or then"
    ).split()
) | {""}
_AT_AGE = re.compile(r"age|.*\bof age$", re.IGNORECASE)
_IN_YEARS = re.compile(r"old$|y/?o$|years?$", re.IGNORECASE)
_ARTICLES = frozenset({"0", "1"})  # may be said without a number: "a pack a day", "none"
_TIMES = frozenset({"duration", "follow_up"})
# (kind, general term) of names that do not show it; "iron deficiency anemia" does
_KINDS = {
    (kind, general)
    for general, kinds in (
        ("heart disease", "coronary artery disease;heart failure;atrial fibrillation;arrhythmia;myocardial infarction"),
        ("arrhythmia", "atrial fibrillation;atrial flutter;supraventricular tachycardia;ventricular tachycardia"),
        ("arthritis", "osteoarthritis;rheumatoid arthritis;psoriatic arthritis;gout"),
        ("kidney disease", "chronic kidney disease;renal failure;acute kidney injury"),
        ("blood clot", "deep vein thrombosis;pulmonary embolism"),
        ("headache", "migraine;tension headache;cluster headache"),
        ("lung disease", "copd;asthma;emphysema;pulmonary fibrosis"),
        ("drug abuse", "cocaine use;marijuana use;methamphetamine use;opioid use disorder"),
        ("dementia", "alzheimer's disease"),
        ("weakness", "hemiparesis"),
    )
    for kind in kinds.split(";")
}


_CLASSES = {  # class of drugs -> groups of the lexicon that belong to it
    name: re.compile(groups)
    for name, groups in (
        ("antibiotics", "antibiotic|penicillin|cephalosporin|carbapenem|fluoroquinolone|tetracycline|aminoglycoside"),
        ("steroids", "oral steroid"),
        ("opioids", "^opioid$"),
        ("diuretics", "diuretic"),
        ("blood thinner", "anticoagulant"),
        ("pain medication", "opioid$|nonopioid pain reliever"),
        ("diabetes medication", "diabetes|insulin|sglt2|incretin"),
        ("cholesterol medication", "statin|lipid"),
    )
}


@dataclass(frozen=True)
class Comparison:
    """A verdict. `error_type` is the type of the fact, or negation, certainty or attribution if that is the error."""

    verdict: str
    note_fact: Fact | None
    error_type: str


class NoteFacts(list[Fact]):
    """The facts of a note, with indices by type and by value."""

    def __init__(self, facts: Iterable[Fact], *, in_dialogue: bool = False) -> None:
        super().__init__(facts)
        self.in_dialogue = in_dialogue
        self.by_type: dict[str, list[Fact]] = {}
        self.by_value: dict[str, list[Fact]] = {}
        for fact in self:
            self.by_type.setdefault(fact.type, []).append(fact)
            self.by_value.setdefault(fact.value, []).append(fact)


def compare(fact: Fact, note_facts: NoteFacts) -> Comparison | None:
    """Return the verdict on a fact, or None if the fact makes no claim of its own."""
    rule = _RULES.get(fact.type, _compare_findings if fact.type in FINDINGS else _compare_values)
    return rule(fact, note_facts)


def _decide(fact: Fact, agreeing: Fact | None, rivals: Sequence[Fact]) -> Comparison:
    if agreeing:
        return Comparison(SUPPORTED, agreeing, fact.type)
    if rivals:
        return Comparison(CONTRADICTED, rivals[0], fact.type)
    return Comparison(UNSUPPORTED, None, fact.type)


def _same_type(fact: Fact, note_facts: NoteFacts) -> list[Fact]:
    return note_facts.by_type.get(fact.type, [])


def _compare_values(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare values. Another value of the same key contradicts; a value without a key may agree with any fact."""
    others = _same_type(fact, note_facts)
    rivals = [other for other in others if other.key == fact.key and fact.key]
    candidates = rivals or [other for other in others if not (fact.key and other.key)]
    agreeing = next((other for other in candidates if agrees(fact, other)), None)
    if not agreeing and (limit := next((other for other in candidates if _differ_by_limit(fact, other)), None)):
        return Comparison(UNVERIFIABLE, limit, fact.type)
    bare = None if agreeing or rivals or fact.type == "frequency" else _bare_number(fact, note_facts)
    return Comparison(UNVERIFIABLE, bare, fact.type) if bare else _decide(fact, agreeing, rivals)


def _bare_number(fact: Fact, note_facts: NoteFacts) -> Fact | None:
    """Return the note's fact with the same number but no unit or name, or None: "twenty daily" for 20 mg."""
    written = numbers_in(fact.text)
    bare = (other for other in note_facts if other.type in ("number", "age", "dose") and other.key in NO_UNIT)
    candidates = (other for other in bare if written & numbers_in(other.text))
    return next((other for other in candidates if not _IN_YEARS.search(other.text)), None)


def _differ_by_limit(fact: Fact, other: Fact) -> bool:
    """Return whether one value is a limit ("<20") and the other is its number."""
    limits = [each.value for each in (fact, other) if each.value[0] in "<>"]
    return len(limits) == 1 and fact.value.lstrip("<>") == other.value.lstrip("<>")


def agrees(fact: Fact, other: Fact) -> bool:
    """Return whether two facts have the same value: "180 lb" and "82 kg"; "once daily" and "every morning"."""
    if fact.value == other.value:
        return True
    if fact.type == "frequency":
        return fact.value == "1 per day" and other.value in _ONCE_A_DAY
    return fact.type in ("vital", "lab") and same_in_other_units(fact, other)


def _compare_age(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare the patient's age. A relative's age or an age in the past ("at age 7") may match any number."""
    ages = [age for age in _same_type(fact, note_facts) if note_facts.in_dialogue or age.family == fact.family]
    # "8 months old" and "8-month" differ by rounding only; "five decades" is read as a duration
    years = [(age, float(age.value)) for age in ages] + [
        (other, float(other.value.split()[0]) / 8760)
        for other in note_facts
        if other.type == "duration" and "-" not in other.value and (note_facts.in_dialogue or not ages)
    ]
    age = float(fact.value)
    near = next((other for other, value in years if abs(value - age) < min(0.05, 0.05 * age + 0.0001)), None)
    if not near and (not ages or fact.family or _AT_AGE.match(fact.text)):
        return _compare_numbers(fact, note_facts)
    return _decide(fact, near, ages)


def _compare_sex(fact: Fact, note_facts: NoteFacts) -> Comparison | None:
    """Compare the sex. Pronouns of the note, which may refer to a relative, count only if it has no noun."""
    if fact.key == "pronoun":
        return None
    others = _same_type(fact, note_facts)
    nouns = [other for other in others if other.key == "patient"]
    known = nouns or others
    if not known:
        return Comparison(UNVERIFIABLE, None, "sex")
    return _decide(fact, next((other for other in known if other.value == fact.value), None), nouns)


def _compare_times(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare durations and follow-up intervals: the same length, of the same kind, for the same finding."""
    others = _same_type(fact, note_facts)
    bound = [other for other in others if other.key == fact.key]
    same_length = [other for other in [*bound, *others] if other.value == fact.value]
    agreeing = next((other for other in same_length if not _is_of_another(fact, other, note_facts)), None)
    if not agreeing and not (fact.key or fact.type == "follow_up"):
        agreeing = next((other for other in note_facts if other.type in _TIMES and other.value == fact.value), None)
    rivals = [other for other in bound if fact.key or fact.type == "follow_up"]
    if fact.type == "follow_up" and not others and not note_facts.in_dialogue:
        told = (other for other in note_facts.by_value.get(fact.value, []) if other.type == "duration")
        if plain := next(told, None):  # "sling, ortho 1 wk"
            return Comparison(UNVERIFIABLE, plain, fact.type)
    return _decide(fact, agreeing, rivals or same_length)


def _is_of_another(fact: Fact, other: Fact, note_facts: NoteFacts) -> bool:
    """Return whether the note gives this time to another finding.

    That is so if the fact's own finding is mentioned in other sentences only. In one sentence, the time may belong to
    both findings; in a dialogue, the next turn may be about either of them, so the answer is always False.
    """
    if note_facts.in_dialogue or not (fact.key and other.key) or fact.key == other.key:
        return False
    own = [mention.sentence for mention in note_facts.by_value.get(fact.key, []) if mention.type in PROBLEMS]
    return bool(own) and other.sentence not in own


def _compare_side(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare the side of a body part. Without a side of this part, a side of a near part or of no part may agree."""
    others = _same_type(fact, note_facts)
    named = fact.key not in ("", UNNAMED_PART)
    rivals = [other for other in others if other.key == fact.key and named and not other.asked]
    agreeing = next((other for other in rivals if other.value == fact.value), None)
    unbound = next((o for o in others if o.key in ("", UNNAMED_PART) and o.value == fact.value), None)
    elsewhere = next(
        (other for other in others if other.value == fact.value and not _is_other_part(fact.key, other.key)), None
    )
    if rivals and not (agreeing or unbound) and elsewhere and not note_facts.in_dialogue:
        return Comparison(UNVERIFIABLE, elsewhere, fact.type)
    if rivals:
        return _decide(fact, agreeing or unbound, rivals)
    near = [other for other in others if _is_near(fact.key, other.key)]
    agreeing = next((other for other in near if other.value == fact.value), None)
    if not agreeing and fact.value == "both" and {other.value for other in near} >= {"left", "right"}:
        agreeing = near[0]
    if elsewhere and not agreeing:
        return Comparison(UNVERIFIABLE, elsewhere, fact.type)
    return _decide(fact, agreeing, [])


def _is_other_part(part: str, other: str) -> bool:
    """Return whether the words name two joints or bones, of which neither is a part of the other."""
    return part != other and not {part, other} & _WHOLE_PARTS and part in _REGIONS and other in _REGIONS


def _is_near(part: str, other: str) -> bool:
    unbound = {"", "side", UNNAMED_PART} & {part, other}
    return bool(unbound) or (part in _REGIONS and _REGIONS[part] == _REGIONS.get(other))


def _compare_numbers(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare dates and numbers without a unit, first with numbers of the same things, then with all facts."""
    if fact.value[0] in "<>":
        return _compare_limits(fact, note_facts)
    wanted = _spellings(fact)
    counted = fact.type == "number" and fact.key not in NO_UNIT
    rivals = [other for other in _same_type(fact, note_facts) if counted and other.key == fact.key]
    agreeing = next((other for other in rivals or note_facts if wanted & {other.value, *numbers_in(other.text)}), None)
    if not agreeing and "-" in fact.value and (ends := _stated_ends(fact, note_facts)):
        return Comparison(UNVERIFIABLE, ends, fact.type)
    if not agreeing and wanted <= _ARTICLES:
        return Comparison(UNVERIFIABLE, None, fact.type)
    return _decide(fact, agreeing, rivals)


def _stated_ends(fact: Fact, note_facts: NoteFacts) -> Fact | None:
    """Return a fact with an end of a range ("1 to 10") if the note has all its ends; 0 and 1 need no mention."""
    ends = numbers_in(fact.text) - _ARTICLES
    with_ends = [other for other in note_facts if ends & numbers_in(other.text)]
    found = {number for other in with_ends for number in numbers_in(other.text)}
    return with_ends[0] if with_ends and ends <= found else None


def _compare_limits(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare a limit ("under 20") with limits of the same number. Its number alone leaves it open."""
    number = fact.value[1:]
    same_number = [
        other for other in note_facts if other.value.lstrip("<>") == number or number in numbers_in(other.text)
    ]
    agreeing = next((other for other in same_number if other.value[:1] == fact.value[0]), None)
    rivals = [other for other in same_number if other.value[:1] in ("<", ">")]
    if same_number and not agreeing and not rivals:
        return Comparison(UNVERIFIABLE, same_number[0], fact.type)
    return _decide(fact, agreeing, rivals)


def _spellings(fact: Fact) -> set[str]:
    """Return how the note may write the number or date: 96 for 1996, 1994 or 94 for 12/94."""
    number = fact.value.rstrip("%")
    if fact.type == "age":  # as written: 14 for "14 months"
        return {number, *numbers_in(fact.text)}
    if fact.type != "date" and not re.fullmatch(r"(?:19|20)\d\d", number):
        return {number}
    if out_of_ten := re.fullmatch(r"(\d+)/10", number):  # the tenth of a month, or a score of pain
        return {number, out_of_ten[1]}
    year = _YEAR.search(number)
    return {number, year[0], year[0][-2:], f"19{year[0][-2:]}", f"20{year[0][-2:]}"} if year else {number}


@lru_cache(maxsize=10_000)
def numbers_in(text: str) -> frozenset[str]:
    """Return the numbers as written, without conversion of units: 7 for "seven pounds"."""
    return frozenset(_NUMBER.findall(plain_form(text).text))


def _compare_findings(fact: Fact, note_facts: NoteFacts) -> Comparison | None:
    """Compare a condition, symptom, drug or procedure: whether the note names it, of the patient, negated or not."""
    if fact.family and fact.type in PROBLEMS:
        return None  # read as family_history
    mentions = [other for other in note_facts.by_value.get(fact.value, []) if _names_same(fact, other)]
    if not mentions:
        return _compare_unnamed(fact, note_facts)
    asked = next((other for other in mentions if other.asked), None)
    own = [other for other in mentions if not other.asked and (fact.family or not other.family)]
    same_polarity = [other for other in own if _same_polarity(fact, other)]
    same_certainty = [other for other in same_polarity if other.uncertain == fact.uncertain]
    if fact.key in _HABITS and (past := _past_habit(fact, same_certainty, note_facts)):
        return past
    if same_certainty or (same_polarity and (fact.negated or fact.type not in PROBLEMS)):
        return Comparison(SUPPORTED, (same_certainty or same_polarity)[0], fact.type)
    if asked:  # whatever the answer was, it may agree
        return Comparison(UNVERIFIABLE, asked, fact.type)
    if not fact.negated and not same_polarity and (kind := _affirmed_kind(fact, note_facts)):
        return Comparison(SUPPORTED, kind, fact.type)
    if not own and fact.negated and any(other.negated for other in mentions):
        return Comparison(UNVERIFIABLE, mentions[0], fact.type)
    if not own:
        in_family_section = fact.ownerless and mentions[0].spoken  # "Hypertension, gout.": a heading may say whose
        return Comparison(UNVERIFIABLE if in_family_section else CONTRADICTED, mentions[0], "attribution")
    if same_polarity:
        # "I think I have", "it looks like": hedges of conversation
        spoken = all(other.spoken for other in same_polarity)
        return Comparison(UNVERIFIABLE if spoken else CONTRADICTED, same_polarity[0], "certainty")
    # a past complaint may have gone
    if fact.type == "symptom" and all(other.historical != fact.historical for other in own):
        return Comparison(UNVERIFIABLE, own[0], "negation")
    return Comparison(CONTRADICTED, own[0], "negation")


def _affirmed_kind(fact: Fact, note_facts: NoteFacts) -> Fact | None:
    """Return a kind of the finding that the note affirms: "diabetic foot ulcer" in a note with "R foot: no ulcer"."""
    same = (other for other in note_facts if _same_subject(fact, other))
    return next((other for other in same if _is_kind_of(other.value, fact.value) and not other.uncertain), None)


def _past_habit(fact: Fact, mentions: Sequence[Fact], note_facts: NoteFacts) -> Comparison | None:
    """Return a contradiction if a written note says of a habit only that it is over, and the fact that it goes on."""
    if note_facts.in_dialogue or fact.negated or fact.historical or not mentions:
        return None
    past = all(other.historical for other in mentions)
    return Comparison(CONTRADICTED, mentions[0], "certainty") if past else None


def _compare_unnamed(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare a finding that the note does not name, but may say in wider or narrower words or deny with all others."""
    error_type = "negation" if fact.negated else fact.type
    if fact.type == "drug" and fact.key in _CLASSES:
        drugs = note_facts.by_type.get("drug", [])
        if member := next((drug for drug in drugs if _is_of_class(drug, fact)), None):
            return Comparison(SUPPORTED, member, fact.type)
    allergy = next((other for other in note_facts.by_type.get("allergy", []) if other.key == fact.key), None)
    if fact.type == "drug" and allergy and not (fact.negated or allergy.negated or allergy.asked):
        return Comparison(CONTRADICTED, allergy, error_type)
    for other in note_facts:
        if fact.negated and other.negated and other.type == "procedure" and other.value == f"{fact.value} test":
            return Comparison(SUPPORTED, other, fact.type)
        if not _same_subject(fact, other):
            continue
        # having the kind implies the general term; denying the general term denies the kind
        general, kind = (fact, other) if not fact.negated else (other, fact)
        if _is_kind_of(kind.value, general.value):
            return Comparison(SUPPORTED, other, fact.type)
        if other.spoken and _is_kind_of(general.value, kind.value):
            return Comparison(UNVERIFIABLE, other, error_type)
    silent = next((other for other in note_facts if _covers(fact, other)), None)
    if silent or _is_in_other_words(fact, note_facts):
        return Comparison(UNVERIFIABLE, silent, error_type)
    return Comparison(UNSUPPORTED, None, error_type)


def _is_of_class(drug: Fact, fact: Fact) -> bool:
    """Return whether the note's drug is one of the class that the summary names: gentamicin of "antibiotics"."""
    if drug.asked or (fact.negated, fact.family) != (drug.negated, drug.family):
        return False
    concept = concepts("drug").get(drug.key)
    return concept is not None and _CLASSES[fact.key].search(concept.group) is not None


def _same_subject(fact: Fact, other: Fact) -> bool:
    same_scope = (fact.family, fact.negated) == (other.family, other.negated)
    return fact.type in PROBLEMS and other.type in PROBLEMS and same_scope and not other.asked


def _is_kind_of(kind: str, general: str) -> bool:
    return (kind, general) in _KINDS or (kind.endswith(f" {general}") and general not in _PARTS_OF_NAMES)


def _covers(fact: Fact, other: Fact) -> bool:
    """Return whether the note may include the finding: it denies all findings, or names pain in the same region."""
    if fact.negated:
        any_allergy = other.type == "allergy" and other.key == "any" and "allerg" in fact.value
        return (other.type == "denial" and fact.type in PROBLEMS) or (any_allergy and other.negated)
    region = _PAIN_IN.get(fact.value, "")
    return other.spoken and bool(region) and region == _PAIN_IN.get(other.value, other.value)


def _is_in_other_words(fact: Fact, note_facts: NoteFacts) -> bool:
    """Return whether a conversation may state the finding in other words.

    That is so if it is about the same part of the body and names no other finding of the same group.
    """
    if fact.negated or fact.type not in _SAID_FREELY or not note_facts or not any(other.spoken for other in note_facts):
        return False
    known = concepts(fact.type)
    group = known[fact.key].group if fact.key in known else "general"
    if group == "general":
        return True
    topics = {other.value for other in note_facts if other.type == "topic"}
    if systems_of(group) and not systems_of(group) & topics:
        return False
    rivals = (other for other in _same_type(fact, note_facts) if other.key in known and known[other.key].group == group)
    return all(other.negated or other.asked or other.family for other in rivals)


def _same_polarity(fact: Fact, other: Fact) -> bool:
    """Return whether both are affirmed or both negated. A drug or habit that was stopped agrees with both."""
    if fact.negated == other.negated:
        return True
    if fact.type == "drug":
        return fact.historical or other.historical
    return fact.key in _HABITS and fact.negated and other.historical and not fact.historical


def _names_same(fact: Fact, other: Fact) -> bool:
    same_kind = other.type == fact.type or {other.type, fact.type} <= set(PROBLEMS)
    return same_kind and other.value == fact.value


def _compare_where_stated(fact: Fact, note_facts: NoteFacts) -> Comparison | None:
    """Compare statuses and attributes (started, severe, due to X), if the note has one for the same finding."""
    rivals = [other for other in _same_type(fact, note_facts) if fact.key and other.key == fact.key]
    if fact.type in STATUSES:
        agreeing = [other for other in rivals if other.value == fact.value]
        rivals = [*agreeing, *(other for other in rivals if other.value in _OPPOSITE_STATUS.get(fact.value, ()))]
    if fact.type == "direction":
        rivals = [other for other in rivals if _are_comparable(fact.value, other.value)]
    mentions = note_facts.by_value.get(fact.key, [])
    if fact.type in STATUSES and not note_facts.in_dialogue and len(rivals) < len(mentions):
        return None  # another mention, without a status, may be meant
    if not rivals:
        return None
    return _decide(fact, next((other for other in rivals if other.value == fact.value), None), rivals)


def _are_comparable(first: str, second: str) -> bool:
    """Return whether two directions agree or exclude each other: what is "not better" may be stable or worse."""
    plain = first.removeprefix("not "), second.removeprefix("not ")
    return plain == (first, second) or plain[0] == plain[1]


def _compare_change(fact: Fact, note_facts: NoteFacts) -> Comparison | None:
    """Compare a change of a measurement ("down 4.2 1.9") with the note's changes that share one of its numbers.

    A change without a number ("has fallen") is compared with all changes of the measurement.
    """
    direction, *numbers = fact.value.split()
    told = set(numbers) - {"?"}
    rivals = [
        other
        for other in _same_type(fact, note_facts)
        if other.key == fact.key and (not told or told & set(other.value.split()[1:]))
    ]
    agreeing = next((other for other in rivals if other.value.split()[0] == direction), None)
    return _decide(fact, agreeing, rivals) if rivals else None


def _compare_nothing(fact: Fact, note_facts: NoteFacts) -> None:
    """Return None: "no other complaints" or a part of the body alone makes no claim that could be checked."""


def _compare_allergy(fact: Fact, note_facts: NoteFacts) -> Comparison:
    """Compare a drug allergy. Any allergy that the note names contradicts "no known allergies"."""
    others = _same_type(fact, note_facts)
    if fact.key == "any" and fact.negated:
        named = [other for other in others if not other.negated and other.key != "any"]
        denied = next((other for other in others if other.negated), None)
        return _decide(fact, None if named else denied, named)
    same = [other for other in others if other.key == fact.key]
    agreeing = next((other for other in same if other.negated == fact.negated), None)
    denied_all = [other for other in others if other.key == "any" and other.negated and not fact.negated]
    taken = note_facts.by_value.get(fact.key)
    if fact.value == REACTION and taken and not same and not denied_all and not note_facts.in_dialogue:
        return Comparison(UNVERIFIABLE, taken[0], fact.type)  # the note may tell of its side effects
    return _decide(fact, agreeing, [*same, *denied_all])


def _compare_family_history(fact: Fact, note_facts: NoteFacts) -> Comparison | None:
    """Compare the relative and the condition. A condition that only the patient has is an error of attribution."""
    named = [other for other in _same_type(fact, note_facts) if other.key == fact.key]
    same = [other for other in named if other.negated == fact.negated]
    if fact.value:  # "diabetes runs in the family; my father has it": the relative who is named is meant
        same = [other for other in same if other.value] or same
    agreeing = next((other for other in same if same_relative(other.value, fact.value)), None)
    if agreeing or same:
        return _decide(fact, agreeing, same)
    if named:
        return Comparison(CONTRADICTED, named[0], "negation")
    if fact.negated:
        return None
    own = [other for other in note_facts if other.type in PROBLEMS and other.value == fact.key]
    if any(other.asked or other.family or (other.spoken and (other.ownerless or not fact.value)) for other in own):
        return Comparison(UNVERIFIABLE, own[0], fact.type)
    return Comparison(CONTRADICTED, own[0], "attribution") if own else Comparison(UNSUPPORTED, None, fact.type)


Rule = Callable[[Fact, NoteFacts], Comparison | None]
_RULES: dict[str, Rule] = {
    "age": _compare_age,
    "sex": _compare_sex,
    "laterality": _compare_side,
    "duration": _compare_times,
    "follow_up": _compare_times,
    "number": _compare_numbers,
    "date": _compare_numbers,
    **dict.fromkeys(STATUSES | ATTRIBUTES, _compare_where_stated),
    "change": _compare_change,
    "denial": _compare_nothing,
    "topic": _compare_nothing,
    "allergy": _compare_allergy,
    "family_history": _compare_family_history,
}
