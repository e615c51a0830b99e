"""The flags of `run_pipeline.py` that go to the scripts: which script gets what, and what replaces what."""

import shlex
from pathlib import Path

import pytest
from repository import options
from training_helpers import ROOT

import run_pipeline
from pipeline.hardware import PRESETS
from pipeline.script_flags import (
    OF_THE_CHAIN,
    STAGE_A,
    STAGE_B,
    WITHOUT_EFFECT,
    merged,
    parser_of_script,
    training_flags,
)
from script_io.errors import parser_of
from training import run_folder

MODEL = ("--model_name", "some/model-7B", "--phase1_dir", str(ROOT / "phase1_data" / "sft"))
SAMPLE, EVALUATE = "generate_completions.py", "evaluation/evaluate_model.py"


def commands(capsys, *flags):
    """Return the commands that a dry run prints, by script; of several with the same script, the last."""
    assert run_pipeline.main(run_pipeline.parse_args([*MODEL, "--dry_run", *flags])) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [shlex.split(line)[1:] for line in lines if line.startswith("python ")]
    return {script: parser_of_script(script).parse_args(rest) for script, *rest in words}


def test_every_flag_of_both_stages_can_be_given_once():
    offered = set(options(parser_of(run_pipeline.parse_args)))
    for script in (STAGE_A, STAGE_B):
        of_the_data = {action.dest for action in _group(script, "Data")} | {"sft_model_path"}
        missing = set(options(parser_of_script(script))) - offered - of_the_data
        assert missing == {"overwrite_output_dir", "resume"}
    assert set(training_flags()) | OF_THE_CHAIN <= offered


def _group(script, title):
    return next(group for group in parser_of_script(script)._action_groups if group.title == title)._group_actions


def test_a_flag_goes_to_each_script_that_knows_it(capsys):
    flags = ("--use_4bit", "--dtype", "float16", "--num_epochs", "5", "--batch_size", "3", "--beta", "0.3")
    found = commands(capsys, *flags)
    assert {script for script in found if getattr(found[script], "use_4bit", False)} == {
        *(STAGE_A, STAGE_B, SAMPLE, EVALUATE)
    }
    assert {found[script].dtype for script in (STAGE_A, STAGE_B, SAMPLE, EVALUATE)} == {"float16"}
    assert [found[script].num_epochs for script in (STAGE_A, STAGE_B)] == [5, 5]
    assert [found[script].batch_size for script in (STAGE_A, STAGE_B)] == [3, 3]
    assert found[STAGE_B].beta == 0.3
    # a batch of training is none of generation, whose flag of the same name keeps its default
    assert found[EVALUATE].batch_size == parser_of_script(EVALUATE).get_default("batch_size")


def test_flags_for_one_stage_replace_the_others(capsys):
    own = ("--stage_a", "--learning_rate 1e-4", "--stage_b", "--lora_r 8 --loss_type=ipo --nll_weight 2")
    found = commands(capsys, "--learning_rate", "1e-3", "--lora_r", "64", *own)
    assert (found[STAGE_A].learning_rate, found[STAGE_A].lora_r) == (1e-4, 64)
    # Stage B trains the adapter of Stage A, unless it is asked for one of its own
    assert (found[STAGE_B].learning_rate, found[STAGE_B].lora_r) == (1e-3, 8)
    assert (found[STAGE_B].loss_type, found[STAGE_B].nll_weight) == ("ipo", 2)
    assert commands(capsys, "--lora_r", "64")[STAGE_B].lora_r is None
    assert commands(capsys, "--stage_a", "--gradient_checkpointing")[STAGE_A].gradient_checkpointing


def test_the_control_has_no_preference_term_whatever_is_given(capsys):
    flags = ("--control", "--preference_weight", "0.5", "--stage_b", "--nll_weight 3 --learning_rate 1e-5")
    control = commands(capsys, *flags)[STAGE_B]  # which is trained after Stage B
    assert Path(control.output_dir).name == "control"
    assert (control.preference_weight, control.nll_weight, control.learning_rate) == (0, 1, 1e-5)


def test_what_a_stage_does_not_know_is_refused_before_anything_runs(capsys):
    unknown = (("--batch 2 --none", "--none"), ("--beta 0.1", "--beta"), ("--lora_r x", "--lora_r"))
    for words, says in (*unknown, ("--output_dir x", "--output_dir: run_pipeline.py sets it")):
        with pytest.raises(SystemExit) as caught:
            run_pipeline.parse_args([*MODEL, "--dry_run", "--stage_a", words])
        printed = capsys.readouterr().err
        assert caught.value.code == 2
        assert says in printed
        assert "see stage_a_sft_training.py --help" in printed
        assert printed.count("\n") == 1


def test_a_dry_run_prints_commands_that_parse_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for flags in ((), ("--hardware", "12gb"), ("--hardware", "12gb", "--rounds", "2", "--control")):
        found = commands(capsys, *flags)
        assert len(found) == 7
    assert not list(tmp_path.iterdir())
    args = run_pipeline.parse_args(["--demo", "--small", "--dry_run"])
    assert run_pipeline.main(args) == 0
    assert not list(tmp_path.iterdir())


def test_a_file_of_flags_reaches_the_scripts(tmp_path, capsys):
    path = tmp_path / "chain.yaml"
    path.write_text('hardware: 12gb\nnum_epochs: 3\nuse_4bit: false\nrounds: 2\nstage_a: "--learning_rate 1e-4"\n')
    found = commands(capsys, "--config", str(path), "--num_epochs", "4")
    assert (found[STAGE_A].num_epochs, found[STAGE_A].learning_rate, found[STAGE_A].use_4bit) == (4, 1e-4, False)
    assert found[STAGE_A].batch_size == 2
    assert found[STAGE_A].device == "cuda"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_prints_what_it_sets_and_gives_way_to_flags(name, capsys):
    run_pipeline.main(run_pipeline.parse_args([*MODEL, "--dry_run", "--hardware", name]))
    printed = capsys.readouterr().out
    assert printed.startswith(f"# Hardware {name}: ")
    for script in (STAGE_A, STAGE_B):
        assert f"  {script}: " in printed
    preset = PRESETS[name]
    found = commands(capsys, "--hardware", name)
    assert {found[script].device for script in (STAGE_A, STAGE_B, SAMPLE, EVALUATE)} == {preset.device}
    for script, words in ((STAGE_A, preset.stage_a), (STAGE_B, preset.stage_b)):
        asked = parser_of_script(script).parse_args([*preset.every, *words])
        for flag in ("use_4bit", "gradient_checkpointing", "batch_size", "gradient_accumulation_steps"):
            assert getattr(found[script], flag) == getattr(asked, flag)
    other = commands(capsys, "--hardware", name, "--use_8bit", "--batch_size", "7", "--device", "cpu")
    assert [(other[s].use_4bit, other[s].batch_size, other[s].device) for s in (STAGE_A, STAGE_B)] == [
        (False, 7, "cpu")
    ] * 2


def test_a_flag_that_is_set_again_keeps_its_place_and_loses_its_first_values():
    assert merged(["s.py", "a", "--x", "1", "2", "--y"], ["--x=3"], ["--z", "-1"]) == [
        *("s.py", "a", "--x", "3", "--y", "--z", "-1")
    ]


def test_an_empty_value_is_a_value():
    for words in (["s.py", "--system_prompt", "", "--x", "1"], ["s.py", "--system_prompt=", "--x", "1"]):
        assert merged(words) == ["s.py", "--system_prompt", "", "--x", "1"]


def test_a_resumed_training_takes_other_values_of_the_flags_without_effect():
    assert set(WITHOUT_EFFECT) <= run_folder._FREE_TO_CHANGE
