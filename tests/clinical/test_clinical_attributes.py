"""Attributes of findings, on sentences whose right reading was written down by hand."""

import pytest

from clinical.facts import extract_facts

TYPES = ("severity", "acuity", "stage", "direction", "cause", "order")


def read(text: str) -> list[tuple[str, str, str]]:
    return [(fact.type, fact.key, fact.value) for fact in extract_facts(text) if fact.type in TYPES]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Severe chest pain.", ("severity", "chest pain", "severe")),
        ("The cough is mild.", ("severity", "cough", "mild")),
        ("Chronic dry cough.", ("acuity", "cough", "chronic")),
        ("Intermittent fever.", ("acuity", "fever", "intermittent")),
        ("Stage IV disease.", ("stage", "stage", "4")),
        ("NYHA class 2 symptoms.", ("stage", "class", "2")),
        ("Stage IIIa lung cancer.", ("stage", "stage", "3")),
        ("Elevated TSH.", ("direction", "tsh level", "high")),
        ("His blood sugars were low.", ("direction", "glucose level", "low")),
        ("The cough has improved.", ("direction", "cough trend", "better")),
        ("Her biopsy came back positive.", ("direction", "biopsy result", "positive")),
        ("Anemia due to gastritis.", ("cause", "anemia", "gastritis")),
        ("Admitted because of pneumonia.", ("cause", "", "pneumonia")),
        ("Nausea after meals.", ("order", "meal", "after")),
        ("Stop aspirin prior to the surgery.", ("order", "surgery", "before")),
    ],
)
def test_attributes_are_bound_to_what_they_are_of(text: str, expected: tuple[str, str, str]) -> None:
    assert expected in read(text)


@pytest.mark.parametrize(
    "text",
    [
        "Mild to moderate headache.",  # no one degree
        "Chronic obstructive pulmonary disease.",  # part of a name
        "Negative for fever.",  # a denial, no result of a test
        "Fell at a high school.",
        "Low back pain.",
        "Before that he was well.",
        "Severe weather kept her home.",
        "Stage I or II disease.",
    ],
)
def test_words_that_are_no_attributes(text: str) -> None:
    assert read(text) == []


def test_spans_are_those_of_the_word_alone() -> None:
    text = "She has severe headaches due to sinusitis."
    spans = {fact.type: text[fact.start : fact.end] for fact in extract_facts(text) if fact.type in TYPES}
    assert spans == {"severity": "severe", "cause": "sinusitis"}
