"""What judges share whose model reads several summaries of a note together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from fact_checking.claims import FactCheck, without_citations
from judging.judge import NoteAndSummary
from script_io.progress import progress_bar

SUMMARIES_PER_ROW = 16  # of the same note; all completions of a prompt share one computation of it
Scores = TypeVar("Scores")
Given = TypeVar("Given", covariant=True)


def scores_by_note(
    pairs: Sequence[NoteAndSummary],
    is_read: Callable[[str, str], bool],
    score_row: Callable[[str, Sequence[str]], Sequence[Scores]],
    progress: str | None,
) -> list[Scores | None]:
    """Return what `score_row(note, summaries)` gives for each pair, in order; None for a pair that is not read."""
    found: list[Scores | None] = [None] * len(pairs)
    by_note: dict[str, list[int]] = {}
    for place, (note, summary) in enumerate(pairs):
        if is_read(note, summary):
            by_note.setdefault(note, []).append(place)
    with progress_bar(label=progress, total=len(pairs), unit="summary") as bar:
        for note, places in by_note.items():
            for first in range(0, len(places), SUMMARIES_PER_ROW):
                part = places[first : first + SUMMARIES_PER_ROW]
                scored = score_row(note, [without_citations(pairs[place][1]) for place in part])
                for place, scores in zip(part, scored, strict=True):
                    found[place] = scores
                bar.update(len(part))
    return found


class WordScorer(Protocol[Given]):
    """A model that scores the words of summaries."""

    def score(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> Sequence[Given | None]:
        """Return the scores of each summary, or None if the model cannot read it."""
        ...


class WordJudge(Generic[Scores]):
    """A judge whose verdict follows from the scores of words; `_verdict` makes it."""

    usage = None
    marks_errors_alone = True  # its claims are doubtful words, and none is supported

    def __init__(self, words: WordScorer[Scores], name: str) -> None:
        self._scorer, self.name, self.failures = words, name, 0

    def check(self, note: str, summary: str) -> FactCheck | None:
        """See `Judge`."""
        return self.check_all([(note, summary)])[0]

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`. The summaries of a note share its computation."""
        scored = self._scorer.score(pairs, progress)
        checks = [
            None if scores is None else self._verdict(*pair, scores) for pair, scores in zip(pairs, scored, strict=True)
        ]
        self.failures += checks.count(None)
        return checks

    def _verdict(self, note: str, summary: str, scores: Scores) -> FactCheck:
        raise NotImplementedError
