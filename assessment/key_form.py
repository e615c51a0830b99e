"""The questions with single keys: what each key does.

`press` takes one key, `submit` a typed text, and `view` returns the screen. Every answer is stored before they return.
"""

from __future__ import annotations

from assessment import key_panels as panels
from assessment.key_state import Asked, KeyState
from assessment.keys import key_of, reserved_text
from assessment.questions import text_to_store, with_words
from assessment.ratings import COMPLETENESS, HALLUCINATED, SummaryError
from assessment.screen import page_with
from assessment.words import Span, phrases, places_meant, sentence_of

NEXT_PAGE, PREVIOUS_PAGE = ("space", "pagedown", "right"), ("p", "pageup", "left")
MOST_PLACES = 5  # of the same words that the panel can list


class KeyForm(KeyState):
    """One assessor's session with single keys."""

    def press(self, key: str) -> None:
        """Obey one key: a character, or the name of a key such as `enter`."""
        self.message, warned, self.warned = "", self.warned, False
        if self.asked is Asked.NOTHING:
            self.asked = Asked.VERDICT
        elif key in NEXT_PAGE:
            self.page = (self.page + 1) % self.pages
        elif key in PREVIOUS_PAGE:
            self.page = max(0, self.page - 1)
        elif key == "q":
            self.finished = True
        elif key == "/":
            self.type("Search the note for (Enter alone: the next place)", self.search)
        elif self.asked is Asked.VERDICT:
            self.press_verdict(key, warned)
        else:
            answers = {
                Asked.PHRASE: self.press_phrase,
                Asked.PLACE: self.press_place,
                Asked.KIND: self.press_kind,
                Asked.COMPLETENESS: self.press_completeness,
            }
            answers[self.asked](key)

    def unknown(self, key: str) -> None:
        self.message = f"{key} is not a key here. "

    # ------------------------------------------------------------------------------------- verdict

    def press_verdict(self, key: str, warned: bool) -> None:
        """Obey a key at the main question. `warned`: the key before was a no on an unread note."""
        if key == "y":
            self.begin(adds=False)
        elif key == "n":
            self.say_no(warned)
        elif key == "s":
            stored = self.desk.skip(self.example)
            self.leave("Skipped. " if stored else "Your rating stays as it is. ")
        elif key == "b":
            before = self.desk.before(self.index)
            self.message = "This is the first summary. " * (before is None)
            if before is not None:
                self.go_to(before)
        elif key == "a":
            self.add_error()
        elif key == "enter" and self.rating.is_complete:
            self.after_verdict("Your rating stays as it is. ")
        elif key == "o":
            self.type("Important fact of the note that is missing (Enter: done; -: remove all)", self.take_omission)
        elif key == "c":
            self.type("Comment (Enter: keep it as it is; -: remove it)", self.take_comment)
        elif key in ("t", "?"):
            self.asked = Asked.NOTHING
            self.listed = panels.help_lines() if key == "?" else self.progress_lines()
        else:
            self.unknown(key)

    def say_no(self, warned: bool) -> None:
        """Store a no. If pages are unread, warn first: the same key again stores it."""
        unread = self.pages - len(self.seen)
        if unread and not warned:
            self.warned = True
            self.message = f"{unread} of {self.pages} pages are unread; nothing is saved. n again: no, all the same. "
            return
        self.desk.say_no(self.example)
        self.after_verdict("Saved: not hallucinated. b: back. ")

    def begin(self, *, adds: bool) -> None:
        """Store a yes and ask for its words."""
        self.desk.begin_error(self.example, SummaryError(), adds=adds)
        unread, errors = self.pages - len(self.seen), len(self.rating.errors)
        self.message = f"{unread} of {self.pages} pages are unread. " if unread else ""
        if errors and not adds:
            self.message += (
                f"This replaces the {errors} error{'s' * (errors > 1)} stored; press b, then a, to add one. "
            )
        self.digits, self.asked = "", Asked.PHRASE

    def add_error(self) -> None:
        """Ask for a further error of this summary or, if it is not rated as hallucinated, of the one before."""
        if self.rating.verdict != HALLUCINATED and self.last is not None:
            before = self.desk.stored(self.desk.examples[self.last])
            if before.verdict == HALLUCINATED:
                self.go_to(self.last)
        if self.rating.verdict == HALLUCINATED:
            self.begin(adds=True)
        else:
            self.message = "a adds an error to a summary rated as hallucinated. Press y. "

    def after_verdict(self, message: str) -> None:
        """Ask for the completeness if it is missing, else go on."""
        if self.desk.is_done(self.rating):
            self.leave(message)
        else:
            self.asked, self.message = Asked.COMPLETENESS, message

    # ------------------------------------------------------------------------------------- error

    def press_phrase(self, key: str) -> None:
        """Take the number of a phrase. A digit counts at once unless a longer number could begin with it."""
        count = len(phrases(self.summary))
        if key.isdecimal() and key.isascii():
            number = int(self.digits + key)
            self.digits = str(number) if 1 <= number <= count else ""
            if not self.digits:
                self.message = f"The phrases have the numbers 1 to {count}. "
            elif number * 10 > count:
                self.take_words(phrases(self.summary)[number - 1])
        elif key == "enter":
            self.take_words(phrases(self.summary)[int(self.digits) - 1] if self.digits else None)
        elif key == "backspace":
            self.digits = ""
        elif key == "t":
            self.type("Type or paste the words of the summary", self.take_typed_words)
        elif key in ("b", "escape"):
            self.desk.take_back_draft(self.example)
            self.asked, self.message = Asked.VERDICT, "Your yes was taken back. "
        else:
            self.unknown(key)

    def take_words(self, place: Span | None) -> None:
        """Store the words of the error and ask for its kind."""
        adds = self.rating.draft is not None and self.rating.draft.adds
        error = SummaryError() if place is None else with_words(SummaryError(), place, self.summary)
        self.desk.begin_error(self.example, error, adds=adds)
        self.digits, self.asked = "", Asked.KIND

    def take_typed_words(self, text: str) -> None:
        """Find the typed words in the summary; ask which place is meant if they occur more than once."""
        self.places = places_meant(text, self.summary)
        if len(self.places) == 1:
            self.take_words(self.places[0])
        elif not self.places:
            self.message = "These words are not in the summary. "
        elif len(self.places) > MOST_PLACES:
            self.message = f"These words occur {len(self.places)} times. Type more of the words around them. "
        else:
            self.asked = Asked.PLACE

    def press_place(self, key: str) -> None:
        """Take the number of the place that is meant."""
        if key.isdecimal() and key.isascii() and 1 <= int(key) <= len(self.places):
            self.take_words(self.places[int(key) - 1])
        elif key in ("b", "escape"):
            self.asked = Asked.PHRASE
        else:
            self.unknown(key)

    def press_kind(self, key: str) -> None:
        """Take kind and severity in one key, or change the words."""
        answer = panels.KIND_KEYS.get(key)
        if answer is not None:
            kind, severity = answer
            words = self.error
            self.desk.finish_error(self.example, SummaryError(kind, severity, words.start, words.end, words.text))
            self.after_verdict(f"Saved: {kind}, {severity}. a: another error there. b: back. ")
        elif key == "+" and self.error.end is not None:
            self.extend(next((end for _, end in phrases(self.summary) if end > (self.error.end or 0)), None))
        elif key == "w" and self.error.end is not None:
            self.take_words(sentence_of((self.error.start or 0, self.error.end), self.summary))
        elif key in ("b", "escape"):
            self.asked = Asked.PHRASE
        else:
            self.unknown(key)

    def extend(self, end: int | None) -> None:
        """Add the next phrase to the words."""
        if end is None:
            self.message = "There is no further phrase. "
        else:
            self.take_words((self.error.start or 0, end))

    def press_completeness(self, key: str) -> None:
        """Take how complete the summary is."""
        if key.isdecimal() and key.isascii() and int(key) in COMPLETENESS:
            self.desk.store_completeness(self.example, int(key))
            self.leave(f"Saved: completeness {key}. b: back. ")
        elif key in ("b", "escape"):
            self.asked = Asked.VERDICT
        else:
            self.unknown(key)

    # ------------------------------------------------------------------------------------- typed texts

    def submit(self, text: str) -> None:
        """Take the typed text. A key of the tool is obeyed or refused, never stored; a search stores nothing."""
        assert self.typing is not None
        typing, self.typing = self.typing, None
        self.asked, self.message = typing.back, ""
        key = None if typing.take == self.search else key_of(text)
        if key is None:
            typing.take(text)
        elif key == "q":
            self.finished = True
        elif text.strip().lower() != "b":  # "back" may be the back that hurts
            self.typing, self.asked, self.message = typing, Asked.TEXT, reserved_text(text.strip()) + " "

    def search(self, text: str) -> None:
        """Show the next page of the note that has the words."""
        self.sought = text.strip() or self.sought
        page = page_with(self.sought, self.parts, self.page)
        if page is None:
            self.message = f'"{self.sought}" is not in the note. ' if self.sought else ""
        else:
            self.page = page

    def take_omission(self, text: str) -> None:
        """Store one fact that the summary leaves out, and ask for another."""
        omission = text_to_store(text)
        if not omission:
            return
        omissions = [] if omission == "-" else [*self.rating.omissions, omission]
        self.desk.store_omissions(self.example, omissions)
        self.message = "Noted. "
        self.type("Another important fact that is missing (Enter: done; -: remove all)", self.take_omission)

    def take_comment(self, text: str) -> None:
        """Store a comment. An empty text keeps the present one."""
        comment = text_to_store(text)
        if comment:
            self.desk.store_comment(self.example, "" if comment == "-" else comment)
            self.message = "Noted. "
