"""Draw the texts of a blind reading, and keep the key that says which model wrote which text.

A drawn folder has `texts/`, which readers get, and `key.json`, which they must not see:

texts/texts.jsonl              one text a line, {id, clinical_note, generated_summary}, in random order
texts/evaluation_results.csv   the same texts for manual_assessment_tool.py
key.json                       the models and seeds behind each text, with the verdict of the automatic judge
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessment.examples import Example, load_sources
from assessment.ratings import text_sha256
from clinical.text import sentences
from fact_checking.claims import without_citations
from judging.repair import Sentence, repeats
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import read_json, read_jsonl, write_json, write_jsonl

TEXT_COLUMNS = ("id", "clinical_note", "generated_summary")
RESULTS_FILE = "evaluation_results.csv"
TEXTS_FILE, KEY_FILE, FILE_FOR_TOOL = "texts/texts.jsonl", "key.json", f"texts/{RESULTS_FILE}"
REMEDY = "draw texts with --results"
ByNote = Mapping[str, Example]
Ids = Mapping[tuple[str, str], str]  # (note, summary) -> id of the text


@dataclass(frozen=True)
class Results:
    """One evaluation of one model. `seed` names the training run, and is empty if there is only one."""

    model: str
    seed: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Results:
        """Read `MODEL=PATH` or `MODEL@SEED=PATH`. A folder means its `evaluation_results.csv`.

        Raises ValueError if the model or the path is missing.
        """
        name, _, place = text.partition("=")
        model, _, seed = name.partition("@")
        if not model.strip() or not place.strip():
            raise ValueError(text)
        path = Path(place)
        return cls(model.strip(), seed.strip(), path / RESULTS_FILE if path.is_dir() else path)

    @property
    def name(self) -> str:
        return f"{self.model}@{self.seed}" if self.seed else self.model


@dataclass(frozen=True)
class Sample:
    """The drawn texts and who wrote them: M models, S seeds, N dialogues, T texts."""

    models: list[str]
    seeds: list[str]
    ids: list[str]  # T
    summaries: list[str]  # T
    text_sha256: list[str]  # T, as the rating tool computes it
    index: NDArray[np.int64]  # (M, S, N), position of each model's text among the T texts
    flagged: NDArray[np.float64]  # (M, S, N), automatic verdict: 1 hallucinated, 0 not, NaN unknown
    reference_words: NDArray[np.float64]  # (N,), NaN without a reference

    @property
    def words(self) -> NDArray[np.float64]:
        """Return the words of each text, (T,), separated by white space, without citations."""
        return np.array([float(len(without_citations(summary).split())) for summary in self.summaries])

    @property
    def new_words(self) -> NDArray[np.float64]:
        """Return the words of each text, (T,), without those of sentences that repeat an earlier one."""
        return np.array([float(_new_words(without_citations(summary))) for summary in self.summaries])


def _new_words(text: str) -> int:
    """Count the words of the sentences that repeat no earlier one (judging/repair.py)."""
    kept: list[Sentence] = []
    for start, end in sentences(text):
        sentence = Sentence(text[start:end], doubt=0.0, place=0.0)
        if not any(repeats(sentence, other) for other in kept):
            kept.append(sentence)
    return sum(len(sentence.text.split()) for sentence in kept)


# ------------------------------------------------------------------------------------------------------- draw


def draw(results: Sequence[Results], n: int, seed: int, folder: Path) -> int:
    """Draw `n` dialogues, and write their texts and the key. Returns the number of texts.

    Equal summaries of one dialogue become one text. The draw depends on the seed and on the dialogues that all results
    share, not on their order. Raises InputError if a model lacks a seed, if `n` is too large, or if the folder has a
    key already.
    """
    if (folder / KEY_FILE).exists():
        raise InputError(f"{folder / KEY_FILE}: exists, and ratings may depend on it; name another --output_dir")
    models, seeds = _models_and_seeds(results)
    sources = load_sources([each.path for each in results], blind=True)
    by_note = [{example.clinical_note: example for example in source.examples} for source in sources]
    if n > len(by_note[0]):
        raise InputError(f"--n {n}: the results share {len(by_note[0])} dialogues; draw at most that many")
    rng = random.Random(seed)
    notes = rng.sample(sorted(by_note[0]), n)
    # the order of the models must not decide which text comes first
    texts = sorted({(note, examples[note].generated_summary) for note in notes for examples in by_note})
    rng.shuffle(texts)
    ids = {text: f"text-{number:0{len(str(len(texts)))}}" for number, text in enumerate(texts, start=1)}
    _write_texts(folder, ids)
    key = {
        "seed": seed,
        "models": models,
        "seeds": seeds,
        "results": [{**asdict(each), "path": str(each.path)} for each in results],
        "texts": {name: text_sha256(*text) for text, name in ids.items()},
        "dialogues": [_dialogue(note, results, by_note, ids) for note in notes],
    }
    write_json(folder / KEY_FILE, key)
    return len(texts)


def _models_and_seeds(results: Sequence[Results]) -> tuple[list[str], list[str]]:
    """Return both in the order given. Raises InputError unless every model has every seed once."""
    models = list(dict.fromkeys(each.model for each in results))
    seeds = list(dict.fromkeys(each.seed for each in results))
    names = [each.name for each in results]
    for name in (Results(model, seed, Path()).name for model in models for seed in seeds):
        if names.count(name) != 1:
            raise InputError(
                f"--results: {name} is given {names.count(name)} times; give every model once for each seed"
            )
    return models, seeds


def _write_texts(folder: Path, ids: Ids) -> None:
    rows = [(name, *text) for text, name in ids.items()]
    write_jsonl(folder / TEXTS_FILE, [dict(zip(TEXT_COLUMNS, row, strict=True)) for row in rows])
    columns = ("example_id", *TEXT_COLUMNS[1:])
    write_csv(folder / FILE_FOR_TOOL, columns, [dict(zip(columns, row, strict=True)) for row in rows])


def _dialogue(note: str, results: Sequence[Results], by_note: Sequence[ByNote], ids: Ids) -> dict[str, Any]:
    """Return what the key says about one dialogue."""
    examples = [of_notes[note] for of_notes in by_note]
    references = [example.reference_summary for example in examples if example.reference_summary.strip()]
    return {
        "reference_words": len(references[0].split()) if references else None,
        "summaries": [
            {
                "model": each.model,
                "seed": each.seed,
                "example_id": example.example_id,
                "text": ids[note, example.generated_summary],
                "flagged": example.flagged,
            }
            for each, example in zip(results, examples, strict=True)
        ],
    }


# ------------------------------------------------------------------------------------------------------- load


def load_sample(folder: Path) -> Sample:
    """Read a drawn folder. Raises InputError if a file is missing, or if texts and key do not belong together."""
    key = read_json(folder / KEY_FILE, REMEDY)
    rows = [row for _, row in read_jsonl(folder / TEXTS_FILE, TEXT_COLUMNS, REMEDY)]
    found = {row["id"]: text_sha256(row["clinical_note"], row["generated_summary"]) for row in rows}
    try:
        if found != key["texts"]:
            raise InputError(f"{folder / TEXTS_FILE}: has other texts than {KEY_FILE}; {REMEDY} again")
        index, flagged = _arrays(key, list(found))
        reference_words = [each["reference_words"] for each in key["dialogues"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / KEY_FILE}: is not the key of a drawn reading; {REMEDY}") from error
    return Sample(
        models=key["models"],
        seeds=key["seeds"],
        ids=list(found),
        summaries=[row["generated_summary"] for row in rows],
        text_sha256=list(found.values()),
        index=index,
        flagged=flagged,
        reference_words=np.array([math.nan if words is None else float(words) for words in reference_words]),
    )


def _arrays(key: Mapping[str, Any], ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return `index` and `flagged` of a `Sample`."""
    position = {name: number for number, name in enumerate(ids)}
    shape = (len(key["models"]), len(key["seeds"]), len(key["dialogues"]))
    index, flagged = np.full(shape, -1), np.full(shape, math.nan)
    for number, dialogue in enumerate(key["dialogues"]):
        for each in dialogue["summaries"]:
            place = key["models"].index(each["model"]), key["seeds"].index(each["seed"]), number
            index[place] = position[each["text"]]
            if each["flagged"] is not None:
                flagged[place] = float(each["flagged"])
    if (index < 0).any():
        raise ValueError("a model lacks a text")
    return index, flagged
