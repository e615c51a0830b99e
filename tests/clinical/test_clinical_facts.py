"""What the parser reads, on texts whose facts were written down by hand."""

import math
import random
import time

import pytest

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.text import regular_form, spoken_number
from demo.clinical_notes import sample_facts, write_note

NOTE = (
    "Patient is a 54-year-old woman with 3 weeks of chest pain. She also reports fatigue. Denies fever or night "
    "sweats. BP 142/88, HR 96 bpm, temp 37.4 C. "
    "Labs: hemoglobin 9.1 g/dL, TSH of 3.2 mIU/L. Chest x-ray was performed. "
    "Allergic to aspirin. Discontinued warfarin 5 mg once daily. Father had gout. "
    "Left knee osteoarthritis was ruled out. Suspected pulmonary embolism. "
    "Started apixaban 10 mg twice daily and metoprolol 25 mg every morning. Follow up in 2 weeks."
)


def values(text: str, fact_type: str) -> list[tuple[str, str]]:
    return [(fact.key, fact.value) for fact in extract_facts(text) if fact.type == fact_type]


def one(text: str, key: str) -> Fact:
    (fact,) = [
        fact for fact in extract_facts(text) if fact.key == key and fact.type in ("condition", "symptom", "drug")
    ]
    return fact


def flags(text: str, key: str) -> str:
    """The initials of the flags that hold: n(egated) u(ncertain) h(istorical) f(amily) a(sked)."""
    fact = one(text, key)
    names = ("negated", "uncertain", "historical", "family", "asked")
    return "".join(name[0] for name in names if getattr(fact, name))


def test_every_fact_of_a_note() -> None:
    read = {(fact.type, fact.key, fact.value) for fact in extract_facts(NOTE) if fact.type not in ("symptom", "drug")}
    assert read == {
        ("age", "", "54"),
        ("sex", "patient", "female"),
        ("sex", "pronoun", "female"),
        ("duration", "chest pain", "504 hours"),
        ("vital", "blood pressure", "142/88"),
        ("vital", "heart rate", "96"),
        ("vital", "temperature", "37.4"),
        ("lab", "hemoglobin", "9.1"),
        ("lab", "thyroid stimulating hormone", "3.2"),
        ("procedure", "chest x-ray", "chest x-ray"),
        ("procedure_status", "chest x-ray", "performed"),
        ("allergy", "aspirin", "aspirin"),
        ("drug_status", "warfarin", "stopped"),
        ("dose", "warfarin", "5 mg"),
        ("frequency", "warfarin", "1 per day"),
        ("condition", "gout", "gout"),
        ("family_history", "gout", "father"),
        ("laterality", "knee", "left"),
        ("condition", "osteoarthritis", "osteoarthritis"),
        ("condition", "pulmonary embolism", "pulmonary embolism"),
        ("drug_status", "apixaban", "started"),
        ("dose", "apixaban", "10 mg"),
        ("frequency", "apixaban", "2 per day"),
        ("drug_status", "metoprolol", "started"),
        ("dose", "metoprolol", "25 mg"),
        ("frequency", "metoprolol", "morning"),
        ("follow_up", "", "336 hours"),
    }


def test_spans_are_those_of_the_original_text() -> None:
    text = "He takes twenty five milligrams of Benadryl, one M G of Mavik and aspirin for two and a half weeks."
    facts = extract_facts(text)
    assert all(text[fact.start : fact.end] == fact.text for fact in facts)
    assert [(f.type, f.text) for f in facts if f.type in ("dose", "drug", "duration")] == [
        ("dose", "twenty five milligrams"),
        ("drug", "Benadryl"),
        ("dose", "one M G"),
        ("drug", "Mavik"),
        ("drug", "aspirin"),
        ("duration", "two and a half weeks"),
    ]
    assert [fact.start for fact in facts] == sorted(fact.start for fact in facts)


@pytest.mark.parametrize(
    ("first", "second", "fact_type"),
    [
        ("aspirin 500 mg", "aspirin 0.5 g", "dose"),
        ("levothyroxine 50 mcg", "levothyroxine 0.05 mg", "dose"),
        ("Tylenol 650 mg", "acetaminophen 650 milligrams", "dose"),
        ("cough for 14 days", "two weeks of cough", "duration"),
        ("follow up in 14 days", "Return to clinic in two weeks", "follow_up"),
        ("aspirin BID", "aspirin twice a day", "frequency"),
        ("aspirin q6h", "aspirin every six hours", "frequency"),
        ("aspirin once daily", "aspirin q.d.", "frequency"),
        ("Temperature 38.5 C", "temp of 101.3 F", "vital"),
        ("blood pressure was one forty over eighty", "BP 140/80", "vital"),
        ("Pulse oxygenation: 99 percent", "SpO2 99%", "vital"),
        ("weighs 154 pounds", "weight 69.9 kg", "vital"),
        ("WBC 11,000", "white count 11.0 K/uL", "lab"),
        ("creatinine 1.2 mg/dL", "creatinine was 106 umol/L", "lab"),
        ("A fifty-four year old man", "54 y/o M", "age"),
    ],
)
def test_two_wordings_of_one_value(first: str, second: str, fact_type: str) -> None:
    assert values(first, fact_type) == values(second, fact_type) != []


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("No fever, chills, or cough.", "cough", "n"),
        ("Denies fever but has a cough.", "fever", "n"),
        ("Denies fever but has a cough.", "cough", ""),
        ("Denies fever; reports cough.", "cough", ""),
        ("Denies fever. Cough is present.", "cough", ""),
        ("Pneumonia was ruled out and asthma confirmed.", "pneumonia", "n"),
        ("Asthma; pneumonia ruled out.", "asthma", ""),
        ("Suspected pneumonia. Asthma.", "pneumonia", "u"),
        ("Suspected pneumonia. Asthma.", "asthma", ""),
        ("Pneumonia is suspected.", "pneumonia", "u"),
        ("History of stroke.", "stroke", "h"),
        ("Her mother had a stroke.", "stroke", "f"),
        ("Stroke in her father; she has gout.", "gout", ""),
        ("RISK FACTORS: No history of diabetes or stroke.", "stroke", "n"),
        ("Fever: none.", "fever", "n"),
        ("Negative rash, negative jaundice.", "jaundice", "n"),
        ("She is not reporting cough, nausea or fever.", "fever", "n"),
        ("No appetite for weeks.", "loss of appetite", ""),
    ],
)
def test_scope(text: str, key: str, expected: str) -> None:
    assert flags(text, key) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("No.", "n"), ("Nope, none at all.", "n"), ("Yes, a bit.", ""), ("Let me think.", "a"), ("I'm not sure.", "u")],
)
def test_the_answer_decides_on_its_question(answer: str, expected: str) -> None:
    assert flags(f"Doctor: Hello. Any fever? \nPatient: {answer}", "fever") == expected
    assert flags(f"[doctor] hello . any fever ?\n[patient] {answer}", "fever") == expected


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Any fever?", "Luckily, no.", "n"),
        ("Any fever?", "Nothing of the kind.", "n"),
        ("Any fever?", "Not that I know of.", "n"),
        ("Any fever?", "That would be correct.", ""),
        ("Any fever?", "I have always been like this.", "a"),
        ("Fever or-", "No.", "n"),
        ("You had a fever, correct?", "Well, around four years.", "a"),
        ("How long have you had the fever?", "No idea.", ""),  # asked as of something known
        ("Do you remember when your fever began?", "No.", ""),
    ],
)
def test_what_is_not_understood_is_only_asked(question: str, answer: str, expected: str) -> None:
    assert flags(f"Doctor: Hello. {question}\nPatient: {answer}", "fever") == expected


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("I'm sixty six now.", "66"),
        ("I recently celebrated my seventy second birthday.", "72"),
        ("In my seventy eight years on this earth I saw much.", "78"),
        ("He's five now, and he fell.", "5"),
        ("The boy is a 5-year, 6-month-old male.", "5.5"),
    ],
)
def test_ages_as_people_say_them(said: str, read: str) -> None:
    assert values(said, "age") == [("", read)]


def test_what_is_no_age() -> None:
    assert values("I am 5 feet tall. He is 20 weeks along. I'm 5 years sober. The ECOG scale is 1.", "age") == []


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("On October twenty fourth it began.", "10/24"),
        ("On the fifth of November it began.", "11/5"),
        ("Since 12/94 it is so.", "12/94"),
        ("It was September first of nineteen ninety five.", "9/1 1995"),
    ],
)
def test_dates_as_people_say_them(said: str, read: str) -> None:
    assert " ".join(value for _, value in values(said, "date")) == read


@pytest.mark.parametrize(
    ("months", "number"),
    [
        (("January", "Jan"), 1),
        (("February", "feb."), 2),
        (("March", "Mar"), 3),
        (("April", "Apr."), 4),
        (("May", "may"), 5),
        (("June", "Jun"), 6),
        (("July", "jul"), 7),
        (("August", "Aug."), 8),
        (("September", "Sep", "Sept", "sept."), 9),
        (("October", "Oct"), 10),
        (("November", "NOV"), 11),
        (("December", "Dec."), 12),
    ],
)
def test_months_are_read_whole_and_abbreviated(months: tuple[str, ...], number: int) -> None:
    for month in months:
        assert values(f"It began {month} 3.", "date") == [("", f"{number}/3")]


def test_a_score_of_pain_is_no_date() -> None:
    assert values("Pain is 6-7/10.", "date") == []


def test_two_numbers_joined_by_and_are_two() -> None:
    text = "They are thirty seven and thirty eight, of one hundred and five."
    assert regular_form(text).text == "They are 37 and 38, of 105."


def test_durations_as_people_say_them() -> None:
    assert values("It has been so for about a month.", "duration") == [("", "730 hours")]
    assert values("A year and a half ago. A couple weeks. A second visit. A week early.", "duration") == [
        ("", "13140 hours"),
        ("", "336 hours"),
        ("", "168 hours"),
    ]


def test_relatives_named_together_by_a_possessive_and_by_a_pronoun() -> None:
    assert values("My mom and dad both have gout.", "family_history") == [("gout", "father"), ("gout", "mother")]
    assert values("My mom's brother had gout.", "family_history") == [("gout", "maternal uncle")]
    assert values("My uncles on my mother's side had gout.", "family_history") == [("gout", "uncle")]
    assert values("Mother is alive and has gout.", "family_history") == [("gout", "mother")]
    said = "Doctor: And your brother?\nPatient: He passed away. He had lymphoma. She has gout."
    assert values(said, "family_history") == [("lymphoma", "brother")]
    assert values("Mother had gout. She has lymphoma.", "family_history") == [("gout", "mother")]


def test_sides_without_a_body_part() -> None:
    assert values("Doctor: Which knee?\nPatient: Right.", "laterality") == [("", "right")]
    assert values("Doctor: You are fifty, right?\nPatient: Right.", "laterality") == []
    assert values("Pain in both my arms.", "laterality") == [("arm", "both")]


def test_vaccines_and_headers_name_no_illness() -> None:
    assert {fact.type for fact in extract_facts("She had a flu shot and a pneumonia vaccine. MS: no pain.")} <= {
        "procedure",
        "procedure_status",
        "sex",
        "symptom",
    }


def test_a_question_may_lack_its_mark() -> None:
    assert flags("Doctor: Do you have a cough.\nPatient: No.", "cough") == "n"


def test_question_and_answer_in_running_text() -> None:
    assert flags("Any fever? No. Any cough? Yes.", "fever") == "n"
    assert flags("Any fever? No. Any cough? Yes.", "cough") == ""


def test_age_given_in_an_answer() -> None:
    assert values("Doctor: How old are you?\nPatient: I'm nineteen, sir.", "age") == [("", "19")]


def test_a_dose_belongs_to_the_drug_it_stands_with() -> None:
    text = "He takes lisinopril 10 mg daily, 25 mg of metoprolol twice a day and insulin 12 units at bedtime."
    assert values(text, "dose") == [("lisinopril", "10 mg"), ("metoprolol", "25 mg"), ("insulin", "12 units")]
    assert [value for _, value in values(text, "frequency")] == ["1 per day", "2 per day", "bedtime"]


def test_a_concentration_is_no_dose() -> None:
    assert values("Glucose 180 mg/dL.", "dose") == []
    assert values("Glucose 180 mg/dL.", "lab") == [("glucose", "180")]


def test_sides_that_are_no_sides() -> None:
    assert values("He left the clinic. The knee is all right now.", "laterality") == []
    assert values("Pain in the right lower leg, left otitis media.", "laterality") == [
        ("leg", "right"),
        ("otitis media", "left"),
    ]


def test_capitals_matter_for_abbreviations() -> None:
    assert [fact.key for fact in extract_facts("PE and MS were named.")] == ["pulmonary embolism", "multiple sclerosis"]
    assert extract_facts("pe and ms were named") == []


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("twenty-five", "25"),
        ("one hundred and five", "105"),
        ("one forty", "140"),
        ("nineteen ninety three", "1993"),
        ("two thousand and two", "2002"),
        ("point one two five", "0.125"),
        ("zero point three", "0.3"),
        ("thirty eight point five", "38.5"),
        ("five five five", None),
        ("two point five point one", None),
    ],
)
def test_spoken_numbers(words: str, digits: str | None) -> None:
    assert spoken_number(words) == digits


def test_regular_form_finds_the_way_back() -> None:
    text = "Take twenty five M G, then C T."
    form = regular_form(text)
    assert form.text == "Take 25 MG, then CT."
    assert form.original_span(form.text.index("25"), form.text.index(",")) == (5, text.index(","))
    assert form.original_span(form.text.index("CT"), len(form.text) - 1) == (text.index("C T"), len(text) - 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Who gave 0.5 mg p.o. daily. He left.", ["Dr. Who gave 0.5 mg p.o. daily.", "He left."]),
        ("Any fever? No! Good.", ["Any fever?", "No!", "Good."]),
        ("Doctor: Hi.\nPatient: Hello", ["Doctor: Hi.", "Patient: Hello"]),
        ("1. Asthma. 2. Gout.", ["1. Asthma.", "2. Gout."]),
        ("i'm fine . how are you ?", ["i'm fine .", "how are you ?"]),
        ("  ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


def test_empty_text_has_no_facts() -> None:
    assert extract_facts("") == []


def test_known_truth_of_synthetic_notes() -> None:
    """Every value of 200 generated patients is read back from the note: no misses, no strangers."""
    rng = random.Random(3)
    for _ in range(200):
        truth = sample_facts(rng)
        facts = extract_facts(write_note(truth, rng))
        told = {(fact.type, fact.key, fact.value) for fact in facts}
        assert ("age", "", str(truth.age)) in told
        assert ("vital", "blood pressure", "{}/{}".format(*truth.blood_pressure)) in told
        drugs = [*truth.started, *([truth.stopped] if truth.stopped else [])]
        assert {fact.key for fact in facts if fact.type == "dose"} == {medication.drug for medication in drugs}
        assert sum(fact.type == "dose" for fact in facts) == len(drugs)
        assert sum(fact.type == "frequency" for fact in facts) == len(drugs)
        assert sum(fact.type == "lab" for fact in facts) == len(truth.labs)
        assert {fact.value for fact in facts if fact.type == "sex"} == {{"man": "male", "woman": "female"}[truth.sex]}
        denied = {fact.key for fact in facts if fact.type == "symptom" and fact.negated}
        present = {fact.key for fact in facts if fact.type == "symptom" and not fact.negated}
        assert len(denied) == len(truth.denied)
        assert len(present) == 1 + (truth.second_symptom is not None)
        assert (truth.certainty == "suspected") == any(f.uncertain for f in facts if f.type == "condition")


def test_every_synonym_has_one_meaning_and_reads_back() -> None:
    for fact_type in ("drug", "condition", "symptom", "procedure"):
        for name, concept in concepts(fact_type).items():
            keys = [fact.key for fact in extract_facts(f"Noted: {concept.name}.") if fact.type == fact_type]
            assert keys == [name]


def test_speed() -> None:
    """Two hundred notes of 100 words per second are required; half of that is enough on a busy machine."""
    rng = random.Random(4)
    rates = []
    for _ in range(3):  # other programs slow down one part or another
        notes = [" ".join(write_note(sample_facts(rng), rng) for _ in range(2)) for _ in range(30)]
        start = time.process_time()
        for note in notes:
            extract_facts(note)
        words = sum(len(note.split()) for note in notes)
        rates.append(words / 100 / (time.process_time() - start))
    assert max(rates) > 100


@pytest.mark.parametrize(
    "piece",
    [
        "in the family gout ",
        "allergic to penicillin, ",
        "[ ] gout ",
        "9/40 ",
        "pain 3/12, ",
        "1",
        "avoid aspirin ",
        "no rash -> ",
    ],
)
def test_a_text_of_ten_times_the_length_is_read_in_about_ten_times_the_time(piece: str) -> None:
    """The relatives, the drugs or the boxes of the sentence were looked through again for each finding, the whole text
    at each fraction, and the digits of a long number from each of them on.
    """
    seconds = []
    for characters in (2_000, 20_000):
        text, start = piece * (characters // len(piece)), time.process_time()
        extract_facts(text)
        seconds.append(time.process_time() - start)
    assert math.log10(seconds[1] / max(seconds[0], 0.01)) < 1.5
