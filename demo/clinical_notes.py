"""Synthetic clinical notes with known facts, so that every summary can be checked exactly.

`sample_facts` draws a patient. `write_note` writes the patient's note (40-120 words), and `write_summary` a factual
summary. `check_summary` parses any summary into statements and compares each of them with the facts. The same templates
write and parse statements; a statement that does not parse counts as a hallucination. Doses, values and durations are
drawn independently of the drug, laboratory test or symptom on purpose: a model that guesses them from the name is
wrong, so it must read the note.

Nothing here is medical advice, and no patient is real.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fact_checking.claims import CITATION

DRUGS = """metformin lisinopril amlodipine atorvastatin omeprazole losartan gabapentin sertraline furosemide metoprolol
warfarin apixaban clopidogrel prednisone levothyroxine hydrochlorothiazide simvastatin pantoprazole tramadol
amoxicillin azithromycin ciprofloxacin doxycycline cephalexin ceftriaxone vancomycin ibuprofen naproxen acetaminophen
aspirin morphine oxycodone diazepam lorazepam citalopram fluoxetine bupropion venlafaxine duloxetine quetiapine
risperidone lithium valproate levetiracetam lamotrigine topiramate carbamazepine phenytoin digoxin diltiazem verapamil
carvedilol bisoprolol spironolactone ramipril enalapril valsartan rosuvastatin pravastatin glipizide sitagliptin
empagliflozin montelukast cetirizine loratadine famotidine ondansetron metoclopramide methotrexate hydroxychloroquine
allopurinol colchicine alendronate tamsulosin finasteride oxybutynin sumatriptan propranolol baclofen cyclobenzaprine
nitrofurantoin acyclovir fluconazole""".split()
FREQUENCIES = (
    "once daily",
    "twice daily",
    "three times daily",
    "every 6 hours",
    "every 8 hours",
    "every 12 hours",
    "at bedtime",
    "every morning",
    "weekly",
    "as needed",
)
DOSES = """1 2 2.5 3 4 5 6 7.5 8 10 12 12.5 15 16 18 20 25 30 32 35 37.5 40 45 50 60 62.5 70 75 80 81 90 100 110 120
125 150 160 180 200 225 240 250 300 320 325 350 400 450 500 550 600 650 700 750 800 850 875 900 1000""".split()
SYMPTOMS = [
    symptom.strip()
    for symptom in """chest pain|shortness of breath|cough|fever|headache|dizziness|nausea|vomiting|abdominal pain|
back pain|fatigue|weight loss|night sweats|palpitations|leg swelling|joint pain|rash|itching|sore throat|runny nose|
ear pain|blurred vision|double vision|numbness|tingling|weakness|confusion|seizures|syncope|tremor|insomnia|anxiety|
low mood|constipation|diarrhea|blood in stool|heartburn|difficulty swallowing|hoarseness|wheezing|coughing up blood|
painful urination|blood in urine|urinary frequency|flank pain|pelvic pain|neck stiffness|muscle cramps|hair loss|
cold intolerance|excessive thirst|loss of appetite|easy bruising|nosebleeds|calf pain|jaw pain|chills|memory loss|
hearing loss|ringing in the ears""".split("|")
]
CONDITIONS = [
    condition.strip()
    for condition in """pneumonia|asthma|bronchitis|pulmonary embolism|heart failure|atrial fibrillation|
myocardial infarction|unstable angina|hypertension|type 2 diabetes|hypothyroidism|hyperthyroidism|anemia|migraine|
epilepsy|stroke|meningitis|depression|gastritis|peptic ulcer|pancreatitis|cholecystitis|appendicitis|diverticulitis|
hepatitis|cirrhosis|celiac disease|urinary tract infection|acute kidney injury|prostatitis|gout|rheumatoid arthritis|
lupus|osteoporosis|sepsis|influenza|tuberculosis|dehydration|vertigo|pericarditis|endocarditis|sinusitis""".split("|")
]
LATERAL_CONDITIONS = [
    condition.strip()
    for condition in """hip fracture|wrist fracture|ankle sprain|knee osteoarthritis|rotator cuff tear|
leg deep vein thrombosis|leg cellulitis|kidney stone|pleural effusion|otitis media|carpal tunnel syndrome|
inguinal hernia|breast mass|ovarian cyst|foot ulcer|eye cataract|shoulder dislocation|elbow bursitis|renal cyst|
corneal abrasion""".split("|")
]
PROCEDURES = (
    "chest x-ray",
    "CT scan",
    "MRI",
    "ultrasound",
    "echocardiogram",
    "colonoscopy",
    "endoscopy",
    "biopsy",
    "lumbar puncture",
    "stress test",
    "EEG",
    "bronchoscopy",
    "spirometry",
    "angiography",
    "bone scan",
    "arthroscopy",
)
# name, unit, lowest, highest, decimals
LABORATORY_TESTS = (
    ("hemoglobin", "g/dL", 6.0, 18.0, 1),
    ("white cell count", "K/uL", 2.0, 25.0, 1),
    ("potassium", "mmol/L", 2.5, 6.5, 1),
    ("sodium", "mmol/L", 120, 155, 0),
    ("creatinine", "mg/dL", 0.5, 6.0, 1),
    ("glucose", "mg/dL", 50, 400, 0),
    ("lactate", "mmol/L", 0.5, 9.0, 1),
    ("platelet count", "K/uL", 40, 600, 0),
    ("C-reactive protein", "mg/L", 1, 300, 0),
    ("troponin", "ng/L", 3, 900, 0),
    ("D-dimer", "ng/mL", 100, 4000, 0),
    ("bilirubin", "mg/dL", 0.2, 9.0, 1),
    ("albumin", "g/dL", 1.5, 5.0, 1),
    ("TSH", "mIU/L", 0.1, 15.0, 1),
)
SEXES = ("man", "woman")
SIDES = ("left", "right")
CERTAINTIES = ("confirmed", "suspected")
FAMILIAL_CONDITIONS = tuple(
    condition.strip()
    for condition in """hypertension|type 2 diabetes|asthma|gout|migraine|epilepsy|stroke|depression|lupus|
rheumatoid arthritis|osteoporosis|heart failure|atrial fibrillation|myocardial infarction|hypothyroidism|
celiac disease""".split("|")
)
DURATION_UNITS = ("hours", "days", "weeks", "months")
RELATIVES = ("mother", "father", "sister", "brother")
SPLITS = ("train", "validation", "test")
OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Medication:
    drug: str
    dose: str
    unit: str  # mg or mcg
    frequency: str

    def __str__(self) -> str:
        return f"{self.drug} {self.dose} {self.unit} {self.frequency}"


@dataclass(frozen=True)
class LabResult:
    name: str
    value: str
    unit: str


@dataclass(frozen=True)
class Facts:
    """All facts about one synthetic patient. `None` and `()` mean that the note says nothing."""

    age: int  # years
    sex: str
    symptom: str
    duration: str
    second_symptom: str | None
    denied: tuple[str, ...]
    blood_pressure: tuple[int, int]  # mmHg
    heart_rate: int  # beats per minute
    temperature: str | None  # degrees Celsius
    oxygen_saturation: int | None  # percent
    labs: tuple[LabResult, ...]
    procedure: tuple[str, str] | None  # name, performed or planned
    allergy: str | None
    stopped: Medication | None
    started: tuple[Medication, ...]
    diagnosis: str
    certainty: str
    ruled_out: str | None
    follow_up: str | None
    family_history: tuple[str, str] | None  # relative, condition


def split_of(facts: Facts) -> str:
    """Return the split of this combination of age, symptom and diagnosis: 80% train, 10% validation, 10% test."""
    digest = hashlib.sha256(f"{facts.age}|{facts.symptom}|{facts.diagnosis}".encode()).digest()
    return {0: "test", 1: "validation"}.get(digest[0] % 10, "train")


def sample_facts(rng: random.Random, split: str | None = None) -> Facts:
    """Draw one patient. With `split`, the combination of age, symptom and diagnosis belongs to that split."""
    while True:
        facts = _draw(rng)
        if split is None or split_of(facts) == split:
            return facts


def _draw(rng: random.Random) -> Facts:
    symptoms = rng.sample(SYMPTOMS, 5)  # the main one, a second one, up to three denied
    drugs = rng.sample(DRUGS, 4)
    diagnosis, ruled_out = _different_conditions(rng, 2)
    systolic = rng.randint(85, 205)
    return Facts(
        age=rng.randint(18, 97),
        sex=rng.choice(SEXES),
        symptom=symptoms[0],
        duration=_interval(rng, 2, 30, DURATION_UNITS),
        second_symptom=symptoms[1] if rng.random() < 0.5 else None,
        denied=tuple(symptoms[2 : 2 + rng.choice((2, 2, 3))]),
        blood_pressure=(systolic, rng.randint(45, min(115, systolic - 20))),
        heart_rate=rng.randint(45, 145),
        temperature=f"{rng.randint(355, 402) / 10:.1f}" if rng.random() < 0.5 else None,
        oxygen_saturation=rng.randint(82, 100) if rng.random() < 0.35 else None,
        labs=_lab_results(rng, rng.choice((0, 1, 1, 2))),
        procedure=(rng.choice(PROCEDURES), rng.choice(("performed", "planned"))) if rng.random() < 0.5 else None,
        allergy=drugs[0] if rng.random() < 0.35 else None,
        stopped=_medication(rng, drugs[1]) if rng.random() < 0.35 else None,
        started=tuple(_medication(rng, drug) for drug in drugs[2 : 2 + rng.choice((1, 1, 2))]),
        diagnosis=diagnosis,
        certainty=rng.choice(CERTAINTIES),
        ruled_out=ruled_out if rng.random() < 0.35 else None,
        follow_up=_interval(rng, 2, 12, DURATION_UNITS[1:]) if rng.random() < 0.6 else None,
        family_history=(rng.choice(RELATIVES), rng.choice(FAMILIAL_CONDITIONS)) if rng.random() < 0.25 else None,
    )


def _different_conditions(rng: random.Random, count: int) -> list[str]:
    """Draw different conditions. The left and the right form of a condition are never drawn together."""
    names = rng.sample([*CONDITIONS, *LATERAL_CONDITIONS], count)
    return [f"{rng.choice(SIDES)} {name}" if name in LATERAL_CONDITIONS else name for name in names]


def _interval(rng: random.Random, lowest: int, highest: int, units: Sequence[str]) -> str:
    return f"{rng.randint(lowest, highest)} {rng.choice(units)}"


def _medication(rng: random.Random, drug: str) -> Medication:
    return Medication(drug, rng.choice(DOSES), "mg" if rng.random() < 0.85 else "mcg", rng.choice(FREQUENCIES))


def _lab_results(rng: random.Random, count: int) -> tuple[LabResult, ...]:
    tests = rng.sample(LABORATORY_TESTS, count)
    return tuple(
        LabResult(name, f"{rng.randint(round(low * 10**d), round(high * 10**d)) / 10**d:.{d}f}", unit)
        for name, unit, low, high, d in tests
    )


# ---------------------------------------------------------------------------------------------- notes

_Told = tuple[str, ...]  # a sentence, then the kinds of statement that it supports
Sentence = tuple[str, frozenset[str]]  # the text, and the kinds of statement that it supports


def write_note(facts: Facts, rng: random.Random) -> str:
    """Write the note as one paragraph."""
    return " ".join(text for text, _ in note_sentences(facts, rng))


def note_sentences(facts: Facts, rng: random.Random) -> list[Sentence]:
    """Write the sentences of the note, each with the kinds of statement that it supports."""
    history, findings = _history(facts, rng), _findings(facts, rng)
    rng.shuffle(history)
    rng.shuffle(findings)
    assessment = _assessment(facts, rng)
    rng.shuffle(assessment)
    sentences = [_opening(facts, rng), *history, *findings, *assessment, *_plan(facts, rng)]
    return [(capitalise(text), frozenset(kinds)) for text, *kinds in sentences]


def _opening(facts: Facts, rng: random.Random) -> _Told:
    age, sex, symptom, duration = facts.age, facts.sex, facts.symptom, facts.duration
    article = "an" if age in (18, *range(80, 90)) else "a"
    text = rng.choice(
        (
            f"{age}-year-old {sex} presents with {symptom} for {duration}.",
            f"Patient is {article} {age}-year-old {sex} with {duration} of {symptom}.",
            f"This {age}-year-old {sex} came in because of {symptom}, ongoing for {duration}.",
            f"{sex}, age {age}, with {symptom} over the past {duration}.",
        )
    )
    return text, "demographics"


def _history(facts: Facts, rng: random.Random) -> list[_Told]:
    pronoun = {"man": "he", "woman": "she"}[facts.sex]
    denied = facts.denied
    sentences: list[_Told] = [
        (
            rng.choice(
                (
                    f"{pronoun} denies {' or '.join(denied)}.",
                    f"Negative for {' and '.join(denied)}.",
                    f"No {' and no '.join(denied)}.",
                )
            ),
            "denied",
        )
    ]
    if facts.second_symptom:
        symptom = facts.second_symptom
        wordings = (f"{pronoun} also reports {symptom}.", f"Associated with {symptom}.", f"Positive for {symptom}.")
        sentences.append((rng.choice(wordings), "symptom"))
    if facts.family_history:
        relative, condition = facts.family_history
        templates = (f"{relative} had {condition}.", f"Family history: {condition} in {relative}.")
        sentences.append((rng.choice(templates), "family_history"))
    return sentences


def _findings(facts: Facts, rng: random.Random) -> list[_Told]:
    sentences: list[_Told] = [_vital_signs(facts, rng)]
    if facts.labs:
        results = ", ".join(
            rng.choice((f"{lab.name} {lab.value} {lab.unit}", f"{lab.name} of {lab.value} {lab.unit}"))
            for lab in facts.labs
        )
        sentences.append((rng.choice(("Labs: ", "Laboratory results: ", "")) + results + ".", "lab"))
    if facts.procedure:
        name, status = facts.procedure
        done = (f"{name} was performed.", f"{name} was done.")
        planned = (f"{name} is planned.", f"{name} has been ordered.")
        sentences.append((rng.choice(done if status == "performed" else planned), "procedure"))
    if facts.allergy:
        sentences.append((rng.choice((f"Allergic to {facts.allergy}.", f"Allergy: {facts.allergy}.")), "allergy"))
    elif rng.random() < 0.4:
        sentences.append(("No known drug allergies.",))
    if facts.stopped:
        sentences.append((rng.choice((f"{facts.stopped} was stopped.", f"Discontinued {facts.stopped}.")), "stopped"))
    return sentences


def _vital_signs(facts: Facts, rng: random.Random) -> _Told:
    systolic, diastolic = facts.blood_pressure
    signs = [
        (rng.choice((f"BP {systolic}/{diastolic}", f"blood pressure {systolic}/{diastolic} mmHg")), "blood_pressure"),
        (rng.choice((f"HR {facts.heart_rate}", f"heart rate {facts.heart_rate} bpm")), "heart_rate"),
    ]
    if facts.temperature:
        signs.append((rng.choice((f"temp {facts.temperature}", f"temperature {facts.temperature} C")), "temperature"))
    if facts.oxygen_saturation:
        templates = (f"SpO2 {facts.oxygen_saturation}%", f"oxygen saturation {facts.oxygen_saturation}%")
        signs.append((rng.choice(templates), "oxygen_saturation"))
    rng.shuffle(signs)
    return ", ".join(text for text, _ in signs) + ".", *(kind for _, kind in signs)


def _assessment(facts: Facts, rng: random.Random) -> list[_Told]:
    diagnosis = facts.diagnosis
    confirmed = (
        f"Diagnosis of {diagnosis} confirmed.",
        f"{diagnosis} was confirmed.",
        f"Findings establish {diagnosis}.",
        f"Diagnosed with {diagnosis}.",
    )
    suspected = (
        f"Suspected {diagnosis}.",
        f"{diagnosis} is suspected.",
        f"Findings raise concern for {diagnosis}.",
        f"Assessment: possible {diagnosis}.",
    )
    sentences: list[_Told] = [(rng.choice(confirmed if facts.certainty == "confirmed" else suspected), "diagnosis")]
    if facts.ruled_out:
        templates = (f"{facts.ruled_out} was ruled out.", f"No evidence of {facts.ruled_out}.")
        sentences.append((rng.choice(templates), "ruled_out"))
    return sentences


def _plan(facts: Facts, rng: random.Random) -> list[_Told]:
    drugs = [str(medication) for medication in facts.started]
    templates = (f"Started {' and '.join(drugs)}.", f"Plan: {', '.join(drugs)}.", f"Prescribed {' plus '.join(drugs)}.")
    sentences: list[_Told] = [(rng.choice(templates), "started")]
    if facts.follow_up:
        after = facts.follow_up
        templates = (f"Follow up in {after}.", f"Return to clinic in {after}.", f"Review after {after}.")
        sentences.append((rng.choice(templates), "follow_up"))
    return sentences


def capitalise(text: str) -> str:
    return text[0].upper() + text[1:]


# ----------------------------------------------------------------------------------------- statements


def _alternatives(values: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, values), key=len, reverse=True))


_ALL_CONDITIONS = [*CONDITIONS, *(f"{side} {name}" for side in SIDES for name in LATERAL_CONDITIONS)]
_MEDICATION = (
    rf"(?:{_alternatives(DRUGS)}) \d+(?:\.\d+)? (?:mg|mcg) (?:{_alternatives(FREQUENCIES)})"  # drug dose unit frequency
)
_SLOTS = {
    "age": r"\d+",
    "sex": _alternatives(SEXES),
    "symptom": _alternatives(SYMPTOMS),
    "interval": rf"\d+ (?:{_alternatives(DURATION_UNITS)})",
    "condition": _alternatives(_ALL_CONDITIONS),
    "medications": rf"{_MEDICATION}(?: and {_MEDICATION})*",
    "drug": _alternatives(DRUGS),
    "systolic": r"\d+",
    "diastolic": r"\d+",
    "number": r"\d+(?:\.\d+)?",
    "lab": _alternatives(test[0] for test in LABORATORY_TESTS),
    "unit": r"[A-Za-z/]+",
    "procedure": _alternatives(PROCEDURES),
    "status": "performed|planned",
    "relative": _alternatives(RELATIVES),
}
TEMPLATES: dict[str, tuple[str, ...]] = {
    "demographics": (
        "{age}-year-old {sex} with {symptom} for {interval}",
        "{age}-year-old {sex} presenting with {interval} of {symptom}",
    ),
    "symptom": ("Also reports {symptom}", "Symptoms include {symptom}"),
    "denied": ("Denies {symptom}", "Without {symptom}"),
    "confirmed": ("Diagnosed with {condition}", "Confirmed {condition}"),
    "suspected": ("Suspected {condition}", "Likely {condition}"),
    "ruled_out": ("{condition} ruled out",),
    "started": ("Treated with {medications}", "Started on {medications}"),
    "stopped": ("{drug} discontinued",),
    "allergy": ("Allergic to {drug}",),
    "blood_pressure": ("Blood pressure {systolic}/{diastolic} mmHg",),
    "heart_rate": ("Heart rate {number} bpm",),
    "temperature": ("Temperature {number} C",),
    "oxygen_saturation": ("Oxygen saturation {number}%",),
    "lab": ("{lab} {number} {unit}",),
    "procedure": ("{procedure} {status}",),
    "follow_up": ("Follow-up in {interval}",),
    "family_history": ("Family history of {condition} in {relative}",),
}


def _pattern(template: str) -> re.Pattern[str]:
    slots = re.sub(r"\\\{(\w+)\\\}", lambda match: f"(?P<{match[1]}>{_SLOTS[match[1]]})", re.escape(template))
    return re.compile(slots, re.IGNORECASE)


_PATTERNS = [(kind, _pattern(template)) for kind, templates in TEMPLATES.items() for template in templates]
# a full stop inside 37.4 or 62.5 does not end a statement, since no white space follows it
_STATEMENT_END = re.compile(r"[.;](?:\s+|$)")


def true_statements(facts: Facts, rng: random.Random) -> dict[str, str]:
    """Map each kind of statement that the facts allow to one true statement. `rng` draws the wording."""
    # Draw a wording for every kind, used or not, so that a changed fact does not change the wording of the others.
    wording = {kind: rng.choice(templates) for kind, templates in TEMPLATES.items()}
    values: dict[str, dict[str, object]] = {
        "demographics": {
            "age": facts.age,
            "sex": facts.sex,
            "symptom": facts.symptom,
            "interval": facts.duration,
        },
        facts.certainty: {"condition": facts.diagnosis},
        "started": {"medications": " and ".join(map(str, facts.started))},
        "denied": {"symptom": rng.choice(facts.denied)},
        "blood_pressure": {"systolic": facts.blood_pressure[0], "diastolic": facts.blood_pressure[1]},
        "heart_rate": {"number": facts.heart_rate},
    }
    if facts.labs:
        lab = rng.choice(facts.labs)
        values["lab"] = {"lab": lab.name, "number": lab.value, "unit": lab.unit}
    if facts.procedure:
        values["procedure"] = {"procedure": facts.procedure[0], "status": facts.procedure[1]}
    if facts.family_history:
        values["family_history"] = {"relative": facts.family_history[0], "condition": facts.family_history[1]}
    optional = {
        "symptom": ("symptom", facts.second_symptom),
        "ruled_out": ("condition", facts.ruled_out),
        "stopped": ("drug", facts.stopped and facts.stopped.drug),
        "allergy": ("drug", facts.allergy),
        "temperature": ("number", facts.temperature),
        "oxygen_saturation": ("number", facts.oxygen_saturation),
        "follow_up": ("interval", facts.follow_up),
    }
    values |= {kind: {slot: value} for kind, (slot, value) in optional.items() if value is not None}
    return {kind: capitalise(wording[kind].format(**slots)) for kind, slots in values.items()}


_ALWAYS_TOLD = ("demographics", "confirmed", "suspected", "started", "follow_up")


def write_summary(facts: Facts, rng: random.Random) -> str:
    """Write a factual summary of three sentences.

    The first states the patient and the symptom, the second the diagnosis and one more finding, the third the treatment
    and any follow-up.
    """
    return summary_and_kinds(facts, rng)[0]


def summary_and_kinds(facts: Facts, rng: random.Random) -> tuple[str, list[str]]:
    """Return the summary of `write_summary` and the kinds of its statements."""
    statements = true_statements(facts, rng)
    finding = rng.choice([kind for kind in statements if kind not in _ALWAYS_TOLD])
    plan = statements["started"] + (f"; {statements['follow_up']}" if "follow_up" in statements else "")
    text = f"{statements['demographics']}. {statements[facts.certainty]}; {statements[finding]}. {plan}."
    return text, ["demographics", "diagnosis", finding, "started", *(["follow_up"] if facts.follow_up else [])]


def evidence_citation(sentences: Sequence[Sentence], kinds: Iterable[str], rng: random.Random) -> str:
    """Return ` [Evidence: S1,4; Conf: 0.93]` with the numbers, from 1, of the sentences that support these kinds."""
    told = set(kinds)
    numbers = [str(number) for number, (_, supports) in enumerate(sentences, start=1) if supports & told]
    return f" [Evidence: S{','.join(numbers)}; Conf: {rng.uniform(0.8, 0.99):.2f}]"


# ---------------------------------------------------------------------------------------------- truth


@dataclass(frozen=True)
class ExactVerdict:
    """The result of comparing a summary with the facts.

    `errors` has the type of every error. `key_facts` is the number of facts that a complete summary states.
    """

    errors: tuple[str, ...]
    statements: int
    supported: int
    key_facts_told: int
    key_facts: int


def check_summary(summary: str, facts: Facts) -> ExactVerdict:
    """Parse `summary` and compare every statement with the facts.

    The key facts are age, sex, symptom, duration, diagnosis, its certainty, each started drug with dose and frequency,
    and the follow-up if there is one. Coverage is the share of key facts that the summary states.
    """
    parsed = parse_statements(summary)
    verdicts = [_statement_errors(kind, slots, facts) for kind, slots in parsed]
    told = set().union(*(_key_facts_told(kind, slots, facts) for kind, slots in parsed))
    return ExactVerdict(
        errors=tuple(error for errors in verdicts for error in errors),
        statements=len(parsed),
        supported=sum(not errors for errors in verdicts),
        key_facts_told=len(told),
        key_facts=6 + len(facts.started) + (facts.follow_up is not None),
    )


def parse_statements(summary: str) -> list[tuple[str, dict[str, str]]]:
    """Return (kind, slots) of each statement, without citations. Statements end at full stops and semicolons.

    A statement that matches no template has the kind `unparsed`.
    """
    statements = []
    for part in _STATEMENT_END.split(CITATION.sub("", summary).strip()):
        if part.strip():
            statements.append(_parse(part.strip()))
    return statements


def _parse(text: str) -> tuple[str, dict[str, str]]:
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            return kind, {slot: value.lower() for slot, value in match.groupdict().items()}
    return "unparsed", {}


def _statement_errors(kind: str, slots: dict[str, str], facts: Facts) -> list[str]:
    """Return the types of error in one statement, none if the facts support it."""
    if kind == "unparsed":
        return ["unparsed"]
    if kind == "demographics":
        wrong = {"age": str(facts.age), "sex": facts.sex, "interval": facts.duration}
        errors = [{"interval": "duration"}.get(slot, slot) for slot, value in wrong.items() if slots[slot] != value]
        return errors + _symptom_errors(slots["symptom"], (facts.symptom,), facts.denied)
    if kind == "symptom":
        return _symptom_errors(slots["symptom"], _present(facts), facts.denied)
    if kind == "denied":
        return _symptom_errors(slots["symptom"], facts.denied, _present(facts))
    if kind in ("confirmed", "suspected", "ruled_out"):
        return _condition_errors(kind, slots["condition"], facts)
    if kind == "started":
        return [error for stated in _medications(slots) for error in _medication_errors(stated, facts)]
    return [] if tuple(slots.values()) in _true_slots(kind, facts) else [kind]


def _present(facts: Facts) -> tuple[str, ...]:
    return (facts.symptom, facts.second_symptom) if facts.second_symptom else (facts.symptom,)


def _symptom_errors(stated: str, true: Sequence[str], opposite: Sequence[str]) -> list[str]:
    if stated in true:
        return []
    return ["negation" if stated in opposite else "symptom"]


def _condition_errors(kind: str, stated: str, facts: Facts) -> list[str]:
    true = facts.ruled_out if kind == "ruled_out" else facts.diagnosis
    if stated == true:
        return [] if kind in ("ruled_out", facts.certainty) else ["certainty"]
    side, _, organ = stated.partition(" ")
    return ["laterality" if true and side in SIDES and true == f"{OTHER_SIDE[side]} {organ}" else "condition"]


def _medications(slots: dict[str, str]) -> list[Medication]:
    return [Medication(*text.split(" ", 3)) for text in re.findall(_MEDICATION, slots["medications"])]


def _medication_errors(stated: Medication, facts: Facts) -> list[str]:
    true = {medication.drug: medication for medication in facts.started}.get(stated.drug)
    if true is None:
        return ["drug"]
    errors = ["dose"] if (stated.dose, stated.unit) != (true.dose, true.unit) else []
    return errors + (["frequency"] if stated.frequency != true.frequency else [])


def _true_slots(kind: str, facts: Facts) -> list[tuple[str, ...]]:
    """Return the slot values, in the order of the template, for which a statement of this kind is true."""
    values: dict[str, list[Sequence[object]]] = {
        "stopped": [[facts.stopped.drug]] if facts.stopped else [],
        "allergy": [[facts.allergy]],
        "blood_pressure": [facts.blood_pressure],
        "heart_rate": [[facts.heart_rate]],
        "temperature": [[facts.temperature]],
        "oxygen_saturation": [[facts.oxygen_saturation]],
        "lab": [[lab.name, lab.value, lab.unit] for lab in facts.labs],
        "procedure": [facts.procedure] if facts.procedure else [],
        "follow_up": [[facts.follow_up]],
        "family_history": [facts.family_history[::-1]] if facts.family_history else [],
    }
    return [tuple(str(value).lower() for value in slots) for slots in values[kind] if None not in slots]


def _key_facts_told(kind: str, slots: dict[str, str], facts: Facts) -> set[str]:
    if kind == "demographics":
        true = {"age": str(facts.age), "sex": facts.sex, "symptom": facts.symptom, "interval": facts.duration}
        return {slot for slot, value in true.items() if slots[slot] == value}
    if kind in CERTAINTIES and slots["condition"] == facts.diagnosis:
        return {"diagnosis", "certainty"} if kind == facts.certainty else {"diagnosis"}
    if kind == "started":
        return {stated.drug for stated in _medications(slots) if stated in facts.started}
    if kind == "follow_up" and slots["interval"] == facts.follow_up:
        return {"follow_up"}
    return set()


# ---------------------------------------------------------------------------------------- one wrong fact


def with_one_wrong_fact(facts: Facts, rng: random.Random) -> tuple[Facts, str]:
    """Return a copy of `facts` with one wrong fact that every summary states, and the type of the error.

    Summaries of both, written with a `Random` in the same state, differ in that fact only.
    """
    first, others = facts.started[0], facts.started[1:]
    side, _, organ = facts.diagnosis.partition(" ")
    other_drugs = [drug for drug in DRUGS if drug not in {medication.drug for medication in facts.started}]
    changes = {
        "age": {"age": rng.choice([age for age in range(18, 98) if age != facts.age])},
        "sex": {"sex": SEXES[facts.sex == "man"]},
        "symptom": {"symptom": rng.choice(facts.denied)},
        "duration": {"duration": _other_duration(rng, facts.duration)},
        "condition": {"diagnosis": rng.choice([name for name in CONDITIONS if name != facts.diagnosis])},
        "certainty": {"certainty": CERTAINTIES[facts.certainty == "confirmed"]},
        "dose": {"started": (replace(first, dose=f"{float(first.dose) * 10:g}"), *others)},
        "frequency": {
            "started": (replace(first, frequency=rng.choice([f for f in FREQUENCIES if f != first.frequency])), *others)
        },
        "drug": {"started": (replace(first, drug=rng.choice(other_drugs)), *others)},
    }
    if side in SIDES:
        changes["laterality"] = {"diagnosis": f"{OTHER_SIDE[side]} {organ}"}
    if facts.follow_up is None:
        changes["fabricated_detail"] = {"follow_up": _interval(rng, 2, 12, DURATION_UNITS[1:])}
    kind = rng.choice(list(changes))
    return replace(facts, **changes[kind]), kind  # type: ignore[arg-type]


def _other_duration(rng: random.Random, duration: str) -> str:
    while (other := _interval(rng, 2, 30, DURATION_UNITS)) == duration:
        pass
    return other
