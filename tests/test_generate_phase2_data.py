"""The script end to end on small CSV files, and the arithmetic of its shares."""

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest

import generate_phase2_data as script
from demo.clinical_notes import sample_facts, write_note, write_summary
from prompt_format import build_prompt
from script_io import InputError, run_script

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
    ("counts", "limit"),
    [
        ({"a": 10, "b": 10, "c": 10, "d": 10, "e": 10, "f": 10}, None),
        ({"a": 50, "b": 10, "c": 10, "d": 10, "e": 10, "f": 10}, 12),  # 12 of 62 is 19.4%, 13 of 63 is 20.6%
        ({"a": 50, "b": 10, "c": 10, "d": 10, "e": 10}, None),  # five categories cannot all be under 20%
        ({"a": 500, "b": 10, "c": 10, "d": 10, "e": 10, "f": 10}, None),  # nine in ten triplets would be lost
    ],
)
def test_share_limit(counts: dict[str, int], limit: int | None) -> None:
    assert script.share_limit(counts) == limit


@pytest.mark.parametrize(
    ("rows", "flags", "words"),
    [
        ([("a", "Note.", "Summary.", "true", "")], [], "line 2: unknown label 'true'"),
        ([("a", "", "Summary.", "factual", "")], [], "line 2: clinical_note is empty"),
        ([("a", "Note.", " ", "factual", "")], [], "line 2: model_summary is empty"),
        (
            [("a", "N.", "S.", "factual", ""), ("b", "N.", "S.", "hallucinated", "")],
            [],
            "row b: the hallucinated summary",
        ),
        ([("a", "N.", "S.", "factual", "")], ["--types", "dose", "--exclude_types", "dose"], "leave no type"),
        ([("a", "N.", "S.", "factual", "")], ["--types", "dose"], "no triplet could be made"),
        ([("a", "N.", "S.", "factual", "")], ["--adversarial_ratio", "-1"], "give a number from 0 up"),
        ([("a", "N.", "S.", "factual", "")], ["--adversarial_ratio", "nan"], "give a number from 0 up"),
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
