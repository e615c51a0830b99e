"""One assessor's work: which summary comes next, and how each answer is stored. Every form of the tool uses it.

Every method that takes an answer saves it before it returns, so a tool that is killed loses no answer given.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from assessment.examples import Example
from assessment.ratings import (
    COMPLETENESS,
    HALLUCINATED,
    NOT_HALLUCINATED,
    SKIPPED,
    Draft,
    Rating,
    RatingBook,
    SummaryError,
)
from assessment.tally import counted

FEWEST_TIMES = 3  # ratings whose time is known, from which on the time left is estimated
MOST_TIMES = 20  # the latest ratings say how fast the assessor is now


@dataclass
class Desk:
    """The examples of one assessor and the file of ratings."""

    examples: Sequence[Example]
    book: RatingBook
    assessor: str
    blind: bool = True
    mixed: bool = False  # summaries of several models
    rate_completeness: bool = False
    adjudicates: bool = False  # settles draws of other assessors
    skipped_now: set[str] = field(default_factory=set)  # not asked again in this session
    trail: list[int] = field(default_factory=list)  # indices of the examples left before, to go back
    shown_at: dict[str, float] = field(default_factory=dict)  # text_sha256 -> monotonic seconds

    # ------------------------------------------------------------------------------------- what is there

    def stored(self, example: Example) -> Rating:
        """Return this assessor's rating of the example as the file has it, or an empty one."""
        empty = Rating(
            self.assessor, example.text_sha256, example.example_id, blind=self.blind, adjudication=self.adjudicates
        )
        return self.book.ratings.get((self.assessor, example.text_sha256), empty)

    def is_done(self, rating: Rating) -> bool:
        """Return whether nothing is left to ask of this rating."""
        return rating.is_complete and (rating.completeness is not None or not self.rate_completeness)

    def next_open(self, start: int) -> int | None:
        """Return the next example without a complete rating, from `start` on and then from the beginning.

        Examples skipped in an earlier session come last. None if nothing is left to ask.
        """
        self.book.refresh()  # the same assessor may use a second terminal
        order = [*range(start, len(self.examples)), *range(start)]
        ratings = {i: self.stored(self.examples[i]) for i in order}
        waiting = [i for i in order if not self.is_done(ratings[i])]
        waiting = [i for i in waiting if ratings[i].text_sha256 not in self.skipped_now]
        waiting.sort(key=lambda i: ratings[i].verdict == SKIPPED)
        return waiting[0] if waiting else None

    def done(self) -> int:
        """Return how many examples need nothing more."""
        return sum(self.is_done(self.stored(example)) for example in self.examples)

    def same_note(self, example: Example) -> list[Example]:
        """Return all examples of the example's note, in the order in which they are rated."""
        return [each for each in self.examples if each.clinical_note == example.clinical_note]

    def others(self, example: Example) -> list[Rating]:
        """Return what the other assessors say of the example, for who settles their draw; else nothing."""
        if not self.adjudicates:
            return []
        ratings = counted(self.book.ratings.values(), mixed=self.mixed)
        return [
            rating
            for rating in ratings
            if rating.text_sha256 == example.text_sha256 and rating.is_given and not rating.adjudication
        ]

    def time_left(self) -> str:
        """Return `about 40 minutes left` from the median time of the latest ratings; empty if too few are known."""
        ratings = [self.stored(example) for example in self.examples]
        timed = sorted((r for r in ratings if r.is_given and r.seconds > 0), key=lambda r: r.rated_at)[-MOST_TIMES:]
        left = sum(not self.is_done(rating) for rating in ratings)
        if len(timed) < FEWEST_TIMES or not left:
            return ""
        minutes = statistics.median(rating.seconds for rating in timed) * left / 60
        if minutes < 1:
            return "less than a minute left"
        if minutes < 90:
            return f"about {minutes:.0f} minute{'s' * (round(minutes) != 1)} left"
        return f"about {minutes / 60:.0f} hours left"

    # ------------------------------------------------------------------------------------- moving

    def opened(self, example: Example) -> None:
        """Note that the example is on the screen now, and for good if its automatic verdict is there too."""
        self.shown_at[example.text_sha256] = time.monotonic()
        rating = self.stored(example)
        if not (self.blind or rating.verdict_shown or example.flagged is None):
            self.book.save(replace(rating, verdict_shown=True))

    def leave(self, index: int) -> int | None:
        """Return the example that comes after this one; None at the end."""
        self.trail.append(index)
        return self.next_open(index + 1)

    def before(self, index: int) -> int | None:
        """Return the example that was shown before this one; None for the first."""
        if self.trail:
            return self.trail.pop()
        return index - 1 if index else None

    # ------------------------------------------------------------------------------------- answers

    def _timed(self, example: Example) -> Rating:
        """Return the rating with the time from the example's display until now."""
        shown_at = self.shown_at.get(example.text_sha256)
        seconds = 0.0 if shown_at is None else round(time.monotonic() - shown_at, 1)
        rating = self.stored(example)
        return replace(rating, seconds=seconds, blind=self.is_blind(rating), rated_at=now())

    def is_blind(self, rating: Rating) -> bool:
        """Return whether an answer that is added to the rating now leaves it blind.

        Whoever has seen the automatic verdict of a summary cannot rate it blind in a later session.
        """
        return self.blind and rating.blind and not rating.verdict_shown

    def say_no(self, example: Example) -> None:
        """Store that the note supports the whole summary."""
        self.skipped_now.discard(example.text_sha256)
        self.book.save(replace(self._timed(example), verdict=NOT_HALLUCINATED, errors=[], draft=None))

    def skip(self, example: Example) -> bool:
        """Store that the example was skipped. Returns False, with nothing stored, if it has a rating, which stays."""
        rating = self.stored(example)
        if rating.is_complete:
            if not self.is_done(rating):
                self.skipped_now.add(example.text_sha256)
            return False
        self.skipped_now.add(example.text_sha256)
        self.book.save(replace(self._timed(example), verdict=SKIPPED, errors=[], draft=None))
        return True

    def begin_error(self, example: Example, error: SummaryError, *, adds: bool = False) -> None:
        """Store a yes, and the words of its error if they are known, until the error has a kind."""
        self.book.save(replace(self.stored(example), draft=Draft(error, adds)))

    def take_back_draft(self, example: Example) -> None:
        """Forget a yes whose error has no kind. The rating before it stays."""
        rating = self.stored(example)
        if rating.draft is not None:
            self.book.save(replace(rating, draft=None))

    def store_errors(self, example: Example, errors: Sequence[SummaryError]) -> None:
        """Store the errors of a hallucinated summary; there is at least one, and each has its kind."""
        self.skipped_now.discard(example.text_sha256)
        self.book.save(replace(self._timed(example), verdict=HALLUCINATED, errors=list(errors), draft=None))

    def finish_error(self, example: Example, error: SummaryError) -> None:
        """Store the error that was begun, with its kind: next to the earlier ones, or in place of them."""
        rating = self.stored(example)
        earlier = rating.errors if rating.draft is not None and rating.draft.adds else []
        self.store_errors(example, [*earlier, error])

    def restore(self, rating: Rating) -> None:
        """Store a rating as it was before an answer that the assessor takes back."""
        self.book.save(rating)

    def store_completeness(self, example: Example, level: int) -> None:
        """Store how complete the summary is, a key of COMPLETENESS."""
        assert level in COMPLETENESS
        rating = self.stored(example)
        self.book.save(replace(rating, completeness=level, blind=self.is_blind(rating)))

    def store_omissions(self, example: Example, omissions: Sequence[str]) -> None:
        """Store the facts that the summary leaves out, in place of those stored before."""
        self.book.save(replace(self.stored(example), omissions=list(omissions)))

    def store_comment(self, example: Example, comment: str) -> None:
        """Store a comment in place of the one stored before."""
        self.book.save(replace(self.stored(example), comment=comment))


def rating_text(rating: Rating) -> str:
    """Return the rating in words, one line for each error, omission and comment."""
    lines = [rating.verdict] if rating.verdict else []
    for error in rating.errors:
        words = f': "{error.text}"' if error.text else ""
        lines.append(f"- {error.kind}, {error.severity or 'severity not given yet'}{words}")
    if rating.draft is not None:
        words = f' "{rating.draft.error.text}"' if rating.draft.error.text else ""
        lines.append(f"- begun: yes{words}; its kind is not given yet, so it does not count")
    lines += [f"- left out: {omission}" for omission in rating.omissions]
    if rating.completeness is not None:
        lines.append(f"- completeness {rating.completeness}: {COMPLETENESS[rating.completeness]}")
    lines += [f"- comment: {rating.comment}"] if rating.comment else []
    return "\n".join(lines)


def others_text(ratings: Sequence[Rating]) -> str:
    """Return other assessors' ratings without their names."""
    return "\n".join(f"Assessor {number}: {rating_text(rating)}" for number, rating in enumerate(ratings, start=1))


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
