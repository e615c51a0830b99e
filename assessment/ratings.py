"""Ratings of summaries by assessors, and the file that stores them: `manual_assessment.json`.

A rating belongs to the text of a note and a summary, not to a row of a file. A new evaluation has the same example
ids but other summaries.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from script_io.errors import InputError
from script_io.files import read_json, write_json
from script_io.terminal import printable_character

VERSION = 2  # of the file format; version 1 had other kinds of error, and no severity, position or omissions
HALLUCINATED, NOT_HALLUCINATED, SKIPPED = "hallucinated", "not hallucinated", "skipped"
KINDS = {
    "fabricated": "the note does not mention it at all",
    "incorrect inference": "the note does not support this conclusion",
    "contradiction": "the note says the opposite or something else",
    "unsupported detail": "the note has the fact, but not this detail",
}
SEVERITIES = {
    "major": "could change a diagnosis, a treatment or the follow-up",
    "minor": "could not change any of these",
}
COMPLETENESS = {  # how many of the important facts of the note the summary states
    0: "states none of the important facts of the note",
    1: "states a few of them",
    2: "states most of them",
    3: "states all of them",
}
_SAME_WHEN_TYPED = str.maketrans("‘’“”‐‑–—", "''\"\"----")


@dataclass(frozen=True)
class SummaryError:
    """One hallucination. `text` is `summary[start:end]`; all three are empty if no words were named."""

    kind: str = ""
    severity: str = ""
    start: int | None = None  # characters from the beginning of the summary
    end: int | None = None
    text: str = ""


@dataclass(frozen=True)
class Draft:
    """A yes whose error has no kind yet. It counts nowhere; it is kept so that a broken session loses no answer."""

    error: SummaryError = field(default_factory=SummaryError)
    adds: bool = False  # a further error of the rating; otherwise the error replaces what was rated before


@dataclass(frozen=True)
class Rating:
    """One assessor's rating of one summary. `verdict` is None if only an omission or a comment is noted so far."""

    assessor: str
    text_sha256: str
    example_id: str
    verdict: str | None = None
    errors: list[SummaryError] = field(default_factory=list)
    omissions: list[str] = field(default_factory=list)
    comment: str = ""
    blind: bool = False
    seconds: float = 0.0  # from the display of the summary to the verdict and its last error
    rated_at: str = ""  # UTC, ISO 8601
    completeness: int | None = None  # key of COMPLETENESS; None if it was not asked
    draft: Draft | None = None
    adjudication: bool = False  # settles a draw between other assessors, whose ratings were on the screen
    verdict_shown: bool = False  # the automatic verdict has been on this assessor's screen, before or after the rating

    @property
    def is_given(self) -> bool:
        return self.verdict in (HALLUCINATED, NOT_HALLUCINATED)

    @property
    def says_something(self) -> bool:
        """Whether it has an answer, and not only that the automatic verdict was shown or a yes begun."""
        return bool(self.verdict or self.omissions or self.comment)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask. A session may have ended between the verdict and the last error."""
        if self.draft is not None:
            return False
        described = self.errors and all(error.severity for error in self.errors)
        return self.verdict == NOT_HALLUCINATED or (self.verdict == HALLUCINATED and bool(described))


def text_sha256(note: str, summary: str) -> str:
    return hashlib.sha256(f"{note}\0{summary}".encode()).hexdigest()


def find_words(words: str, summary: str) -> tuple[int, int] | None:
    """Return (start, end) of the first occurrence of the words in the summary; None if they are not in it."""
    return next(iter(find_all_words(words, summary)), None)


def find_all_words(words: str, summary: str) -> list[tuple[int, int]]:
    """Return (start, end) of every occurrence of the words in the summary.

    Ignores case, white space, and typographic quotes and dashes, because words are pasted from a wrapped text.
    Occurrences do not overlap. Words found as whole words are preferred to parts of longer words ("his" in "history").
    """
    wanted, _ = _comparable(words)
    text, origins = _comparable(summary)
    starts = [match.start() for match in re.finditer(re.escape(wanted), text)] if wanted else []
    whole = [start for start in starts if _is_whole(text, start, start + len(wanted))]
    return [(origins[start], origins[start + len(wanted) - 1] + 1) for start in whole or starts]


def _is_whole(text: str, start: int, end: int) -> bool:
    """Return whether no letter or digit continues the words on either side."""
    cut_before = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    cut_after = end < len(text) and text[end].isalnum() and text[end - 1].isalnum()
    return not cut_before and not cut_after


def folded(name: str) -> str:
    """Return the name without differences of case, white space and width: JS, js and " Js" are one assessor."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _comparable(text: str) -> tuple[str, list[int]]:
    """Return the text in lower case with single spaces, and for each character its index in the original."""
    characters: list[str] = []
    origins: list[int] = []
    for index, original in enumerate(text):
        for character in printable_character(original).translate(_SAME_WHEN_TYPED).casefold():
            if character.isspace() and (not characters or characters[-1] == " "):
                continue
            characters.append(" " if character.isspace() else character)
            origins.append(index)
    if characters and characters[-1] == " ":
        characters.pop()
    return "".join(characters), origins


class RatingBook:
    """The ratings of all assessors, in memory and in `manual_assessment.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.joined_names: list[str] = []  # other spellings of an assessor's name in the file
        self.ratings = self._load()

    def _load(self) -> dict[tuple[str, str], Rating]:
        """Read the file: (assessor, text_sha256) -> rating."""
        if not self.path.exists():
            return {}
        remedy = "move it aside to start again without it"
        content = read_json(self.path, remedy)
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise InputError(
                f"{self.path}: not written by this version of the tool, which asks other questions; {remedy}, "
                "and keep it as a record"
            )
        try:
            ratings = [_rating(row) for row in content["ratings"]]
        except (KeyError, TypeError, ValueError) as error:
            names = ", ".join(column.name for column in fields(Rating))
            raise InputError(f"{self.path}: not a list of ratings with {names}; {remedy}") from error
        return self._of_one_spelling(ratings)

    def _of_one_spelling(self, ratings: Sequence[Rating]) -> dict[tuple[str, str], Rating]:
        """Join assessors whose names differ in case or white space only. Of two ratings, the later one counts."""
        spelling: dict[str, str] = {}
        found: dict[tuple[str, str], Rating] = {}
        for rating in ratings:
            name = spelling.setdefault(folded(rating.assessor), rating.assessor)
            other = found.get((name, rating.text_sha256))
            if other is None or other.rated_at <= rating.rated_at:
                found[name, rating.text_sha256] = replace(rating, assessor=name)
        self.joined_names = sorted({rating.assessor for rating in ratings} - set(spelling.values()))
        return found

    def spelling_of(self, name: str) -> str:
        """Return the assessor's name as the file has it, or as given if the file has no rating of this assessor."""
        known = {folded(assessor): assessor for assessor, _ in self.ratings}
        return known.get(folded(name), name)

    def refresh(self) -> None:
        """Read what other sessions have stored."""
        self.ratings = self._load()

    def save(self, rating: Rating) -> None:
        """Store one rating in the file at once. Keeps what other sessions have stored in the meantime."""
        with _sole_writer(self.path.parent):
            self.ratings = self._load() | {(rating.assessor, rating.text_sha256): rating}
            write_json(
                self.path,
                {"version": VERSION, "ratings": [asdict(each) for each in self.ratings.values()]},
                private=True,
            )


def _rating(row: Mapping[str, Any]) -> Rating:
    """Convert one row of the file. Raises ValueError or TypeError if it is not a rating."""
    rating = Rating(**{**row, "errors": [SummaryError(**error) for error in row["errors"]], "draft": None})
    if row.get("draft") is not None:
        rating = replace(rating, draft=Draft(SummaryError(**row["draft"]["error"]), row["draft"]["adds"]))
    drafts: list[SummaryError | Draft] = [rating.draft, rating.draft.error] if rating.draft else []
    records: list[Rating | SummaryError | Draft] = [rating, *rating.errors, *drafts]
    for record in records:
        _check_types(record)
    if rating.verdict not in (None, HALLUCINATED, NOT_HALLUCINATED, SKIPPED):
        raise ValueError(rating.verdict)
    if any(error.kind not in KINDS or error.severity not in ("", *SEVERITIES) for error in rating.errors):
        raise ValueError(rating.errors)
    if rating.completeness not in (None, *COMPLETENESS):
        raise ValueError(rating.completeness)
    if not all(isinstance(omission, str) for omission in rating.omissions):
        raise TypeError("omissions")
    return rating


def _check_types(record: Rating | SummaryError | Draft) -> None:
    """Raise TypeError for a value that is not of the type of its field."""
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name)
        wanted = list if get_origin(hint) is list else (int | float) if hint is float else hint
        if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
            raise TypeError(name)


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Make other sessions wait while this one reads and writes. The lock ends with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # no lock on Windows: two sessions that save in the same milliseconds may lose a rating
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
