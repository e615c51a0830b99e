"""The script end to end on small CSV files."""

import csv
import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import generate_phase2_data as script
from clinical.lexicons import remove_lexicon_dir
from demo.clinical_notes import sample_facts, write_note, write_summary
from language_model.prompt_format import build_prompt
from negatives import example_index
from negatives.selection import Balance, difference
from negatives.verification import Edit, Negative
from script_io.csv_files import write_csv
from script_io.errors import InputError, run_script
from script_io.files import write_json, write_jsonl

COLUMNS = ("id", "clinical_note", "model_summary", "label", "hallucination_type")
Row = tuple[str, str, str, str, str]


def write_phase1(folder: Path, train: list[Row], validation: list[Row]) -> None:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("validation", validation)):
        with open(folder / f"{name}_set_processed.csv", "w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([COLUMNS, *rows])


def synthetic(count: int, seed: int, split: str) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        truth = sample_facts(rng, split)
        rows.append((f"{split}-{index}", write_note(truth, rng), write_summary(truth, rng), "factual", ""))
    return rows


def run(folder: Path, *flags: str) -> int:
    paths = ("--phase1_dir", str(folder / "in"), "--phase2_dir", str(folder / "out"))
    return run_script(script.main, script.parse_args([*paths, *flags]))


def read(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "out" / name).read_text(encoding="utf-8").splitlines()]


# 6 s. One run of the generator for the tests of this file.
@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phase2")
    write_phase1(folder / "in", synthetic(60, 1, "train"), synthetic(12, 2, "validation"))
    assert run(folder) == 0
    return folder


def test_rows_have_the_agreed_form(made: Path) -> None:
    sources = {row[0]: row for row in synthetic(60, 1, "train")}
    rows = read(made, "train_dpo.jsonl")
    assert len(rows) == 60
    assert len({row["id"] for row in rows}) == 60
    for row in rows:
        _, note, summary, *_ = sources[row["source_id"]]
        assert row["prompt"] == build_prompt(note)
        assert row["clinical_note"] == note
        assert row["chosen"] == summary
        if len(row["edits"]) == 1:
            (edit,) = row["edits"]
            assert set(edit) == {"type", "start", "end", "old", "new", "verdict"}
            assert row["chosen"][: edit["start"]] + edit["new"] + row["chosen"][edit["end"] :] == row["rejected"]
            assert row["chosen"][edit["start"] : edit["end"]] == edit["old"]


def test_no_category_has_more_than_its_share(made: Path) -> None:
    counts = Counter(row["edits"][0]["type"] for row in read(made, "train_dpo.jsonl"))
    assert len(counts) >= 10
    assert max(counts.values()) <= 0.2 * sum(counts.values())


def test_statistics_agree_with_the_files(made: Path) -> None:
    stats = json.loads((made / "out" / "phase2_stats.json").read_text(encoding="utf-8"))
    rows = read(made, "train_dpo.jsonl")
    assert stats["train"]["triplets"] == 60
    assert stats["train"]["by_type"] == Counter(row["edits"][0]["type"] for row in rows)
    assert stats["validation"]["triplets"] == len(read(made, "val_dpo.jsonl")) == 12
    words = [len(row["chosen"].split()) for row in rows]
    assert stats["train"]["lengths"]["chosen"] == {"mean_words": round(sum(words) / 60, 1), "max_words": max(words)}
    assert stats["leakage_check"] == {"validation_examples_left_out": 0, "shared_notes_in_output": 0}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    write_phase1(tmp_path / "in", synthetic(15, 1, "train"), synthetic(3, 2, "validation"))
    outputs = []
    for seed in ("7", "7", "8"):
        run(tmp_path, "--seed", seed)
        outputs.append((tmp_path / "out" / "train_dpo.jsonl").read_bytes())
    assert outputs[0] == outputs[1] != outputs[2]


def test_ratio_is_the_number_of_negatives_for_each_summary(tmp_path: Path) -> None:
    write_phase1(tmp_path / "in", synthetic(40, 1, "train"), synthetic(3, 2, "validation"))
    sizes = {}
    for ratio in ("0.5", "3"):
        run(tmp_path, "--adversarial_ratio", ratio)
        rows = read(tmp_path, "train_dpo.jsonl")
        sizes[ratio] = len(rows)
        assert len({(row["source_id"], row["rejected"]) for row in rows}) == len(rows)
    assert 12 <= sizes["0.5"] <= 28  # 20 expected, standard deviation 3.2
    assert sizes["3"] == 120


def test_wanted_negatives_honours_fractions_in_expectation() -> None:
    rng = random.Random(1)
    drawn = [script.wanted_negatives(1.3, rng) for _ in range(4000)]
    assert set(drawn) == {1, 2}
    assert abs(sum(drawn) / 4000 - 1.3) < 0.03


def test_hallucinated_rows_are_paired_and_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = "A 54-year-old man takes aspirin 81 mg daily for stroke."
    train: list[Row] = [
        ("a", note, "Aspirin 81 mg daily. [Evidence: S1; Conf: 0.90]", "factual_with_evidence", ""),
        ("b", note, "Aspirin 810 mg daily. [Evidence: S1; Conf: 0.90]", "hallucinated", "dose"),
        ("c", "Another note on gout.", "Gout.", "factual", ""),
        ("d", "A third note.", "Lupus.", "hallucinated", "condition"),
    ]
    write_phase1(tmp_path / "in", train, [("v", "A man of 40 with gout.", "Gout.", "factual", "")])
    run(tmp_path, "--types", "phase1", "condition")
    rows = read(tmp_path, "train_dpo.jsonl")
    assert (rows[0]["source_id"], rows[0]["rejected"]) == ("a", train[1][2])
    assert rows[0]["edits"] == [
        {"type": "dose", "start": 8, "end": 10, "old": "81", "new": "810", "verdict": "labelled"}
    ]
    assert [row["edits"][0]["type"] for row in rows[1:]] == ["condition"]
    printed = capsys.readouterr().out
    assert "Loaded 4 examples from" in printed
    assert "Filtered to 2 factual examples" in printed
    assert "Training triplets: 2\n" in printed


def test_validation_notes_of_the_training_file_are_left_out(tmp_path: Path) -> None:
    train = synthetic(5, 1, "train")
    write_phase1(tmp_path / "in", train, [*synthetic(3, 2, "validation"), ("leak", *train[0][1:])])
    run(tmp_path)
    assert {row["source_id"] for row in read(tmp_path, "val_dpo.jsonl")} == {f"validation-{i}" for i in range(3)}
    stats = json.loads((tmp_path / "out" / "phase2_stats.json").read_text(encoding="utf-8"))
    assert stats["leakage_check"]["validation_examples_left_out"] == 1


def test_fabricated_details_come_from_the_same_split(tmp_path: Path) -> None:
    train, validation = synthetic(20, 1, "train"), synthetic(20, 2, "validation")
    write_phase1(tmp_path / "in", train, validation)
    run(tmp_path, "--types", "fabricated_detail")
    told = " ".join(row[2] for row in validation).lower()
    for row in read(tmp_path, "val_dpo.jsonl"):
        assert row["edits"][0]["new"].strip().rstrip(".").lower() in told


def test_excluded_types_do_not_occur(tmp_path: Path) -> None:
    write_phase1(tmp_path / "in", synthetic(12, 1, "train"), synthetic(3, 2, "validation"))
    run(tmp_path, "--types", "dose", "age", "sex", "--exclude_types", "sex")
    assert {row["edits"][0]["type"] for row in read(tmp_path, "train_dpo.jsonl")} == {"dose", "age"}


@pytest.mark.parametrize(
    ("rows", "flags", "words"),
    [
        ([("a", "Note.", "Summary.", "true", "")], [], "line 2: label 'true' is not known; use one of"),
        ([("a", "Note.", "Summary.", " Factual", "")], [], "line 2: label ' Factual' is not known; write factual"),
        ([("a", "", "Summary.", "factual", "")], [], "line 2: empty clinical_note; fill in or delete"),
        ([("a", "Note.", " ", "factual", "")], [], "line 2: empty model_summary; fill in or delete"),
        ([("a", "N.", "S.", "factual", "")], ["--types", "dose", "--exclude_types", "dose"], "leave no type"),
        ([("a", "N.", "S.", "factual", "")], ["--types", "dose"], "no triplet could be made"),
        ([("a", "N.", "S.", "factual", "")], ["--adversarial_ratio", "0"], "give a number above 0"),
        ([("a", "N.", "S.", "factual", "")], ["--adversarial_ratio", "inf"], "give a number above 0"),
        ([("a", "N.", "S.", "factual", "")], ["--num_workers", "0"], "--num_workers 0: give 1 or more"),
        ([("a", "N.", "S.", "hallucinated", "")], [], "none of 1 rows is labelled factual"),
        (
            [("a", "Aspirin 81 mg.", "Aspirin 810 mg.", "factual", ""), ("b", "N.", "S.", "factual", "")],
            ["--types", "age"],
            "from 2 factual summaries: the note does not support 1, and 1 have no fact that these types can make wrong",
        ),
        ([("a", "N.", "S.", "factual", "")], ["--adversarial_ratio", "-1"], "give a number above 0"),
        ([("a", "N.", "S.", "factual", "")], ["--adversarial_ratio", "nan"], "give a number above 0"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Row], flags: list[str], words: str
) -> None:
    write_phase1(tmp_path / "in", rows, [("v", "A note of gout.", "Gout.", "factual", "")])
    assert run(tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_folder_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; name the folder"):
        script.main(script.parse_args(["--phase1_dir", str(tmp_path / "absent")]))


def test_help_describes_every_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.parse_args(["--help"])
    printed = capsys.readouterr().out
    for name in script.TYPES:
        assert f"  {name}" in printed


# 7 s. Proves that the number of processes changes only the time.
def test_any_number_of_workers_gives_the_same_bytes(made: Path) -> None:
    first = {path.name: path.read_bytes() for path in (made / "out").iterdir()}
    assert set(first) == {"train_dpo.jsonl", "val_dpo.jsonl", "left_out.jsonl", "phase2_stats.json"}
    assert run(made, "--num_workers", "2") == 0
    assert {path.name: path.read_bytes() for path in (made / "out").iterdir()} == first


def test_words_and_lengths_of_the_two_sides_balance(made: Path) -> None:
    rows = read(made, "train_dpo.jsonl")
    changes = [
        difference(row["chosen"], Negative("", row["rejected"], tuple(Edit(**edit) for edit in row["edits"])))
        for row in rows
    ]
    balance = Balance()
    for change in changes:
        balance.add(change)
    # were the signs drawn independently, the squares of the sums would be those of the pairs, summed
    assert balance.imbalance() < sum(count * count for change in changes for count in change.values())
    longer = [len(row["rejected"].split()) - len(row["chosen"].split()) for row in rows]
    assert abs(sum(words > 0 for words in longer) - sum(words < 0 for words in longer)) <= 3
    stats = json.loads((made / "out" / "phase2_stats.json").read_text(encoding="utf-8"))["train"]
    assert stats["lengths"]["rejected_longer"] == round(sum(words > 0 for words in longer) / len(rows), 4)
    assert stats["yield"] == 1.0


def test_unsound_summaries_are_listed_with_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = "A 54-year-old man takes aspirin 81 mg daily for stroke."
    train: list[Row] = [
        ("good", note, "Aspirin 81 mg daily.", "factual", ""),
        ("bad", note, "Aspirin 810 mg daily.", "factual", ""),
        ("wrong", note, "Aspirin 8 mg daily.", "hallucinated", "dose"),
        ("wrong", note, "Aspirin 5 mg daily.", "hallucinated", "dose"),
    ]
    write_phase1(tmp_path / "in", train, [("v", "A man of 40 with gout.", "Gout.", "factual", "")])
    assert run(tmp_path, "--types", "phase1", "dose", "--adversarial_ratio", "4") == 0
    (claim,) = read(tmp_path, "left_out.jsonl")
    assert (claim["split"], claim["id"], claim["type"], claim["verdict"]) == ("train", "bad", "dose", "contradicted")
    assert "810" in claim["text"]
    stats = json.loads((tmp_path / "out" / "phase2_stats.json").read_text(encoding="utf-8"))["train"]
    assert (stats["factual_left_out_as_unsound"], stats["first_left_out_ids"]) == (1, ["bad"])
    rows = read(tmp_path, "train_dpo.jsonl")
    assert [row["id"] for row in rows[:2]] == ["good-phase1-wrong", "good-phase1-wrong~2"]  # ids stay apart
    assert {row["source_id"] for row in rows} == {"good"}  # the unsound one is no partner either
    assert "Left out 1 of 2 factual summaries: the note does not support them" in capsys.readouterr().out


def test_a_summary_labelled_both_ways_is_left_out(tmp_path: Path) -> None:
    rows = [
        ("a", NOTE_OF_TWO, "Takes aspirin 81 mg daily.", "factual", ""),
        ("b", NOTE_OF_TWO, "Takes aspirin 81 mg daily.", "hallucinated", "dose"),
        ("c", NOTE_OF_TWO, "Has a history of stroke.", "factual", ""),
    ]
    write_phase1(tmp_path / "in", rows, synthetic(3, 2, "validation"))
    assert run(tmp_path) == 0
    (left,) = [row for row in read(tmp_path, "left_out.jsonl") if row["split"] == "train"]
    assert left == {
        "split": "train",
        "id": "a",
        "type": "label",
        "text": "Takes aspirin 81 mg daily.",
        "verdict": "hallucinated",
    }
    assert {row["source_id"] for row in read(tmp_path, "train_dpo.jsonl")} == {"c"}


NOTE_OF_TWO = "A 54-year-old man takes aspirin 81 mg daily. He has a history of stroke."


def test_no_pair_comes_twice(tmp_path: Path) -> None:
    note = "A 54-year-old man takes aspirin 81 mg daily for stroke."
    good: Row = ("a", note, "Aspirin 81 mg daily.", "factual", "")
    wrong: Row = ("b", note, "Aspirin 810 mg daily.", "hallucinated", "dose")
    write_phase1(tmp_path / "in", [good, wrong, good, wrong], [("v", "A man of 40 with gout.", "Gout.", "factual", "")])
    assert run(tmp_path, "--types", "phase1", "dose", "--adversarial_ratio", "9") == 0
    rows = read(tmp_path, "train_dpo.jsonl")
    assert len({row["rejected"] for row in rows}) == len({row["id"] for row in rows}) == len(rows) > 1
    stats = json.loads((tmp_path / "out" / "phase2_stats.json").read_text(encoding="utf-8"))["train"]
    assert (stats["examples"], stats["repeated_examples"], stats["by_type"]["phase1"]) == (4, 2, 1)


def test_names_of_the_users_lexicon_are_read(tmp_path: Path) -> None:
    lexicon = tmp_path / "names"
    lexicon.mkdir()
    rows = "name,group,synonyms\nflumoxitol,imaginary,\nzandipine,imaginary,\n"
    (lexicon / "drugs.csv").write_text(rows, encoding="utf-8")
    train: list[Row] = [("a", "She takes flumoxitol for gout.", "Takes flumoxitol.", "factual", "")]
    write_phase1(tmp_path / "in", train, [("v", "He takes zandipine for gout.", "Takes zandipine.", "factual", "")])
    try:
        assert run(tmp_path, "--types", "drug", "--lexicon_dir", str(lexicon), "--num_workers", "2") == 0
    finally:
        remove_lexicon_dir(lexicon)
    assert [row["rejected"] for row in read(tmp_path, "train_dpo.jsonl")] == ["Takes zandipine."]
    assert run(tmp_path, "--types", "drug") == 2  # the names are gone again


def test_validation_without_a_factual_row_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phase1(tmp_path / "in", synthetic(3, 1, "train"), [("v", "A note.", "Gout.", "hallucinated", "")])
    assert run(tmp_path) == 0
    assert read(tmp_path, "val_dpo.jsonl") == []
    assert "val_dpo.jsonl is empty; Stage B needs pairs" in capsys.readouterr().err


def test_every_kind_of_table_gives_the_negatives_of_the_csv(tmp_path: Path) -> None:
    """Line breaks in notes and in further columns move the lines of a CSV, and so do hallucinated rows."""
    table = [
        {
            **{"id": name, "clinical_note": note.replace(". ", ".\n", number % 3), "model_summary": summary},
            **{"label": "hallucinated" if number == 2 else "factual", "more": "a\r\nb\rc" * (number % 2), "age": 7},
        }
        for number, (name, note, summary, *_) in enumerate(synthetic(9, 1, "train"))
    ]
    assert table[1]["clinical_note"].count("\n") == 1
    outputs = {}
    for kind in ("csv", "parquet", "json", "jsonl"):
        folder = tmp_path / kind
        (folder / "in").mkdir(parents=True)
        for name, part in (("train", table[:6]), ("validation", table[6:])):
            path = folder / "in" / f"{name}_set_processed.{kind}"
            if kind == "csv":
                write_csv(path, list(table[0]), part)
            elif kind == "parquet":
                pq.write_table(pa.Table.from_pylist(part), path)
            else:
                (write_json if kind == "json" else write_jsonl)(path, part)
        assert run(folder, "--types", "age") == 0
        outputs[kind] = [(folder / "out" / name).read_bytes() for name in ("train_dpo.jsonl", "val_dpo.jsonl")]
    assert outputs["parquet"] == outputs["json"] == outputs["jsonl"] == outputs["csv"]
    assert all(outputs["csv"])


# 8 s. Proves that the files are streamed: ten times the rows need the same memory.
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_index, "PROFILED_SUMMARIES", 20)
    peaks = []
    # the first only fills the caches, which hold the last texts parsed: about as many for each number of rows
    for count, ratio in ((150, "0.5"), (200, "0.5"), (2000, "0.05")):
        folder = tmp_path / str(count)
        folder.mkdir()
        write_phase1(folder / "in", synthetic(count, 1, "train"), synthetic(2, 2, "validation"))
        tracemalloc.start()
        assert run(folder, "--types", "age", "--adversarial_ratio", ratio) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
