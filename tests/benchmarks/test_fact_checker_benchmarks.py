"""The benchmarks of the fact checker: what counts as detected, as invisible and as true, on cases worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import fact_checker_demo_truth as demo_truth
from benchmarks import fact_checker_detection as detection
from benchmarks import fact_checker_speed as speed
from benchmarks.disagreements import Piece, pieces
from benchmarks.hard_negatives_pairs import Pair
from benchmarks.shares import share, share_line
from demo.cases import make_cases
from demo.clinical_notes import check_summary
from fact_checking import checker
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import read_json, write_jsonl

NOTE = "Takes metformin 500 mg and lisinopril 10 mg. Denies cough."
CHOSEN = "Takes metformin 500 mg."


def test_spans_that_overlap_become_one_and_the_text_stays_whole() -> None:
    found = pieces("0123456789", [(4, 6, "b"), (1, 5, "a"), (6, 8, "c"), (1, 5, "a")])
    assert found == [Piece("0"), Piece("12345", "a, b"), Piece("67", "c"), Piece("89")]
    assert pieces("", []) == []


def test_share_by_hand() -> None:
    assert share([True, True, False]) == {"n": 3, "count": 2, "share": 0.6667, "ci95": [0.2077, 0.9385]}
    assert share([]) == {"n": 0, "count": 0, "share": None, "ci95": [0, 1]}
    assert "95% interval 20.8% to 93.8%" in share_line("x", share([True, True, False]))


# ------------------------------------------------------------------------------------------- detection


def checked(new: str, chosen: str = CHOSEN) -> detection.Checked:
    """`CHOSEN` with another dose."""
    edit = {"type": "dose", "start": 16, "end": 19, "old": "500", "new": new, "verdict": "contradicted"}
    rejected = chosen.replace("500", new)
    pair = Pair("train", "1-dose", "1", NOTE, chosen, rejected, (edit,))
    return detection.Checked(pair, checker.check_summary(NOTE, chosen), checker.check_summary(NOTE, rejected))


def test_an_edit_is_invisible_where_the_note_has_all_its_words() -> None:
    assert [checked(new).invisible for new in ("10", "5", "ten")] == [True, False, True]
    assert [checked(new).detected for new in ("10", "5", "500")] == [True, True, False]


def test_an_error_of_the_true_version_is_no_detection() -> None:
    """Both texts have the wrong age; only the dose tells them apart."""
    both = "A 40-year-old man. Takes metformin 500 mg."
    assert checked("500", both).chosen.has_hallucination
    assert not checked("500", both).detected
    assert checked("5", both).detected


def write_folders(folder: Path) -> list[str]:
    """One detected pair and one undetected of one true version, one flagged factual summary without a pair."""
    columns = ("id", "clinical_note", "model_summary", "label")
    other = "Doctor: Any cough?\nPatient: No."
    summaries = [("1", NOTE, CHOSEN, "factual"), ("2", other, "Has gout.", "factual"), ("3", NOTE, "x", "hallucinated")]
    for name in ("train", "validation"):
        rows = [dict(zip(columns, row, strict=True)) for row in (summaries if name == "train" else summaries[:1])]
        write_csv(folder / f"{name}_set_processed.csv", columns, rows)
    triplets: list[dict[str, Any]] = []
    for new, kind in (("5", "dose"), ("500", "entity_merge")):
        edit = {"type": kind, "start": 16, "end": 19, "old": "500", "new": new, "verdict": "contradicted"}
        triplets.append(
            {"id": f"1-{kind}", "source_id": "1", "prompt": build_prompt(NOTE), "chosen": CHOSEN,
             "rejected": CHOSEN.replace("500", new), "edits": [edit]}
        )  # fmt: skip
    write_jsonl(folder / "train_dpo.jsonl", triplets)
    (folder / "val_dpo.jsonl").write_text("", encoding="utf-8")
    medec = ("note_id", "clinical_note", "model_summary", "label", "hallucination_type")
    cells = ("m", NOTE, "Denies cough.", "factual", ""), ("m", NOTE, "Has gout.", "hallucinated", "diagnosis")
    rows = [dict(zip(medec, row, strict=True)) for row in cells]
    write_csv(folder / "medec.csv", medec, rows)
    return ["--phase1_dir", str(folder), "--phase2_dir", str(folder), "--medec_csv", str(folder / "medec.csv")]


def test_detection_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = write_folders(tmp_path)
    assert detection.main(detection.parse_args([*flags, "--output_dir", str(tmp_path / "out")])) == 0
    figures = read_json(tmp_path / "out" / "fact_checker_detection.json")
    counts = {name: (figure["count"], figure["n"]) for name, figure in figures["detected"].items() if "n" in figure}
    assert counts == {"all": (1, 2), "scored_worse": (1, 2), "lexically_invisible": (0, 1)}
    assert figures["detected"]["by_category"]["dose"]["share"] == 1
    assert figures["detected"]["by_category"]["entity_merge"]["lexically_invisible"] == 1
    assert figures["true_versions_flagged"]["all"]["n"] == 1  # two pairs, one true version
    assert figures["factual_summaries_flagged"]["dialogues"]["count"] == 1
    assert figures["factual_summaries_flagged"]["written_notes"] == share([False, False])
    assert (figures["medec"]["right_flagged"]["count"], figures["medec"]["wrong_flagged"]["count"]) == (0, 1)
    assert "1 invisible, made to be lexically invisible" in capsys.readouterr().out
    page = (tmp_path / "out" / "undetected_and_false_alarms.html").read_text(encoding="utf-8")
    assert "entity_merge: “500” → “500”" in page
    assert "1-dose" not in page


# ------------------------------------------------------------------------------------------ demo truth


def test_made_summaries_are_as_true_and_as_wrong_as_they_are_called() -> None:
    cases = make_cases("test")[:8]
    made = demo_truth.judge_demo(cases, seed=1)
    by_name = {case.id: case for case in cases}
    for each in made.all:
        errors = check_summary(each.summary, by_name[each.name].facts).errors
        assert each.is_wrong == bool(errors) == (each.kind not in (demo_truth.TRUE_SHORT, demo_truth.TRUE_FULL))
        assert "unparsed" not in errors
    for each in made.wrong:
        assert set(check_summary(each.summary, by_name[each.name].facts).errors) == {each.kind}
    assert len(made.one_wrong) == len(made.one_misplaced) == len(cases)
    assert len({(each.name, each.kind) for each in made.all}) == len(made.all)  # one of a kind for a note


def test_misplaced_facts_bring_no_number_of_their_own() -> None:
    for case in make_cases("test")[:20]:
        for text in demo_truth.misplaced_summaries(case, 1).values():
            numbers = {
                word.strip(".;%") for word in text.replace("/", " ").replace("-", " ").split() if word[0].isdigit()
            }
            note = case.note.replace("/", " ").replace("-", " ").replace("%", " ")
            assert numbers <= {word.strip(".,;") for word in note.split()}


def test_demo_truth_script(tmp_path: Path) -> None:
    case = make_cases("test")[0]
    columns = ("example_id", "clinical_note", "generated_summary")
    summaries = (case.summary, "An unheard-of sentence.")
    rows = [dict(zip(columns, (str(i), case.note, text), strict=True)) for i, text in enumerate(summaries)]
    write_csv(tmp_path / "results.csv", columns, rows)
    flags = ["--max_notes", "5", "--results_csv", str(tmp_path / "results.csv")]
    assert demo_truth.main(demo_truth.parse_args([*flags, "--output_dir", str(tmp_path / "out")])) == 0
    figures = read_json(tmp_path / "out" / "fact_checker_demo_truth.json")
    assert {kind: figure["n"] for kind, figure in figures["demo"]["specificity"].items()} == {
        "true, full": 5,
        "true, short": 5,
    }
    (model,) = figures["models"].values()
    assert (model["summaries"], model["without_exact_truth"]) == (2, 1)
    assert model["specificity"] == share([True])
    assert (tmp_path / "out" / "demo_disagreements.html").is_file()

    write_csv(tmp_path / "results.csv", columns, [rows[0] | {"clinical_note": "Another note."}])
    with pytest.raises(InputError, match=r"results\.csv, line 2: the note is none of the demo's split"):
        demo_truth.main(demo_truth.parse_args(flags))


# ------------------------------------------------------------------------------------------------ speed


def test_speed_script_takes_as_many_pairs_and_words_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert speed.joined(["one two", "three"], 5) == "one two three one two"
    flags = ["--pairs", "3", "--words", "7", "20", "--output_file", str(tmp_path / "out.json")]
    assert speed.main(speed.parse_args(flags)) == 0
    figures = read_json(tmp_path / "out.json")
    assert figures["pairs"] == 3
    assert list(figures["cpu_seconds_by_words"]) == ["7", "20"]
    with pytest.raises(SystemExit):
        speed.parse_args(["--words", "20", "0"])
    assert "argument --words: 0: must be at least 1" in capsys.readouterr().err
