"""Two rounds of the pipeline on a handful of notes: every stage, the table and `results.json`, nothing done twice."""

import csv
import importlib
import json
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pipeline_here import launch_here, write_top_of_demo
from safetensors.torch import load_file

import run_pipeline
from demo.recipes import DEMO_MODEL_RECIPE, STAGE_SHARES
from evaluation.acceptance import Bounds
from language_model.model_files import DEMO_BASE
from pipeline import processes, runner, stages
from pipeline.phase1_tables import Phase1Tables
from pipeline.script_flags import HandedFlags
from run_pipeline import Recipe
from script_io.csv_files import read_csv
from script_io.errors import InputError, RunError
from script_io.files import write_json
from script_io.stage_clock import kind_of

RECIPE = Recipe(
    stage_a=("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8"),
    negatives=("--adversarial_ratio", "0.5"),
    sampling=("--num_completions", "3", "--temperature", "1.0", "--max_prompts", "12", "--max_new_tokens", "60"),
    stage_b=("--learning_rate", "1e-3", "--num_epochs", "1", "--batch_size", "8", "--nll_weight", "1"),
    data_weights=(0.75, 0.25),
    generation=("--batch_size", "32", "--max_new_tokens", "60"),
    control=True,
)
LAUNCH = runner.launch  # which the finished run replaces
ROUNDS = 2
STAGES = 1 + 5 * ROUNDS + 4 * 2 + 1  # Stage A; rounds of five stages; four models in two modes; the comparison


# 20 s. One run of all stages for the tests of this file: it proves that each stage reads what the others write.
@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    phase1 = write_top_of_demo(folder / "phase1", {"train": 24, "validation": 8, "test": 8})
    arguments = ["--demo", "--phase1_dir", str(phase1), "--output_dir", str(folder / "run"), "--device", "cpu"]
    arguments += ["--rounds", str(ROUNDS)]
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_pipeline, "DEMO_RECIPE", RECIPE)
        patch.setattr(runner, "launch", launch_here)
        assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
        yield folder / "run", arguments
    signal.signal(signal.SIGTERM, terminate)


def stats(folder, name):
    return json.loads((folder / name / "dpo_training_stats.json").read_text())


def before_training(folder, name):
    """The validation figures before the first step."""
    return json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[0])


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


def test_the_planned_stages_are_those_that_run_in_their_order(finished):
    run = json.loads((finished[0] / "results.json").read_text())["stages"]
    assert run_pipeline.planned_stages(run_pipeline.parse_args(finished[1]), RECIPE) == list(run)
    assert {kind_of(name) for name in run} == set(STAGE_SHARES)
    without = replace(RECIPE, control=False)
    small = run_pipeline.planned_stages(run_pipeline.parse_args(["--demo"]), replace(without, brief=True))
    assert small[-4:] == ["dpo", "evaluate_sft_sampled", "evaluate_dpo_sampled", "comparison"]
    no_base = run_pipeline.planned_stages(run_pipeline.parse_args(["--model_name", "x", "--no_base"]), without)
    evaluations = [f"evaluate_{name}" for name in ("sft_greedy", "sft_sampled", "dpo_greedy", "dpo_sampled")]
    assert no_base[-5:] == [*evaluations, "comparison"]


def test_the_trained_models_are_compared_side_by_side_in_the_mode_that_decides(finished):
    folder = finished[0]
    found = json.loads((folder / "comparison.json").read_text())
    assert found["models"] == ["SFT", "DPO", "control"]
    assert Path(found["first"]["folder"]).name == "sft_sampled"
    assert len(found["further"]) == 2
    rates = json.loads((folder / "results.json").read_text())["models"]["dpo"]["sampled"]["hallucination_rate"]
    assert found["hallucination_rate"][1]["rate"] == rates
    assert 'class="columns sides-3"' in (folder / "comparison.html").read_text(encoding="utf-8")


def test_each_stage_says_how_long_the_rest_will_take(tmp_path, monkeypatch, capsys):
    now = iter([0.0, 169.0, 200.0, 380.0])
    monkeypatch.setattr(runner.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(runner, "launch", lambda command, log: 0)
    pipeline = run_pipeline.Pipeline(run_pipeline.parse_args(["--demo"]), RECIPE, tmp_path, ["sft", "dpo"])
    pipeline.run("sft", "stage_a_sft_training.py")
    pipeline.run("dpo", "stage_b_dpo_training.py")
    lines = capsys.readouterr().out.splitlines()
    minutes = max(1, round(STAGE_SHARES["dpo"] * 169 / STAGE_SHARES["sft"] / 60))
    assert lines[1] == f"[sft] 169 s; stage 1 of 2; about {minutes} minute{'s' if minutes > 1 else ''} left"
    assert lines[3] == "[dpo] 180 s"


def pipeline_of(tmp_path, *flags):
    return run_pipeline.Pipeline(run_pipeline.parse_args(["--demo", *flags]), replace(RECIPE, parallel=2), tmp_path)


def test_stages_run_at_a_time_share_the_cores_and_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    pipeline = pipeline_of(tmp_path)
    both_run = threading.Barrier(2, timeout=20)  # each of two stages waits for the other

    def stage(number):
        both_run.wait()
        pipeline.run(f"evaluate_{number}", "evaluation/evaluate_model.py", *pipeline.hardware_flags())
        return number

    launched = []
    monkeypatch.setattr(runner, "launch", lambda command, log: launched.append(command[1:]) or 0)
    assert pipeline.together(*(partial(stage, number) for number in range(4))) == [0, 1, 2, 3]
    assert launched == [["--device", "auto", "--num_threads", "2"]] * 4
    assert pipeline_of(tmp_path, "--num_threads", "3").hardware_flags()[-1] == "3"


@pytest.mark.parametrize(("cores", "flags"), [(2, ()), (16, ()), (4, ("--parallel", "1")), (4, ("--parallel", "3"))])
def test_a_stage_stays_finished_with_another_share_of_the_cores(tmp_path, monkeypatch, capsys, cores, flags):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    launched = []
    monkeypatch.setattr(runner, "launch", lambda command, log: launched.append(command[-2:]) or 0)

    def train(*flags):
        pipeline = pipeline_of(tmp_path, *flags)
        pipeline.together(lambda: pipeline.run("dpo", "stage_b_dpo_training.py", *pipeline.hardware_flags()))

    train()
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    train(*flags)
    assert launched == [["--num_threads", "2"]]
    path = tmp_path / "stages" / "dpo.json"  # an earlier version stored the share of the cores with the command
    stored = json.loads(path.read_text())
    write_json(path, stored | {"command": [*stored["command"], "--num_threads", "2"]})
    train(*flags)
    assert launched == [["--num_threads", "2"]]
    train("--num_threads", "3")  # which is asked for, and changes how sums are rounded
    assert launched == [["--num_threads", "2"], ["--num_threads", "3"]]


def test_stages_run_one_by_one_where_one_core_may_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for threads, flags, expected in (("1", (), 1), ("3", (), 2), ("", (), 2), ("1", ("--parallel", "3"), 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert pipeline_of(tmp_path, *flags).parallel == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = threading.get_ident()
    assert pipeline_of(tmp_path).together(threading.get_ident, threading.get_ident) == [here, here]


def test_a_stage_that_fails_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "launch", LAUNCH)
    (tmp_path / "slow.py").write_text("import time; print('here', flush=True); time.sleep(60)")
    (tmp_path / "bad.py").write_text("import time; time.sleep(1); raise SystemExit('error: no data')")
    pipeline = pipeline_of(tmp_path)
    stages = {"dpo": "slow.py", "control": "bad.py", "evaluate": "slow.py"}
    start = time.monotonic()
    with pytest.raises(RunError, match=r"bad.py failed \(no data\); its whole output is in"):
        pipeline.together(*(partial(pipeline.run, name, script) for name, script in stages.items()))
    assert time.monotonic() - start < 30
    assert not processes.RUNNING


def test_the_control_takes_the_same_steps_without_the_preference_term(finished):
    folder, _ = finished
    for suffix in ("_1", ""):
        dpo, control = stats(folder, f"dpo{suffix}"), stats(folder, f"control{suffix}")
        assert dpo["steps"] == control["steps"]
        assert (dpo["arguments"]["beta"], control["arguments"]["beta"]) == (0.1, 0.1)  # the script's default
        assert (dpo["arguments"]["preference_weight"], control["arguments"]["preference_weight"]) == (1, 0)
        assert dpo["training_files"] == control["training_files"]


def test_stage_b_takes_both_kinds_of_pairs_in_the_recipes_shares(finished):
    folder, _ = finished
    for number, name in ((1, "dpo_1"), (2, "dpo")):
        pairs = folder / f"pairs_{number}"
        files = stats(folder, name)["training_files"]
        paths = [pairs / "negatives" / "train_dpo.jsonl", pairs / "on_policy" / "train.jsonl"]
        assert [file["path"] for file in files] == list(map(str, paths))
        assert [file["triplets"] for file in files] == [len(path.read_text().splitlines()) for path in paths]
        total = sum(file["triplets"] for file in files)
        assert [file["weight"] for file in files] == [0.75, 0.25]
        assert [file["triplets_an_epoch"] for file in files] == pytest.approx([0.75 * total, 0.25 * total], abs=0.5)
        assert json.loads((folder / name / "final_model" / "dpo_config.json").read_text())["training_files"] == files


def test_a_second_round_starts_from_the_first_ones_policy_which_is_its_reference(finished):
    folder, _ = finished
    first = folder / "dpo_1" / "final_model"
    written = [json.loads((folder / f"pairs_{n}" / "completions.config.json").read_text()) for n in (1, 2)]
    assert [settings["model_path"] for settings in written] == [str(folder / "sft" / "final_model"), str(first)]
    texts = [(folder / f"pairs_{n}" / "completions.jsonl").read_text() for n in (1, 2)]
    assert texts[0] != texts[1]
    assert stats(folder, "dpo")["arguments"]["sft_model_path"] == str(first)
    assert stats(folder, "control")["arguments"]["sft_model_path"] == str(folder / "control_1" / "final_model")
    start = before_training(folder, "dpo")
    assert start["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    # the reference's numbers are those of the first round's policy: it has moved away from Stage A's
    reference = load_file(next((folder / "dpo" / "reference_logps").glob("val-*")))
    assert reference["chosen"].mean().item() == pytest.approx(start["logps/chosen"], abs=1e-3)
    weights = [load_file(folder / name / "final_model" / "adapter_model.safetensors") for name in ("sft", "dpo_1")]
    assert max((weights[0][name] - weights[1][name]).abs().max() for name in weights[0]) > 1e-4
    control = before_training(folder, "control")
    assert abs(control["logps/chosen"] - start["logps/chosen"]) > 1e-3  # another policy on the same pairs
    assert torch.isfinite(reference["rejected"]).all()


def test_a_prompt_validates_in_every_round_or_in_none(finished):
    folder, _ = finished
    prompts = [
        {split: {json.loads(line)["prompt"] for line in path.read_text().splitlines()}
         for split, path in ((s, folder / f"pairs_{n}" / "on_policy" / f"{s}.jsonl") for s in ("train", "val"))}
        for n in (1, 2)
    ]  # fmt: skip
    judged = [
        json.loads((folder / f"pairs_{n}" / "on_policy" / "judge_stats.json").read_text())["seed"] for n in (1, 2)
    ]
    assert judged[0] == judged[1]
    assert all(each["train"] and not each["train"] & each["val"] for each in prompts)


def test_what_is_asked_of_stage_b_is_in_the_results(finished):
    results = json.loads((finished[0] / "results.json").read_text())
    sft, dpo = (results["models"][name][results["headline"]]["exact"] for name in ("sft", "dpo"))
    checks = {check["name"]: check for check in results["acceptance"][results["headline"]]}
    rate = checks["hallucination rate"]
    assert rate["value"] == dpo["hallucination_rate"]
    assert rate["bound"] == {"at_most": 0.05}
    assert checks["coverage"]["bound"] == {"at_least": pytest.approx(sft["coverage"] - 0.005)}
    assert checks["mean words"]["bound"]["at_most"] == pytest.approx(1.15 * sft["mean_summary_words"])
    assert results["accepted"] == all(check["passed"] for check in checks.values())
    assert set(results["acceptance"]) == {"greedy", "sampled"}


def test_a_rerun_skips_what_is_finished_and_ends_in_the_table(finished, capsys):
    assert run_pipeline.main(run_pipeline.parse_args(finished[1])) == 0
    printed = capsys.readouterr().out
    assert printed.count("finished before, skipped") == STAGES
    *rows, accepted = printed.strip().splitlines()[-6:]
    assert [line.split()[0] for line in rows] == ["model", "base", "sft", "dpo", "control"]
    assert "hallucination rate [95% CI]" in rows[0]
    assert accepted.startswith("accepted: no: ")  # two tiny trainings cannot do it
    assert ", at most 5.0% asked" in accepted
    assert "by the same bounds: no: " in printed


def test_flags_without_effect_on_the_results_undo_no_finished_stage(finished, capsys):
    flags = ["--base_model", str(DEMO_BASE), "--ignore_memory_estimate"]
    assert run_pipeline.main(run_pipeline.parse_args([*finished[1], *flags])) == 0
    assert capsys.readouterr().out.count("finished before, skipped") == STAGES


def test_flags_are_handed_to_the_scripts_that_know_them(tmp_path, monkeypatch):
    commands = {}
    monkeypatch.setattr(runner, "launch", lambda command, log: commands.setdefault(log.stem, command) and 0)
    flags = ["--demo", "--base_model", "moved", "--ignore_memory_estimate", "--device", "cpu"]
    flags += ["--lexicon_dir", "names", "more_names", "--num_threads", "3"]
    pipeline = run_pipeline.Pipeline(run_pipeline.parse_args(flags), Recipe(), tmp_path)
    phase1 = Phase1Tables(tmp_path)
    sft = run_pipeline.stage_a(pipeline, phase1, "base")
    run_pipeline.stage_b(pipeline, "dpo", sft, stages.Pairs((tmp_path / "a",), (tmp_path / "b",)))
    write_json(tmp_path / "evaluation" / "dpo_greedy" / "evaluation_summary.json", {})
    with pytest.raises(FileNotFoundError):  # the first script has written no validation pairs here
        run_pipeline.preference_pairs(pipeline, phase1, sft, 1)
    for name, model in (("dpo", sft), ("base", "base")):
        with pytest.raises(InputError):  # no figures, since nothing has been evaluated
            run_pipeline.evaluate(pipeline, name, model, phase1)
    with_base = {name for name, command in commands.items() if "--base_model" in command}
    assert with_base == {"dpo", "completions_1", "evaluate_dpo_greedy"}
    assert {name for name, command in commands.items() if "--ignore_memory_estimate" in command} == {"sft", "dpo"}
    for flag in ("--num_threads", "--device"):  # the judge may have a model of its own
        having = {name for name, command in commands.items() if flag in command}
        assert having == {"sft", "dpo", "completions_1", "judging_1", "evaluate_dpo_greedy", "evaluate_base_greedy"}
    reading_facts = {name for name, command in commands.items() if "--lexicon_dir" in command}
    assert reading_facts == {"negatives_1", "judging_1", "evaluate_dpo_greedy", "evaluate_base_greedy"}
    for script, *arguments in commands.values():
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).parse_args(arguments)


def test_code_of_the_model_runs_in_the_chain_only_if_it_may(tmp_path, monkeypatch):
    asked = []

    def load(model, trust_remote_code):
        asked.append(trust_remote_code)
        raise InputError("stopped")

    monkeypatch.setattr(stages, "load_tokenizer", load)
    for flags in ([], ["--trust_remote_code"]):
        args = run_pipeline.parse_args(["--demo", *flags])
        pipeline = run_pipeline.Pipeline(args, Recipe(), tmp_path, (), HandedFlags.of(args))
        with pytest.raises(InputError, match="stopped"):
            stages.prompts_that_fit(pipeline, Phase1Tables(tmp_path), tmp_path)
    assert asked == [False, True]


# 10 s. The stages that read Phase 1 data and one evaluation; what follows reads what they write.
def test_parquet_with_other_names_gives_the_models_pairs_and_summaries_of_the_csvs(finished, tmp_path):
    folder, arguments = finished
    theirs, names = (
        tmp_path / "theirs",
        {"clinical_note": "dialogue", "model_summary": "section_text", "label": "truth"},
    )
    theirs.mkdir()
    for path in Path(arguments[arguments.index("--phase1_dir") + 1]).iterdir():
        rows = [{names.get(name, name): cell for name, cell in row.items()} for _, row in read_csv(path, ())]
        pq.write_table(pa.Table.from_pylist(rows), theirs / path.with_suffix(".parquet").name)
    phase1 = Phase1Tables(theirs, ("note=dialogue", "summary=section_text", "label=truth"))
    flags = ["--demo", "--output_dir", str(tmp_path / "run"), "--device", "cpu"]
    pipeline = run_pipeline.Pipeline(run_pipeline.parse_args(flags), replace(RECIPE, brief=True), tmp_path / "run")
    sft = run_pipeline.stage_a(pipeline, phase1, str(DEMO_BASE))
    run_pipeline.preference_pairs(pipeline, phase1, sft, 1)
    run_pipeline.evaluate(pipeline, "sft", sft, phase1)
    same = ["sft/final_model/adapter_model.safetensors", "pairs_1/completions.jsonl"]
    same += [f"pairs_1/negatives/{name}_dpo.jsonl" for name in ("train", "val")]
    same += [f"pairs_1/on_policy/{name}.jsonl" for name in ("train", "val", "outcomes")]
    for name in same:
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes(), name
    results = [
        [{key: row[key] for key in ("example_id", "clinical_note", "generated_summary", "reference_summary")} for _, row
         in read_csv(place / "evaluation" / "sft_sampled" / "evaluation_results.csv", ())]
        for place in (folder, tmp_path / "run")
    ]  # fmt: skip
    assert results[0] == results[1] != []


def test_acceptance_decides_the_exit_code_only_where_it_is_required(finished, monkeypatch):
    required = run_pipeline.parse_args([*finished[1], "--require_acceptance"])
    assert run_pipeline.main(required) == 1
    monkeypatch.setattr("pipeline.results.is_accepted", lambda checks: True)
    assert run_pipeline.main(required) == 0


def test_a_stage_runs_again_when_what_it_reads_has_changed(finished, capsys):
    folder, arguments = finished
    weights = folder / "dpo" / "final_model" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes())  # as a new training would
    assert run_pipeline.main(run_pipeline.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    assert printed.count("finished before, skipped") == STAGES - 3
    assert "[evaluate_dpo_greedy] python evaluation/evaluate_model.py" in printed
    assert "[evaluate_dpo_sampled] python evaluation/evaluate_model.py" in printed
    assert "[comparison] python evaluation/compare_models.py" in printed


def test_a_stage_is_a_process_of_its_own_whose_output_goes_to_its_log(tmp_path):
    log = tmp_path / "log"
    assert LAUNCH(["dpo_dataset.py", "--help"], log) == 0
    assert log.read_text().startswith("usage: dpo_dataset.py")
    assert LAUNCH(["dpo_dataset.py", "--none"], log) == 2
    assert log.read_text().startswith("error: ")


def test_the_progress_of_a_running_stage_is_shown(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(
        "import sys, time\nprint('Stage A: 40%, 01:05 left', file=sys.stderr, flush=True)\n"
        "while not open('go').read(): time.sleep(0.02)\n"
    )
    (tmp_path / "go").write_text("")
    shown = []

    def show(line, log):
        if "40%" in log.read_text():
            shown.append((line.name, log.read_text()))
            (tmp_path / "go").write_text("go")  # lets the stage end

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    monkeypatch.setattr(processes, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(processes.StageLine, "show", show)
    assert LAUNCH(["slow.py"], tmp_path / "sft.log") == 0
    assert shown[0] == ("sft", "Stage A: 40%, 01:05 left\n")


def test_what_is_asked_of_a_run():
    assert Recipe().bounds == Bounds(reduction=0.7, rate=0.05, coverage_loss=0.005, length_change=0.15)


def test_a_small_run_reads_the_top_of_the_data_and_keeps_what_it_has_written(tmp_path):
    phase1 = write_top_of_demo(tmp_path / "phase1", {"train": 5, "validation": 3, "test": 3})
    sizes = {"train": 4, "validation": 2, "test": 3}
    folder = tmp_path / "small"
    assert Phase1Tables(phase1).top(sizes, folder) == Phase1Tables(folder)
    for split, count in sizes.items():
        parts = [
            list(csv.reader((place / f"{split}_set_processed.csv").open(newline=""))) for place in (phase1, folder)
        ]
        assert parts[1] == parts[0][: count + 1]
    written = (folder / "train_set_processed.csv").stat().st_mtime_ns
    Phase1Tables(phase1).top(sizes, folder)
    assert (folder / "train_set_processed.csv").stat().st_mtime_ns == written


def test_the_demo_or_real_notes_or_a_model_of_yours():
    for arguments in ([], ["--demo", "--real"]):
        with pytest.raises(InputError, match="pass --demo, --real, or --model_name"):
            run_pipeline.main(run_pipeline.parse_args(arguments))
    with pytest.raises(InputError, match="--small is a smaller --demo"):
        run_pipeline.main(run_pipeline.parse_args(["--demo", "--small", "--model_name", "x"]))
    with pytest.raises(InputError, match="--small is a smaller --demo"):
        run_pipeline.main(run_pipeline.parse_args(["--model_name", "x", "--small"]))
    for arguments in (["--demo"], ["--model_name", "x"]):
        with pytest.raises(InputError, match="--size is the size of a --real run"):
            run_pipeline.main(run_pipeline.parse_args([*arguments, "--size", "small"]))


def test_the_notes_of_the_demo_with_another_base():
    args = run_pipeline.parse_args(["--demo", "--model_name", "models/smollm2"])
    recipe = run_pipeline.recipe_of(args)
    assert recipe is DEMO_MODEL_RECIPE
    assert run_pipeline.folder_of(args) == Path("runs/demo_model")
    assert args.evidence_model is None  # the rules make the pairs: they read every fact of these notes
    stages = run_pipeline.planned_stages(args, recipe)
    assert "evaluate_control_greedy" in stages
    assert not [stage for stage in stages if stage.startswith("negatives")]
