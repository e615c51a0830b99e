"""A chain in 4-bit on a CPU that is stopped in Stage A, goes on where it stood, and makes deleted outputs again."""

import json
import signal
from pathlib import Path

import pytest
from pipeline_here import launch_here, write_top_of_demo

import run_pipeline
import stage_a_sft_training
from demo.recipes import Recipe
from evaluation.acceptance import SMALL_BOUNDS
from pipeline import runner
from pipeline.status import status_of
from training import checkpoints

RECIPE = Recipe(
    stage_a=("--learning_rate", "1e-3", "--batch_size", "4"),
    negatives=("--adversarial_ratio", "0.5"),
    sampling=("--num_completions", "2", "--temperature", "1.0", "--max_prompts", "4", "--max_new_tokens", "20"),
    stage_b=("--learning_rate", "1e-3", "--batch_size", "8", "--nll_weight", "1"),
    generation=("--batch_size", "32", "--max_new_tokens", "20"),
    bounds=SMALL_BOUNDS,
    brief=True,
)
STAGES = ("sft", "negatives_1", "completions_1", "judging_1", "dpo", "evaluate_sft_sampled", "evaluate_dpo_sampled")


def stopped_after_a_checkpoint(command, log):
    """As Ctrl-C during Stage A: the script saves a checkpoint and ends, and the chain ends as well."""
    save = checkpoints.save_checkpoint

    def save_and_stop(run):
        save(run)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_a_sft_training.checkpoints, "save_checkpoint", save_and_stop)
        assert launch_here(command, log) == 130
    raise KeyboardInterrupt


# 8 s. One chain for the tests of this file: it is stopped, resumed, and rerun with an output missing.
@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    phase1 = write_top_of_demo(folder / "phase1", {"train": 12, "validation": 4, "test": 4})
    arguments = ["--demo", "--small", "--phase1_dir", str(phase1), "--output_dir", str(folder / "run")]
    arguments += ["--hardware", "cpu", "--use_4bit", "--num_epochs", "1", "--save_steps", "1", "--stage_a=--lora_r 4"]
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_pipeline, "SMALL_RECIPE", RECIPE)
        patch.setattr(runner, "launch", stopped_after_a_checkpoint)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline.main(run_pipeline.parse_args(arguments))
        states = [status_of(folder / "run")]
        patch.setattr(runner, "launch", launch_here)
        assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
        states.append(status_of(folder / "run"))
        yield folder / "run", arguments, states
    signal.signal(signal.SIGTERM, terminate)


def record(folder, name):
    return json.loads((folder / "stages" / f"{name}.json").read_text())


def test_a_stopped_training_goes_on_where_it_stood(chain):
    folder = chain[0]
    assert f"Resumed from {folder / 'sft' / 'checkpoint_step_1'} at step 1" in (folder / "logs/sft.log").read_text()
    lines = [json.loads(line) for line in (folder / "sft" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "learning_rate" in line]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 1
    assert "--resume" not in record(folder, "sft")["command"]  # so that a rerun finds the same command


def test_every_script_with_a_model_has_its_base_in_4bit(chain):
    folder = chain[0]
    with_model = {name for name in STAGES if "base in 4bit" in (folder / "logs" / f"{name}.log").read_text()}
    assert with_model == {"sft", "completions_1", "dpo", "evaluate_sft_sampled", "evaluate_dpo_sampled"}
    settings = {name: json.loads((folder / name / "run_config.json").read_text()) for name in ("sft", "dpo")}
    assert [settings[name]["arguments"]["lora_r"] for name in settings] == [4, None]
    for name in settings:
        arguments = settings[name]["arguments"]
        assert (arguments["use_4bit"], arguments["num_epochs"], arguments["learning_rate"]) == (True, 1, 1e-3)
        # the preset comes after the recipe, which has other batches
        assert (arguments["batch_size"], arguments["gradient_accumulation_steps"]) == (1, 8)


def test_each_stage_is_stamped_with_its_own_commit(chain, capsys):
    folder, arguments, _ = chain
    path = folder / "stages" / "negatives_1.json"
    stored = record(folder, "negatives_1")
    assert stored["commit"]
    path.write_text(json.dumps(stored | {"commit": "of-an-earlier-day"}))
    # and flags without an effect on the results undo no finished stage
    other = ["--save_steps", "3", "--logging_steps", "5", "--gradient_checkpointing"]
    assert run_pipeline.main(run_pipeline.parse_args([*arguments, *other])) == 0
    commits = json.loads((folder / "results.json").read_text())["stage_commits"]
    assert commits["negatives_1"] == "of-an-earlier-day"
    assert commits["sft"] == stored["commit"]
    assert "the stages are of 2 commits: " in status_of(folder)
    assert capsys.readouterr().out.count("finished before, skipped") == len(STAGES) + 1


def test_the_status_tells_where_the_chain_stands(chain, capsys):
    folder, _, (stopped, finished) = chain
    first, *others, last = stopped.splitlines()
    assert first.split(maxsplit=1) == ["sft", "stopped, will be resumed"]
    assert [line.split() for line in others] == [[name, "waiting"] for name in (*STAGES[1:], "comparison")]
    assert last == "0 of 8 stages finished"
    assert [line.split()[:2] for line in finished.splitlines()[:-1]] == [
        [name, "finished"] for name in (*STAGES, "comparison")
    ]
    assert finished.splitlines()[-1] == "8 of 8 stages finished"
    assert run_pipeline.main(run_pipeline.parse_args(["--status", str(folder)])) == 0
    assert "8 of 8 stages finished" in capsys.readouterr().out


def test_a_deleted_output_is_made_again(chain, capsys):
    folder, arguments, _ = chain
    weights = folder / "dpo" / "final_model" / "adapter_model.safetensors"
    trained = weights.read_bytes()
    weights.unlink()
    assert f"dpo{' ' * 25}  will run again, since {weights} is gone" in status_of(folder)
    assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    assert f"[dpo] runs again, since {weights} is gone" in printed
    assert weights.read_bytes() == trained  # the training was resumed at its end
    again = [line.split("]")[0][1:] for line in printed.splitlines() if "] python " in line]
    assert again == ["dpo", "evaluate_dpo_sampled", "comparison"]


def test_the_settings_of_runs_can_be_read_back(chain):
    folder, arguments, _ = chain
    for script, path in ((run_pipeline, folder), (stage_a_sft_training, folder / "sft")):
        stored = json.loads((path / "run_config.json").read_text())["arguments"]
        args = vars(script.parse_args(["--config", str(path / "run_config.json"), "--seed", "7"]))
        unread = {"resume", "overwrite_output_dir"}
        assert not unread & set(stored)  # an earlier run's are never read back
        assert {name: value for name, value in json.loads(json.dumps(args)).items() if name not in unread} == (
            stored | {"seed": 7}
        )
    assert Path(arguments[3]).is_dir()
