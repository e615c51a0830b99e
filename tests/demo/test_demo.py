"""The demo's truth: summaries and their errors, splits, shipped data, and the tiny base model and its structured start.

Were the truth wrong, every figure of the demo would be. So it is held against verdicts written by hand, and against
thousands of random patients.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.torture_runs import differences
from demo import build_base_model, make_phase1_data
from demo.cases import (
    MIN_NOTE_WORDS,
    NOTES,
    OVERSTATED_SHARE,
    ROUTINE_FOLLOW_UP,
    ROUTINE_SHARE,
    SLIP_SHARE,
    DemoCase,
    facts_by_note,
    make_cases,
)
from demo.clinical_notes import (
    CONDITIONS,
    SIDES,
    ExactVerdict,
    Facts,
    LabResult,
    Medication,
    check_summary,
    evidence_citation,
    note_sentences,
    parse_statements,
    sample_facts,
    split_of,
    summary_and_kinds,
    with_one_wrong_fact,
    write_note,
    write_summary,
)
from demo.exact_truth import all_facts, exact_figures
from demo.pretraining_text import sample_document
from evaluation.stats import wilson_interval
from language_model.model_files import DEMO_BASE
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import InputError

PATIENTS = 2000
MOST_NOTE_WORDS = 120
LOOK_BACK_HEADS = 3

FACTS = Facts(
    age=54,
    sex="woman",
    symptom="chest pain",
    duration="3 weeks",
    second_symptom="cough",
    denied=("fever", "nausea"),
    blood_pressure=(142, 88),
    heart_rate=96,
    temperature="38.2",
    oxygen_saturation=93,
    labs=(LabResult("potassium", "4.1", "mmol/L"),),
    procedure=("CT scan", "planned"),
    allergy="ibuprofen",
    stopped=Medication("aspirin", "81", "mg", "once daily"),
    started=(Medication("apixaban", "10", "mg", "twice daily"), Medication("digoxin", "2.5", "mcg", "weekly")),
    diagnosis="left leg deep vein thrombosis",
    certainty="suspected",
    ruled_out="pneumonia",
    follow_up="2 weeks",
    family_history=("mother", "stroke"),
)
SUMMARY = (
    "54-year-old woman with chest pain for 3 weeks. Suspected left leg deep vein thrombosis; Potassium 4.1 mmol/L. "
    "Started on apixaban 10 mg twice daily and digoxin 2.5 mcg weekly; Follow-up in 2 weeks."
)


@pytest.fixture(scope="module")
def cases() -> dict[str, list[DemoCase]]:
    return {split: make_cases(split) for split in NOTES}


# -------------------------------------------------------------------------------------- verdicts by hand

TRUE_STATEMENTS = """54-year-old woman presenting with 3 weeks of chest pain
Also reports cough
Symptoms include chest pain
Denies nausea
Without fever
Likely left leg deep vein thrombosis
Pneumonia ruled out
Treated with digoxin 2.5 mcg weekly
Aspirin discontinued
Allergic to ibuprofen
Blood pressure 142/88 mmHg
Heart rate 96 bpm
Temperature 38.2 C
Oxygen saturation 93%
CT scan planned
Family history of stroke in mother""".split("\n")

FALSE_STATEMENTS = {
    "55-year-old woman with chest pain for 3 weeks": ("age",),
    "54-year-old man with chest pain for 3 weeks": ("sex",),
    "54-year-old woman with chest pain for 3 days": ("duration",),
    "54-year-old woman with chest pain for 13 weeks": ("duration",),
    "54-year-old woman with rash for 3 weeks": ("symptom",),
    "54-year-old woman with cough for 3 weeks": ("symptom",),  # hers, but not the one of three weeks
    "54-year-old woman with fever for 3 weeks": ("negation",),
    "45-year-old man with nausea for 2 weeks": ("age", "sex", "duration", "negation"),
    "Also reports rash": ("symptom",),
    "Also reports fever": ("negation",),
    "Denies rash": ("symptom",),
    "Denies cough": ("negation",),
    "Without chest pain": ("negation",),
    "Confirmed left leg deep vein thrombosis": ("certainty",),
    "Suspected right leg deep vein thrombosis": ("laterality",),
    "Diagnosed with right leg deep vein thrombosis": ("laterality",),
    "Suspected left kidney stone": ("condition",),
    "Suspected pneumonia": ("condition",),
    "Confirmed gout": ("condition",),
    "Left leg deep vein thrombosis ruled out": ("condition",),
    "Started on apixaban 100 mg twice daily": ("dose",),
    "Started on apixaban 10 mcg twice daily": ("dose",),
    "Started on apixaban 10 mg weekly": ("frequency",),
    "Started on apixaban 1 mg every 6 hours": ("dose", "frequency"),
    "Started on warfarin 10 mg twice daily": ("drug",),
    "Treated with apixaban 10 mg twice daily and aspirin 81 mg once daily": ("drug",),
    "Treated with apixaban 10 mg weekly and digoxin 25 mcg weekly": ("frequency", "dose"),
    "Apixaban discontinued": ("stopped",),
    "Allergic to aspirin": ("allergy",),
    "Blood pressure 88/142 mmHg": ("blood_pressure",),
    "Heart rate 69 bpm": ("heart_rate",),
    "Temperature 38.3 C": ("temperature",),
    "Oxygen saturation 39%": ("oxygen_saturation",),
    "Sodium 4.1 mmol/L": ("lab",),
    "Potassium 4.2 mmol/L": ("lab",),
    "Potassium 4.1 mg/dL": ("lab",),
    "CT scan performed": ("procedure",),
    "MRI planned": ("procedure",),
    "Follow-up in 2 months": ("follow_up",),
    "Family history of stroke in father": ("family_history",),
    "Family history of gout in mother": ("family_history",),
    "Feels unwell": ("unparsed",),
    "Suspected left leg deep vein thrombosis and gout": ("unparsed",),
    "Denies fever or nausea": ("unparsed",),
}


def test_the_true_summary_tells_every_key_fact() -> None:
    # age, sex, symptom, duration, diagnosis, certainty, two drugs, follow-up
    assert check_summary(SUMMARY, FACTS) == ExactVerdict((), statements=5, supported=5, key_facts_told=9, key_facts=9)


@pytest.mark.parametrize("statement", TRUE_STATEMENTS)
def test_true_statements(statement: str) -> None:
    verdict = check_summary(f"{statement}.", FACTS)
    assert (verdict.errors, verdict.statements, verdict.supported) == ((), 1, 1)


@pytest.mark.parametrize(("statement", "errors"), FALSE_STATEMENTS.items(), ids=FALSE_STATEMENTS)
def test_false_statements(statement: str, errors: tuple[str, ...]) -> None:
    verdict = check_summary(f"{statement}.", FACTS)
    assert (verdict.errors, verdict.statements, verdict.supported) == (errors, 1, 0)


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("stopped", "Aspirin discontinued."),
        ("allergy", "Allergic to ibuprofen."),
        ("procedure", "CT scan planned."),
        ("follow_up", "Follow-up in 2 weeks."),
        ("family_history", "Family history of stroke in mother."),
        ("temperature", "Temperature 38.2 C."),
        ("oxygen_saturation", "Oxygen saturation 93%."),
    ],
)
def test_what_the_note_is_silent_on_is_an_error(kind: str, statement: str) -> None:
    silent = replace(FACTS, **{kind: None})  # type: ignore[arg-type]
    assert check_summary(statement, silent).errors == (kind,)
    assert check_summary("Gout ruled out.", replace(FACTS, ruled_out=None)).errors == ("condition",)
    assert check_summary("Potassium 4.1 mmol/L.", replace(FACTS, labs=())).errors == ("lab",)


def test_an_empty_summary_has_no_error_and_tells_nothing() -> None:
    for summary in ("", "  \n", " [Evidence: S1; Conf: 0.90]"):
        assert check_summary(summary, FACTS) == ExactVerdict((), 0, 0, key_facts_told=0, key_facts=9)


def test_a_citation_and_repetition_change_no_verdict() -> None:
    cited = check_summary(f"{SUMMARY} [Evidence: S1,2,5; Conf: 0.93]", FACTS)
    assert cited == check_summary(SUMMARY, FACTS)
    twice = check_summary(f"{SUMMARY} {SUMMARY}", FACTS)
    assert (twice.statements, twice.key_facts_told) == (10, 9)  # saying it again tells nothing new


def test_a_citation_cut_short_changes_no_verdict_and_a_claim_in_brackets_is_checked() -> None:
    assert check_summary(f"{SUMMARY} [Evidence: S1,2; Co", FACTS) == check_summary(SUMMARY, FACTS)
    assert check_summary(f"{SUMMARY} [Evidence: S1; has gout]", FACTS).errors == ("unparsed", "unparsed")


def test_a_wrong_statement_tells_only_what_is_right_in_it() -> None:
    assert check_summary("55-year-old woman with chest pain for 3 days.", FACTS).key_facts_told == 2  # sex, symptom
    assert check_summary("Confirmed left leg deep vein thrombosis.", FACTS).key_facts_told == 1  # not the certainty
    assert check_summary("Treated with apixaban 100 mg twice daily.", FACTS).key_facts_told == 0
    assert check_summary("Pneumonia ruled out.", FACTS).key_facts_told == 0  # true, and no key fact


# ------------------------------------------------------------------------------------ random patients


def patients(seed: int, count: int = PATIENTS) -> list[tuple[Facts, random.Random]]:
    """Patients, each with random numbers of its own."""
    rngs = [random.Random(f"{seed}-{number}") for number in range(count)]
    return [(sample_facts(rng), rng) for rng in rngs]


def test_every_true_summary_parses_is_supported_and_tells_all_key_facts() -> None:
    for facts, rng in patients(1):
        summary = write_summary(facts, rng)
        verdict = check_summary(summary, facts)
        assert verdict.errors == (), summary
        assert verdict.statements == verdict.supported == 4 + (facts.follow_up is not None)
        assert verdict.key_facts_told == verdict.key_facts == 6 + len(facts.started) + (facts.follow_up is not None)


# What the checker calls each type; a wrong main symptom is one that the patient denies.
NAMED_BY_CHECKER = {"symptom": "negation", "fabricated_detail": "follow_up"}


def test_a_wrong_summary_has_exactly_the_error_it_is_said_to_have() -> None:
    seen = set()
    for facts, rng in patients(2, 2 * PATIENTS):
        wrong, kind = with_one_wrong_fact(facts, rng)
        wording = rng.getrandbits(32)
        true_summary, wrong_summary = (write_summary(f, random.Random(wording)) for f in (facts, wrong))
        assert check_summary(wrong_summary, facts).errors == (NAMED_BY_CHECKER.get(kind, kind),), wrong_summary
        if kind != "certainty":  # which is told in other words altogether; see below
            assert wrong_summary == with_that_fact_alone_changed(true_summary, facts, wrong, kind)
        seen.add(kind)
    assert seen == {
        *("age", "sex", "symptom", "duration", "condition", "certainty", "dose", "frequency", "drug"),
        *("laterality", "fabricated_detail"),
    }


def with_that_fact_alone_changed(summary: str, facts: Facts, wrong: Facts, kind: str) -> str:
    """The summary with the old words of one fact replaced by the new ones, where they first stand."""
    if kind == "fabricated_detail":
        return f"{summary[:-1]}; Follow-up in {wrong.follow_up}."
    old, new = (
        {
            "age": f"{each.age}-year-old",
            "sex": f"-year-old {each.sex} ",
            "symptom": each.symptom,
            "duration": each.duration,
            "condition": each.diagnosis,
            "laterality": each.diagnosis,
            "dose": str(each.started[0]),
            "frequency": str(each.started[0]),
            "drug": str(each.started[0]),
        }[kind]
        for each in (facts, wrong)
    )
    assert old in summary
    return summary.replace(old, new, 1)


def test_a_wrong_certainty_changes_one_statement_to_its_opposite() -> None:
    for facts, rng in patients(8, 300):
        wrong = replace(facts, certainty={"confirmed": "suspected", "suspected": "confirmed"}[facts.certainty])
        wording = rng.getrandbits(32)
        told, wrongly_told = (parse_statements(write_summary(f, random.Random(wording))) for f in (facts, wrong))
        assert (told[1][0], wrongly_told[1][0]) == (facts.certainty, wrong.certainty)
        assert told[1][1] == wrongly_told[1][1] == {"condition": facts.diagnosis.lower()}
        assert told[:1] + told[2:] == wrongly_told[:1] + wrongly_told[2:]


def test_notes_tell_their_facts_within_the_stated_length() -> None:
    for facts, rng in patients(3):
        note = write_note(facts, rng)
        assert len(note.split()) <= MOST_NOTE_WORDS
        told = [str(facts.age), facts.sex, facts.symptom, facts.duration, *facts.denied, facts.diagnosis]
        told += [*map(str, facts.started), "{}/{}".format(*facts.blood_pressure), str(facts.heart_rate)]
        optional = (facts.second_symptom, facts.allergy, facts.ruled_out, facts.follow_up, facts.temperature)
        told += [value for value in optional if value]
        told += [f"{lab.value} {lab.unit}" for lab in facts.labs]
        missing = [value for value in told if value.lower() not in note.lower()]
        assert not missing, note


def test_a_citation_names_the_sentences_that_state_the_summary() -> None:
    for facts, rng in patients(4):
        written = note_sentences(facts, rng)
        summary, kinds = summary_and_kinds(facts, rng)
        citation = evidence_citation(written, kinds, rng)
        found = re.fullmatch(r" \[Evidence: S(\d+(?:,\d+)*); Conf: 0\.(?:[89]\d)\]", citation)
        assert found, citation
        numbers = [int(number) for number in found[1].split(",")]
        assert numbers == sorted(set(numbers))
        texts = [written[number - 1][0].lower() for number in numbers]
        values = stated_values(summary)
        assert [value for value in values if value not in " ".join(texts)] == [], (summary, texts)
        assert [text for text in texts if not any(value in text for value in values)] == [], (summary, texts)


def stated_values(summary: str) -> list[str]:
    """What the statements of a summary say, in the words in which a note says it."""
    values = []
    for kind, slots in parse_statements(summary):
        if kind == "started":
            values += re.split(r" and (?=\w+ \d)", slots["medications"])
        elif kind == "blood_pressure":
            values.append(f"{slots['systolic']}/{slots['diastolic']}")
        else:
            values += [value for slot, value in slots.items() if slot != "status"]
    return values


def test_sentence_numbers_are_those_that_a_reader_counts() -> None:
    for facts, rng in patients(5, 300):
        written = [text for text, _ in note_sentences(facts, rng)]
        assert re.split(r"(?<=\.) ", " ".join(written)) == written


# ---------------------------------------------------------------------------------- splits and files


def test_splits_have_the_promised_sizes_and_share_nothing(cases: dict[str, list[DemoCase]]) -> None:
    assert {split: len(found) for split, found in cases.items()} == {"train": 2000, "validation": 200, "test": 400}
    notes = {split: {case.note for case in found} for split, found in cases.items()}
    triples = {
        split: {(case.facts.age, case.facts.symptom, case.facts.diagnosis) for case in found}
        for split, found in cases.items()
    }
    for split, found in cases.items():
        assert len(notes[split]) == len(found)
        assert len({case.id for case in found}) == len(found)
        assert {split_of(case.facts) for case in found} == {split}
        for other in set(cases) - {split}:
            assert not notes[split] & notes[other]
            assert not triples[split] & triples[other]


def test_shipped_notes_are_of_the_stated_length_and_their_summaries_of_the_stated_truth(
    cases: dict[str, list[DemoCase]],
) -> None:
    for case in (case for found in cases.values() for case in found):
        assert MIN_NOTE_WORDS <= len(case.note.split()) <= MOST_NOTE_WORDS
        verdict = check_summary(case.summary + case.citation, case.facts)
        assert (verdict.errors, verdict.key_facts_told) == ((), verdict.key_facts)
        if case.wrong_summary and case.wrong_type:
            expected = NAMED_BY_CHECKER.get(case.wrong_type, case.wrong_type)
            assert check_summary(case.wrong_summary, case.facts).errors == (expected,)


def test_references_are_true_in_the_test_split_and_have_the_stated_habits_in_the_others(
    cases: dict[str, list[DemoCase]],
) -> None:
    assert all(case.reference == case.summary for case in cases["test"])
    train = cases["train"]
    silent = [case for case in train if case.facts.follow_up is None]
    routine = [case for case in silent if case.reference.endswith(f"; Follow-up in {ROUTINE_FOLLOW_UP}.")]
    assert len(routine) / len(silent) == pytest.approx(ROUTINE_SHARE, abs=0.05)
    suspected = [case for case in train if case.facts.certainty == "suspected"]
    overstated = [case for case in suspected if "certainty" in check_summary(case.reference, case.facts).errors]
    assert len(overstated) / len(suspected) == pytest.approx(OVERSTATED_SHARE, abs=0.04)
    slips = [
        case for case in train if set(check_summary(case.reference, case.facts).errors) - {"follow_up", "certainty"}
    ]  # but for those slips that look like one of the habits
    assert len(slips) / len(train) == pytest.approx(SLIP_SHARE, abs=0.015)


def test_a_hallucinated_summary_is_not_told_from_its_factual_twin_by_the_citation(
    cases: dict[str, list[DemoCase]],
) -> None:
    paired = [list(make_phase1_data.rows(case)) for case in cases["train"] if case.wrong_summary]
    assert any("[Evidence:" in factual["model_summary"] for factual, _ in paired)
    for factual, wrong in paired:
        assert (
            factual["model_summary"].partition(" [Evidence:")[2] == wrong["model_summary"].partition(" [Evidence:")[2]
        )
        assert (wrong["label"], wrong["clinical_note"]) == ("hallucinated", factual["clinical_note"])


def test_shares_of_cited_and_hallucinated_summaries(cases: dict[str, list[DemoCase]]) -> None:
    train = cases["train"]
    assert sum(bool(case.citation) for case in train) / len(train) == pytest.approx(0.1, abs=0.03)
    assert sum(bool(case.wrong_summary) for case in train) / len(train) == pytest.approx(0.2, abs=0.04)


def test_the_shipped_csvs_are_what_the_script_writes(tmp_path: Path) -> None:
    assert make_phase1_data.main(make_phase1_data.parse_args(["--output_dir", str(tmp_path)])) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["test_set_processed.csv", "train_set_processed.csv", "validation_set_processed.csv"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (ROOT / "phase1_data" / "sft" / name).read_bytes(), name


def test_the_facts_of_a_note_are_found_again_from_its_text(cases: dict[str, list[DemoCase]]) -> None:
    found = facts_by_note("test")
    assert found == {case.note: case.facts for case in cases["test"]}
    assert len(all_facts()) == sum(NOTES.values())


# -------------------------------------------------------------------------------------- exact figures


def test_exact_figures_of_four_summaries_worked_by_hand(tmp_path: Path) -> None:
    note = "The note."
    wrong = SUMMARY.replace("54", "55").replace("10 mg", "100 mg")  # two of five statements, two of nine key facts
    summaries = [SUMMARY, wrong, "Feels unwell. Heart rate 96 bpm.", ""]
    rows = [{"clinical_note": note, "generated_summary": summary} for summary in summaries]
    write_csv(tmp_path / "results.csv", ("clinical_note", "generated_summary"), rows)
    figures = exact_figures(tmp_path / "results.csv", {note: FACTS})
    assert figures["n"] == 4
    assert figures["hallucination_rate"] == 2 / 4
    assert figures["hallucination_rate_ci95"] == pytest.approx([0.15004, 0.84996], abs=1e-5)  # Wilson
    assert figures["claim_error_rate"] == pytest.approx((2 + 1) / (5 + 5 + 2))
    assert figures["coverage"] == pytest.approx((9 + 7 + 0 + 0) / 36)
    assert figures["mean_summary_words"] == pytest.approx((2 * len(SUMMARY.split()) + 6) / 4)
    assert figures["by_type"] == {kind: {"summaries": 1, "rate": 0.25} for kind in ("age", "dose", "unparsed")}


def test_exact_figures_without_an_error_are_not_certain(tmp_path: Path) -> None:
    rows = [{"clinical_note": "The note.", "generated_summary": SUMMARY}] * 4
    write_csv(tmp_path / "results.csv", ("clinical_note", "generated_summary"), rows)
    figures = exact_figures(tmp_path / "results.csv", {"The note.": FACTS})
    assert (figures["claim_error_rate"], figures["coverage"]) == (0, 1)
    assert figures["claim_error_rate_ci95"] == wilson_interval(0, 4)
    assert figures["coverage_ci95"] == wilson_interval(4, 4)


def test_notes_of_nobody_in_the_demo_are_refused(tmp_path: Path) -> None:
    rows = [{"clinical_note": "Another note.", "generated_summary": SUMMARY}]
    write_csv(tmp_path / "results.csv", ("clinical_note", "generated_summary"), rows)
    with pytest.raises(InputError, match=r"results\.csv: 1 notes are not from the demo"):
        exact_figures(tmp_path / "results.csv", {"The note.": FACTS})


# -------------------------------------------------------------------------------------- the base model


def test_pretraining_never_shows_the_task() -> None:
    rng = random.Random(6)
    documents = ["".join(sample_document(rng, share)) for share in (0.0, 0.1, 0.5) for _ in range(700)]
    assert not [text for text in documents if "summary" in text.lower()]
    assert not [text for text in documents if "year-old" in text and not text.startswith("Clinical Note: ")]
    assert sum(text.startswith("Clinical Note: ") for text in documents[:700]) == 700


def build(folder: Path, *extra: str) -> Path:
    tiny = ("--hidden_size", "112", "--intermediate_size", "64", "--num_layers", "2", "--vocab_size", "300")
    short = ("--num_steps", "6", "--batch_tokens", "512", "--logging_steps", "2", "--save_steps", "4")
    arguments = ["--output_dir", str(folder), "--num_threads", "1", *tiny, *short, *extra]
    assert build_base_model.main(build_base_model.parse_args(arguments)) == 0
    return folder


# 6 s. Proves that the embedded base model can be rebuilt, with equal weights and tokenizer each time.
def test_a_short_build_makes_a_model_that_loads_and_the_same_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_base_model, "DOCUMENTS_PER_POOL", 64)
    threads = torch.get_num_threads()
    try:
        first, again = build(tmp_path / "first"), build(tmp_path / "again")
    finally:
        torch.set_num_threads(threads)
    assert "step      6/6" in capsys.readouterr().out
    assert differences(first, again) == []
    weights = (first / "model.safetensors").read_bytes()
    assert (first / "sha256.txt").read_text() == f"{hashlib.sha256(weights).hexdigest()}  model.safetensors\n"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(first), AutoTokenizer.from_pretrained(first)
    ids = tokenizer(build_prompt("BP 142/88."), return_tensors="pt").input_ids
    assert ids[0, 0] == tokenizer.bos_token_id
    assert model.float()(input_ids=ids).logits.isfinite().all()


def test_another_seed_makes_another_model(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_BASE)
    one, same, other = (fresh_model(tokenizer, "--seed", seed).state_dict() for seed in ("1", "1", "2"))
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


def fresh_model(tokenizer: Any, *arguments: str) -> Any:
    """The shipped architecture before any training."""
    return build_base_model.create_model(
        build_base_model.parse_args(["--output_dir", "unused", *arguments]), tokenizer
    ).eval()


def attention(model: Any, length: int, seed: int) -> Sequence[torch.Tensor]:
    """Attention weights of random tokens, for each layer (heads, length, length)."""
    model.set_attn_implementation("eager")
    ids = torch.randint(3, model.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return [layer[0] for layer in model(input_ids=ids, output_attentions=True).attentions]


def test_the_first_heads_attend_one_two_and_three_tokens_back() -> None:
    model = fresh_model(AutoTokenizer.from_pretrained(DEMO_BASE))
    first_layer = attention(model, length=200, seed=7)[0]
    for head in range(LOOK_BACK_HEADS):
        distance = head + 1
        mass = first_layer[head].diagonal(-distance)  # (length - distance,): position i on position i - distance
        assert mass.mean() > 0.9
        assert mass.min() > 0.5
    unwired = first_layer[LOOK_BACK_HEADS]
    assert max(unwired.diagonal(-distance)[20:].mean() for distance in (1, 2, 3)) < 0.2


def test_digits_are_tokens_of_their_own() -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_BASE)
    text = "Blood pressure 142/88 mmHg, temp 37.4."
    tokens = [tokenizer.decode([token]) for token in tokenizer(text, add_special_tokens=False).input_ids]
    assert "".join(tokens) == text
    assert [token for token in tokens if re.search(r"\d", token)] == list("14288374")


def test_the_shipped_weights_are_those_recorded() -> None:
    recorded, name = (DEMO_BASE / "sha256.txt").read_text().split()
    assert hashlib.sha256((DEMO_BASE / name).read_bytes()).hexdigest() == recorded
    assert load_file(DEMO_BASE / name)["model.embed_tokens.weight"].dtype == torch.float16


def test_the_word_lists_keep_conditions_and_sides_apart() -> None:
    # a condition that begins with a side would be read as a lateral one
    assert not [name for name in CONDITIONS if name.split()[0] in SIDES]
    assert len(set(CONDITIONS)) == len(CONDITIONS)
