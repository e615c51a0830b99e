"""Make preference pairs from labelled samples with given probabilities, and compare them with the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shares import share
from clinical.text import sentences
from fact_checking.checker import coverage
from fact_checking.claims import FactCheck
from judging.combination import Combination, fit, fold_of
from judging.detector_settings import Prediction, pair_limits
from judging.preference_pairs import JudgedCompletion, PairLimits, make_pair
from judging.repair import RepairLimits, repaired_pairs, sentences_of
from judging.sentence_doubts import learnt_doubts
from script_io.files import read_jsonl

SAMPLES = 5  # completions of a dialogue
LENGTH_RATIO = 1.6
REPAIR_LIMITS = RepairLimits(sound_below=0.45, flawed_above=0.8, kept_below=0.8)  # of judge_completions.py


def measure_pairs(
    path: Path, predictions: Sequence[Prediction], checks: Sequence[FactCheck], probability: NDArray[np.float64]
) -> dict[str, Any]:
    """Return how often chosen texts are false and rejected texts true.

    The probabilities come from other folds, and so do the limits: those of a dialogue are chosen on the other folds.
    """
    place = {(each.note, each.summary): index for index, each in enumerate(predictions)}
    label = np.array([float(each.has_error) for each in predictions])
    fold = np.array([fold_of(each.note) for each in predictions])
    limits = {
        each: PairLimits(0.0, *pair_limits(probability[fold != each], label[fold != each]), LENGTH_RATIO)
        for each in np.unique(fold)
    }
    notes: dict[str, list[Mapping[str, Any]]] = {}
    for _, row in read_jsonl(path, ("clinical_note", "generated_summary", "reference_summary", "is_reference")):
        notes.setdefault(row["clinical_note"], []).append(row)
    made = []
    outcomes: dict[str, int] = {}
    for note, rows in notes.items():
        judged = {row["generated_summary"]: _judged(row, place, checks, probability) for row in rows}
        samples = [judged[row["generated_summary"]] for row in rows if not row["is_reference"]][:SAMPLES]
        reference = next((judged[row["generated_summary"]] for row in rows if row["is_reference"]), None)
        result = make_pair(samples, reference, limits[fold_of(note)])
        outcomes[result.outcome] = outcomes.get(result.outcome, 0) + 1
        if result.chosen and result.rejected:
            made.append((note, result.chosen, result.rejected))
    return {"prompts": len(notes), "outcomes": outcomes, **_figures(made, predictions, place)}


def measure_repairs(path: Path, predictions: Sequence[Prediction], checks: Sequence[FactCheck]) -> dict[str, Any]:
    """Return how often repaired pairs (judging/repair.py) have fewer false sentences in chosen than in rejected.

    The doubts of a dialogue's sentences come from a detector and a regression that saw other dialogues. A sentence is
    false if it shares a character with marked words.
    """
    weigh = _regressions(predictions, checks)
    samples: dict[str, list[Prediction]] = {}
    wanted = {
        (row["clinical_note"], row["generated_summary"])
        for _, row in read_jsonl(path, ("clinical_note", "generated_summary", "is_reference"))
        if not row["is_reference"]
    }
    for each in predictions:
        if (each.note, each.summary) in wanted:
            samples.setdefault(each.note, []).append(each)
    false: Counter[str] = Counter()
    words, exchanged, pairs = [0, 0], [0, 0, 0], 0
    for note, found in samples.items():
        marked = {text: is_false for each in found for text, is_false in _marked_sentences(each)}
        doubted = [
            sentences_of(
                each.summary,
                learnt_doubts(each.summary, each.words, each.summary_probability, weigh[fold_of(note)], note),
            )
            for each in found
        ]
        pair = next(iter(repaired_pairs(doubted, REPAIR_LIMITS)), None)
        if pair is None:
            continue
        pairs += 1
        sides = [[marked.get(text[a:b], False) for a, b in sentences(text)] for text in (pair.chosen, pair.rejected)]
        false[
            "fewer" if sum(sides[0]) < sum(sides[1]) else "as many" if sum(sides[0]) == sum(sides[1]) else "more"
        ] += 1
        words = [total + len(text.split()) for total, text in zip(words, (pair.chosen, pair.rejected), strict=True)]
        spans = zip(pair.chosen_spans, pair.rejected_spans, strict=True)
        for (a, b), (c, d) in spans:
            exchanged[0] += 1
            exchanged[1] += marked[pair.chosen[a:b]]
            exchanged[2] += marked[pair.rejected[c:d]]
    return {
        "prompts": len(samples),
        "pairs": pairs,
        "false_sentences_in_chosen": dict(false),
        "exchanged": exchanged[0],
        "exchanged_sound_false": exchanged[1],
        "exchanged_flawed_false": exchanged[2],
        "words_chosen_to_rejected": round(words[0] / words[1], 3) if pairs else None,
    }


def _regressions(predictions: Sequence[Prediction], checks: Sequence[FactCheck]) -> dict[int, Combination]:
    """Return for each fold the regression over rules and detector that is fitted on the other folds' summaries."""
    features = [each.features(check) for each, check in zip(predictions, checks, strict=True)]
    names = tuple(features[0])
    values = np.array([[each[name] for name in names] for each in features])
    labels = np.array([float(each.has_error) for each in predictions])
    fold = np.array([fold_of(each.note) for each in predictions])
    return {int(each): fit(names, values[fold != each], labels[fold != each]) for each in np.unique(fold)}


def _marked_sentences(prediction: Prediction) -> list[tuple[str, bool]]:
    return [
        (prediction.summary[a:b], any(start < b and a < end for start, end in prediction.spans or ()))
        for a, b in sentences(prediction.summary)
    ]


def _judged(
    row: Mapping[str, Any],
    place: Mapping[tuple[str, str], int],
    checks: Sequence[FactCheck],
    probability: NDArray[np.float64],
) -> JudgedCompletion:
    note, text = row["clinical_note"], row["generated_summary"]
    index = place[note, text]
    check = FactCheck(checks[index].claims, float(probability[index]), probability=float(probability[index]))
    reference = row["reference_summary"]
    stated, _ = coverage(reference, text)
    true_facts, _ = coverage(reference, note)
    return JudgedCompletion.of(
        text,
        check,
        finished=True,
        coverage=min(1.0, stated / true_facts) if true_facts else None,
        is_reference=row["is_reference"],
    )


def _figures(
    made: Sequence[tuple[str, JudgedCompletion, JudgedCompletion]],
    predictions: Sequence[Prediction],
    place: Mapping[tuple[str, str], int],
) -> dict[str, Any]:
    if not made:
        return {"pairs": 0}

    def truth(note: str, text: str) -> Prediction:
        return predictions[place[note, text]]

    chosen = [truth(note, pair.text) for note, pair, _ in made]
    rejected = [truth(note, pair.text) for note, _, pair in made]
    words = (sum(each.words for _, each, _ in made), sum(each.words for _, _, each in made))
    return {
        "pairs": len(made),
        "chosen_is_reference": sum(each.is_reference for _, each, _ in made),
        "chosen_false": share(each.has_error for each in chosen),
        "rejected_true": share(not each.has_error for each in rejected),
        "chosen_with_more_errors": share(
            len(good.spans or ()) > len(bad.spans or ()) for good, bad in zip(chosen, rejected, strict=True)
        ),
        "words_chosen_to_rejected": round(words[0] / words[1], 3),
    }
