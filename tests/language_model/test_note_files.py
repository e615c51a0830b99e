"""Which notes a text, a file or a folder holds, and what is kept of its columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from language_model.note_files import Note, note_of_argument, read_notes
from script_io.csv_files import write_csv
from script_io.errors import InputError


def named(notes: list[Note]) -> list[tuple[str, str]]:
    return [(note.name, note.text) for note in notes]


def test_notes_of_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first note\n\nsecond note\n")
    write_csv(tmp_path / "a.csv", ["id", "visit"], [{"id": "x", "visit": "one, with\na line break"}])
    (tmp_path / "a.jsonl").write_text(
        '{"id": "p", "clinical_note": "by note"}\n'
        '{"clinical_note": null, "prompt": "Clinical Note: by prompt\\n\\nSummary:"}\n'
    )
    assert named(read_notes(tmp_path / "a.txt")) == [("1", "first note"), ("3", "second note")]
    assert named(read_notes(tmp_path / "a.csv", "visit")) == [("x", "one, with\na line break")]
    assert named(read_notes(tmp_path / "a.jsonl")) == [("p", "by note"), ("2", "by prompt")]


def test_a_text_file_or_each_file_of_a_folder_is_one_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("b.txt", "second\n"), ("a.TXT", "\nfirst,\n\nlonger\n"), ("c.md", "no note"), (".d.txt", "")):
        (tmp_path / name).write_text(text)
    assert read_notes(tmp_path / "a.TXT", one_per_file=True) == read_notes(tmp_path)[:1]
    notes = read_notes(tmp_path)
    assert named(notes) == [("a.TXT", "first,\n\nlonger"), ("b.txt", "second")]
    assert notes[1].columns == {"id": "b.txt", "clinical_note": "second"}
    assert f"warning: {tmp_path}: files that do not end in .txt are left out: c.md\n" in capsys.readouterr().err


def test_all_columns_of_a_row_are_kept(tmp_path: Path) -> None:
    row = {"patient_id": "007", "visit": "cough", "clinical_note": "an older note", "id": ""}
    write_csv(tmp_path / "a.csv", list(row), [row])
    [note] = read_notes(tmp_path / "a.csv", "visit")
    assert (note.name, note.text) == ("2", "cough")
    expected = {"patient_id": "007", "visit": "cough", "input_clinical_note": "an older note", "id": ""}
    assert note.columns == {**expected, "clinical_note": "cough"}
    assert read_notes(tmp_path / "a.csv")[0].columns == row


def test_keys_of_a_jsonl_row_keep_their_values(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "Clinical Note: cough\\n\\nSummary:", "age": 54, "tags": ["a"]}\n')
    [note] = read_notes(tmp_path / "a.jsonl")
    kept = {"prompt": "Clinical Note: cough\n\nSummary:", "age": 54, "tags": ["a"]}
    assert note.columns == {**kept, "clinical_note": "cough"}


def test_a_note_of_the_command_line_is_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("first part\n\nsecond part\n")
    assert note_of_argument("cough", "--clinical_note").text == "cough"
    assert note_of_argument(f"@{tmp_path / 'note.txt'}", "--clinical_note").text == "first part\n\nsecond part"


@pytest.mark.parametrize(
    ("argument", "words"), [(" ", "--clinical_note: the note is empty"), ("@none.txt", "none.txt: no such file")]
)
def test_an_empty_argument_or_a_missing_file_is_an_error(argument: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        note_of_argument(argument, "--clinical_note")


@pytest.mark.parametrize(
    ("name", "content", "column", "words"),
    [
        ("a.docx", "", None, "must end in .txt, .csv, .tsv, .json, .jsonl"),
        ("a.txt", "\n\n", None, "the file is empty"),
        ("a.txt", "note\n", "visit", "has no columns"),
        ("a.csv", "id,note\r\n1,x\r\n", None, "found id, note; name your own columns with --note_column"),
        ("a.csv", "id,clinical_note\r\n1,x\r\n2, \r\n", None, "line 3: the note is empty"),
        ("a.jsonl", '{"text": "x"}\n', None, "line 1: no key clinical_note or prompt"),
        ("a.jsonl", '{"clinical_note": 7}\n', None, "line 1: clinical_note is not text"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_line(
    tmp_path: Path, name: str, content: str, column: str | None, words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words) as info:
        read_notes(tmp_path / name, column)
    assert name in str(info.value)


def test_a_folder_without_notes_and_flags_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.txt file"):
        read_notes(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.txt: the note is empty"):
        read_notes(tmp_path)
    with pytest.raises(InputError, match=r"--note_column visit: .* has no columns"):
        read_notes(tmp_path, "visit")
    with pytest.raises(InputError, match=r"--one_note_per_file: .* has one note per row"):
        read_notes(tmp_path / "a.csv", one_per_file=True)
