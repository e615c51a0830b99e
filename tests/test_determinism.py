"""The same command with the same seed and number of threads writes the same files, whichever script it is.

`generate_phase2_data.py`, `prepare_phase1_data.py` and `demo/build_base_model.py` have this test in their own files.
"""

import shlex
import shutil
import signal

import pytest
from in_process import run_here
from tiny_models import build_tiny_model
from training_helpers import random_adapter, write_phase1, write_triplets

from benchmarks.torture_runs import differences
from script_io.files import write_jsonl

ON_ONE_THREAD = "--device cpu --dtype float32 --num_threads 1 --seed 7"
TRAINING = f"--num_epochs 1 --batch_size 2 --learning_rate 1e-2 --output_dir out {ON_ONE_THREAD}"
COMMANDS = {
    "stage_a_sft_training": "--model_name {0}/base --train_data_path {0}/train.csv --val_data_path {0}/val.csv "
    f"--lora_dropout 0.1 {TRAINING}",
    "stage_b_dpo_training": "--sft_model_path {0}/sft --train_data_path {0}/pairs.jsonl --val_data_path {0}/val.jsonl "
    f"{TRAINING}",
    "generate_completions": "--prompts_path {0}/train.csv --model_path {0}/sft --output_path out/completions.jsonl "
    f"--num_completions 2 --max_new_tokens 8 {ON_ONE_THREAD}",
    "judge_completions": "--completions_path {0}/completions.jsonl --output_dir out --seed 7 --val_fraction 0.3",
    "evaluation.evaluate_model": "--model_path {0}/sft --test_data {0}/val.csv --output_dir out --temperature 0.8 "
    f"--max_new_tokens 8 {ON_ONE_THREAD}",
    "evaluation.compare_models": "{0}/first {0}/second --output_dir out --seed 7",
    "sft_inference": "--model_path {0}/sft --clinical_note 'Age 40, chest pain.' --output_file out/notes.jsonl "
    f"--temperature 0.8 --max_new_tokens 8 {ON_ONE_THREAD}",
    "export_model": f"--model_path {{0}}/sft --output_dir out {ON_ONE_THREAD}",
    "judging.train_detector": "--labels {0}/labels.jsonl --base_model {0}/base --output_dir out --folds 2 --layers 1 "
    f"--epochs 2 {ON_ONE_THREAD}",
    "judging.calibrate": "--judge_model out --phase1_dir {0} --device cpu --seed 7",
}


def labels():
    """Summaries of 8 notes, each a true one and one with an unsupported word."""
    return [
        {
            "id": f"{week} {summary}",
            "clinical_note": f"Patient has chest pain for {week} weeks.",
            "generated_summary": summary,
            "unsupported": marked,
        }
        for week in range(2, 10)
        for summary, marked in (("Chest pain.", []), ("Chest pain with fever.", ["fever"]))
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    random_adapter(folder / "sft", build_tiny_model(folder / "base"))
    write_phase1(folder / "train.csv", 6)
    write_phase1(folder / "val.csv", 3, seed=1)
    write_triplets(folder / "pairs.jsonl", 6)
    write_triplets(folder / "val.jsonl", 3, seed=1)
    write_phase1(folder / "validation_set_processed.csv", 20)
    write_jsonl(folder / "labels.jsonl", labels())
    terminate = signal.getsignal(signal.SIGTERM)
    sampled = COMMANDS["generate_completions"].format(folder).replace("out/", f"{shlex.quote(str(folder))}/")
    assert run_here("generate_completions", sampled) == 0
    evaluation = COMMANDS["evaluation.evaluate_model"].format(folder)
    for name, seed in (("first", "7"), ("second", "8")):
        there = evaluation.replace("--output_dir out", f"--output_dir {folder / name}").replace(
            "seed 7", f"seed {seed}"
        )
        assert run_here("evaluation.evaluate_model", there) == 0
    yield folder
    signal.signal(signal.SIGTERM, terminate)


@pytest.mark.parametrize("script", COMMANDS)
def test_the_same_seed_and_threads_give_the_same_files(script, inputs, tmp_path, monkeypatch):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        (folder / "out").mkdir(parents=True)
        monkeypatch.chdir(folder)
        if script == "export_model":
            (folder / "out").rmdir()
        if script == "judging.calibrate":  # it writes to the folder of the model
            shutil.copytree(inputs / "base", folder / "out", dirs_exist_ok=True)
        assert run_here(script, COMMANDS[script].format(inputs)) == 0
    assert any(path.is_file() for path in folders[0].rglob("*"))
    assert differences(*folders) == []
