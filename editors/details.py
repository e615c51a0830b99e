"""The editor that adds a statement of another note."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from clinical_facts import extract_facts, sentences
from editors.case import MAX_DETAIL_WORDS, Candidate, Case, one_replacement
from editors.people import SEXED

_TRIED = 48


def edit_fabricated_detail(case: Case, rng: random.Random) -> Iterator[Candidate]:
    """A sentence from another note's factual summary among the sentences, or in the place of one."""
    if not case.corpus.details:
        return
    sex = {fact.value for fact in case.facts if fact.type == "sex"}
    known = {fact.value for fact in case.note_facts if fact.type == "sex" and fact.key == "patient"}
    spots = _between_sentences(case.text)
    for _ in range(_TRIED if spots else 0):
        detail = rng.choice(case.corpus.details)
        (start, end, lead, trail), neighbour = rng.choice(spots)
        if _has_a_verb(detail.text) != _has_a_verb(neighbour):  # a fragment among fragments, a sentence among sentences
            continue
        told = {fact.value for fact in extract_facts(detail.text) if fact.type == "sex"}
        if detail.source != case.note and not SEXED.search(detail.text) and not told - (sex or known or told):
            yield one_replacement(start, end, f"{lead}{detail.text}{trail}")


_Spot = tuple[int, int, str, str]
_VERB = re.compile(
    r"\b(?:is|was|are|were|has|had|have|denies|denied|reports|reported|takes|took|does|did|will|lives|smokes|smoked|"
    r"uses|used|presents|presented|started|continues|complains|states|stated|notes|noted|underwent|works|drinks|quit|"
    r"came|comes|died|developed|received|admits|appears|remains|can|could|may|might|should|would|\w{3,}ed)\b",
    re.IGNORECASE,
)


def _has_a_verb(statement: str) -> bool:
    return bool(_VERB.search(statement))


def _between_sentences(text: str) -> list[tuple[_Spot, str]]:
    """Where a sentence may stand, in prose only, with the sentence that stands there.

    A spot is (start, end, what joins the new sentence before, after).

    Between two sentences, or in the place of one: so that neither a length nor a number of sentences tells.
    """
    spans = [span for span in sentences(text) if _is_prose(text[slice(*span)])]
    starts = [
        ((start, start, "", " "), text[start:end]) for start, end in spans if not re.search(r"\d[.)]\s*$", text[:start])
    ]
    ends = [
        ((end, end, " ", ""), text[start:end])
        for start, end in spans
        if text[end - 1] in ".!?" and text[end : end + 1] in ("", "\n")
    ]
    in_place = [
        ((start, end, "", ""), text[start:end])
        for start, end in spans
        if len(text[start:end].split()) <= MAX_DETAIL_WORDS
    ]
    return [*starts, *ends, *in_place, *in_place]


def _is_prose(sentence: str) -> bool:
    return len(sentence.split()) >= 4 and sentence[-1] in ".!?" and sentence[0].isupper() and ":" not in sentence
