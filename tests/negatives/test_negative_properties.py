"""Properties of every verified negative, for every category and any seed, over notes composed at random.

The summaries repeat sentences of their notes word for word, so that simple string checks can hold what the parser
decided: what was taken out stands in the note, what came in does not.
"""

from __future__ import annotations

import random
import re
from collections import Counter

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clinical.facts import Fact, extract_facts
from fact_checking.claims import CONTRADICTED, UNSUPPORTED, without_citations
from negatives.case import Case, Corpus
from negatives.registry import EDITORS
from negatives.verification import Edit, Negative, verified_negatives

FAST = settings(
    derandomize=True,
    deadline=None,
    max_examples=250,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=[Phase.generate, Phase.shrink],
)

# ------------------------------------------------------------------------------------- notes and summaries

CHOICES = {
    "drug": "metformin lisinopril warfarin hydralazine omeprazole atorvastatin prednisone Zoloft".split(),
    "dose": ["500 mg", "10 mg", "0.5 mg", "50 mcg", "1,000 mg", "25 µg", "2.5 mg"],
    "often": ["daily", "twice daily", "BID", "every 8 hours", "at bedtime", "t.i.d", "as needed"],
    "range": ["10–20 mg", "5-10 mg", "1 to 2 tablets"],
    "ill": "hypertension asthma pneumonia gout hypothyroidism osteoarthritis anemia bronchitis".split(),
    "other_ill": ["diabetes", "heart failure", "sinusitis", "COPD"],
    "symptom": ["cough", "headache", "nausea", "fatigue", "dizziness", "back pain"],
    "denied": ["fever", "chills", "vomiting", "chest pain", "shortness of breath"],
    "side": ["left", "right"],
    "part": ["knee", "shoulder", "ankle", "hip"],
    "span": ["3 weeks", "2 days", "six months", "10 years", "several days"],
    "person": ["54-year-old woman", "67-year-old man", "8-year-old boy", "41-year-old female"],
    "relative": ["Mother", "Father", "Sister"],
    "bp": ["142/88", "118/76", "96/54", "128 / 80"],
    "rate": ["96", "72", "118"],
    "lab": ["Hemoglobin 9.1 g/dL", "Potassium 4.2 mEq/L", "Glucose 212 mg/dL", "Hemoglobin A1c 7.2%", "Potassium 4,2"],
    "date": ["03/10/2024", "12/31/2019", "March 3, 2021", "2015"],
    "procedure": ["appendectomy", "colonoscopy", "cholecystectomy", "chest x-ray", "MRI"],
    "organism": ["Escherichia coli", "Staphylococcus aureus", "Klebsiella pneumoniae"],
    "number": ["2", "three", "4"],
    "name": ["José Muñoz", "王小明", "Zoë Ångström", "Ms. O’Neill", "👩‍⚕️ Dr. Łukasz"],
}
SENTENCES = (
    "{person} with {symptom} for {span}.",
    "Takes {drug} {dose} {often}.",
    "She takes {drug} {dose} {often} and omeprazole 20 mg daily.",
    "{drug} {range} {often} for {symptom}.",
    "{drug} 1/2 tablet {often}.",
    "Started {drug} {dose}.",
    "Stopped {drug} because of {symptom}.",
    "Has {ill} and {other_ill}.",
    "History of {ill}.",
    "The patient has {ill}.",
    "Suspected {ill}.",
    "Severe {symptom}, worse at night.",
    "Chronic {ill} for {span}.",
    "Denies {denied}.",
    "Denies {denied} or night sweats.",
    "No {denied}, rash, or weight loss.",
    "Reports {symptom} – not severe.",
    "{side} {part} pain for {span}.",
    "{symptom} due to {ill}.",
    "{symptom} started after surgery, before meals.",
    "Oral {drug} was started.",
    "Takes {drug} {dose} po {often}.",
    "{procedure} was performed.",
    "Blood pressure {bp} mmHg, heart rate {rate} bpm.",
    "Temp 38,5 °C; SpO2 97%.",
    "{lab}.",
    "Cholesterol is elevated.",
    "Seen on {date}.",
    "Underwent {procedure} in 2015.",
    "{procedure} was ordered.",
    "Culture grew {organism}.",
    "{relative} had {ill}.",
    "Allergic to penicillin.",
    "No known drug allergies.",
    "Has {number} children and smokes 1.5 packs per day.",
    "Pain is 5/10, was 5 out of 10.",
    "Follow up in {span}.",
    "{name} was seen at the café.",
    "The {ill} has improved.",
)
BREAKS = (" ", "  ", "\n", "\r\n", "\n\n")
HEADERS = ("ASSESSMENT:", "HISTORY OF PRESENT ILLNESS:", "Plan:")
CITATIONS = ("", " [Evidence: S1,2; Conf: 0.85]", " [Evidence: S3; Conf: 0.5]")


@st.composite
def sentence(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SENTENCES)).format_map(
        {name: draw(st.sampled_from(choices)) for name, choices in CHOICES.items()}
    )
    return text[0].upper() + text[1:]


@st.composite
def note_and_summary(draw: st.DrawFn) -> tuple[str, str]:
    said = draw(st.lists(sentence(), min_size=2, max_size=7, unique=True))
    kept = said[: draw(st.integers(1, len(said)))]
    line_break = draw(st.sampled_from(BREAKS))
    header = draw(st.sampled_from(HEADERS))
    note = f"{header}{line_break}" + line_break.join(draw(st.permutations(said)))
    marks = draw(st.sampled_from(("", "numbered", "header")))
    parts = [f"{text}{draw(st.sampled_from(CITATIONS))}" for text in kept]
    if marks == "numbered":
        line_break = "\r\n" if "\r" in line_break else "\n"
        parts = [f"{number}. {part}" for number, part in enumerate(parts, start=1)]
    elif marks == "header":
        parts = [header, *parts]
    return note, line_break.join(parts)


CORPUS = Corpus.from_summaries(
    [
        ("An unrelated note.", "Reports ringing in the ears. Takes digoxin 125 mcg daily. Denies hematuria."),
        ("Another note.", "History of psoriasis. Underwent tonsillectomy. Allergic to latex. Naproxen was stopped."),
    ]
)


# ----------------------------------------------------------------------------------------- what must hold

SHAPES = {  # tokens that stay whole, or give way to a whole one of the same shape
    "range": r"\d+(?:\.\d+)?(?:–|-| to )\d+(?:\.\d+)?(?= ?[a-zµ])",
    "date": r"(?<![\d/])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])/\d{4}(?![\d/])",
    "pair": r"(?<![\d/])\d{2,3} ?/ ?\d{2,3}(?![\d/])",
    "fraction": r"(?<![\d/])\d/(?:\d|10)(?![\d/])",
    "decimal comma": r"(?<![\d,])\d{1,2},\d{1,2}(?![\d,])",
}
FIXED = {  # tokens that no edit touches
    "list number": r"(?m)^\d+\. ",
    "header": r"(?m)^[A-Z][A-Za-z ]+:",
    "line end": r"\r?\n",
    "citation": r" ?\[Evidence:[^\]]*\]",
}
DOUBLED = re.compile(r" [,.;](?!\d)|,,|\.\.|\b([a-z]+) \1\b", re.IGNORECASE)
NAMES = {"drug", "sound_alike", "condition", "symptom", "procedure", "organism"}
NEW_NUMBERS = {"dose", "vital", "lab", "age", "count", "duration", "follow_up"}


def rebuilt(chosen: str, edits: tuple[Edit, ...]) -> str:
    for edit in sorted(edits, key=lambda edit: -edit.start):
        chosen = chosen[: edit.start] + edit.new + chosen[edit.end :]
    return chosen


def faults_of_span(chosen: str, negative: Negative) -> list[str]:
    """Rule 1: one span, which the record gives exactly; it holds all that differs."""
    edits, rejected = negative.edits, negative.rejected
    found = []
    if len(edits) != 1 and negative.type != "sex":
        found.append(f"{len(edits)} edits")
    if any(chosen[edit.start : edit.end] != edit.old for edit in edits):
        found.append("the record is not what stands there")
    if rebuilt(chosen, edits) != rejected or rejected == chosen:
        found.append("the edits do not lead from chosen to rejected")
    if any(edit.old == edit.new for edit in edits):
        found.append("an edit that changes nothing")
    return found


def faults_of_support(note: str, negative: Negative) -> list[str]:
    """Rules 2 to 4 by plain search, since the summary's sentences are the note's."""
    found = [f"verdict {edit.verdict}" for edit in negative.edits if edit.verdict not in (CONTRADICTED, UNSUPPORTED)]
    said, category = plain(note), negative.type
    for edit in negative.edits:
        if plain(without_citations(edit.old)) not in said:
            found.append(f"{edit.old!r} is not in the note")
        whole = whole_words(negative.rejected, edit)
        if category in NAMES and re.search(rf"\b{re.escape(plain(edit.new))}\b", said):
            found.append(f"{edit.new!r} is in the note")
        if category in NEW_NUMBERS and re.search(rf"(?<![\d.,]){re.escape(plain(whole))}(?![\d])", said):
            found.append(f"{whole!r} is in the note")
    return found


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().lower()


def whole_words(rejected: str, edit: Edit) -> str:
    """The new text with the number before it and the rest of its words: "20" -> "20 mg", "hour" -> "2 hours"."""
    before = re.search(r"[\w.,]*(?:\w+ )?\Z", rejected[: edit.start])
    behind = re.match(r"\w*(?: ?[^\s.,;]+)?", rejected[edit.start + len(edit.new) :])
    return f"{before[0] if before else ''}{edit.new}{behind[0] if behind else ''}"


Placed = tuple[int, Fact]


def faults_of_other_facts(chosen: str, negative: Negative) -> list[str]:
    """Rule 5: what is read elsewhere is read the same, save what is bound to the fact that changed."""
    if negative.type in ("sex", "fabricated_detail"):
        return []
    (edit,) = negative.edits
    before = _placed(extract_facts(without_citations(chosen)), edit.start, edit.end)
    after = _placed(extract_facts(without_citations(negative.rejected)), edit.start, edit.start + len(edit.new))
    changed = _less(before, after) + _less(after, before)
    inside = [fact for place, fact in changed if place == INSIDE]
    findings = [placed for placed in changed if placed[1].type in NAMES]
    nearest = min(findings or changed, key=lambda placed: abs(placed[0]), default=None)
    anchors = inside or ([nearest[1]] if nearest else [])
    names = {name for fact in anchors for name in (fact.key, fact.value) if name}
    strays = [fact for _, fact in changed if fact not in anchors and not _bound_to(fact, names)]
    return [f"{fact.type} {fact.text!r} changed too" for fact in strays]


INSIDE = 0


def _placed(facts: list[Fact], start: int, end: int) -> list[Placed]:
    """The facts with their distance to the span: below 0 before it, above 0 behind it."""
    return [
        (fact.start - end + 1 if fact.start >= end else INSIDE if fact.end > start else fact.start - start - 1, fact)
        for fact in facts
    ]


def _bound_to(fact: Fact, names: set[str]) -> bool:
    """Whether it names what changed, or a part of it (the knee of knee pain); latex has no name, and is `any`."""
    parts = {fact.key, fact.value} - {""}
    return "any" in parts or any(part in name or name in part for part in parts for name in names)


def _less(facts: list[Placed], others: list[Placed]) -> list[Placed]:
    left = Counter(map(_meaning, others))
    kept = []
    for placed in facts:
        left[_meaning(placed)] -= 1
        if left[_meaning(placed)] < 0:
            kept.append(placed)
    return kept


def _meaning(placed: Placed) -> tuple[object, ...]:
    place, fact = placed
    has_scope = fact.type not in ("number", "date", "sex")  # a list number is not denied with its sentence
    return place, fact.type, fact.key, fact.value, *(has_scope and flag for flag in _flags(fact))


def _flags(fact: Fact) -> tuple[bool, bool, bool]:
    return fact.negated, fact.uncertain, fact.family


def faults_of_form(chosen: str, negative: Negative) -> list[str]:
    """Nothing is mangled: tokens of a shape, list numbers, headers, line ends, citations, letters of other scripts."""
    rejected, found = negative.rejected, []
    for name, pattern in FIXED.items():
        if re.findall(pattern, chosen) != re.findall(pattern, rejected):
            found.append(f"{name} changed")
    for name, pattern in SHAPES.items():
        was, now = (len(re.findall(pattern, text)) for text in (kept_of(chosen, negative), rejected))
        if now < was or (now > was and negative.type not in ("fabricated_detail", "entity_merge")):
            found.append(f"{was} tokens of the shape {name} became {now}")
    taken = Counter("".join(edit.old for edit in negative.edits))
    put_in = Counter("".join(edit.new for edit in negative.edits))
    if foreign(chosen) - foreign(rejected) - taken or foreign(rejected) - foreign(chosen) - put_in:
        found.append("a character outside ASCII changed")
    if len(DOUBLED.findall(rejected)) > len(DOUBLED.findall(chosen)):
        found.append("a word or a sign stands twice")
    return found


def kept_of(chosen: str, negative: Negative) -> str:
    """The chosen text; without the statement that a fabricated one stands in for, which goes with all that it says."""
    if negative.type != "fabricated_detail":
        return chosen
    (edit,) = negative.edits
    return chosen[: edit.start] + chosen[edit.end :]


def foreign(text: str) -> Counter[str]:
    return Counter(character for character in text if not character.isascii())


def made(note: str, chosen: str, category: str, seed: int, count: int = 2) -> list[Negative]:
    case = Case(note, chosen, CORPUS)
    found = verified_negatives(case, category, random.Random(seed), count, Counter())
    assert (case.note, case.chosen) == (note, chosen)
    return found


def faults(note: str, chosen: str, negative: Negative) -> list[str]:
    """All that is wrong with one negative, each with what it takes to see it."""
    changes = [(edit.old, edit.new) for edit in negative.edits]
    found = faults_of_support(note, negative)
    for check in (faults_of_span, faults_of_other_facts, faults_of_form):
        found += check(chosen, negative)
    return [f"{negative.type}: {fault}: {changes}" for fault in found]


# ------------------------------------------------------------------------------------------------ tests


# 6 s. Proves the rules of negatives on generated notes of every category.
def test_every_negative_of_every_category_keeps_the_rules() -> None:
    """Also, every category comes up: one that is new in the registry needs a sentence above that it can change."""
    reached: set[str] = set()

    @FAST
    @given(texts=note_and_summary(), seed=st.integers(0, 2**32))
    def keeps_the_rules(texts: tuple[str, str], seed: int) -> None:
        negatives = [negative for category in EDITORS for negative in made(*texts, category, seed)]
        reached.update(negative.type for negative in negatives)
        assert [fault for negative in negatives for fault in faults(*texts, negative)] == []

    keeps_the_rules()
    assert reached == set(EDITORS)


@settings(FAST, max_examples=20)
@given(texts=note_and_summary(), seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_negatives(texts: tuple[str, str], seed: int) -> None:
    for category in EDITORS:
        assert made(*texts, category, seed) == made(*texts, category, seed)


@settings(FAST, max_examples=60)
@given(text=st.text(max_size=80), seed=st.integers(0, 2**32))
def test_no_text_at_all_makes_an_editor_fail(text: str, seed: int) -> None:
    chosen = f"{text} Denies fever. {text}"
    negatives = [negative for category in EDITORS for negative in made(chosen, chosen, category, seed, count=1)]
    assert [fault for negative in negatives for fault in faults_of_span(chosen, negative)] == []
