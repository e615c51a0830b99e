"""What is asked of Stage B: figures at their bounds, and a policy that has learned to say nothing."""

import json
import signal

import pytest
from pipeline_here import launch_here, write_top_of_demo

import run_pipeline
from evaluation.acceptance import Bounds, Check, acceptance, is_accepted, verdict
from language_model.model_files import DEMO_BASE
from language_model.prompt_format import build_prompt
from pipeline.stages import Pairs
from run_pipeline import Recipe
from script_io.csv_files import read_csv
from script_io.files import write_jsonl

BEFORE = {"hallucination_rate": 0.5, "coverage": 0.978, "mean_summary_words": 28.0}
AFTER = {"hallucination_rate": 0.05, "coverage": 0.973, "mean_summary_words": 23.8}  # three figures at their bounds


def test_figures_at_their_bounds_are_accepted():
    checks = acceptance(BEFORE, AFTER, Bounds())
    assert [check.name for check in checks] == [
        "reduction of the hallucination rate", "hallucination rate", "coverage", "mean words",
    ]  # fmt: skip
    assert verdict(checks) == "yes"
    assert is_accepted(checks)
    assert [check.value for check in checks] == pytest.approx([0.9, 0.05, 0.973, 23.8])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"hallucination_rate": 0.0501}, "hallucination rate 5.0%, at most 5.0% asked"),
        (
            {"hallucination_rate": 0.1},
            {"hallucination_rate": 0.0301},
            "reduction of the hallucination rate 69.9%, at least 70.0% asked",
        ),
        ({}, {"coverage": 0.312}, "coverage 31.2%, at least 97.3% asked"),
        ({}, {"coverage": 0.9729}, "coverage 97.3%, at least 97.3% asked"),
        ({}, {"coverage": None}, "coverage unknown, at least 97.3% asked"),
        ({}, {"mean_summary_words": 23.7}, "mean words 23.7, at least 23.8 and at most 32.2 asked"),
        ({}, {"mean_summary_words": 32.3}, "mean words 32.3, at least 23.8 and at most 32.2 asked"),
        (
            {"hallucination_rate": 0.0},
            {"hallucination_rate": 0.01},
            "reduction of the hallucination rate unknown, at least 70.0% asked",
        ),
    ],
)
def test_a_figure_out_of_its_bounds_is_named(before, after, message):
    checks = acceptance(BEFORE | before, AFTER | after, Bounds())
    assert verdict(checks) == f"no: {message}"
    assert not is_accepted(checks)


def test_no_hallucination_before_and_none_after_is_no_failure():
    checks = acceptance(BEFORE | {"hallucination_rate": 0.0}, AFTER | {"hallucination_rate": 0.0}, Bounds())
    assert verdict(checks) == "yes"


def test_a_check_as_it_is_stored():
    check = Check("mean words", 12.0, at_least=11.0, at_most=13.0, is_share=False)
    bound = {"at_least": 11.0, "at_most": 13.0}
    assert check.as_dict() == {"name": "mean words", "value": 12.0, "bound": bound, "passed": True}


RECIPE = Recipe(
    stage_a=run_pipeline.SMALL_RECIPE.stage_a,
    stage_b=("--learning_rate", "5e-3", "--num_epochs", "2", "--batch_size", "8", "--nll_weight", "10"),
    generation=("--batch_size", "32", "--max_new_tokens", "60"),
    brief=True,
)


@pytest.fixture
def restored_signals():
    terminate = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, terminate)


# 13 s. Proves on a trained model that saying nothing does not pass as saying nothing wrong.
@pytest.mark.usefixtures("restored_signals")
def test_a_policy_rewarded_for_saying_nothing_is_not_accepted(tmp_path, monkeypatch, capsys):
    phase1 = write_top_of_demo(tmp_path / "phase1", {"train": 160, "validation": 8, "test": 24})
    rows = [row for _, row in read_csv(phase1 / "train_set_processed.csv", ()) if row["label"] == "factual"]
    triplets = [
        {"prompt": build_prompt(row["clinical_note"]), "chosen": "Well.", "rejected": row["model_summary"]}
        for row in rows[:44]
    ]
    write_jsonl(tmp_path / "train.jsonl", triplets[:40])
    write_jsonl(tmp_path / "val.jsonl", triplets[40:])
    silence = Pairs((tmp_path / "train.jsonl",), (tmp_path / "val.jsonl",))
    monkeypatch.setattr("pipeline.runner.launch", launch_here)
    monkeypatch.setattr(run_pipeline, "Recipe", lambda: RECIPE)
    monkeypatch.setattr(run_pipeline, "preference_pairs", lambda *_: silence)
    flags = ["--model_name", str(DEMO_BASE), "--phase1_dir", str(phase1), "--output_dir", str(tmp_path / "run")]
    args = run_pipeline.parse_args([*flags, "--device", "cpu", "--require_acceptance"])
    assert run_pipeline.main(args) == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    sft, dpo = (results["models"][name]["sampled"] for name in ("sft", "dpo"))
    assert sft["hallucination_rate"] > 0.5
    assert sft["coverage"] > 0.4
    assert dpo["hallucination_rate"] <= 0.05  # nothing is said, so nothing is wrong
    passed = {check["name"]: check["passed"] for check in results["acceptance"]["sampled"]}
    assert passed == {
        "reduction of the hallucination rate": True, "hallucination rate": True, "coverage": False, "mean words": False,
    }  # fmt: skip
    assert results["accepted"] is False
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(
        f"accepted: no: coverage {dpo['coverage']:.1%}, at least {sft['coverage'] - 0.005:.1%} asked"
    )
