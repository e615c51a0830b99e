"""Judge summaries with a model that marks the unsupported tokens of a summary, such as LettuceDetect, offline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch

from fact_checking.claims import ERROR, SUPPORTED, UNSUPPORTED, Claim, FactCheck, without_citations
from judging.checkpoint_head import Checkpoint
from judging.nli_judge import statements_of
from judging.window_judge import Span, Statement, Window, WindowJudge

THRESHOLD = 0.5  # probability from which on a word is unsupported
# Beginnings of the names of labels for unsupported tokens
_UNSUPPORTED = ("hallucinat", "unsupport", "not_support", "not support", "contradict", "inconsisten", "fabricat")
_NAMELESS = ["LABEL_0", "LABEL_1"]  # LettuceDetect's labels in this order: supported, hallucinated
_WORD = re.compile(r"\w(?:\S*\w)?")  # without the punctuation around it


class SpanJudge(WindowJudge):
    """A token-classification model that reads a whole summary with overlapping windows of the note.

    The probability that a word is unsupported is the highest over its tokens, and then the lowest over the windows,
    since one window with the evidence is enough. Neighbouring words of a sentence with at least `THRESHOLD` are one
    unsupported claim of level error. A sentence without such a word is one supported claim. The score is the sum of the
    words' probabilities.

    Labels of tokens: Kovacs and Recski 2025 (LettuceDetect, arXiv:2502.17125). Their prompt around the note is left
    out, because other models have other prompts.
    """

    most_tokens = 4096  # LettuceDetect is trained on texts of up to this length

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises InputError if the names of the labels do not tell which of them are for unsupported tokens."""
        super().__init__(checkpoint)
        self.unsupported = unsupported_labels(checkpoint.labels)
        if not self.unsupported:
            checkpoint.refuse(
                f"labels tokens, but not as supported and unsupported (found {', '.join(checkpoint.labels.values())})"
            )
        named = ", ".join(checkpoint.labels[index] for index in self.unsupported)
        print(f"Judge: marks words, as unsupported under the label {named}")

    def _statements(self, summary: str) -> list[Statement]:
        text = without_citations(summary)
        return [Statement(text, 0, len(text))] if _WORD.search(text) else []

    def _grade(self, note: str, summary: str, statements: Sequence[Statement]) -> FactCheck:
        """See `WindowJudge`; there is one statement, the whole summary, or none."""
        probabilities = {word: p for statement in statements for word, p in self._words(statement).items()}
        claims: list[Claim] = []
        for sentence in statements_of(summary):
            inside = {word: p for word, p in probabilities.items() if sentence.start <= word[0] < sentence.end}
            marked = list(stretches(inside))
            claims += [
                Claim("span", summary[start:end], start, end, UNSUPPORTED, ERROR, None, None) for start, end in marked
            ]
            if not marked:
                where = (sentence.text, sentence.start, sentence.end)
                claims.append(Claim("sentence", *where, SUPPORTED, ERROR, None, None))
        return FactCheck(tuple(claims), sum(probabilities.values()))

    def _words(self, statement: Statement) -> dict[Span, float]:
        """Return the probability of each word, by its place in the statement, that it is unsupported."""
        by_window = [self._token_probabilities(window) for window in statement.windows]
        return {
            word: min(max((p for token, p in tokens if overlap(word, token)), default=0.0) for tokens in by_window)
            for word in (match.span() for match in _WORD.finditer(statement.text))
        }

    def _token_probabilities(self, window: Window) -> list[tuple[Span, float]]:
        """Return (place in the statement, probability of being unsupported) for each token of the statement."""
        if window.logits is None:
            raise ValueError("the window has not been read")
        probabilities = window.logits.softmax(-1)[:, self.unsupported].sum(-1)  # (tokens,)
        indices = torch.tensor([index for index, _ in window.statement_tokens])
        places = (place for _, place in window.statement_tokens)
        return list(zip(places, probabilities[indices].tolist(), strict=True))


def unsupported_labels(labels: Mapping[int, str]) -> list[int]:
    """Return the indices of the labels for unsupported tokens, or [] if the names do not tell them from the others.

    Prefixes of spans (B-, I-) are ignored.
    """
    if list(labels.values()) == _NAMELESS:
        return [1]
    names = {index: re.sub(r"^[bi]-", "", name.lower()) for index, name in labels.items()}
    found = [index for index, name in names.items() if name.startswith(_UNSUPPORTED)]
    return found if len(found) < len(labels) else []


def stretches(probabilities: Mapping[Span, float]) -> Iterator[Span]:
    """Yield (start, end) of each run of words with at least `THRESHOLD`; the words are in the order of the text."""
    for is_marked, run in groupby(probabilities.items(), key=lambda item: item[1] >= THRESHOLD):
        if is_marked:
            words = [word for word, _ in run]
            yield words[0][0], words[-1][1]


def overlap(first: Span, second: Span) -> bool:
    """Return whether two spans share a character."""
    return first[0] < second[1] and second[0] < first[1]
