"""The table of ratings: a row for each error, and each file that has the summary."""

from __future__ import annotations

from pathlib import Path

from assessment.examples import Example, Source
from assessment.export import COLUMNS, write_ratings_csv
from assessment.ratings import Draft, Rating, SummaryError
from script_io.csv_files import read_csv


def test_one_row_per_error_and_one_for_a_rating_without_error(tmp_path: Path) -> None:
    a, b = Example("a", "note a", "takes =1+1 mg"), Example("b", "note b", "fine")
    same = Example("z", "note a", "takes =1+1 mg")
    sources = [Source(Path("sft.csv"), [a, b]), Source(Path("dpo.csv"), [same])]
    errors = [SummaryError("contradiction", "major", 6, 13, "=1+1 mg"), SummaryError("fabricated", "minor")]
    ratings = [
        Rating("KM", a.text_sha256, "a", "hallucinated", errors, ["fever", "cough"], "see", True, 2.5, "2026", 1),
        Rating("JS", b.text_sha256, "b", "not hallucinated", adjudication=True),
        Rating("AB", b.text_sha256, "b", draft=Draft()),  # a yes that was only begun
        Rating("JS", "of another file", "c", "not hallucinated"),
    ]
    write_ratings_csv(tmp_path / "t.csv", sources, ratings)
    rows = [row for _, row in read_csv(tmp_path / "t.csv", COLUMNS)]
    names = ("results_csv", "example_id", "assessor", "verdict", "error", "kind", "words", "start", "end")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("sft.csv", "a", "KM", "hallucinated", "1", "contradiction", "=1+1 mg", "6", "13"),
        ("sft.csv", "a", "KM", "hallucinated", "2", "fabricated", "", "", ""),
        ("sft.csv", "b", "JS", "not hallucinated", "", "", "", "", ""),
        ("dpo.csv", "z", "KM", "hallucinated", "1", "contradiction", "=1+1 mg", "6", "13"),
        ("dpo.csv", "z", "KM", "hallucinated", "2", "fabricated", "", "", ""),
    ]
    assert (rows[0]["omissions"], rows[0]["completeness"], rows[0]["blind"]) == ("fever; cough", "1", "1")
    assert [row["adjudication"] for row in rows] == ["0", "0", "1", "0", "0"]
