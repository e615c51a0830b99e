"""Measure whether Stage B also reduces kinds of error that none of its pairs shows, by holding two kinds out.

In:  `--run_dir`, a run of `run_pipeline.py --demo`: its Stage A, and the pairs of its first round.
Out: `--output_dir` with a model and its evaluation for each source of pairs, and `transfer.json`; a table on stdout.

    python benchmarks/transfer.py                                              # after make demo
    python benchmarks/transfer.py --run_dir runs/seeds/seed_42 --held_out frequency dose

A pair is left out if the exact truth finds an error of a held-out kind in its rejected completion, words that it cannot
parse there, or any error in its chosen completion. The remaining hard negatives (`synthetic`), on-policy pairs
(`on_policy`) and an equal mix (`both`) are cut to the same number, so every model takes the same steps. The chosen
completions are true in all three, and training on them can also reduce a kind of error that no pair shows. `control`
measures this: it is trained on the pairs of `both` without the preference term.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from demo.clinical_notes import check_summary
from demo.exact_truth import all_facts, exact_figures
from evaluation.stats import wilson_interval
from language_model.prompt_format import note_of_row
from script_io.errors import ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import read_json, read_jsonl, write_json, write_jsonl
from script_io.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"synthetic": "pairs_1/negatives/{}_dpo.jsonl", "on_policy": "pairs_1/on_policy/{}.jsonl"}
PAIR_KEYS = ("prompt", "chosen", "rejected")
REMEDY = "name a run of run_pipeline.py --demo with --run_dir"
_OF_ITS_OWN = ("--sft_model_path", "--train_data_path", "--val_data_path", "--data_weights", "--output_dir")
UNREADABLE = "unparsed"  # what the exact truth calls words that it cannot parse
Rows = list[dict[str, Any]]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", type=Path, default=Path("runs/demo"), help="folder of the pipeline's run")
    parser.add_argument(
        "--held_out",
        nargs="+",
        default=["follow_up", "certainty"],
        metavar="KIND",
        help="kinds of error to hold out (default: follow_up certainty, the most frequent ones after Stage A)",
    )
    parser.add_argument(
        "--num_epochs",
        type=at_least(1),
        default=4,
        help="epochs of Stage B; more than in the run, since there are fewer pairs",
    )
    parser.add_argument("--temperature", default="0.7", help="temperature of sampling in the evaluation")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/transfer"), help="folder to write")
    parser.add_argument("--seed", type=at_least(0), default=42, help="seed of the choice of pairs and of training")
    return parser.parse_args(argv)


def run(log: Path, script: str, *arguments: str | Path) -> None:
    """Run a script of the suite with its output going to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{log.stem}: {script}", flush=True)
    with log.open("w", encoding="utf-8") as handle:
        words = [sys.executable, str(ROOT / script), *map(str, arguments)]
        code = subprocess.run(words, stdout=handle, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise RunError(f"{script} ended with {code}; what it printed is in {log}")


def errors_in(row: dict[str, Any], side: str) -> set[str]:
    """Return the kinds of error in the chosen or rejected completion of a pair, by the exact truth."""
    facts = all_facts().get(note_of_row(row) or row["prompt"])
    if facts is None:
        raise InputError(
            f"--run_dir: {row.get('id', 'a pair')} is about no note of the demo, its exact truth is not known"
        )
    return set(check_summary(row[side], facts).errors)


def read_pairs(run_dir: Path, split: str) -> dict[str, Rows]:
    """Return the pairs of the run's first round by source."""
    files = {name: run_dir / path.format(split) for name, path in SOURCES.items()}
    return {name: [row for _, row in read_jsonl(path, PAIR_KEYS, REMEDY)] for name, path in files.items()}


def without(held_out: Iterable[str], rows: Rows) -> Rows:
    """Return the pairs whose chosen completion is true and whose rejected one shows no held-out kind of error."""
    banned = {UNREADABLE, *held_out}
    return [row for row in rows if not errors_in(row, "chosen") and not errors_in(row, "rejected") & banned]


def check_kinds(held_out: Sequence[str], sources: dict[str, Rows]) -> None:
    """Raise InputError for a kind of error that no pair of the run shows, since a typing error holds out nothing."""
    shown = set().union(*(errors_in(row, "rejected") for rows in sources.values() for row in rows))
    if unknown := [kind for kind in held_out if kind not in shown]:
        raise InputError(f"--held_out {' '.join(unknown)}: no pair shows it; there are {', '.join(sorted(shown))}")


def cut(sources: dict[str, Rows], seed: int) -> dict[str, Rows]:
    """Draw the same number of pairs from each source, and the same number of both together, half from each."""
    count = min(len(rows) for rows in sources.values()) // 2 * 2
    drawn = {name: random.Random(f"{seed}-{name}").sample(rows, count) for name, rows in sources.items()}
    halves = [rows[: count // 2] for rows in drawn.values()]
    return {**drawn, "both": [row for rows in halves for row in rows]}


def recipe_of(run_dir: Path) -> list[str]:
    """Return the flags of the run's Stage B, except for its data and folders."""
    command = read_json(run_dir / "stages" / "dpo.json", REMEDY)["command"]
    flags: list[str] = []
    keep = False
    for word in command[1:]:
        keep = word not in _OF_ITS_OWN if word.startswith("--") else keep
        flags += [word] if keep else []
    return flags


def figures_of(results_csv: Path, held_out: Sequence[str]) -> dict[str, Any]:
    """Return the rate of each held-out kind, of unreadable words and overall, with Wilson intervals."""
    figures = exact_figures(results_csv, all_facts())
    kinds = {kind: figures["by_type"].get(kind, {"summaries": 0})["summaries"] for kind in (*held_out, UNREADABLE)}
    return {
        "n": figures["n"],
        "kinds": {
            kind: {"summaries": count, "rate": count / figures["n"], "ci95": wilson_interval(count, figures["n"])}
            for kind, count in kinds.items()
        },
        "hallucination_rate": figures["hallucination_rate"],
        "hallucination_rate_ci95": figures["hallucination_rate_ci95"],
        "coverage": figures["coverage"],
        "mean_summary_words": figures["mean_summary_words"],
    }


def table(models: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table with one row per model."""
    kinds = next(iter(models.values()))["kinds"]
    lines = [f"| pairs | {' | '.join(kinds)} | hallucinated | key facts stated | n |", "|---" * (len(kinds) + 4) + "|"]
    for name, row in models.items():
        rates = [(kind["rate"], kind["ci95"]) for kind in row["kinds"].values()]
        rates.append((row["hallucination_rate"], row["hallucination_rate_ci95"]))
        cells = [f"{rate:.1%} [{low:.1%}, {high:.1%}]" for rate, (low, high) in rates]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['coverage']:.1%} | {row['n']} |")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> int:
    """Select the pairs, train and evaluate each model, and print the table."""
    sft, recipe = args.run_dir / "sft" / "final_model", recipe_of(args.run_dir)
    pairs = {split: read_pairs(args.run_dir, split) for split in ("train", "val")}
    check_kinds(args.held_out, pairs["train"])
    splits: dict[str, dict[str, Rows]] = {}
    for split in pairs:
        sources = {name: without(args.held_out, rows) for name, rows in pairs[split].items()}
        if not all(len(rows) > 1 for rows in sources.values()):
            raise InputError(
                f"--held_out {' '.join(args.held_out)}: too few {split} pairs are left; hold out fewer kinds"
            )
        splits[split] = cut(sources, args.seed)
    trained: dict[str, Path] = {"Stage A": sft}
    for name in (*splits["train"], "control"):
        folder, data = args.output_dir / name, "both" if name == "control" else name
        for split, cuts in splits.items():
            write_jsonl(folder / f"{split}.jsonl", cuts[data])
        files = ("--train_data_path", folder / "train.jsonl", "--val_data_path", folder / "val.jsonl")
        again = ("--seed", str(args.seed), "--num_epochs", str(args.num_epochs))
        last = ("--preference_weight", "0", "--nll_weight", "1") if name == "control" else ()
        own = ("--sft_model_path", sft, *files, "--output_dir", folder / "model")
        run(folder / "training.log", "stage_b_dpo_training.py", *own, *recipe, *again, *last)
        trained[name] = folder / "model" / "final_model"
    models = {}
    for name, model in trained.items():
        folder = args.output_dir / name.replace(" ", "_")
        test = ("--test_data", ROOT / "phase1_data" / "sft" / "test_set_processed.csv", "--output_dir", folder / "test")
        run(folder / "test.log", "evaluation/evaluate_model.py", "--model_path", model, *test,
            "--temperature", args.temperature, "--batch_size", "64")  # fmt: skip
        models[name] = figures_of(folder / "test" / "evaluation_results.csv", args.held_out)
    counts = {split: {name: len(rows) for name, rows in cuts.items()} for split, cuts in splits.items()}
    settings = {name: getattr(args, name) for name in ("held_out", "num_epochs", "temperature")}
    content = {**settings, "pairs": counts, "models": models}
    write_json(args.output_dir / "transfer.json", {**content, **provenance()})
    print(f"\nPairs for training: {counts['train']['both']} of each; temperature {args.temperature}; exact truth\n")
    print(table(models))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
