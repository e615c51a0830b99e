"""Fit the thresholds of a trained detector again, after the rules have changed or for another specificity.

In:  --judge_model, a detector's folder of judging/train_detector.py, with its `out_of_fold.jsonl`.
Out: `detector.json` in the same folder, with weights and thresholds fitted to the rules as they are now.

    python -m judging.refit_detector --judge_model models/own_judge
    python -m judging.refit_detector --judge_model models/own_judge --specificity 0.95

The detector itself stays as it is, so this takes seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from judging.detector_settings import (
    PREDICTIONS_FILE,
    SETTINGS_FILE,
    TRAIN_COMMAND,
    Prediction,
    fit_settings,
    print_settings,
)
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_json, read_jsonl, write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--judge_model", type=Path, required=True, metavar="FOLDER", help="folder of the detector to fit again"
    )
    parser.add_argument(
        "--specificity",
        type=float,
        help="share of faultless summaries, above 0 and below 1, that the thresholds leave unflagged (default: as "
        "before)",
    )
    add_lexicon_argument(parser)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Read the predictions, fit, and store."""
    add_lexicons(args.lexicon_dir)
    remedy = f"train the detector again with: {TRAIN_COMMAND}"
    settings = read_json(args.judge_model / SETTINGS_FILE, remedy)
    rows = read_jsonl(args.judge_model / PREDICTIONS_FILE, ("words", "spans", "summary_probability"), remedy)
    specificity = settings["specificity_wanted"] if args.specificity is None else args.specificity
    if not 0 < specificity < 1:
        raise InputError(f"--specificity {specificity}: give a share above 0 and below 1, such as 0.9")
    settings |= fit_settings([Prediction.from_row(row) for _, row in rows], specificity)
    write_json(args.judge_model / SETTINGS_FILE, settings)
    print_settings(settings)
    print(f"Saved {args.judge_model / SETTINGS_FILE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
