r"""Draw summaries of several models for blind readers, and score what the readers say.

With --results it draws:

In:  the evaluations of all models on the same notes, each as MODEL=FOLDER or MODEL=CSV, and as MODEL@SEED=FOLDER for
     several training runs.
Out: `--output_dir` with `texts/`, which the readers get, and `key.json`, which they must not see. The texts are
     shuffled and have no names; equal summaries of one note are read once and count for all models.

With --ratings it scores:

In:  the ratings of one or more readers: `manual_assessment.json` of the rating tool, or JSONL with one rating a line,
     {"id", "hallucinated": 0 or 1, "major": 0 or 1, "completeness": 0 to 3, "unsupported": [exact words]}.
Out: `blind_reading.json` and `blind_reading.md` in `--output_dir`: rates, completeness and words of each model, paired
     differences, the agreement of the readers, and the sensitivity and specificity of the automatic judge.

    python benchmarks/blind_reading.py --results sft=runs/real/evaluation/sft dpo=runs/real/evaluation/dpo \
        --n 120 --output_dir runs/reading
    python manual_assessment_tool.py --results_csv runs/reading/texts/evaluation_results.csv \
        --blind --rate_completeness --assessor KM
    python benchmarks/blind_reading.py --ratings runs/reading/texts/manual_assessment.json --reader_kind clinician \
        --output_dir runs/reading

A JSONL file is named after its reader. Every table says what kind of reader rated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.reading_figures import reading_figures
from benchmarks.reading_ratings import Reader, load_readers
from benchmarks.reading_sample import FILE_FOR_TOOL, KEY_FILE, TEXTS_FILE, Results, draw, load_sample
from benchmarks.reading_tables import KINDS, reading_page
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import atomic_write, write_json
from script_io.provenance import commit

FIGURES_FILE, PAGE_FILE = "blind_reading.json", "blind_reading.md"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    drawing = parser.add_argument_group("Draw")
    drawing.add_argument(
        "--results",
        type=_results,
        nargs="+",
        metavar="MODEL=PATH",
        help="evaluations to draw from: MODEL=PATH, or MODEL@SEED=PATH for each of several training runs; PATH is a "
        "folder of evaluate_model.py or its evaluation_results.csv (default: none, score ratings)",
    )
    drawing.add_argument("--n", type=at_least(1), default=120, help="number of notes to draw, the same for all models")
    scoring = parser.add_argument_group("Score")
    scoring.add_argument(
        "--ratings",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="ratings of the drawn texts: files of manual_assessment_tool.py (.json, all assessors in it) or JSONL, "
        "one file per reader (default: none, draw texts)",
    )
    scoring.add_argument(
        "--reader_kind", choices=list(KINDS), help="who rated; every table says so (default: none, needed to score)"
    )
    scoring.add_argument(
        "--allow_missing", action="store_true", help="leave texts out that a reader did not rate, instead of refusing"
    )
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir", type=Path, default=Path("runs/reading"), help="folder of the drawn texts, key and figures"
    )
    output.add_argument("--seed", type=at_least(0), default=42, help="seed of the draw, and of the resamples")
    return parser.parse_args(argv)


def _results(text: str) -> Results:
    """Convert one value of --results. Raises ArgumentTypeError."""
    try:
        return Results.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: write MODEL=PATH or MODEL@SEED=PATH") from error


def draw_texts(args: argparse.Namespace) -> None:
    """Draw the texts and say where they are."""
    count = draw(args.results, args.n, args.seed, args.output_dir)
    summaries = args.n * len(args.results)
    print(f"{args.n} notes, {summaries} summaries, {count} different texts: {args.output_dir / TEXTS_FILE}")
    print(f"Keep {args.output_dir / KEY_FILE} from the readers. It says which model wrote which text.")
    tool = "python manual_assessment_tool.py --blind --rate_completeness"
    print(f"To rate them in a terminal: {tool} --results_csv {args.output_dir / FILE_FOR_TOOL}")


def score(args: argparse.Namespace) -> None:
    """Score the ratings, write the figures, and print the page."""
    if args.reader_kind is None:
        raise InputError("--reader_kind: say who rated; choose clinician or 'language model'")
    sample = load_sample(args.output_dir)
    readers = load_readers(args.ratings, sample, allow_missing=args.allow_missing)
    figures = {
        "reader_kind": args.reader_kind,
        "dialogues": sample.index.shape[-1],
        "texts": len(sample.ids),
        "models": sample.models,
        "seeds": sample.seeds,
        "missing_ratings": {reader.name: reader.missing for reader in readers},
        **reading_figures(sample, readers, args.seed),
        "commit": commit(),
    }
    write_json(args.output_dir / FIGURES_FILE, figures)
    page = reading_page(figures)
    with atomic_write(args.output_dir / PAGE_FILE) as handle:
        handle.write(page)
    print(page)
    for reader in readers:
        print("".join(_remarks(reader)), end="")
    print(f"Saved {args.output_dir / FIGURES_FILE} and {PAGE_FILE}")


def _remarks(reader: Reader) -> list[str]:
    """Return what a reader's file holds that does not count."""
    counts = {
        "texts lack a rating and are left out": reader.missing,
        "ratings do not count: another text, or not blind": reader.other_texts,
        "quoted statements are not in their summary; they change no figure": reader.misquoted,
    }
    return [f"{reader.name}: {count} {what}\n" for what, count in counts.items() if count]


def main(args: argparse.Namespace) -> int:
    """Draw texts or score ratings."""
    if bool(args.results) == bool(args.ratings):
        raise InputError("pass either --results, to draw texts, or --ratings, to score them")
    if args.results:
        draw_texts(args)
    else:
        score(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
