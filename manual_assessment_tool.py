r"""Rate summaries in a terminal, and decide whether the model needs Stage B.

In:  an `evaluation_results.csv` with the columns example_id, clinical_note and generated_summary. The reference summary
     and the automatic verdict are shown if the file has them. With --blind, the results of two models on the same
     notes: their summaries are mixed, so that nobody can tell which model wrote which.
Out: `manual_assessment.json` (all ratings, saved after every answer) and `assessment_report.txt`, both next to the
     first CSV. The same command started again continues with the first summary that has no rating.

    python manual_assessment_tool.py --results_csv evaluation_results/evaluation_results.csv
    python manual_assessment_tool.py --blind --assessor KM \
        --results_csv sft/evaluation_results.csv dpo/evaluation_results.csv

The question is whether the summary contains a hallucination: y if it states something that the note does not support,
n if it does not. An omission can be noted, but never counts as a hallucination.

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
QUESTION_ROWS = 6  # rows of a page below the note, without the wrapped question itself
PROMPT = "y / n / s(kip) / b(ack) / stats / q, ? for more > "
KEYS = {
    "y": ("yes", "hallucinated: at least one statement is not supported by the note; asks for its kind and words"),
    "n": ("no", "no hallucination: the note supports every statement of the summary"),
    "s": ("skip", "no rating for now; you are asked again in the next session, after all others"),
    "b": ("back", "go back to the previous summary, to change its rating"),
    "o": ("omission", "note an important fact that the summary leaves out; not a hallucination"),
    "c": ("comment", "write a comment on this summary"),
    "v": ("view", "show the note from its beginning, and the summary"),
    "stats": ("stats", "show what you have rated so far"),
    "?": ("help", "show this list"),
    "q": ("quit", "leave; everything is saved"),
}
VERDICTS = {"y": HALLUCINATED, "n": NOT_HALLUCINATED, "s": SKIPPED}


class Quit(Exception):
    """The assessor asked to leave."""


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
        help="evaluation_results.csv with the summaries to rate; with --blind also two files, one per model",
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
        help="number of examples to rate, from --start_idx on; with two files, one example is a note with both "
        "summaries (default: all)",
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
    return parser.parse_args(argv)


class Session:
    """One assessor's session: show examples, ask for ratings, store them."""

    def __init__(
        self, examples: Sequence[Example], book: RatingBook, assessor: str, *, blind: bool, mixed: bool
    ) -> None:
        self.examples = examples
        self.book = book
        self.assessor = assessor
        self.blind = blind
        self.mixed = mixed  # summaries of two models
        self.skipped_now: set[str] = set()  # not asked again in this session
        self.trail: list[int] = []  # indices of the examples shown before, for the key b

    def run(self) -> None:
        """Ask for ratings until none is missing or the assessor quits."""
        index = self.next_open(0)
        try:
            while index is not None:
                index = self.rate(index)
            skipped = f" You skipped {len(self.skipped_now)}: start again to rate them." if self.skipped_now else ""
            print(f"\nThat was the last summary.{skipped}")
        except (Quit, EOFError):
            print("\nSaved. Start the same command again to continue.")

    def rating_of(self, example: Example) -> Rating:
        """Return this assessor's rating of the example, or an empty one. With two models, only blind ratings count."""
        empty = Rating(self.assessor, example.text_sha256, example.example_id, blind=self.blind)
        rating = self.book.ratings.get((self.assessor, example.text_sha256), empty)
        return rating if rating.blind or not self.mixed else empty

    def next_open(self, start: int) -> int | None:
        """Return the next example without a complete rating, from `start` on and then from the beginning.

        Examples skipped in an earlier session come last. None if nothing is left to ask.
        """
        self.book.refresh()  # the same assessor may use a second terminal
        order = [*range(start, len(self.examples)), *range(start)]
        ratings = {i: self.rating_of(self.examples[i]) for i in order}
        waiting = [i for i in order if not ratings[i].is_complete]
        waiting = [i for i in waiting if ratings[i].text_sha256 not in self.skipped_now]
        waiting.sort(key=lambda i: ratings[i].verdict == SKIPPED)
        return waiting[0] if waiting else None

    def rate(self, index: int) -> int | None:
        """Show one example and obey keys until the assessor leaves it. Returns the next index; None at the end."""
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
        """Ask the question. Returns the key of the answer, or the answer itself if it is not a key."""
        if pages > 1:
            target = "next page" if page + 1 < pages else "first page"
            say(f"\nThis is page {page + 1} of {pages}. Enter: {target}.")
        if rating.is_complete and page + 1 == pages:
            say("\nEnter: keep your rating. y or n: rate it again.")
        say(f"\n{QUESTION}\n  y = yes, hallucinated    n = no, everything is supported")
        answer = input(PROMPT).strip().lower()
        return next((key for key, (word, _) in KEYS.items() if answer in (key, word)), answer)

    def leave(self, index: int) -> int | None:
        self.trail.append(index)
        return self.next_open(index + 1)

    def take_verdict(self, verdict: str, rating: Rating, summary: str) -> bool:
        """Save a verdict and, for a hallucination, its errors. Returns False if the assessor takes it back.

        A yes is saved only once the kind of its first error is known. A session that ends before changes no rating.
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
            say("Your yes was taken back.")
            return False
        (self.skipped_now.add if verdict == SKIPPED else self.skipped_now.discard)(rating.text_sha256)
        say(f"Saved: {verdict}. (b goes back to it.)")
        return True

    def take_errors(self, rating: Rating, summary: str) -> bool:
        """Ask for one error after another, and save each answer. Returns False if the first one is taken back."""
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
        """Obey a key that stays on the same example."""
        if key == "q":
            raise Quit
        if key == "o":
            self.take_omissions(rating)
        elif key == "c":
            self.take_comment(rating)
        elif key == "b":
            say("This is the first summary.")
        elif key == "stats":
            print("\n" + progress(self.examples, self.book.ratings.values(), self.assessor, mixed=self.mixed))
        elif key == "?":
            say_list({name if name == word else f"{name}, {word}": effect for name, (word, effect) in KEYS.items()})
        else:
            say(f"{key!r} is not a key. " * bool(key) + "Type y or n, then Enter. ? lists all keys.")

    def take_omissions(self, rating: Rating) -> None:
        """Ask for facts that the summary leaves out, and save each."""
        omissions = list(rating.omissions)
        while answer := ask_text("Important fact of the note that is missing (Enter: done; -: remove all)"):
            omissions = [] if answer == "-" else [*omissions, answer]
            self.book.save(replace(rating, omissions=omissions))
            say(f"Noted: {'; '.join(omissions) or 'nothing is missing'}.")

    def take_comment(self, rating: Rating) -> None:
        """Ask for a comment. An empty answer keeps the current comment."""
        comment = ask_text("Comment (Enter: keep it as it is; -: remove it)")
        if comment:
            self.book.save(replace(rating, comment="" if comment == "-" else comment))

    def show(self, index: int, page: int) -> tuple[int, int]:
        """Print one page of an example. Returns its number and the count of pages."""
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
    """Return the rating in words, one line for each error, omission and comment."""
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
        own_order=assessor != DEFAULT_ASSESSOR or len(sources) == 2,
    )
    folder = args.results_csv[0].parent
    book = RatingBook(folder / "manual_assessment.json")
    session = Session(examples, book, assessor, blind=args.blind, mixed=len(sources) == 2)
    rated = sum(session.rating_of(example).is_complete for example in examples)
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
