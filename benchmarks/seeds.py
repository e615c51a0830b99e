"""Run the demo's whole chain with several seeds, and average the results.

In:  nothing; the base model and the data of `run_pipeline.py --demo` are used.
Out: `--output_dir` with the folder of each seed as the pipeline writes it, and `seeds.json`; a table on stdout.

    python benchmarks/seeds.py --seeds 42 43 44 45 46 --output_dir runs/seeds --parallel 2
    python benchmarks/seeds.py --small --require    # one seed, little data, no control: does Stage B do anything?

To continue a run that was stopped, repeat the command: the pipeline skips the stages that have finished. Each mean has
a 95% t interval over the seeds: it says what other seeds would give on the same test notes, and does not cover other
notes. Differences between models are taken within each seed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.seed_means import COVERS, MODELS, Mean, as_json
from evaluation.acceptance import SMALL_BOUNDS, Bounds, Check, acceptance, is_accepted, reduction, verdict
from language_model.placement import DEVICES
from script_io.errors import EXIT_FAILED, ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import read_json, write_json
from script_io.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
SEEDS = [42, 43, 44, 45, 46]
HIGHEST_RATE = 0.08  # the interval of Stage B's hallucination rate must end below it
Figures = dict[str, Any]  # of one model in one mode, as in evaluation_summary.json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=at_least(0),
        help="seeds, one run for each (default: 42 43 44 45 46; with --small 42)",
    )
    parser.add_argument("--small", action="store_true", help="run the pipeline with --small: less data, looser bounds")
    parser.add_argument("--rounds", type=at_least(1), default=1, help="rounds of sampling, judging and Stage B")
    parser.add_argument("--parallel", type=at_least(1), default=1, help="runs at a time; they share the cores")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="device, passed to the pipeline")
    parser.add_argument(
        "--output_dir", type=Path, help="folder to write (default: runs/seeds; with --small runs/seeds_small)"
    )
    parser.add_argument("--require", action="store_true", help="return exit code 1 if a bound does not hold")
    return parser.parse_args(argv)


def run_seed(args: argparse.Namespace, seed: int, folder: Path) -> None:
    """Run the pipeline with one seed; its output goes to pipeline.log in the folder."""
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "--demo", "--no_base", "--seed", str(seed)]
    command += ["--rounds", str(args.rounds), "--device", args.device, "--output_dir", str(folder)]
    command += ["--small"] if args.small else []
    environment = dict(os.environ)
    if args.parallel > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.parallel)))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "pipeline.log"
    print(f"seed {seed}: running, see {log}", flush=True)
    with log.open("w", encoding="utf-8") as handle:
        code = subprocess.run(command, stdout=handle, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code:
        raise RunError(f"seed {seed}: run_pipeline.py ended with {code}; what it printed is in {log}")
    print(f"seed {seed}: done", flush=True)


# --------------------------------------------------------------------------------------- over the seeds


def figures_of(results: Mapping[str, Any], model: str, mode: str, *, exact: bool = True) -> Figures:
    """Return the figures of one model in one mode, by the exact truth or by the fact checker."""
    found = (results["control"] if model == "control" else results["models"][model])[mode]
    chosen: Figures = found["exact"] if exact else found
    return chosen


def over_seeds(runs: Sequence[Mapping[str, Any]], mode: str, preferences: Sequence[float]) -> dict[str, Any]:
    """Return all means of one mode.

    `preferences` are the shares of validation pairs whose chosen completion Stage B prefers at the end, one per seed.
    """
    models = [model for model in MODELS if model != "control" or "control" in runs[0]]
    figures = {model: [figures_of(run, model, mode) for run in runs] for model in models}
    rates = {model: [each["hallucination_rate"] for each in figures[model]] for model in models}
    columns: dict[str, Any] = {
        model: {
            "hallucination_rate": Mean.of(rates[model]),
            "hallucination_rate_by_checker": Mean.of(
                [figures_of(run, model, mode, exact=False)["hallucination_rate"] for run in runs]
            ),
            "coverage": Mean.of([each["coverage"] for each in figures[model]]),
            "mean_summary_words": Mean.of([each["mean_summary_words"] for each in figures[model]]),
        }
        for model in models
    }
    columns["dpo"]["chosen_preference"] = Mean.of(preferences)
    reductions = [reduction(*pair) for pair in zip(rates["sft"], rates["dpo"], strict=True)]
    known = [value for value in reductions if value is not None]
    differences = {f"dpo_minus_{model}": _difference(rates["dpo"], rates[model]) for model in models if model != "dpo"}
    return {
        "models": columns,
        "reduction": Mean.of(known) if len(known) == len(reductions) else None,
        **differences,
    }


def _difference(first: Sequence[float], second: Sequence[float]) -> Mean:
    return Mean.of([one - other for one, other in zip(first, second, strict=True)])


def bounds_of(means: Mapping[str, Any], bounds: Bounds) -> list[Check]:
    """Check the means against the bounds.

    With intervals, the upper end of Stage B's rate must also be low, and Stage B's rate must be below the control's.
    """
    mean_figures = {
        model: {name: column.mean for name, column in means["models"][model].items()} for model in ("sft", "dpo")
    }
    of_means = acceptance(mean_figures["sft"], mean_figures["dpo"], bounds)
    lowered = means["reduction"].mean if means["reduction"] else None
    checks = [Check("mean reduction of the hallucination rate", lowered, bounds.reduction), *of_means[1:]]
    upper = means["models"]["dpo"]["hallucination_rate"].ci95
    apart = means["dpo_minus_control"].ci95 if "dpo_minus_control" in means else None
    if upper and apart:
        checks.append(Check("upper end of Stage B's rate", upper[1], at_most=HIGHEST_RATE))
        checks.append(Check("upper end of Stage B's rate less the control's", apart[1], below=0.0))
    return checks


def table(means: Mapping[str, Any], mode: str) -> str:
    """Return the means of one mode as a Markdown table."""
    lines = [
        f"| {mode} | hallucinated, exact truth | by the checker | key facts stated | words |",
        "|---|---|---|---|---|",
    ]
    for model, row in means["models"].items():
        shares = " | ".join(
            row[key].text() for key in ("hallucination_rate", "hallucination_rate_by_checker", "coverage")
        )
        lines.append(f"| {MODELS[model]} | {shares} | {row['mean_summary_words'].text('.1f')} |")
    for key, name in (("dpo_minus_sft", "Stage B less Stage A"), ("dpo_minus_control", "Stage B less control")):
        if key in means:
            lines.append(f"| {name} | {means[key].text('+.1%')} | | | |")
    if means["reduction"]:
        lines.append(f"| reduction by Stage B | {means['reduction'].text()} | | | |")
    return "\n".join(lines)


def last_preference(folder: Path) -> float:
    """Return the share of validation pairs whose chosen completion Stage B prefers after its last epoch."""
    share: float = read_json(folder / "dpo" / "dpo_training_stats.json")["epochs"][-1]["val_chosen_preference"]
    return share


def main(args: argparse.Namespace) -> int:
    """Run every seed, then average the results."""
    seeds = args.seeds or SEEDS[: 1 if args.small else None]
    if len(set(seeds)) != len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: the same seed gives the same run; name each once")
    output = args.output_dir or Path("runs/seeds_small" if args.small else "runs/seeds")
    folders = [output / f"seed_{seed}" for seed in seeds]
    if args.parallel == 1:
        for seed, folder in zip(seeds, folders, strict=True):
            run_seed(args, seed, folder)
    else:
        with ThreadPoolExecutor(args.parallel) as pool:
            list(pool.map(run_seed, [args] * len(seeds), seeds, folders))
    runs = [read_json(folder / "results.json") for folder in folders]
    preferences = [last_preference(folder) for folder in folders]
    headline: str = runs[0]["headline"]
    modes = [mode for mode in runs[0]["models"]["dpo"] if mode != headline] + [headline]
    means = {mode: over_seeds(runs, mode, preferences) for mode in modes}
    checks = bounds_of(means[headline], SMALL_BOUNDS if args.small else Bounds())
    content = {
        "seeds": seeds,
        "headline": headline,
        "bounds": [check.as_dict() for check in checks],
        "all_bounds_hold": is_accepted(checks),
        "ci95_covers": COVERS,
        "modes": as_json(means),
        **provenance(),
    }
    write_json(output / "seeds.json", content)
    print(f"\nSeeds: {' '.join(map(str, seeds))}; means {COVERS}; {output / 'seeds.json'}\n")
    print("\n\n".join(table(means[mode], mode) for mode in modes))
    preference = means[headline]["models"]["dpo"]["chosen_preference"]
    print(f"\nChosen preference in validation after the last epoch: {preference.text()}")
    print(f"Bounds on {headline}: {verdict(checks)}")
    return EXIT_FAILED if args.require and not is_accepted(checks) else 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
