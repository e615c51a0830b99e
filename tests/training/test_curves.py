"""The curves of a run: what is drawn, in which colour, and on which axis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stage_b_dpo_training import PANELS
from training import curves


def test_stage_b_shows_margins_and_accuracies_of_the_rewards() -> None:
    drawn = {curve for panel in PANELS.values() for curve in panel}
    assert {(kind, f"rewards/{name}") for kind in ("train", "val") for name in ("margins", "accuracies")} <= drawn


def test_the_mean_moves_over_the_last_values() -> None:
    assert curves.moving_mean([2, 4, 6, 8], 2) == [2, 3, 5, 7]
    assert curves.moving_mean([2, 4], 1) == [2, 4]


def test_the_axis_fits_what_changes() -> None:
    assert curves.limits_of([1.0, 2.0]) == (pytest.approx(0.92), pytest.approx(2.08))
    low, high = curves.limits_of([3.0, 3.0])
    assert low < 3 < high
    assert curves.limits_of([0.0]) == (-0.05, 0.05)


def test_a_kind_has_one_colour_in_all_panels_and_outliers_do_not_set_the_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    losses = [1.0 - step / 200 for step in range(100)]
    losses[50] = 90.0
    lines = [{"kind": "train", "step": step, "loss": loss, "margin": 1.0} for step, loss in enumerate(losses)]
    lines += [{"kind": "val", "step": step, "loss": 1.0, "margin": step} for step in (0, 99)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    panels = {name: [("train", name), ("val", name)] for name in ("loss", "margin")}
    curves.plot_curves(tmp_path, panels)
    loss, margin = pyplot.gcf().axes
    colours = [{line.get_label(): line.get_color() for line in axis.lines} for axis in (loss, margin)]
    assert colours[0]["train loss"] == colours[1]["train margin"] != colours[0]["val loss"] == colours[1]["val margin"]
    assert loss.get_ylim()[1] < 30  # the mean over five steps; the step itself has 90
    assert (tmp_path / "training_curves.png").read_bytes().startswith(b"\x89PNG")
