"""Set the threshold of the likelihood judge of a model, on hard negatives of the validation split.

In:  --judge_model, a causal language model or an adapter of the suite, and `validation_set_processed.csv` in
     --phase1_dir.
Out: `likelihood_calibration.json` in the model's folder: a logistic regression over the evidence of the words, its
     threshold with sensitivity and specificity, the threshold of a single word, and the hash of the data.

    python -m judging.calibrate --judge_model models/sft_specialist/final_model --phase1_dir phase1_data/sft
    python -m judging.calibrate --judge_model models/sft_specialist/final_model --phase1_dir DIR --specificity 0.95

Each factual summary of the validation split is paired with verified negatives that differ from it in one fact
(negatives/). No human label is used, and the rows of a later evaluation play no part. Summaries of a real model have
other errors than the negatives, so the rates that are printed hold for the negatives only.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from judging.combination import error_rates, fit, length_feature, likelihood_features, out_of_fold, threshold_at
from judging.detector_settings import pair_limits
from judging.judge import NoteAndSummary
from judging.word_scores import WordScore
from negatives.case import Corpus
from negatives.example_index import Example
from negatives.registry import EDITORS
from negatives.supply import Task, supply
from negatives.verification import Negative
from script_io.columns_flag import PHASE1_ROLES, add_columns_argument, column_names
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json
from script_io.phase1_csv import FACTUAL_LABELS, row_problem
from script_io.phase1_files import split_file, stream_phase1
from script_io.provenance import provenance

VALIDATION_FILE = "validation_set_processed.csv"
FEWEST_PAIRS = 5


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--judge_model", required=True, metavar="FOLDER", help="folder of the model or the adapter")
    parser.add_argument(
        "--phase1_dir", type=Path, required=True, metavar="DIR", help=f"folder with {VALIDATION_FILE} of Phase 1"
    )
    add_columns_argument(parser, PHASE1_ROLES)
    parser.add_argument(
        "--specificity",
        type=float,
        default=0.9,
        help="share of factual summaries, above 0 and below 1, that the threshold leaves unflagged",
    )
    parser.add_argument("--seed", type=at_least(0), default=42, help="seed of the choice of negatives")
    add_lexicon_argument(parser)
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"), help="device of the model")
    return parser.parse_args(argv)


def read_factual(path: Path, columns: Mapping[str, str] | None = None) -> list[Example]:
    """Return the factual summaries of the validation split."""
    examples: list[Example] = []
    for place, row in stream_phase1(path, columns):
        if problem := row_problem(row):
            raise InputError(f"{path}, {place}: {problem}")
        if row["label"] in FACTUAL_LABELS:
            number, row_id = len(examples), row.get("id") or place.row_id
            examples.append(Example(number, place.number, row_id, 0, row["clinical_note"], row["model_summary"], ""))
    return examples


def make_pairs(examples: Sequence[Example], seed: int) -> list[tuple[Example, Negative]]:
    """Return one verified negative for each summary that has one, of the types in turn."""
    corpus = Corpus.from_summaries((example.note, example.summary) for example in examples)
    taken = dict.fromkeys(EDITORS, 0)
    pairs = []
    for example in examples:
        offered = supply(Task(example, 1, f"{seed}|{example.row_id}"), corpus, list(EDITORS)).negatives
        if offered:
            negative = min(offered, key=lambda each: taken[each.type])  # the rarest type so far
            taken[negative.type] += 1
            pairs.append((example, negative))
    return pairs


def calibration_of(
    notes: Sequence[str],
    summaries: Sequence[str],
    words: Sequence[Sequence[WordScore]],
    labels: Sequence[float],
    specificity: float,
) -> dict[str, Any]:
    """Return the regression over the evidence of the words, its threshold and its rates under cross-validation."""
    features = [
        {**likelihood_features(each), **length_feature(text)} for each, text in zip(words, summaries, strict=True)
    ]
    names = tuple(features[0])
    values, wrong = np.array([[row[name] for name in names] for row in features]), np.array(labels)
    combination = fit(names, values, wrong)
    held_out, flags = out_of_fold(names, values, wrong, notes, specificity)
    low, high = pair_limits(held_out, wrong)
    # a word is marked if its evidence is below the lowest of most true summaries
    lowest = np.array(
        [-min(word.score for word in each) for each, label in zip(words, labels, strict=True) if not label]
    )
    return {
        "combination": combination.as_dict(),
        "threshold": threshold_at(combination.probabilities(values), wrong, specificity),
        "word_threshold": float(np.quantile(lowest, specificity)),
        "chosen_below": low,
        "rejected_above": high,
        "specificity_wanted": specificity,
        "n": len(labels),
        **error_rates(flags, wrong),
    }


def main(args: argparse.Namespace) -> int:
    """Make the negatives, compute the evidence, fit, and store."""
    from judging.likelihood_judge import CALIBRATION_FILE, LikelihoodWords, require_causal_model

    if not 0 < args.specificity < 1:
        raise InputError(f"--specificity {args.specificity}: give a share above 0 and below 1, such as 0.9")
    add_lexicons(args.lexicon_dir)
    require_causal_model(args.judge_model)
    path = split_file(args.phase1_dir, VALIDATION_FILE)
    pairs = make_pairs(read_factual(path, column_names(args.columns, PHASE1_ROLES)), args.seed)
    if len(pairs) < FEWEST_PAIRS:
        raise InputError(f"{path}: only {len(pairs)} of its factual summaries have a verified negative; add notes")
    print(f"{len(pairs)} factual summaries of {path}, each with one verified negative")
    texts: list[NoteAndSummary] = []
    for example, negative in pairs:
        texts += [(example.note, example.summary), (example.note, negative.rejected)]
    scored = LikelihoodWords(args.judge_model, args.device).score(texts, "Evidence")
    known = [
        (note, text, words, float(place % 2))
        for place, ((note, text), words) in enumerate(zip(texts, scored, strict=True))
        if words
    ]
    if {label for *_, label in known} != {0.0, 1.0}:
        raise InputError(f"{path}: no summary fits into the context of {args.judge_model}; use shorter notes")
    notes, summaries, words, labels = zip(*known, strict=True)
    content = calibration_of(notes, summaries, words, labels, args.specificity)
    content |= {"data": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}, "seed": args.seed, **provenance()}
    target = Path(args.judge_model) / CALIBRATION_FILE
    write_json(target, content)
    print(
        f"Threshold {content['threshold']:.3f}: finds {content['sensitivity']:.1%} of the negatives, flags "
        f"{1 - content['specificity']:.1%} of the factual summaries (cross-validation over notes)"
    )
    print(f"Saved {target}")
    command = f"--judge likelihood --judge_model {args.judge_model}"
    print(f"Next: python evaluation/evaluate_model.py --predictions FILE {command}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
