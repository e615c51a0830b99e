"""Write the ratings as a table, `manual_assessment.csv`, for a spreadsheet or another program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from assessment.examples import Source
from assessment.ratings import Rating, SummaryError
from script_io.csv_files import write_csv

COLUMNS = (
    *("results_csv", "example_id", "assessor", "verdict", "completeness"),
    *("error", "kind", "severity", "words", "start", "end"),
    *("omissions", "comment", "blind", "adjudication", "seconds", "rated_at", "text_sha256"),
)


def write_ratings_csv(path: Path, sources: Sequence[Source], ratings: Iterable[Rating]) -> None:
    """Write one row per error, and one row per rating without an error, for each file that has the summary.

    Ratings whose text is in none of the files are left out, as in the report, and so is a yes that was only begun, if
    it has no comment or omission. `error` counts the errors of a rating
    from 1; `start` and `end` are characters from the beginning of the summary.
    """
    rated = [rating for rating in ratings if rating.says_something]
    rows = [
        row
        for source in sources
        for rating in rated
        if rating.text_sha256 in source.by_text
        for row in _rows(source, rating)
    ]
    write_csv(path, COLUMNS, rows)


def _rows(source: Source, rating: Rating) -> Iterator[dict[str, Any]]:
    for number, error in enumerate(rating.errors or [SummaryError()], start=1):
        yield {
            "results_csv": str(source.path),
            "example_id": source.by_text[rating.text_sha256].example_id,
            "assessor": rating.assessor,
            "verdict": rating.verdict or "",
            "completeness": "" if rating.completeness is None else rating.completeness,
            "error": number if rating.errors else "",
            "kind": error.kind,
            "severity": error.severity,
            "words": error.text,
            "start": "" if error.start is None else error.start,
            "end": "" if error.end is None else error.end,
            "omissions": "; ".join(rating.omissions),
            "comment": rating.comment,
            "blind": int(rating.blind),
            "adjudication": int(rating.adjudication),
            "seconds": rating.seconds,
            "rated_at": rating.rated_at,
            "text_sha256": rating.text_sha256,
        }
