"""The simulation of the stopping rule: where a rule decides, when a run ends, and which decisions are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.stopping_rule import RULES, Boundaries, boundaries, figures, main, measure, outcomes, parse_args, table
from script_io.files import read_json


@pytest.mark.parametrize("name", RULES)
def test_boundaries_are_where_the_rule_changes_its_answer(name: str) -> None:
    limits = boundaries(RULES[name], 40)
    assert limits.under[:9].tolist() == [-1] * 9  # nothing is decided on fewer than 10 ratings
    assert limits.over[:9].tolist() == list(range(2, 11))
    for rated in range(10, 41):
        under, over = limits.under[rated - 1], limits.over[rated - 1]
        expected = ["under" if k <= under else "over" if k >= over else None for k in range(rated + 1)]
        assert [RULES[name](k, rated) for k in range(rated + 1)] == expected


def test_boundaries_by_hand() -> None:
    # as worked out for the decision: 6 of 10 is over, 0 of 32 under and 0 of 31 open
    limits = boundaries(RULES["confidence sequence"], 32)
    assert limits.over[9] == 6
    assert limits.under[30:].tolist() == [-1, 0]
    # Wilson: 0 of n is 0 to z^2 / (n + z^2), under 15% from n = 22 on; 4 of 10 is 16.8% to 68.7%, 3 of 10 from 10.8% on
    limits = boundaries(RULES["Wilson interval"], 22)
    assert limits.under[20:].tolist() == [-1, 0]
    assert limits.over[9] == 4


def test_a_run_ends_at_its_first_decision() -> None:
    limits = Boundaries(np.array([-1, 0, 0, 1], np.int32), np.array([2, 2, 3, 4], np.int32))
    counts = np.array(
        [
            [0, 0, 1, 1],  # under after 2
            [1, 2, 2, 2],  # over after 2
            [1, 1, 2, 3],  # never
            [0, 1, 1, 1],  # under after 4
        ],
        np.int32,
    )
    decisions, ratings = outcomes(counts, limits)
    assert decisions.tolist() == [-1, 1, 0, -1]
    assert ratings.tolist() == [2, 2, 5, 4]


def test_which_decisions_are_wrong_and_the_median() -> None:
    decisions, ratings = np.array([1, -1, 0, 1, 0], np.int8), np.array([10, 12, 101, 20, 101])
    found = {share: figures(decisions, ratings, share, 100) for share in (0.10, 0.15, 0.20)}
    assert [found[share]["wrong"]["count"] for share in found] == [2, 3, 1]
    assert found[0.15]["over"]["count"] == 2
    assert found[0.15]["median_ratings"] == 20
    assert figures(decisions[2:], ratings[2:], 0.15, 100)["median_ratings"] is None  # more than half are undecided


def test_only_the_confidence_sequence_survives_a_look_after_every_rating() -> None:
    found = measure(runs=2000, max_ratings=300, seed=1)
    wilson, sequence = found["Wilson interval"], found["confidence sequence"]
    assert wilson["0.15"]["wrong"]["ci95"][0] > 0.2
    assert sequence["0.15"]["wrong"]["ci95"][1] < 0.05
    for share in ("0.05", "0.1", "0.2", "0.3", "0.5"):
        assert sequence[share]["wrong"]["share"] < 0.01
    for share, most in (("0.05", 80), ("0.3", 60), ("0.5", 15)):
        assert sequence[share]["median_ratings"] <= most
    assert "confidence sequence         50%     100.0%       0.0%" in table(found, 300)


def test_the_figures_are_written_and_depend_on_the_seed_only(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        arguments = f"--runs 50 --max_ratings 30 --seed {seed} --output_file {tmp_path}/{name}.json"
        assert main(parse_args(arguments.split())) == 0
    first, second, third = (read_json(tmp_path / f"{name}.json") for name in "abc")
    assert first == second
    assert first["rules"] != third["rules"]
    assert (first["runs"], first["max_ratings"], first["seed"], first["threshold"]) == (50, 30, 3, 0.15)
