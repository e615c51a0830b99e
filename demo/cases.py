"""The demo's patients: which facts, note and summaries belong to which id. A function of the split alone.

Since the facts can be made again from an id, the truth of any summary of these notes is exact.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

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
CITED_SHARE = 0.1  # of factual summaries that cite their evidence
HALLUCINATED_SHARE = 0.2  # of notes that come with a hallucinated summary besides


@dataclass(frozen=True)
class Case:
    id: str
    facts: Facts
    note: str
    summary: str  # factual
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
    return Case(case_id, facts, note, summary, citation, wrong_summary, wrong_type)


def facts_by_note(split: str) -> dict[str, Facts]:
    """What is true of each note of a split."""
    return {case.note: case.facts for case in make_cases(split)}
