"""Make the verified negatives of one factual summary. This is the work of the worker processes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fact_checking.checker import unsound_claims
from negatives.case import Case, Corpus
from negatives.example_index import Example
from negatives.verification import Negative, verified_negatives

# Negatives offered in each category, so that the balance has a choice. More are offered if few are wanted (up to MANY)
# or if the summary is short: OFFERED_BY_A_SHORT_ONE is divided by its number of facts
OFFERED_OF_FEW, OFFERED_OF_MANY, OFFERED_BY_A_SHORT_ONE, MANY = 4, 2, 24, 2
_CHOICE = {"fabricated_detail": 4}  # factor: there are many candidates, and most disturb the balance


@dataclass(frozen=True)
class Task:
    """A factual summary and the number of negatives wanted for it."""

    example: Example
    wanted: int
    seed: str


@dataclass(frozen=True)
class Supply:
    """The negatives of a sound summary, or the errors of an unsound one."""

    errors: tuple[tuple[str, str, str], ...] = ()  # type, text, verdict
    negatives: tuple[Negative, ...] = ()
    rejected_for: Counter[str] = field(default_factory=Counter)


def supply(task: Task, corpus: Corpus, categories: Sequence[str]) -> Supply:
    """Return verified negatives of one summary in every category, in random order."""
    note, summary = task.example.note, task.example.summary
    if errors := unsound_claims(note, summary):
        return Supply(tuple((claim.type, claim.text, claim.verdict) for claim in errors))
    if not task.wanted:
        return Supply()
    case, rng = Case(note, summary, corpus), random.Random(task.seed)
    fewest = OFFERED_OF_FEW if task.wanted <= MANY else OFFERED_OF_MANY
    count = max(fewest, math.ceil(OFFERED_BY_A_SHORT_ONE / max(1, len(case.facts))))
    negatives, rejected_for = _verified(case, categories, count, rng)
    if len(negatives) < task.wanted > count:
        negatives, rejected_for = _verified(case, categories, task.wanted, rng)
    return Supply((), tuple(rng.sample(negatives, len(negatives))), rejected_for)


def _verified(
    case: Case, categories: Sequence[str], count: int, rng: random.Random
) -> tuple[list[Negative], Counter[str]]:
    """Return up to `count` negatives of each category, all different, and the rejected candidates by reason."""
    rejected_for: Counter[str] = Counter()
    found = [
        negative
        for name in categories
        for negative in verified_negatives(case, name, rng, count * _CHOICE.get(name, 1), rejected_for)
    ]
    return list({negative.rejected: negative for negative in found}.values()), rejected_for
