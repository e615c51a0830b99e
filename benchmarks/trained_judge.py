"""Measure a trained judge on labelled summaries: alone, with the rules, as a marker of words, and as a maker of pairs.

In:  --judge_model, a detector's folder of judging/train_detector.py. Its `out_of_fold.jsonl` has for each labelled
     summary the prediction of a detector that did not see the dialogue. Optionally --factuality (the CSV of
     benchmarks/fact_checker_agreement.py) and --read (JSONL of more labelled summaries), whose dialogues the detector
     must not have seen; they are scored by the saved detector.
Out: on stdout and in --output, each figure with n and a 95% interval from resampled dialogues. The weights and all
     thresholds of the combination are refitted with the rules as they are now, under cross-validation over dialogues.

    python benchmarks/trained_judge.py --judge_model models/own_judge
    python benchmarks/trained_judge.py --judge_model models/own_judge --factuality factuality.csv --read read.jsonl

Scores of the saved detector are kept in --cache, under the digest of its weights, so that a second run takes seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from benchmarks.trained_judge_pairs import measure_pairs, measure_repairs
from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging.combination import PENALTY, fit, fold_of, logit, out_of_fold
from judging.detector_settings import PREDICTIONS_FILE, Prediction, best_word_threshold, stretches_found
from script_io.csv_files import read_csv
from script_io.errors import ArgumentParser, at_least, run_script
from script_io.files import read_jsonl, write_json, write_jsonl

FEATURES = {
    "length": ("log_words",),
    "rules": ("rules_", "log_words"),
    "detector": ("detector_", "log_words"),
    "score of the rules": ("rules_score",),
    "score of the rules and detector's summary output": ("rules_score", "detector_summary"),
    "rules and detector": ("rules_", "detector_", "joint_", "log_words"),
}


@dataclass(frozen=True)
class Scored:
    """Labelled summaries with what each witness says, one entry per summary."""

    predictions: list[Prediction]
    checks: list[FactCheck]
    imprecision: Array  # 1 - factual precision; NaN if unknown

    @property
    def label(self) -> Array:
        return np.array([float(each.has_error) for each in self.predictions])

    @property
    def words(self) -> Array:
        return np.array([float(len(each.summary.split())) for each in self.predictions])

    @property
    def notes(self) -> list[str]:
        return [each.note for each in self.predictions]


def probabilities_of(data: Scored, witnesses: str, specificity: float) -> tuple[Array, Array]:
    """Return (probability, flag) of each summary under cross-validation, from the features of some witnesses."""
    names, values = _inputs(data, witnesses)
    probability, flag = out_of_fold(names, values, data.label, data.notes, specificity)
    return probability, flag.astype(np.float64)


def figures_of(
    score: Array, flag: Array, data: Scored, members: Sequence[NDArray[np.int64]], resamples: int, seed: int
) -> dict[str, Any]:
    """Return each metric with its 95% interval over resampled dialogues."""
    label, words, imprecision = data.label, data.words, data.imprecision
    metrics: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "auroc": lambda i: auroc(score[i], label[i]),
        "auroc_within_length_quintiles": lambda i: stratified_auroc(score[i], label[i], words[i]),
        "sensitivity": lambda i: share(flag[i] * label[i], label[i]),
        "specificity": lambda i: share((1 - flag[i]) * (1 - label[i]), 1 - label[i]),
        "balanced_accuracy": lambda i: balanced_accuracy(flag[i], label[i]),
    }
    if not np.isnan(imprecision).all():
        metrics["spearman_with_imprecision"] = lambda i: spearman(score[i], imprecision[i])
    rng = np.random.default_rng(seed)
    everything = np.arange(len(label))
    draws = [
        np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(resamples)
    ]
    found = {}
    for name, metric in metrics.items():
        value = metric(everything)
        groups = groups_of(name, label, flag, np.array(data.notes))
        low, high = interval_of([metric(draw) for draw in draws], value, groups)
        found[name] = {"value": round(value, 4), "ci95": [round(low, 4), round(high, 4)]}
    return found


def carried_over(labelled: Scored, data: Scored, specificity: float) -> tuple[Array, Array]:
    """Return (probability, flag) for summaries of other systems, with few labels.

    The regression of rules and detector is fitted on the labelled samples. Its log odds, the score of the rules and the
    length are weighed by a second regression, under cross-validation over the dialogues of `data`. Its penalty per
    summary is that of the first one.
    """
    first = fit(*_inputs(labelled, "rules and detector"), labelled.label)
    given = first.probabilities(_inputs(data, "rules and detector")[1])
    rules = [math.log1p(check.score) for check in data.checks]
    values = np.column_stack([rules, [logit(each) for each in given], np.log1p(data.words)])
    penalty = PENALTY * len(data.predictions) / len(labelled.predictions)
    names = ("rules", "first regression", "length")
    probability, flag = out_of_fold(names, values, data.label, data.notes, specificity, penalty)
    return probability, flag.astype(np.float64)


def _inputs(data: Scored, witnesses: str) -> tuple[list[str], Array]:
    """Return (names, values) of the features of some witnesses; the values are (R, F)."""
    rows = [each.features(check) for each, check in zip(data.predictions, data.checks, strict=True)]
    names = [name for name in rows[0] if name.startswith(FEATURES[witnesses])]
    return names, np.array([[row[name] for name in names] for row in rows])


def measure(
    data: Scored, specificity: float, resamples: int, seed: int, labelled: Scored | None = None
) -> dict[str, Any]:
    """Return the figures of the rules as they are, and of each set of witnesses.

    With `labelled`, other summaries with many labels, also those of `carried_over`.
    """
    groups = np.array(data.notes)
    members = [np.flatnonzero(groups == note) for note in np.unique(groups)]
    rule_score = np.array([check.score for check in data.checks])
    rule_flag = np.array([float(check.has_hallucination) for check in data.checks])
    figures = {"rules as they are": figures_of(rule_score, rule_flag, data, members, resamples, seed)}
    for witnesses in FEATURES:
        probability, flag = probabilities_of(data, witnesses, specificity)
        figures[witnesses] = figures_of(probability, flag, data, members, resamples, seed)
        if witnesses == "rules and detector":
            either = np.maximum(flag, rule_flag)
            figures["rules and detector, or an error of the rules"] = figures_of(
                probability, either, data, members, resamples, seed
            )
    if labelled is not None:
        probability, flag = carried_over(labelled, data, specificity)
        either = np.maximum(flag, rule_flag)
        figures["rules, and the regression of the real samples"] = figures_of(
            probability, either, data, members, resamples, seed
        )
    return {"n": len(groups), "notes": len(members), "with_error": int(data.label.sum()), "figures": figures}


def stretches(predictions: Sequence[Prediction], checks: Sequence[FactCheck]) -> dict[str, Any]:
    """Return how many of the marked stretches share a word with what the detector, or the rules too, mark.

    The words of a dialogue are marked at the threshold that is best on the other folds' dialogues.
    """
    fold = [fold_of(each.note) for each in predictions]
    counts = Counter[str]()
    thresholds = {}
    for own in sorted(set(fold)):
        others = [each for each, number in zip(predictions, fold, strict=True) if number != own]
        thresholds[own] = best_word_threshold(others)
        for prediction, check, number in zip(predictions, checks, fold, strict=True):
            if number == own:
                counts.update(_stretches_of(prediction, check, thresholds[own]))
    return {"word_thresholds": [*thresholds.values()], **counts}


def _stretches_of(prediction: Prediction, check: FactCheck, threshold: float) -> dict[str, int]:
    """Return the counts of one summary at a threshold of words."""
    spans = prediction.spans or ()
    found, total = stretches_found([prediction], threshold)
    marked = [word for word in prediction.words if word.score >= threshold]
    return {
        "stretches": total,
        "overlapped": found,
        "overlapped_with_rules": sum(
            any(start < end_ and start_ < end for start_, end_ in _marked(prediction, check, threshold))
            for start, end in spans
        ),
        "marked_words": len(marked),
        "marked_words_unsupported": sum(
            any(word.start < end and start < word.end for start, end in spans) for word in marked
        ),
    }


def _marked(prediction: Prediction, check: FactCheck, threshold: float) -> list[tuple[int, int]]:
    words = [(word.start, word.end) for word in prediction.words if word.score >= threshold]
    return words + [(claim.start, claim.end) for claim in check.claims if claim.is_wrong]


# ------------------------------------------------------------------------------------------- reading


def score_rows(
    rows: Sequence[Mapping[str, Any]], folder: Path, cache_dir: Path, name: str, device: str
) -> list[Prediction]:
    """Return the predictions of the saved detector, from its own file in `cache_dir` if that has all of them."""
    from judging.detector import WordDetector

    cache = cache_dir / f"scores_{name}_{detector_digest(folder)}.jsonl"
    if cache.is_file():
        stored = [row for _, row in read_jsonl(cache, ("clinical_note", "generated_summary"))]
        same = ("clinical_note", "generated_summary", "has_error")
        if [[row[key] for key in same] for row in stored] == [[row[key] for key in same] for row in rows]:
            return [Prediction.from_row(row) for row in stored]
    pairs = [(row["clinical_note"], row["generated_summary"]) for row in rows]
    scored = WordDetector(folder, device).score(pairs, "Detector")
    content = []
    for row, each in zip(rows, scored, strict=True):
        words, probability = each or ([], 0.0)
        found = [(word.start, word.end, round(word.score, 5)) for word in words]
        content.append({**row, "words": found, "summary_probability": round(probability, 5)})
    write_jsonl(cache, content)
    return [Prediction.from_row(row) for row in content]


def detector_digest(folder: Path) -> str:
    """Return a short name for the weights of a detector, so that no other one's scores are taken for its own."""
    from judging.token_detector import read_settings

    digest = hashlib.sha256(str(read_settings(folder)["passes"]).encode())
    for path in (folder / "adapter_config.json", *sorted(folder.glob("*.safetensors"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read_factuality(path: Path) -> tuple[list[dict[str, Any]], Array]:
    """Return the rows of the CSV, and 1 - factual precision of each."""
    rows, imprecision = [], []
    for _, row in read_csv(path, ("clinical_note", "model_summary", "has_hallucination")):
        rows.append(_row(row["clinical_note"], row["model_summary"], row["has_hallucination"]))
        imprecision.append(1 - float(row.get("factual_precision") or "nan"))
    return rows, np.array(imprecision)


def read_more(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL of labelled summaries."""
    wanted = ("clinical_note", "generated_summary", "has_hallucination")
    return [_row(*(row[key] for key in wanted)) for _, row in read_jsonl(path, wanted)]


def _row(note: str, summary: str, label: str | int) -> dict[str, Any]:
    return {"clinical_note": note, "generated_summary": summary, "has_error": bool(int(label)), "spans": None}


def with_checks(predictions: list[Prediction], imprecision: Array | None = None) -> Scored:
    """Return the predictions with the verdicts of the rules as they are now."""
    checks = [check_summary(each.note, each.summary) for each in predictions]
    unknown = np.full(len(predictions), np.nan) if imprecision is None else imprecision
    return Scored(predictions, checks, unknown)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument("--judge_model", type=Path, required=True, metavar="FOLDER", help="folder of the detector")
    data.add_argument("--labels", type=Path, metavar="FILE", help="labelled summaries with reference_summary and "
                      "is_reference, to measure pairs as well (default: none)")  # fmt: skip
    data.add_argument("--factuality", type=Path, metavar="FILE", help="CSV of labelled summaries (default: none)")
    data.add_argument("--read", type=Path, metavar="FILE", help="JSONL of more labelled summaries (default: none)")
    data.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="folder for the detector's scores (default: --judge_model)"
    )
    data.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"), help="device of the detector")
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument(
        "--specificity", type=float, default=0.89, help="share of faultless summaries to leave alone"
    )
    statistics.add_argument("--resamples", type=at_least(1), default=300, help="bootstrap resamples")
    statistics.add_argument("--seed", type=at_least(0), default=42, help="seed of the bootstrap")
    output = parser.add_argument_group("Output")
    output.add_argument("--output", type=Path, metavar="FILE", help="JSON of the figures (default: print only)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Refit, measure, print and write."""
    cache = args.cache or args.judge_model
    rows = read_jsonl(args.judge_model / PREDICTIONS_FILE, ("words", "spans"), "train it with judging.train_detector")
    labelled = with_checks([Prediction.from_row(row) for _, row in rows])
    settings = (args.specificity, args.resamples, args.seed)
    result: dict[str, Any] = {"real samples": measure(labelled, *settings)}
    result["real samples"]["stretches"] = stretches(labelled.predictions, labelled.checks)
    if args.read:
        more = score_rows(read_more(args.read), args.judge_model, cache, "read", args.device)
        both = with_checks([*labelled.predictions, *more])
        result["real samples and read completions"] = measure(both, *settings)
    if args.factuality:
        dev_rows, imprecision = read_factuality(args.factuality)
        scored = score_rows(dev_rows, args.judge_model, cache, "factuality", args.device)
        result["factuality"] = measure(with_checks(scored, imprecision), *settings, labelled)
    if args.labels:
        probability, _ = probabilities_of(labelled, "rules and detector", args.specificity)
        result["pairs"] = measure_pairs(args.labels, labelled.predictions, labelled.checks, probability)
        result["repaired pairs"] = measure_repairs(args.labels, labelled.predictions, labelled.checks)
    print_result(result)
    if args.output:
        write_json(args.output, {"settings": {"specificity": args.specificity, "seed": args.seed}, **result})
    return 0


def print_result(result: Mapping[str, Any]) -> None:
    """Print a table for each data set."""
    for name, found in result.items():
        if "figures" not in found:
            print(f"\n{name}: {json.dumps(found)}")
            continue
        print(f"\n{name}: {found['n']} summaries of {found['notes']} notes, {found['with_error']} with an error")
        for witnesses, figures in found["figures"].items():
            print(f"  {witnesses}")
            for metric, figure in figures.items():
                low, high = figure["ci95"]
                print(f"    {metric:<32} {figure['value']:.3f}  95% interval {low:.3f} to {high:.3f}")
        if "stretches" in found:
            print(f"  stretches: {json.dumps(found['stretches'])}")


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
