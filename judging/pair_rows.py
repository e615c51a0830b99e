"""The rows that pairs are stored as, and their split by prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from judging.completion_rows import CompletionsRow
from judging.preference_pairs import OUTCOMES, JudgedCompletion, PairingResult, closeness


def rows_of(row: CompletionsRow, result: PairingResult, judge_name: str) -> list[dict[str, Any]]:
    """Return the stored form of each pair of a prompt: a DPO triplet, and the judge's results for its two texts."""
    name = f"{row.row_id}-on-policy"
    return [
        _row_of(name if number == 1 else f"{name}-{number}", row, pair, judge_name)
        for number, pair in enumerate(result.pairs, start=1)
    ]


def _row_of(name: str, row: CompletionsRow, pair: PairingResult, judge_name: str) -> dict[str, Any]:
    assert pair.chosen
    assert pair.rejected
    content: dict[str, Any] = {
        "id": name,
        "source_id": row.row_id,
        "prompt": row.prompt,
        **({} if row.note is None else {"clinical_note": row.note}),
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "judge": judge_name,
        "chosen_from": origin_of(pair.chosen),
        "rejected_from": origin_of(pair.rejected),
        "closeness": round(closeness((pair.chosen, pair.rejected)), 3),
    }
    for side, completion in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        content[f"{side}_errors"] = completion.errors
        content[f"{side}_score"] = completion.score
        content[f"{side}_coverage"] = completion.coverage
        if completion.probability is not None:
            content[f"{side}_probability"] = round(completion.probability, 6)
    return content


def origin_of(completion: JudgedCompletion) -> str:
    """Return where a text of a pair comes from."""
    return "reference" if completion.is_reference else "repair" if completion.is_repaired else "completion"


def outcome_row(row: CompletionsRow, result: PairingResult, judged: Sequence[JudgedCompletion]) -> dict[str, Any]:
    """Return a line of `outcomes.jsonl`: what became of a prompt, and why."""
    return {
        "id": row.row_id,
        "outcome": result.outcome,
        "reason": result.reason or OUTCOMES[result.outcome],
        "completions": len(judged),
        "with_errors": sum(each.errors > 0 for each in judged),
        "probabilities": [None if each.probability is None else round(each.probability, 4) for each in judged],
    }


def split_by_prompt(
    rows: Sequence[dict[str, Any]], val_fraction: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (train, validation). The side of a prompt depends only on seed and text, so it is the same in each round.

    Training gets at least one prompt, and so does validation if there are several and `val_fraction` is not 0: the
    prompt nearest to the limit is moved there.
    """
    places = {row["prompt"]: prompt_place(row["prompt"], seed) for row in rows}
    held_out = {prompt for prompt, place in places.items() if place < val_fraction}
    if not held_out and val_fraction > 0 and len(places) > 1:
        held_out = {min(places, key=places.__getitem__)}
    if len(held_out) == len(places) > 0:
        held_out.remove(max(places, key=places.__getitem__))
    train = [row for row in rows if row["prompt"] not in held_out]
    return train, [row for row in rows if row["prompt"] in held_out]


def prompt_place(prompt: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on seed and text."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
