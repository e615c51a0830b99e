"""The edits, on summaries whose right answer was written down by hand, and the proofs that each must pass."""

import random
from collections import Counter

import pytest

from clinical.facts import extract_facts
from clinical.lexicons import reference_ranges, sound_alikes
from demo.clinical_notes import check_summary as exact_errors
from demo.clinical_notes import sample_facts, write_note, write_summary
from fact_checking.claims import without_citations
from negatives.case import Candidate, Case, Corpus, Detail, Replacement, details_of
from negatives.registry import EDITORS
from negatives.verification import apply, minimal, reason_against, verified_negatives, with_agreement

NOTE = (
    "Patient is a 54-year-old woman with 3 weeks of chest pain. She also reports fatigue. Denies fever or night "
    "sweats. BP 142/88, HR 96 bpm. Labs: hemoglobin 9.1 g/dL. Left knee osteoarthritis was ruled out. "
    "Suspected pulmonary embolism. Mother had gout. Started apixaban 10 mg twice daily and metoprolol 25 mg every "
    "morning. Severe headache. Chronic cough. Her cough has improved. Elevated TSH. Stage II cancer. Nausea "
    "after meals. Anemia due to gastritis. Has pneumonia. Left knee pain. Lisinopril was discontinued. Colonoscopy "
    "is planned. Culture grew Staphylococcus aureus. Allergic to codeine. Takes hydralazine and oral prednisone. "
    "Follow up in 2 weeks."
)


JOINTS = (" but", " and", ";")
ROUTES = ("Intravenous", "Topical", "Intramuscular", "Subcutaneous", "Inhaled", "Rectal", "Nasal", "Sublingual")


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
        ("dose", "Treated with apixaban 10 mg.", {f"Treated with apixaban {n} mg." for n in ("100", "1")}),
        ("unit", "Treated with apixaban 10 mg.", {f"Treated with apixaban 10 {u}." for u in ("mcg", "g")}),
        (
            "frequency",
            "Apixaban 10 mg twice daily.",
            {f"Apixaban 10 mg {how}." for how in ("daily", "three times daily", "four times daily", "weekly")}
            | {f"Apixaban 10 mg {how}." for how in ("every other day", "as needed")},
        ),
        ("entity_merge", "Apixaban 10 mg.", {"Apixaban 25 mg."}),
        ("entity_merge", "Metoprolol 25 mg.", {"Metoprolol 10 mg."}),
        ("route", "Oral prednisone.", {f"{how} prednisone." for how in ROUTES}),
        ("laterality", "Left knee pain.", {"Right knee pain."}),
        ("direction", "Elevated TSH.", {"Low TSH."}),
        ("direction", "Her cough has improved.", {"Her cough has worsened."}),
        ("severity", "Severe headache.", {"Mild headache.", "Moderate headache."}),
        ("severity", "Chronic cough.", {"Acute cough."}),
        ("severity", "Stage II disease.", {f"Stage {n} disease." for n in ("I", "III", "IV")}),
        ("order", "Nausea after meals.", {"Nausea before meals."}),
        ("cause", "Anemia due to gastritis.", {"Anemia due to pneumonia.", "Anemia due to cancer."}),
        ("status", "Lisinopril was discontinued.", {"Lisinopril was started.", "Lisinopril was continued."}),
        ("status", "Colonoscopy is planned.", {"Colonoscopy was done.", "Colonoscopy was performed."}),
        ("subject", "Mother had gout.", {"The patient had gout."}),
        ("subject", "She has pneumonia.", {"Her father has pneumonia.", "Her brother has pneumonia."}),
        ("negation", "Denies fever.", {"Reports fever.", "Endorses fever."}),
        ("negation", "Osteoarthritis ruled out.", {"Osteoarthritis confirmed."}),
        ("negation", "The patient has fatigue.", {"The patient does not have fatigue.", "The patient has no fatigue."}),
        (
            "negation",
            "No fever or night sweats.",
            {
                f"{turned} night sweats."
                for turned in ("No fever but has", "No fever and has", "Fever but no", "Fever and no")
            },
        ),
        (
            "negation",
            "Reports fatigue and cough.",
            {
                f"{first} fatigue{joint} {last} cough."
                for first, last in (("Reports", "denies"), ("Denies", "reports"))
                for joint in JOINTS
            },
        ),
        (
            "certainty",
            "Suspected pulmonary embolism.",
            {f"{word}ulmonary embolism." for word in ("Confirmed p", "Known p", "P")},
        ),
        ("relative", "Mother had gout.", {"Father had gout.", "Sister had gout."}),
        ("sound_alike", "Takes hydralazine.", {f"Takes {name}." for name in sound_alikes()["hydralazine"]}),
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
        ("organism", "Culture grew Staphylococcus aureus."),
        ("allergy", "Allergic to codeine."),
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


def test_either_item_of_two_denied_findings_is_turned() -> None:
    made = {text for seed in range(30) for text in negatives("He denies fever or night sweats.", "negation", seed=seed)}
    assert made == {
        f"He {first} fever{joint} {last} night sweats."
        for first, last in (("reports", "denies"), ("denies", "reports"))
        for joint in JOINTS
    }


def test_a_list_with_findings_the_parser_may_not_know_keeps_its_negation() -> None:
    assert negatives("She has no fever, frobnication or shivers.", "negation") == []


def test_a_score_stays_on_its_scale_and_the_scale_as_it_is() -> None:
    for seed in range(8):
        (made,) = negatives("Pain 5 out of 10 today.", "count", note="Pain is 5 out of 10 today.", seed=seed)
        assert made in {f"Pain {score} out of 10 today." for score in (2, 3, 4, 6, 7, 8, 9)}
        (made,) = negatives("Positive in 2 of 3 tests.", "count", note="Positive in 2 of 3 tests.", seed=seed) or [""]
        assert made in ("Positive in 3 of 3 tests.", "")


def test_fabricated_detail_is_a_whole_foreign_statement() -> None:
    details = [Detail("another note", "Diagnosed with asthma."), Detail(NOTE, "Has psoriasis.")]
    case = Case(NOTE, "Now with suspected pulmonary embolism. Today she denies fever.", Corpus(tuple(details)))
    for seed in range(8):
        (negative,) = verified_negatives(case, "fabricated_detail", random.Random(seed), 1, Counter())
        (edit,) = negative.edits
        assert edit.old in ("", "Now with suspected pulmonary embolism.", "Today she denies fever.")
        assert edit.new.strip() == "Diagnosed with asthma."
        assert edit.verdict == "unsupported"
        assert edit.start in (0, 39, 62)


def test_a_detail_that_the_note_states_is_refused() -> None:
    corpus = Corpus((Detail("another note", "Suspected pulmonary embolism."),))
    case = Case(NOTE, "At present she denies fever.", corpus)
    reasons: Counter[str] = Counter()
    assert verified_negatives(case, "fabricated_detail", random.Random(1), 1, reasons) == []
    assert set(reasons) == {"fabricated_detail: the note supports the new fact"}


def test_details_stand_alone() -> None:
    summary = (
        "Suspected asthma; Denies fever. This improved his cough. He has gout at present. [Evidence: S1,2; Conf: 0.85]"
    )
    assert [detail.text for detail in details_of("note", summary)] == ["Suspected asthma.", "He has gout at present."]


def test_details_go_beside_sentences_of_their_own_style() -> None:
    case = Case(NOTE, "She has pneumonia today. Pneumonia since yesterday.", Corpus((Detail("n", "He has asthma."),)))
    found = verified_negatives(case, "fabricated_detail", random.Random(1), 6, Counter())
    assert {negative.rejected for negative in found} == {
        "He has asthma. She has pneumonia today. Pneumonia since yesterday."
    }


def test_details_go_between_sentences_of_prose_only() -> None:
    chosen = "ASSESSMENT:\nTreated for pneumonia today.\n1. Gout."
    case = Case(NOTE, chosen, Corpus((Detail("another note", "Diagnosed with asthma."),)))
    found = verified_negatives(case, "fabricated_detail", random.Random(1), 4, Counter())
    assert {negative.rejected for negative in found} == {
        "ASSESSMENT:\nDiagnosed with asthma. Treated for pneumonia today.\n1. Gout.",
        "ASSESSMENT:\nTreated for pneumonia today. Diagnosed with asthma.\n1. Gout.",
    }


def test_replacements_are_drawn_as_often_as_the_corpus_uses_them() -> None:
    """One and three uses: the second comes first in 75% (standard error 1.9 points); what is not used comes last."""
    corpus = Corpus((), {"drug": Counter({"a": 1, "b": 3})})
    orders = [list(corpus.in_proportion("drug", ["a", "b", "c"], random.Random(seed))) for seed in range(500)]
    assert 0.68 < sum(order[0] == "b" for order in orders) / 500 < 0.82
    assert {order[2] for order in orders} == {"c"}


@pytest.mark.parametrize(
    ("category", "chosen", "name", "value"),
    [("vital", "Heart rate 96 bpm.", "heart rate", 96), ("lab", "Hemoglobin 9.1 g/dL.", "hemoglobin", 9.1)],
)
def test_values_cross_a_limit_of_the_reference_range(category: str, chosen: str, name: str, value: float) -> None:
    limits = reference_ranges()[name]
    was_normal = limits.low <= value <= limits.high
    for seed in range(10):
        (rejected,) = negatives(chosen, category, seed=seed)
        (fact,) = [fact for fact in extract_facts(rejected) if fact.type == category]
        assert (limits.low <= float(fact.value) <= limits.high) != was_normal


@pytest.mark.parametrize(
    ("chosen", "possible"),
    [
        ("Denies fever, night sweats, or gout.", "Reports fever but denies night sweats or gout."),
        ("Denies nausea, fever, or night sweats.", "Denies nausea or fever but reports night sweats."),
        ("No fever, night sweats, or gout.", "Fever but no night sweats or gout."),
        ("There is no fever or night sweats.", "There is fever but no night sweats."),
        ("Negative for fever, night sweats.", "Positive for fever but negative for night sweats."),
        ("Presents with fatigue and cough.", "Presents with fatigue but no cough."),
        ("Denied fever/night sweats.", "Reported fever but denied night sweats."),
        ("No history of fever or night sweats.", "History of fever but no history of night sweats."),
        ("Fatigue and cough.", "Fatigue but no cough."),
        ("Fatigue.", "No fatigue."),
    ],
)
def test_one_item_of_a_list_is_turned(chosen: str, possible: str) -> None:
    note = f"{NOTE} No nausea. No gout. The patient herself denies gout."
    assert possible in {made for seed in range(30) for made in negatives(chosen, "negation", note=note, seed=seed)}


def test_pronouns_that_follow_stay_the_patients() -> None:
    """The relative is of the other sex, so that the "she" of the next sentence is nobody else."""
    for seed in range(6):
        for made in negatives("She has pneumonia. She reports fatigue.", "subject", seed=seed):
            assert made.startswith(("Her father", "Her brother"))


def test_no_known_allergies_becomes_an_allergy() -> None:
    note = "Any allergies? No known drug allergies."
    for made in negatives("He has no known drug allergies.", "allergy", note=note, count=3):
        assert made.startswith("He has an allergy to ")
    assert negatives("There are no known allergies.", "allergy", note=note) == []


def test_one_action_takes_the_place_of_another_of_another_kind() -> None:
    for seed in range(5):
        (made,) = negatives("Colonoscopy is planned.", "management", seed=seed)
        assert made.endswith(" is started.")
        (drug,) = [fact for fact in extract_facts(made) if fact.type == "drug"]
        assert drug.text == made.removesuffix(" is started.")


def test_what_was_found_shows_that_it_was_done() -> None:
    note = "Colonoscopy was performed and showed polyps."
    assert negatives("Colonoscopy was performed and showed polyps.", "status", note=note) == []


def test_citations_are_never_edited() -> None:
    chosen = "54-year-old woman. [Evidence: S1,2; Conf: 0.85]"
    assert without_citations(chosen) == "54-year-old woman." + " " * len(" [Evidence: S1,2; Conf: 0.85]")
    for category in EDITORS:
        for rejected in negatives(chosen, category, count=3):
            assert rejected.endswith(" [Evidence: S1,2; Conf: 0.85]")


def test_a_claim_in_the_brackets_of_a_citation_is_read_as_text() -> None:
    case = Case(NOTE, "Denies fever [Evidence: S2; has pneumonia]. Has asthma [Evidence: S1; Co")
    assert [fact.key for fact in case.facts] == ["fever", "pneumonia", "asthma"]
    assert case.text.endswith("asthma" + " " * len(" [Evidence: S1; Co"))


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
    assert min(made[name] for name in ("dose", "frequency", "age", "sex", "duration", "certainty")) >= 40
