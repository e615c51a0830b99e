"""How well the fact checker agrees with people who marked summaries as hallucinated.

In:  a CSV with `clinical_note, model_summary, has_hallucination` (0/1) and, where there are, `factual_precision` (0-1)
     and a column that groups rows of one note.
Out: on stdout, with n and 95% bootstrap intervals: AUROC of the score, AUROC within word-count quintiles (a longer
     summary has more chances to be wrong: a score that only counts words does well on the first and not on this one),
     AUROC of the word count alone, balanced accuracy of has_hallucination, Spearman with 1 - factual precision.

    python benchmarks/fact_checker_agreement.py --labelled_csv mts_dialog_factuality.csv
    python benchmarks/fact_checker_agreement.py --labelled_csv labels.csv --group_column note_id --output_file out.json

The intervals resample groups, since summaries of one note are not independent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from evaluation.fact_checker import check_summary
from script_io import ArgumentParser, InputError, read_csv, run_script, write_json

Array = NDArray[np.float64]
STRATA = 5


@dataclass(frozen=True)
class Labelled:
    """The columns, one entry a summary."""

    score: Array
    predicted: Array  # has_hallucination of the checker
    label: Array  # has_hallucination of the people
    words: Array
    imprecision: Array  # 1 - factual precision; NaN where the file has none
    group: NDArray[np.str_]

    def rows(self, indices: NDArray[np.int64]) -> Labelled:
        return Labelled(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))


def auroc(score: Array, label: Array) -> float:
    """Probability that a hallucinated summary outranks a factual one, ties counting half."""
    concordant, pairs = concordance(score, label)
    return concordant / pairs if pairs else float("nan")


def concordance(score: Array, label: Array) -> tuple[float, int]:
    """(concordant pairs, pairs) of a hallucinated and a factual summary: the Mann-Whitney U."""
    positives = int(label.sum())
    pairs = positives * (len(label) - positives)
    return float(rankdata(score)[label == 1].sum()) - positives * (positives + 1) / 2, pairs


def stratified_auroc(score: Array, label: Array, words: Array) -> float:
    """AUROC over the pairs of like length only: pairs within quintiles of the word count, pooled."""
    edges = np.quantile(words, np.linspace(0, 1, STRATA + 1)[1:-1])
    stratum = np.searchsorted(edges, words, side="left")
    counts = [concordance(score[stratum == s], label[stratum == s]) for s in range(STRATA)]
    pairs = sum(count for _, count in counts)
    return sum(concordant for concordant, _ in counts) / pairs if pairs else float("nan")


def balanced_accuracy(predicted: Array, label: Array) -> float:
    """Mean of sensitivity and specificity."""
    return float((predicted[label == 1].mean() + 1 - predicted[label == 0].mean()) / 2)


METRICS: dict[str, Callable[[Labelled], float]] = {
    "auroc": lambda data: auroc(data.score, data.label),
    "auroc_within_length_quintiles": lambda data: stratified_auroc(data.score, data.label, data.words),
    "auroc_of_word_count_alone": lambda data: auroc(data.words, data.label),
    "balanced_accuracy": lambda data: balanced_accuracy(data.predicted, data.label),
    "sensitivity": lambda data: float(data.predicted[data.label == 1].mean()),
    "specificity": lambda data: float(1 - data.predicted[data.label == 0].mean()),
    "spearman_with_imprecision": lambda data: float(spearmanr(data.score, data.imprecision).statistic),
}


def load(path: Path, group_column: str | None) -> Labelled:
    """Reads the labels and runs the checker on every summary."""
    rows = read_csv(path, ["clinical_note", "model_summary", "has_hallucination", *filter(None, [group_column])])
    for line, row in rows:
        if row["has_hallucination"] not in ("0", "1"):
            raise InputError(f"{path}, line {line}: has_hallucination is {row['has_hallucination']!r}; write 0 or 1")
    checks = [check_summary(row["clinical_note"], row["model_summary"]) for _, row in rows]
    return Labelled(
        score=np.array([check.score for check in checks]),
        predicted=np.array([float(check.has_hallucination) for check in checks]),
        label=np.array([float(row["has_hallucination"]) for _, row in rows]),
        words=np.array([float(len(row["model_summary"].split())) for _, row in rows]),
        imprecision=np.array([1 - float(row.get("factual_precision") or "nan") for _, row in rows]),
        group=np.array([row[group_column or "clinical_note"] for _, row in rows]),
    )


def measure(data: Labelled, resamples: int, seed: int) -> dict[str, Any]:
    """Each metric with its 95% percentile interval over resampled groups."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(data.group == name) for name in np.unique(data.group)]
    draws = (rng.integers(0, len(members), len(members)) for _ in range(resamples))
    resampled = [data.rows(np.concatenate([members[i] for i in draw])) for draw in draws]
    resampled = [sample for sample in resampled if 0 < sample.label.sum() < len(sample.label)]
    return {name: _with_interval(metric, data, resampled) for name, metric in METRICS.items()}


def _with_interval(metric: Callable[[Labelled], float], data: Labelled, resampled: Sequence[Labelled]) -> Any:
    value = metric(data)
    if np.isnan(value):
        return None
    low, high = np.nanpercentile([metric(sample) for sample in resampled], [2.5, 97.5])
    return {"value": round(value, 4), "ci95": [round(float(low), 4), round(float(high), 4)]}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("--labelled_csv", type=Path, required=True, help="CSV of labelled summaries (columns: see above)")
    data.add_argument("--group_column", help="column that groups the summaries of one note (default: clinical_note)")
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: 1000)")
    statistics.add_argument("--seed", type=int, default=42, help="of the bootstrap (default: 42)")
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, help="also write the figures there as JSON (default: print only)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Measures and prints."""
    data = load(args.labelled_csv, args.group_column)
    if not 0 < data.label.sum() < len(data.label):
        raise InputError(f"{args.labelled_csv}: all labels are the same; agreement needs both 0 and 1")
    figures = measure(data, args.resamples, args.seed)
    groups = len(np.unique(data.group))
    print(f"n = {len(data.label)} summaries of {groups} notes, {int(data.label.sum())} labelled hallucinated")
    for name, figure in figures.items():
        if figure:
            print(f"{name:<30} {figure['value']:.3f}  95% interval {figure['ci95'][0]:.3f} to {figure['ci95'][1]:.3f}")
    if args.output_file:
        write_json(args.output_file, {"n": len(data.label), "groups": groups, **figures})
        print(f"Wrote {args.output_file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
