"""Compute the exact figures of an evaluation on the demo's notes, whose facts are all known."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from demo.cases import NOTES, facts_by_note
from demo.clinical_notes import ExactVerdict, Facts, check_summary
from evaluation.stats import ratio, share_interval, wilson_interval
from script_io.csv_files import read_csv
from script_io.errors import InputError


@cache
def all_facts() -> dict[str, Facts]:
    """Map every note of the demo to its facts."""
    return {note: facts for split in NOTES for note, facts in facts_by_note(split).items()}


def exact_figures(results_csv: Path, facts: dict[str, Facts]) -> dict[str, Any]:
    """Return the figures of `evaluation_summary.json`, computed from the known facts without a fact checker.

    A summary is hallucinated if any statement is wrong or cannot be parsed. Coverage is the share of key facts stated.
    """
    rows = [row for _, row in read_csv(results_csv, ("clinical_note", "generated_summary"))]
    unknown = [row["clinical_note"] for row in rows if row["clinical_note"] not in facts]
    if unknown:
        raise InputError(f"{results_csv}: {len(unknown)} notes are not from the demo; only demo notes have exact facts")
    verdicts = [check_summary(row["generated_summary"], facts[row["clinical_note"]]) for row in rows]
    words = [len(row["generated_summary"].split()) for row in rows]
    return _figures(verdicts, words)


def _figures(verdicts: list[ExactVerdict], words: list[int]) -> dict[str, Any]:
    n = len(verdicts)
    hallucinated = sum(bool(verdict.errors) for verdict in verdicts)
    wrong, stated = [v.statements - v.supported for v in verdicts], [v.statements for v in verdicts]
    told, key_facts = [v.key_facts_told for v in verdicts], [v.key_facts for v in verdicts]
    by_type = Counter(error for verdict in verdicts for error in set(verdict.errors))
    return {
        "judge": "exact",
        "n": n,
        "hallucination_rate": hallucinated / n,
        "hallucination_rate_ci95": wilson_interval(hallucinated, n),
        "claim_error_rate": ratio(wrong, stated),
        "claim_error_rate_ci95": share_interval(wrong, stated),
        "coverage": ratio(told, key_facts),
        "coverage_ci95": share_interval(told, key_facts),
        "mean_summary_words": sum(words) / n,
        "by_type": {name: {"summaries": count, "rate": count / n} for name, count in by_type.most_common()},
    }
