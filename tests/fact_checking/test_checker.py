"""Verdicts, exact spans and evidence of the fact checker, on notes like the demo's and on dialogues."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from conftest import ROOT

from evaluation.fact_checker import main, parse_args
from evaluation.metrics import checked_claims
from fact_checking.checker import check_summary, coverage, unsound_claims
from fact_checking.claims import Claim, FactCheck
from fact_checking.explanation import doubtful_claims, explain, explain_doubts, marked
from script_io.errors import InputError

NOTE = (
    "Patient is a 54-year-old woman with 3 weeks of chest pain. She also reports fatigue. Denies fever or night "
    "sweats. BP 142/88, HR 96 bpm, temp 37.4 C. Labs: hemoglobin 9.1 g/dL, TSH of 3.2 mIU/L. Chest x-ray was "
    "performed. Allergic to aspirin. Discontinued warfarin 5 mg once daily. Father had gout. Left knee "
    "osteoarthritis was ruled out. Suspected pulmonary embolism. Started apixaban 10 mg twice daily and metoprolol "
    "25 mg every morning. Follow up in 2 weeks."
)
SUMMARY = (
    "54-year-old woman with chest pain for 3 weeks. Suspected pulmonary embolism; Denies fever. Treated with "
    "apixaban 10 mg twice daily and metoprolol 25 mg every morning; Follow-up in 2 weeks."
)


def errors(summary: str, note: str = NOTE) -> list[tuple[str, str, str]]:
    """(type, verdict, words) of the errors; their words are checked to stand where they say."""
    check = check_summary(note, summary)
    for claim in check.claims:
        assert summary[claim.start : claim.end] == claim.text
    return [(claim.type, claim.verdict, claim.text) for claim in check.errors]


def test_faithful_summary_has_only_supported_claims() -> None:
    check = check_summary(NOTE, SUMMARY)
    assert {claim.verdict for claim in check.claims} == {"supported"}
    assert {claim.type for claim in check.claims} >= {"age", "sex", "duration", "dose", "frequency", "follow_up"}
    assert not check.has_hallucination
    assert check.score == 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("54-year-old", "45-year-old", ("age", "contradicted", "45-year-old")),
        ("woman", "man", ("sex", "contradicted", "man")),
        ("3 weeks", "5 weeks", ("duration", "contradicted", "5 weeks")),
        ("10 mg", "100 mg", ("dose", "contradicted", "100 mg")),
        ("twice daily", "three times daily", ("frequency", "contradicted", "three times daily")),
        ("metoprolol", "carvedilol", ("drug", "unsupported", "carvedilol")),
        ("Suspected pulmonary", "Confirmed pulmonary", ("certainty", "contradicted", "pulmonary embolism")),
        ("Denies fever", "Reports fever", ("negation", "contradicted", "fever")),
        ("pulmonary embolism", "pneumonia", ("condition", "unsupported", "pneumonia")),
        ("in 2 weeks", "in 3 weeks", ("follow_up", "contradicted", "3 weeks")),
        ("with chest pain", "with headache", ("symptom", "unsupported", "headache")),
    ],
)
def test_one_wrong_fact_is_found_by_kind(old: str, new: str, expected: tuple[str, str, str]) -> None:
    assert old in SUMMARY
    assert expected in errors(SUMMARY.replace(old, new))


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("BP 124/88.", ("vital", "contradicted", "BP 124/88")),
        ("Hemoglobin 9.7 g/dL.", ("lab", "contradicted", "Hemoglobin 9.7 g/dL")),
        ("Lactate 2.1 mmol/L.", ("lab", "unsupported", "Lactate 2.1 mmol/L")),
        ("Allergic to lithium.", ("allergy", "unsupported", "lithium")),
        ("Started warfarin.", ("drug_status", "contradicted", "warfarin")),
        ("Patient has gout.", ("attribution", "contradicted", "gout")),
        ("Mother had gout.", ("family_history", "contradicted", "gout")),
        ("Has osteoarthritis.", ("negation", "contradicted", "osteoarthritis")),
        ("Denies chest pain.", ("negation", "contradicted", "chest pain")),
        ("Pulmonary embolism was ruled out.", ("negation", "contradicted", "Pulmonary embolism")),
    ],
)
def test_facts_that_the_note_states_otherwise(summary: str, expected: tuple[str, str, str]) -> None:
    assert expected in errors(summary)


@pytest.mark.parametrize(
    "summary",
    [
        "BP 142/88, heart rate 96.",
        "Apixaban 0.01 g BID.",
        "Metoprolol 25 mg daily.",
        "Warfarin was stopped. Allergy to aspirin. Father had gout.",
        "Chest pain for 21 days; no night sweats.",
    ],
)
def test_other_wording_of_the_same_facts_is_supported(summary: str) -> None:
    assert errors(summary) == []


def test_laterality() -> None:
    note = "Swelling of the left knee after a fall."
    assert errors("Right knee swelling.", note) == [("laterality", "contradicted", "Right")]
    assert errors("Left knee swelling.", note) == []


def test_evidence_is_the_sentence_of_the_note() -> None:
    (claim,) = (c for c in check_summary(NOTE, "Apixaban 5 mg twice daily.").claims if c.type == "dose")
    assert claim.evidence == "Started apixaban 10 mg twice daily and metoprolol 25 mg every morning."
    assert claim.evidence_start == NOTE.index("Started apixaban")
    (unknown,) = check_summary(NOTE, "Has asthma.").errors
    assert (unknown.evidence, unknown.evidence_start) == (None, None)


def test_dialogue_answer_decides() -> None:
    note = "Doctor: Any fever?\nPatient: No.\nDoctor: Any cough?\nPatient: Yes, for two weeks."
    assert errors("Cough for 2 weeks, no fever.", note) == []
    assert errors("Fever and cough.", note) == [("negation", "contradicted", "Fever")]


@pytest.mark.parametrize("summary", ["She has a fever.", "She denies fever.", "Possible fever."])
def test_a_finding_only_asked_about_contradicts_nothing(summary: str) -> None:
    check = check_summary("Doctor: Any fever?\nPatient: Let me think.", summary)
    assert [claim.verdict for claim in check.claims if claim.type == "symptom"] == ["unverifiable"]


@pytest.mark.parametrize("summary", ["He quit smoking.", "He does not smoke.", "Former smoker."])
def test_a_habit_given_up_is_both_had_and_had_no_more(summary: str) -> None:
    assert errors(summary, "Doctor: Do you smoke?\nPatient: I quit smoking years ago.") == []


def test_a_denial_that_the_note_gives_of_relatives_only_is_open() -> None:
    note = "Doctor: Anyone in the family had a stroke?\nPatient: No."
    assert errors("Negative for stroke.", note) == []
    assert errors("She had a stroke.", note) == [("attribution", "contradicted", "stroke")]


@pytest.mark.parametrize(
    ("note", "summary", "wrong"),
    [
        ("Pain of the right foot.", "Right lower extremity pain.", []),  # parts of one limb
        ("The left one hurts, the knee.", "Left knee pain.", []),
        ("Left knee and right knee hurt.", "Bilateral leg pain.", []),
        ("Right ear pain.", "Right knee pain.", []),  # open: another part on the same side
        ("Left knee pain.", "Right knee pain.", [("laterality", "contradicted", "Right")]),
        ("Knee pain.", "Right knee pain.", [("laterality", "unsupported", "Right")]),
    ],
)
def test_sides_of_parts_near_each_other(note: str, summary: str, wrong: list[tuple[str, str, str]]) -> None:
    assert [error for error in errors(summary, note) if error[0] == "laterality"] == wrong


@pytest.mark.parametrize(
    ("note", "summary", "kind"),
    [
        ("I have completed five decades.", "50-year-old.", "age"),
        ("She is fourteen months.", "14-month-old.", "age"),
        ("The doctor saw him in ninety six.", "Seen in 1996.", "date"),
        ("It hurts, eight out of ten.", "Pain 8/10.", "date"),
        ("I smoke a pack a day.", "1 pack of cigarettes.", "number"),
        ("She was in her seventies.", "In her 70s.", "number"),
        ("I take Benicar, twenty daily.", "Benicar 20 mg.", "dose"),
    ],
)
def test_values_said_in_other_ways_are_no_errors(note: str, summary: str, kind: str) -> None:
    assert kind not in [error for error, *_ in errors(summary, note)]


@pytest.mark.parametrize(
    ("summary", "verdicts"),
    [
        ("Severe pneumonia.", ["contradicted"]),
        ("Mild pneumonia.", ["supported"]),
        ("Severe asthma.", []),  # the note does not say how severe: nothing added to what is said of asthma itself
    ],
)
def test_attributes_are_judged_only_where_the_note_has_them(summary: str, verdicts: list[str]) -> None:
    claims = check_summary("Mild pneumonia. Asthma.", summary).claims
    assert [claim.verdict for claim in claims if claim.type == "severity"] == verdicts


def test_an_attribute_that_is_not_judged_stays_a_word_for_review() -> None:
    (claim,) = [claim for claim in check_summary("Asthma.", "Severe asthma.").claims if claim.is_wrong]
    assert (claim.type, claim.level, claim.text) == ("word", "review", "Severe")
    assert coverage("Severe asthma.", "Asthma.") == (1, 1)


def test_unsound_claims_are_all_errors_of_a_note_but_only_sure_ones_of_a_dialogue() -> None:
    note = "Patient is 54-year-old. Denies fever."
    dialogue = "Doctor: How old are you?\nPatient: I'm 54, sir.\nDoctor: Any fever?\nPatient: No."
    summary = "54-year-old with fever for 3 weeks."
    assert [claim.type for claim in unsound_claims(note, summary)] == ["negation", "duration"]
    assert [claim.type for claim in unsound_claims(dialogue, summary)] == ["duration"]
    assert unsound_claims(note, "54-year-old, denies fever.") == ()


def test_citations_and_list_numbers_are_no_claims() -> None:
    cited = "Chest pain. [Evidence: S1,7; Conf: 0.85] Has asthma."
    check = check_summary(NOTE, cited)
    assert [(claim.text, claim.verdict) for claim in check.claims] == [
        ("Chest pain", "supported"),
        ("asthma", "unsupported"),
    ]
    assert cited[check.errors[0].start : check.errors[0].end] == "asthma"
    assert errors("1. Chest pain. 2. Fatigue.") == []


def test_words_that_the_note_lacks_are_for_review_only() -> None:
    check = check_summary(NOTE, "Chest pain after gardening.")
    assert Claim("word", "gardening", 17, 26, "unsupported", "review", None, None) in check.claims
    assert not check.has_hallucination


def test_a_denial_whose_words_the_note_has_elsewhere_is_open() -> None:
    note = "Chest is clear. Sharp pain of the toe."
    (denied,) = check_summary(note, "Denies chest pain.").claims
    assert (denied.type, denied.verdict) == ("negation", "unverifiable")


def test_what_the_note_lacks_is_held_against_the_sentence_that_comes_nearest() -> None:
    (weeks,) = check_summary("I have pain. I have 3 children.", "Pain for 3 weeks.").errors
    assert (weeks.verdict, weeks.evidence) == ("unsupported", "I have 3 children.")
    (pain,) = check_summary("Sharp pain. It is severe.", "Chest pain.").errors
    assert (pain.verdict, pain.evidence, pain.evidence_start) == ("unsupported", "Sharp pain.", 0)
    (gout,) = check_summary("Sharp pain.", "Gout.").errors
    assert (gout.verdict, gout.evidence) == ("unsupported", None)


@pytest.mark.parametrize(
    ("note", "summary", "verdict"),
    [
        ("Doctor: Who is with you?\nPatient: My son. He drives.", "She lives with her son.", "unverifiable"),
        ("Doctor: Any pain, sir?\nPatient: No.", "She has no pain.", "contradicted"),
        ("Doctor: Any pain, ma'am?\nPatient: No.", "She has no pain.", None),
        ("Doctor: How is mom?\nPatient: Good.", "Mother is well. She is at home.", None),  # "she" is the mother
        ("Doctor: Any pain, sir?\nNurse: This lady has.", "She has pain.", None),  # both are told
        ("She has pain.", "She has pain.", None),  # a written note speaks of the patient
        ("Pain.", "He has pain.", "unverifiable"),
    ],
)
def test_a_sex_told_by_pronouns_only_is_held_against_nouns(note: str, summary: str, verdict: str | None) -> None:
    check = check_summary(note, summary)
    assert [claim.verdict for claim in check.claims if claim.type == "sex"] == ([verdict] if verdict else [])
    assert not check.has_hallucination


def test_words_at_the_cut_end_of_a_summary_are_taken_as_begun() -> None:
    note = "Appendix removed at fourteen."
    assert check_summary(note, "Removed append").score == 0
    assert check_summary(note, "Removed append.").score == 0.5


def test_score_is_one_an_error_half_a_word_and_a_quarter_what_is_open() -> None:
    note = "Doctor: Any fever?\nPatient: Let me think. My knee hurts."
    assert check_summary(note, "Carvedilol.").score == 1
    assert check_summary(note, "Gardening.").score == 0.5
    assert check_summary(note, "Fever.").score == 0.25
    assert check_summary(note, "Carvedilol. Gardening, walnuts. She has fever.").score == 1 + 2 * 0.5 + 2 * 0.25
    assert FactCheck((), graded_score=0.3).score == 0.3


def test_score_ranks_by_how_much_is_wrong() -> None:
    summaries = (
        SUMMARY,
        SUMMARY + " Gardening.",
        SUMMARY.replace("10 mg", "100 mg"),
        SUMMARY.replace("10 mg", "100 mg").replace("54-", "45-"),
    )
    scores = [check_summary(NOTE, summary).score for summary in summaries]
    assert scores == sorted(set(scores))


def test_empty_summary_claims_nothing() -> None:
    assert check_summary(NOTE, "").claims == ()
    assert check_summary("", "Has asthma.").has_hallucination


def test_coverage_counts_facts_of_the_reference() -> None:
    """The reference: age, sex, symptom, duration."""
    reference = "54-year-old woman with chest pain for 3 weeks."
    assert coverage(reference, reference) == (4, 4)
    assert coverage(reference, "54-year-old woman with chest pain.") == (3, 4)
    assert coverage(reference, "45-year-old man with chest pain for 3 weeks.") == (2, 4)
    assert coverage("", "Chest pain.") == (0, 0)


def test_command_line_explains_the_check() -> None:
    """Wrong claims first, each with its number in the summary and the numbered sentence of the note."""
    summary = "Gardening. Apixaban 5 mg twice daily."
    command = [sys.executable, "evaluation/fact_checker.py", "--note", NOTE, "--summary", summary]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert run.stdout == (
        "Summary\n"
        "  [2 Gardening]. Apixaban [1 5 mg] twice daily.\n"
        "\n"
        "Errors\n"
        "  1  contradicted  error  dose             5 mg\n"
        "     apixaban: summary 5 mg; note 10 mg\n"
        "     S12: Started apixaban 10 mg twice daily and metoprolol 25 mg every morning.\n"
        "\n"
        "For review\n"
        "  2  unsupported   review word             Gardening\n"
        "     not in the note\n"
        "\n"
        "Supported\n"
        "     supported     error  drug             Apixaban\n"
        "     S12: Started apixaban 10 mg twice daily and metoprolol 25 mg every morning.\n"
        "     supported     error  frequency        twice daily\n"
        "     S12: Started apixaban 10 mg twice daily and metoprolol 25 mg every morning.\n"
        "\n"
        "1 of 3 facts contradicted or unsupported; score 1.50 (higher is worse)\n"
    )


def test_command_line_reads_what_is_piped_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(NOTE))
    assert main(parse_args(["--note", "-", "--summary", "Has asthma."])) == 0
    assert "[1 asthma]" in capsys.readouterr().out
    with pytest.raises(InputError, match="only one of them can be -"):
        main(parse_args(["--note", "-", "--summary", "-"]))


def test_colours_are_for_terminals_only() -> None:
    check = check_summary(NOTE, "Has asthma.")
    assert "[1 asthma]" in explain(NOTE, "Has asthma.", check, colour=False)
    assert "\x1b[1;35m[1 asthma]\x1b[0m" in explain(NOTE, "Has asthma.", check, colour=True)


def test_citations_are_explained_too() -> None:
    summary = "Has fatigue [Evidence: S2; Conf: 0.9]. Has fatigue [Evidence: S7]. [Evidence: S99]"
    shown = explain(NOTE, summary, check_summary(NOTE, summary), colour=False)
    assert "Citations\n     supported      [Evidence: S2; Conf: 0.9]\n     not supported  [Evidence: S7]\n" in shown
    assert "     cites nothing  [Evidence: S99]\n" in shown


def test_claims_left_open_are_counted_apart() -> None:
    """As metrics.checked_claims counts: one wrong of two; the open one and the word to review are not among them."""
    told = [
        *(("contradicted", "error"), ("supported", "error"), ("unverifiable", "error")),
        *(("unsupported", "review"), ("unverifiable", "review")),
    ]
    check = FactCheck(tuple(Claim("dose", "5 mg", 0, 4, verdict, level, None, None) for verdict, level in told), 2.0)
    counted = explain("", "5 mg", check, colour=False).splitlines()[-1]
    assert counted == "1 of 2 facts contradicted or unsupported, 1 open; score 2.00 (higher is worse)"
    assert len(checked_claims(check)) == 2


def test_a_text_cannot_steer_the_terminal() -> None:
    summary = "Has asthma\x1b[2J\x07\u202e.\nNo more."
    shown = explain(NOTE, summary, check_summary(NOTE, summary), colour=False)
    assert shown.startswith("Summary\n  Has [1 asthma]\ufffd[2J\ufffd.\n  No more.\n")


def test_a_fact_said_many_times_is_judged_once_and_shown_each_time() -> None:
    check = check_summary("Fever. " * 3 + "Fever is denied.", "Asthma. Asthma. Fever.")
    assert [(claim.start, claim.verdict) for claim in check.claims] == [
        (0, "unsupported"),
        (8, "unsupported"),
        (16, "supported"),
    ]


def test_empty_text_is_refused() -> None:
    with pytest.raises(InputError, match="--summary: the text is empty"):
        main(parse_args(["--note", NOTE, "--summary", " "]))


def test_in_a_dialogue_a_value_is_wrong_for_sure_only_where_its_number_is_not_said() -> None:
    dialogue = "Doctor: Your hemoglobin, let me see.\nPatient: And?\nDoctor: Eight point two. Take aspirin, not NSAIDs."
    assert unsound_claims(dialogue, "Hemoglobin 8.2.") == ()
    assert [claim.text for claim in unsound_claims(dialogue, "Hemoglobin 9.2.")] == ["Hemoglobin 9.2"]
    assert unsound_claims(dialogue, "Steroids were discussed.") == ()
    assert [claim.text for claim in unsound_claims(dialogue, "Takes metformin.")] == ["metformin"]
    assert [claim.text for claim in unsound_claims(dialogue, "Left knee pain.")] == ["Left"]
    assert unsound_claims(f"{dialogue}\nPatient: My left hip.", "Left knee pain.") == ()


@pytest.mark.parametrize(
    ("note", "summary", "verdict"),
    [
        ("Allergic to penicillin.", "Takes penicillin.", "contradicted"),
        ("Lung exam clear. No cancer.", "Lung cancer.", "unverifiable"),
        ("No chest pain. Abdominal x-ray done.", "Abdominal pain.", "unverifiable"),
        ("Heart rate normal. Denies attack of anxiety.", "Heart attack.", "unverifiable"),
        ("He is 60. He has 2 children.", "60 children.", "contradicted"),
        ("Two packs per day for 20 years.", "20 packs per day.", "contradicted"),
    ],
)
def test_words_and_numbers_from_elsewhere_support_nothing(note: str, summary: str, verdict: str) -> None:
    assert [claim.verdict for claim in check_summary(note, summary).claims if claim.level == "error"] == [verdict]


@pytest.mark.parametrize(
    "summary",
    ["Stable angina [Evidence: S1; started warfarin 50 mg.", "Stable angina [Evidence: S1; and lung cancer]"],
)
def test_what_else_stands_in_a_citation_is_checked(summary: str) -> None:
    assert check_summary("Stable angina.", summary).has_hallucination


@pytest.mark.parametrize(
    "citation", ["[evidence: S1; Conf: 0.9]", "[Evidence: S1, S2–4; conf: .5]", "[Evidence: S1; Conf: 0."]
)
def test_a_citation_is_no_claim(citation: str) -> None:
    assert [claim.text for claim in check_summary("Stable angina.", f"Stable angina {citation}").claims] == [
        "Stable angina"
    ]


def test_differences_are_marked_inside_and_outside_doubtful_words() -> None:
    summary = "Apixaban 10 mg, for  gout."
    check = check_summary("Started apixaban 5 mg.", summary)
    doubtful = doubtful_claims(check)
    differences = [(9, 11), (16, 25)]
    assert [summary[start:end] for start, end in differences] == ["10", "for  gout"]
    assert marked(summary, doubtful, differences, colour=False) == "Apixaban [1 {10} mg], {for}  [2 {gout}]."
    assert marked(summary, [], differences, colour=True) == "Apixaban \x1b[4m10\x1b[0m mg, \x1b[4mfor  gout\x1b[0m."
    assert "\x1b[1;31m[1 \x1b[0m\x1b[1;31;4m10\x1b[0m" in marked(summary, doubtful, differences, colour=True)


def test_the_doubts_are_listed_with_the_numbers_of_the_marks() -> None:
    note, summary = "Started apixaban 5 mg.", "Apixaban 10 mg, for gout."
    check = check_summary(note, summary)
    count, *lines = explain_doubts(note, check, colour=False).splitlines()
    assert count.startswith("2 of 3 facts contradicted or unsupported; score")
    assert [line.split() for line in lines] == [
        ["1", "contradicted", "error", "dose", "10", "mg"],
        ["apixaban:", "summary", "10", "mg;", "note", "5", "mg"],
        ["S1:", "Started", "apixaban", "5", "mg."],
        ["2", "unsupported", "error", "condition", "gout"],
        ["not", "in", "the", "note"],
    ]
