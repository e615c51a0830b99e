"""What the judges with a classifier share: they read a note together with a text, in windows of the note."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from fact_checking.claims import FactCheck
from judging.checkpoint_head import Checkpoint
from judging.judge import NoteAndSummary, nli_name
from script_io.progress import progress_bar

SUMMARIES_AT_ONCE = 64  # their windows are in memory together, sorted by length

Span = tuple[int, int]  # (start, end) in characters


@dataclass
class Window:
    """A part of the note, `note[span[0]:span[1]]`, with a statement, as the model reads them."""

    span: Span
    inputs: dict[str, list[int]]
    statement_tokens: list[tuple[int, Span]]  # (index of a token, its place in the statement)
    logits: torch.Tensor | None = None  # (labels,), or (tokens, labels) for labels of each token

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])


@dataclass
class Statement:
    """A part of a summary, `summary[start:end]`, and the windows of the note that it is read with."""

    text: str
    start: int
    end: int
    windows: list[Window] = field(default_factory=list)


class WindowJudge:
    """A classifier that reads each statement of a summary with overlapping windows of the note.

    A subclass says what the statements of a summary are, and makes claims of the logits. The judge fails on a
    statement so long that a window has no room for the note.
    """

    usage = None
    stride_tokens = 64  # shared by neighbouring windows, so that no sentence of the note is cut in all of them
    batch_tokens = 8192  # of a batch of windows, with padding
    most_tokens = 512  # of a window, even if the model can read more

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name = nli_name(checkpoint.name)
        self.failures = 0
        self.tokenizer, self.model = checkpoint.tokenizer, checkpoint.model

    def _statements(self, summary: str) -> list[Statement]:
        """Return the parts of a summary that are read one by one."""
        raise NotImplementedError

    def _grade(self, note: str, summary: str, statements: Sequence[Statement]) -> FactCheck:
        """Return the claims of statements whose windows have been read."""
        raise NotImplementedError

    def check(self, note: str, summary: str) -> FactCheck | None:
        """See `Judge`."""
        return self.check_all([(note, summary)])[0]

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`. The windows of many summaries share batches."""
        checks: list[FactCheck | None] = []
        with progress_bar(label=progress, total=len(pairs), unit="summary") as bar:
            for first in range(0, len(pairs), SUMMARIES_AT_ONCE):
                part = pairs[first : first + SUMMARIES_AT_ONCE]
                checks += self._check_part(part)
                bar.update(len(part))
        self.failures += checks.count(None)
        return checks

    def _check_part(self, pairs: Sequence[NoteAndSummary]) -> list[FactCheck | None]:
        """Check the summaries whose windows are sorted together."""
        cut = [self._statements(summary) for _, summary in pairs]
        fits = [all(map(self._leaves_room, statements)) for statements in cut]
        for (note, _), statements, fit in zip(pairs, cut, fits, strict=True):
            if fit and statements:
                self._add_windows(note, statements)
        for batch in batches((w for statements in cut for s in statements for w in s.windows), self.batch_tokens):
            self._read(batch)
        return [
            self._grade(*pair, statements) if fit else None
            for pair, statements, fit in zip(pairs, cut, fits, strict=True)
        ]

    def _leaves_room(self, statement: Statement) -> bool:
        tokens = len(self.tokenizer(statement.text, verbose=False).input_ids)
        return tokens + 2 * self.stride_tokens <= self._context_tokens

    @property
    def _context_tokens(self) -> int:
        limits = [self.most_tokens]
        if self.tokenizer.model_max_length < VERY_LARGE_INTEGER:
            limits.append(self.tokenizer.model_max_length)
        elif positions := getattr(self.model.config, "max_position_embeddings", None):
            limits.append(positions - 2)  # RoBERTa's table has two positions that no token uses
        return int(min(limits))

    def _add_windows(self, note: str, statements: Sequence[Statement]) -> None:
        """Cut the note into windows for each statement."""
        encoded = self.tokenizer(
            [note] * len(statements),
            [statement.text for statement in statements],
            truncation="only_first",
            max_length=self._context_tokens,
            stride=self.stride_tokens,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        offsets = encoded.pop("offset_mapping")
        for number, owner in enumerate(encoded.pop("overflow_to_sample_mapping")):
            sides = encoded.sequence_ids(number)
            inputs = {name: rows[number] for name, rows in encoded.items()}
            placed = [(index, (start, end)) for index, (start, end) in enumerate(offsets[number])]
            note_tokens, statement_tokens = ([token for token in placed if sides[token[0]] == side] for side in (0, 1))
            span = (note_tokens[0][1][0], note_tokens[-1][1][1]) if note_tokens else (0, 0)
            statements[owner].windows.append(Window(span, inputs, statement_tokens))

    def _read(self, windows: Sequence[Window]) -> None:
        """Store the model's logits in one batch of windows."""
        names = windows[0].inputs
        batch = self.tokenizer.pad({name: [w.inputs[name] for w in windows] for name in names}, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**batch.to(self.model.device)).logits.float().cpu()
        is_token = batch["attention_mask"].bool().cpu()  # without padding, which may be on either side
        for window, row, tokens in zip(windows, logits, is_token, strict=True):
            window.logits = row[tokens] if row.dim() == 2 else row


def batches(windows: Iterator[Window], most_tokens: int) -> Iterator[list[Window]]:
    """Yield the windows by length, in batches of at most `most_tokens` tokens with padding, or of one window."""
    batch: list[Window] = []
    for window in sorted(windows, key=len):
        if batch and (len(batch) + 1) * len(window) > most_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
