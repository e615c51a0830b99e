"""The demo over several seeds: means and intervals by hand, the bounds, and one small run of the whole chain."""

import json
import signal
import subprocess

import pytest
from pipeline_here import launch_here

import run_pipeline
from benchmarks import seeds
from benchmarks.seed_means import Mean
from evaluation.acceptance import SMALL_BOUNDS, Bounds, verdict
from script_io.errors import RunError

SFT, DPO, CONTROL = (0.50, 0.46, 0.48, 0.52, 0.54), (0.03, 0.05, 0.04, 0.02, 0.06), (0.08, 0.09, 0.10, 0.06, 0.12)


def figures(rate, coverage=0.99, words=27.0):
    exact = {"hallucination_rate": rate, "coverage": coverage, "mean_summary_words": words}
    return {"sampled": {"hallucination_rate": rate / 2, "exact": exact}}


def runs_of(sft=SFT, dpo=DPO, control=CONTROL, **dpo_figures):
    return [
        {
            "headline": "sampled",
            "models": {"sft": figures(first), "dpo": figures(second, **dpo_figures)},
            "control": figures(third),
        }
        for first, second, third in zip(sft, dpo, control, strict=True)
    ]


def checks_of(runs, bounds=None):
    means = seeds.over_seeds(runs, "sampled", [0.9] * len(runs))
    return verdict(seeds.bounds_of(means, bounds or Bounds()))


def test_a_t_interval_by_hand():
    # standard deviation sqrt(2.5), t of 4 degrees of freedom 2.776445
    mean = Mean.of([1, 2, 3, 4, 5])
    assert mean.mean == 3
    assert mean.ci95 == pytest.approx((3 - 1.963243, 3 + 1.963243), abs=1e-5)
    assert Mean.of([0.25]).ci95 is None
    assert Mean.of([0.25]).text() == "25.0%"
    assert mean.text(".1f") == "3.0 [1.0, 5.0]"


def test_means_and_differences_are_taken_over_the_seeds():
    means = seeds.over_seeds(runs_of(), "sampled", [0.9, 0.92, 0.94, 0.96, 0.98])
    dpo = means["models"]["dpo"]
    assert dpo["hallucination_rate"].mean == pytest.approx(0.04)
    assert dpo["hallucination_rate_by_checker"].mean == pytest.approx(0.02)
    assert dpo["chosen_preference"].mean == pytest.approx(0.94)
    assert means["models"]["control"]["hallucination_rate"].mean == pytest.approx(0.09)
    assert means["reduction"].values == pytest.approx([1 - d / s for d, s in zip(DPO, SFT, strict=True)])
    # seed by seed: -5, -4, -6, -4, -6 points; standard deviation 1, half-width 2.776445 / sqrt(5)
    difference = means["dpo_minus_control"]
    assert difference.values == pytest.approx([-0.05, -0.04, -0.06, -0.04, -0.06])
    assert difference.ci95 == pytest.approx((-0.05 - 0.012417, -0.05 + 0.012417), abs=1e-5)
    assert means["dpo_minus_sft"].mean == pytest.approx(-0.46)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (runs_of(), "yes"),
        (runs_of(dpo=[0.06] * 5), "no: hallucination rate 6.0%, at most 5.0% asked"),
        (
            runs_of(sft=[0.12] * 5, dpo=[0.04] * 5),
            "no: mean reduction of the hallucination rate 66.7%, at least 70.0% asked",
        ),
        (
            runs_of(dpo=[0.0, 0.0, 0.0, 0.05, 0.10], control=[0.3] * 5),
            "no: upper end of Stage B's rate 8.6%, at most 8.0% asked",
        ),
        (
            runs_of(control=DPO),  # no difference at all
            "no: upper end of Stage B's rate less the control's 0.0%, below 0.0% asked",
        ),
        (
            runs_of(control=[0.02, 0.09, 0.04, 0.02, 0.06]),
            "no: upper end of Stage B's rate less the control's 1.8%, below 0.0% asked",
        ),
        (runs_of(coverage=0.98), "no: coverage 98.0%, at least 98.5% asked"),
        (runs_of(words=20.0), "no: mean words 20.0, at least 22.9 and at most 31.0 asked"),
    ],
)
def test_which_bounds_hold(runs, message):
    assert checks_of(runs) == message


def test_one_seed_has_no_interval_to_ask_for():
    one = runs_of(control=DPO)[:1]
    assert checks_of(one) == "yes"
    assert "| Stage B | 3.0% | 1.5% | 99.0% | 27.0 |" in seeds.table(seeds.over_seeds(one, "sampled", [0.9]), "sampled")


def test_small_runs_have_looser_bounds_and_no_control():
    half_gone = runs_of(dpo=[rate / 2 for rate in SFT], coverage=0.95)
    for run in half_gone:
        del run["control"]
    assert checks_of(half_gone, SMALL_BOUNDS) == "yes"
    assert "control" not in seeds.table(seeds.over_seeds(half_gone, "sampled", [0.9] * 5), "sampled")
    assert checks_of(runs_of(coverage=0.93), SMALL_BOUNDS).startswith("no: coverage 93.0%")


def test_the_table_has_intervals_and_differences():
    printed = seeds.table(seeds.over_seeds(runs_of(), "sampled", [0.9] * 5), "sampled")
    assert printed.splitlines()[0].startswith("| sampled | hallucinated, exact truth |")
    assert "| Stage B | 4.0% [2.0%, 6.0%] | 2.0% [1.0%, 3.0%] | 99.0% [99.0%, 99.0%] | 27.0 [27.0, 27.0] |" in printed
    assert "| Stage B less control | -5.0% [-6.2%, -3.8%] | | | |" in printed


def test_a_seed_is_one_run_of_the_pipeline_in_a_folder_of_its_own(tmp_path, monkeypatch):
    started = []

    def run(command, *, stdout, env, **_):
        started.append((command[1:], env.get("OMP_NUM_THREADS")))
        return subprocess.CompletedProcess(command, returncode=1 if "44" in command else 0)

    monkeypatch.setattr(seeds.subprocess, "run", run)
    monkeypatch.setattr(seeds.os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    args = seeds.parse_args(["--parallel", "3", "--rounds", "2", "--device", "cpu"])
    seeds.run_seed(args, 43, tmp_path / "seed_43")
    flags = ["--demo", "--no_base", "--seed", "43", "--rounds", "2", "--device", "cpu"]
    expected = [str(seeds.ROOT / "run_pipeline.py"), *flags, "--output_dir", str(tmp_path / "seed_43")]
    assert started == [(expected, "2")]
    with pytest.raises(RunError, match=r"seed 44: run_pipeline\.py ended with 1"):
        seeds.run_seed(args, 44, tmp_path / "seed_44")


@pytest.fixture
def in_this_process(monkeypatch):
    """The pipeline of a seed, and each of its stages, without a process of its own."""

    def run_seed(args, seed, folder):
        flags = ["--demo", "--seed", str(seed), "--device", args.device, "--output_dir", str(folder)]
        assert run_pipeline.main(run_pipeline.parse_args([*flags, *(["--small"] if args.small else [])])) == 0

    terminate = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("pipeline.runner.launch", launch_here)
    monkeypatch.setattr(seeds, "run_seed", run_seed)
    yield
    signal.signal(signal.SIGTERM, terminate)


# 80 s. The only proof that the whole chain, trained for real, lowers the hallucination rate within its bounds.
@pytest.mark.usefixtures("in_this_process")
def test_a_small_run_of_the_whole_chain_holds_its_bounds(tmp_path, capsys):
    flags = ["--small", "--device", "cpu", "--output_dir", str(tmp_path), "--require"]
    assert seeds.main(seeds.parse_args(flags)) == 0
    content = json.loads((tmp_path / "seeds.json").read_text())
    assert (content["seeds"], content["headline"], content["all_bounds_hold"]) == ([42], "sampled", True)
    models = content["modes"]["sampled"]["models"]
    sft, dpo = (models[name]["hallucination_rate"]["mean"] for name in ("sft", "dpo"))
    assert dpo <= 0.7 * sft
    assert models["dpo"]["coverage"]["mean"] >= models["sft"]["coverage"]["mean"] - 0.05
    results = json.loads((tmp_path / "seed_42" / "results.json").read_text())
    assert results["accepted"] is True
    assert set(results["models"]) == {"sft", "dpo"}
    assert capsys.readouterr().out.strip().splitlines()[-1] == "Bounds on sampled: yes"
