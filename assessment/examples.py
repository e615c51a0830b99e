"""Read the summaries to rate from one or more results CSVs, choose some, and order them for an assessor."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from assessment.ratings import text_sha256
from script_io.csv_files import read_csv
from script_io.errors import InputError

REMEDY = "create it with `python evaluation/evaluate_model.py --model_path MODEL`"
AUTOMATIC_COLUMNS = ("model", "has_hallucination", "hallucination_types", "hallucination_score", "coverage")
T = TypeVar("T")
_FLAGS = {"1": True, "1.0": True, "0": False, "0.0": False, "": None}  # a spreadsheet may turn 1 into 1.0


@dataclass(frozen=True)
class Example:
    """One summary to rate."""

    example_id: str
    clinical_note: str
    generated_summary: str
    reference_summary: str = ""
    flagged: bool | None = None  # the automatic verdict, if there is one
    automatic: str = ""  # all automatic results in one line

    @cached_property
    def text_sha256(self) -> str:
        return text_sha256(self.clinical_note, self.generated_summary)


@dataclass(frozen=True)
class Source:
    """The summaries of one CSV, without repetitions."""

    path: Path
    examples: list[Example]
    repeated: int = 0  # rows left out: same note and summary as an earlier row
    unpaired: int = 0  # examples left out: another CSV has no summary of the same note
    by_text: dict[str, Example] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_text", {example.text_sha256: example for example in self.examples})


def load_source(path: Path) -> Source:
    """Read one CSV.

    Raises InputError for a repeated id, an empty note or an unknown automatic verdict.
    """
    lines: dict[str, int] = {}
    examples: dict[str, Example] = {}
    for line, row in read_csv(path, ("example_id", "clinical_note", "generated_summary"), REMEDY):
        example_id = row["example_id"]
        if example_id in lines:
            raise InputError(
                f"{path}, line {line}: example_id {example_id} is already used on line {lines[example_id]}; "
                "give every row its own id"
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
        raise InputError(f"{place}: has_hallucination is {verdict!r}; write 1 or 0, or leave it empty if unknown")
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
    """Read any number of CSVs. Of several, keep the notes that are in all, in the order of the first.

    Raises InputError for unsuitable files, or for several files without `blind`.
    """
    if len(paths) > 1 and not blind:
        raise InputError(
            "--results_csv: several files are rated blind only; leave out --show_verdicts, or pass one file"
        )
    uses = Counter(path.resolve() for path in paths)
    for path in paths:
        if uses[path.resolve()] > 1:
            raise InputError(f"{path} is named twice; pass the results of different models")
    sources = [load_source(path) for path in paths]
    if len(sources) == 1:
        return sources
    found = [_by_note(source) for source in sources]
    shared = [note for note in found[0] if all(note in others for others in found[1:])]
    if not shared:
        names = ", ".join(map(str, paths))
        raise InputError(f"{names}: no note is in all files; evaluate all models on the same test data")
    return [
        Source(source.path, [by_note[note] for note in shared], source.repeated, len(by_note) - len(shared))
        for source, by_note in zip(sources, found, strict=True)
    ]


def _by_note(source: Source) -> dict[str, Example]:
    """Return the examples by their note. Raises InputError for a note with two summaries, which cannot be compared."""
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
    """Return the examples to rate: the same ones for every assessor, each in their own order if `own_order`.

    Takes `count` examples from number `start` on, in the order of the file. `blind` first shuffles the file, in the
    same way for everybody. With several sources, one example is a note with all its summaries; equal summaries are
    rated once. The summaries of one note follow one another in random order, so that each note is read once.
    """
    groups = list(zip(*(source.examples for source in sources), strict=True))
    if not 0 <= start < len(groups):
        raise InputError(f"--start_idx {start}: the examples are numbered 0 to {len(groups) - 1}; choose one of them")
    if count is not None and count < 1:
        raise InputError(f"--max_examples {count}: must be at least 1; leave the flag out to rate all")
    if blind:
        groups = _shuffled(groups, sorted(group[0].text_sha256 for group in groups))
    window = groups[start:] if count is None else groups[start : start + count]
    chosen = list({example.text_sha256: example for group in window for example in group}.values())
    if not (blind or own_order):
        return chosen
    by_note: dict[str, list[Example]] = {}
    for example in chosen:
        by_note.setdefault(example.clinical_note, []).append(example)
    notes = list(by_note.values())
    if own_order:
        seed = [assessor, *sorted(example.text_sha256 for example in chosen)]
        notes = [_shuffled(note, [*seed, note[0].clinical_note]) for note in _other_order(notes, seed)]
    return [example for note in notes for example in note]


def _other_order(items: Sequence[T], seed: Sequence[str]) -> Sequence[T]:
    """Return the items in a random order that is not the given one."""
    shuffled = _shuffled(items, seed)
    return shuffled if shuffled != items else [*items[1:], *items[:1]]


def _shuffled(items: Sequence[T], seed: Sequence[str]) -> list[T]:
    """Return the items in random order. Equal items and seed give the same order."""
    shuffled = list(items)
    random.Random(hashlib.sha256("\n".join(seed).encode()).digest()).shuffle(shuffled)
    return shuffled
