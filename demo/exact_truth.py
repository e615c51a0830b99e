"""The exact figures of an evaluation on the demo's notes, where every fact is known.

In:  an `evaluation_results.csv` over notes of the demo, of any split.
Out: on stdout, the figures of `evaluation_summary.json` by the facts themselves, as JSON.

    python demo/exact_truth.py --results_csv evaluation_results/evaluation_results.csv
    python demo/exact_truth.py --results_csv runs/demo/evaluation/dpo_greedy/evaluation_results.csv
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any working folder

from demo.cases import NOTES, facts_by_note
from demo.clinical_notes import ExactVerdict, Facts, check_summary
from evaluation.stats import ratio, ratio_interval, wilson_interval
from script_io import ArgumentParser, InputError, read_csv, run_script


def all_facts() -> dict[str, Facts]:
    """What is true of every note of the demo, whichever its split."""
    return {note: facts for split in NOTES for note, facts in facts_by_note(split).items()}


def exact_figures(results_csv: Path, facts: dict[str, Facts]) -> dict[str, Any]:
    """The figures of `evaluation_summary.json`, by the facts themselves and by no checker.

    A summary is hallucinated where any statement is wrong or cannot be parsed; coverage is the share of key facts told.
    """
    rows = [row for _, row in read_csv(results_csv, ("clinical_note", "generated_summary"))]
    unknown = [row["clinical_note"] for row in rows if row["clinical_note"] not in facts]
    if unknown:
        raise InputError(f"{results_csv}: {len(unknown)} notes are none of the demo's; its exact truth is not known")
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
        "claim_error_rate_ci95": ratio_interval(wrong, stated),
        "coverage": ratio(told, key_facts),
        "coverage_ci95": ratio_interval(told, key_facts),
        "mean_summary_words": sum(words) / n,
        "by_type": {name: {"summaries": count, "rate": count / n} for name, count in by_type.most_common()},
    }


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("--results_csv", type=Path, required=True, help="of evaluation/evaluate_model.py, on demo notes")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    print(json.dumps(exact_figures(args.results_csv, all_facts()), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
