"""Read the ratings of blind readers: files of `manual_assessment_tool.py`, and JSONL with one rating a line.

A JSONL file holds the ratings of one reader, who is named after the file. Each line has

id             of the text, as in `texts.jsonl`
hallucinated   1 if the summary states anything that the note does not support, else 0
major          1 if such a statement could change a diagnosis, a treatment or the follow-up, else 0
completeness   0 (states none of the important facts of the note), 1 (a few), 2 (most) or 3 (all)
unsupported    the exact words of the unsupported statements; may be left out
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessment.ratings import COMPLETENESS, HALLUCINATED, Rating, RatingBook, find_words
from benchmarks.reading_sample import Sample
from script_io.errors import InputError
from script_io.files import read_jsonl

MEASURES = ("hallucinated", "major", "completeness")
STATEMENTS = "statements"  # how many unsupported statements were marked
ALLOWED = {"hallucinated": (0, 1), "major": (0, 1), "completeness": tuple(COMPLETENESS)}


@dataclass(frozen=True)
class Reader:
    """The ratings of one reader over the T texts of a sample; NaN where a rating is missing."""

    name: str
    values: Mapping[str, NDArray[np.float64]]  # measure, or STATEMENTS -> (T,)
    missing: int  # texts that lack at least one measure
    other_texts: int = 0  # ratings of the rating tool that belong to no text of the sample, or were not blind
    misquoted: int = 0  # statements in `unsupported` that are not in the summary


def load_readers(paths: Sequence[Path], sample: Sample, *, allow_missing: bool) -> list[Reader]:
    """Read all files. Raises InputError for two readers of one name, and for missing ratings unless allowed."""
    readers = [
        reader
        for path in paths
        for reader in (_jsonl_readers(path, sample) if path.suffix == ".jsonl" else _tool_readers(path, sample))
    ]
    names = [reader.name for reader in readers]
    for reader in readers:
        if names.count(reader.name) > 1:
            raise InputError(f"--ratings: two readers are named {reader.name}; give every reader a name of their own")
        if reader.missing and not allow_missing:
            raise InputError(
                f"--ratings: {reader.name} lacks ratings of {reader.missing} of {len(sample.ids)} texts; "
                "rate them, or pass --allow_missing to leave them out"
            )
    return readers


def _reader(name: str, rows: Mapping[int, Sequence[float]], sample: Sample, **counts: int) -> Reader:
    """Build a reader from the ratings by position of the text.

    A rating has its values in the order of MEASURES, and then the number of unsupported statements.
    """
    table = np.full((len(sample.ids), len(MEASURES) + 1), math.nan)
    for position, values in rows.items():
        table[position] = values
    missing = int(np.isnan(table[:, : len(MEASURES)]).any(axis=1).sum())
    return Reader(name, dict(zip((*MEASURES, STATEMENTS), table.T, strict=True)), missing, **counts)


# ------------------------------------------------------------------------------------------------ JSONL files


def _jsonl_readers(path: Path, sample: Sample) -> list[Reader]:
    """Return the one reader of a JSONL file. Raises InputError with file and line for an unusable rating."""
    position = {name: number for number, name in enumerate(sample.ids)}
    rows: dict[int, list[float]] = {}
    misquoted = 0
    for line, row in read_jsonl(path, ("id", *MEASURES)):
        place = f"{path}, line {line}"
        number = position.get(row["id"]) if isinstance(row["id"], str) else None
        if number is None:
            raise InputError(f"{place}: id {row['id']!r} is no text of this reading; check --output_dir")
        if number in rows:
            raise InputError(f"{place}: id {row['id']} is rated a second time; keep one rating")
        quotes = _quotes(row, place)
        rows[number] = [*_checked(row, place), _statements(len(quotes), row["hallucinated"] == 1)]
        misquoted += sum(find_words(words, sample.summaries[number]) is None for words in quotes)
    return [_reader(path.stem, rows, sample, misquoted=misquoted)]


def _checked(row: Mapping[str, Any], place: str) -> list[float]:
    """Return the values of one rating. Raises InputError for a value out of range or a contradiction."""
    for name, allowed in ALLOWED.items():
        value = row[name]
        if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
            choices = ", ".join(map(str, allowed[:-1]))
            raise InputError(f"{place}: {name} is {value!r}; write {choices} or {allowed[-1]}")
    if row["major"] > row["hallucinated"]:
        raise InputError(f"{place}: major is 1 but hallucinated is 0; a summary without an error has no major one")
    return [float(row[name]) for name in MEASURES]


def _quotes(row: Mapping[str, Any], place: str) -> list[str]:
    quotes = row.get("unsupported", [])
    if not isinstance(quotes, list) or not all(isinstance(words, str) for words in quotes):
        raise InputError(f"{place}: unsupported is {quotes!r}; write a list of texts")
    if quotes and not row["hallucinated"]:
        raise InputError(f"{place}: unsupported has words but hallucinated is 0; make them agree")
    return quotes


def _statements(marked: int, hallucinated: bool) -> float:
    """Return the number of unsupported statements; it is unknown if a hallucination has none marked."""
    return math.nan if hallucinated and not marked else float(marked)


# ------------------------------------------------------------------------------------------- the rating tool


def _tool_readers(path: Path, sample: Sample) -> list[Reader]:
    """Return every assessor of a file of the rating tool. Only blind ratings with a verdict count."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; rate the texts with manual_assessment_tool.py --blind")
    position = {sha256: number for number, sha256 in enumerate(sample.text_sha256)}
    rows: dict[str, dict[int, list[float]]] = {}
    others: dict[str, int] = {}
    for rating in RatingBook(path).ratings.values():
        if rating.adjudication:  # given with the readings of others on the screen
            continue
        found = rows.setdefault(rating.assessor, {})
        number = position.get(rating.text_sha256)
        if number is None or not rating.blind:
            others[rating.assessor] = others.get(rating.assessor, 0) + 1
        elif rating.is_given:
            found[number] = _values(rating)
    if not any(rows.values()):
        raise InputError(f"{path}: has no blind rating of a text of this reading; check --output_dir")
    return [_reader(name, found, sample, other_texts=others.get(name, 0)) for name, found in rows.items() if found]


def _values(rating: Rating) -> list[float]:
    """Return the values of one rating. A hallucination whose severity was never given has an unknown `major`."""
    major = float(any(error.severity == "major" for error in rating.errors))
    if not major and rating.verdict == HALLUCINATED and not rating.is_complete:
        major = math.nan
    completeness = math.nan if rating.completeness is None else float(rating.completeness)
    hallucinated = rating.verdict == HALLUCINATED
    return [float(hallucinated), major, completeness, _statements(len(rating.errors), hallucinated)]
