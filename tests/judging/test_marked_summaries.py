"""Every form of marked summaries comes to the same rows: labelled JSONL, ratings, results, triplets and pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assessment.ratings import Rating, RatingBook, SummaryError, text_sha256
from evaluation.metrics import ROW_COLUMNS
from judging.marked_summaries import MarkedSummary, locate, read_marked
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import write_jsonl

NOTE = "Takes metformin 500 mg. Left knee pain."
CHOSEN, REJECTED = "Metformin 500 mg, left knee pain.", "Metformin 5000 mg, right knee pain."


def read_one(path: Path, row: dict[str, Any]) -> list[MarkedSummary]:
    write_jsonl(path, [row])
    return read_marked(path)


def marked_words(row: MarkedSummary) -> list[str] | None:
    return None if row.spans is None else [row.summary[start:end] for start, end in row.spans]


def test_marked_words_are_found_in_their_order() -> None:
    assert locate(["pain", "knee", "pain"], "pain in the knee, pain at rest") == [(0, 4), (12, 16), (18, 22)]
    assert locate(["fever"], "no pain") is None
    assert locate([""], "no pain") is None


def test_labelled_summaries(tmp_path: Path) -> None:
    row = {"id": 7, "clinical_note": NOTE, "generated_summary": REJECTED, "unsupported": ["5000", "right"]}
    (marked,) = read_one(tmp_path / "labels.jsonl", row)
    assert (marked.row_id, marked.note, marked.has_error, marked_words(marked)) == ("7", NOTE, True, ["5000", "right"])
    (unmarked,) = read_one(
        tmp_path / "labels.jsonl", {"clinical_note": NOTE, "generated_summary": REJECTED, "has_hallucination": 1}
    )
    assert (unmarked.has_error, unmarked.spans) == (True, None)


def test_the_edits_of_a_triplet_are_marked_in_the_rejected_text(tmp_path: Path) -> None:
    edits = [
        {"type": "laterality", "start": 18, "end": 22, "old": "left", "new": "right", "verdict": "contradicted"},
        {"type": "dose", "start": 10, "end": 13, "old": "500", "new": "5000", "verdict": "contradicted"},
    ]
    row = {"id": "a", "clinical_note": NOTE, "chosen": CHOSEN, "rejected": REJECTED, "edits": edits}
    chosen, rejected = read_one(tmp_path / "triplets.jsonl", row)
    assert (chosen.has_error, marked_words(chosen)) == (False, [])
    assert (rejected.has_error, marked_words(rejected)) == (True, ["5000", "right"])


def test_an_edit_that_only_deletes_leaves_the_words_unknown(tmp_path: Path) -> None:
    edits = [{"type": "negation", "start": 0, "end": 3, "old": "No ", "new": "", "verdict": "contradicted"}]
    row = {"id": "a", "clinical_note": NOTE, "chosen": "No fever.", "rejected": "fever.", "edits": edits}
    assert read_one(tmp_path / "triplets.jsonl", row)[1].spans is None


def test_judged_completions_say_that_the_rejected_text_is_wrong_but_not_where(tmp_path: Path) -> None:
    row = {"id": "a", "clinical_note": NOTE, "chosen": CHOSEN, "rejected": REJECTED, "chosen_errors": 0}
    chosen, rejected = read_one(tmp_path / "pairs.jsonl", {**row, "rejected_errors": 2})
    assert (chosen.has_error, chosen.spans) == (False, ())
    assert (rejected.has_error, rejected.spans) == (True, None)
    # a pair of a complete and an incomplete text has no error to learn from
    assert [each.has_error for each in read_one(tmp_path / "pairs.jsonl", {**row, "rejected_errors": 0})] == [False]


def results_row(**cells: Any) -> dict[str, Any]:
    row = {"example_id": "1", "clinical_note": NOTE, "generated_summary": REJECTED, "has_hallucination": 1, **cells}
    return {name: row.get(name, "") for name in ROW_COLUMNS}


def test_judged_summaries_are_marked_by_their_wrong_claims(tmp_path: Path) -> None:
    claims = [{"start": 10, "end": 14, "level": "error"}, {"start": 19, "end": 24, "level": "review"}]
    rows = [
        results_row(unsupported_spans=json.dumps(claims)),
        results_row(generated_summary=CHOSEN, has_hallucination=0, unsupported_spans="[]"),
        results_row(generated_summary="The judge failed here.", has_hallucination=""),
    ]
    write_csv(tmp_path / "evaluation_results.csv", ROW_COLUMNS, rows)
    wrong, right = read_marked(tmp_path / "evaluation_results.csv")
    assert (wrong.has_error, marked_words(wrong)) == (True, ["5000"])
    assert (right.has_error, right.spans) == (False, ())


def test_what_people_mark_in_the_rating_tool(tmp_path: Path) -> None:
    write_csv(tmp_path / "evaluation_results.csv", ROW_COLUMNS, [results_row(), results_row(generated_summary=CHOSEN)])
    book = RatingBook(tmp_path / "manual_assessment.json")
    error = SummaryError("contradiction", "major", 19, 24, "right")
    book.save(Rating("ann", text_sha256(NOTE, REJECTED), "1", "hallucinated", [error]))
    book.save(Rating("bob", text_sha256(NOTE, REJECTED), "1", "hallucinated", [SummaryError("fabricated")]))
    book.save(Rating("ann", text_sha256(NOTE, CHOSEN), "1", "not hallucinated"))
    book.save(Rating("bob", text_sha256(NOTE, CHOSEN), "1", "skipped"))
    found = read_marked(tmp_path / "manual_assessment.json")
    assert [(each.row_id, each.has_error, marked_words(each)) for each in found] == [
        ("1-ann", True, ["right"]),
        ("1-bob", True, None),
        ("1-ann", False, []),
    ]


def test_where_people_disagree_the_decision_is_the_label(tmp_path: Path) -> None:
    """An adjudication decides alone, else most assessors; a draw that nobody has settled is no label."""
    texts = [REJECTED, CHOSEN, "Metformin."]
    write_csv(tmp_path / "evaluation_results.csv", ROW_COLUMNS, [results_row(generated_summary=text) for text in texts])
    book = RatingBook(tmp_path / "manual_assessment.json")
    for text in texts:
        yes = Rating("ann", text_sha256(NOTE, text), "1", "hallucinated", [SummaryError("fabricated", "minor", 0, 9)])
        book.save(yes)
        book.save(Rating("bob", text_sha256(NOTE, text), "1", "not hallucinated"))
    book.save(
        Rating("cleo", text_sha256(NOTE, REJECTED), "1", "hallucinated", adjudication=True, rated_at="2026-01-01")
    )
    book.save(
        Rating("dan", text_sha256(NOTE, REJECTED), "1", "not hallucinated", adjudication=True, rated_at="2026-02")
    )
    book.save(Rating("cleo", text_sha256(NOTE, CHOSEN), "1", "not hallucinated"))
    found = read_marked(tmp_path / "manual_assessment.json")
    assert [(each.row_id, each.summary, each.has_error) for each in found] == [
        ("1-dan", REJECTED, False),
        ("1-bob", CHOSEN, False),
        ("1-cleo", CHOSEN, False),
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"clinical_note": NOTE, "text": "?"}, "has neither generated_summary nor chosen and rejected"),
        ({"clinical_note": NOTE, "chosen": "a", "rejected": "b", "edits": [{"start": "x"}]}, "edits cannot be read"),
        ({"clinical_note": NOTE, "chosen": 1, "rejected": "b"}, "chosen is missing or not a text"),
    ],
)
def test_rows_of_no_known_form(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"line 1: .*{words}"):
        read_one(tmp_path / "labels.jsonl", row)


def test_ratings_of_several_models_find_all_their_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool was started in a folder above; one model's results are gone since, and a rating was not blind."""
    columns = ("example_id", "clinical_note", "generated_summary")
    (tmp_path / "elsewhere").mkdir()
    texts = {"sft": "Fever.", "dpo": "Cough.", "control": "Rash.", "other": "Pain."}
    for name, summary in texts.items():
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / f"{name}.csv", columns, [dict(zip(columns, ("e1", NOTE, summary), strict=True))])
    book = RatingBook(tmp_path / "sft" / "manual_assessment.json")
    for name, summary in texts.items():
        sha256 = text_sha256(NOTE, summary)
        book.save(Rating("KM", sha256, "e1", "not hallucinated", blind=name != "other"))
    named = [{"results_csv": f"{name}/{name}.csv"} for name in texts]
    write_csv(tmp_path / "sft" / "manual_assessment.csv", ("results_csv",), named)
    (tmp_path / "control" / "control.csv").unlink()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = read_marked(tmp_path / "sft" / "manual_assessment.json")
    assert [(row.summary, row.has_error) for row in found] == [("Fever.", False), ("Cough.", False)]
    assert "1 ratings are left out, of texts that are not in" in capsys.readouterr().err
