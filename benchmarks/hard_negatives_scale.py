"""Measure the seconds and the memory that generate_phase2_data.py takes for each number of notes.

In:  nothing; synthetic notes of demo/clinical_notes.py are written to a temporary folder.
Out: a line for each size with wall and CPU seconds, triplets, and the generator's peak memory; with --output_file the
     same as JSON.

    python benchmarks/hard_negatives_scale.py --notes 1000 --adversarial_ratio 10
    python benchmarks/hard_negatives_scale.py --notes 1000 100000 --adversarial_ratio 0.1 --output_file scale.json

The memory is the peak of the largest process (`ru_maxrss`). It should not depend on the number of notes. The ratio
changes how many notes are parsed, and so the time.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from demo.clinical_notes import sample_facts, write_note, write_summary
from script_io.csv_files import write_csv
from script_io.errors import ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import read_json, write_json
from script_io.phase1_csv import FACTUAL, REQUIRED_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
KIB_PER_RSS_UNIT = 1 / 1024 if sys.platform == "darwin" else 1  # macOS reports bytes, Linux KiB


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--notes", type=at_least(1), nargs="+", default=[1000], help="training notes; one run for each number"
    )
    parser.add_argument("--adversarial_ratio", type=float, default=1.0, help="ratio of negatives to factual summaries")
    parser.add_argument("--num_workers", type=at_least(1), default=1, help="processes of the generator")
    parser.add_argument("--seed", type=at_least(0), default=42, help="seed of the notes and of the negatives")
    parser.add_argument("--output_file", type=Path, help="JSON file for the figures (default: none)")
    return parser.parse_args(argv)


def write_phase1(folder: Path, notes: int, seed: int) -> None:
    """Write two CSV files with `notes` training rows and ten validation rows, row by row."""
    columns = ("id", *REQUIRED_COLUMNS)
    rng = random.Random(f"{seed}|scale")
    for split, count in (("train", notes), ("validation", 10)):
        patients = ((index, sample_facts(rng, split)) for index in range(count))
        rows = ((f"{split}-{i}", write_note(facts, rng), write_summary(facts, rng), FACTUAL) for i, facts in patients)
        path = folder / f"{split}_set_processed.csv"
        write_csv(path, columns, (dict(zip(columns, row, strict=True)) for row in rows))


def measure(notes: int, ratio: float, num_workers: int, seed: int) -> dict[str, Any]:
    """Run the generator in a process of its own. Raises RunError with its last line if it fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phase1(folder, notes, seed)
        command = [sys.executable, str(ROOT / "generate_phase2_data.py"), "--phase1_dir", name, "--seed", str(seed)]
        command += ["--phase2_dir", str(folder / "out"), "--adversarial_ratio", str(ratio)]
        command += ["--num_workers", str(num_workers)]
        with open(folder / "log", "w+", encoding="utf-8") as log:
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                raise RunError(f"generate_phase2_data.py failed: {log.read().strip().splitlines()[-1:]}")
        stats = read_json(folder / "out" / "phase2_stats.json")
    triplets = sum(stats[split]["triplets"] for split in ("train", "validation"))
    return {
        "notes": notes,
        "adversarial_ratio": ratio,
        "num_workers": num_workers,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "triplets": triplets,
        "triplets_per_second": round(triplets / seconds, 1),
        "peak_rss_mib": round(usage.ru_maxrss * KIB_PER_RSS_UNIT / 1024, 1),
    }


def main(args: argparse.Namespace) -> int:
    """Run the generator for each size and print each result as soon as it is known."""
    if not 0 < args.adversarial_ratio < math.inf:
        raise InputError(f"--adversarial_ratio {args.adversarial_ratio}: give a number above 0")
    runs = []
    columns = ("notes", "seconds", "cpu_seconds", "triplets", "triplets_per_second", "peak_rss_mib")
    print("".join(f"{column:>21}" for column in columns))
    for notes in args.notes:
        found = measure(notes, args.adversarial_ratio, args.num_workers, args.seed)
        runs.append(found)
        print("".join(f"{found[column]:21}" for column in columns), flush=True)
    if args.output_file:
        write_json(args.output_file, {"python": sys.version.split()[0], "seed": args.seed, "runs": runs})
        print(f"Wrote {args.output_file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
