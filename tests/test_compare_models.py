"""Pairing by note, the tests over pairs, and what is concluded from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.compare_models import main, parse_args
from evaluation.evaluate_model import main as evaluate
from evaluation.evaluate_model import parse_args as evaluation_args
from script_io import InputError, read_json, write_jsonl

RIGHT, WRONG = "Takes metformin 500 mg.", "Takes metformin 850 mg."


def note(number: int) -> str:
    return f"Case {number}. Takes metformin 500 mg twice daily."


def evaluation(folder: Path, summaries: dict[int, str]) -> Path:
    """An evaluation of the cases with these numbers."""
    rows = [
        {"id": f"c{i}", "clinical_note": note(i), "generated_summary": text, "reference_summary": RIGHT}
        for i, text in summaries.items()
    ]
    write_jsonl(folder.with_suffix(".jsonl"), rows)
    evaluate(evaluation_args(["--predictions", str(folder.with_suffix(".jsonl")), "--output_dir", str(folder)]))
    return folder


def compared(first: Path, second: Path) -> dict:
    assert main(parse_args([str(first), str(second)])) == 0
    result: dict = read_json(second / "comparison.json")
    return result


def test_a_difference_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 notes, all wrong at first and none after: p = 2 / 2**10; half of the claims wrong, then none."""
    first = evaluation(tmp_path / "first", dict.fromkeys(range(10), WRONG))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(10), RIGHT))
    result = compared(first, second)
    assert result["mcnemar"] == {"both": 0, "only_first": 10, "only_second": 0, "neither": 0, "p": 2 / 1024}
    assert result["differences"]["claim_error_rate"]["difference"] == pytest.approx(-0.5)
    assert result["differences"]["coverage"]["difference"] == pytest.approx(0.5)
    assert result["differences"]["summary_words"]["difference"] == 0
    assert "The difference holds: the second hallucinates in fewer summaries." in capsys.readouterr().out
    assert "only first hallucinated" in (second / "comparison.html").read_text(encoding="utf-8")


def test_a_difference_that_does_not_hold(tmp_path: Path) -> None:
    """5 against 1 discordant pairs of 8: p = 14/64."""
    first = evaluation(tmp_path / "first", {i: WRONG if i < 5 else RIGHT for i in range(8)})
    second = evaluation(tmp_path / "second", {i: WRONG if i == 5 else RIGHT for i in range(8)})
    result = compared(first, second)
    assert result["mcnemar"]["p"] == pytest.approx(14 / 64)
    assert result["conclusion"].startswith("No difference is shown: 62.5% of the first and 12.5% of the second")


def test_fewer_hallucinations_by_saying_less_is_told(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", dict.fromkeys(range(10), WRONG))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(10), "Seen today."))
    result = compared(first, second)
    assert result["differences"]["claim_error_rate"] is None  # the second claims nothing
    assert "But it states less: coverage falls by 50.0 points." in result["conclusion"]


def test_notes_in_only_one_are_counted_and_left_out(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", dict.fromkeys(range(5), WRONG))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(3, 10), RIGHT))
    result = compared(first, second)
    assert (result["n"], result["only_in_first"], result["only_in_second"]) == (2, 3, 5)
    with pytest.raises(InputError, match="no judged note is in both"):
        main(parse_args([str(first), str(evaluation(tmp_path / "third", {9: RIGHT}))]))


def test_pairs_by_note_and_not_by_place(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {0: WRONG, 1: RIGHT, 2: RIGHT})
    second = evaluation(tmp_path / "second", {2: RIGHT, 1: RIGHT, 0: WRONG})
    result = compared(first, second)
    assert (result["mcnemar"]["both"], result["mcnemar"]["neither"]) == (1, 2)


def test_missing_folder_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder; make it with python evaluation/evaluate_model\.py"):
        main(parse_args([str(tmp_path / "a"), str(tmp_path / "b")]))
