"""Editors of a finding's qualifiers: side, severity, stage, route, direction, certainty, status."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache

from clinical.facts import Fact, concepts, sentences
from clinical.occurrences import right_before
from negatives.case import (
    CLAUSE_END,
    HABITS,
    Candidate,
    Case,
    cased_like,
    one_replacement,
    rewordings,
    rule,
    rules,
    shuffled,
)


def _opposites(
    case: Case, rng: random.Random, fact_type: str, table: Mapping[str, tuple[str, ...]]
) -> Iterator[Candidate]:
    """Replace the words of each asserted fact by each of their opposites."""
    for fact in shuffled([fact for fact in case.of_type(fact_type) if not fact.negated], rng):
        for other in case.corpus.in_proportion(fact_type, table.get(fact.text.lower(), ()), rng):
            yield one_replacement(fact.start, fact.end, cased_like(fact.text, other))


_SIDES = {
    "left": ("right",),
    "right": ("left",),
}


def edit_laterality(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _opposites(case, rng, "laterality", _SIDES)


_SEVERITIES = {
    "mild": ("severe", "moderate"),
    "moderate": ("mild", "severe"),
    "severe": ("mild", "moderate"),
    "mildly": ("severely", "moderately"),
    "moderately": ("mildly", "severely"),
    "severely": ("mildly", "moderately"),
    "slight": ("severe", "marked"),
    "minimal": ("marked", "extensive"),
    "marked": ("minimal", "slight"),
    "extensive": ("minimal",),
    "acute": ("chronic",),
    "chronic": ("acute",),
    "subacute": ("chronic",),
    "acutely": ("chronically",),
    "chronically": ("acutely",),
    "intermittent": ("constant", "persistent"),
    "constant": ("intermittent", "occasional"),
    "persistent": ("intermittent", "occasional"),
    "occasional": ("constant", "frequent"),
    "frequent": ("rare", "occasional"),
    "rare": ("frequent",),
}
_STAGES = ("I", "II", "III", "IV")
_STAGE_NUMBERS = ("1", "2", "3", "4")


def edit_severity(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact_type in ("severity", "acuity"):
        yield from _opposites(case, rng, fact_type, _SEVERITIES)
    for fact in shuffled(case.of_type("stage"), rng):
        scale = _STAGES if fact.text in _STAGES else _STAGE_NUMBERS
        others = [other for other in scale if other != fact.text and fact.text in scale]
        for other in case.corpus.in_proportion("stage", others, rng):
            yield one_replacement(fact.start, fact.end, other)


_DIRECTIONS = {
    "elevated": ("low",),
    "high": ("low",),
    "increased": ("decreased",),
    "raised": ("low",),
    "low": ("high",),
    "decreased": ("increased",),
    "reduced": ("increased",),
    "diminished": ("increased",),
    "improved": ("worsened",),
    "improving": ("worsening",),
    "improves": ("worsens",),
    "improvement": ("worsening",),
    "better": ("worse",),
    "worsened": ("improved",),
    "worsening": ("improving",),
    "worsens": ("improves",),
    "worse": ("better",),
    "increasing": ("decreasing",),
    "decreasing": ("increasing",),
    "alleviated": ("aggravated",),
    "aggravated": ("alleviated", "relieved"),
    "relieved": ("aggravated",),
    "exacerbated": ("relieved",),
    "positive": ("negative",),
    "negative": ("positive",),
    "normal": ("abnormal",),
    "abnormal": ("normal",),
    "stable": ("unstable",),
    "gained": ("lost",),
    "lost": ("gained",),
}


_ROUTES = (
    ("oral", "intravenous", "topical", "intramuscular", "subcutaneous", "inhaled", "rectal", "nasal", "sublingual"),
    ("orally", "intravenously", "topically", "intramuscularly", "subcutaneously", "rectally"),
    ("p.o.", "i.v.", "i.m."),
    ("po", "iv", "im"),
    ("by mouth", "intravenously", "subcutaneously"),
    ("mouth", "injection"),
)
_OTHER_ROUTES = {
    route: tuple(other for other in style if other != route) for style in reversed(_ROUTES) for route in style
}


def edit_route(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _opposites(case, rng, "route", _OTHER_ROUTES)


def edit_direction(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _opposites(case, rng, "direction", _DIRECTIONS)


_CERTAINTIES = rules(
    (r"\b(?:suspected|possible|probable|presumed|likely)(?= [a-z])", "confirmed", "known"),
    (r"\b(?:a )?(?:possible|probable|presumed|suspected) (?=[a-z]+(?: [a-z]+)?(?:[.,;]|$))", ""),
    (r"\b(?:confirmed|known|diagnosed|documented)(?= [a-z])(?! (?:with|as|to|by|in|on)\b)", "suspected", "possible"),
    (r"\bdiagnosed with(?= [a-z])", "suspected of having", "evaluated for possible"),
    (r"(?:(?<=\. )|(?<=; )|^)Diagnosed with(?= [a-z])", "Suspected"),
    (r"\b(?:may|might|could) have(?= [a-z]+)", "has"),
    (r"\b(?:may|might|could) be(?= [a-z]+)", "is"),
    (r"\b(?:is|was) suspected\b", "was confirmed"),
    (r"\b(?:is|was) confirmed\b", "is suspected"),
    (r"\bconcern for\b", "confirmation of"),
    (r"\bhas (?:a |an )?(?=[a-z]+(?: [a-z]+){0,2}(?:[.;]|$))", "may have "),
    (r"\bhas been diagnosed with\b", "is suspected of having"),
)


_ASSERTS = re.compile(
    r"(?:\b(?:history of|diagnosis of|diagnosed with|developed|significant for|has|had|with|treated for)|\d\.)\s*$",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\s*(?:[.,;\n]|$)")
_EVALUATES = re.compile(r"\b(?:for|out|no|not|of) (?:an? )?$", re.IGNORECASE)


def edit_certainty(case: Case, rng: random.Random) -> Iterator[Candidate]:
    diagnoses = _diagnoses(case)
    starts = {fact.start for fact in diagnoses}
    for candidate in shuffled([*rewordings(case, rng, _CERTAINTIES), *_made_uncertain(case, diagnoses)], rng):
        (change,) = candidate.replacements
        if change.new.strip() == "may have" and not _one_follows(case.text, change.end, starts):
            continue
        if change.new in ("confirmed", "known", "") and right_before(_EVALUATES, case.text, change.start):
            continue
        if _is_opinion(case, change.start):  # "she thinks that she is" stays an opinion
            continue
        following = case.text[change.end : change.end + 1]
        if change.new in ("possible ", "suspected ") and right_before(_OPENS, case.text, change.start):
            # "1. Gout" -> "1. Possible gout"
            yield one_replacement(change.start, change.end + 1, change.new.capitalize() + following.lower())
        elif change.new or not case.text[change.start].isupper():
            yield candidate
        else:
            yield one_replacement(change.start, change.end + 1, following.upper())


_STATED_AS_DIAGNOSIS = re.compile(r"\b(?:diagnos\w+|history|confirmed|known)\b", re.IGNORECASE)
_OPINES = re.compile(r"\b(?:thinks?|thought|feels?|felt|believes?|wonders?|worried|concern\w*)\b", re.IGNORECASE)
_OPENS = re.compile(r"(?:^|[.:\n])\s*$")


def _is_opinion(case: Case, place: int) -> bool:
    """Return whether a word of opinion is in the clause before a place, or in the line that ends there."""
    place -= case.text.endswith("\n", 0, place)
    return case.occurrences(_OPINES).last_end(place) > case.occurrences(CLAUSE_END).last_end(place)


def _diagnoses(case: Case) -> list[Fact]:
    """Return the conditions that the note states as a diagnosis. "I'm depressed" is not a diagnosis."""
    spans = sentences(case.note)
    of_type = [fact for fact in case.note_facts if fact.type == "condition"]
    places = {
        number
        for number in {fact.sentence for fact in of_type}
        if _STATED_AS_DIAGNOSIS.search(case.note, *spans[number])
    }
    told = {fact.key for fact in of_type if fact.sentence in places}
    known = concepts("condition")
    return [fact for fact in case.of_type("condition") if fact.key in told and known[fact.key].group != HABITS]


def _one_follows(text: str, position: int, starts: Set[int]) -> bool:
    """Return whether one of the `starts` is at `position`, directly or after an article."""
    return any(
        text.startswith(article, position) and position + len(article) in starts for article in ("", "a ", "an ")
    )


def _made_uncertain(case: Case, diagnoses: Sequence[Fact]) -> Iterator[Candidate]:
    """Yield diagnoses as suspicions: "history of psoriasis." -> "history of suspected psoriasis."."""
    for fact in diagnoses:
        if _ENDS.match(case.text, fact.end) and right_before(_ASSERTS, case.text, fact.start):
            for word in ("suspected ", "possible "):
                yield one_replacement(fact.start, fact.start, word)


# a result or a date shows that the procedure was done
_RESULT_IN_SENTENCE = (
    re.compile(
        r"\b(?:which|that|reveal|show|demonstrat|found|find|result|indicat|confirm|ago|past|previous|prior|with)|\d{4}",
        re.IGNORECASE,
    ),
    re.compile(r"[.;]"),
)
_STATUSES = rules(
    (r"\bstarted on\b", "taken off"),
    (r"\b(?P<was>was|were|been) started\b(?! on\b)", r"\g<was> stopped"),
    (r"\b(?P<was>was|were|been) (?:stopped|discontinued|held)\b", r"\g<was> started", r"\g<was> continued"),
    (r"\bstarted\b(?! on\b)", "stopped"),
    (r"\bstart\b", "stop"),
    (r"\bstopped\b", "started"),
    (r"\bstop\b", "start"),
    (r"\bdiscontinued\b", "started", "continued"),
    (r"\bdiscontinue\b", "start", "continue"),
    (r"\binitiated\b", "discontinued"),
    (r"\binitiate\b", "discontinue"),
    (r"\bcontinue\b", "stop", "discontinue"),
    (r"\bcontinues on\b", "has stopped"),
    (r"\b(?P<was>was|were|been) prescribed\b", r"\g<was> taken off"),
    (
        r"\b(?P<have>have|has|will|we|i) prescribe(?P<d>d?)\b(?! the patient| h[ei][rm]\b| to\b| medic)",
        r"\g<have> discontinue\g<d>",
    ),
    rule(r"\bwas (?:performed|done|completed|obtained)\b", "is planned", "is scheduled", unless=_RESULT_IN_SENTENCE),
    rule(r"\bwere (?:performed|done|completed|obtained)\b", "are planned", "are scheduled", unless=_RESULT_IN_SENTENCE),
    (r"\b(?:is|was) (?:planned|scheduled|pending)\b(?! for| to| on)", "was done", "was performed"),
    (r"\b(?:is|was) scheduled for\b", "underwent"),
    rule(r"\bunderwent\b", "is scheduled for", "is to undergo", unless=_RESULT_IN_SENTENCE),
    rule(r"\bhas undergone\b", "is scheduled for", unless=_RESULT_IN_SENTENCE),
    (r"\bwill (?:undergo|have|get)\b", "underwent"),
    rule(r"\bstatus post\b", "awaiting", unless=_RESULT_IN_SENTENCE),
    (r"\bpending\b", "completed"),
    rule(r"\bcompleted\b", "pending", unless=_RESULT_IN_SENTENCE),
)


_STILL_TO_COME = ("planned", "scheduled", "scheduled for", "to undergo", "awaiting", "pending")
_IN_THE_PAST = re.compile(r"\b(?:ago|past|previous\w*|prior|last|no harm|(?:19|20)\d\d)\b|\d/\d", re.IGNORECASE)

_IN_THE_FUTURE = re.compile(r"\b(?:upcoming|future|next|tomorrow|until)\b", re.IGNORECASE)


def edit_status(case: Case, rng: random.Random) -> Iterator[Candidate]:
    bounds = sentences(case.text)

    @cache
    def has(pattern: re.Pattern[str], sentence: int) -> bool:
        """Return whether a sentence has the pattern, looked up once for all its changes."""
        return pattern.search(case.text, *bounds[sentence]) is not None

    for candidate in rewordings(case, rng, _STATUSES):
        (change,) = candidate.replacements
        sentence = bisect_right(bounds, change.start, key=lambda span: span[0]) - 1
        if not has(_IN_THE_PAST if change.new.endswith(_STILL_TO_COME) else _IN_THE_FUTURE, sentence):
            yield candidate
