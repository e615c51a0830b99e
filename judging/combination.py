"""Combine what several witnesses say about a summary into one probability that something in it is unsupported.

The witnesses are the rules (fact_checking/), the trained detector and the evidence of a language model. Each gives a
few numbers (features); a logistic regression with an L2 penalty weighs them. It is fitted on predictions for dialogues
that the detector was not trained on, and judged by cross-validation over dialogues (`out_of_fold`).

Shapes: R summaries, F features.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fact_checking.claims import CONTRADICTED, ERROR, SUPPORTED, UNSUPPORTED, UNVERIFIABLE, Claim, FactCheck
from judging.word_scores import WordScore, overlaps

Array = NDArray[np.float64]
PENALTY = 10.0  # of the squared weights of standardised features
FOLDS = 5
POLARITY = "negation"  # type of the claims that a finding is present or denied
_FREQUENT_ERRORS = ("condition", "symptom", "drug", "number", "duration", "procedure", "age", "date", "laterality")
DOUBTFUL, LIKELY = 0.25, 0.6  # probabilities of a word
_NEWTON_STEPS = 50


def rule_features(check: FactCheck) -> dict[str, float]:
    """Return what the rules say: errors by verdict, those of polarity apart, doubtful words, open claims, the score.

    Polarity is apart because it is the kind of error in which the rules are least often right (benchmarks/RESULTS.md).
    """
    errors = check.errors
    doubtful = sum(claim.is_wrong for claim in check.claims) - len(errors)
    by_type = Counter(claim.type for claim in errors)
    return {
        **{f"rules_{kind}": float(by_type[kind]) for kind in _FREQUENT_ERRORS},
        "rules_polarity": math.log1p(sum(claim.type == POLARITY for claim in errors)),
        "rules_contradicted": math.log1p(_other(errors, CONTRADICTED)),
        "rules_unsupported": math.log1p(_other(errors, UNSUPPORTED)),
        "rules_doubtful": math.log1p(doubtful),
        "rules_open": math.log1p(sum(claim.verdict == UNVERIFIABLE for claim in check.claims)),
        "rules_checked": math.log1p(sum(claim.level == ERROR for claim in check.claims)),
        "rules_score": math.log1p(check.score),
    }


def _other(errors: Sequence[Claim], verdict: str) -> int:
    return sum(claim.verdict == verdict and claim.type != POLARITY for claim in errors)


def detector_features(words: Sequence[WordScore], summary_probability: float) -> dict[str, float]:
    """Return what the detector says: of its words, and of the summary as a whole."""
    scores = sorted((word.score for word in words), reverse=True) or [0.0]
    return {
        "detector_any": math.log1p(-sum(math.log(1 - min(score, 0.999)) for score in scores)),
        "detector_highest_3": logit(sum(scores[:3]) / len(scores[:3])),
        "detector_doubtful": math.log1p(sum(score > DOUBTFUL for score in scores)),
        "detector_likely": math.log1p(sum(score > LIKELY for score in scores)),
        "detector_sum": math.log1p(sum(scores)),
        "detector_max": logit(scores[0]),
        "detector_mean": logit(sum(scores) / len(scores)),
        "detector_summary": logit(summary_probability),
    }


def joint_features(words: Sequence[WordScore], check: FactCheck) -> dict[str, float]:
    """Return what the detector says of the claims of the rules by verdict, and of words outside supported claims."""
    supported = [claim for claim in check.claims if claim.verdict == SUPPORTED]
    wrong = [claim for claim in check.claims if claim.is_wrong]
    elsewhere = [word.score for word in words if not overlaps(word, supported)]
    kinds = {
        "errors": check.errors,
        "doubtful": [claim for claim in wrong if claim.level != ERROR],
        "open": [claim for claim in check.claims if claim.verdict == UNVERIFIABLE],
        "supported": supported,
    }
    highest = {kind: [_highest(words, claim) for claim in claims] for kind, claims in kinds.items()}
    return {
        **{f"joint_{kind}": math.log1p(sum(scores)) for kind, scores in highest.items()},
        **{f"joint_{kind}_max": max(highest[kind], default=0.0) for kind in ("errors", "doubtful")},
        "joint_sum_elsewhere": math.log1p(sum(elsewhere)),
        "joint_max_elsewhere": logit(max(elsewhere, default=0.0)),
        "joint_sum_on_wrong": math.log1p(sum(word.score for word in words if overlaps(word, wrong))),
    }


def _highest(words: Sequence[WordScore], claim: Claim) -> float:
    """Return the highest score of the words of a claim."""
    return max((word.score for word in words if overlaps(word, [claim])), default=0.0)


def likelihood_features(words: Sequence[WordScore]) -> dict[str, float]:
    """Return what the language model says: the lowest word's evidence, the mean of the lowest three, and of all."""
    scores = sorted(word.score for word in words) or [0.0]
    return {
        "evidence_lowest": scores[0],
        "evidence_lowest_3": sum(scores[:3]) / len(scores[:3]),
        "evidence_mean": sum(scores) / len(scores),
    }


def length_feature(summary: str) -> dict[str, float]:
    """Return the length of the summary."""
    return {"log_words": math.log1p(len(summary.split()))}


def logit(probability: float) -> float:
    """Return the log odds of a probability, limited to 1e-4 from either end."""
    limited = min(max(probability, 1e-4), 1 - 1e-4)
    return math.log(limited / (1 - limited))


@dataclass(frozen=True)
class Combination:
    """A fitted logistic regression over named features."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def probability(self, features: Mapping[str, float]) -> float:
        """Return the probability that at least one statement of the summary is unsupported."""
        return float(self.probabilities(np.array([[features[name] for name in self.names]]))[0])

    def probabilities(self, values: Array) -> Array:
        """Return the probability of each row of (R, F)."""
        scaled = (values - np.array(self.means)) / np.array(self.scales)
        logits = scaled @ np.array(self.weights) + self.bias
        return np.asarray(1 / (1 + np.exp(-logits)))

    def as_dict(self) -> dict[str, Any]:
        """Return the form that is stored."""
        return {
            "bias": self.bias,
            "features": {
                name: {"mean": mean, "scale": scale, "weight": weight}
                for name, mean, scale, weight in zip(self.names, self.means, self.scales, self.weights, strict=True)
            },
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Combination:
        """Return the regression that `as_dict` wrote. Raises KeyError for another form."""
        features = stored["features"]
        means, scales, weights = (
            tuple(float(each[key]) for each in features.values()) for key in ("mean", "scale", "weight")
        )
        return cls(tuple(features), means, scales, weights, float(stored["bias"]))


def fit(names: Sequence[str], values: Array, labels: Array, penalty: float = PENALTY) -> Combination:
    """Fit by Newton's method; `values` is (R, F), `labels` (R,) of 0 and 1. The bias is not penalised."""
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    design = np.column_stack([(values - means) / scales, np.ones(len(values))])
    ridge = np.diag([penalty] * values.shape[1] + [0.0])
    weights = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - labels) + ridge @ weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge + 1e-9 * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    stored_means, stored_scales, stored_weights = (tuple(map(float, each)) for each in (means, scales, weights[:-1]))
    return Combination(tuple(names), stored_means, stored_scales, stored_weights, float(weights[-1]))


def fold_of(group: str, folds: int = FOLDS) -> int:
    """Return the fold of a dialogue, which depends only on its text."""
    return int.from_bytes(hashlib.sha256(group.strip().encode()).digest()[:6]) % folds


def out_of_fold(
    names: Sequence[str],
    values: Array,
    labels: Array,
    groups: Sequence[str],
    specificity: float,
    penalty: float = PENALTY,
) -> tuple[Array, NDArray[np.bool_]]:
    """Return for each row the probability and the flag of a fit, and of a threshold, on the other folds' rows."""
    fold = np.array([fold_of(group) for group in groups])
    probabilities, flags = np.zeros(len(labels)), np.zeros(len(labels), dtype=bool)
    for each in np.unique(fold):
        own, other = fold == each, fold != each
        combination = fit(names, values[other], labels[other], penalty)
        threshold = threshold_at(combination.probabilities(values[other]), labels[other], specificity)
        probabilities[own] = combination.probabilities(values[own])
        flags[own] = probabilities[own] >= threshold
    return probabilities, flags


def threshold_at(probabilities: Array, labels: Array, specificity: float) -> float:
    """Return the threshold that leaves at least this share of the faultless summaries below it.

    It lies halfway between the highest of these and the next probability above it.
    """
    faultless = np.sort(probabilities[labels == 0])
    if not len(faultless):
        return 0.5
    highest = faultless[max(math.ceil(specificity * len(faultless)) - 1, 0)]
    above = probabilities[probabilities > highest]
    return float((highest + above.min()) / 2) if len(above) else float(np.nextafter(highest, 2.0))


def error_rates(flags: NDArray[np.bool_], labels: Array) -> dict[str, float]:
    """Return sensitivity and specificity; NaN without rows of a kind."""
    wrong, right = labels == 1, labels == 0
    return {
        "sensitivity": float(flags[wrong].mean()) if wrong.any() else math.nan,
        "specificity": float((~flags[right]).mean()) if right.any() else math.nan,
    }
