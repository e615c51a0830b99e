"""Ratings of summaries by assessors, and the file that stores them: `manual_assessment.json`.

A rating belongs to the text of a note and a summary, not to a row of a file. A new evaluation has the same example
ids but other summaries.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

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
    seconds: float = 0.0  # from the summary's display to the verdict
    rated_at: str = ""  # UTC, ISO 8601
    completeness: int | None = None  # key of COMPLETENESS; None if it was not asked

    @property
    def is_given(self) -> bool:
        return self.verdict in (HALLUCINATED, NOT_HALLUCINATED)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask. A session may have ended between the verdict and the last error."""
        described = self.errors and all(error.severity for error in self.errors)
        return self.verdict == NOT_HALLUCINATED or (self.verdict == HALLUCINATED and bool(described))


def text_sha256(note: str, summary: str) -> str:
    return hashlib.sha256(f"{note}\0{summary}".encode()).hexdigest()


def find_words(words: str, summary: str) -> tuple[int, int] | None:
    """Return (start, end) of the first occurrence of the words in the summary; None if they are not in it.

    Ignores case, white space, and typographic quotes and dashes, because words are pasted from a wrapped text.
    """
    wanted, _ = _comparable(words)
    text, origins = _comparable(summary)
    place = text.find(wanted) if wanted else -1
    return None if place < 0 else (origins[place], origins[place + len(wanted) - 1] + 1)


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
        return {(rating.assessor, rating.text_sha256): rating for rating in ratings}

    def refresh(self) -> None:
        """Read what other sessions have stored."""
        self.ratings = self._load()

    def save(self, rating: Rating) -> None:
        """Store one rating in the file at once. Keeps what other sessions have stored in the meantime."""
        with _sole_writer(self.path.parent):
            self.ratings = self._load() | {(rating.assessor, rating.text_sha256): rating}
            write_json(self.path, {"version": VERSION, "ratings": [asdict(each) for each in self.ratings.values()]})


def _rating(row: Mapping[str, Any]) -> Rating:
    """Convert one row of the file. Raises ValueError or TypeError if it is not a rating."""
    rating = Rating(**{**row, "errors": [SummaryError(**error) for error in row["errors"]]})
    if rating.verdict not in (None, HALLUCINATED, NOT_HALLUCINATED, SKIPPED):
        raise ValueError(rating.verdict)
    if any(error.kind not in KINDS or error.severity not in ("", *SEVERITIES) for error in rating.errors):
        raise ValueError(rating.errors)
    if isinstance(rating.completeness, bool) or rating.completeness not in (None, *COMPLETENESS):
        raise ValueError(rating.completeness)
    return rating


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
