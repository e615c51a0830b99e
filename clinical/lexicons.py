"""Load the clinical word lists: the CSV files in `lexicons/` and the files that a user adds.

Files of names (drugs, conditions, symptoms, procedures, organisms) have three columns: `name` (canonical), `group`
(similar names; `general` for words too general to be exchanged) and `synonyms` (separated by semicolons; a synonym of
up to five letters, all capitals, matches capitals only). The other files hold abbreviations, pairs of drugs that sound
alike, spellings of dose units, and the normal limits of vital signs and laboratory tests. `lexicons/README.md`
describes the files and names their sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from clinical.lexicon_files import (
    ABBREVIATIONS,
    BUILT_IN,
    NAME_COLUMNS,
    NAME_FILES,
    add_lexicon_dir,
    all_rows,
    folders,
    number_of,
    on_change,
    remove_lexicon_dir,
    rows_of,
    table,
)
from clinical.scope import tokens_of
from script_io.errors import InputError

__all__ = ["NAME_COLUMNS", "NAME_FILES", "add_lexicon_dir", "on_change", "remove_lexicon_dir"]


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


@dataclass(frozen=True)
class Abbreviation:
    """One meaning of an abbreviation, as `written`. `exact`: only with these capitals.

    `before` and `after` are alternatives of words, or of classes such as "<dose>", directly before and after it. A
    meaning that names any is meant only next to one of them.
    """

    written: str
    expansion: str
    exact: bool
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def has_context(self) -> bool:
        return bool(self.before or self.after)


Phrase = tuple[str, ...]


# ----------------------------------------------------------------------------------------------- names


@table
def _lexicon() -> tuple[dict[Phrase, Term], dict[str, int], dict[tuple[str, str], Concept]]:
    """Map phrase -> term, first word -> length of its longest phrase, (type, name in lower case) -> concept."""
    phrases: dict[Phrase, Term] = {}
    known: dict[tuple[str, str], Concept] = {}
    for folder in folders:
        for kind, file_name in NAME_FILES.items():
            for where, row in rows_of(folder, file_name):
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
        phrase = phrase_of(synonym)
        if not any(map(str.isalnum, "".join(phrase))):
            raise InputError(f"{where}: {synonym!r} has no letter or digit; write it in words")
        capitals_only = len(synonym) <= 5 and synonym.upper() == synonym and synonym.isalpha()
        yield phrase, Term(kind, row["name"].lower(), capitals_only)


def phrase_of(name: str) -> Phrase:
    """Return the words and marks of a name in lower case, as `phrase_table` has them."""
    return tuple(token.word for token in tokens_of(name))


def phrase_table() -> tuple[dict[Phrase, Term], dict[str, int]]:
    """Map each phrase in lower case to its term, and each first word to the length of its longest phrase."""
    return _lexicon()[:2]


@lru_cache(maxsize=len(NAME_FILES))
def concepts(fact_type: str) -> dict[str, Concept]:
    """Map the names of one type, in lower case as in `Fact.value`, to their concepts, in the order of the lexicon."""
    return {name: concept for (kind, name), concept in _lexicon()[2].items() if kind == fact_type}


on_change(concepts.cache_clear)


# --------------------------------------------------------------------------------------- abbreviations

CONTEXT_CLASSES = (
    "<percent>",
    "<number>",
    "<dose>",
    "<degree>",
    "<body part>",
    "<heading>",
    "<drug>",
    "<acuity>",
    "<age>",
    "<eye note>",
)


@table
def abbreviations() -> dict[str, tuple[Abbreviation, ...]]:
    """Map each abbreviation in lower case to its meanings. Meanings with a context and a user's meanings come first.

    A user's meaning without a context replaces the built-in meanings without a context.
    """
    found: dict[str, list[Abbreviation]] = {}
    for folder in folders:
        added: dict[str, list[Abbreviation]] = {}
        for where, row in rows_of(folder, ABBREVIATIONS):
            added.setdefault(row["abbreviation"].lower(), []).append(_abbreviation(where, row))
        for key, rows in added.items():
            known = found.setdefault(key, [])
            known += [row for row in rows if row.has_context or not _replaced(row, known)]
    return {key: tuple(sorted(rows, key=lambda row: not row.has_context)) for key, rows in found.items()}


def _replaced(row: Abbreviation, known: Iterable[Abbreviation]) -> bool:
    """Return whether one of the `known` rows already gives the meaning without a context."""
    return any(
        not earlier.has_context and (earlier.written == row.written or not (earlier.exact and row.exact))
        for earlier in known
    )


def _abbreviation(where: str, row: dict[str, str]) -> Abbreviation:
    written = row["abbreviation"]
    if any(map(str.isspace, written)) or not written[0].isalnum():
        raise InputError(f"{where}: abbreviation is {written!r}; it starts with a letter or digit and has no spaces")
    if not row["expansion"]:
        raise InputError(f"{where}: expansion is empty; write what {written} means")
    if row["case"] not in ("", "exact"):
        raise InputError(f"{where}: case is {row['case']!r}; write exact, or leave it empty for any case")
    before, after = (_context(where, column, row[column]) for column in ("before", "after"))
    return Abbreviation(written, row["expansion"], bool(row["case"]), before, after)


def _context(where: str, column: str, cell: str) -> tuple[str, ...]:
    words = tuple(map(str.strip, cell.split("|"))) if cell else ()
    if "" in words:
        raise InputError(f"{where}: {column} has an empty alternative; write words separated by single | marks")
    for word in words:
        if word.startswith("<") and word not in CONTEXT_CLASSES:
            raise InputError(f"{where}: {column} has {word}; use a word or one of {', '.join(CONTEXT_CLASSES)}")
    return words


# -------------------------------------------------------------------------- sound-alikes, units, limits


@table
def sound_alikes() -> dict[str, tuple[str, ...]]:
    """Map each drug name in lower case to the names, as written, that it is confused with.

    A brand name has an entry of its own, because Celebrex looks like Celexa but celecoxib does not. So look a drug up
    by `Fact.text` first, then by `Fact.key`, the generic name.
    """
    confused: dict[str, dict[str, None]] = {}
    for folder in folders:
        for where, row in rows_of(folder, "sound_alikes.csv"):
            names = (row["name"], row["confused_with"])
            drugs = [_drug_named(name) for name in names]
            if problem := _problem_of_pair(names, drugs):
                if folder == BUILT_IN:  # a user's file gives the name another meaning
                    continue
                raise InputError(f"{where}: {problem}")
            for name, other in zip(names, reversed(names), strict=True):
                confused.setdefault(name.lower(), {})[other] = None
    return {name: tuple(others) for name, others in confused.items()}


def _drug_named(name: str) -> str:
    """Return the lexicon's name of a drug in lower case, or "" if `name` is not a drug."""
    term = phrase_table()[0].get(phrase_of(name))
    return term.name if term and term.type == "drug" else ""


def _problem_of_pair(names: tuple[str, str], drugs: list[str]) -> str:
    for name, drug in zip(names, drugs, strict=True):
        if not drug:
            return f"{name!r} is not a drug of the lexicon; add it to drugs.csv"
    return f"{names[0]} and {names[1]} are the same drug; name two different drugs" if drugs[0] == drugs[1] else ""


@table
def units() -> dict[str, tuple[float, str]]:
    """Map each spelling of a dose unit (lower case, singular) to (factor, base unit): "mcg" -> (0.001, "mg")."""
    known: dict[str, tuple[float, str]] = {}
    for where, row in all_rows("units.csv"):
        factor = number_of(where, "factor", row["factor"])
        if factor <= 0 or not row["base_unit"]:
            raise InputError(f"{where}: expected a factor above 0 and a base_unit, such as mcg,0.001,mg")
        known.setdefault(row["spelling"].lower(), (factor, row["base_unit"]))
    return known


@table
def reference_ranges() -> dict[str, Range]:
    """Map each vital sign and laboratory test, named as in `Fact.key`, to its limits.

    Systolic and diastolic blood pressure have separate entries.
    """
    known: dict[str, Range] = {}
    for where, row in all_rows("reference_ranges.csv"):
        known.setdefault(row["name"].lower(), _range(where, row))
    return known


def _range(where: str, row: dict[str, str]) -> Range:
    low, high = (number_of(where, end, row[end]) if row[end] else None for end in ("low", "high"))
    floor, ceiling = (number_of(where, end, row[end]) for end in ("plausible_low", "plausible_high"))
    ends = [floor, *(end for end in (low, high) if end is not None), ceiling]
    if len(ends) < 3 or ends != sorted(ends) or floor == ceiling or (low is not None and low == high):
        raise InputError(f"{where}: expected plausible_low <= low < high <= plausible_high; low or high may be empty")
    if row["decimals"] not in ("0", "1", "2", "3"):
        raise InputError(f"{where}: decimals is {row['decimals']!r}; write 0, 1, 2 or 3")
    return Range(low, high, row["unit"], floor, ceiling, int(row["decimals"]))
