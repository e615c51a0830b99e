"""Simulate an assessor who checks the decision of manual_assessment_tool.py after every rating.

In:  nothing. Each run draws up to --max_ratings independent ratings with a fixed true share of hallucinated summaries.
Out: a table on stdout: for each true share and two rules the runs that decide "over 15%" and "under 15%", and the
     median ratings to decide. With --output_file the same figures as JSON. Both rules see the same ratings.

    python benchmarks/stopping_rule.py --output_file stopping_rule.json
    python benchmarks/stopping_rule.py --runs 2000 --max_ratings 500 --seed 7

The rules: `confidence sequence` is the rule of the tool. `Wilson interval` decides as soon as 15% is outside the 95%
Wilson interval, which is valid for one look only. Neither decides on fewer than 10 ratings.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from assessment.confidence_sequence import Side, side_of
from assessment.report import FEWEST_RATINGS, THRESHOLD
from benchmarks.shares import share
from evaluation.stats import Z95, wilson_interval
from script_io.errors import ArgumentParser, at_least, run_script
from script_io.files import write_json

TRUE_SHARES = (0.05, 0.10, 0.15, 0.20, 0.30, 0.50)
Rule = Callable[[int, int], Side | None]  # hallucinated, rated -> decision


def by_wilson_interval(hallucinated: int, rated: int) -> Side | None:
    low, high = wilson_interval(hallucinated, rated)
    return "over" if low > THRESHOLD else "under" if high < THRESHOLD else None


def by_confidence_sequence(hallucinated: int, rated: int) -> Side | None:
    return side_of(THRESHOLD, hallucinated, rated)


RULES: dict[str, Rule] = {"Wilson interval": by_wilson_interval, "confidence sequence": by_confidence_sequence}


class Boundaries(NamedTuple):
    """For each number of ratings from 1 on, the counts of hallucinated summaries that decide; (max_ratings,) each."""

    under: NDArray[np.int32]  # decides at this count or a lower one; -1 if none does
    over: NDArray[np.int32]  # decides at this count or a higher one; more than the ratings if none does


def boundaries(rule: Rule, max_ratings: int) -> Boundaries:
    """Find the counts at which the rule decides. Above a count that decides "over", all do; below "under", all do."""

    def lowest_count(rated: int, is_reached: Callable[[Side | None], bool]) -> int:
        def reaches(count: int) -> bool:
            return is_reached(rule(count, rated) if rated >= FEWEST_RATINGS else None)

        return bisect_left(range(rated + 1), True, key=reaches)

    numbers = range(1, max_ratings + 1)
    under = [lowest_count(rated, lambda side: side != "under") - 1 for rated in numbers]
    over = [lowest_count(rated, lambda side: side == "over") for rated in numbers]
    return Boundaries(np.array(under, np.int32), np.array(over, np.int32))


def outcomes(hallucinated: NDArray[np.int32], limits: Boundaries) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return for each run the decision and the ratings it took, for (runs, max_ratings) running counts.

    The decision is 1 for over, -1 for under and 0 for none. Runs without a decision take max_ratings + 1 ratings.
    """
    runs, max_ratings = hallucinated.shape
    decisions = (hallucinated >= limits.over).astype(np.int8) - (hallucinated <= limits.under)
    first = np.where(decisions.any(axis=1), (decisions != 0).argmax(axis=1), max_ratings)
    padded = np.column_stack([decisions, np.zeros(runs, np.int8)])
    return padded[np.arange(runs), first], first + 1


def figures(decisions: NDArray[np.int8], ratings: NDArray[np.int64], true_share: float, most: int) -> dict[str, Any]:
    """Return decisions, wrong decisions and ratings to decide. At the threshold itself every decision is wrong."""
    over, under = decisions > 0, decisions < 0
    wrong = over | under if true_share == THRESHOLD else under if true_share > THRESHOLD else over
    margin = min(0.5, Z95 / 2 / math.sqrt(len(ratings)))  # half-width of the 95% interval of the median's rank
    middle, low, high = np.quantile(ratings, [0.5, 0.5 - margin, 0.5 + margin], method="inverted_cdf").tolist()
    return {
        "wrong": share(wrong.tolist()),
        "over": share(over.tolist()),
        "under": share(under.tolist()),
        "median_ratings": middle if middle <= most else None,
        "median_ratings_ci95": [end if end <= most else None for end in (low, high)],
    }


def measure(runs: int, max_ratings: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return {rule: {true share: figures}}."""
    limits = {name: boundaries(rule, max_ratings) for name, rule in RULES.items()}
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {name: {} for name in RULES}
    for true_share in TRUE_SHARES:
        drawn = rng.random((runs, max_ratings), dtype=np.float32) < true_share
        hallucinated = drawn.cumsum(axis=1, dtype=np.int32)
        for name in RULES:
            decisions, ratings = outcomes(hallucinated, limits[name])
            found[name][str(true_share)] = figures(decisions, ratings, true_share, max_ratings)
    return found


def table(found: dict[str, dict[str, Any]], max_ratings: int) -> str:
    """Return one line per rule and true share."""
    lines = ["rule                 true share   over 15%  under 15%   wrong (95% interval)      median ratings"]
    for name, by_share in found.items():
        for true_share, row in by_share.items():
            low, high = row["wrong"]["ci95"]
            median = row["median_ratings"] or f"> {max_ratings}"
            lines.append(
                f"{name:20} {float(true_share):10.0%} {row['over']['share']:10.1%} {row['under']['share']:10.1%}"
                f"   {row['wrong']['share']:5.1%} ({low:5.1%} to {high:5.1%}) {median:>15}"
            )
    return "\n".join(lines)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    simulation = parser.add_argument_group("Simulation")
    simulation.add_argument("--runs", type=at_least(1), default=10_000, help="number of simulated runs per true share")
    simulation.add_argument(
        "--max_ratings",
        type=at_least(FEWEST_RATINGS),
        default=2000,
        help="number of ratings after which a run ends without a decision",
    )
    simulation.add_argument("--seed", type=at_least(0), default=42, help="seed of the random ratings")
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, help="JSON file to write the figures to (default: print only)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Simulate, print and write."""
    found = measure(args.runs, args.max_ratings, args.seed)
    print(table(found, args.max_ratings))
    if args.output_file:
        settings = {"threshold": THRESHOLD, "runs": args.runs, "max_ratings": args.max_ratings, "seed": args.seed}
        write_json(args.output_file, {**settings, "rules": found})
        print(f"Wrote {args.output_file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
