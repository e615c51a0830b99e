"""What summary and note say differently, and where the note says it."""

from __future__ import annotations

import pytest

from fact_checking.checker import check_summary
from fact_checking.claims import CONTRADICTED, UNSUPPORTED, Claim
from fact_checking.explanation import explain

TWO_DRUGS = "Started azithromycin 250 mg every morning and cefuroxime 500 mg every 12 hours."


def contradicted(note: str, summary: str) -> Claim:
    """The only contradicted claim."""
    (claim,) = (claim for claim in check_summary(note, summary).claims if claim.verdict == CONTRADICTED)
    return claim


def test_the_value_of_the_right_drug_is_named_though_the_sentence_has_the_words_of_the_summary() -> None:
    claim = contradicted(TWO_DRUGS, "Azithromycin 250 mg every 12 hours.")
    assert claim.contrast
    assert str(claim.contrast) == "azithromycin: summary every 12 hours; note every morning"
    assert TWO_DRUGS[claim.contrast.start : claim.contrast.end] == "every morning"
    assert claim.evidence == TWO_DRUGS


@pytest.mark.parametrize(
    ("note", "summary", "expected"),
    [
        ("Denies chest pain.", "Has chest pain.", "chest pain: summary stated; note denied"),
        ("Has chest pain.", "No chest pain.", "chest pain: summary denied; note stated"),
        ("Possible pneumonia.", "Pneumonia.", "pneumonia: summary certain; note possible"),
        ("Former smoker.", "Smoker.", "smoking: summary present; note past"),
        ("Mother has diabetes.", "Diabetes.", "diabetes: summary of the patient; note of a relative"),
        ("Father has gout.", "Mother has gout.", "gout: summary mother; note father"),
        ("Cough 3 days. Fever.", "Fever for 3 days.", "fever: summary 3 days (fever); note 3 days (cough)"),
        ("Lisinopril was stopped.", "Lisinopril was started.", "lisinopril: summary started; note stopped"),
        ("Allergic to penicillin.", "No known allergies.", "summary no allergies; note allergy to penicillin"),
        ("Follow up in 2 weeks.", "Follow up in 3 weeks.", "summary 3 weeks; note 2 weeks"),
        ("A man.", "A woman.", "summary woman; note man"),
        ("Lucency above the left condyle.", "Lucency above the right condyle.", "summary right; note left"),
        ("Ketones 0.9. Score of 5.9.", "Ketones 5.9.", "ketones: summary 5.9; note 0.9"),
        ("No filling defect.", "A filling defect.", "defect: summary stated; note denied"),
        ("The lesion was benign.", "The lesion was malignant.", "summary malignant; note benign"),
    ],
)
def test_each_kind_of_contradiction_is_said_in_words_that_differ(note: str, summary: str, expected: str) -> None:
    claim = contradicted(note, summary)
    assert claim.contrast
    assert str(claim.contrast) == expected
    assert claim.evidence
    assert claim.evidence_start is not None
    assert (
        claim.evidence_start <= claim.contrast.start < claim.contrast.end <= claim.evidence_start + len(claim.evidence)
    )


def test_what_the_note_does_not_say_has_no_contrast() -> None:
    claims = [claim for claim in check_summary(TWO_DRUGS, "Takes warfarin.").claims if claim.verdict == UNSUPPORTED]
    assert [claim.contrast for claim in claims] == [None]


def test_the_terminal_says_it_too() -> None:
    summary = "Azithromycin 250 mg every 12 hours."
    printed = explain(TWO_DRUGS, summary, check_summary(TWO_DRUGS, summary), colour=False)
    assert "     azithromycin: summary every 12 hours; note every morning\n" in printed
