"""Notes as clinicians type them: layout, notation, abbreviations, polarity and whole numbers."""

from __future__ import annotations

import pytest

from clinical.abbreviations import possible_meanings
from clinical.facts import extract_facts
from clinical.layout import sections, unwrapped
from clinical.plain_form import plain_form
from clinical.polarity import AFFIRMED, HISTORICAL, NEGATED, OPEN, UNCERTAIN, value_polarity


def plain(text: str) -> str:
    return plain_form(text).text


def flags(text: str, key: str) -> set[str]:
    """Return the flags of the first finding with this key."""
    fact = next(fact for fact in extract_facts(text) if fact.key == key and not fact.type.endswith("_status"))
    return {name for name in ("negated", "uncertain", "historical", "family", "asked") if getattr(fact, name)}


def values(text: str, kind: str) -> list[tuple[str, str]]:
    return [(fact.key, fact.value) for fact in extract_facts(text) if fact.type == kind]


# --------------------------------------------------------------------------------------------- layout

WRAPPED = """The patient was admitted with worsening shortness of breath and
denied any chest pain, palpitations or recent
travel. She was given furosemide
40 mg twice daily and improved."""


def test_a_hard_wrapped_sentence_is_one_sentence():
    assert "\n" not in unwrapped(WRAPPED)
    assert len(unwrapped(WRAPPED)) == len(WRAPPED)
    assert flags(WRAPPED, "palpitations") == {"negated"}
    assert values(WRAPPED, "dose") == [("furosemide", "40 mg")]


@pytest.mark.parametrize(
    "text",
    [
        "No fever\nCough\nWeight loss",
        "- no fever\n- cough",
        "1. Gout\n2. Asthma",
        "Denies nausea.\nHad a rash.",
        "Diabetes: No\nHypertension: Yes",
        "He has asthma\n\nPlan",
    ],
)
def test_lines_that_open_an_item_stay_apart(text):
    assert unwrapped(text) == text


def test_a_finding_of_the_next_item_is_not_denied():
    assert flags("No fever\nCough\nWeight loss", "cough") == set()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("FAMILY HISTORY: gout, asthma\nMEDICATIONS: aspirin", ["family"]),
        ("PMH: asthma. FHx: gout. Allergies: penicillin.", ["family", "allergies"]),
        ("Assessment: gout", []),
    ],
)
def test_sections_are_found_by_their_headings(text, kinds):
    assert [section.kind for section in sections(text)] == kinds


def test_a_section_says_whose_finding_it_is():
    note = "Assessment: asthma.\nFAMILY HISTORY: breast cancer, gout\nALLERGIES: penicillin (hives), codeine\n"
    note += "MEDICATIONS: aspirin"
    assert flags(note, "asthma") == set()
    assert flags(note, "gout") == {"family"}
    assert values(note, "family_history") == [("breast cancer", ""), ("gout", "")]
    assert {key for key, _ in values(note, "allergy")} == {"penicillin", "codeine"}
    assert [key for key, _ in values(note, "drug")] == ["aspirin"]
    assert not [fact for fact in extract_facts(note) if fact.key == "hives"]


# ----------------------------------------------------------------------------- notation, abbreviations


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("62F with gout", "62-year-old female with gout"),
        ("Prednisone x7d", "Prednisone for 7 days"),
        ("Infliximab q8wk", "Infliximab every 8 weeks"),
        ("T 38,5", "T 38.5"),
        ("cost 1,204", "cost 1,204"),
        ("amoxicillin 500 mg tds", "amoxicillin 500 mg 3 times daily"),
        ("ramipril 5 mg 1-0-0", "ramipril 5 mg every morning"),
        ("R knee pain", "right knee pain"),
        ("given 2 L", "given 2 L"),
        ("haemoglobin and oedema", "hemoglobin and edema"),
        ("gastroesophageal", "gastroesophageal"),
        ("cough x4/7", "cough for 4 days"),
        ("pain 3/12, worse last 4/7", "pain 3 months, worse last 4 days"),
        ("6/12 hx of gout", "6 months history of gout"),
        ("seen 3/12 for gout", "seen 3/12 for gout"),
        ("G3P1011 @ 31+4, rv 34/40", "gravida 3, para 1 @ 31 weeks 4 days, rv 34 weeks"),
        ("VA 20/40", "visual acuity 20/40"),
        ("nonsmoker", "non-smoker"),
        ("SpO2 91% RA", "SpO2 91% room air"),
        ("RA on methotrexate", "rheumatoid arthritis on methotrexate"),
        ("severe MR", "severe mitral regurgitation"),
        ("pain RLL", "pain right lower lobe"),
    ],
)
def test_notation_is_rewritten_in_words(typed, words):
    assert plain(typed) == words


def test_the_words_of_a_dialogue_are_not_notation():
    spoken = "Doctor: How are you?\nPatient: I had 2 L of water, RA or not."
    assert plain(spoken) == spoken


def test_spans_point_into_the_typed_text():
    text = "62F w/ SOB x3d, NKDA"
    found = {fact.type: fact.text for fact in extract_facts(text)}
    assert (found["age"], found["symptom"], found["duration"], found["allergy"]) == ("62F", "SOB", "x3d", "NKDA")


def test_an_abbreviation_of_several_meanings_keeps_them():
    ((start, end, meanings),) = possible_meanings("BS reviewed")
    assert (start, end) == (0, 2)
    assert len(meanings) > 1
    assert plain("BS reviewed") == "BS reviewed"


# ------------------------------------------------------------------------------------------- polarity


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("ROS: (-) fever, (+) cough", "fever", {"negated"}),
        ("ROS: (-) fever, (+) cough", "cough", set()),
        ("Resp: +wheezing, -cough.", "cough", {"negated"}),
        ("GI: + nausea, no diarrhea", "diarrhea", {"negated"}),
        ("Diabetes: No", "diabetes", {"negated"}),
        ("Asthma: not present", "asthma", {"negated"}),
        ("Asthma: yes, mild", "asthma", set()),
        ("Asthma: see scanned", "asthma", set()),
        ("Asthma: unknown", "asthma", {"asked"}),
        ("Asthma: QRX", "asthma", {"asked"}),
        ("[ ] Asthma [x] Gout", "asthma", {"negated"}),
        ("[ ] Asthma [x] Gout", "gout", set()),
        ("Asthma: [ ] yes [x] no", "asthma", {"negated"}),
        ("Asthma: [x] yes [ ] no", "asthma", set()),
        ("Asthma: No.    Gout: Yes", "gout", set()),
        ("?pneumonia on the left", "pneumonia", {"uncertain"}),
        ("Gout -ve", "gout", {"negated"}),
        ("Nil cough", "cough", {"negated"}),
        ("Pertinent negatives: cough, rash", "rash", {"negated"}),
        ("Ultrasound w/o gallstones", "gallstones", {"negated"}),
        ("Pneumonia could not be excluded", "pneumonia", {"uncertain"}),
        ("Gonorrhea not detected", "gonorrhea", {"negated"}),
        ("Brought in by mother for fever", "fever", set()),
        ("No thrombus on echocardiogram", "echocardiogram", set()),
    ],
)
def test_polarity_of_notation(text, key, expected):
    assert flags(text, key) == expected


def test_bullets_are_no_minus_signs():
    assert flags("- cough\n- fever", "cough") == set()
    assert flags("-cough\n-fever", "cough") == set()


@pytest.mark.parametrize(
    ("value", "polarity"),
    [
        ("No", NEGATED),
        ("denied", NEGATED),
        ("none known", NEGATED),
        ("Yes", AFFIRMED),
        ("rose to 2.4 then fell", AFFIRMED),
        ("former", HISTORICAL),
        ("possible", UNCERTAIN),
        ("not assessed", OPEN),
        ("no relief with rest", OPEN),
        ("xyzzy", OPEN),
    ],
)
def test_polarity_of_field_values(value, polarity):
    assert value_polarity(value) == polarity


# -------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("Her potassium is 5.9.", "lab", [("potassium", "5.9")]),
        ("Her potassium is 5.9.", "age", []),
        ("WBC-9.2 Hgb-11.1", "lab", [("white cell count", "9.2"), ("hemoglobin", "11.1")]),
        ("K 5.9, Na 131, Cr 2.1", "lab", [("potassium", "5.9"), ("sodium", "131"), ("creatinine", "2.1")]),
        ("Troponin <0.01", "lab", [("troponin", "<0.01")]),
        ("INR goal 2-3", "lab", [("inr", "2-3")]),
        ("Lactate 4.2 -> 1.9", "lab", [("lactate", "4.2"), ("lactate", "1.9")]),
        ("Lactate 4.2 -> 1.9", "change", [("lactate", "down 4.2 1.9")]),
        ("Lactate rose from 1.9 to 4.2", "change", [("lactate", "up 1.9 4.2")]),
        ("CRP 18 (down from 96)", "change", [("c-reactive protein", "down 96 18")]),
        ("Cr 2.1 (baseline 1.2)", "change", []),
        ("Weight 82 kg (180 lb)", "vital", [("weight", "82"), ("weight", "81.6")]),
        ("Temp 101.3 F (38.5 C)", "vital", [("temperature", "38.5"), ("temperature", "38.5")]),
        ("Cr 1.2 mg/dL (106 umol/L)", "lab", [("creatinine", "1.2"), ("creatinine", "1.2")]),
        ("HbA1c 7.2% (55 mmol/mol)", "lab", [("hemoglobin a1c", "7.2"), ("hemoglobin a1c", "7.18")]),
        ("EF 30% (2022), 25%", "lab", [("ejection fraction", "30"), ("ejection fraction", "25")]),
        ("Glucose 187 -> 2 units lispro", "lab", [("glucose", "187")]),
        ("INR 2-3 goal, today 1.8", "lab", [("inr", "2-3"), ("inr", "1.8")]),
        ("BP 90/60 -> 120/80", "change", [("blood pressure", "up 90/60 120/80")]),
        ("CEA 12.4 (was 31)", "change", [("cea", "down 31 12.4")]),
        ("1.5 ppd x 20y", "number", [("pack", "1.5"), ("pack year", "30")]),
        ("T 38,5 HR 104", "vital", [("temperature", "38.5"), ("heart rate", "104")]),
        ("Under 20 beds", "number", [("bed", "<20")]),
    ],
)
def test_numbers_are_read_whole(text, kind, expected):
    assert values(text, kind) == expected
