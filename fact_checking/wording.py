"""Compare the wording of a written note and its summary around sides, numbers, opposites and denials.

The facts of `clinical` have a subject from the word lists. Here the subject is any content word: "right mesial
sclerosis" against "left mesial sclerosis", "ketones 5.9" against "ketones 0.9", "no filling defect" against "a filling
defect". Only written notes are compared so, because speakers spread a statement over several turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import takewhile
from operator import attrgetter

from clinical.facts import Fact
from clinical.values import covered
from fact_checking.claims import Claim
from fact_checking.worded_text import Said, Word, Wording

_SIDES = {"left": "left", "right": "right", "bilateral": "both", "bilaterally": "both", "both": "both"}
_REACH_OF_SIDE = 3  # content words after a side, and before it, that it may describe
_APART = re.compile(r"[,()]|\d")
_REACH_OF_NUMBER = 3  # numbers in a row after a word
_CONTEXT = 6  # content words before and after a number
# each line: words of one meaning, a bar, words of the opposite meaning
_OPPOSITES = tuple(
    tuple(frozenset(side.split()) for side in line.split("|"))
    for line in """
increased increase increasing rose risen rising raised higher gained | decreased decrease decreasing fell fallen \
falling reduced lowered lower lost declined dropped
improved improving improvement better resolved resolving cleared | worsened worsening worse deteriorated exacerbated
laparoscopic laparoscopically | open
persists persistent persisted unresolved | resolved gone
positive reactive detected | negative nonreactive undetected
attached intact | detached ruptured torn
benign | malignant
unilateral | bilateral
likely probable probably possible possibly suspected presumed questionable suspect | definite definitely confirmed \
proven established
declined refused | accepted agreed
removed | inserted placed
unchanged stable | grown enlarged larger smaller
resistant | sensitive susceptible
paused suspended stopped discontinued held | continued continues ongoing resumed
home | facility rehabilitation hospice
survived alive living | died deceased dead
normal unremarkable | abnormal
provoked | unprovoked
""".strip().splitlines()
)
_NOT = re.compile(r"(?:\bnot|n't|\bnever|\bno longer|\bwithout|\bnon-?) ?$", re.IGNORECASE)
_POLES = frozenset(word for pair in _OPPOSITES for pole in pair for word in pole)
_REACH_OF_OPPOSITE = 2  # content words before and after
_NOT_DENIED = frozenset(
    """change changes need plan plans time times day days other others further longer new prior previous acute distress
    evidence sign signs history known significant complaint complaints issue issues difficulty use symptom symptoms
    medication medications medicine treatment family personal patient side effect effects contrast work care
    admission before""".split()
)
_DENIAL_BEFORE = re.compile(
    r"\b(?:no|without|denie[sd]|nil|not|never|negative for|absence of|free of)\b(?: (?:any|evidence of|signs? of))?"
    r"(?: [a-z/-]+){0,2} $",
    re.IGNORECASE,
)
_DENIED_FIELD = re.compile(r"\s*:\s*(?:none|no\b|nil|neg|absent|denied)", re.IGNORECASE)
_SHORTEST_DENIED = 4  # letters


def _first(words: Iterable[Word]) -> Word:
    return min(words, key=attrgetter("start"))


def _roots_of(words: Iterable[Word]) -> frozenset[str]:
    return frozenset(root for word in words for root in word.roots)


def wording_claims(note: Wording, summary: Wording, facts: Sequence[Fact], settled: Sequence[Fact]) -> Iterator[Claim]:
    """Yield the claims of the summary whose wording the note contradicts.

    `facts` are the facts of the summary, `settled` those whose verdict is not open.
    """
    yield from _side_claims(note, summary)
    yield from _opposite_claims(note, summary)
    yield from _denial_claims(note, summary, _covered(summary, settled))
    bound = [fact for fact in facts if fact.type != "number"]
    yield from _number_claims(note, summary, _covered(summary, bound))


def _covered(summary: Wording, facts: Sequence[Fact]) -> frozenset[Word]:
    """Return the content words that facts cover."""
    taken = covered(max((fact.end for fact in facts), default=0), facts)
    return frozenset(word for word in summary.content if any(taken[slice(*summary.span(word))]))


# ---------------------------------------------------------------------------------------------- sides


def _described(wording: Wording, side: Word) -> tuple[frozenset[str], frozenset[str]]:
    """Return the roots of the words after a side and before it that it may describe, up to the next side."""
    after = takewhile(lambda word: _belongs(wording, side.end, word.start, word), wording.after(side, _REACH_OF_SIDE))
    before = takewhile(lambda word: _belongs(wording, word.end, side.start, word), wording.before(side, _REACH_OF_SIDE))
    return _roots_of(after), _roots_of(before)


def _belongs(wording: Wording, start: int, end: int, word: Word) -> bool:
    """Return whether a side may describe the word: no other side, number, comma or bracket, also not between them."""
    return word.text not in _SIDES and not word.is_number and not _APART.search(wording.form.text, start, end)


def _side_claims(note: Wording, summary: Wording) -> Iterator[Claim]:
    """Yield a claim for each side whose words the note has with the other side only."""
    sides_of: dict[str, dict[str, Word]] = {}  # root -> side -> its first word
    for side in note.words:
        if side.text in _SIDES:
            for root in frozenset.union(*_described(note, side)):
                sides_of.setdefault(root, {}).setdefault(_SIDES[side.text], side)
    for side in summary.words:
        if side.text in _SIDES:
            after, before = _described(summary, side)
            told = {known: word for root in sorted(after or before) for known, word in sides_of.get(root, {}).items()}
            if told and "both" not in told and side.text != "both" and _SIDES[side.text] not in told:
                yield summary.claim("laterality", side, note, _first(told.values()))


# ------------------------------------------------------------------------------------------ opposites


def _opposite_claims(note: Wording, summary: Wording) -> Iterator[Claim]:
    """Yield a claim for each word of the summary if the note has its opposite, and not it, about the same things."""
    near_poles: dict[tuple[str, bool], dict[str, Word]] = {}  # (pole, whether it is denied) -> root near it -> word
    for word in note.words:
        if word.text in _POLES:
            denied = _NOT.search(note.form.text, max(0, word.start - 12), word.start) is not None
            near = near_poles.setdefault((word.text, denied), {})
            for root in _anchors(note, word):
                near.setdefault(root, word)
    for word in summary.words:
        for first, second in _OPPOSITES if word.text in _POLES else ():
            if word.text not in first and word.text not in second:
                continue
            same, opposite = (first, second) if word.text in first else (second, first)
            anchors = _anchors(summary, word)
            is_denied = _NOT.search(summary.form.text, max(0, word.start - 12), word.start) is not None
            against = [(each, is_denied) for each in opposite] + [(each, not is_denied) for each in same]
            agreeing = [(each, is_denied) for each in same] + [(each, not is_denied) for each in opposite]
            told, contradicting = (
                [near[root] for near in (near_poles.get(key, {}) for key in keys) for root in anchors & near.keys()]
                for keys in (agreeing, against)
            )
            if contradicting and not told:
                yield summary.claim("direction", word, note, _first(contradicting))


def _anchors(wording: Wording, word: Word) -> frozenset[str]:
    """Return the roots of the content words of the clause that are nearest to a word."""
    near = [*wording.before(word, _REACH_OF_OPPOSITE), *wording.after(word, _REACH_OF_OPPOSITE)]
    return _roots_of(each for each in near if each.text not in _POLES)


# -------------------------------------------------------------------------------------------- denials


def _denial_claims(note: Wording, summary: Wording, told_by_facts: Set[Word]) -> Iterator[Claim]:
    """Yield a claim for each noun that the summary affirms and the note only denies, or the other way round."""
    for fact, word in zip(summary.scoped, summary.content, strict=True):
        if word in told_by_facts or fact.asked or fact.uncertain or not _may_be_denied(summary, word):
            continue
        places = sorted({index for root in word.roots for index in note.by_root.get(root, ())})
        if places and _is_reversed(note, places, summary, word, fact):
            said = ("stated", "denied") if not _is_denied(summary, word, fact) else ("denied", "stated")
            yield summary.claim("negation", word, note, note.content[places[0]], Said(summary.written(word), *said))


def _may_be_denied(wording: Wording, word: Word) -> bool:
    """Return whether the word looks like a noun that names a finding, and is no modifier of the next word."""
    if word.is_number or len(word.text) < _SHORTEST_DENIED or word.text in _NOT_DENIED:
        return False
    following = wording.after(word, 1)
    is_head = not following or bool(wording.form.text[word.end : following[0].start].strip())
    return is_head and not word.text.endswith(("ed", "ing"))


def _is_reversed(note: Wording, places: Sequence[int], summary: Wording, word: Word, fact: Fact) -> bool:
    """Return whether every mention of the note clearly says the opposite of the summary."""
    mentions = [note.scoped[index] for index in places]
    if any(mention.asked or mention.uncertain for mention in mentions):
        return False
    if _is_denied(summary, word, fact):
        return not any(
            mention.negated or _DENIAL_BEFORE.search(note.form.text[max(0, mention.start - 40) : mention.start])
            for mention in mentions
        )
    denied = (_is_denied(note, note.content[index], mention) for index, mention in zip(places, mentions, strict=True))
    return not fact.negated and all(denied)


def _is_denied(wording: Wording, word: Word, fact: Fact) -> bool:
    """Return whether a denial is directly before the word, with at most two words between, or in its field."""
    before = wording.form.text[max(0, word.start - 40) : word.start]
    after = wording.form.text[word.end : word.end + 12]
    return fact.negated and bool(_DENIAL_BEFORE.search(before) or _DENIED_FIELD.match(after))


# -------------------------------------------------------------------------------------------- numbers


def _number_claims(note: Wording, summary: Wording, told_by_facts: Set[Word]) -> Iterator[Claim]:
    """Yield a claim for each bare number if the note has other numbers after the same word, and not this one.

    A number that the note has near another word of the number's clause is left alone.
    """
    for number in summary.content:
        before = summary.before(number, 1)
        if not number.is_number or ":" in number.text or number in told_by_facts or not before or before[0].is_number:
            continue
        told = {
            each.text.rstrip("%"): each
            for root in sorted(before[0].roots)
            for index in note.by_root.get(root, ())
            for each in takewhile(lambda word: word.is_number, note.after(note.content[index], _REACH_OF_NUMBER))
        }
        own = _roots_of(word for word in summary.before(number, _CONTEXT) + summary.after(number, _CONTEXT))
        if told and number.text.rstrip("%") not in told and not _is_near(note, number, own):
            said = Said(before[0].text, summary.written(number), note.written(_first(told.values())))
            yield summary.claim("number", number, note, _first(told.values()), said)


def _is_near(note: Wording, number: Word, roots: Set[str]) -> bool:
    """Return whether the note has the number near one of the words."""
    return any(
        not roots.isdisjoint(each.roots)
        for index in note.by_root.get(number.text, ())
        for each in note.before(note.content[index], _CONTEXT) + note.after(note.content[index], _CONTEXT)
    )
