"""Measure whether a text alone shows that it is the rejected one: classifiers on words, characters and length.

Each pair gives two texts, the chosen and the rejected one. A classifier is trained on the texts of four fifths of the
notes and tested on the rest, five times. An accuracy of 50% means that only the note can tell them apart. It can be
lower: a word that is balanced over all notes is more frequent on one side in the training part, and so on the other
side in the test part. The intervals resample notes, since the texts of one note are not independent.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.stats import ratio_interval

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline  # type: ignore[import-untyped]

FOLDS = 5
POSITION_BINS = 5
CLASSIFIERS = ("words", "characters", "length")
# Words, numbers and signs; the default of scikit-learn leaves out words of one letter and all signs.
_TOKEN = r"\d+(?:[.,/]\d+)*|\w+|[^\w\s]"


@dataclass(frozen=True)
class TextPair:
    """A chosen and a rejected summary of the note `group`."""

    group: str
    chosen: str
    rejected: str


def _lengths(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[len(text.split()), len(text)] for text in texts], float)


def _classifier(name: str) -> Pipeline:
    """Return an untrained classifier of texts: by `words`, by `characters`, or by `length` alone."""
    from sklearn.feature_extraction.text import (  # type: ignore[import-untyped]
        CountVectorizer,
        TfidfVectorizer,
    )
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler  # type: ignore[import-untyped]

    if name == "words":
        counts = CountVectorizer(ngram_range=(1, 2), token_pattern=_TOKEN)
        return make_pipeline(counts, LogisticRegression(C=1.0, max_iter=2000))
    if name == "characters":
        weights = TfidfVectorizer(analyzer="char", ngram_range=(2, 5), sublinear_tf=True)
        return make_pipeline(weights, LogisticRegression(C=10, max_iter=2000))
    return make_pipeline(FunctionTransformer(_lengths), StandardScaler(), LogisticRegression())


def folds_by_note(groups: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return the fold of each entry. Entries of one note share a fold, and all folds have the same number of notes."""
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    fold = {name: index % FOLDS for index, name in enumerate(names)}
    return np.array([fold[group] for group in groups])


def held_out_correct(pairs: Sequence[TextPair], classifier: str, seed: int) -> NDArray[np.float64]:
    """Return (pairs,): how many texts of each pair, 0 to 2, a classifier trained on other notes gets right."""
    fold = folds_by_note([pair.group for pair in pairs], seed)
    right = np.zeros(len(pairs))
    for held_out in range(FOLDS):
        train, test = (_texts(pairs, np.flatnonzero(side)) for side in (fold != held_out, fold == held_out))
        if train and test:
            model = _classifier(classifier).fit(train, [0, 1] * (len(train) // 2))
            correct = model.predict(test) == np.array([0, 1] * (len(test) // 2))
            right[fold == held_out] = correct.reshape(-1, 2).sum(axis=1)
    return right


def _texts(pairs: Sequence[TextPair], indices: NDArray[np.int64]) -> list[str]:
    """Return chosen, rejected, chosen, rejected and so on."""
    return [text for index in indices for text in (pairs[index].chosen, pairs[index].rejected)]


def _share_by_note(pairs: Sequence[TextPair], points: Sequence[float], most: int, seed: int) -> dict[str, Any]:
    """Return the points as a share of the possible points, `most` per pair, with an interval over notes."""
    names = {name: index for index, name in enumerate(dict.fromkeys(pair.group for pair in pairs))}
    top, bottom = np.zeros(len(names)), np.zeros(len(names))
    for pair, point in zip(pairs, points, strict=True):
        top[names[pair.group]] += point
        bottom[names[pair.group]] += most
    interval = ratio_interval(top.tolist(), bottom.tolist(), seed)
    return {
        "value": round(float(top.sum() / bottom.sum()), 4),
        "ci95": [round(limit, 4) for limit in interval] if interval else None,
    }


def longer_is_rejected(pair: TextPair, measure: Callable[[str], int]) -> float:
    """Return 1 if the rejected text is longer, 0 if it is shorter, and 0.5 if both are equally long."""
    chosen, rejected = measure(pair.chosen), measure(pair.rejected)
    return 0.5 if chosen == rejected else float(rejected > chosen)


def count_words(text: str) -> int:
    """Count the words between white space."""
    return len(text.split())


def measure(pairs: Sequence[TextPair], seed: int) -> dict[str, Any]:
    """Return the accuracy of each classifier on held-out notes, and of "the longer one is rejected"."""
    figures: dict[str, Any] = {"pairs": len(pairs), "notes": len({pair.group for pair in pairs})}
    if figures["notes"] < FOLDS:
        return figures
    for name in CLASSIFIERS:
        figures[f"accuracy_{name}"] = _share_by_note(pairs, held_out_correct(pairs, name, seed).tolist(), 2, seed)
    for unit, length in (("words", count_words), ("characters", len)):
        points = [longer_is_rejected(pair, length) for pair in pairs]
        figures[f"longer_in_{unit}_is_rejected"] = _share_by_note(pairs, points, 1, seed)
    return figures


def edit_positions(spans: Sequence[tuple[int, int, int]]) -> list[float]:
    """Return the share of edits in each fifth of the chosen text, from (start, end, characters of the text)."""
    counts = [0] * POSITION_BINS
    for start, end, length in spans:
        middle = (start + end) / 2 / max(1, length)
        counts[min(POSITION_BINS - 1, int(middle * POSITION_BINS))] += 1
    return [round(count / max(1, len(spans)), 4) for count in counts]


def report(title: str, figures: Mapping[str, Any]) -> list[str]:
    """Return the lines to print."""
    lines = [f"{title}: {figures['pairs']} pairs of {figures['notes']} notes"]
    for name, figure in figures.items():
        if isinstance(figure, dict) and "ci95" in figure:
            low, high = figure["ci95"]
            lines.append(f"  {name:32} {figure['value']:.1%}  95% interval {low:.1%} to {high:.1%}")
    return lines


# ------------------------------------------------------------------------------------ unverified edits

_SWAPS = {
    "aspirin": "ibuprofen",
    "lisinopril": "metoprolol",
    "metformin": "insulin",
    "hypertension": "hypotension",
    "diabetes": "hypothyroidism",
    "asthma": "COPD",
    "pneumonia": "bronchitis",
    "cancer": "tuberculosis",
    "left": "right",
    "right": "left",
    "chest": "abdominal",
    "headache": "dizziness",
    "fever": "chills",
}
_NEGATIONS = ((r"\bdenies\b", "reports"), (r"\bno ", ""), (r"\bnot ", ""))
_ASSERTIONS = ((r"\bhas (?!been)", "has no "), (r"\bis ", "is not "), (r"\breports\b", "denies"))
_TEMPLATES = (
    "The patient was also started on antibiotics.",
    "There is a family history of heart disease.",
    "A follow-up visit was arranged in two weeks.",
    "The patient is allergic to penicillin.",
)


def swap_entity(text: str, rng: random.Random) -> str:
    """Replace one word of a small dictionary; without such a word, return the text as it is."""
    return _substituted(text, [(rf"\b{old}\b", new) for old, new in _SWAPS.items()], rng)


def flip_negation(text: str, rng: random.Random) -> str:
    """Remove the first "no", "not" or "denies", or else insert one after "has" or "is"."""
    return _substituted(text, _NEGATIONS, rng) if _any(text, _NEGATIONS) else _substituted(text, _ASSERTIONS, rng)


def paste_template(text: str, rng: random.Random) -> str:
    """Append one of four sentences."""
    return f"{text.rstrip()} {rng.choice(_TEMPLATES)}"


def _any(text: str, patterns: Sequence[tuple[str, str]]) -> bool:
    return any(re.search(pattern, text, re.IGNORECASE) for pattern, _ in patterns)


def _substituted(text: str, patterns: Sequence[tuple[str, str]], rng: random.Random) -> str:
    fitting = [entry for entry in patterns if re.search(entry[0], text, re.IGNORECASE)]
    pattern, new = rng.choice(fitting) if fitting else ("$^", "")
    return re.sub(pattern, new, text, count=1, flags=re.IGNORECASE)


UNVERIFIED_EDITS = {"entity swap": swap_entity, "negation flip": flip_negation, "template": paste_template}


def unverified_pairs(summaries: Sequence[tuple[str, str]], seed: int) -> tuple[list[TextPair], dict[str, Any]]:
    """Edit (note, summary) pairs as the best-known public attempt does; edits that change nothing are left out.

    Each summary gets three edits: words are swapped from a small fixed dictionary, "no", "not" or "denies" is deleted
    or added, and one of four sentences is pasted at the end. Nothing is checked against the note. In that attempt, on
    1,201 MTS-Dialog summaries, 67% of the entity swaps and 46% of the negation flips changed nothing, and 53% of the
    remaining pairs had a pasted sentence. This is a new implementation of its description with our own dictionary.
    """
    rng = random.Random(seed)
    pairs: list[TextPair] = []
    changed = dict.fromkeys(UNVERIFIED_EDITS, 0)
    for note, summary in summaries:
        for name, edit in UNVERIFIED_EDITS.items():
            rejected = edit(summary, rng)
            if rejected != summary:
                changed[name] += 1
                pairs.append(TextPair(note, summary, rejected))
    no_ops = {name: round(1 - count / max(1, len(summaries)), 4) for name, count in changed.items()}
    return pairs, {"no_op_share": no_ops, "template_share": round(changed["template"] / max(1, len(pairs)), 4)}
