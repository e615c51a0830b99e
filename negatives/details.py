"""Editor that adds a statement from the summary of another note."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from clinical.facts import sentences
from clinical.occurrences import right_before
from negatives.case import MAX_DETAIL_WORDS, Candidate, Case, one_replacement, style_of, topics_of
from negatives.people import SEXED

_TRIED = 48  # statements drawn for each summary
_LIST_NUMBER = re.compile(r"\d[.)]\s*$")
_GOES_ON = re.compile(r"\s*(?P<first>\S)")


def edit_fabricated_detail(case: Case, rng: random.Random) -> Iterator[Candidate]:
    """Add a sentence from the factual summary of another note, or replace a sentence by it."""
    if not case.corpus.details:
        return
    told = [fact for fact in [*case.facts, *case.note_facts] if fact.type == "sex" and not fact.family]
    sexes = {fact.value for fact in told if fact.key == "patient"} or {fact.value for fact in told}
    topics, spots = topics_of(case.facts), _between_sentences(case.text)
    for _ in range(_TRIED if spots else 0):
        detail = rng.choice(case.corpus.details)
        (start, end, lead, trail), neighbour = rng.choice(spots)
        # in the style of its neighbour, and on a topic of the summary
        if style_of(detail.text) != style_of(neighbour) or (detail.topics and not detail.topics & topics):
            continue
        same_sex = not detail.sexes or detail.sexes == sexes
        if detail.source != case.note and same_sex and not SEXED.search(detail.text):
            yield one_replacement(start, end, f"{lead}{detail.text}{trail}")


_Spot = tuple[int, int, str, str]


def _between_sentences(text: str) -> list[tuple[_Spot, str]]:
    """Return the spots for a new sentence, each with the sentence next to it or in it. Only prose has spots.

    A spot is (start, end, separator before, separator after). It lies between two sentences or covers one, so that
    neither the length nor the number of sentences gives the rejected text away.
    """
    spans = [span for span in sentences(text) if _is_prose(text[slice(*span)]) and _is_whole(text, span[1])]
    starts = [
        ((start, start, "", " "), text[start:end])
        for start, end in spans
        if not right_before(_LIST_NUMBER, text, start)
    ]
    ends = [
        ((end, end, " ", ""), text[start:end])
        for start, end in spans
        if text[end - 1] in ".!?" and text[end : end + 1] in ("", "\n")
    ]
    in_place = [
        ((start, end, "", ""), text[start:end])
        for start, end in spans
        if len(text[start:end].split()) <= MAX_DETAIL_WORDS and len(spans) > 1  # never the whole summary
    ]
    return [*starts, *ends, *in_place, *in_place]


def _is_prose(sentence: str) -> bool:
    return len(sentence.split()) >= 4 and sentence[-1] in ".!?" and sentence[0].isupper() and ":" not in sentence


def _is_whole(text: str, end: int) -> bool:
    """Return whether a sentence ends at `end`. If a lower-case letter follows, only an abbreviation ends there."""
    following = _GOES_ON.match(text, end)
    return not (following and following["first"].islower())
