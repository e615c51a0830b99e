"""Load the clinical word lists: the CSV files in `lexicons/` and the files that a user adds.

Files of names (drugs, conditions, symptoms, procedures, organisms) have three columns: `name` (canonical), `group`
(similar names; `general` for words too general to be exchanged) and `synonyms` (separated by semicolons; a synonym of
up to five letters, all capitals, matches capitals only). The other files hold pairs of drugs that sound alike,
spellings of dose units, and the normal limits of vital signs and laboratory tests. `lexicons/README.md` describes the
files and names their sources.
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
_folders = [_BUILT_IN]  # a user's folders come first, in the order in which they were added
_callbacks: list[Callable[[], object]] = []


@dataclass(frozen=True)
class Concept:
    """A name of the lexicon as it is written, and its group of similar names."""

    name: str
    group: str


@dataclass(frozen=True)
class Term:
    """The meaning of a phrase: the type of fact and the lexicon's name in lower case."""

    type: str
    name: str
    capitals_only: bool


@dataclass(frozen=True)
class Range:
    """Limits of a measurement, in `unit`.

    `low` and `high` are the normal limits; None means no limit. The plausible limits bound the values that occur in
    patients.
    """

    low: float | None
    high: float | None
    unit: str
    plausible_low: float
    plausible_high: float
    decimals: int  # decimal places of a written value


Phrase = tuple[str, ...]


# ------------------------------------------------------------------------------------- files and folders


def on_change(callback: Callable[[], object]) -> Callable[[], object]:
    """Register a callback for changes of the word lists, such as the `cache_clear` of a cache. Return the callback."""
    _callbacks.append(callback)
    return callback


def add_lexicon_dir(path: Path) -> list[str]:
    """Add a user's CSV files to the word lists of this process, and return the names of the files.

    The files have the names and columns of the built-in files. A user's row overrides a built-in row with the same
    name, phrase or spelling. Raises InputError if the folder holds no CSV file, a file has an unknown name or a row
    is invalid; then nothing is added.
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
    """Undo `add_lexicon_dir`. A folder that was not added is ignored."""
    path = Path(path).resolve()
    if path in _folders[:-1]:
        _folders.remove(path)
        _forget()


def _csv_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder with CSV files such as drugs.csv")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".csv")
    if not names:
        raise InputError(f"{folder}: holds no CSV file; add at least one of {', '.join(_COLUMNS)}")
    for name in names:
        if name not in _COLUMNS:
            raise InputError(f"{folder / name}: no lexicon has this name; use one of {', '.join(_COLUMNS)}")
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
    """Yield (location for error messages, row with stripped cells). The first column is never empty."""
    columns = _COLUMNS[file_name]
    path = folder / file_name
    for line, row in read_csv(path, columns) if folder == _BUILT_IN or path.exists() else ():
        where = f"{path}, line {line}"
        if not row[columns[0]].strip():
            raise InputError(f"{where}: {columns[0]} is empty; fill it in or remove the row")
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
        raise InputError(f"{where}: {column} is {cell!r}, not a number; write a number such as 0.5")
    return value


# ----------------------------------------------------------------------------------------------- names


@lru_cache(maxsize=1)
def _lexicon() -> tuple[dict[Phrase, Term], dict[str, int], dict[tuple[str, str], Concept]]:
    """Map phrase -> term, first word -> length of its longest phrase, (type, name in lower case) -> concept."""
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
        raise InputError(f"{where}: group is empty; write a group of names like {row['name']}, or general")
    for synonym in filter(None, map(str.strip, [row["name"], *row["synonyms"].split(";")])):
        phrase = tuple(token.word for token in tokens_of(synonym))
        if not any(map(str.isalnum, "".join(phrase))):
            raise InputError(f"{where}: {synonym!r} has no letter or digit; write it in words")
        capitals_only = len(synonym) <= 5 and synonym.upper() == synonym and synonym.isalpha()
        yield phrase, Term(kind, row["name"].lower(), capitals_only)


def phrase_table() -> tuple[dict[Phrase, Term], dict[str, int]]:
    """Map each phrase in lower case to its term, and each first word to the length of its longest phrase."""
    return _lexicon()[:2]


@lru_cache(maxsize=len(_NAME_FILES))
def concepts(fact_type: str) -> dict[str, Concept]:
    """Map the names of one type, in lower case as in `Fact.value`, to their concepts, in the order of the lexicon."""
    return {name: concept for (kind, name), concept in _lexicon()[2].items() if kind == fact_type}


# -------------------------------------------------------------------------- sound-alikes, units, limits


@lru_cache(maxsize=1)
def sound_alikes() -> dict[str, tuple[str, ...]]:
    """Map each drug name in lower case to the names, as written, that it is confused with.

    A brand name has an entry of its own, because Celebrex looks like Celexa but celecoxib does not. So look a drug up
    by `Fact.text` first, then by `Fact.key`, the generic name.
    """
    confused: dict[str, dict[str, None]] = {}
    for folder in _folders:
        for where, row in _rows(folder, "sound_alikes.csv"):
            names = (row["name"], row["confused_with"])
            drugs = [_drug_named(name) for name in names]
            if problem := _problem_of_pair(names, drugs):
                if folder == _BUILT_IN:  # a user's file gives the name another meaning
                    continue
                raise InputError(f"{where}: {problem}")
            for name, other in zip(names, reversed(names), strict=True):
                confused.setdefault(name.lower(), {})[other] = None
    return {name: tuple(others) for name, others in confused.items()}


def _drug_named(name: str) -> str:
    """Return the lexicon's name of a drug in lower case, or "" if `name` is not a drug."""
    term = phrase_table()[0].get(tuple(token.word for token in tokens_of(name)))
    return term.name if term and term.type == "drug" else ""


def _problem_of_pair(names: tuple[str, str], drugs: list[str]) -> str:
    for name, drug in zip(names, drugs, strict=True):
        if not drug:
            return f"{name!r} is not a drug of the lexicon; add it to drugs.csv"
    return f"{names[0]} and {names[1]} are the same drug; name two different drugs" if drugs[0] == drugs[1] else ""


@lru_cache(maxsize=1)
def units() -> dict[str, tuple[float, str]]:
    """Map each spelling of a dose unit (lower case, singular) to (factor, base unit): "mcg" -> (0.001, "mg")."""
    known: dict[str, tuple[float, str]] = {}
    for where, row in _all_rows("units.csv"):
        factor = _number(where, "factor", row["factor"])
        if factor <= 0 or not row["base_unit"]:
            raise InputError(f"{where}: expected a factor above 0 and a base_unit, such as mcg,0.001,mg")
        known.setdefault(row["spelling"].lower(), (factor, row["base_unit"]))
    return known


@lru_cache(maxsize=1)
def reference_ranges() -> dict[str, Range]:
    """Map each vital sign and laboratory test, named as in `Fact.key`, to its limits.

    Systolic and diastolic blood pressure have separate entries.
    """
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
