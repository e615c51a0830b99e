"""Measure how many CPU seconds the fact checker takes on one core.

In:  nothing; notes and summaries of the demo are used, or with --pairs_csv the `clinical_note, model_summary` of a CSV.
Out: on stdout the CPU seconds for --pairs pairs (the pairs of the source repeat), and for one pair of each length in
     --words; with --output_file the same as JSON.

    python benchmarks/fact_checker_speed.py
    python benchmarks/fact_checker_speed.py --pairs_csv mts_dialog_train.csv --words 1000 10000 100000

If the time is linear, ten times the words take ten times as long. The first check, which reads the lexicons, is not
timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from demo.cases import make_cases
from fact_checking.checker import check_summary
from script_io.csv_files import read_csv
from script_io.errors import ArgumentParser, at_least, run_script
from script_io.files import write_json

TextPair = tuple[str, str]  # note, summary


def read_pairs(path: Path | None) -> list[TextPair]:
    """Read the pairs of the CSV, or make the pairs of the demo's test split."""
    if path is None:
        return [(case.note, case.summary) for case in make_cases("test")]
    return [
        (row["clinical_note"], row["model_summary"]) for _, row in read_csv(path, ("clinical_note", "model_summary"))
    ]


def seconds_for(pairs: Sequence[TextPair]) -> float:
    """Return the CPU seconds for checking the pairs; other programs affect them less than the clock."""
    start = time.process_time()
    for note, summary in pairs:
        check_summary(note, summary)
    return time.process_time() - start


def joined(texts: Sequence[str], words: int) -> str:
    """Return a text of exactly `words` words by repeating the texts one after the other."""
    tokens: list[str] = []
    for text in cycle(texts):
        tokens += text.split(" ")
        if len(tokens) >= words:
            return " ".join(tokens[:words])
    raise AssertionError("no texts")


def measure(pairs: Sequence[TextPair], count: int, lengths: Sequence[int]) -> dict[str, Any]:
    """Return the CPU seconds for `count` pairs, and for one pair of each length."""
    check_summary(*pairs[0])
    many = list(islice(cycle(pairs), count))
    note_words = sum(len(note.split()) for note, _ in many) / count
    print(f"{count} pairs, notes of {note_words:.0f} words on average: ", end="", flush=True)
    seconds = seconds_for(many)
    print(f"{seconds:.2f} s")
    by_words = {}
    for words in lengths:
        notes, summaries = ([pair[side] for pair in pairs] for side in (0, 1))
        by_words[str(words)] = round(seconds_for([(joined(notes, words), joined(summaries, words))]), 3)
        print(f"one pair of {words} words each: {by_words[str(words)]:.2f} s", flush=True)
    return {
        "pairs": count,
        "mean_note_words": round(note_words, 1),
        "cpu_seconds": round(seconds, 3),
        "cpu_seconds_by_words": by_words,
    }


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--pairs_csv", type=Path, help="CSV of notes and summaries to check (default: the demo's test split)"
    )
    data.add_argument("--pairs", type=at_least(1), default=1000, help="pairs to check")
    data.add_argument(
        "--words",
        type=at_least(1),
        nargs="+",
        default=[1000, 10_000],
        help="words of note and summary of each long pair",
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, help="JSON file for the figures (default: print only)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    figures = measure(read_pairs(args.pairs_csv), args.pairs, args.words)
    if args.output_file:
        write_json(args.output_file, figures)
        print(f"Wrote {args.output_file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
