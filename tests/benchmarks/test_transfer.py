"""Which pairs the transfer benchmark keeps, that all sources get as many, and the rates that it reports."""

import pytest

from benchmarks.transfer import cut, figures_of, recipe_of, table, without
from demo.cases import make_cases
from evaluation.stats import wilson_interval
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.files import write_json

HELD_OUT = ("follow_up", "certainty")
SILENT = [case for case in make_cases("test") if case.facts.follow_up is None][:3]  # notes that name no next visit


def invented(case):
    return case.summary.removesuffix(".") + "; Follow-up in 5 weeks."


def test_pairs_that_show_a_held_out_error_are_left_out():
    case = SILENT[0]
    older = case.summary.replace(f"{case.facts.age}-year-old", f"{case.facts.age + 3}-year-old")
    rows = [
        {"prompt": build_prompt(case.note), "chosen": case.summary, "rejected": text}
        for text in (invented(case), older, case.summary + " Nonsense.")
    ]
    rows.append({**rows[1], "chosen": invented(case)})  # what the checker took for true
    assert without(HELD_OUT, rows) == [rows[1]]
    assert without(["age"], rows) == [rows[0]]


def test_every_source_gets_as_many_pairs_and_both_gets_half_of_each():
    sources = {"synthetic": [{"id": f"s{n}"} for n in range(9)], "on_policy": [{"id": f"o{n}"} for n in range(7)]}
    pairs = cut(sources, seed=1)
    assert {name: len(rows) for name, rows in pairs.items()} == {"synthetic": 6, "on_policy": 6, "both": 6}
    assert sorted(row["id"][0] for row in pairs["both"]) == ["o"] * 3 + ["s"] * 3
    assert all(row in pairs["synthetic"] + pairs["on_policy"] for row in pairs["both"])
    assert cut(sources, seed=1) == pairs != cut(sources, seed=2)


def test_the_recipe_is_that_of_the_run_without_its_data(tmp_path):
    command = [
        "stage_b_dpo_training.py",
        "--sft_model_path",
        "a",
        "--train_data_path",
        "b",
        "c",
        "--val_data_path",
        "d",
    ]
    command += ["--data_weights", "0.1", "0.9", "--output_dir", "e", "--overwrite_output_dir", "--nll_weight", "5"]
    write_json(tmp_path / "stages" / "dpo.json", {"command": command})
    assert recipe_of(tmp_path) == ["--overwrite_output_dir", "--nll_weight", "5"]


def test_rates_of_the_kinds_held_out(tmp_path):
    texts = [invented(SILENT[0]), SILENT[1].summary, SILENT[2].summary]
    cells = [{"clinical_note": case.note, "generated_summary": text} for case, text in zip(SILENT, texts, strict=True)]
    write_csv(tmp_path / "results.csv", ("clinical_note", "generated_summary"), cells)
    figures = figures_of(tmp_path / "results.csv", HELD_OUT)
    assert figures["kinds"]["follow_up"] == {"summaries": 1, "rate": 1 / 3, "ci95": wilson_interval(1, 3)}
    assert figures["kinds"]["certainty"]["summaries"] == 0
    assert figures["hallucination_rate"] == pytest.approx(1 / 3)
    assert "| both | 33.3% [6.1%, 79.2%] | 0.0% [0.0%, 56.1%] | 0.0%" in table({"both": figures})
