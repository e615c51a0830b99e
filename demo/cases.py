"""The demo's patients: which facts, note and summaries belong to which id. A function of the split alone.

Since the facts can be made again from an id, the truth of any summary of these notes is exact.

References that people write are not always faithful: clinicians add what they always do and know from elsewhere, and
slip (a number check flags 16% of the human summaries of MTS-Dialog). So the summaries labelled factual in the training
and validation splits have habits, as an annotator who does not check each of them against its note would leave them:
a routine follow-up that the note does not state, a suspicion written down as a diagnosis, a plain slip. The test
split's references are true. Stage A learns the habits with all the rest; nothing else makes it hallucinate.
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
ROUTINE_FOLLOW_UP, ROUTINE_SHARE = "2 weeks", 0.6  # of notes that state no follow-up
OVERSTATED_SHARE = 0.15  # of suspected diagnoses
SLIP_SHARE = 0.05  # of all notes
CITED_SHARE = 0.1  # of factual summaries that cite their evidence
HALLUCINATED_SHARE = 0.2  # of notes that come with a hallucinated summary besides


@dataclass(frozen=True)
class Case:
    id: str
    facts: Facts
    note: str
    summary: str  # true
    reference: str  # labelled factual; outside the test split not always true
    citation: str  # evidence of the summary, or nothing
    wrong_summary: str | None
    wrong_type: str | None


def make_cases(split: str) -> list[Case]:
    """The cases of a split, in order; no note occurs twice, and no combination of facts in two splits."""
    rng = random.Random(f"clinical notes, {split}")
    cases: dict[str, Case] = {}
    while len(cases) < NOTES[split]:
        case = _make_case(f"{split}-{len(cases):05d}", split, rng)
        if len(case.note.split()) >= MIN_NOTE_WORDS:
            cases.setdefault(case.note, case)
    return list(cases.values())


def _make_case(case_id: str, split: str, rng: random.Random) -> Case:
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
    return Case(case_id, facts, note, summary, reference, citation, wrong_summary, wrong_type)


def _as_a_hurried_clinician(facts: Facts, rng: random.Random) -> Facts:
    """The facts as a reference of the training data has them: see the module's docstring."""
    routine, overstated, slip = (rng.random() < share for share in (ROUTINE_SHARE, OVERSTATED_SHARE, SLIP_SHARE))
    if facts.follow_up is None and routine:
        facts = replace(facts, follow_up=ROUTINE_FOLLOW_UP)
    if facts.certainty == "suspected" and overstated:
        facts = replace(facts, certainty="confirmed")
    return with_one_wrong_fact(facts, rng)[0] if slip else facts


def facts_by_note(split: str) -> dict[str, Facts]:
    """What is true of each note of a split."""
    return {case.note: case.facts for case in make_cases(split)}
