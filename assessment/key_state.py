"""What the single-key form asks at present, and what its screen shows. It needs no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from assessment import key_panels as panels
from assessment.desk import Desk, others_text, rating_text
from assessment.examples import Example
from assessment.key_screen import PANEL_ROWS, RATED, Shown, body, screen
from assessment.questions import SUMMARY_TITLE
from assessment.ratings import Rating, SummaryError
from assessment.report import progress
from assessment.screen import Page, wrap
from assessment.words import Span, numbered, phrases


class Asked(Enum):
    """The question on the screen."""

    VERDICT = auto()
    PHRASE = auto()
    PLACE = auto()
    KIND = auto()
    COMPLETENESS = auto()
    TEXT = auto()  # typed into the input line
    NOTHING = auto()  # a list to read; any key goes back


@dataclass(frozen=True)
class Typing:
    """A text that is being typed: its question, and what takes it."""

    question: str
    take: Callable[[str], None]
    back: Asked  # the question to return to


class KeyState:
    """The example and the question on the screen."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.finished = False
        self.complete = False  # finished because nothing is left to rate
        self.message = ""
        self.typing: Typing | None = None
        self.listed: list[str] = []
        self.sought = ""
        self.last: int | None = None  # the example rated before this one, for a further error
        self.go_to(desk.next_open(0))

    @property
    def example(self) -> Example:
        return self.desk.examples[self.index]

    @property
    def summary(self) -> str:
        return self.example.generated_summary

    @property
    def rating(self) -> Rating:
        return self.desk.stored(self.example)

    @property
    def error(self) -> SummaryError:
        """The error that was begun."""
        return self.rating.draft.error if self.rating.draft else SummaryError()

    # ------------------------------------------------------------------------------------- moving

    def go_to(self, index: int | None) -> None:
        """Show another example; None ends the session. An error begun before the tool was killed is asked for."""
        if index is None:
            self.finished = self.complete = True
            return
        self.index, self.page, self.pages = index, 0, 1
        self.parts: list[Sequence[str]] = []  # the lines of the note, page by page
        self.seen: set[int] = set()
        self.warned = False
        self.digits, self.places = "", list[Span]()
        self.desk.opened(self.example)
        self.asked = Asked.VERDICT
        if self.rating.draft is not None:
            self.asked = Asked.KIND if self.error.text else Asked.PHRASE
            self.message = "You had begun a yes here. "

    def leave(self, message: str) -> None:
        """Go on to the next example."""
        self.last, self.message = self.index, message
        self.go_to(self.desk.leave(self.index))

    def type(self, question: str, take: Callable[[str], None]) -> None:
        """Ask for a text in the input line."""
        self.typing = Typing(question, take, self.asked)
        self.asked = Asked.TEXT

    def cancel(self) -> None:
        """Leave the input line without storing anything."""
        if self.typing is not None:
            self.asked, self.typing = self.typing.back, None

    # ------------------------------------------------------------------------------------- screen

    def view(self, width: int, rows: int) -> list[str]:
        """Return the lines of the screen, and remember which pages of the note were shown."""
        if self.asked is Asked.NOTHING:
            page = Page([part for line in self.listed for part in wrap(line, width)], 0, 1)
            return screen(self.title(), page, ["Any key: back to the summary."], width, rows)
        room = rows - 1 - PANEL_ROWS
        shown = self.shown()
        page = body(shown, width, room, self.page)
        if page.count != self.pages or len(self.parts) != page.count:
            self.seen = set()  # the screen has another size now, so other pages
            self.parts = [body(shown, width, room, number).part for number in range(page.count)]
        self.page, self.pages = page.number, page.count
        self.seen.add(page.number)
        return screen(self.title(), page, self.panel(width), width, rows)

    def marks(self) -> list[str]:
        """Return the texts to highlight: the words searched, and the number of the phrase that is typed."""
        return [text for text in (self.sought, f"[{self.digits}]" if self.digits else "") if text]

    def title(self) -> str:
        desk = self.desk
        parts = [f"Summary {self.index + 1} of {len(desk.examples)}"]
        parts += [] if desk.blind else [f"example_id {self.example.example_id}"]
        parts += [desk.time_left()] if desk.time_left() else []
        parts += [f"page {self.page + 1} of {self.pages}"] if self.pages > 1 else []
        return ", ".join(parts)

    def shown(self) -> Shown:
        """Return the texts of the example; in a blind comparison with the other summaries of its note."""
        desk, example = self.desk, self.example
        read = {"Clinical Note:": example.clinical_note}
        if not desk.blind:
            read |= {"Reference Summary:": example.reference_summary, "Automatic Verdict:": example.automatic}
        together = desk.same_note(example) if desk.blind else [example]
        names = [f" {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] if len(together) > 1 else [""]
        summaries = []
        for name, each in zip(names, together, strict=False):
            is_current = each is example
            title = f"Summary{name}{RATED if is_current else ''}:" if name else SUMMARY_TITLE
            text = each.generated_summary.strip() or "(empty)"
            texts = {title: numbered(text) if is_current else text}
            rating = replace(desk.stored(each), draft=None)  # the panel shows it, and the note stays where it is
            texts |= {"Other Ratings:": others_text(desk.others(each)), "Your Rating:": rating_text(rating)}
            summaries.append({heading: content for heading, content in texts.items() if content.strip()})
        filled = {heading: text for heading, text in read.items() if text.strip()}
        return Shown(filled, summaries, together.index(example))

    def panel(self, width: int) -> list[str]:
        """Return the message and the question."""
        if self.typing is not None:
            return panels.typing(self.message, self.typing.question)
        if self.asked is Asked.PHRASE:
            return panels.phrase(self.message, self.digits, len(phrases(self.summary)))
        if self.asked is Asked.PLACE:
            return panels.place(self.message, self.places, self.summary)
        if self.asked is Asked.KIND:
            return panels.kind(self.message, self.error.text, width)
        if self.asked is Asked.COMPLETENESS:
            return panels.completeness(self.message)
        return panels.verdict(self.message, has_rating=self.rating.is_complete)

    def progress_lines(self) -> list[str]:
        desk = self.desk
        return progress(desk.examples, desk.book.ratings.values(), desk.assessor, mixed=desk.mixed).split("\n")
