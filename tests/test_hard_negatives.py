"""The edits, on summaries whose right answer was written down by hand, and the proofs that each must pass."""

import random
from collections import Counter

import pytest

from clinical_facts import extract_facts
from demo.clinical_notes import check_summary as exact_errors
from demo.clinical_notes import sample_facts, write_note, write_summary
from hard_negatives import apply, minimal, reason_against, verified_negatives, with_agreement
from negative_editors import EDITORS, Candidate, Case, Detail, Replacement, details_of, without_citations

NOTE = (
    "Patient is a 54-year-old woman with 3 weeks of chest pain. She also reports fatigue. Denies fever or night "
    "sweats. BP 142/88, HR 96 bpm. Labs: hemoglobin 9.1 g/dL. Left knee osteoarthritis was ruled out. "
    "Suspected pulmonary embolism. Mother had gout. Started apixaban 10 mg twice daily and metoprolol 25 mg every "
    "morning. Follow up in 2 weeks."
)


def negatives(chosen: str, category: str, note: str = NOTE, seed: int = 1, count: int = 1) -> list[str]:
    case = Case(note, chosen)
    found = verified_negatives(case, category, random.Random(seed), count, Counter())
    return [negative.rejected for negative in found]


def reason(chosen: str, category: str, old: str, new: str, note: str = NOTE) -> str | None:
    start = chosen.index(old)
    candidate = Candidate((Replacement(start, start + len(old), new),))
    return reason_against(Case(note, chosen), category, candidate)[0]


@pytest.mark.parametrize(
    ("category", "chosen", "possible"),
    [
        ("dose", "Treated with apixaban 10 mg.", {f"Treated with apixaban {n} mg." for n in ("100", "1", "20", "5")}),
        (
            "frequency",
            "Apixaban 10 mg twice daily.",
            {f"Apixaban 10 mg {how}." for how in ("daily", "three times daily", "weekly")},
        ),
        ("laterality", "Left knee osteoarthritis ruled out.", {"Right knee osteoarthritis ruled out."}),
        ("negation", "Denies fever.", {"Reports fever."}),
        ("negation", "Osteoarthritis ruled out.", {"Osteoarthritis confirmed."}),
        ("negation", "The patient has fatigue.", {"The patient does not have fatigue."}),
        ("certainty", "Suspected pulmonary embolism.", {"Confirmed pulmonary embolism."}),
        ("relative", "Mother had gout.", {"Father had gout."}),
        ("sex", "54-year-old woman.", {"54-year-old man."}),
        (
            "sex",
            "She was seen. Her chest pain, a woman of 54, troubles her.",
            {"He was seen. His chest pain, a man of 54, troubles him."},
        ),
    ],
)
def test_what_an_edit_makes(category: str, chosen: str, possible: set[str]) -> None:
    for seed in range(5):
        made = negatives(chosen, category, seed=seed)
        assert len(made) == 1
        assert made[0] in possible


@pytest.mark.parametrize(
    ("category", "chosen"),
    [
        ("vital", "Blood pressure 142/88 mmHg."),
        ("vital", "Heart rate 96 bpm."),
        ("lab", "Hemoglobin 9.1 g/dL."),
        ("duration", "Chest pain for 3 weeks."),
        ("follow_up", "Follow-up in 2 weeks."),
        ("age", "54-year-old woman."),
        ("condition", "Suspected pulmonary embolism."),
        ("symptom", "Reports fatigue."),
        ("drug", "Treated with apixaban 10 mg twice daily."),
    ],
)
def test_the_fact_changes_and_nothing_else(category: str, chosen: str) -> None:
    (rejected,) = negatives(chosen, category)
    before, after = extract_facts(chosen), extract_facts(rejected)
    assert len(before) == len(after)
    changed = [(a.type, b.type) for a, b in zip(before, after, strict=True) if (a.key, a.value) != (b.key, b.value)]
    bound = {"condition": set(), "symptom": set(), "drug": {"drug_status", "dose", "frequency"}}.get(category, set())
    assert {pair[0] for pair in changed} - bound == {category}


def test_the_edit_leads_from_chosen_to_rejected() -> None:
    case = Case(
        NOTE, "54-year-old woman with chest pain. Treated with apixaban 10 mg twice daily. [Evidence: S1; Conf: 0.85]"
    )
    for category in ("dose", "frequency", "symptom", "age"):
        (negative,) = verified_negatives(case, category, random.Random(2), 1, Counter())
        (edit,) = negative.edits
        assert case.chosen[edit.start : edit.end] == edit.old
        assert case.chosen[: edit.start] + edit.new + case.chosen[edit.end :] == negative.rejected
        assert negative.rejected.endswith("[Evidence: S1; Conf: 0.85]")


def test_verdicts() -> None:
    chosen = "54-year-old woman. Suspected pulmonary embolism."
    made = {
        category: verified_negatives(Case(NOTE, chosen), category, random.Random(1), 1, Counter())[0].edits[0].verdict
        for category in ("age", "condition", "certainty")
    }
    assert made == {"age": "contradicted", "condition": "unsupported", "certainty": "contradicted"}


def test_candidates_that_must_be_refused() -> None:
    unsupported_old, supported_new = "the note does not support the old fact", "the note supports the new fact"
    assert reason("Apixaban 5 mg.", "dose", "5", "50") == unsupported_old
    assert reason("Apixaban 10 mg.", "dose", "10 mg", "0.01 g") == "the change is not one that the parser reads"
    assert reason("Apixaban 10 mg.", "dose", "10", "10") == "no change"
    assert reason("Chest pain for 3 weeks.", "duration", "3 weeks", "14 days") == supported_new  # "in 2 weeks"
    assert reason("Denies fever or cough.", "negation", "Denies", "Reports") == "another fact would change"
    assert reason("Reports fever.", "negation", "Reports", "Denies") == unsupported_old
    both = "Left knee pain, then right knee pain."
    assert reason("Left knee pain.", "laterality", "Left", "Right", note=both) == supported_new
    range_note = "Apixaban 5 to 10 mg, later apixaban 20 mg."
    assert reason("Apixaban 20 mg.", "dose", "20", "5", note=range_note) == supported_new


def test_a_restated_value_is_no_negative() -> None:
    """Equal after normalisation: the same dose in grams, the same frequency in hours."""
    assert reason("Metoprolol 25 mg.", "dose", "25 mg", "0.025 g") is not None
    assert reason("Apixaban twice daily.", "frequency", "twice daily", "every 12 hours") is not None


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        ("This is a 54-year-old.", "54", "84", "This is an 84-year-old."),
        ("An 81-year-old.", "81", "71", "A 71-year-old."),
        ("An ulcer.", "ulcer", "stroke", "A stroke."),
        ("A 58-year-old.", "58", "68", "A 68-year-old."),
    ],
)
def test_articles_agree(text: str, old: str, new: str, expected: str) -> None:
    start = text.index(old)
    candidate = with_agreement(text, Candidate((Replacement(start, start + len(old), new),)))
    assert apply(text, candidate) == expected


def test_minimal_leaves_out_what_both_texts_share() -> None:
    candidate = minimal("denies any fever or cough.", Candidate((Replacement(7, 19, "any fever but reports"),)))
    assert candidate.replacements == (Replacement(17, 19, "but reports"),)


def test_lists_of_denied_findings_lose_their_last_item() -> None:
    assert negatives("He denies fever or night sweats.", "negation") == ["He denies fever but reports night sweats."]


def test_a_list_with_findings_the_parser_may_not_know_keeps_its_negation() -> None:
    assert negatives("She has no fever, frobnication or shivers.", "negation") == []


def test_the_end_of_a_scale_is_no_count() -> None:
    assert negatives("Pain 5 out of 10 today.", "count", note="Pain is 5 out of 10 today.") in (
        ["Pain 3 out of 10 today."],
        ["Pain 4 out of 10 today."],
        ["Pain 6 out of 10 today."],
        ["Pain 7 out of 10 today."],
    )


def test_fabricated_detail_is_a_whole_foreign_statement() -> None:
    details = [Detail("another note", "Diagnosed with asthma."), Detail(NOTE, "Has psoriasis.")]
    case = Case(NOTE, "Suspected pulmonary embolism. Denies fever.", details)
    for seed in range(8):
        (negative,) = verified_negatives(case, "fabricated_detail", random.Random(seed), 1, Counter())
        (edit,) = negative.edits
        assert edit.old == ""
        assert edit.new.strip() == "Diagnosed with asthma."
        assert edit.verdict == "unsupported"
        assert edit.start in (0, 30, 43)


def test_a_detail_that_the_note_states_is_refused() -> None:
    case = Case(NOTE, "Denies fever.", [Detail("another note", "Suspected pulmonary embolism.")])
    reasons: Counter[str] = Counter()
    assert verified_negatives(case, "fabricated_detail", random.Random(1), 1, reasons) == []
    assert set(reasons) == {"fabricated_detail: the note supports the new fact"}


def test_details_stand_alone() -> None:
    summary = "Suspected asthma; Denies fever. This improved his cough. He has gout. [Evidence: S1,2; Conf: 0.85]"
    assert [detail.text for detail in details_of("note", summary)] == [
        "Suspected asthma.",
        "Denies fever.",
        "He has gout.",
    ]


def test_citations_are_never_edited() -> None:
    chosen = "54-year-old woman. [Evidence: S1,2; Conf: 0.85]"
    assert without_citations(chosen) == "54-year-old woman." + " " * len(" [Evidence: S1,2; Conf: 0.85]")
    for category in EDITORS:
        for rejected in negatives(chosen, category, count=3):
            assert rejected.endswith(" [Evidence: S1,2; Conf: 0.85]")


def test_every_negative_of_synthetic_notes_is_wrong_by_the_exact_truth() -> None:
    """The truth of these notes is known without this parser: each chosen text has no error, each rejected one."""
    rng = random.Random(5)
    made: Counter[str] = Counter()
    for _ in range(60):
        truth = sample_facts(rng)
        case = Case(write_note(truth, rng), write_summary(truth, rng))
        assert exact_errors(case.chosen, truth).errors == ()
        for category in EDITORS:
            for negative in verified_negatives(case, category, rng, 1, Counter()):
                made[category] += 1
                assert exact_errors(negative.rejected, truth).errors, (case.chosen, negative.rejected)
    assert set(made) >= {"dose", "frequency", "negation", "laterality", "vital", "lab", "duration", "follow_up"}
    assert set(made) >= {"condition", "symptom", "drug", "certainty", "age", "sex"}
    assert min(made[name] for name in ("dose", "frequency", "age", "sex", "duration", "certainty")) >= 50
