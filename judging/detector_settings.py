"""Fit everything that a detector needs next to its weights, from predictions for dialogues it was not trained on.

    alone        a logistic regression over the detector's own features, for --judge detector
    with_rules   the same over the features of rules and detector, for --judge facts --evidence_model
    word_threshold   the probability from which a word is marked: the best F1 over words

Each regression comes with its threshold, and with the sensitivity and the specificity that thresholds chosen in the
same way on the other folds reach (cross-validation over dialogues).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging.combination import (
    Array,
    Combination,
    detector_features,
    error_rates,
    fit,
    joint_features,
    length_feature,
    out_of_fold,
    rule_features,
    threshold_at,
)
from judging.packed_summaries import Span
from judging.word_scores import WordScore
from script_io.errors import InputError

ALONE, WITH_RULES = "alone", "with_rules"
SETTINGS_FILE = "detector.json"
TRAIN_COMMAND = "python -m judging.train_detector"
PREDICTIONS_FILE = "out_of_fold.jsonl"  # in the folder of a detector
# A pair's chosen text has a probability below the first limit, its rejected text one above the second. The limits are
# the widest at which at most these shares of the summaries beyond them are false, or true.
MOST_FALSE_CHOSEN, MOST_TRUE_REJECTED = 0.16, 0.04
_FEWEST_BEYOND_LIMIT = 20  # summaries; the share over fewer says little


@dataclass(frozen=True)
class Prediction:
    """The detector's words for a summary, with what people marked."""

    note: str
    summary: str
    has_error: bool
    spans: tuple[Span, ...] | None
    words: tuple[WordScore, ...]
    summary_probability: float

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Prediction:
        """Return the prediction of a row of `out_of_fold.jsonl`. Raises KeyError for another row."""
        spans = None if row["spans"] is None else tuple((int(start), int(end)) for start, end in row["spans"])
        words = tuple(WordScore(int(start), int(end), float(score)) for start, end, score in row["words"])
        probability = float(row["summary_probability"])
        return cls(row["clinical_note"], row["generated_summary"], bool(row["has_error"]), spans, words, probability)

    def features(self, check: FactCheck | None) -> dict[str, float]:
        """Return the features of the detector, and with a check also the features of the rules."""
        return summary_features(self.summary, self.words, self.summary_probability, check)


def summary_features(
    summary: str, words: Sequence[WordScore], summary_probability: float, check: FactCheck | None
) -> dict[str, float]:
    """Return the features of a summary: of the detector, and with a check also of the rules and of both together."""
    own = {**detector_features(words, summary_probability), **length_feature(summary)}
    return own if check is None else {**rule_features(check), **joint_features(words, check), **own}


def fit_settings(predictions: Sequence[Prediction], specificity: float) -> dict[str, Any]:
    """Return the fitted part of `detector.json`."""
    checks = [check_summary(each.note, each.summary) for each in predictions]
    alone = _fit_one([each.features(None) for each in predictions], predictions, specificity)
    joined = [each.features(check) for each, check in zip(predictions, checks, strict=True)]
    return {
        "n": len(predictions),
        "notes": len({each.note for each in predictions}),
        "with_error": sum(each.has_error for each in predictions),
        "specificity_wanted": specificity,
        "word_threshold": best_word_threshold(predictions),
        ALONE: alone,
        WITH_RULES: _fit_one(joined, predictions, specificity),
    }


def _fit_one(
    features: Sequence[Mapping[str, float]],
    predictions: Sequence[Prediction],
    specificity: float,
) -> dict[str, Any]:
    """Return one fitted regression with its threshold, its limits for pairs and its error rates."""
    names = tuple(features[0])
    values = np.array([[each[name] for name in names] for each in features])
    labels = np.array([float(each.has_error) for each in predictions])
    combination = fit(names, values, labels)
    held_out, flags = out_of_fold(names, values, labels, [each.note for each in predictions], specificity)
    low, high = pair_limits(held_out, labels)
    return {
        "combination": combination.as_dict(),
        "threshold": threshold_at(combination.probabilities(values), labels, specificity),
        **error_rates(flags, labels),
        "chosen_below": low,
        "rejected_above": high,
    }


def print_settings(settings: Mapping[str, Any]) -> None:
    """Print the error rates of both regressions."""
    print(f"{settings['n']} summaries of {settings['notes']} notes, {settings['with_error']} with an error")
    for part, name in ((ALONE, "detector alone"), (WITH_RULES, "rules and detector")):
        figures = settings[part]
        print(
            f"  {name:<20} sensitivity {figures['sensitivity']:.1%}, specificity {figures['specificity']:.1%} "
            "(cross-validation over notes)"
        )


def pair_limits(probabilities: Array, labels: Array) -> tuple[float, float]:
    """Return (limit below which a text may be chosen, limit above which a text may be rejected)."""
    order = np.argsort(probabilities)
    sorted_labels, sorted_probabilities = labels[order], probabilities[order]
    count = np.arange(1, len(labels) + 1)
    below = np.flatnonzero((np.cumsum(sorted_labels) / count <= MOST_FALSE_CHOSEN) & (count >= _FEWEST_BEYOND_LIMIT))
    true_above = np.cumsum(1 - sorted_labels[::-1]) / count
    above = np.flatnonzero((true_above <= MOST_TRUE_REJECTED) & (count >= _FEWEST_BEYOND_LIMIT))
    low = float(sorted_probabilities[below[-1]]) if len(below) else 0.0
    high = float(sorted_probabilities[::-1][above[-1]]) if len(above) else 1.0
    return low, max(low, high)


def best_word_threshold(predictions: Sequence[Prediction]) -> float:
    """Return the threshold, of 0.05, 0.1, ... 0.95, with the best F1 over the words of summaries with marks."""
    scores, marks = [], []
    for each in predictions:
        if each.spans is not None:
            scores += [word.score for word in each.words]
            marks += [any(word.start < end and start < word.end for start, end in each.spans) for word in each.words]
    score, mark = np.array(scores), np.array(marks, dtype=bool)

    def f1(threshold: float) -> float:
        found = score >= threshold
        total = found.sum() + mark.sum()
        return float(2 * (found & mark).sum() / total) if total else 0.0

    return max((round(0.05 * step, 2) for step in range(1, 20)), key=f1)


def stretches_found(predictions: Sequence[Prediction], threshold: float) -> tuple[int, int]:
    """Return (marked stretches that share a word with the detector's at the threshold, all marked stretches)."""
    found = total = 0
    for each in predictions:
        marked = [word for word in each.words if word.score >= threshold]
        for start, end in each.spans or ():
            total += 1
            found += any(word.start < end and start < word.end for word in marked)
    return found, total


@dataclass(frozen=True)
class Fitted:
    """One regression of `detector.json` as a judge uses it."""

    combination: Combination
    threshold: float
    word_threshold: float
    chosen_below: float
    rejected_above: float

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], part: str, place: str) -> Fitted:
        """Return the part ALONE or WITH_RULES. Raises InputError if the settings lack it."""
        try:
            stored = settings[part]
            numbers = (
                stored["threshold"],
                settings["word_threshold"],
                stored["chosen_below"],
                stored["rejected_above"],
            )
            return cls(Combination.from_dict(stored["combination"]), *map(float, numbers))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{place}: its thresholds cannot be read; train the detector again") from error
