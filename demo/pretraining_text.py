"""Draw the pretraining texts of the demo's base model: clinical notes, and lookups of facts in them.

Every document is a (context, target) pair of texts. The targets restate notes, list statements, answer questions
and repeat lists. No document shows the task: `Summary:` never occurs, and no target has the form of a summary, which
is three sentences in a fixed order.
"""

from __future__ import annotations

import random

from demo.clinical_notes import (
    CONDITIONS,
    DOSES,
    DRUGS,
    FREQUENCIES,
    LATERAL_CONDITIONS,
    SIDES,
    SYMPTOMS,
    Facts,
    capitalise,
    sample_facts,
    true_statements,
    write_note,
)

Document = tuple[str, str]

_STATUS_WORDINGS = {
    "confirmed": ("{} confirmed", "diagnosis of {} confirmed", "diagnosed with {}", "findings establish {}"),
    "suspected": ("suspected {}", "{} is suspected", "possible {}", "concern for {}"),
    "ruled out": ("{} was ruled out", "no evidence of {}"),
    "present": ("reports {}", "positive for {}"),
    "denied": ("denies {}", "negative for {}", "no {}"),
}
_CONDITION_STATUS = ("confirmed", "suspected", "ruled out")


def sample_document(rng: random.Random, lookup_share: float) -> Document:
    """Draw one document. With probability `lookup_share`, it is a short list without a note, an easy lookup."""
    if rng.random() < lookup_share:
        return rng.choice((_repeated_list, _medication_lookup, _status_lookup))(rng)
    facts = sample_facts(rng)
    note = f"Clinical Note: {write_note(facts, rng)}"
    if rng.random() < 0.1:
        return note, f"\n\nRestated note: {write_note(facts, rng)}"
    parts = [f"\n\nStatements: {_shuffled_statements(facts, rng)}", f"\n\nFacts: {_answers(facts, rng)}"]
    rng.shuffle(parts)
    return note, "".join(parts)


def _repeated_list(rng: random.Random) -> Document:
    sources = (
        lambda: rng.choice(DRUGS),
        lambda: rng.choice(SYMPTOMS),
        lambda: _condition(rng),
        lambda: str(rng.randint(1, 999)),
        lambda: rng.choice(FREQUENCIES),
        lambda: f"{rng.choice(DOSES)} mg",
    )
    items = "; ".join(rng.choice(sources)() for _ in range(rng.randint(4, 12)))
    return f"List: {items}.", f" Again: {items}."


def _condition(rng: random.Random) -> str:
    return rng.choice((rng.choice(CONDITIONS), f"{rng.choice(SIDES)} {rng.choice(LATERAL_CONDITIONS)}"))


def _medication_lookup(rng: random.Random) -> Document:
    table = {
        drug: f"{rng.choice(DOSES)} {rng.choice(('mg', 'mg', 'mcg'))} {rng.choice(FREQUENCIES)}"
        for drug in rng.sample(DRUGS, rng.randint(3, 7))
    }
    asked = rng.sample(list(table), len(table))
    listed = ". ".join(f"{drug} {directions}" for drug, directions in table.items())
    return f"List: {listed}.", " Lookup: " + ". ".join(f"{drug} {table[drug]}" for drug in asked) + "."


def _status_lookup(rng: random.Random) -> Document:
    table = {name: rng.choice(_CONDITION_STATUS) for name in rng.sample([*CONDITIONS, *LATERAL_CONDITIONS], 4)}
    table |= {name: rng.choice(("present", "denied")) for name in rng.sample(SYMPTOMS, 3)}
    names = rng.sample(list(table), rng.randint(3, 7))
    listed = ". ".join(rng.choice(_STATUS_WORDINGS[table[name]]).format(name) for name in names)
    asked = rng.sample(names, len(names))
    return f"List: {capitalise(listed)}.", " Lookup: " + ". ".join(f"{name}: {table[name]}" for name in asked) + "."


def _shuffled_statements(facts: Facts, rng: random.Random) -> str:
    statements = list(true_statements(facts, rng).values())
    rng.shuffle(statements)
    return ". ".join(statements[: rng.randint(4, 8)]) + "."


def _answers(facts: Facts, rng: random.Random) -> str:
    """Return six to ten `Question: answer.` items. The answer is `none stated` if the note does not give it."""
    answers: list[tuple[str, object]] = [
        ("age", facts.age),
        ("sex", facts.sex),
        ("main symptom", facts.symptom),
        ("duration", facts.duration),
        ("diagnosis", facts.diagnosis),
        ("certainty", facts.certainty),
        (facts.diagnosis, facts.certainty),
        ("denied", " and ".join(facts.denied)),
        ("blood pressure", "/".join(map(str, facts.blood_pressure))),
        ("heart rate", facts.heart_rate),
        ("temperature", facts.temperature),
        ("oxygen saturation", facts.oxygen_saturation),
        ("allergy", facts.allergy),
        ("stopped", facts.stopped and facts.stopped.drug),
        ("ruled out", facts.ruled_out),
        ("procedure", facts.procedure and " ".join(facts.procedure)),
        ("follow-up", facts.follow_up),
        ("family history", facts.family_history and "{1} in {0}".format(*facts.family_history)),
        ("medications", " and ".join(map(str, facts.started))),
    ]
    if facts.ruled_out:
        answers.append((facts.ruled_out, "ruled out"))
    for medication in facts.started:
        answers.append((f"dose of {medication.drug}", f"{medication.dose} {medication.unit}"))
        answers.append((f"frequency of {medication.drug}", medication.frequency))
    answers += [(lab.name, f"{lab.value} {lab.unit}") for lab in facts.labs]
    rng.shuffle(answers)
    told = answers[: rng.randint(6, 10)]
    return " ".join(f"{capitalise(question)}: {answer or 'none stated'}." for question, answer in told)
