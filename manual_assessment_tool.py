r"""Lets a clinician rate summaries in a terminal, and says whether Stage B is needed.

In:  an `evaluation_results.csv` (columns example_id, clinical_note, generated_summary; reference_summary and the
     automatic verdict are shown where they are there), or with --blind those of two models over the same notes,
     mixed so that nobody can tell them apart.
Out: `manual_assessment.json` (every rating, saved as soon as it is given) and `assessment_report.txt`, both
     beside the (first) CSV. Starting again goes on at the first summary without a rating.

    python manual_assessment_tool.py --results_csv evaluation_results/evaluation_results.csv
    python manual_assessment_tool.py --blind --assessor KM \
        --results_csv sft/evaluation_results.csv dpo/evaluation_results.csv

The question is whether a summary contains a hallucination: y says that it states something the note does not support,
n that it does not. What it leaves out is noted apart and never counts as a hallucination.

The decision rests on the share of hallucinated summaries and its 95% Wilson interval: Stage B is called for where
the whole interval lies over 15%, the model is ready where it lies under, and otherwise, or with fewer than 10
summaries rated, it is undecided, and the report says how many more to rate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from assessment.examples import Example, choose_examples, load_sources
from assessment.questions import SUMMARY_TITLE, ask_error, ask_text, is_another, say, say_list
from assessment.ratings import (
    HALLUCINATED,
    NOT_HALLUCINATED,
    SKIPPED,
    Rating,
    RatingBook,
    SummaryError,
)
from assessment.report import progress, report
from assessment.screen import page_of, terminal_size, wrap
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import atomic_write

DEFAULT_ASSESSOR = "assessor"
QUESTION = "Does the summary contain a hallucination, that is, state anything that the note does not support?"
QUESTION_ROWS = 6  # of a paged note, besides the rows of the question itself
PROMPT = "y / n / s(kip) / b(ack) / stats / q, ? for more > "
KEYS = {
    "y": ("yes", "hallucinated: at least one statement is not supported by the note; asks for its kind and words"),
    "n": ("no", "no hallucination: the note supports every statement of the summary"),
    "s": ("skip", "no rating for now; comes again in the next sitting, after all others"),
    "b": ("back", "to the summary before this one, to change its rating"),
    "o": ("omission", "note an important fact that the summary leaves out; not a hallucination"),
    "c": ("comment", "write a comment on this summary"),
    "v": ("view", "show the note from its beginning, and the summary"),
    "stats": ("stats", "what you have rated so far"),
    "?": ("help", "this list"),
    "q": ("quit", "leave; everything is saved"),
}
VERDICTS = {"y": HALLUCINATED, "n": NOT_HALLUCINATED, "s": SKIPPED}


class Quit(Exception):
    """The assessor asked to leave."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--results_csv",
        type=Path,
        nargs="+",
        required=True,
        metavar="CSV",
        help="evaluation_results.csv whose summaries to rate; with --blind also two, of two models",
    )
    data.add_argument(
        "--start_idx", type=int, default=0, help="first example, counted from 0 (default: 0); see --blind for the order"
    )
    data.add_argument(
        "--max_examples",
        type=int,
        help="number of examples from there on; of two files an example is a note with both its summaries "
        "(default: all)",
    )
    rating = parser.add_argument_group("Rating")
    rating.add_argument(
        "--assessor",
        default=DEFAULT_ASSESSOR,
        help="name under which ratings are kept apart; everybody named rates the same examples in an order of their "
        f"own, and the report gives the agreement (default: {DEFAULT_ASSESSOR}, in the order of the file)",
    )
    rating.add_argument(
        "--blind",
        action="store_true",
        help="show nothing but note and summary: no model, id, automatic verdict or reference; examples are counted "
        "in a shuffled order, the same one for everybody, so that --max_examples is a random sample (default: off)",
    )
    return parser.parse_args(argv)


class Session:
    """One assessor's sitting: shows examples, asks, stores."""

    def __init__(
        self, examples: Sequence[Example], book: RatingBook, assessor: str, *, blind: bool, mixed: bool
    ) -> None:
        self.examples = examples
        self.book = book
        self.assessor = assessor
        self.blind = blind
        self.mixed = mixed  # summaries of two models
        self.skipped_now: set[str] = set()  # not asked again before the next sitting
        self.trail: list[int] = []  # examples left, for the way back

    def run(self) -> None:
        """Asks for ratings until none is missing or the assessor quits."""
        index = self.next_open(0)
        try:
            while index is not None:
                index = self.rate(index)
            skipped = f"; {len(self.skipped_now)} skipped, start again to rate them" if self.skipped_now else ""
            print(f"\nThat was the last one{skipped}.")
        except (Quit, EOFError):
            print("\nSaved. Start the same command again to go on.")

    def rating_of(self, example: Example) -> Rating:
        """This assessor's rating of the example, or an empty one; of two models a rating counts if it was blind."""
        empty = Rating(self.assessor, example.text_sha256, example.example_id, blind=self.blind)
        rating = self.book.ratings.get((self.assessor, example.text_sha256), empty)
        return rating if rating.blind or not self.mixed else empty

    def next_open(self, start: int) -> int | None:
        """The first example from `start` on, going round, that is not rated to the end; else the first skipped one."""
        self.book.refresh()  # the same assessor may sit at a second terminal
        order = [*range(start, len(self.examples)), *range(start)]
        ratings = {i: self.rating_of(self.examples[i]) for i in order}
        waiting = [i for i in order if not ratings[i].is_complete]
        waiting = [i for i in waiting if ratings[i].text_sha256 not in self.skipped_now]
        waiting.sort(key=lambda i: ratings[i].verdict == SKIPPED)
        return waiting[0] if waiting else None

    def rate(self, index: int) -> int | None:
        """Shows one example and obeys keys until it is left. Returns the index to show next, None at the end."""
        example, shown_at = self.examples[index], time.monotonic()
        page, pages = self.show(index, 0)
        while True:
            rating = self.rating_of(example)
            answer = self.ask_key(rating, page, pages)
            if answer == "" and page + 1 < pages:
                page, pages = self.show(index, page + 1)
            elif answer == "" and rating.is_complete:
                return self.leave(index)
            elif answer == "v" or (answer == "" and pages > 1):
                page, pages = self.show(index, 0)
            elif answer == "b" and (self.trail or index):
                return self.trail.pop() if self.trail else index - 1
            elif answer in VERDICTS:
                timed = replace(rating, seconds=round(time.monotonic() - shown_at, 1))
                if self.take_verdict(VERDICTS[answer], timed, example.generated_summary):
                    return self.leave(index)
            else:
                self.obey(answer, rating)

    def ask_key(self, rating: Rating, page: int, pages: int) -> str:
        """Asks the question; the key behind the answer, or the answer itself where it is no key."""
        if pages > 1:
            onward = "go on" if page + 1 < pages else "to its beginning"
            say(f"\nThis is page {page + 1} of {pages}. Enter: {onward}.")
        if rating.is_complete and page + 1 == pages:
            say("\nEnter: keep your rating. y or n: give it anew.")
        say(f"\n{QUESTION}\n  y = yes, hallucinated    n = no, all of it is supported")
        answer = input(PROMPT).strip().lower()
        return next((key for key, (word, _) in KEYS.items() if answer in (key, word)), answer)

    def leave(self, index: int) -> int | None:
        self.trail.append(index)
        return self.next_open(index + 1)

    def take_verdict(self, verdict: str, rating: Rating, summary: str) -> bool:
        """Saves a verdict and, for a hallucination, its errors; False where the assessor took it back.

        A yes is first saved with the kind of its first error, so that one broken off before it changes no rating.
        """
        if verdict == SKIPPED and rating.is_complete:
            say("Your rating stays as it is.")
            return True
        before = self.book.ratings.get((rating.assessor, rating.text_sha256), rating)
        rating = replace(rating, verdict=verdict, errors=[], blind=self.blind, rated_at=now())
        if verdict != HALLUCINATED:
            self.book.save(rating)
        elif not self.take_errors(rating, summary):
            self.book.save(before)
            say("Your yes is taken back.")
            return False
        (self.skipped_now.add if verdict == SKIPPED else self.skipped_now.discard)(rating.text_sha256)
        say(f"Saved: {verdict}. (b goes back to it.)")
        return True

    def take_errors(self, rating: Rating, summary: str) -> bool:
        """Asks for one error after another, saving each answer; False where the first one is taken back."""
        errors: list[SummaryError] = []
        while True:
            error = ask_error(summary, lambda draft: self.book.save(replace(rating, errors=[*errors, draft])))
            if error is not None:
                errors.append(error)
            elif errors:
                self.book.save(replace(rating, errors=errors))  # without the draft
            if not errors or not is_another():
                return bool(errors)

    def obey(self, key: str, rating: Rating) -> None:
        """The keys that stay on the example."""
        if key == "q":
            raise Quit
        if key == "o":
            self.take_omissions(rating)
        elif key == "c":
            self.take_comment(rating)
        elif key == "b":
            say("This is the first one.")
        elif key == "stats":
            print("\n" + progress(self.examples, self.book.ratings.values(), self.assessor, mixed=self.mixed))
        elif key == "?":
            say_list({name if name == word else f"{name}, {word}": effect for name, (word, effect) in KEYS.items()})
        else:
            say(f"{key!r} is no key here. " * bool(key) + "Type y or n and then Enter; ? lists all keys.")

    def take_omissions(self, rating: Rating) -> None:
        """Asks for facts that the summary leaves out, saving each."""
        omissions = list(rating.omissions)
        while answer := ask_text("Important fact of the note that is missing (Enter: done; - removes all noted)"):
            omissions = [] if answer == "-" else [*omissions, answer]
            self.book.save(replace(rating, omissions=omissions))
            say(f"Noted: {'; '.join(omissions) or 'nothing is missing'}.")

    def take_comment(self, rating: Rating) -> None:
        """Asks for a comment; an empty answer keeps the one there is."""
        comment = ask_text("Comment (Enter: leave as it is; - removes it)")
        if comment:
            self.book.save(replace(rating, comment="" if comment == "-" else comment))

    def show(self, index: int, page: int) -> tuple[int, int]:
        """Prints one page of an example. Returns its number and the count of pages."""
        example, (width, rows) = self.examples[index], terminal_size()
        name = "" if self.blind else f" (example_id {example.example_id})"
        head = ["", "=" * width, *wrap(f"Summary {index + 1} of {len(self.examples)}{name}", width), ""]
        room = rows - len(head) - QUESTION_ROWS - len(wrap(QUESTION, width))
        read = {"Clinical Note:": example.clinical_note}
        if not self.blind:
            read |= {"Reference Summary:": example.reference_summary, "Automatic Verdict:": example.automatic}
        fixed = {SUMMARY_TITLE: example.generated_summary.strip() or "(empty)"}
        fixed |= {"Your Rating:": own_words(self.rating_of(example))}
        shown = page_of(filled(read), filled(fixed), width=width, rows=room, number=page)
        print("\n".join([*head, *shown.lines]))
        return shown.number, shown.count


def filled(texts: Mapping[str, str]) -> dict[str, str]:
    return {title: text for title, text in texts.items() if text.strip()}


def own_words(rating: Rating) -> str:
    """The rating as its assessor gave it, a line for each part."""
    lines = [rating.verdict] if rating.verdict else []
    for error in rating.errors:
        words = f': "{error.text}"' if error.text else ""
        lines.append(f"- {error.kind}, {error.severity or 'severity not given yet'}{words}")
    lines += [f"- left out: {omission}" for omission in rating.omissions]
    lines += [f"- comment: {rating.comment}"] if rating.comment else []
    return "\n".join(lines)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(args: argparse.Namespace) -> int:
    """Runs one sitting; the report is written however it ends."""
    assessor = args.assessor.strip()
    if not assessor:
        raise InputError("--assessor: the name is empty; give a name or leave the flag out")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a Windows console may lack a character of the note
    with suppress(ImportError):  # Windows has its own line editing
        import readline  # input() then edits long lines, and takes a paste of several lines as one

        readline.set_auto_history(False)  # the arrow keys must not bring back the answer to another question
    sources = load_sources(args.results_csv, blind=args.blind)
    examples = choose_examples(
        sources,
        assessor,
        blind=args.blind,
        start=args.start_idx,
        count=args.max_examples,
        own_order=assessor != DEFAULT_ASSESSOR or len(sources) == 2,
    )
    folder = args.results_csv[0].parent
    book = RatingBook(folder / "manual_assessment.json")
    session = Session(examples, book, assessor, blind=args.blind, mixed=len(sources) == 2)
    rated = sum(session.rating_of(example).is_complete for example in examples)
    say(f"{len(examples)} summaries, {rated} of them rated before. ? explains the keys.")
    try:
        session.run()
    finally:
        book.refresh()
        text = report(sources, book.ratings.values())
        with atomic_write(folder / "assessment_report.txt") as handle:
            handle.write(text)
        if args.blind:  # neither the models nor others' ratings are shown to somebody who may go on rating
            print("\n" + progress(examples, book.ratings.values(), assessor, mixed=session.mixed))
            say("The report, which names the models, is assessment_report.txt. Read it when all is rated.")
        else:
            print(f"\n{text}\nReport: {folder / 'assessment_report.txt'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
