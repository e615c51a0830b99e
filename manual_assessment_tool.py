"""Lets a clinician rate summaries in a terminal, and says whether Stage B is needed.

In:  an `evaluation_results.csv` (columns example_id, clinical_note, generated_summary; reference_summary and the
     automatic verdict are shown where they are there).
Out: `manual_assessment.json` (every rating, saved as soon as it is given) and `assessment_report.txt`, both
     beside the CSV. Starting again goes on at the first summary without a rating.

    python manual_assessment_tool.py --results_csv evaluation_results/evaluation_results.csv
    python manual_assessment_tool.py --results_csv evaluation_results/evaluation_results.csv --assessor KM --blind

The decision rests on the share of hallucinated summaries and its 95% Wilson interval: Stage B is called for where
the whole interval lies over 15%, the model is ready where it lies under, and otherwise it is undecided.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from assessment_report import ERROR_TYPES, FACTUAL, HALLUCINATED, SKIPPED, THRESHOLD, Rating, report
from script_io import ArgumentParser, InputError, atomic_write, read_csv, read_json, run_script, write_json

WIDEST_TEXT = 100  # columns; longer lines are tiring to read

KEYS = {
    "f": ("factual", "every statement of the summary is supported by the note"),
    "h": ("hallucinated", "at least one is not; asks for the types of error and a comment"),
    "s": ("skip", "no rating for now; comes again in the next sitting, after all others"),
    "b": ("back", "to the summary before this one, to change its rating"),
    "n": ("note", "write a comment on this summary"),
    "v": ("view", "show the note and the summary again"),
    "t": ("stats", "the report so far"),
    "?": ("help", "this list"),
    "q": ("quit", "leave; everything is saved"),
}
PROMPT = "[f]actual [h]allucinated [s]kip [b]ack [n]ote [v]iew s[t]ats [?]help [q]uit > "
AUTOMATIC_COLUMNS = ("has_hallucination", "hallucination_types", "hallucination_score", "coverage")


class Quit(Exception):
    """The assessor asked to leave, or the input ended."""


@dataclass(frozen=True)
class Example:
    """One summary to rate. `automatic` is what the evaluation said of it, "" where nothing is known."""

    example_id: str
    clinical_note: str
    generated_summary: str
    reference_summary: str = ""
    automatic: str = ""

    @property
    def text_sha256(self) -> str:
        """Ties a rating to the words that were rated: a new evaluation has the same ids and other summaries."""
        return hashlib.sha256(f"{self.clinical_note}\0{self.generated_summary}".encode()).hexdigest()


class RatingBook:
    """The ratings of all assessors, in memory and in `manual_assessment.json`."""

    def __init__(self, path: Path, examples: Sequence[Example]) -> None:
        self.path = path
        self._hashes = {example.example_id: example.text_sha256 for example in examples}
        self.ratings = self._load()

    def _load(self) -> dict[tuple[str, str], Rating]:
        """Reads the file, (assessor, example_id) -> rating, and refuses ratings of other texts than the CSV's."""
        if not self.path.exists():
            return {}
        remedy = "move it aside to start afresh"
        content = read_json(self.path, remedy)
        try:
            ratings = [Rating(**row) for row in content["ratings"]]
        except (KeyError, TypeError) as error:
            names = ", ".join(column.name for column in fields(Rating))
            raise InputError(f"{self.path}: not a list of ratings with {names}; {remedy}") from error
        for rating in ratings:
            if self._hashes.get(rating.example_id) != rating.text_sha256:
                raise InputError(
                    f"{self.path}: the rating of example {rating.example_id} was given to another text than the "
                    f"CSV now holds; {remedy}, or name the CSV that was rated"
                )
        return {(rating.assessor, rating.example_id): rating for rating in ratings}

    def save(self, rating: Rating) -> None:
        """Stores one rating in the file, at once; ratings that others have added meanwhile stay."""
        self.ratings = self._load() | {(rating.assessor, rating.example_id): rating}
        write_json(self.path, {"threshold": THRESHOLD, "ratings": [asdict(each) for each in self.ratings.values()]})

    def get(self, assessor: str, example: Example) -> Rating:
        """The assessor's rating of the example, or an empty one."""
        empty = Rating(assessor, example.example_id, example.text_sha256)
        return self.ratings.get((assessor, example.example_id), empty)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("Data")
    data.add_argument("--results_csv", type=Path, required=True, help="evaluation_results.csv whose summaries to rate")
    data.add_argument(
        "--start_idx", type=int, default=0, help="first example, counted from 0, in the order shown (default: 0)"
    )
    data.add_argument("--max_examples", type=int, help="number of examples from there on (default: all)")
    rating = parser.add_argument_group("Rating")
    rating.add_argument(
        "--assessor", default="assessor", help="name under which ratings are kept apart (default: assessor)"
    )
    rating.add_argument(
        "--blind",
        action="store_true",
        help="hide the automatic verdict, the example ids and the model's name, and shuffle (always the same way for "
        "the same CSV), so that --max_examples is a random sample (default: off)",
    )
    return parser.parse_args(argv)


def load_examples(path: Path) -> list[Example]:
    """The rows of the CSV. Raises InputError for a repeated id and for an empty note."""
    remedy = "make it with `python evaluation/evaluate_model.py --model_path MODEL`"
    lines: dict[str, int] = {}
    examples = []
    for line, row in read_csv(path, ("example_id", "clinical_note", "generated_summary"), remedy):
        example_id = row["example_id"]
        if example_id in lines:
            raise InputError(
                f"{path}, line {line}: example_id {example_id} stands on line {lines[example_id]} already; "
                "give every row its own"
            )
        if not row["clinical_note"].strip():
            raise InputError(f"{path}, line {line}: the clinical_note is empty; a summary cannot be rated without it")
        lines[example_id] = line
        note, summary = row["clinical_note"], row["generated_summary"]
        examples.append(Example(example_id, note, summary, row.get("reference_summary", ""), automatic_verdict(row)))
    return examples


def automatic_verdict(row: Mapping[str, str]) -> str:
    """What the evaluation said of a summary, in one line: "model x; has_hallucination 1; ..."."""
    columns = ("model", *AUTOMATIC_COLUMNS)
    return "; ".join(f"{column} {row[column]}" for column in columns if row.get(column, "").strip())


def select_examples(examples: Sequence[Example], *, blind: bool, start: int, count: int | None) -> list[Example]:
    """The window to rate: shuffled by the ids where `blind`, then `count` examples from `start` on."""
    if not 0 <= start < len(examples):
        raise InputError(f"--start_idx {start}: the CSV has the examples 0 to {len(examples) - 1}; choose one of them")
    if count is not None and count < 1:
        raise InputError(f"--max_examples {count}: give 1 or more, or leave it out to rate all")
    chosen = list(examples)
    if blind:
        ids = "\n".join(sorted(example.example_id for example in examples))
        random.Random(hashlib.sha256(ids.encode()).digest()).shuffle(chosen)
    return chosen[start:] if count is None else chosen[start : start + count]


class Session:
    """One assessor's sitting: shows examples, asks, stores."""

    def __init__(self, examples: Sequence[Example], book: RatingBook, assessor: str, *, blind: bool) -> None:
        self.examples = examples
        self.book = book
        self.assessor = assessor
        self.blind = blind
        self.skipped_now: set[str] = set()  # not asked again before the next sitting

    def run(self) -> None:
        """Asks for ratings until none is missing or the assessor quits."""
        index = self.next_open(0)
        try:
            while index is not None:
                index = self.rate(index)
            print(f"\nThat was the last one; {len(self.skipped_now)} skipped.")
        except (Quit, EOFError):
            print("\nSaved. Start the same command again to go on.")

    def next_open(self, start: int) -> int | None:
        """The first example from `start` on, going round, without a verdict; else the first skipped earlier."""
        order = [*range(start, len(self.examples)), *range(start)]
        order = [i for i in order if self.examples[i].example_id not in self.skipped_now]
        verdicts = {i: self.book.get(self.assessor, self.examples[i]).verdict for i in order}
        candidates = [i for wanted in (None, SKIPPED) for i in order if verdicts[i] == wanted]
        return candidates[0] if candidates else None

    def rate(self, index: int) -> int | None:
        """Shows one example and obeys keys until it is left. Returns the index to show next, None at the end."""
        self.show(index)
        example, shown_at = self.examples[index], time.monotonic()
        while True:
            rating = self.book.get(self.assessor, example)
            answer = input(PROMPT).strip().lower()
            key = next((key for key, (word, _) in KEYS.items() if answer in (key, word)), None)
            if answer == "" and rating.verdict in (FACTUAL, HALLUCINATED):
                return self.next_open(index + 1)
            if key == "b" and index == 0:
                print("This is the first one.")
            elif key == "b":
                return index - 1
            elif key in ("f", "h", "s"):
                rating = replace(rating, seconds=round(time.monotonic() - shown_at, 1))
                if self.store_verdict(key, rating):
                    return self.next_open(index + 1)
            else:
                self.obey(key, index, rating)

    def store_verdict(self, key: str, rating: Rating) -> bool:
        """Saves the verdict behind a key; False where the assessor thought better of it."""
        verdict = {"f": FACTUAL, "h": HALLUCINATED, "s": SKIPPED}[key]
        error_types = ask_error_types() if verdict == HALLUCINATED else []
        if error_types is None:
            return False
        rating = replace(rating, verdict=verdict, error_types=error_types, blind=self.blind, rated_at=now())
        self.book.save(rating)
        if verdict == SKIPPED:
            self.skipped_now.add(rating.example_id)
        if verdict == HALLUCINATED:  # the verdict is safe already, should the comment be broken off
            self.store_comment(rating)
        return True

    def store_comment(self, rating: Rating) -> None:
        """Asks for a comment; an empty answer keeps the one there is."""
        comment = input("Comment (Enter for none): " if not rating.comment else "New comment (Enter keeps it): ")
        if comment.strip():
            self.book.save(replace(rating, comment=comment.strip()))

    def obey(self, key: str | None, index: int, rating: Rating) -> None:
        """The keys that stay on the example."""
        if key == "q":
            raise Quit
        if key == "n":
            self.store_comment(rating)
        elif key == "v":
            self.show(index)
        elif key == "t":
            print(report(self.book.ratings.values()))
        elif key == "?":
            print("\n".join(f"  {key}  {word:<14}{effect}" for key, (word, effect) in KEYS.items()))
        else:
            print("Type one of the letters in brackets and Enter; ? explains them.")

    def show(self, index: int) -> None:
        """Prints one example, the summary last so that it stands beside the question."""
        example = self.examples[index]
        rating = self.book.get(self.assessor, example)
        name = "" if self.blind else f" (example_id {example.example_id})"
        print(f"\n{'=' * text_width()}\nSummary {index + 1} of {len(self.examples)}{name}")
        print_block("Clinical Note", example.clinical_note)
        if example.reference_summary.strip():
            print_block("Reference Summary", example.reference_summary)
        print_block("Generated Summary", example.generated_summary or "(empty)")
        if example.automatic and not self.blind:
            print_block("Automatic Verdict", example.automatic)
        if rating.verdict:
            print_block("Your Rating", ", ".join([rating.verdict, *rating.error_types]))
            print("" if rating.verdict == SKIPPED else "(Enter keeps it.)")
        if rating.comment:
            print_block("Your Comment", rating.comment)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def ask_error_types() -> list[str] | None:
    """Asks which errors a summary has, until at least one is named; None where the answer is `c`ancel."""
    numbered = {str(number): name for number, name in enumerate(ERROR_TYPES, start=1)}
    for number, name in numbered.items():
        print(f"  {number:>2}  {name:<13}{ERROR_TYPES[name]}")
    while True:
        words = input("Types of error, numbers or names, several apart by spaces; c to cancel > ").lower()
        chosen = [numbered.get(word, word) for word in words.replace(",", " ").split()]
        if chosen in (["c"], ["cancel"]):
            return None
        unknown = [word for word in chosen if word not in ERROR_TYPES]
        if chosen and not unknown:
            return [name for name in ERROR_TYPES if name in chosen]
        print(f"Not in the list: {' '.join(unknown)}" if unknown else "Name at least one type, or c to cancel.")


def text_width() -> int:
    return max(20, min(WIDEST_TEXT, shutil.get_terminal_size().columns - 1))


def print_block(title: str, text: str) -> None:
    """Prints a titled text wrapped to the terminal, its own line breaks kept."""
    # A stray control character in a note could move the cursor or recolour the terminal.
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\r\n", "\n"))
    print(f"\n{title}:")
    for line in clean.strip().split("\n"):
        print(textwrap.fill(line, text_width(), initial_indent="  ", subsequent_indent="  "))


def main(args: argparse.Namespace) -> int:
    """Runs one sitting; the report is written however it ends."""
    if not args.assessor.strip():
        raise InputError("--assessor: the name is empty; give a name or leave the flag out")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a Windows console may lack a character of the note
    all_examples = load_examples(args.results_csv)
    examples = select_examples(all_examples, blind=args.blind, start=args.start_idx, count=args.max_examples)
    book = RatingBook(args.results_csv.parent / "manual_assessment.json", all_examples)
    session = Session(examples, book, args.assessor.strip(), blind=args.blind)
    rated = sum(book.get(session.assessor, example).verdict is not None for example in examples)
    print(f"{len(examples)} summaries, {rated} rated or skipped before by {session.assessor}; ? explains the keys.")
    report_path = args.results_csv.parent / "assessment_report.txt"
    try:
        session.run()
    finally:
        text = report(book.ratings.values())
        with atomic_write(report_path) as handle:
            handle.write(text)
        # The folder's name often is the model's.
        print(f"\n{text}\nReport: {report_path.name if args.blind else report_path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
