"""Measure how well the fact checker agrees with people who labelled summaries as hallucinated.

In:  a CSV with `clinical_note, model_summary, has_hallucination` (0/1). Optional columns are `id`, `factual_precision`
     (0-1) and a column that groups the summaries of one note.
Out: on stdout, with n and 95% bootstrap intervals: AUROC of the score, AUROC within word-count quintiles, AUROC of the
     word count alone, balanced accuracy, sensitivity, specificity, the share of flagged summaries and of single flags
     where the summary is labelled hallucinated, Spearman correlation with 1 - factual precision, and the flags by
     type. With --output_dir also `fact_checker_agreement.json` (figures only) and `disagreements.html` (every flag
     with the label, and both texts of each disagreement).

    python benchmarks/fact_checker_agreement.py --labels mts_dialog_factuality.csv --rules_written_on_these_rows
    python benchmarks/fact_checker_agreement.py --labels labels.csv --group_column dialogue_id --output_dir agreement

A longer summary has more chances to be wrong, so a score that only counts words has a high AUROC, but not within
quintiles of the word count. The intervals resample groups, since summaries of one note are not independent. Rules,
lexicons and weights that were chosen while reading the same rows make every figure optimistic, and the intervals do
not show this; only rows that nobody has read can. A label applies to the whole summary, so a wrong flag on a
hallucinated summary counts as right. The pages of evaluations read the figures (`--judge_accuracy`); the marks that are
saved there are a file for --labels.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.agreement_metrics import (
    Array,
    auroc,
    balanced_accuracy,
    groups_of,
    interval_of,
    share,
    spearman,
    stratified_auroc,
)
from benchmarks.disagreements import Disagreement, Flag, Section, write_page
from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from script_io.csv_files import read_csv
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

COLUMNS = ("clinical_note", "model_summary", "has_hallucination")
JUDGE = "facts"  # its name in evaluations
LABELS = {"0": "factual", "1": "hallucinated"}
FIGURES_FILE, DISAGREEMENTS_FILE = "fact_checker_agreement.json", "disagreements.html"


@dataclass(frozen=True)
class Labelled:
    """The columns of the data, with one entry per summary."""

    score: Array
    flags: Array  # errors found by the checker
    label: Array  # has_hallucination as people labelled it
    words: Array
    imprecision: Array  # 1 - factual precision; NaN if the file has none
    group: NDArray[np.str_]

    @property
    def predicted(self) -> Array:
        """has_hallucination as the checker finds it."""
        return (self.flags > 0).astype(np.float64)

    def rows(self, indices: NDArray[np.int64]) -> Labelled:
        return Labelled(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))


METRICS: dict[str, Callable[[Labelled], float]] = {
    "auroc": lambda data: auroc(data.score, data.label),
    "auroc_within_length_quintiles": lambda data: stratified_auroc(data.score, data.label, data.words),
    "auroc_of_word_count_alone": lambda data: auroc(data.words, data.label),
    "balanced_accuracy": lambda data: balanced_accuracy(data.predicted, data.label),
    "sensitivity": lambda data: share(data.predicted * data.label, data.label),
    "specificity": lambda data: share((1 - data.predicted) * (1 - data.label), 1 - data.label),
    "precision_of_flagged_summaries": lambda data: share(data.predicted * data.label, data.predicted),
    "precision_of_single_flags": lambda data: share(data.flags * data.label, data.flags),
    "spearman_with_imprecision": lambda data: spearman(data.score, data.imprecision),
}


def read_labels(path: Path, group_column: str | None) -> list[dict[str, str]]:
    """Read the rows; without an `id` column, the line number is the id."""
    rows = []
    for line, row in read_csv(path, [*COLUMNS, *filter(None, [group_column])]):
        if row["has_hallucination"] not in LABELS:
            raise InputError(f"{path}, line {line}: has_hallucination is {row['has_hallucination']!r}; write 0 or 1")
        _imprecision(row, f"{path}, line {line}")
        rows.append({"id": f"line {line}", **row})
    if len({row["has_hallucination"] for row in rows}) < len(LABELS):
        raise InputError(f"{path}: all labels are the same; agreement needs both 0 and 1")
    return rows


def _imprecision(row: dict[str, str], place: str = "") -> float:
    precision = row.get("factual_precision") or "nan"
    try:
        return 1 - float(precision)
    except ValueError as error:
        raise InputError(f"{place}: factual_precision is {precision!r}; write a number from 0 to 1") from error


def labelled(rows: Sequence[dict[str, str]], checks: Sequence[FactCheck], group_column: str) -> Labelled:
    """Put labels and verdicts together, one entry per summary."""
    return Labelled(
        score=np.array([check.score for check in checks]),
        flags=np.array([float(len(check.errors)) for check in checks]),
        label=np.array([float(row["has_hallucination"]) for row in rows]),
        words=np.array([float(len(row["model_summary"].split())) for row in rows]),
        imprecision=np.array([_imprecision(row) for row in rows]),
        group=np.array([row[group_column] for row in rows]),
    )


def measure(data: Labelled, resamples: int, seed: int) -> dict[str, Any]:
    """Return each metric with its 95% percentile interval over resampled groups, or Wilson's where all are equal."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(data.group == name) for name in np.unique(data.group)]
    draws = (rng.integers(0, len(members), len(members)) for _ in range(resamples))
    resampled = [data.rows(np.concatenate([members[i] for i in draw])) for draw in draws]
    resampled = [sample for sample in resampled if 0 < sample.label.sum() < len(sample.label)]
    return {name: _with_interval(name, data, resampled) for name in METRICS}


def _with_interval(name: str, data: Labelled, resampled: Sequence[Labelled]) -> Any:
    metric = METRICS[name]
    value = metric(data)
    resamples = [each for each in map(metric, resampled) if not np.isnan(each)]
    if np.isnan(value) or not resamples:
        return None
    low, high = interval_of(resamples, value, groups_of(name, data.label, data.predicted, data.group))
    return {"value": round(value, 4), "ci95": [round(low, 4), round(high, 4)]}


def flags_by_type(rows: Sequence[dict[str, str]], checks: Sequence[FactCheck]) -> list[dict[str, Any]]:
    """Count the flags of each type and verdict, and how many of them are on summaries labelled hallucinated."""
    kinds = [
        (e.type, e.verdict, row["has_hallucination"]) for row, c in zip(rows, checks, strict=True) for e in c.errors
    ]
    counts = Counter((name, verdict) for name, verdict, _ in kinds)
    agreeing = Counter((name, verdict) for name, verdict, label in kinds if label == "1")
    return [
        {"type": name, "verdict": verdict, "flags": n, "on_hallucinated": agreeing[name, verdict]}
        for (name, verdict), n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def write_disagreements(path: Path, rows: Sequence[dict[str, str]], checks: Sequence[FactCheck]) -> None:
    """Write the page on which a person can judge the disagreements."""
    flags, alarms, missed = [], [], []
    for row, check in zip(rows, checks, strict=True):
        label = LABELS[row["has_hallucination"]]
        flags += [Flag(row["id"], label, claim) for claim in check.errors]
        precision = row.get("factual_precision")
        remark = f"factual precision {precision}" if precision else ""
        found = Disagreement(row["id"], remark, row["clinical_note"], row["model_summary"], check.errors)
        if check.has_hallucination and label == "factual":
            alarms.append(found)
        elif label == "hallucinated" and not check.has_hallucination:
            missed.append(found)
    sections = (
        Section("Flagged, labelled factual", "Either a false alarm or an error that the people passed over.", alarms),
        Section("Labelled hallucinated, not flagged", "What the people marked, the checker did not see.", missed),
    )
    lead = f"{len(rows)} labelled summaries, {len(alarms) + len(missed)} disagreements."
    write_page(path, "The fact checker and the labels", lead, sections, flags)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument("--labels", type=Path, required=True, help="CSV of labelled summaries with the columns above")
    data.add_argument("--group_column", help="column that groups the summaries of one note (default: clinical_note)")
    data.add_argument(
        "--rules_written_on_these_rows",
        action="store_true",
        help="say with the figures that rules were written while these rows were read, so they are optimistic "
        "(default: off)",
    )
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument("--resamples", type=at_least(1), default=1000, help="bootstrap resamples")
    statistics.add_argument("--seed", type=at_least(0), default=42, help="seed of the bootstrap")
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        type=Path,
        help=f"folder for {FIGURES_FILE} and {DISAGREEMENTS_FILE}, which contains the texts (default: print only)",
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Check the summaries, measure, print and write."""
    rows = read_labels(args.labels, args.group_column)
    checks = [check_summary(row["clinical_note"], row["model_summary"]) for row in rows]
    data = labelled(rows, checks, args.group_column or "clinical_note")
    figures = {
        "judge": JUDGE,
        "labels": args.labels.name,
        "rules_written_on_these_rows": args.rules_written_on_these_rows,
        "n": len(rows),
        "groups": len(np.unique(data.group)),
        "hallucinated": int(data.label.sum()),
        "flagged": int(data.predicted.sum()),
        "flags": int(data.flags.sum()),
        "resamples": args.resamples,
        "seed": args.seed,
        "figures": measure(data, args.resamples, args.seed),
        "flags_by_type": flags_by_type(rows, checks),
    }
    print_figures(figures)
    if args.output_dir:
        write_json(args.output_dir / FIGURES_FILE, figures)
        write_disagreements(args.output_dir / DISAGREEMENTS_FILE, rows, checks)
        print(f"Wrote {FIGURES_FILE} and {DISAGREEMENTS_FILE} to {args.output_dir}")
    return 0


def print_figures(figures: dict[str, Any]) -> None:
    """Print the table, and the flags by type."""
    print(
        f"n = {figures['n']} summaries of {figures['groups']} notes, {figures['hallucinated']} labelled hallucinated; "
        f"{figures['flagged']} flagged, with {figures['flags']} flags"
    )
    for name, figure in figures["figures"].items():
        if figure:
            low, high = figure["ci95"]
            print(f"{name:<32} {figure['value']:.3f}  95% interval {low:.3f} to {high:.3f}")
    print("Flags by type, of them on summaries labelled hallucinated")
    for kind in figures["flags_by_type"]:
        print(f"  {kind['type']:<18} {kind['verdict']:<13} {kind['flags']:4} {kind['on_hallucinated']:4}")


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
