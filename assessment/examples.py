"""The summaries to rate: read from one results CSV or from two, chosen, and put in an assessor's order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from assessment.ratings import text_sha256
from script_io.csv_files import read_csv
from script_io.errors import InputError

REMEDY = "make it with `python evaluation/evaluate_model.py --model_path MODEL`"
AUTOMATIC_COLUMNS = ("model", "has_hallucination", "hallucination_types", "hallucination_score", "coverage")
T = TypeVar("T")
_FLAGS = {"1": True, "1.0": True, "0": False, "0.0": False, "": None}  # a spreadsheet may have made 1 into 1.0


@dataclass(frozen=True)
class Example:
    """One summary to rate. `flagged` is the automatic verdict, None where there is none."""

    example_id: str
    clinical_note: str
    generated_summary: str
    reference_summary: str = ""
    flagged: bool | None = None
    automatic: str = ""  # all that the evaluation said of it, in one line

    @cached_property
    def text_sha256(self) -> str:
        return text_sha256(self.clinical_note, self.generated_summary)


@dataclass(frozen=True)
class Source:
    """The summaries of one CSV, each distinct text once; `repeated` rows say what an earlier row says."""

    path: Path
    examples: list[Example]
    repeated: int = 0
    unpaired: int = 0  # left out, since the other CSV has nothing for their notes
    by_text: dict[str, Example] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_text", {example.text_sha256: example for example in self.examples})


def load_source(path: Path) -> Source:
    """The rows of the CSV. Raises InputError for a repeated id, an empty note and an unknown automatic verdict."""
    lines: dict[str, int] = {}
    examples: dict[str, Example] = {}
    for line, row in read_csv(path, ("example_id", "clinical_note", "generated_summary"), REMEDY):
        example_id = row["example_id"]
        if example_id in lines:
            raise InputError(
                f"{path}, line {line}: example_id {example_id} stands on line {lines[example_id]} already; "
                "give every row its own"
            )
        lines[example_id] = line
        example = _example(f"{path}, line {line}", row)
        examples.setdefault(example.text_sha256, example)
    return Source(path, list(examples.values()), len(lines) - len(examples))


def _example(place: str, row: Mapping[str, str]) -> Example:
    if not row["clinical_note"].strip():
        raise InputError(f"{place}: the clinical_note is empty; a summary cannot be rated without it")
    verdict = row.get("has_hallucination", "").strip()
    if verdict not in _FLAGS:
        raise InputError(f"{place}: has_hallucination is {verdict!r}; write 1, 0, or nothing where it is unknown")
    automatic = "; ".join(f"{name} {row[name]}" for name in AUTOMATIC_COLUMNS if row.get(name, "").strip())
    return Example(
        example_id=row["example_id"],
        clinical_note=row["clinical_note"],
        generated_summary=row["generated_summary"],
        reference_summary=row.get("reference_summary", ""),
        flagged=_FLAGS[verdict],
        automatic=automatic,
    )


def load_sources(paths: Sequence[Path], *, blind: bool) -> list[Source]:
    """One CSV, or two of which only the notes that both have are kept, in the same order."""
    if len(paths) > 2:
        raise InputError(f"--results_csv: {len(paths)} files; name one, or two with --blind")
    if len(paths) == 2 and not blind:
        raise InputError("--results_csv: two files are rated with --blind only; add it, or name one file")
    if len(paths) == 2 and paths[0].resolve() == paths[1].resolve():
        raise InputError(f"--results_csv: {paths[0]} is named twice; name the results of two models")
    sources = [load_source(path) for path in paths]
    if len(sources) == 1:
        return sources
    first, second = (_by_note(source) for source in sources)
    shared = [note for note in first if note in second]
    if not shared:
        raise InputError(f"{paths[0]}, {paths[1]}: no note is in both; evaluate both models on the same test data")
    return [
        Source(source.path, [by_note[note] for note in shared], source.repeated, len(by_note) - len(shared))
        for source, by_note in zip(sources, (first, second), strict=True)
    ]


def _by_note(source: Source) -> dict[str, Example]:
    """Examples by their note. Raises InputError where a note has two summaries, since it could not be paired."""
    found: dict[str, Example] = {}
    for example in source.examples:
        other = found.setdefault(example.clinical_note, example)
        if other is not example:
            raise InputError(
                f"{source.path}: examples {other.example_id} and {example.example_id} have the same note; "
                "keep one summary for each note"
            )
    return found


def choose_examples(
    sources: Sequence[Source], assessor: str, *, blind: bool, start: int, count: int | None, own_order: bool
) -> list[Example]:
    """The examples to rate: for every assessor the same ones, each assessor's in an order of their own.

    `count` examples are taken from `start` on, of the file's order or, where `blind`, of one shuffled the same way
    for everybody. Of two sources an example is a note with both its summaries; two that are equal are rated once.
    """
    groups = list(zip(*(source.examples for source in sources), strict=True))
    if not 0 <= start < len(groups):
        raise InputError(f"--start_idx {start}: there are the examples 0 to {len(groups) - 1}; choose one of them")
    if count is not None and count < 1:
        raise InputError(f"--max_examples {count}: give 1 or more, or leave it out to rate all")
    if blind:
        groups = _shuffled(groups, sorted(group[0].text_sha256 for group in groups))
    window = groups[start:] if count is None else groups[start : start + count]
    chosen = list({example.text_sha256: example for group in window for example in group}.values())
    if not own_order:
        return chosen
    shuffled = _shuffled(chosen, [assessor, *sorted(example.text_sha256 for example in chosen)])
    return shuffled if shuffled != chosen else chosen[1:] + chosen[:1]


def _shuffled(items: Sequence[T], seed: Sequence[str]) -> list[T]:
    """The items in another order, the same one every time for the same items and seed."""
    shuffled = list(items)
    random.Random(hashlib.sha256("\n".join(seed).encode()).digest()).shuffle(shuffled)
    return shuffled
