r"""Rate summaries in a terminal, and decide whether the model needs Stage B.

In:  an `evaluation_results.csv` with the columns example_id, clinical_note and generated_summary. The reference summary
     and the automatic verdict are shown if the file has them. With --blind, the results of any number of models on the
     same notes: their summaries are mixed, so that nobody can tell which model wrote which.
Out: `manual_assessment.json` (all ratings, saved after every answer) and `assessment_report.txt`, both next to the
     first CSV. The same command started again continues with the first summary that has no rating.

    python manual_assessment_tool.py --results_csv evaluation_results/evaluation_results.csv
    python manual_assessment_tool.py --blind --assessor KM --rate_completeness \
        --results_csv sft/evaluation_results.csv dpo/evaluation_results.csv control/evaluation_results.csv

The question is whether the summary contains a hallucination: y if it states something that the note does not support,
n if it does not. An omission can be noted, but never counts as a hallucination. --rate_completeness also asks how many
of the note's important facts each summary states, from 0 (none) to 3 (all).

Decision: go on to Stage B if over 15% of the model's summaries are hallucinated; the model is ready if under 15% are.
The tool decides once a 95% confidence sequence lies wholly on one side of 15% (assessment/confidence_sequence.py).
This interval stays valid however often you look, so you may stop as soon as the report decides: the risk of a wrong
decision at any look is at most 5%, if the rated summaries are a random sample of the model's. Until then, or with
fewer than 10 summaries rated, the report says "undecided", on which side of 15% the share lies so far, and about how
many more ratings will probably decide. The Wilson interval in the report describes the ratings so far; it decides
nothing.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from assessment.examples import choose_examples, load_sources
from assessment.questions import say
from assessment.ratings import RatingBook
from assessment.report import progress, report
from assessment.session import Session
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import atomic_write

DEFAULT_ASSESSOR = "assessor"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--results_csv",
        type=Path,
        nargs="+",
        required=True,
        metavar="CSV",
        help="evaluation_results.csv with the summaries to rate; with --blind any number of files, one per model",
    )
    data.add_argument(
        "--start_idx",
        type=int,
        default=0,
        help="number of the first example to rate, counted from 0 in the order of the file, or in the shuffled order "
        "of --blind",
    )
    data.add_argument(
        "--max_examples",
        type=int,
        help="number of examples to rate, from --start_idx on; with several files, one example is a note with the "
        "summaries of all models (default: all)",
    )
    rating = parser.add_argument_group("Rating")
    rating.add_argument(
        "--assessor",
        default=DEFAULT_ASSESSOR,
        help="name to store the ratings under; every named assessor rates the same examples in a different order, and "
        f"the report gives the agreement between assessors (default: {DEFAULT_ASSESSOR}, in the order of the file)",
    )
    rating.add_argument(
        "--blind",
        action="store_true",
        help="show only the note and the summary: no model, id, automatic verdict or reference; examples are shuffled "
        "in the same way for everybody, so that --max_examples takes a random sample (default: off)",
    )
    rating.add_argument(
        "--rate_completeness",
        action="store_true",
        help="after each verdict ask how many important facts of the note the summary states, from 0 (none) to 3 "
        "(all); also asked for ratings that were given without it (default: off)",
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Run one session. The report is written however the session ends."""
    assessor = args.assessor.strip()
    if not assessor:
        raise InputError("--assessor: the name is empty; pass a name or leave the flag out")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a Windows console may lack a character of the note
    with suppress(ImportError):  # Windows has no readline, and its own line editing
        import readline  # lets input() edit long lines and read a paste of several lines as one answer

        readline.set_auto_history(False)  # the arrow keys must not bring back the answer to another question
    sources = load_sources(args.results_csv, blind=args.blind)
    examples = choose_examples(
        sources,
        assessor,
        blind=args.blind,
        start=args.start_idx,
        count=args.max_examples,
        own_order=assessor != DEFAULT_ASSESSOR or len(sources) > 1,
    )
    folder = args.results_csv[0].parent
    book = RatingBook(folder / "manual_assessment.json")
    session = Session(
        examples,
        book,
        assessor,
        blind=args.blind,
        mixed=len(sources) > 1,
        rate_completeness=args.rate_completeness,
    )
    rated = sum(session.is_done(session.rating_of(example)) for example in examples)
    say(f"{len(examples)} summaries, {rated} of them rated already. ? explains the keys.")
    try:
        session.run()
    finally:
        book.refresh()
        text = report(sources, book.ratings.values())
        with atomic_write(folder / "assessment_report.txt") as handle:
            handle.write(text)
        if args.blind:  # an assessor who may continue must not see the models' names or other ratings
            print("\n" + progress(examples, book.ratings.values(), assessor, mixed=session.mixed))
            say("assessment_report.txt names the models. Read it only after rating everything.")
        else:
            print(f"\n{text}\nReport: {folder / 'assessment_report.txt'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
