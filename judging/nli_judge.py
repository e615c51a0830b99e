"""Judge summaries with a model for natural language inference, offline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from clinical.facts import sentences
from fact_checking.claims import CONTRADICTED, ERROR, SUPPORTED, UNSUPPORTED, Claim, FactCheck, without_citations
from judging.checkpoint_head import Checkpoint
from judging.window_judge import Statement, WindowJudge

ENTAILMENT, CONTRADICTION = ("entail", "support"), ("contradict", "refut")  # beginnings of the names of labels
_ONE_LABEL = ("label_0", "entail", "support", "consisten", "factual")  # beginnings that say support, or nothing
_NO_ACTIVATION = "Identity"  # at the end of the name of a cross-encoder's activation: its score is no probability


class NliJudge(WindowJudge):
    """A sequence-classification model that compares each sentence of a summary with overlapping windows of the note.

    A sentence is supported if a window entails it with a probability of at least 0.5; else contradicted if a window
    contradicts it with at least 0.5; else unsupported. The score is the sum over sentences of 1 - the highest
    probability of entailment. Each sentence is one claim of level error.

    The probabilities are the softmax of the logits. The sigmoid of a single logit is the probability of entailment, as
    in HHEM-1 (Vectara 2023).
    """

    # entailment models are trained on short premises (Laban et al. 2022)
    most_tokens = 512

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises InputError if no label says entailment, or if a single logit is no probability of support."""
        super().__init__(checkpoint)
        labels = checkpoint.labels
        self.entailment, self.contradiction = label_index(labels, ENTAILMENT), label_index(labels, CONTRADICTION)
        if len(labels) == 1:
            self.entailment, self.contradiction = 0, None
            if reason := why_no_support(self.model.config):
                checkpoint.refuse(reason)
            print("Judge: one logit, whose sigmoid is read as the probability of support")
        elif self.entailment is None:
            checkpoint.refuse(
                f"has no label for entailment (found {', '.join(labels.values())}); where its description says which "
                "label is which, write that into id2label of a copy's config.json, or else"
            )

    def _statements(self, summary: str) -> list[Statement]:
        return statements_of(summary)

    def _grade(self, note: str, summary: str, statements: Sequence[Statement]) -> FactCheck:
        graded = [self._claim(note, statement) for statement in statements]
        return FactCheck(tuple(claim for claim, _ in graded), sum(1 - entailed for _, entailed in graded))

    def _claim(self, note: str, statement: Statement) -> tuple[Claim, float]:
        """Return the claim of a statement and its highest probability of entailment."""
        read = torch.stack([window.logits for window in statement.windows if window.logits is not None])
        probabilities = read.sigmoid() if read.shape[-1] == 1 else read.softmax(-1)  # (windows, labels)
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


def why_no_support(config: Any) -> str | None:
    """Return why the sigmoid of a model's single logit is no probability of support, or None if it is one.

    Cross-encoders for similarity and for search have one logit as well. Their configurations tell: a label of another
    name, a regression, or no activation (sentence-transformers).
    """
    label = str(config.id2label[0])
    if not label.lower().startswith(_ONE_LABEL):
        return f"its only label is {label}, which does not say that the note supports the text"
    newer = getattr(config, "sentence_transformers", None) or {}
    activation = getattr(config, "sbert_ce_default_activation_function", None) or newer.get("activation_fn", "")
    if config.problem_type == "regression" or str(activation).endswith(_NO_ACTIVATION):
        return "its only logit is a score of similarity or rank, and no probability of support"
    return None
