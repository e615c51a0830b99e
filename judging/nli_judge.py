"""Judge summaries with a model for natural language inference, offline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from clinical.facts import sentences
from fact_checking.claims import CONTRADICTED, ERROR, SUPPORTED, UNSUPPORTED, Claim, FactCheck, without_citations
from judging.judge import NoteAndSummary, hides, nli_name
from language_model.placement import placement_for
from script_io.errors import InputError

ENTAILMENT, CONTRADICTION = ("entail", "support"), ("contradict", "refut")  # beginnings of the names of labels
# Most tokens of a window, even if the model can read more: entailment models are trained on short premises (Laban et
# al. 2022).
MOST_TOKENS = 512
SUMMARIES_AT_ONCE = 64  # their windows are in memory together, sorted by length


@dataclass
class Window:
    """A part of the note, `note[span[0]:span[1]]`, with a statement, as the model reads them."""

    span: tuple[int, int]
    inputs: dict[str, list[int]]
    probabilities: torch.Tensor | None = None  # (labels,)


@dataclass
class Statement:
    """A sentence of a summary, `summary[start:end]`, and the windows of the note that it is compared with."""

    text: str
    start: int
    end: int
    windows: list[Window] = field(default_factory=list)


class NliJudge:
    """A sequence-classification model that compares each sentence of a summary with overlapping windows of the note.

    A sentence is supported if a window entails it with a probability of at least 0.5; else contradicted if a window
    contradicts it with at least 0.5; else unsupported. The score is the sum over sentences of 1 - the highest
    probability of entailment. The judge fails on a sentence so long that a window has no room for the note.
    """

    usage = None
    stride_tokens = 64  # shared by neighbouring windows, so that no statement of the note is cut in all of them
    batch_size = 16  # windows

    def __init__(self, model: str, device: str = "auto") -> None:
        """`model` is a folder or a hub id. Raises InputError if the model has no label for entailment."""
        self.name = nli_name(model)
        self.failures = 0
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model)
            self.model = AutoModelForSequenceClassification.from_pretrained(model, use_safetensors=True).eval()
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"--judge_model {model}: cannot be loaded ({reason}); name an NLI model") from error
        if not self.tokenizer.is_fast:
            raise InputError(
                f"--judge_model {model}: its tokenizer gives no offsets; name an NLI model with a fast one"
            )
        labels = self.model.config.id2label
        self.entailment, self.contradiction = label_index(labels, ENTAILMENT), label_index(labels, CONTRADICTION)
        if self.entailment is None:
            raise InputError(
                f"--judge_model {model}: has no label for entailment (found {', '.join(labels.values())}); name an NLI "
                "model, or, where its description says which label is which, write that into id2label of a copy's "
                "config.json"
            )
        # float32 everywhere, so that a verdict does not depend on the device
        self.model.to(placement_for(device, "float32").device)

    def check(self, note: str, summary: str) -> FactCheck | None:
        """See `Judge`. Each sentence is one claim of level error."""
        return self.check_all([(note, summary)])[0]

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`. The windows of many summaries share batches."""
        checks: list[FactCheck | None] = []
        with tqdm(total=len(pairs), desc=progress, unit="summary", disable=hides(progress)) as bar:
            for first in range(0, len(pairs), SUMMARIES_AT_ONCE):
                part = pairs[first : first + SUMMARIES_AT_ONCE]
                checks += self._check_part(part)
                bar.update(len(part))
        self.failures += checks.count(None)
        return checks

    def _check_part(self, pairs: Sequence[NoteAndSummary]) -> list[FactCheck | None]:
        """Check the summaries whose windows are sorted together."""
        cut = [statements_of(summary) for _, summary in pairs]
        fits = [all(map(self._leaves_room, statements)) for statements in cut]
        for (note, _), statements, fit in zip(pairs, cut, fits, strict=True):
            if fit and statements:
                self._add_windows(note, statements)
        windows = [window for statements in cut for statement in statements for window in statement.windows]
        windows.sort(key=lambda window: len(window.inputs["input_ids"]))
        for first in range(0, len(windows), self.batch_size):
            self._read(windows[first : first + self.batch_size])
        return [
            self._grade(note, statements) if fit else None
            for (note, _), statements, fit in zip(pairs, cut, fits, strict=True)
        ]

    def _leaves_room(self, statement: Statement) -> bool:
        tokens = len(self.tokenizer(statement.text, verbose=False).input_ids)
        return tokens + 2 * self.stride_tokens <= self._context_tokens

    @property
    def _context_tokens(self) -> int:
        limits = (self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", None))
        return int(min(limit for limit in (*limits, MOST_TOKENS) if limit and limit > 0))

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
            span = span_of_note(encoded.sequence_ids(number), offsets[number])
            inputs = {name: rows[number] for name, rows in encoded.items()}
            statements[owner].windows.append(Window(span, inputs))

    def _read(self, windows: Sequence[Window]) -> None:
        """Store the model's probabilities in one batch of windows."""
        names = windows[0].inputs
        batch = self.tokenizer.pad({name: [w.inputs[name] for w in windows] for name in names}, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**batch.to(self.model.device)).logits
        for window, row in zip(windows, logits.float().softmax(-1).cpu(), strict=True):
            window.probabilities = row

    def _grade(self, note: str, statements: Sequence[Statement]) -> FactCheck:
        graded = [self._claim(note, statement) for statement in statements]
        return FactCheck(tuple(claim for claim, _ in graded), sum(1 - entailed for _, entailed in graded))

    def _claim(self, note: str, statement: Statement) -> tuple[Claim, float]:
        """Return the claim of a statement and its highest probability of entailment."""
        probabilities = torch.stack([w.probabilities for w in statement.windows if w.probabilities is not None])
        entailed = probabilities[:, self.entailment]
        window = int(entailed.argmax())
        verdict = SUPPORTED if entailed[window] >= 0.5 else UNSUPPORTED
        if verdict == UNSUPPORTED and self.contradiction is not None:
            contradicted = probabilities[:, self.contradiction]
            if contradicted.max() >= 0.5:
                verdict, window = CONTRADICTED, int(contradicted.argmax())
        first, last = statement.windows[window].span
        where = (statement.text, statement.start, statement.end)
        return Claim("sentence", *where, verdict, ERROR, note[first:last], first), float(entailed.max())


def statements_of(summary: str) -> list[Statement]:
    """Return the sentences of a summary without citations; a full stop that a citation leaves behind is none."""
    text = without_citations(summary)
    spans = [(start, end) for start, end in sentences(text) if re.search(r"\w", text[start:end])]
    return [Statement(text[start:end], start, end) for start, end in spans]


def label_index(labels: Mapping[Any, str], beginnings: tuple[str, ...]) -> int | None:
    """Return the index of the first label whose name begins with one of `beginnings`, in any case, or None."""
    return next((int(index) for index, name in labels.items() if name.lower().startswith(beginnings)), None)


def span_of_note(sequence_ids: Sequence[int | None], offsets: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return (start, end) of a window in the note, in characters."""
    note = [offset for which, offset in zip(sequence_ids, offsets, strict=True) if which == 0]
    return (note[0][0], note[-1][1]) if note else (0, 0)
