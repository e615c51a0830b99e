"""The README's commands, run word for word on a part of the demo's data; what it promises to be there is there."""

import csv
import json
import re
import shlex
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from pipeline_here import write_top_of_demo
from training_helpers import ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
SPLITS = {"train": 60, "validation": 16, "test": 12}


def commands(heading: str) -> list[list[str]]:
    """The commands of the first code block under a heading."""
    block = README.split(f"## {heading}", 1)[1].split("```")[1]
    lines = block.replace("\\\n", " ").strip().splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A working folder in which every command of the real run has been run; its outputs by script name."""
    folder = tmp_path_factory.mktemp("readme")
    write_top_of_demo(folder / "phase1_data" / "sft", SPLITS)
    outputs = {}
    for program, script, *arguments in commands("A real run, one command a stage"):
        assert program == "python"
        result = run(script, *arguments, cwd=folder)
        assert result.returncode == 0, f"{script}: {result.stdout[-2000:]} {result.stderr[-2000:]}"
        outputs[script] = result.stdout
    return folder, outputs


def test_every_stage_leaves_what_the_contract_names(finished):
    folder, outputs = finished
    for name in (
        "models/sft_specialist/final_model/adapter_model.safetensors",
        "models/sft_specialist/final_model/sft_config.json",
        "models/sft_specialist/checkpoint_epoch_2/adapter_model.safetensors",
        "models/sft_specialist/training_stats.json",
        "models/sft_specialist/training_curves.png",
        "phase2_data/dpo/train_dpo.jsonl",
        "phase2_data/dpo/val_dpo.jsonl",
        "phase2_data/dpo/phase2_stats.json",
        "phase2_data/on_policy/completions.jsonl",
        "phase2_data/on_policy/preferences.jsonl",
        "phase2_data/on_policy/train.jsonl",
        "phase2_data/on_policy/val.jsonl",
        "phase2_data/on_policy/judge_stats.json",
        "models/dpo_hallucination_resistant/final_model/adapter_model.safetensors",
        "models/dpo_hallucination_resistant/final_model/dpo_config.json",
        "models/dpo_hallucination_resistant/dpo_training_stats.json",
        "models/dpo_merged/model.safetensors",
        "evaluation_results/sft/evaluation_results.csv",
        "evaluation_results/dpo/evaluation_summary.json",
        "evaluation_results/dpo/report.html",
        "evaluation_results/dpo/comparison.html",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert "Clinical Note:" in outputs["sft_inference.py"]
    assert "Generated Summary:" in outputs["sft_inference.py"]
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".tmp")]


@pytest.mark.parametrize("model", ["sft_specialist", "dpo_hallucination_resistant"])
def test_the_final_models_load_and_merge(finished, model):
    folder, _ = finished
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder / "models" / model / "final_model").eval()
    ids = torch.arange(3, 60).view(1, -1)
    with torch.no_grad():
        adapted = loaded(input_ids=ids).logits
        merged = loaded.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=0)


def test_the_evaluations_count_every_test_note_once(finished):
    folder, _ = finished
    with (folder / "phase1_data/sft/test_set_processed.csv").open(newline="", encoding="utf-8") as file:
        notes = {row["clinical_note"] for row in csv.DictReader(file)}
    for name in ("sft", "dpo"):
        summary = json.loads((folder / "evaluation_results" / name / "evaluation_summary.json").read_text())
        assert summary["n"] == len(notes)
        low, high = summary["hallucination_rate_ci95"]
        assert 0 <= low <= summary["hallucination_rate"] <= high <= 1


def test_the_python_example_runs(finished):
    folder, _ = finished
    code = README.split("```python", 1)[1].split("```", 1)[0].replace("…", "A 54-year-old woman with chest pain.")
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_file_tree_names_every_script_and_no_other():
    tree = README.split("## Files", 1)[1].split("```")[1]
    named = set(re.findall(r"^([a-z_0-9]+\.py)", tree, re.MULTILINE))
    assert named == {path.name for path in ROOT.glob("*.py")}


def test_no_placeholder_is_left():
    assert "@@" not in README
    assert "TBD" not in README
