"""Pairing by note, the tests over pairs, and what is concluded from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.compare_models import main, names_for, parse_args
from evaluation.evaluate_model import main as evaluate
from evaluation.evaluate_model import parse_args as evaluation_args
from evaluation.metrics import ROW_COLUMNS
from evaluation.verdicts_in_words import outcome
from script_io.csv_files import read_csv, write_csv
from script_io.errors import InputError
from script_io.files import read_json, write_json, write_jsonl

RIGHT, WRONG = "Takes metformin 500 mg.", "Takes metformin 850 mg."


def note(number: int) -> str:
    return f"Case {number}. Takes metformin 500 mg twice daily."


def evaluation(folder: Path, summaries: dict[int, str], *, age: int | None = None, reference: str = RIGHT) -> Path:
    """An evaluation of the cases with these numbers."""
    opening = f"Aged {age}. " if age else ""
    rows = [
        {"id": f"c{i}", "clinical_note": opening + note(i), "generated_summary": text, "reference_summary": reference}
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
    assert "The difference holds: second hallucinates in fewer summaries than first." in capsys.readouterr().out
    assert "only first hallucinated" in (second / "comparison.html").read_text(encoding="utf-8")


def test_a_difference_that_does_not_hold(tmp_path: Path) -> None:
    """5 against 1 discordant pairs of 8: p = 14/64."""
    first = evaluation(tmp_path / "first", {i: WRONG if i < 5 else RIGHT for i in range(8)})
    second = evaluation(tmp_path / "second", {i: WRONG if i == 5 else RIGHT for i in range(8)})
    result = compared(first, second)
    assert result["mcnemar"]["p"] == pytest.approx(14 / 64)
    assert result["conclusion"].startswith(
        "No difference is shown: 62.5% of the summaries by first and 12.5% of the summaries by second"
    )
    assert result["warnings"] == []
    difference = result["differences"]["hallucination_rate"]
    # Bonett and Price: 6/10 and 2/10, -0.4 and half a width of 1.96 sqrt((0.8 - 0.16) / 10)
    assert difference["ci95"] == pytest.approx((-0.4 - 1.959964 * 0.064**0.5, -0.4 + 1.959964 * 0.064**0.5))
    assert difference["difference"] == pytest.approx(-0.5)
    assert not difference["holds"]  # as the test says, whatever the interval


def test_kinds_of_error_are_compared_apart_and_adjusted_for_their_number(tmp_path: Path) -> None:
    """Ten notes. Dose: wrong in all, then in none, p = 2 / 2**10. Age: wrong in 0, then in 3, p = 2 / 2**3.

    Holm: the smaller one times 2, the larger one times 1.
    """
    first = evaluation(tmp_path / "first", dict.fromkeys(range(10), f"Aged 54. {WRONG}"), age=54)
    second = evaluation(tmp_path / "second", {i: f"Aged {60 if i < 3 else 54}. {RIGHT}" for i in range(10)}, age=54)
    kinds = compared(first, second)["by_type"]
    assert list(kinds) == ["dose", "age"]  # the most frequent first
    dose, age = kinds["dose"], kinds["age"]
    assert (dose["first"], dose["second"], dose["only_first"], dose["only_second"]) == (1, 0, 10, 0)
    assert (dose["p"], dose["p_holm"], dose["holds"]) == (2 / 1024, 4 / 1024, True)
    assert (age["first"], age["second"], age["only_first"], age["only_second"]) == (0, 0.3, 0, 3)
    assert (age["p"], age["p_holm"], age["holds"]) == (0.25, 0.25, False)
    assert age["difference"] == pytest.approx(0.3)
    assert age["ci95"][0] < 0.3 < age["ci95"][1]


def test_what_makes_two_evaluations_differ_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluation(tmp_path / "first", dict.fromkeys(range(4), RIGHT))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(4), RIGHT), reference=WRONG)
    path = second / "evaluation_summary.json"
    changed = {"judge": "openai:x, criterion 0123abcd", "temperature": 0.7, "judge_made_training_pairs": True}
    changed["lexicons"] = ["names sha256:0123"]
    write_json(path, {**read_json(path), **changed})
    capsys.readouterr()
    warnings = compared(first, second)["warnings"]
    assert warnings[:4] == [
        "judge differs: facts and openai:x, criterion 0123abcd",
        "lexicons differs: None and ['names sha256:0123']",
        "temperature differs: None and 0.7",
        "4 notes have different references; their coverage cannot be compared",
    ]
    assert warnings[4].startswith("the judge openai:x made the pairs that second was trained on")
    printed = capsys.readouterr().err
    assert all(f"warning: {warning}" in printed for warning in warnings)


def test_results_without_a_column_that_is_compared(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {0: RIGHT})
    path = first / "evaluation_results.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("hallucination_types", "kinds"), encoding="utf-8")
    with pytest.raises(InputError, match=r"first: evaluation_results.csv has no column hallucination_types; make it"):
        main(parse_args([str(first), str(first)]))


def test_a_judge_that_counts_no_claims_is_compared_without_a_claim_error_rate(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path / name, {0: WRONG, 1: RIGHT}) for name in ("first", "second")]
    for folder in folders:
        path = folder / "evaluation_results.csv"
        rows = [row for _, row in read_csv(path, ROW_COLUMNS)]
        write_csv(path, ROW_COLUMNS, [{**row, "claims": "", "claims_supported": ""} for row in rows])
    result = compared(*folders)
    assert result["differences"]["claim_error_rate"] is None
    assert result["by_type"]["dose"]["first"] == 0.5


def test_fewer_hallucinations_by_saying_less_is_told(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", dict.fromkeys(range(10), WRONG))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(10), "Seen today."))
    result = compared(first, second)
    assert result["differences"]["claim_error_rate"] is None  # the second claims nothing
    assert (
        "But the summaries by second state less: their coverage is 0.0%, while first has 50.0%." in result["conclusion"]
    )
    assert "But the summaries by second are shorter: 2.0 words on average, while first has 4.0." in result["conclusion"]
    assert result["warnings"] == []  # the conclusion has said it


def test_saying_less_is_told_where_no_difference_is_shown_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluation(tmp_path / "first", dict.fromkeys(range(10), "Takes metformin."))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(10), RIGHT))
    capsys.readouterr()
    result = compared(first, second)
    assert result["conclusion"].startswith("No difference is shown")
    assert (
        "warning: the summaries by first state less: their coverage is 50.0%, while second has 100.0%"
        in capsys.readouterr().err
    )


def test_notes_in_only_one_are_counted_and_left_out(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", dict.fromkeys(range(5), WRONG))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(3, 10), RIGHT))
    result = compared(first, second)
    assert (result["n"], result["only_in_first"], result["only_in_second"]) == (2, 3, 5)
    with pytest.raises(InputError, match="no judged note is in all of them"):
        main(parse_args([str(first), str(evaluation(tmp_path / "third", {9: RIGHT}))]))


def test_pairs_by_note_and_not_by_place(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {0: WRONG, 1: RIGHT, 2: RIGHT})
    second = evaluation(tmp_path / "second", {2: RIGHT, 1: RIGHT, 0: WRONG})
    result = compared(first, second)
    assert (result["mcnemar"]["both"], result["mcnemar"]["neither"]) == (1, 2)


def test_missing_folder_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder; make it with python evaluation/evaluate_model\.py"):
        main(parse_args([str(tmp_path / "a"), str(tmp_path / "b")]))


# ------------------------------------------------------------------------------------------- several models


def test_three_models_are_compared_two_by_two_over_the_notes_of_all(tmp_path: Path) -> None:
    """Nine notes in all three. 9 against 0 discordant notes twice, p = 2 / 2**9, and none: Holm times 3, 3 and 1."""
    sft = evaluation(tmp_path / "a" / "evaluation", dict.fromkeys(range(10), WRONG))
    dpo = evaluation(tmp_path / "b" / "evaluation", dict.fromkeys(range(9), RIGHT))
    control = evaluation(tmp_path / "c" / "evaluation", dict.fromkeys(range(9), RIGHT))
    path = dpo / "evaluation_summary.json"
    write_json(path, {**read_json(path), "judge_made_training_pairs": True})
    names = ["--names", "SFT", "DPO", "control", "--output_dir", str(tmp_path / "out")]
    assert main(parse_args([str(sft), str(dpo), str(control), *names])) == 0
    result = read_json(tmp_path / "out" / "comparison.json")
    assert result["models"] == ["SFT", "DPO", "control"]
    found = [result, *result["further"]]
    assert [(each["first"]["name"], each["second"]["name"]) for each in found] == [
        ("SFT", "DPO"),
        ("SFT", "control"),
        ("DPO", "control"),
    ]
    assert [each["n"] for each in found] == [9, 9, 9]
    assert [(each["only_in_first"], each["only_in_second"]) for each in found] == [(1, 0), (1, 0), (0, 0)]
    assert [each["mcnemar"]["p"] for each in found] == [2 / 512, 2 / 512, 1]
    assert [each["mcnemar"]["p_holm"] for each in found] == [6 / 512, 6 / 512, 1]
    assert result["conclusion"].startswith("The difference holds: DPO hallucinates in fewer summaries than SFT.")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert page.count('class="columns sides-3"') == 9
    assert page.count('data-verdict="only SFT hallucinated"') == 9
    assert "First" not in page
    assert page.count("made the pairs that DPO was trained on") == 1  # though two comparisons warn of it
    assert page.count("of its notes") == page.count("1 of its notes is not in all evaluations and left out") == 1
    assert 0 < page.index("How far to trust this") < page.index("The difference holds")


def test_categories_are_shown_in_words(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {1: "Mother had diabetes. Takes metformin 500 mg."})
    second = evaluation(tmp_path / "second", {1: RIGHT})
    assert "family_history" in compared(first, second)["by_type"]
    page = (second / "comparison.html").read_text(encoding="utf-8")
    assert page.count("family history") >= 3  # chart, table and filter
    assert page.count("family_history") == page.count('value="family_history"') + page.count("&#34;family_history&#34;")


def test_accuracy_of_citations_is_compared_where_summaries_cite(tmp_path: Path) -> None:
    """The note's second sentence has the dose. The first model cites the first sentence, which is wrong each time."""
    cited = {number: f"Takes metformin 500 mg [Evidence: S{number}]." for number in (1, 2)}
    first = evaluation(tmp_path / "first", dict.fromkeys(range(8), cited[1]))
    second = evaluation(tmp_path / "second", dict.fromkeys(range(8), cited[2]))
    entry = compared(first, second)["differences"]["citation_accuracy"]
    assert (entry["first"], entry["second"], entry["difference"], entry["holds"]) == (0, 1, 1, True)
    plain = evaluation(tmp_path / "plain", dict.fromkeys(range(8), RIGHT))
    assert compared(first, plain)["differences"]["citation_accuracy"] is None  # one of them does not cite
    assert "citation_accuracy" not in compared(plain, evaluation(tmp_path / "too", {1: RIGHT}))["differences"]


def test_models_are_named_by_as_much_of_their_folders_as_tells_them_apart() -> None:
    assert names_for([Path("runs/sft"), Path("runs/dpo")], None) == ["sft", "dpo"]
    assert names_for([Path("a/evaluation"), Path("b/evaluation")], None) == ["a/evaluation", "b/evaluation"]
    assert names_for([Path("runs/sft"), Path("runs/sft")], None) == ["sft", "sft (2)"]
    assert names_for([Path("a"), Path("b")], ["SFT", "DPO"]) == ["SFT", "DPO"]
    for folders, names in ((["a"], None), (["a", "b"], ["SFT"]), (["a", "b"], ["SFT", "SFT"])):
        with pytest.raises(InputError, match=r"name two or more folders|give 2 different names"):
            names_for([Path(folder) for folder in folders], names)


@pytest.mark.parametrize(
    ("name", "difference", "holds", "expected"),
    [
        ("hallucination_rate", -0.1, True, "better"),
        ("claim_error_rate", 0.1, True, "worse"),
        ("coverage", 0.1, True, "better"),
        ("citation_accuracy", -0.1, True, "worse"),
        ("summary_words", -2, True, "shorter"),
        ("dose", 0.1, True, "more"),
        ("coverage", 0.01, False, "no difference shown"),
    ],
)
def test_what_did_not_change_is_not_called_a_failure(name: str, difference: float, holds: bool, expected: str) -> None:
    assert outcome(name, {"difference": difference, "holds": holds}) == expected
    assert outcome(name, None) == "not measured"
