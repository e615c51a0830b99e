"""The real run of the pipeline on a handful of notes and the tiny base, and the flags of all recipes."""

import importlib
import json
import signal
from dataclasses import replace

import pytest
from pipeline_here import launch_here, write_top_of_demo
from training_helpers import CPU

import run_pipeline
from demo.recipes import (
    DEMO_MODEL_RECIPE,
    DEMO_RECIPE,
    REAL_JUDGE,
    REAL_MODEL,
    REAL_NOTES,
    REAL_RECIPE,
    REAL_SMALL_RECIPE,
    REAL_STAGE_SHARES,
    SMALL_RECIPE,
    Recipe,
)
from judging.token_detector import new_detector, save_detector
from language_model.loading import load_base_model, load_tokenizer
from language_model.model_files import DEMO_BASE
from pipeline import runner
from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.files import read_jsonl
from script_io.phase1_csv import FACTUAL_LABELS
from script_io.stage_clock import kind_of

REAL = replace(
    REAL_SMALL_RECIPE,
    stage_a=("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8"),
    sampling=("--num_completions", "3", "--temperature", "1.0", "--max_new_tokens", "60"),
    judging=("--repair", "fallback"),  # so little text has few sentences that could be exchanged
    stage_b=("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8", "--nll_weight", "1"),
    generation=("--batch_size", "32", "--max_new_tokens", "60"),
    examples={"train": 24, "validation": 4, "test": 8},
    max_length=175,  # some of the notes are longer
)
# sft, completions, judging, dpo, control, comparison; each of three models evaluated and judged again
REAL_STAGES = 6 + 2 * 3


def write_detector(folder):
    """Write a judge on the tiny base. Its head is untrained, so that only the score of the rules decides."""
    tokenizer = load_tokenizer(DEMO_BASE)
    detector = new_detector(load_base_model(DEMO_BASE, CPU, tokenizer), layers=1, rank=2, alpha=4)
    score = {"mean": 0.0, "scale": 1.0, "weight": 8.0}
    fitted = {"threshold": 0.5, "chosen_below": 0.5, "rejected_above": 0.5, "sensitivity": 1.0, "specificity": 1.0}
    fitted["combination"] = {"bias": -2.0, "features": {"rules_score": score}}
    settings = {"passes": 1, "word_threshold": 0.9, "alone": fitted, "with_rules": fitted}
    save_detector(detector, folder, tokenizer, settings, str(DEMO_BASE))
    return folder


# 15 s. Proves that the stages of a real run fit together: no hard negatives, pairs by a trained judge, a second judge.
@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    phase1 = write_top_of_demo(folder / "phase1", {"train": 30, "validation": 8, "test": 12})
    judge = write_detector(folder / "judge")
    arguments = ["--real", "--size", "small", "--model_name", str(DEMO_BASE), "--phase1_dir", str(phase1)]
    arguments += ["--evidence_model", str(judge), "--output_dir", str(folder / "run"), "--device", "cpu"]
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_pipeline, "REAL_SMALL_RECIPE", REAL)
        patch.setattr(runner, "launch", launch_here)
        assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
        yield folder / "run", arguments
    signal.signal(signal.SIGTERM, terminate)


def test_a_real_run_has_the_control_and_the_figures_of_both_judges(real):
    folder, arguments = real
    results = json.loads((folder / "results.json").read_text())
    assert set(results["models"]) == {"sft", "dpo"}
    for name, model in {**results["models"], "control": results["control"]}.items():
        assert set(model) == {"sampled"}
        figures = model["sampled"]
        second = figures["judges"]["evidence"]
        assert "exact" not in figures
        assert figures["judge"] == "facts"
        assert second["judge"].startswith("facts+detector:")
        assert figures["n"] == second["n"] > 0
        assert figures["mean_summary_words"] == second["mean_summary_words"]  # the same summaries
        assert second["model"] == str(folder / "evaluation" / f"{name}_sampled" / "evaluation_results.csv")
    assert list(results["stages"]) == run_pipeline.planned_stages(run_pipeline.parse_args(arguments), REAL)
    assert set(map(kind_of, results["stages"])) == set(REAL_STAGE_SHARES)


def test_a_real_run_trains_on_pairs_of_the_trained_judge_alone(real):
    folder, _ = real
    judged = json.loads((folder / "pairs_1" / "on_policy" / "judge_stats.json").read_text())
    assert judged["judge"].startswith("facts+detector:")
    for name in ("dpo", "control"):
        stats = json.loads((folder / name / "dpo_training_stats.json").read_text())
        files = [file["path"] for file in stats["training_files"]]
        assert files == [str(folder / "pairs_1" / "on_policy" / "train.jsonl")]
        assert stats["arguments"]["max_length"] == 175
    assert not (folder / "pairs_1" / "negatives").exists()


def test_a_real_run_samples_only_notes_that_stage_b_can_train_on(real):
    folder, _ = real
    left_out = json.loads((folder / "sft" / "training_stats.json").read_text())["data"]["train"]["dropped_ids"]
    notes = [row for _, row in read_csv(folder / "phase1" / "train_set_processed.csv", ())]
    factual = {row["id"] for row in notes if row["label"] in FACTUAL_LABELS}
    sampled = [row["id"] for _, row in read_jsonl(folder / "pairs_1" / "completions.jsonl", ("id",))]
    assert left_out
    assert set(sampled) == factual - set(left_out)


def test_a_real_run_is_continued_and_ends_in_a_table_of_each_judge(real, capsys):
    assert run_pipeline.main(run_pipeline.parse_args(real[1])) == 0
    printed = capsys.readouterr().out
    assert printed.count("finished before, skipped") == REAL_STAGES
    headings = [line for line in printed.splitlines() if line.startswith("sampled, temperature 0.7, judged by ")]
    assert [heading.split()[-1].split(":")[0] for heading in headings] == ["facts+detector", "facts"]
    assert printed.strip().splitlines()[-1].startswith("accepted: ")


def test_the_flags_of_a_real_run_have_the_recipes_defaults():
    real = run_pipeline.parse_args(["--real"])
    assert (real.model_name, real.phase1_dir, real.evidence_model) == (REAL_MODEL, REAL_NOTES, REAL_JUDGE)
    assert (real.max_length, real.rounds) == (REAL_RECIPE.max_length, REAL_RECIPE.rounds)
    given = run_pipeline.parse_args(["--real", "--max_length", "99", "--rounds", "3", "--model_name", "x"])
    assert (given.max_length, given.rounds, given.model_name) == (99, 3, "x")
    demo = run_pipeline.parse_args(["--demo"])
    assert (demo.model_name, demo.phase1_dir, demo.evidence_model) == (None, "phase1_data/sft", None)
    assert (demo.max_length, demo.rounds) == (512, 1)
    folders = {"--demo": "demo", "--demo --small": "demo_small", "--real": "real", "--real --size small": "real_small"}
    for flags, name in {**folders, "--real --size full": "real", "--model_name x": "pipeline"}.items():
        assert str(run_pipeline.folder_of(run_pipeline.parse_args(flags.split()))) == f"runs/{name}"


def test_a_real_run_names_the_command_that_makes_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(*flags):
        with pytest.raises(InputError) as caught:
            run_pipeline.main(run_pipeline.parse_args(["--real", *flags]))
        return str(caught.value)

    assert refused().endswith("train_set_processed.csv: no such file; make the real dialogues with: "
                              "python demo/get_real_notes.py")  # fmt: skip
    write_top_of_demo(tmp_path / REAL_NOTES, {"train": 2, "validation": 2, "test": 2})
    assert refused() == f"{REAL_MODEL}: no such folder; make it with: python demo/get_real_model.py"
    assert refused("--model_name", "x").endswith(
        "(detector.json is missing); make it with: python demo/get_real_model.py"
    )
    assert refused("--demo").startswith("pass --demo, --real, or --model_name")
    assert refused("--small").startswith("--small is a smaller --demo")


@pytest.mark.parametrize(
    "recipe", [DEMO_RECIPE, DEMO_MODEL_RECIPE, SMALL_RECIPE, REAL_RECIPE, REAL_SMALL_RECIPE, Recipe()]
)
def test_the_flags_of_a_recipe_are_flags_of_its_scripts(recipe):
    model = ("--model_path", "x")
    commands = {
        "stage_a_sft_training": recipe.stage_a,
        "generate_phase2_data": recipe.negatives or (),
        "generate_completions": recipe.sampling,
        "judge_completions": ("--completions_path", "x", *recipe.judging),
        "stage_b_dpo_training": recipe.stage_b,
        "evaluation.evaluate_model": (
            *model,
            *recipe.generation,
            *(word for f in recipe.judges.values() for word in f),
        ),
    }
    for script, flags in commands.items():
        importlib.import_module(script).parse_args(list(flags))
