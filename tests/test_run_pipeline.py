"""The pipeline on a handful of notes: every stage once, the table and `results.json`, nothing done twice."""

import csv
import json

import pytest
from training_helpers import ROOT

import run_pipeline
from run_pipeline import Recipe
from script_io import InputError

SMALL = Recipe(
    stage_a=("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8"),
    negatives=("--adversarial_ratio", "0.5"),
    sampling=("--num_completions", "3", "--temperature", "1.0", "--max_prompts", "12", "--max_new_tokens", "60"),
    stage_b=("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8", "--nll_weight", "1"),
    generation=("--batch_size", "32", "--max_new_tokens", "60"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    phase1 = folder / "phase1"
    phase1.mkdir()
    for split, rows in {"train": 24, "validation": 8, "test": 8}.items():
        with (ROOT / f"phase1_data/sft/{split}_set_processed.csv").open(newline="", encoding="utf-8") as source:
            kept = list(csv.reader(source))[: rows + 1]
        with (phase1 / f"{split}_set_processed.csv").open("w", newline="", encoding="utf-8") as target:
            csv.writer(target).writerows(kept)
    arguments = ["--demo", "--phase1_dir", str(phase1), "--output_dir", str(folder / "run"), "--device", "cpu"]
    patch = pytest.MonkeyPatch()
    patch.setattr(run_pipeline, "DEMO_RECIPE", SMALL)
    assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
    yield folder / "run", arguments
    patch.undo()


def test_the_results_hold_every_model_both_ways_and_the_exact_truth(finished):
    results = json.loads((finished[0] / "results.json").read_text())
    assert results["headline"] in ("greedy", "sampled")
    assert set(results["models"]) == {"base", "sft", "dpo"}
    for model in (*results["models"].values(), results["control"]):
        for mode in ("greedy", "sampled"):
            for figures in (model[mode], model[mode]["exact"]):
                low, high = figures["hallucination_rate_ci95"]
                assert low <= figures["hallucination_rate"] <= high
                assert figures["n"] == model[mode]["n"] > 0
                assert "coverage" in figures
                assert figures["mean_summary_words"] >= 0
    assert {"torch", "transformers", "peft"} <= set(results["versions"])
    assert set(results["stages"]) >= {"sft", "negatives_1", "completions_1", "judging_1", "dpo", "control"}


def test_the_control_takes_the_same_steps_without_the_preference_term(finished):
    folder, _ = finished
    stats = {name: json.loads((folder / name / "dpo_training_stats.json").read_text()) for name in ("dpo", "control")}
    assert stats["dpo"]["steps"] == stats["control"]["steps"]
    assert stats["dpo"]["arguments"]["preference_weight"] == 1
    assert stats["control"]["arguments"]["preference_weight"] == 0
    assert stats["dpo"]["arguments"]["train_data_path"] == stats["control"]["arguments"]["train_data_path"]


def test_a_rerun_skips_what_is_finished_and_ends_in_the_table(finished, capsys):
    assert run_pipeline.main(run_pipeline.parse_args(finished[1])) == 0
    printed = capsys.readouterr().out
    assert printed.count("finished before, skipped") == 14
    last = printed.strip().splitlines()[-5:]
    assert [line.split()[0] for line in last] == ["model", "base", "sft", "dpo", "control"]
    assert "hallucination rate [95% CI]" in last[0]


def test_a_stage_runs_again_when_what_it_reads_has_changed(finished, capsys):
    folder, arguments = finished
    weights = folder / "dpo" / "final_model" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes())  # as a new training would
    assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    assert printed.count("finished before, skipped") == 12
    assert "[evaluate_dpo_greedy] python evaluation/evaluate_model.py" in printed
    assert "[evaluate_dpo_sampled] python evaluation/evaluate_model.py" in printed


def test_the_demo_and_a_model_exclude_each_other():
    for arguments in ([], ["--demo", "--model_name", "x"]):
        with pytest.raises(InputError, match="either --demo or --model_name"):
            run_pipeline.main(run_pipeline.parse_args(arguments))
