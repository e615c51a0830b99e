"""Editor of management: a test instead of a treatment, or a treatment instead of a test."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache

from clinical.facts import Fact, concepts
from clinical.occurrences import right_before
from negatives.case import Candidate, Case, capital_like, one_replacement, shuffled
from negatives.names import NEVER

_OPENS = re.compile(r"(?:^|[.;:\n]\s*|[.;:]\s+(?:an?|the) )$", re.IGNORECASE)
_ACTION = re.compile(
    r"(?P<noun> therapy| treatment)? (?P<be>is|was) (?:then |also )?(?:started|given|administered|prescribed|initiated|"
    r"performed|ordered|obtained|done|scheduled|planned|recommended|indicated)\b"
)
_VERBS = {"drug": "started", "procedure": "performed"}
_MANY = re.compile(r"s$|, |/")


def edit_management(case: Case, rng: random.Random) -> Iterator[Candidate]:
    """Change statements such as "Metronidazole was started." to "Urinalysis was performed."."""

    @cache
    def others(kind: str) -> list[str]:
        """Return the names of a kind that neither text has."""
        unnamed = [concept for key, concept in concepts(kind).items() if key not in case.named]
        own = [concept for concept in unnamed if concept.group not in NEVER and ", " not in concept.group]
        return [concept.name for concept in own if not _MANY.search(concept.name)]

    for fact in shuffled([fact for fact in case.of_type("drug", "procedure") if not fact.negated], rng):
        action = _ACTION.match(case.text, fact.end)
        if action and right_before(_OPENS, case.text, fact.start):
            kind = "procedure" if fact.type == "drug" else "drug"
            for name in case.corpus.in_proportion(kind, others(kind), rng):
                yield one_replacement(fact.start, action.end(), _statement(fact, action, kind, name))


def _statement(fact: Fact, action: re.Match[str], kind: str, name: str) -> str:
    return capital_like(fact.text, f"{name} {action['be']} {_VERBS[kind]}")
