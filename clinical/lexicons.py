"""The word lists of clinical text, as plain CSV files in `lexicons/`, and those that a user adds to them.

Names (drugs, conditions, symptoms, procedures, organisms): name (canonical), group (what is alike; `general` for words
too general to stand for one another), synonyms (separated by semicolons; one in capitals of up to five letters matches
capitals only). Sound-alikes: pairs of drugs that are confused. Units: how doses are spelled. Reference ranges: the
normal limits of vital signs and laboratory tests. `lexicons/README.md` names the source of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from clinical.scope import tokens_of
from script_io.csv_files import read_csv
from script_io.errors import InputError

_BUILT_IN = Path(__file__).resolve().parents[1] / "lexicons"
_NAME_FILES = {  # type of fact -> file
    "drug": "drugs.csv",
    "condition": "conditions.csv",
    "symptom": "symptoms.csv",
    "procedure": "procedures.csv",
    "organism": "organisms.csv",
}
_COLUMNS: dict[str, tuple[str, ...]] = dict.fromkeys(_NAME_FILES.values(), ("name", "group", "synonyms"))
_COLUMNS |= {
    "sound_alikes.csv": ("name", "confused_with"),
    "units.csv": ("spelling", "factor", "base_unit"),
    "reference_ranges.csv": ("name", "low", "high", "unit", "plausible_low", "plausible_high", "decimals"),
}
_folders = [_BUILT_IN]  # those of the user come first, in the order in which they were added
_callbacks: list[Callable[[], object]] = []


@dataclass(frozen=True)
class Concept:
    """A finding of the lexicon: its name as one writes it, and the group of those that are alike."""

    name: str
    group: str


@dataclass(frozen=True)
class Term:
    """What a phrase stands for: the type of fact and the name in lower case."""

    type: str
    name: str
    capitals_only: bool


@dataclass(frozen=True)
class Range:
    """Normal limits of a measurement, None where there is none, and limits of what is ever seen, all in `unit`."""

    low: float | None
    high: float | None
    unit: str
    plausible_low: float
    plausible_high: float
    decimals: int  # with which a value is written


Phrase = tuple[str, ...]


# ------------------------------------------------------------------------------------- files and folders


def on_change(callback: Callable[[], object]) -> Callable[[], object]:
    """Registers what is to be called whenever names are added, such as the `cache_clear` of a cache."""
    _callbacks.append(callback)
    return callback


def add_lexicon_dir(path: Path) -> list[str]:
    """Adds a user's CSV files, of the names and columns of the built-in ones, for this process; returns their names.

    A row of the user goes before a built-in one: its phrase, its group, its factor and its limits count. Raises
    InputError where the folder holds no CSV or one of an unknown name, and where a row cannot be read; then nothing
    is added.
    """
    path, names = Path(path).resolve(), _csv_names(Path(path))
    if path in _folders:
        return names
    _folders.insert(len(_folders) - 1, path)
    try:
        _forget()
        _load_all()
    except InputError:
        _folders.remove(path)
        _forget()
        raise
    return names


def remove_lexicon_dir(path: Path) -> None:
    """Takes back `add_lexicon_dir`; a folder that was not added is no error."""
    path = Path(path).resolve()
    if path in _folders[:-1]:
        _folders.remove(path)
        _forget()


def _csv_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that holds CSV files such as drugs.csv")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".csv")
    if not names:
        raise InputError(f"{folder}: holds no CSV file; expected some of {', '.join(_COLUMNS)}")
    for name in names:
        if name not in _COLUMNS:
            raise InputError(f"{folder / name}: no lexicon of this name; expected some of {', '.join(_COLUMNS)}")
    return names


def _load_all() -> None:
    for load in (_lexicon, sound_alikes, units, reference_ranges):
        load()


def _forget() -> None:
    for cached in (_lexicon, concepts, sound_alikes, units, reference_ranges):
        cached.cache_clear()
    for callback in _callbacks:
        callback()


def _rows(folder: Path, file_name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a row is, for messages, and the row, its cells stripped. The first column is never empty."""
    columns = _COLUMNS[file_name]
    path = folder / file_name
    for line, row in read_csv(path, columns) if folder == _BUILT_IN or path.exists() else ():
        where = f"{path}, line {line}"
        if not row[columns[0]].strip():
            raise InputError(f"{where}: {columns[0]} is empty; fill it or take the row out")
        yield where, {column: cell.strip() for column, cell in row.items()}


def _all_rows(file_name: str) -> Iterator[tuple[str, dict[str, str]]]:
    for folder in _folders:
        yield from _rows(folder, file_name)


def _number(where: str, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column} is {cell!r}, no number; write one such as 0.5")
    return value


# ----------------------------------------------------------------------------------------------- names


@lru_cache(maxsize=1)
def _lexicon() -> tuple[dict[Phrase, Term], dict[str, int], dict[tuple[str, str], Concept]]:
    """Phrase -> term, first word -> length of its longest phrase, (type, name in lower case) -> concept."""
    phrases: dict[Phrase, Term] = {}
    known: dict[tuple[str, str], Concept] = {}
    for folder in _folders:
        for kind, file_name in _NAME_FILES.items():
            for where, row in _rows(folder, file_name):
                known.setdefault((kind, row["name"].lower()), Concept(row["name"], row["group"]))
                for phrase, term in _terms(where, kind, row):
                    phrases.setdefault(phrase, term)
    longest: dict[str, int] = {}
    for phrase in phrases:
        longest[phrase[0]] = max(longest.get(phrase[0], 0), len(phrase))
    return phrases, longest, known


def _terms(where: str, kind: str, row: dict[str, str]) -> Iterator[tuple[Phrase, Term]]:
    if not row["group"]:
        raise InputError(f"{where}: group is empty; name what {row['name']} is alike, or write general")
    for synonym in filter(None, map(str.strip, [row["name"], *row["synonyms"].split(";")])):
        phrase = tuple(token.word for token in tokens_of(synonym))
        if not any(map(str.isalnum, "".join(phrase))):
            raise InputError(f"{where}: {synonym!r} has no letter or digit; write it in words")
        capitals_only = len(synonym) <= 5 and synonym.upper() == synonym and synonym.isalpha()
        yield phrase, Term(kind, row["name"].lower(), capitals_only)


def phrase_table() -> tuple[dict[Phrase, Term], dict[str, int]]:
    """Phrase in lower case -> what it stands for, and first word -> length of its longest phrase."""
    return _lexicon()[:2]


@lru_cache(maxsize=len(_NAME_FILES))
def concepts(fact_type: str) -> dict[str, Concept]:
    """The findings of one type: name in lower case, as in `Fact.value` -> concept, in the order of the lexicon."""
    return {name: concept for (kind, name), concept in _lexicon()[2].items() if kind == fact_type}


# -------------------------------------------------------------------------- sound-alikes, units, limits


@lru_cache(maxsize=1)
def sound_alikes() -> dict[str, tuple[str, ...]]:
    """Name of a drug in lower case -> the names, as one writes them, with which it is confused.

    A brand has its own entry (`Fact.text`, where a generic name is also `Fact.key`): Celebrex looks like Celexa, but
    celecoxib does not.
    """
    confused: dict[str, dict[str, None]] = {}
    for folder in _folders:
        for where, row in _rows(folder, "sound_alikes.csv"):
            names = (row["name"], row["confused_with"])
            drugs = [_drug_named(name) for name in names]
            if problem := _problem_of_pair(names, drugs):
                if folder == _BUILT_IN:  # a user gave the name to something else
                    continue
                raise InputError(f"{where}: {problem}")
            for name, other in zip(names, reversed(names), strict=True):
                confused.setdefault(name.lower(), {})[other] = None
    return {name: tuple(others) for name, others in confused.items()}


def _drug_named(name: str) -> str:
    """The drug's name in lower case; empty where `name` is no drug."""
    term = phrase_table()[0].get(tuple(token.word for token in tokens_of(name)))
    return term.name if term and term.type == "drug" else ""


def _problem_of_pair(names: tuple[str, str], drugs: list[str]) -> str:
    for name, drug in zip(names, drugs, strict=True):
        if not drug:
            return f"{name!r} is no drug of the lexicon; add it to drugs.csv"
    return f"{names[0]} and {names[1]} are one drug; give two" if drugs[0] == drugs[1] else ""


@lru_cache(maxsize=1)
def units() -> dict[str, tuple[float, str]]:
    """Unit of a dose as it is spelled (lower case, singular) -> (how many base units it is, base unit)."""
    known: dict[str, tuple[float, str]] = {}
    for where, row in _all_rows("units.csv"):
        factor = _number(where, "factor", row["factor"])
        if factor <= 0 or not row["base_unit"]:
            raise InputError(f"{where}: expected a factor above 0 and a base_unit; such as mcg,0.001,mg")
        known.setdefault(row["spelling"].lower(), (factor, row["base_unit"]))
    return known


@lru_cache(maxsize=1)
def reference_ranges() -> dict[str, Range]:
    """Vital sign or laboratory test, as in `Fact.key` -> its limits; blood pressure under two names, one for each."""
    known: dict[str, Range] = {}
    for where, row in _all_rows("reference_ranges.csv"):
        known.setdefault(row["name"].lower(), _range(where, row))
    return known


def _range(where: str, row: dict[str, str]) -> Range:
    low, high = (_number(where, end, row[end]) if row[end] else None for end in ("low", "high"))
    floor, ceiling = (_number(where, end, row[end]) for end in ("plausible_low", "plausible_high"))
    ends = [floor, *(end for end in (low, high) if end is not None), ceiling]
    if len(ends) < 3 or ends != sorted(ends) or floor == ceiling or (low is not None and low == high):
        raise InputError(f"{where}: expected plausible_low <= low < high <= plausible_high; low or high may be empty")
    if row["decimals"] not in ("0", "1", "2", "3"):
        raise InputError(f"{where}: decimals is {row['decimals']!r}; write 0, 1, 2 or 3")
    return Range(low, high, row["unit"], floor, ceiling, int(row["decimals"]))
