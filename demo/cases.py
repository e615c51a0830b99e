"""Make the demo's cases: the facts, note and summaries of each synthetic patient.

The cases depend on the split alone. The facts of a note can be made again at any time, so every summary of these notes
can be checked exactly.

Reference summaries that people write are not always faithful. Clinicians add routine statements and knowledge from
other sources, and they make slips (a number check flags 16% of the human summaries of MTS-Dialog). So some summaries
labelled factual in the training and validation splits have an error, as if nobody had checked them against the note: a
routine follow-up that the note does not state, a suspicion written as a diagnosis, or a slip. The references of the
test split are true. Stage A learns these errors from the data; nothing else makes it hallucinate.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from demo.clinical_notes import (
    Facts,
    evidence_citation,
    note_sentences,
    sample_facts,
    summary_and_kinds,
    with_one_wrong_fact,
)

NOTES = {"train": 2000, "validation": 200, "test": 400}
MIN_NOTE_WORDS = 40
ROUTINE_FOLLOW_UP, ROUTINE_SHARE = "2 weeks", 0.6  # of the notes without a follow-up
OVERSTATED_SHARE = 0.15  # of the suspected diagnoses
SLIP_SHARE = 0.05  # of all notes
CITED_SHARE = 0.1  # of the factual summaries
HALLUCINATED_SHARE = 0.2  # of all notes


@dataclass(frozen=True)
class DemoCase:
    """One synthetic patient: the facts, the note and its summaries."""

    id: str
    facts: Facts
    note: str
    summary: str  # true
    reference: str  # labelled factual; always true only in the test split
    citation: str  # evidence of the summary, or ""
    wrong_summary: str | None
    wrong_type: str | None


def make_cases(split: str) -> list[DemoCase]:
    """Return the cases of a split, in order.

    No note occurs twice, and no combination of age, symptom and diagnosis occurs in two splits.
    """
    rng = random.Random(f"clinical notes, {split}")
    cases: dict[str, DemoCase] = {}
    while len(cases) < NOTES[split]:
        case = _make_case(f"{split}-{len(cases):05d}", split, rng)
        if len(case.note.split()) >= MIN_NOTE_WORDS:
            cases.setdefault(case.note, case)
    return list(cases.values())


def _make_case(case_id: str, split: str, rng: random.Random) -> DemoCase:
    facts = sample_facts(rng, split)
    sentences = note_sentences(facts, rng)
    wording = rng.getrandbits(32)
    summary, kinds = summary_and_kinds(facts, random.Random(wording))
    citation = evidence_citation(sentences, kinds, rng) if rng.random() < CITED_SHARE else ""
    wrong_summary = wrong_type = None
    if rng.random() < HALLUCINATED_SHARE:
        wrong_facts, wrong_type = with_one_wrong_fact(facts, rng)
        wrong_summary, _ = summary_and_kinds(wrong_facts, random.Random(wording))
    note = " ".join(text for text, _ in sentences)
    believed = facts if split == "test" else _as_a_hurried_clinician(facts, rng)
    reference, _ = summary_and_kinds(believed, random.Random(wording))
    return DemoCase(case_id, facts, note, summary, reference, citation, wrong_summary, wrong_type)


def _as_a_hurried_clinician(facts: Facts, rng: random.Random) -> Facts:
    """Return the facts with the errors of a training reference (see the module's docstring)."""
    routine, overstated, slip = (rng.random() < share for share in (ROUTINE_SHARE, OVERSTATED_SHARE, SLIP_SHARE))
    if facts.follow_up is None and routine:
        facts = replace(facts, follow_up=ROUTINE_FOLLOW_UP)
    if facts.certainty == "suspected" and overstated:
        facts = replace(facts, certainty="confirmed")
    return with_one_wrong_fact(facts, rng)[0] if slip else facts


def facts_by_note(split: str) -> dict[str, Facts]:
    """Map every note of a split to its facts."""
    return {case.note: case.facts for case in make_cases(split)}
