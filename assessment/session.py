"""One assessor's session: show summaries, ask for ratings, and store every answer at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from assessment.examples import Example
from assessment.questions import SUMMARY_TITLE, ask_completeness, ask_error, ask_text, is_another, say, say_list
from assessment.ratings import COMPLETENESS, HALLUCINATED, NOT_HALLUCINATED, SKIPPED, Rating, RatingBook, SummaryError
from assessment.report import progress
from assessment.screen import page_of, terminal_size, wrap

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


class Session:
    """One assessor's session: show examples, ask for ratings, store them."""

    def __init__(
        self,
        examples: Sequence[Example],
        book: RatingBook,
        assessor: str,
        *,
        blind: bool,
        mixed: bool,
        rate_completeness: bool = False,
    ) -> None:
        self.examples = examples
        self.book = book
        self.assessor = assessor
        self.blind = blind
        self.mixed = mixed  # summaries of several models
        self.rate_completeness = rate_completeness
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
        """Return this assessor's rating of the example, or an empty one.

        With several models, only blind ratings count.
        """
        empty = Rating(self.assessor, example.text_sha256, example.example_id, blind=self.blind)
        rating = self.book.ratings.get((self.assessor, example.text_sha256), empty)
        return rating if rating.blind or not self.mixed else empty

    def is_done(self, rating: Rating) -> bool:
        """Return whether nothing is left to ask of this rating."""
        return rating.is_complete and (rating.completeness is not None or not self.rate_completeness)

    def next_open(self, start: int) -> int | None:
        """Return the next example without a complete rating, from `start` on and then from the beginning.

        Examples skipped in an earlier session come last. None if nothing is left to ask.
        """
        self.book.refresh()  # the same assessor may use a second terminal
        order = [*range(start, len(self.examples)), *range(start)]
        ratings = {i: self.rating_of(self.examples[i]) for i in order}
        waiting = [i for i in order if not self.is_done(ratings[i])]
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
                if self.is_done(rating) or self.take_completeness(rating):
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
            rest = "" if self.is_done(rating) else " and say how complete the summary is"
            say(f"\nEnter: keep your rating{rest}. y or n: rate it again.")
        say(f"\n{QUESTION}\n  y = yes, hallucinated    n = no, everything is supported")
        answer = input(PROMPT).strip().lower()
        return next((key for key, (word, _) in KEYS.items() if answer in (key, word)), answer)

    def leave(self, index: int) -> int | None:
        self.trail.append(index)
        return self.next_open(index + 1)

    def take_verdict(self, verdict: str, rating: Rating, summary: str) -> bool:
        """Save a verdict, its errors for a hallucination, and the completeness if it is rated.

        Returns False if the assessor takes an answer back and so stays on the example. A yes is saved only once the
        kind of its first error is known. A session that ends before changes no rating.
        """
        if verdict == SKIPPED and rating.is_complete:
            say("Your rating stays as it is.")
            if not self.is_done(rating):
                self.skipped_now.add(rating.text_sha256)
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
        saved = self.book.ratings[rating.assessor, rating.text_sha256]  # with its errors
        return verdict == SKIPPED or not self.rate_completeness or self.take_completeness(saved)

    def take_completeness(self, rating: Rating) -> bool:
        """Ask for the completeness and save it. Returns False, with nothing changed, if the assessor goes back."""
        level = ask_completeness()
        if level is None:
            return False
        self.book.save(replace(rating, completeness=level))
        say(f"Saved: completeness {level}, the summary {COMPLETENESS[level]}.")
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
    if rating.completeness is not None:
        lines.append(f"- completeness {rating.completeness}: {COMPLETENESS[rating.completeness]}")
    lines += [f"- comment: {rating.comment}"] if rating.comment else []
    return "\n".join(lines)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
