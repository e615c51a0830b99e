"""Averages of finished runs: by hand, by every judge, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.average_runs import main, parse_args
from script_io.errors import InputError

RATES = {  # of three seeds
    "sft": (0.6, 0.5, 0.7),
    "dpo": (0.3, 0.3, 0.3),
    "control": (0.4, 0.3, 0.5),
}


def figures(judge: str, rate: float) -> dict[str, Any]:
    return {"judge": judge, "hallucination_rate": rate, "coverage": 0.5, "mean_summary_words": 20, "repeated_rate": 0}


def run_folder(folder: Path, seed: int, number: int) -> Path:
    models = {
        name: {"greedy": {**figures("facts", rates[number]), "judges": {"evidence": figures("x", rates[number] + 0.1)}}}
        for name, rates in RATES.items()
    }
    control = models.pop("control")
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"seed": seed, "models": models, "control": control}))
    return folder


def test_means_over_seeds_by_every_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_folder(tmp_path / str(seed), seed, number) for number, seed in enumerate((1, 2, 3))]
    assert main(parse_args([*map(str, runs), "--output_dir", str(tmp_path / "out")])) == 0
    content = json.loads((tmp_path / "out" / "average_runs.json").read_text())
    assert content["seeds"] == [1, 2, 3]
    by_judge = content["modes"]["greedy"]
    assert list(by_judge) == ["facts", "evidence"]
    # standard deviation 0.1, t of 2 degrees of freedom 4.302653, over sqrt(3)
    sft = by_judge["facts"]["models"]["sft"]["hallucination_rate"]
    assert (sft["mean"], *sft["ci95"]) == pytest.approx((0.6, 0.6 - 0.248414, 0.6 + 0.248414), abs=1e-6)
    assert by_judge["evidence"]["models"]["sft"]["hallucination_rate"]["mean"] == pytest.approx(0.7)
    difference = by_judge["facts"]["differences"]["dpo less control"]["hallucination_rate"]
    assert difference["values"] == pytest.approx([-0.1, 0.0, -0.2])
    printed = capsys.readouterr().out
    assert "| greedy, by evidence | hallucinated | coverage | words | repeat |" in printed
    assert "| dpo | 30.0% [30.0%, 30.0%] | 50.0% [50.0%, 50.0%] | 20.0 [20.0, 20.0] |" in printed


def test_runs_that_are_refused(tmp_path: Path) -> None:
    same = [run_folder(tmp_path / name, 7, 0) for name in "ab"]
    with pytest.raises(InputError, match="the seeds 7 7; name one run of each seed"):
        main(parse_args(list(map(str, same))))
    with pytest.raises(InputError, match=r"results\.json"):
        main(parse_args([str(tmp_path / "none")]))
