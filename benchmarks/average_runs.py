"""Average finished runs of `run_pipeline.py` that differ in their seed, by every judge.

In:  the output folders of the runs, each with its `results.json`.
Out: `average_runs.json` in `--output_dir`; tables on stdout, as Markdown.

    python benchmarks/average_runs.py runs/real_42 runs/real_43 runs/real_44
    python benchmarks/average_runs.py runs/real runs/real_43 --output_dir runs/two_seeds

Each mean has a 95% t interval over the seeds: it says what other seeds would give on the same test notes, and does not
cover other notes (benchmarks/blind_reading.py resamples both). Differences between models are taken within each run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.seed_means import COVERS, MODELS, Mean, as_json
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_json, write_json
from script_io.provenance import provenance

COLUMNS = {"hallucination_rate": ".1%", "coverage": ".1%", "mean_summary_words": ".1f", "repeated_rate": ".1%"}
Results = Mapping[str, Any]  # of one run
Figures = Mapping[str, Any]  # of one model in one mode by one judge


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="output folder of a finished run")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/average"), help="folder to write")
    return parser.parse_args(argv)


def figures_by_judge(results: Results, model: str, mode: str) -> Iterator[tuple[str, Figures]]:
    """Yield each judge's name and its figures of one model in one mode."""
    found = (results["control"] if model == "control" else results["models"][model])[mode]
    yield found["judge"], found
    if "exact" in found:
        yield "exact", found["exact"]
    yield from found.get("judges", {}).items()


def averages(runs: Sequence[Results], mode: str) -> dict[str, Any]:
    """Return for each judge the means of every model, and the differences of Stage B to the others."""
    models = [model for model in MODELS if model != "control" or "control" in runs[0]]
    found = {model: [dict(figures_by_judge(run, model, mode)) for run in runs] for model in models}
    return {
        judge: {
            "models": {
                model: {name: Mean.of([each[judge][name] for each in found[model]]) for name in COLUMNS}
                for model in models
            },
            "differences": {
                f"dpo less {model}": {
                    name: Mean.of(
                        [
                            dpo[judge][name] - other[judge][name]
                            for dpo, other in zip(found["dpo"], found[model], strict=True)
                        ]
                    )
                    for name in COLUMNS
                }
                for model in models
                if model != "dpo"
            },
        }
        for judge in found["dpo"][0]
    }


def table(means: Mapping[str, Any], mode: str, judge: str) -> str:
    """Return the means by one judge as a Markdown table."""
    lines = [f"| {mode}, by {judge} | hallucinated | coverage | words | repeat |", "|---|---|---|---|---|"]
    for model, row in means["models"].items():
        lines.append(f"| {model} | {' | '.join(row[name].text(form) for name, form in COLUMNS.items())} |")
    for name, row in means["differences"].items():
        lines.append(f"| {name} | {' | '.join(row[each].text(f'+{form}') for each, form in COLUMNS.items())} |")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> int:
    """Read the results of all runs, average them and write the tables."""
    runs = [read_json(folder / "results.json", "name a finished run of run_pipeline.py") for folder in args.runs]
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) != len(seeds):
        raise InputError(f"the runs have the seeds {' '.join(map(str, seeds))}; name one run of each seed")
    modes = [mode for mode in runs[0]["models"]["dpo"] if all(mode in run["models"]["dpo"] for run in runs)]
    means = {mode: averages(runs, mode) for mode in modes}
    write_json(
        args.output_dir / "average_runs.json",
        {"seeds": seeds, "ci95_covers": COVERS, "modes": as_json(means), **provenance()},
    )
    print(f"Seeds: {' '.join(map(str, seeds))}; means {COVERS}\n")
    print("\n\n".join(table(row, mode, judge) for mode in modes for judge, row in means[mode].items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
