"""The questions line by line: for dumb terminals, pipes and screen readers. Every answer ends with Enter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from assessment.desk import Desk, others_text, rating_text
from assessment.examples import Example
from assessment.keys import KEYS, QUESTION, VERDICTS, Quit, key_of
from assessment.questions import (
    SUMMARY_TITLE,
    ask_another,
    ask_completeness,
    ask_error,
    ask_text,
    ask_words,
    say,
    say_list,
    text_to_store,
    with_words,
)
from assessment.ratings import COMPLETENESS, NOT_HALLUCINATED, SKIPPED, Rating, SummaryError
from assessment.report import progress
from assessment.screen import Page, page_of, page_with, terminal_size, wrap
from assessment.words import numbered, numbered_words

QUESTION_ROWS = 6  # rows of a page below the note, without the wrapped question itself
PROMPT = "y / n / s(kip) / b(ack) / stats / q, ? for more > "
_YES_WITH_NUMBER = re.compile(r"y(?:es)?\s*(\d.*)")


class Session:
    """One assessor's session: show examples, ask for ratings, store them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.index, self.page, self.pages = 0, 0, 1
        self.seen: set[int] = set()  # pages of the example that were on the screen
        self.warned = False  # of unread pages
        self.sought = ""  # words searched in the note

    @property
    def example(self) -> Example:
        return self.desk.examples[self.index]

    @property
    def rating(self) -> Rating:
        return self.desk.stored(self.example)

    def run(self) -> None:
        """Ask for ratings until none is missing or the assessor quits."""
        index = self.desk.next_open(0)
        try:
            while index is not None:
                index = self.rate(index)
            count = len(self.desk.skipped_now)
            skipped = f" You skipped {count}: start again to rate them." if count else ""
            print(f"\nThat was the last summary.{skipped}")
        except (Quit, EOFError):
            print("\nSaved. Start the same command again to continue.")

    def rate(self, index: int) -> int | None:
        """Show one example and obey keys until the assessor leaves it. Returns the next index; None at the end."""
        self.index, self.seen, self.warned, self.sought = index, set(), False, ""
        self.desk.opened(self.example)
        self.show(0)
        while True:
            answer = self.ask_key()
            words = numbered_words(match[1], self.summary) if (match := _YES_WITH_NUMBER.fullmatch(answer)) else None
            if answer == "" and self.page + 1 < self.pages:
                self.show(self.page + 1)
            elif answer == "" and self.rating.is_complete:
                if self.desk.is_done(self.rating) or self.take_completeness():
                    return self.desk.leave(index)
            elif answer == "v" or (answer == "" and self.pages > 1):
                self.show(0)
            elif answer == "b" and (before := self.desk.before(index)) is not None:
                return before
            elif words or answer in VERDICTS:
                error = with_words(SummaryError(), words, self.summary) if words else SummaryError()
                if self.take_verdict(VERDICTS["y" if words else answer], error):
                    return self.desk.leave(index)
            else:
                self.obey(answer)

    @property
    def summary(self) -> str:
        return self.example.generated_summary

    def ask_key(self) -> str:
        """Ask the question. Returns the key of the answer, or the answer itself if it is not a key."""
        rating = self.rating
        if self.pages > 1:
            target = "next page" if self.page + 1 < self.pages else "first page"
            say(f"\nThis is page {self.page + 1} of {self.pages}. Enter: {target}, p: previous page.")
        if rating.is_complete and self.page + 1 == self.pages:
            rest = "" if self.desk.is_done(rating) else " and say how complete the summary is"
            say(f"\nEnter: keep your rating{rest}. y or n: rate it again.")
        say(f"\n{QUESTION}\n  y = yes, hallucinated (y 3: phrase 3)    n = no, everything is supported")
        answer = input(PROMPT).strip().lower()
        return key_of(answer) or answer

    # ------------------------------------------------------------------------------------- answers

    def take_verdict(self, verdict: str, error: SummaryError) -> bool:
        """Save a verdict, its errors for a hallucination, and the completeness if it is rated.

        Returns False if the assessor takes an answer back and so stays on the example. A yes counts once the kind of
        its first error is known. A session that ends before changes no rating.
        """
        if verdict == SKIPPED:
            stored = self.desk.skip(self.example)
            say("Saved: skipped. (b goes back to it.)" if stored else "Your rating stays as it is.")
            return True
        if verdict == NOT_HALLUCINATED:
            if self.has_unread_pages():
                return False
            self.desk.say_no(self.example)
        elif not self.take_errors(error):
            say("Your yes was taken back.")
            return False
        say(f"Saved: {verdict}. (b goes back to it.)")
        return not self.desk.rate_completeness or self.take_completeness()

    def has_unread_pages(self) -> bool:
        """Warn once of unread pages before a no. Returns whether the no has to wait."""
        unread = self.pages - len(self.seen)
        if not unread or self.warned:
            return False
        self.warned = True
        of = f"{unread} of {self.pages} pages of the note"
        say(f"You have not seen {of}. Nothing is saved. Enter: next page. n again: no, all the same.")
        return True

    def take_errors(self, first: SummaryError) -> bool:
        """Ask for one error after another, and save each answer. Returns False if the first one is taken back."""
        before, errors = self.desk.stored(self.example), list[SummaryError]()

        def store(draft: SummaryError) -> None:
            self.desk.store_errors(self.example, [*errors, draft])

        self.desk.begin_error(self.example, first)
        if unread := self.pages - len(self.seen):
            say(f"Note: {unread} of {self.pages} pages of the note are unread.")
        error = ask_error(self.summary, store, first, has_words=bool(first.text))
        while True:
            if error is not None:
                errors.append(error)
            if not errors:
                self.desk.restore(replace(before, draft=None))
                return False
            self.desk.store_errors(self.example, errors)
            another = ask_another()
            if another == "n":
                return True
            if another == "y":
                error = ask_error(self.summary, store, SummaryError(), has_words=False)
            else:
                last = errors.pop()
                changed = ask_words(last, self.summary)
                error = changed or ask_error(self.summary, store, last, has_words=False, step=1)

    def take_completeness(self) -> bool:
        """Ask for the completeness and save it. Returns False, with nothing changed, if the assessor goes back."""
        level = ask_completeness()
        if level is None:
            return False
        self.desk.store_completeness(self.example, level)
        say(f"Saved: completeness {level}, the summary {COMPLETENESS[level]}.")
        return True

    def obey(self, key: str) -> None:
        """Obey a key that stays on the same example."""
        if key == "q":
            raise Quit
        if key == "o":
            self.take_omissions()
        elif key == "c":
            self.take_comment()
        elif key == "p":
            self.show(max(0, self.page - 1))
        elif key.startswith("/"):
            self.search(key[1:].strip() or self.sought)
        elif key == "b":
            say("This is the first summary.")
        elif key == "stats":
            desk = self.desk
            print("\n" + progress(desk.examples, desk.book.ratings.values(), desk.assessor, mixed=desk.mixed))
        elif key == "?":
            say_list({name if name == word else f"{name}, {word}": effect for name, (word, effect) in KEYS.items()})
        else:
            say(f"{key!r} is not a key. " * bool(key) + "Type y or n, then Enter. ? lists all keys.")

    def search(self, words: str) -> None:
        """Show the next page of the note that has the words; after the last one, the first again."""
        self.sought = words
        page = page_with(words, [self.layout(number).part for number in range(self.pages)], self.page)
        if page is None:
            say(f"{words!r} is not in the note." if words else "Type the words to search after the /.")
        else:
            self.show(page)

    def take_omissions(self) -> None:
        """Ask for facts that the summary leaves out, and save each."""
        omissions = list(self.rating.omissions)
        while answer := ask_text("Important fact of the note that is missing (Enter: done; -: remove all)"):
            omissions = [] if answer == "-" else [*omissions, text_to_store(answer)]
            self.desk.store_omissions(self.example, omissions)
            say(f"Noted: {'; '.join(omissions) or 'nothing is missing'}.")

    def take_comment(self) -> None:
        """Ask for a comment. An empty answer keeps the current comment."""
        comment = ask_text("Comment (Enter: keep it as it is; -: remove it)")
        if comment:
            self.desk.store_comment(self.example, "" if comment == "-" else text_to_store(comment))

    # ------------------------------------------------------------------------------------- what is shown

    def show(self, page: int) -> None:
        """Print one page of the example."""
        shown = self.layout(page)
        print("\n".join([*self.head(), *shown.lines]))
        if shown.count != self.pages:  # the terminal has another size now, so other pages
            self.seen = set()
        self.page, self.pages = shown.number, shown.count
        self.seen.add(shown.number)

    def head(self) -> list[str]:
        desk, (width, _) = self.desk, terminal_size()
        name = "" if desk.blind else f" (example_id {self.example.example_id})"
        left = f", {time_left}" if (time_left := desk.time_left()) else ""
        title = f"Summary {self.index + 1} of {len(desk.examples)}{name}{left}"
        return ["", "=" * width, *wrap(title, width), ""]

    def layout(self, page: int) -> Page:
        """Lay out one page of the example for the present size of the terminal."""
        desk, example, (width, rows) = self.desk, self.example, terminal_size()
        room = rows - len(self.head()) - QUESTION_ROWS - len(wrap(QUESTION, width))
        read = {"Clinical Note:": example.clinical_note}
        if not desk.blind:
            read |= {"Reference Summary:": example.reference_summary, "Automatic Verdict:": example.automatic}
        fixed = {SUMMARY_TITLE: numbered(example.generated_summary.strip()) or "(empty)"}
        fixed |= {"Other Ratings:": others_text(desk.others(example)), "Your Rating:": rating_text(self.rating)}
        return page_of(filled(read), filled(fixed), width=width, rows=room, number=page)


def filled(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts that are not empty."""
    return {title: text for title, text in texts.items() if text.strip()}
