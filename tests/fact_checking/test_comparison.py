"""The verdict on one finding, and where a conversation's silence or wording proves nothing."""

import pytest

from clinical.facts import extract_facts
from fact_checking.checker import check_summary
from fact_checking.claims import CONTRADICTED, SUPPORTED, UNSUPPORTED, UNVERIFIABLE
from fact_checking.comparison import NoteFacts, compare


def verdict(note: str, summary: str, fact_type: str) -> tuple[str, str]:
    """(verdict, kind of error) of the one fact of this type in the summary."""
    (fact,) = [fact for fact in extract_facts(summary) if fact.type == fact_type]
    comparison = compare(fact, NoteFacts(extract_facts(note)))
    assert comparison is not None
    return comparison.verdict, comparison.error_type


def spoken(answer: str) -> str:
    return f"Doctor: Go on.\nPatient: {answer}"


@pytest.mark.parametrize(
    ("answer", "summary", "expected"),
    [
        ("My thyroid is off.", "She has hypothyroidism.", UNVERIFIABLE),  # the clinician's conclusion
        ("My knee hurts.", "She has hypothyroidism.", UNSUPPORTED),  # of a part never spoken of
        ("I have pneumonia.", "She has acute bronchitis.", UNSUPPORTED),  # another of the same kind is named
    ],
)
def test_a_condition_that_a_conversation_does_not_name(answer: str, summary: str, expected: str) -> None:
    assert verdict(spoken(answer), summary, "condition") == (expected, "condition")


def test_a_written_note_names_what_it_means() -> None:
    assert verdict("Thyroid is enlarged.", "She has hypothyroidism.", "condition") == (UNSUPPORTED, "condition")


@pytest.mark.parametrize(
    ("note", "summary", "expected"),
    [
        ("She has a migraine.", "Headache.", SUPPORTED),
        ("No heart disease.", "No coronary artery disease.", SUPPORTED),
        ("She has anemia.", "She has iron deficiency anemia.", UNSUPPORTED),
        (spoken("I am anemic."), "She has iron deficiency anemia.", UNVERIFIABLE),
        ("No heart disease.", "She has coronary artery disease.", UNSUPPORTED),
    ],
)
def test_kinds(note: str, summary: str, expected: str) -> None:
    fact_type = "symptom" if summary == "Headache." else "condition"
    assert verdict(note, summary, fact_type)[0] == expected


def test_a_denial_of_all_others() -> None:
    note = "Doctor: Any fever?\nPatient: No.\nDoctor: Anything else?\nPatient: {}"
    assert verdict(note.format("No."), "Denies chills.", "symptom") == (UNVERIFIABLE, "negation")
    assert verdict(note.format("A cough."), "Denies chills.", "symptom") == (UNSUPPORTED, "negation")


def test_certainty_counts_in_writing() -> None:
    summary = "She has gout."
    assert verdict("Suspected gout.", summary, "condition") == (CONTRADICTED, "certainty")
    assert verdict(spoken("Possible gout, they said."), summary, "condition") == (UNVERIFIABLE, "certainty")


def test_whose_it_is() -> None:
    note = spoken("My father has gout.")
    assert verdict(note, "The patient has gout.", "condition") == (CONTRADICTED, "attribution")
    assert verdict(note, "Gout.", "condition") == (UNVERIFIABLE, "attribution")
    assert verdict("Father has gout.", "Gout.", "condition") == (CONTRADICTED, "attribution")


def test_what_has_been_may_be_no_more() -> None:
    note = "Doctor: Do you still have nausea?\nPatient: No."
    assert verdict(note, "She has a history of nausea.", "symptom")[0] == UNVERIFIABLE
    assert verdict(note, "She has nausea.", "symptom") == (CONTRADICTED, "negation")
    assert verdict("Doctor: Any cancer?\nPatient: No.", "History of cancer.", "condition")[0] == CONTRADICTED


def test_habits_and_drugs_given_up() -> None:
    assert verdict(spoken("I quit smoking."), "No smoking.", "condition")[0] == SUPPORTED
    assert verdict(spoken("I do not smoke."), "She has a history of smoking.", "condition")[0] == CONTRADICTED
    assert verdict(spoken("I am not taking Aleve."), "She stopped Aleve.", "drug")[0] == SUPPORTED


def test_pain_near_by() -> None:
    assert verdict(spoken("My hand hurts."), "Thumb pain.", "symptom")[0] == UNVERIFIABLE
    assert verdict("Hand pain.", "Thumb pain.", "symptom")[0] == UNSUPPORTED


def test_age_in_days() -> None:
    assert verdict("A 10-day-old boy.", "A 9-day-old boy.", "age")[0] == CONTRADICTED
    assert verdict("An 8-month-old boy.", "An 8-month-old boy.", "age")[0] == SUPPORTED


def test_a_number_that_is_an_age_is_no_measurement() -> None:
    assert verdict("A 96-year-old man.", "Oxygen saturation 96%.", "vital")[0] == UNSUPPORTED


def test_a_negative_test() -> None:
    assert verdict("Negative pregnancy test.", "No pregnancy.", "condition")[0] == SUPPORTED


@pytest.mark.parametrize(
    ("note", "verdict"),
    [
        ("Seen for wheezing for 2 weeks. She also reports flank pain.", "contradicted"),
        ("Flank pain. Seen for flank pain and wheezing for 2 weeks.", "supported"),
        ("Seen for wheezing for 2 weeks.", "supported"),  # the pain itself is the error
        ("Doctor: How long have you been wheezing?\nPatient: Two weeks. And I have flank pain.", "supported"),
    ],
)
def test_a_time_of_another_finding_is_not_that_of_this_one(note, verdict):
    claims = check_summary(note, "Flank pain for 2 weeks.").claims
    assert [claim.verdict for claim in claims if claim.type == "duration"] == [verdict]
