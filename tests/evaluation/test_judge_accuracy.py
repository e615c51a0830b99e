"""The rate corrected for the judge's errors, where they come from, and what the page says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.judge_accuracy import MEASURED, Accuracy, read_judge_accuracy
from evaluation.pages.trust import trust
from evaluation.stats import Z95, corrected_share, wilson_interval
from script_io.errors import InputError
from script_io.files import read_json, write_json


def measured(folder: Path, **changes: Any) -> Path:
    """A file of a judge with sensitivity 0.8 and specificity 0.9, each on 100 summaries."""
    figures = {"sensitivity": {"value": 0.8, "ci95": [0.7, 0.87]}, "specificity": {"value": 0.9, "ci95": [0.83, 0.95]}}
    content = {"judge": "facts", "labels": "labels.csv", "n": 200, "hallucinated": 100, "figures": figures}
    write_json(folder / "accuracy.json", content | {"rules_written_on_these_rows": False} | changes)
    return folder / "accuracy.json"


def test_the_rate_is_corrected_by_hand() -> None:
    """(0.31 + 0.9 - 1) / (0.8 + 0.9 - 1) = 0.21 / 0.7 = 0.3."""
    found = corrected_share(0.31, 500, (0.8, 100), (0.9, 100))
    assert found
    rate, (low, high) = found
    assert rate == pytest.approx(0.3)
    assert 0.15 < low < 0.25 < 0.35 < high < 0.45


def test_a_judge_without_errors_changes_nothing() -> None:
    """The interval is then that of Agresti and Coull: 20 of 100 with z²/2 successes and z²/2 failures added."""
    found = corrected_share(0.2, 100, (1.0, 1e12), (1.0, 1e12))
    n = 100 + Z95**2
    centre = (20 + Z95**2 / 2) / n
    half = Z95 * (centre * (1 - centre) / n) ** 0.5
    assert found == (pytest.approx(0.2), pytest.approx((centre - half, centre + half), abs=1e-6))


def test_the_interval_holds_the_true_rate_as_often_as_it_says() -> None:
    """1,000 draws at a rate of 0.3, a sensitivity of 0.6 on 33 and a specificity of 0.95 on 143 summaries."""
    rng = np.random.default_rng(1)
    flagged = rng.binomial(200, 0.3 * 0.6 + 0.7 * 0.05, 1000) / 200
    sensitivity, specificity = rng.binomial(33, 0.6, 1000) / 33, rng.binomial(143, 0.95, 1000) / 143
    found = [
        corrected_share(share, 200, (sens, 33), (spec, 143))
        for share, sens, spec in zip(flagged, sensitivity, specificity, strict=True)
    ]
    held = [each[1][0] <= 0.3 <= each[1][1] for each in found if each]
    assert len(held) == 1000
    assert 0.93 <= np.mean(held) <= 0.98


def test_no_rate_where_the_judge_is_no_better_than_chance_or_its_errors_explain_nothing() -> None:
    assert corrected_share(0.3, 100, (0.5, 50), (0.5, 50)) is None
    assert corrected_share(0.0, 100_000, (0.8, 1000), (0.9, 1000)) is None  # 10% false alarms would be expected
    assert corrected_share(0.09, 100, (0.8, 100), (0.9, 100)) is not None  # which could be chance
    found = corrected_share(0.09, 100, (0.8, 100), (0.9, 100))
    assert found
    assert found[0] == found[1][0] == 0


def test_summaries_of_one_note_count_as_fewer() -> None:
    """The interval 0.4 to 0.8 is 0.4 / 3.92 = 0.102 wide each way: 0.24 / 0.0104 = 23 independent summaries."""
    share, n = Accuracy(0.6, (0.4, 0.8), 48).independent
    assert (share, n) == (0.6, pytest.approx(0.24 / (0.2 / Z95) ** 2))
    assert Accuracy(0.6, (0.55, 0.65), 48).independent == (0.6, 48)  # never more than there are
    assert Accuracy(1.0, (1.0, 1.0), 48).independent == (1.0, 48)
    assert Accuracy(1.0, wilson_interval(12, 12), 48).independent == (1.0, pytest.approx(12))  # 48 of 12 notes


def test_the_accuracy_of_the_rules_is_the_one_that_the_benchmark_wrote() -> None:
    accuracy, content = read_judge_accuracy(None, "facts"), read_json(MEASURED)
    assert accuracy
    assert accuracy.sensitivity.share == content["figures"]["sensitivity"]["value"]
    assert (accuracy.n, accuracy.hallucinated) == (200, 48)
    assert (accuracy.sensitivity.n, accuracy.specificity.n) == (48, 152)
    assert accuracy.is_optimistic
    assert read_judge_accuracy(None, "openai:x") is None


@pytest.mark.parametrize("changes", [{"figures": {}}, {"n": "many"}, {"figures": {"sensitivity": None}}])
def test_a_file_that_is_none_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"accuracy.json: not the figures of a judge's accuracy .*; make it with"):
        read_judge_accuracy(measured(tmp_path, **changes), "facts")
    with pytest.raises(InputError, match=r"none\.json"):
        read_judge_accuracy(tmp_path / "none.json", "facts")


def test_the_page_shows_both_rates_and_names_the_data(tmp_path: Path) -> None:
    accuracy = read_judge_accuracy(measured(tmp_path, rules_written_on_these_rows=True), "facts")
    shown = trust("facts", accuracy, {"sft": (0.31, (0.27, 0.35), 500)})
    assert (shown["data"], shown["n"], shown["is_optimistic"], shown["problem"]) == ("labels.csv", 200, True, "")
    assert shown["sensitivity"] == "80.0% (95% interval 70.0% to 87.0%, n=100)"
    (rate,) = shown["rates"]
    assert rate["raw"] == "31.0% (27.0% to 35.0%)"
    assert rate["corrected"].startswith("30.0% (")


def test_the_page_shows_no_corrected_rate_where_it_is_not_known(tmp_path: Path) -> None:
    rates = {"": (0.31, (0.27, 0.35), 500)}
    assert trust("nli", read_judge_accuracy(measured(tmp_path), "nli"), rates)["known"] is False
    blind = {name: {"value": 0.5, "ci95": [0.4, 0.6]} for name in ("sensitivity", "specificity")}
    shown = trust("facts", read_judge_accuracy(measured(tmp_path, figures=blind), "facts"), rates)
    assert shown["rates"] == []
    assert "no better than chance" in shown["problem"]
    unexplained = trust("facts", read_judge_accuracy(measured(tmp_path), "facts"), {"": (0.0, (0.0, 0.001), 100_000)})
    assert [rate["corrected"] for rate in unexplained["rates"]] == ["not known"]
    assert "do not explain" in unexplained["problem"]
