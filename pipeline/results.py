"""What a run of the chain says at its end: a table of all models, the verdict, and `results.json`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demo.recipes import HEADLINE
from evaluation.acceptance import Check, acceptance, is_accepted, verdict
from pipeline.runner import Pipeline
from pipeline.stages import MODES
from script_io.files import write_json
from script_io.provenance import provenance

Figures = dict[str, Any]  # of one model in one mode


def best_truth(figures: Figures) -> Figures:
    """Return the figures by the exact truth if there are any, else the figures of the judge."""
    exact: Figures = figures.get("exact", figures)
    return exact


def table(models: Mapping[str, Mapping[str, Figures]], mode: str) -> str:
    """Return an aligned table of all models in one mode, by the exact truth if it is known."""
    return table_of({name: best_truth(figures[mode]) for name, figures in models.items()}, mode)


def further_tables(models: Mapping[str, Mapping[str, Figures]], mode: str) -> list[str]:
    """Return one table for each further judge of the recipe."""
    judges = next(iter(models.values()))[mode].get("judges", {})
    return [table_of({name: models[name][mode]["judges"][judge] for name in models}, mode) for judge in judges]


def table_of(rows: Mapping[str, Figures], mode: str) -> str:
    """Return an aligned table of the figures of each model, all by the same judge."""
    judge = next(iter(rows.values()))["judge"]
    lines = [
        f"{mode}, temperature {MODES[mode]}, judged by {'exact truth' if judge == 'exact' else judge}",
        f"{'model':<8}  {'hallucination rate [95% CI]':<28}  {'facts correctly stated':<23}  {'words':>5}  {'n':>5}",
    ]
    for name, row in rows.items():
        low, high = row["hallucination_rate_ci95"]
        rate = f"{row['hallucination_rate']:.1%} [{low:.1%}, {high:.1%}]"
        coverage = "n/a" if row["coverage"] is None else f"{row['coverage']:.1%}"
        lines.append(f"{name:<8}  {rate:<28}  {coverage:<23}  {row['mean_summary_words']:>5.1f}  {row['n']:>5}")
    return "\n".join(lines)


def acceptance_line(mode: str, checks: Sequence[Check]) -> str:
    """Return for example `accepted: no: coverage 31.2%, at least 97.3% asked`; only the headline mode decides."""
    return f"accepted: {verdict(checks)}" if mode == HEADLINE else f"by the same bounds: {verdict(checks)}"


def write_results(
    pipeline: Pipeline, figures: Mapping[str, Mapping[str, Figures]], checks: Mapping[str, Sequence[Check]]
) -> None:
    """Write `results.json`: the figures of all models, the checks of each mode, and what was run with what."""
    results: dict[str, Any] = {
        "seed": pipeline.args.seed,
        "headline": HEADLINE,
        "accepted": is_accepted(checks[HEADLINE]),
        "acceptance": {mode: [check.as_dict() for check in checks[mode]] for mode in checks},
        "models": {name: figures[name] for name in figures if name != "control"},
    }
    if "control" in figures:
        results["control"] = figures["control"]
    stages = {"stages": pipeline.seconds, "stage_commits": pipeline.commits}
    write_json(pipeline.folder / "results.json", {**results, **stages, **provenance()})


def report(pipeline: Pipeline, figures: Mapping[str, Mapping[str, Figures]], page: Path) -> bool:
    """Write and print the results of a run, whose comparison is in `page`; return whether Stage B is accepted."""
    recipe, folder = pipeline.recipe, pipeline.folder
    checks = {
        mode: acceptance(best_truth(figures["sft"][mode]), best_truth(figures["dpo"][mode]), recipe.bounds)
        for mode in recipe.modes
    }
    write_results(pipeline, figures, checks)
    print(f"\nResults: {folder / 'results.json'}; {(time.perf_counter() - pipeline.start) / 60:.1f} minutes")
    print(f"See them: {folder / 'evaluation' / f'dpo_{next(iter(checks))}' / 'report.html'}; side by side: {page}\n")
    parts = [
        part
        for mode in checks
        for part in (*further_tables(figures, mode), f"{table(figures, mode)}\n{acceptance_line(mode, checks[mode])}")
    ]
    print("\n\n".join(parts))
    return is_accepted(checks[HEADLINE])
