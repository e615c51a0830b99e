"""What an assessor says of a summary, and the file that keeps it: `manual_assessment.json`.

A rating belongs to the words that were rated, a note and a summary, and not to a row of a file: a new evaluation has
the same ids and other summaries.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from assessment.screen import printable
from script_io.errors import InputError
from script_io.files import read_json, write_json

VERSION = 2  # of the file; the first kept other kinds of error, and neither severity, place nor omissions
HALLUCINATED, NOT_HALLUCINATED, SKIPPED = "hallucinated", "not hallucinated", "skipped"
KINDS = {
    "fabricated": "the note has nothing at all about it",
    "incorrect inference": "a conclusion that the note does not bear out",
    "contradiction": "the note says otherwise",
    "unsupported detail": "the note has the fact, but not this detail of it",
}
SEVERITIES = {
    "major": "could change a diagnosis, a treatment or the follow-up",
    "minor": "would not",
}
_SAME_WHEN_TYPED = str.maketrans("‘’“”‐‑–—", "''\"\"----")


@dataclass(frozen=True)
class SummaryError:
    """One hallucination. `text` is `summary[start:end]`; all three are empty where no words were named."""

    kind: str = ""
    severity: str = ""
    start: int | None = None  # characters from the beginning of the summary
    end: int | None = None
    text: str = ""


@dataclass(frozen=True)
class Rating:
    """What one assessor said of one summary. `verdict` is None where there is only an omission or a comment so far."""

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

    @property
    def is_given(self) -> bool:
        return self.verdict in (HALLUCINATED, NOT_HALLUCINATED)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask: a sitting may have been broken off between the verdict and its reason."""
        described = self.errors and all(error.severity for error in self.errors)
        return self.verdict == NOT_HALLUCINATED or (self.verdict == HALLUCINATED and bool(described))


def text_sha256(note: str, summary: str) -> str:
    return hashlib.sha256(f"{note}\0{summary}".encode()).hexdigest()


def find_words(words: str, summary: str) -> tuple[int, int] | None:
    """(start, end) of the words where they first stand in the summary; None where they do not.

    Case, white space, and typographic quotes and dashes may differ, since the words are pasted from a wrapped text.
    """
    wanted, _ = _comparable(words)
    text, origins = _comparable(summary)
    place = text.find(wanted) if wanted else -1
    return None if place < 0 else (origins[place], origins[place + len(wanted) - 1] + 1)


def _comparable(text: str) -> tuple[str, list[int]]:
    """The text in lower case with single spaces, and for each of its characters the index it came from."""
    characters: list[str] = []
    origins: list[int] = []
    for index, original in enumerate(text):
        for character in printable(original).translate(_SAME_WHEN_TYPED).casefold():
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
        """Reads the file: (assessor, text_sha256) -> rating."""
        if not self.path.exists():
            return {}
        remedy = "move it aside to start afresh"
        content = read_json(self.path, remedy)
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise InputError(
                f"{self.path}: not written by this version of the tool, whose questions differ; {remedy}, "
                "and keep it: nothing of it is lost"
            )
        try:
            ratings = [_rating(row) for row in content["ratings"]]
        except (KeyError, TypeError, ValueError) as error:
            names = ", ".join(column.name for column in fields(Rating))
            raise InputError(f"{self.path}: not a list of ratings with {names}; {remedy}") from error
        return {(rating.assessor, rating.text_sha256): rating for rating in ratings}

    def refresh(self) -> None:
        """Takes in what other sittings have stored."""
        self.ratings = self._load()

    def save(self, rating: Rating) -> None:
        """Stores one rating in the file, at once; what other sittings have stored meanwhile stays."""
        with _sole_writer(self.path.parent):
            self.ratings = self._load() | {(rating.assessor, rating.text_sha256): rating}
            write_json(self.path, {"version": VERSION, "ratings": [asdict(each) for each in self.ratings.values()]})


def _rating(row: Mapping[str, Any]) -> Rating:
    """A rating as it stands in the file. Raises ValueError or TypeError where it is none."""
    rating = Rating(**{**row, "errors": [SummaryError(**error) for error in row["errors"]]})
    if rating.verdict not in (None, HALLUCINATED, NOT_HALLUCINATED, SKIPPED):
        raise ValueError(rating.verdict)
    if any(error.kind not in KINDS or error.severity not in ("", *SEVERITIES) for error in rating.errors):
        raise ValueError(rating.errors)
    return rating


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Makes another sitting wait between reading and writing; a killed one gives the lock up by itself."""
    try:
        import fcntl
    except ImportError:  # Windows: two sittings that save within the same milliseconds are not held apart
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network drive may know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
