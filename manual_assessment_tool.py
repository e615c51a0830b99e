r"""Rate summaries in a terminal or a browser, and decide whether the model needs Stage B.

In:  an `evaluation_results.csv` with the columns example_id, clinical_note and generated_summary, or the results of any
     number of models on the same notes: their summaries are mixed, so that nobody can tell which model wrote which.
Out: `manual_assessment.json` (all ratings, saved after every answer), `manual_assessment.csv` (the same as a table) and
     `assessment_report.txt`, all next to the first CSV. The same command started again continues with the first summary
     that has no rating.

    python manual_assessment_tool.py --results_csv evaluation_results/evaluation_results.csv
    python manual_assessment_tool.py --assessor KM --rate_completeness \
        --results_csv sft/evaluation_results.csv dpo/evaluation_results.csv control/evaluation_results.csv
    python manual_assessment_tool.py --serve --assessor KM --results_csv evaluation_results/evaluation_results.csv

The question is whether the summary contains a hallucination: y if it states something that the note does not support,
n if it does not. An omission can be noted, but never counts as a hallucination. --rate_completeness also asks how many
of the note's important facts each summary states, from 0 (none) to 3 (all). Rating is blind unless --show_verdicts is
given: no id, reference or automatic verdict is on the screen, and the order is random. What is answered about a
summary after its verdict was shown is not blind, also in a later session.

A key needs no Enter, and y 3 marks phrase 3 of the summary. On a dumb terminal (TERM=dumb, as for a screen reader) or
with a pipe, the tool asks line by line instead.

Several assessors may rate the same summaries. The majority decides. A draw is in no figure until a third person
settles it with --adjudicate, which shows the drawn summaries with the ratings so far.

Decision: go on to Stage B if over 15% of the model's summaries are hallucinated; the model is ready if under 15% are.
The tool decides once a 95% confidence sequence lies wholly on one side of 15% (assessment/confidence_sequence.py).
This interval stays valid however often you look, so you may stop as soon as the report decides: the risk of a wrong
decision at any look is at most 5%, if the rated summaries are a random sample of the model's. Until then, or with
fewer than 10 summaries rated, the report says "undecided", on which side of 15% the share lies so far, and about how
many more ratings will probably decide. A model whose rated summaries are mostly empty is never called ready. The Wilson
interval in the report describes the ratings so far; it decides nothing. If a file has several summaries of a note, both
intervals allow for their likeness, and ratings are counted in notes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from assessment.desk import Desk
from assessment.examples import Example, Source, choose_examples, load_sources
from assessment.export import write_ratings_csv
from assessment.key_terminal import ask_with_keys, takes_single_keys
from assessment.questions import say
from assessment.ratings import Rating, RatingBook, folded
from assessment.report import progress, report
from assessment.session import Session
from assessment.tally import counted, draws
from assessment.web import serve
from script_io.errors import ArgumentParser, InputError, WholeNumber, run_script
from script_io.files import atomic_write

DEFAULT_ASSESSOR = "assessor"
RATINGS_FILE, TABLE_FILE, REPORT_FILE = "manual_assessment.json", "manual_assessment.csv", "assessment_report.txt"


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
        help="evaluation_results.csv with the summaries to rate; any number of files, one per model",
    )
    data.add_argument(
        "--start_idx",
        type=int,
        default=0,
        help="number of the first example to rate, counted from 0 in the shuffled order, or with --show_verdicts in "
        "the order of the file",
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
        help="name to store the ratings under, whatever its case; every named assessor rates the same examples in a "
        f"different order, and the report gives the agreement between assessors (default: {DEFAULT_ASSESSOR})",
    )
    rating.add_argument(
        "--blind",
        action="store_true",
        help="show only the note and the summary, and shuffle the examples in the same way for everybody, so that "
        "--max_examples takes a random sample (default: on, unless --show_verdicts is given)",
    )
    rating.add_argument(
        "--show_verdicts",
        action="store_true",
        help="also show id, reference summary and automatic verdict, in the order of the file; one file only",
    )
    rating.add_argument(
        "--rate_completeness",
        action="store_true",
        help="after each verdict ask how many important facts of the note the summary states, from 0 (none) to 3 "
        "(all); also asked for ratings that were given without it (default: off)",
    )
    rating.add_argument(
        "--adjudicate",
        action="store_true",
        help="settle draws: show only the summaries that as many assessors call hallucinated as not, with their "
        "ratings but without their names; --assessor must be a person who has not rated them",
    )
    page = parser.add_argument_group("Web form")
    page.add_argument(
        "--serve",
        action="store_true",
        help="ask the same questions on a web page, for assessors without a terminal; only this machine is served, and "
        "the address holds a random token",
    )
    page.add_argument(
        "--port",
        type=WholeNumber(0, 65535),
        default=0,
        help="TCP port on which --serve takes requests; 0 takes a free one",
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Run one session. The report is written however the session ends."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a Windows console may lack a character of the note
    sources, desk = open_desk(args)
    say(f"{len(desk.examples)} summaries, {desk.done()} of them rated already. ? explains the keys.")
    try:
        if args.serve:
            serve(desk, args.port)
        else:
            ask(desk)
    finally:
        finish(args.results_csv[0].parent, sources, desk)
    return 0


def open_desk(args: argparse.Namespace) -> tuple[list[Source], Desk]:
    """Load the examples and the ratings so far. Raises InputError for flags or files that do not go together."""
    assessor = args.assessor.strip()
    if not assessor:
        raise InputError("--assessor: the name is empty; pass a name or leave the flag out")
    if args.blind and args.show_verdicts:
        raise InputError("--blind and --show_verdicts: pass one of them; blind is the default")
    blind = not args.show_verdicts
    sources = load_sources(args.results_csv, blind=blind)
    book = RatingBook(args.results_csv[0].parent / RATINGS_FILE)
    name = known_name(book, assessor)
    examples = choose_examples(
        sources,
        name,
        blind=blind,
        start=args.start_idx,
        count=args.max_examples,
        own_order=folded(name) != DEFAULT_ASSESSOR or len(sources) > 1,
    )
    mixed = len(sources) > 1
    if mixed:
        examples = without_shown_verdicts(examples, book, name)
    if args.adjudicate:
        examples = drawn_examples(examples, counted(book.ratings.values(), mixed=mixed), name)
    desk = Desk(
        examples,
        book,
        name,
        blind=blind,
        mixed=mixed,
        rate_completeness=args.rate_completeness,
        adjudicates=args.adjudicate,
    )
    return sources, desk


def known_name(book: RatingBook, assessor: str) -> str:
    """Return the assessor's name as the file of ratings spells it, and say so where it differs."""
    if book.joined_names:
        say(f"Names that differ in case or spaces are one assessor. Joined: {', '.join(book.joined_names)}.")
    name = book.spelling_of(assessor)
    if name != assessor:
        say(f"Your ratings are stored under {name}, as before: {assessor} and {name} are one assessor.")
    return name


def without_shown_verdicts(examples: Sequence[Example], book: RatingBook, name: str) -> list[Example]:
    """Return the examples that this assessor has rated blind or can still rate blind; say how many others there are.

    Raises InputError if there is none.
    """
    stored = [book.ratings.get((name, example.text_sha256)) for example in examples]
    kept = [
        example
        for example, rating in zip(examples, stored, strict=True)
        if rating is None or (rating.blind and (rating.is_given or not rating.verdict_shown))
    ]
    shown = f"{name} has seen the automatic verdicts of {len(examples) - len(kept)} of the {len(examples)} summaries"
    if not kept:
        raise InputError(f"--assessor: {shown}, so that no rating would be blind; pass somebody who has not")
    if len(kept) < len(examples):
        say(f"{shown} (--show_verdicts). They are left out: of several models, blind ratings alone count.")
    return kept


def drawn_examples(examples: Sequence[Example], ratings: Sequence[Rating], name: str) -> list[Example]:
    """Return the examples with a draw that nobody but this assessor has settled.

    Raises InputError if there is none, or if this assessor is on one side of a draw.
    """
    settled = {r.text_sha256 for r in ratings if r.adjudication and r.is_given and r.assessor != name}
    drawn = [example for example in examples if example.text_sha256 in draws(ratings) - settled]
    if not drawn:
        raise InputError("--adjudicate: no draw is left to settle; leave the flag out to rate summaries")
    own = {rating.text_sha256 for rating in ratings if rating.assessor == name and not rating.adjudication}
    both = [example for example in drawn if example.text_sha256 in own]
    if both:
        raise InputError(
            f"--adjudicate: {name} has rated {len(both)} of the {len(drawn)} drawn summaries; pass as --assessor "
            "somebody who has not, or a name for your joint decision"
        )
    return drawn


def ask(desk: Desk) -> None:
    """Ask for ratings with single keys, or line by line where the terminal allows nothing else."""
    if takes_single_keys():
        ask_with_keys(desk)
        return
    with suppress(ImportError):  # Windows has no readline, and its own line editing
        import readline  # lets input() edit long lines and read a paste of several lines as one answer

        readline.set_auto_history(False)  # the arrow keys must not bring back the answer to another question
    Session(desk).run()


def finish(folder: Path, sources: Sequence[Source], desk: Desk) -> None:
    """Write the report and the table, and print what this assessor may see of them."""
    desk.book.refresh()
    ratings = list(desk.book.ratings.values())
    text = report(sources, ratings)
    with atomic_write(folder / REPORT_FILE) as handle:
        handle.write(text)
    write_ratings_csv(folder / TABLE_FILE, sources, ratings)
    if desk.blind:  # an assessor who may continue must not see the models' names or other ratings
        print("\n" + progress(desk.examples, ratings, desk.assessor, mixed=desk.mixed))
        hidden = "names the models" if desk.mixed else "has the automatic verdicts and all assessors"
        say(f"{REPORT_FILE} {hidden}, and {TABLE_FILE} too. Open them only after rating everything.")
    else:
        print(f"\n{text}\nReport: {folder / REPORT_FILE}")


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
