"""What the parser reads in conversations: lay words, answers, lengths of time, and who is spoken of."""

import pytest

from clinical.body_systems import systems_of
from clinical.facts import Fact, extract_facts
from clinical.text import dialogue_turns, regular_form, turn_at

FINDINGS = ("condition", "symptom", "procedure")


def findings(text: str) -> dict[str, Fact]:
    return {fact.key: fact for fact in extract_facts(text) if fact.type in FINDINGS}


def spoken(*turns: str) -> str:
    """Doctor and patient in turns."""
    return "\n".join(f"{('Doctor', 'Patient')[i % 2]}: {turn}" for i, turn in enumerate(turns))


def values(text: str, fact_type: str) -> list[str]:
    return [fact.value for fact in extract_facts(text) if fact.type == fact_type]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("I got my appendix out.", "appendectomy"),
        ("They took out my gall bladder.", "cholecystectomy"),
        ("I had my tonsils taken out.", "tonsillectomy"),
        ("She's had her tubes ligated.", "tubal ligation"),
        ("My left knee really hurts.", "knee pain"),
        ("I have pain in the lower back.", "back pain"),
        ("It burns whenever I pee.", "painful urination"),
        ("I leak urine.", "urinary incontinence"),
        ("I was in a car crash.", "motor vehicle accident"),
        ("I went to P T twice.", "physical therapy"),
        ("I have trouble with hearing.", "hearing loss"),
    ],
)
def test_lay_words(words: str, name: str) -> None:
    assert name in findings(spoken("Tell me.", words))


def test_lay_words_that_mean_something_else() -> None:
    assert "colectomy" not in findings(spoken("Go on.", "They removed polyps from my colon."))
    assert "physical therapy" not in findings(spoken("Your PT/INR is fine.", "Good."))
    assert "drug abuse" not in findings(spoken("Any drugs that you are allergic to?", "No."))


def test_a_list_shares_its_last_word() -> None:
    read = findings(spoken("Any problems with your heart, lungs, or kidneys?", "No."))
    assert {name for name, fact in read.items() if fact.negated} == {"heart disease", "lung disease", "kidney disease"}
    read = findings(spoken("Any knee, ankle, or foot pain?", "No."))
    assert {"knee pain", "ankle pain", "foot pain"} <= {name for name, fact in read.items() if fact.negated}


@pytest.mark.parametrize("question", ["Do you use any drugs?", "How about drugs?", "Any illegal substances?"])
def test_drugs_of_abuse(question: str) -> None:
    assert findings(spoken(question, "Absolutely not."))["drug abuse"].negated


@pytest.mark.parametrize(
    ("question", "answer", "name", "negated"),
    [
        ("Any fever?", "Absolutely not.", "fever", True),
        ("How was the fever?", "Not too bad.", "fever", False),
        ("Any fever?", "I don't know of any.", "fever", True),
    ],
)
def test_answers(question: str, answer: str, name: str, negated: bool) -> None:
    assert findings(spoken(question, answer))[name].negated is negated


def test_what_a_question_takes_for_granted_is_not_denied() -> None:
    fact = findings(spoken("Any problems with your asthma?", "No."))["asthma"]
    assert fact.asked
    assert not fact.negated


def test_scope_ends_with_the_next_statement() -> None:
    read = findings(spoken("How are you?", "No headaches, and I'm having chills."))
    assert read["headache"].negated
    assert not read["chills"].negated
    assert not findings(spoken("And?", "I can't stop sneezing."))["sneezing"].negated


@pytest.mark.parametrize(
    ("turns", "denials"),
    [
        (("Anything else?", "No."), 1),
        (("Any fever?", "No, everything else is fine."), 1),
        (("Any other symptoms, such as chest pain?", "No."), 0),
        (("Anything else?", "Yes, a cough."), 0),
    ],
)
def test_all_others_denied(turns: tuple[str, str], denials: int) -> None:
    assert len(values(spoken(*turns), "denial")) == denials


@pytest.mark.parametrize(
    ("text", "durations"),
    [
        ("He smokes two packs a day and drinks.", []),
        ("Pain for a day.", ["24 hours"]),
        ("About three or maybe it is four years ago.", ["26280-35040 hours"]),
        ("It took half an hour.", ["0.5 hours"]),
    ],
)
def test_lengths_of_time(text: str, durations: list[str]) -> None:
    assert values(text, "duration") == durations


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("On June thirty two thousand and four.", ["6/30"]),
        ("On the nineteenth June.", ["6/19"]),
        ("From November fifth to the fourteenth of last year.", ["11/5", "/14"]),
        ("My fifth toe, and the second.", []),
        ("He walks a 1/2-mile.", []),
    ],
)
def test_dates(text: str, dates: list[str]) -> None:
    assert values(text, "date") == dates


def test_dictated_unit_ends_before_the_next_letters() -> None:
    assert values("Dilaudid of 4 M G I M.", "dose") == ["4 mg"]
    assert regular_form("an M R I and ten M C G").text == "an MRI and 10 MCG"


def test_turns_that_share_a_line() -> None:
    text = "Doctor: Any fever? Patient: No. Doctor: Any cough?\nPatient: Yes."
    turns = dialogue_turns(text)
    assert [turn.speaker for turn in turns] == ["doctor", "patient", "doctor", "patient"]
    assert turn_at(turns, text.index("No.") + 3) == 1
    assert turn_at(turns, 0) is None
    read = findings(text)
    assert read["fever"].negated
    assert not read["cough"].negated


def test_family() -> None:
    assert findings("Son has gout.")["gout"].family
    assert findings("Family history is positive for asthma.")["asthma"].family
    assert findings(spoken("And?", "My half brother's got gout."))["gout"].family


def test_who_and_how_it_is_said() -> None:
    assert findings("Hypertension, gout.")["gout"].ownerless
    assert not findings("The patient has gout.")["gout"].ownerless
    assert findings(spoken("Hello.", "I have gout."))["gout"].spoken
    assert not findings("The patient has gout.")["gout"].spoken


def test_topics_of_a_conversation_only() -> None:
    assert values(spoken("And?", "My heart races."), "topic") == ["heart and vessels"]
    assert values("Her heart races.", "topic") == []
    assert systems_of("arrhythmia") == {"heart and vessels"}
    assert systems_of("general") == frozenset()
