"""Preference pairs whose rejected text comes from the Phase 1 CSV: a summary that a person labelled hallucinated."""

from __future__ import annotations

from collections.abc import Iterator

from negatives.example_index import Example, ExampleIndex
from negatives.verification import Edit, Negative

PHASE1 = "phase1"
LABELLED = "labelled"


def phase1_pairs(index: ExampleIndex, split: str) -> Iterator[tuple[str, Example, Negative]]:
    """Yield (triplet id, factual row, hallucinated summary of the same note).

    The factual rows of a note take turns. Rows marked unsound are not used.
    """
    for example in index.hallucinated(split):
        partners = index.partners(split, example.note)
        if partners:
            partner = partners[index.turn(split, example) % len(partners)]
            edit = labelled_edit(partner.summary, example.summary, example.hallucination_type)
            yield f"{partner.name}-{PHASE1}-{example.name}", partner, Negative(PHASE1, example.summary, (edit,))


def labelled_edit(chosen: str, rejected: str, hallucination_type: str) -> Edit:
    """Return the span in which two texts differ, in whole words.

    Its verdict is `labelled`: the label of the CSV says that it is wrong, and no code has verified it.
    """
    start = _common_start(chosen, rejected)
    while start and not chosen[start - 1].isspace():
        start -= 1
    tail = _common_start(chosen[start:][::-1], rejected[start:][::-1])
    while tail and not chosen[len(chosen) - tail].isspace():
        tail -= 1
    end = len(chosen) - tail
    new = rejected[start : len(rejected) - tail]
    return Edit(hallucination_type or PHASE1, start, end, chosen[start:end], new, LABELLED)


def _common_start(first: str, second: str) -> int:
    """Return the number of characters that two texts share at the start."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
