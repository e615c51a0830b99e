"""Score an evaluation on the demo's notes against the known facts.

In:  an `evaluation_results.csv` on demo notes of any split.
Out: on stdout, the figures of `evaluation_summary.json` as JSON, computed from the known facts without a fact checker.

    python demo/score_exactly.py --results_csv evaluation_results/evaluation_results.csv
    python demo/score_exactly.py --results_csv runs/demo/evaluation/dpo_greedy/evaluation_results.csv
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any working folder

from demo.exact_truth import all_facts, exact_figures
from script_io.errors import ArgumentParser, run_script


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--results_csv", type=Path, required=True, help="result file of an evaluation on demo notes (required)"
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    print(json.dumps(exact_figures(args.results_csv, all_facts()), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
