"""Public dialogues in Phase 1 columns: the official splits, what is left out, and a download."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tiny_models import build_tiny_model

from demo import get_real_notes
from language_model.loading import load_tokenizer
from script_io.errors import InputError
from script_io.phase1_csv import COLUMNS
from sft_dataset import find_problems

TURNS = ("Doctor: What brings you in?", "Patient: I have had a cough for {} weeks.")
TEST_SETS = ("MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv", "MTS-Dialog-TestSet-2-MEDIQA-Sum-2023.csv")


def write_dialogues(path: Path, weeks: list[int], *more: tuple[str, str]) -> None:
    """Write dialogues as the public repository does: line ends with blanks and carriage returns, ids from 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(" \r\n".join(TURNS).format(number) + " \r\n", f"Cough for {number} weeks. ") for number in weeks] + [*more]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("ID", "section_header", "section_text", "dialogue"))
        writer.writerows((number, "GENHX", summary, dialogue) for number, (dialogue, summary) in enumerate(rows))


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A clone of the public repository with a handful of invented dialogues. The second test set must stay unread."""
    folder = tmp_path / "clone" / "Main-Dataset"
    write_dialogues(folder / "MTS-Dialog-TrainingSet.csv", [1, 2, 3], ("Doctor: Hm?", " \r\n"), ("", "A summary."))
    write_dialogues(folder / "MTS-Dialog-ValidationSet.csv", [4])
    write_dialogues(folder / TEST_SETS[0], [5, 6], (" \n".join(TURNS * 9), "Cough."))
    (folder / TEST_SETS[1]).write_bytes(b"\xff not to be read")
    return tmp_path / "clone"


def get(*flags: object) -> int:
    return get_real_notes.main(get_real_notes.parse_args([*map(str, flags)]))


def rows_of(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"{split}_set_processed.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_each_official_split_becomes_a_phase_1_file(
    public: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get("--input", public, "--output_dir", tmp_path / "out") == 0
    train = rows_of(tmp_path / "out", "train")
    assert tuple(train[0]) == COLUMNS
    note = "Doctor: What brings you in?\nPatient: I have had a cough for 1 weeks."
    assert list(train[0].values()) == ["train-0", note, "Cough for 1 weeks.", "factual", ""]
    assert [row["id"] for row in train] == ["train-0", "train-1", "train-2"]
    assert [row["id"] for row in rows_of(tmp_path / "out", "validation")] == ["validation-0"]
    assert [row["id"] for row in rows_of(tmp_path / "out", "test")] == ["test-0", "test-1", "test-2"]
    assert "Left out: 2 rows without dialogue or summary\n" in capsys.readouterr().out
    for split in ("train", "validation", "test"):
        assert find_problems(tmp_path / "out" / f"{split}_set_processed.csv") == []


def test_test_dialogues_of_other_lengths_are_left_out_and_counted(
    public: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build_tiny_model(tmp_path / "model")
    note = "Doctor: What brings you in?\nPatient: I have had a cough for 5 weeks."
    tokens = len(load_tokenizer(model)(note, add_special_tokens=False).input_ids)
    flags = ("--input", public, "--output_dir", tmp_path / "out", "--tokenizer", model, "--test_tokens")
    for limits, kept in (((tokens, tokens), ["test-0", "test-1"]), ((tokens + 1, 9999), ["test-2"])):
        assert get(*flags, *limits) == 0
        assert [row["id"] for row in rows_of(tmp_path / "out", "test")] == kept
        left_out = f"{3 - len(kept)} test dialogues not of {limits[0]} to {limits[1]} tokens\n"
        assert left_out in capsys.readouterr().out
    assert len(rows_of(tmp_path / "out", "train")) == 3  # training lengths are limited by --max_length of the stages
    with pytest.raises(InputError, match="no usable row is left for the test split; check the files and --test_tokens"):
        get(*flags, 0, tokens - 1)


def test_files_in_phase_1_columns_are_taken_as_they_are(public: Path, tmp_path: Path) -> None:
    get("--input", public, "--output_dir", tmp_path / "first")
    get("--input", tmp_path / "first", "--output_dir", tmp_path / "second")
    for split in ("train", "validation", "test"):
        assert rows_of(tmp_path / "second", split) == rows_of(tmp_path / "first", split)


def test_files_that_would_not_change_are_not_written_again(public: Path, tmp_path: Path) -> None:
    flags = ("--input", public, "--output_dir", tmp_path / "out")
    get(*flags)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    write_dialogues(public / "Main-Dataset" / "MTS-Dialog-ValidationSet.csv", [7])
    get(*flags)
    changed = [path.name for path in written if path.stat().st_mtime_ns != written[path]]
    assert changed == ["validation_set_processed.csv"]


def test_the_files_are_downloaded_without_input(public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_real_notes, "ADDRESS", (public / "Main-Dataset").as_uri())
    assert get("--output_dir", tmp_path / "out") == 0
    assert len(rows_of(tmp_path / "out", "train")) == 3
    monkeypatch.setattr(get_real_notes, "ADDRESS", (tmp_path / "nowhere").as_uri())
    remedy = "cannot be downloaded .*; clone https://github.com/abachaa/MTS-Dialog where there is a network"
    with pytest.raises(InputError, match=f"MTS-Dialog-TrainingSet.csv: {remedy}") as caught:
        get("--output_dir", tmp_path / "none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_split_or_with_two_files_for_it_is_refused(public: Path, tmp_path: Path) -> None:
    write_dialogues(public / "copy" / "MTS-Dialog-TrainingSet.csv", [1])
    with pytest.raises(InputError, match=r"both .* are for the train split; name a folder with one"):
        get("--input", public, "--output_dir", tmp_path / "out")
    with pytest.raises(InputError, match=r"no MTS-Dialog-ValidationSet\.csv or validation_set_processed\.csv in it"):
        get("--input", public / "copy", "--output_dir", tmp_path / "out")


def test_a_file_with_other_columns_is_refused(public: Path, tmp_path: Path) -> None:
    (public / "Main-Dataset" / "MTS-Dialog-ValidationSet.csv").write_text("ID,text\n0,Cough.\n")
    with pytest.raises(InputError, match="line 1: missing column section_text, dialogue"):
        get("--input", public, "--output_dir", tmp_path / "out")
