"""Look at finished Phase 1 records as training will: lengths in tokens, unsupported references, leaks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fact_checking.checker import unsound_claims
from ingest.records import Record
from language_model.length_limits import LengthReport, encode_within
from language_model.prompt_format import build_prompt
from script_io.phase1_csv import FACTUAL_LABELS
from script_io.progress import progress_bar
from sft_dataset import find_problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_CHECKED = 1000  # factual summaries; the fact checker takes some milliseconds each, on long notes more
EXAMPLES = 10


def token_lengths(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[dict[str, Any], str]:
    """Return the lengths of the factual records in tokens, prompt and summary together, and a line about them."""
    report = LengthReport(max_length)
    for record in records:
        if record.label in FACTUAL_LABELS:
            prompt = build_prompt(record.note)
            encode_within(tokenizer, record.id, prompt, [record.summary], "plain", "drop", report, note=record.note)
    if not report.lengths:
        return {"total": 0}, "no factual row"
    quantiles = {f"p{share:.0%}".rstrip("%"): report.length_that_keeps(share) for share in (0.5, 0.95, 0.99)}
    total, dropped = len(report.lengths), len(report.dropped_ids)
    line = (
        f"{total} examples: median {quantiles['p50']} tokens, 95% within {quantiles['p95']}, longest "
        f"{max(report.lengths)}; --max_length {max_length} would drop {dropped}"
    )
    if dropped:
        line += f" (--max_length {quantiles['p99']} keeps 99%)"
    return {**report.as_dict(), **quantiles, "max_length": max_length, "dropped": dropped}, line


def unsupported_references(records: Sequence[Record], seed: int) -> dict[str, Any]:
    """Return how many factual summaries state something that their note does not, with examples.

    Of more than MOST_CHECKED summaries, as many are drawn at random.
    """
    factual = [record for record in records if record.label in FACTUAL_LABELS]
    drawn = random.Random(f"{seed}|audit").sample(factual, min(MOST_CHECKED, len(factual)))
    examples: list[dict[str, str]] = []
    kinds: Counter[str] = Counter()
    wrong = 0
    for record in progress_bar(drawn, label="Checking references", unit="summary"):
        claims = unsound_claims(record.note, record.summary)
        wrong += bool(claims)
        kinds.update(claim.type for claim in claims)
        if claims and len(examples) < EXAMPLES:
            first = claims[0]
            examples.append({"id": record.id, "type": first.type, "text": first.text, "verdict": first.verdict})
    return {"checked": len(drawn), "factual": len(factual), "unsound": wrong, "by_type": dict(kinds)} | {
        "examples": examples
    }


def file_problems(paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return, for each file, the problems that `sft_dataset.py` finds: bad rows, repeats and notes of other splits."""
    return {name: problems for name, path in paths.items() if (problems := find_problems(path))}
