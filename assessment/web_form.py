"""What the web form shows and takes, as JSON. The same questions and the same stored ratings as in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from assessment.desk import Desk, others_text, rating_text
from assessment.examples import Example
from assessment.keys import QUESTION
from assessment.questions import with_words
from assessment.ratings import COMPLETENESS, HALLUCINATED, KINDS, SEVERITIES, SummaryError
from assessment.words import phrases

Answer = Mapping[str, Any]


class WrongAnswer(Exception):
    """An answer that cannot be stored. The message is for the page."""


class WebForm:
    """One assessor's session in a browser."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.index = desk.next_open(0)
        self._open()

    def _open(self) -> None:
        if self.index is not None:
            self.desk.opened(self.desk.examples[self.index])

    # ------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Return everything that the page shows."""
        desk = self.desk
        state: dict[str, Any] = {
            "assessor": desk.assessor,
            "count": len(desk.examples),
            "done": desk.done(),
            "question": QUESTION,
            "kinds": KINDS,
            "severities": SEVERITIES,
            "completeness_levels": {str(level): text for level, text in COMPLETENESS.items()},
            "rate_completeness": desk.rate_completeness,
            "time_left": desk.time_left(),
            "example": None,
        }
        if self.index is not None:
            state |= {"number": self.index + 1, "example": self._example(desk.examples[self.index])}
        return state

    def _example(self, example: Example) -> dict[str, Any]:
        desk, rating = self.desk, self.desk.stored(example)
        together = desk.same_note(example) if desk.blind else [example]
        shown = {
            "text_sha256": example.text_sha256,
            "note": example.clinical_note,
            "summary": example.generated_summary,
            "phrases": phrases(example.generated_summary),
            "letter": _letter(together.index(example)) if len(together) > 1 else "",
            "others_of_note": [
                {
                    "letter": _letter(number),
                    "summary": each.generated_summary,
                    "rating": rating_text(desk.stored(each)),
                }
                for number, each in enumerate(together)
                if each is not example
            ],
            "rating": {**asdict(rating), "assessor": desk.assessor},
            "is_done": desk.is_done(rating),
            "other_ratings": others_text(desk.others(example)),
        }
        if not desk.blind:
            shown["read"] = {
                "example_id": example.example_id,
                "reference": example.reference_summary,
                "automatic": example.automatic,
            }
        return shown

    # ------------------------------------------------------------------------------------- answers

    def take(self, answer: Answer) -> dict[str, Any]:
        """Store one answer and return the new state. Raises WrongAnswer for one that cannot be stored."""
        takes: dict[str, Callable[[Example, Answer], None]] = {
            "no": self._no,
            "skip": self._skip,
            "begin": self._begin,
            "take_back": lambda example, _: self.desk.take_back_draft(example),
            "error": self._error,
            "completeness": self._completeness,
            "omissions": self._omissions,
            "comment": self._comment,
            "next": lambda example, _: self._leave(),
            "back": self._back,
        }
        take = takes.get(str(answer.get("action")))
        if take is None or self.index is None:
            raise WrongAnswer("There is no such question.")
        example = self.desk.examples[self.index]
        if answer.get("text_sha256") != example.text_sha256:
            raise WrongAnswer("Another summary is on the screen now, perhaps in a second window. Load the page again.")
        take(example, answer)
        return self.state()

    def _leave(self) -> None:
        assert self.index is not None
        self.index = self.desk.leave(self.index)
        self._open()

    def _back(self, example: Example, answer: Answer) -> None:
        assert self.index is not None
        before = self.desk.before(self.index)
        if before is None:
            raise WrongAnswer("This is the first summary.")
        self.index = before
        self._open()

    def _leave_if_done(self, example: Example) -> None:
        if self.desk.is_done(self.desk.stored(example)):
            self._leave()

    def _no(self, example: Example, answer: Answer) -> None:
        self.desk.say_no(example)
        self._leave_if_done(example)

    def _skip(self, example: Example, answer: Answer) -> None:
        self.desk.skip(example)
        self._leave()

    def _begin(self, example: Example, answer: Answer) -> None:
        """Store a yes, with its words once they are marked, until it has a kind."""
        self.desk.begin_error(example, _words(example, answer), adds=answer.get("adds") is True)

    def _error(self, example: Example, answer: Answer) -> None:
        """Store an error with kind and severity; the page stays, for a further one."""
        kind, severity = answer.get("kind"), answer.get("severity")
        if kind not in KINDS or severity not in SEVERITIES:
            raise WrongAnswer("Choose the kind of the error and how severe it is.")
        words = _words(example, answer)
        self.desk.finish_error(example, SummaryError(kind, severity, words.start, words.end, words.text))

    def _completeness(self, example: Example, answer: Answer) -> None:
        level = answer.get("level")
        if isinstance(level, bool) or level not in COMPLETENESS:
            raise WrongAnswer(f"Completeness is a number from 0 to {max(COMPLETENESS)}.")
        self.desk.store_completeness(example, level)
        if self.desk.stored(example).verdict != HALLUCINATED:  # otherwise a further error may follow
            self._leave_if_done(example)

    def _omissions(self, example: Example, answer: Answer) -> None:
        omissions = answer.get("omissions")
        if not isinstance(omissions, list) or not all(isinstance(text, str) for text in omissions):
            raise WrongAnswer("Omissions are a list of texts.")
        self.desk.store_omissions(example, [" ".join(text.split()) for text in omissions if text.strip()])

    def _comment(self, example: Example, answer: Answer) -> None:
        comment = answer.get("comment")
        if not isinstance(comment, str):
            raise WrongAnswer("A comment is a text.")
        self.desk.store_comment(example, " ".join(comment.split()))


def _words(example: Example, answer: Answer) -> SummaryError:
    """Return an error with the words of the answer: characters `start` to `end` of the summary, or none."""
    start, end = answer.get("start"), answer.get("end")
    if start is None and end is None:
        return SummaryError()
    length = len(example.generated_summary)
    numbers = type(start) is int and type(end) is int
    if not numbers or not 0 <= int(start or 0) < int(end or 0) <= length:
        raise WrongAnswer("These words are not in the summary.")
    return with_words(SummaryError(), (int(start or 0), int(end or 0)), example.generated_summary)


def _letter(number: int) -> str:
    return chr(ord("A") + number)
