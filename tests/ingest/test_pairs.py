"""Preference pairs from hallucinated rows and from a column of rejected summaries."""

from ingest.pairs import preference_rows
from ingest.records import Record, with_rejected_rows
from language_model.prompt_format import build_prompt


def record(name: str, note: str, summary: str, label: str = "factual", rejected: str = "") -> Record:
    return Record("place", name, note, summary, label, rejected=rejected)


def test_a_hallucinated_row_is_paired_with_the_factual_rows_of_its_note_in_turn() -> None:
    records = [
        record("f1", "note", "Left knee pain."),
        record("f2", "note", "Pain in the left knee."),
        record("h1", "note", "Right knee pain.", "hallucinated"),
        record("h2", "note", "Right hip pain.", "hallucinated"),
        record("h3", "another note", "Cough.", "hallucinated"),
    ]
    rows = preference_rows(records)
    assert [(row["id"], row["source_id"]) for row in rows] == [("f1-h1", "f1"), ("f2-h2", "f2")]
    first = rows[0]
    assert (first["prompt"], first["clinical_note"]) == (build_prompt("note"), "note")
    assert (first["chosen"], first["rejected"]) == ("Left knee pain.", "Right knee pain.")
    edit = first["edits"][0]
    assert (edit["old"], edit["new"], first["chosen"][edit["start"] : edit["end"]]) == ("Left", "Right", "Left")


def test_a_rejected_text_becomes_a_hallucinated_row_and_a_pair() -> None:
    records = [
        record("1", "a", "good", rejected="bad"),
        record("2", "b", "same", rejected="same"),
        record("3", "c", "x"),
    ]
    rows = with_rejected_rows(records)
    assert [(row.id, row.summary, row.label) for row in rows] == [
        ("1", "good", "factual"),
        ("1-rejected", "bad", "hallucinated"),
        ("2", "same", "factual"),
        ("3", "x", "factual"),
    ]
    assert [(row["chosen"], row["rejected"]) for row in preference_rows(rows)] == [("good", "bad")]


def test_citations_are_in_neither_text_of_a_pair() -> None:
    records = [record("1", "a", "Cough [Evidence: S1; Conf: 1.00]."), record("2", "a", "Fever.", "hallucinated")]
    assert [(row["chosen"], row["rejected"]) for row in preference_rows(records)] == [("Cough.", "Fever.")]
