"""Which files of lines look like one note in pieces, and which like a list of notes."""

from __future__ import annotations

import pytest

from clinical.note_pieces import sign_of_one_note


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("A 54-year-old woman with chest pain.\n\nDenies fever.\n", "line 2 is blank"),
        ("\n\nA woman with cough.\n \nDenies fever.", "line 4 is blank"),
        ("History of Present Illness:\nA 54-year-old woman has chest pain.\n", "line 1 is a heading"),
        ("A woman with cough.\nPLAN\nReturn in 2 weeks.", "line 2 is a heading"),
        ("HPI: 54F with cough.\nMeds: lisinopril 10 mg.\nPlan: return.", "lines 1 and 2 open with a heading"),
        ("Doctor: What brings you in?\nPatient: I have a cough.", "lines 1 and 2 open with a heading or a speaker"),
        (
            "A 54-year-old woman comes with chest pain for\n3 weeks. She takes apixaban 10 mg twice\ndaily.",
            "line 1 ends in mid-sentence",
        ),
        ("She was given aspirin and\nclopidogrel. She is well.", "line 1 ends in mid-sentence"),
    ],
)
def test_pieces_of_one_note(text: str, sign: str) -> None:
    found = sign_of_one_note(text)
    assert found is not None
    assert found.startswith(sign)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A 54-year-old woman with chest pain.",
        "A 54-year-old woman with chest pain.\nDenies fever, nausea.\nBP 142/88, HR 96 bpm.\n\n",
        "54F with cough for 3 weeks\n61M with gout, on allopurinol\n70F, fall at home, no fracture",
        "pt c/o cough x3d\nhtn f/u, doing well\nsob on exertion, hx of copd",
        "HPI: 54F with cough.\nHPI: 61M with gout.\nHPI: 70F after a fall.",
        "Doctor: Hello. Patient: I have a cough.\nDoctor: Hello. Patient: My knee hurts.",
        # one line of five lacks its full stop, and the next begins in lower case
        "A woman with cough.\nA man with gout\nhe takes allopurinol.\nA fall.\nA fracture.",
    ],
)
def test_lists_of_one_line_notes(text: str) -> None:
    assert sign_of_one_note(text) is None
