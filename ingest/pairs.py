"""Preference pairs of the user's own data: the factual summary of a note, and a worse one of the same note."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ingest.evidence import without_old_citations
from ingest.records import Record
from language_model.prompt_format import build_prompt
from negatives.phase1_pairs import labelled_edit
from script_io.phase1_csv import HALLUCINATED


def preference_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a DPO row for each hallucinated record whose note has a factual one; the factual ones take turns.

    Both texts lose their citations, so that a citation does not tell which text is chosen.
    """
    factual: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.label != HALLUCINATED:
            factual[record.note].append(record)
    turns: dict[str, int] = defaultdict(int)
    rows = []
    for record in records:
        partners = factual[record.note]
        if record.label != HALLUCINATED or not partners:
            continue
        partner = partners[turns[record.note] % len(partners)]
        turns[record.note] += 1
        row = _row(partner, record)
        if row["chosen"] != row["rejected"]:
            rows.append(row)
    return rows


def _row(factual: Record, hallucinated: Record) -> dict[str, Any]:
    chosen, rejected = without_old_citations(factual.summary), without_old_citations(hallucinated.summary)
    return {
        "id": f"{factual.id}-{hallucinated.id}",
        "source_id": factual.id,
        "prompt": build_prompt(factual.note),
        "clinical_note": factual.note,
        "chosen": chosen,
        "rejected": rejected,
        "edits": [asdict(labelled_edit(chosen, rejected, hallucinated.hallucination_type))],
    }
