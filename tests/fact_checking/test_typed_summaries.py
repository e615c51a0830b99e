"""Verdicts on summaries of typed notes, and properties that hold whatever the note's layout."""

from __future__ import annotations

import random
import re
import textwrap

import pytest

from clinical.facts import extract_facts
from demo.clinical_notes import sample_facts, write_note
from fact_checking.checker import check_summary

NOTE = """62F w/ h/o HTN, DM2, COPD p/w 3 days of SOB and productive cough. Denies CP, f/c, n/v.
PMH: HTN, DM2, COPD. Ex-smoker.
FAMILY HISTORY: father with colon cancer
ALLERGIES: penicillin (hives)
T 38.1 HR 104 BP 152/88 RR 22 SpO2 91% RA
Labs: K 5.9, Cr 2.1 (baseline 1.2), lactate 4.2 -> 1.9, HIV neg
CXR: RLL infiltrate, no effusion. COMPLICATIONS: none
MEDS: metformin 500 mg BID, lisinopril 10 mg qd, azithromycin 250 mg x4d
Stroke: No
R knee swelling. Lap chole 2019. Discharged home."""

PAIRS = [
    ("She denied chest pain.", "She reported chest pain."),
    ("Oxygen saturation was 91% on room air.", "Oxygen saturation was 97% on room air."),
    ("Potassium was 5.9.", "Potassium was 5.1."),
    ("Creatinine was 2.1.", "Creatinine was 2.7."),
    ("Lactate fell from 4.2 to 1.9.", "Lactate rose from 1.9 to 4.2."),
    ("HIV was negative.", "HIV was positive."),
    ("Her father had colon cancer.", "She has colon cancer."),
    ("She is allergic to penicillin.", "She takes penicillin."),
    ("She takes metformin 500 mg twice daily.", "She takes metformin 500 mg once daily."),
    ("Azithromycin 250 mg for 4 days.", "Azithromycin 250 mg for 14 days."),
    ("She has not had a stroke.", "She has had a stroke."),
    ("There was no pleural effusion.", "There was a pleural effusion."),
    ("There were no complications.", "There were complications."),
    ("The right knee is swollen.", "The left knee is swollen."),
    ("A right lower lobe infiltrate was seen.", "A left lower lobe infiltrate was seen."),
    ("She is a former smoker.", "She currently smokes."),
    ("62-year-old woman with hypertension.", "62-year-old man with hypertension."),
]


@pytest.mark.parametrize(("true", "wrong"), PAIRS)
def test_a_true_sentence_passes_and_its_error_is_found(true, wrong):
    assert check_summary(NOTE, true).errors == ()
    assert check_summary(NOTE, wrong).errors


@pytest.mark.parametrize(
    ("note", "claim"),
    [
        ("Seen in clinic. HST repaired by laser.", "Horseshoe tear was repaired."),
        ("BS reviewed.", "Bowel sounds reviewed."),
        ("Asthma: QRX", "She has asthma."),
    ],
)
def test_what_no_rule_reads_is_open_and_never_supported(note, claim):
    checked = [finding for finding in check_summary(note, claim).claims if finding.level == "error"]
    assert not any(finding.is_wrong for finding in checked)
    assert all(finding.verdict == "unverifiable" for finding in checked if finding.type != "number")


def meanings(text: str) -> list[tuple[object, ...]]:
    return sorted(
        (f.type, f.key, f.value, f.negated, f.uncertain, f.historical, f.family, f.asked) for f in extract_facts(text)
    )


@pytest.mark.parametrize("width", [*range(40, 101, 4)])
def test_wrapping_a_note_leaves_its_facts(width):
    lines = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in NOTE.split("\n"))
    assert meanings("\n".join(line for wrapped in lines for line in wrapped)) == meanings(NOTE)


@pytest.mark.parametrize("width", [50, 72, 90])
def test_wrapping_a_written_note_leaves_its_facts(width):
    rng = random.Random(width)
    for _ in range(40):
        note = write_note(sample_facts(rng), rng)
        assert meanings(textwrap.fill(note, width, break_on_hyphens=False)) == meanings(note)


ITEMS = ["No fever", "Productive cough", "Denies chest pain", "Type 2 diabetes", "Takes metformin 500 mg twice daily"]


def test_bullets_as_lines_and_in_any_order_have_the_same_facts():
    bullets = "\n".join(f"- {item}" for item in ITEMS)
    assert meanings("\n".join(ITEMS)) == meanings(bullets)
    rng = random.Random(1)
    for _ in range(10):
        shuffled = rng.sample(ITEMS, len(ITEMS))
        assert meanings("\n".join(f"- {item}" for item in shuffled)) == meanings(bullets)


def test_case_of_ordinary_words_and_trailing_spaces_change_no_verdict():
    for sentence in [text for pair in PAIRS for text in pair if not text.startswith("HIV")]:
        expected = [(claim.type, claim.verdict) for claim in check_summary(NOTE, sentence).claims]
        for changed in (sentence[0].lower() + sentence[1:], sentence + "   ", sentence.replace("She", "she")):
            assert [(claim.type, claim.verdict) for claim in check_summary(NOTE, changed).claims] == expected


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("true", [true for true, _ in PAIRS if re.search(r"\d", true)])
def test_changing_a_digit_of_a_true_summary_changes_the_verdict(true):
    """Each other digit is tried, unless the note has the new number, which may then be of the same thing."""
    for match in re.finditer(r"\d", true):
        for digit in "0123456789":
            changed = true[: match.start()] + digit + true[match.end() :]
            if digit == match[0] or (_numbers(changed) - _numbers(true)) <= _numbers(NOTE):
                continue
            claims = [c for c in check_summary(NOTE, changed).claims if c.start <= match.start() < c.end]
            assert claims, changed
            assert not all(claim.verdict == "supported" for claim in claims), changed
