"""Check every statement of a summary against its note by rules: deterministic and offline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import fields
from functools import cached_property, lru_cache
from operator import attrgetter

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.lexicons import on_change
from clinical.relatives import NamedRelatives
from clinical.text import dialogue_turns
from clinical.values import FINDINGS, UNNAMED_PART, covered
from fact_checking.claims import (
    CONTRADICTED,
    ERROR,
    REVIEW,
    SUPPORTED,
    UNSUPPORTED,
    UNVERIFIABLE,
    Claim,
    FactCheck,
    without_citations,
)
from fact_checking.closed_sets import closed_set_claims
from fact_checking.comparison import ATTRIBUTES, STATUSES, Comparison, NoteFacts, compare, numbers_in
from fact_checking.content_words import WordSupport, content_words, family
from fact_checking.contrasts import contrast_of
from fact_checking.earlier_values import with_current_values
from fact_checking.reversed_changes import reversed_change_claims
from fact_checking.sided_findings import with_sides
from fact_checking.unread_notation import UnreadNotation
from fact_checking.worded_text import Wording
from fact_checking.wording import wording_claims

_OPERATION = re.compile(r"(?:ec|os|o)tomy$|plasty$|pexy$")
_SAID_IN_PASSING = frozenset({"infection", "tumor", "fracture", "lesion", "pregnancy", "fall"})
_LIST_MARK = re.compile(r"[.)](?:\s|$)")
# all that a fact says, without its place in the text
_meaning_of = attrgetter(*(field.name for field in fields(Fact) if field.name not in ("start", "end", "sentence")))
_MAX_PLACES = 50  # sentences remembered per word; without a limit, a word in every sentence would take quadratic time


def check_summary(note: str, summary: str) -> FactCheck:
    """Return the claims of `summary`, each with its verdict. Offsets refer to `summary` with its citations."""
    text = without_citations(summary)
    in_dialogue = bool(dialogue_turns(note))
    told = extract_facts(note)
    note_facts = NoteFacts(_distinct(told, where_findings=True).values(), in_dialogue=in_dialogue)
    note_sentences, support = _NoteSentences(note), WordSupport(note)
    summary_facts = [fact for fact in extract_facts(text) if not _is_list_number(text, fact)]
    if in_dialogue:
        summary_facts = [fact for fact in summary_facts if not _is_unbound(fact)]
    unread, note_wording = (None, None) if in_dialogue else _read_written(note)
    comparisons = {key: _compare(fact, note_facts, support, unread) for key, fact in _distinct(summary_facts).items()}
    judged = [(fact, comparisons[_meaning_of(fact)]) for fact in summary_facts]
    if not in_dialogue:
        judged = with_sides(note, text, with_current_values(note, text, judged, told), told)
    claims = [_claim(fact, comparison, summary, note, note_sentences) for fact, comparison in judged if comparison]
    claims += _word_claims(text, [fact for fact, c in judged if c or fact.type not in ATTRIBUTES], support)
    if note_wording is not None:
        settled = [fact for fact, comparison in judged if not comparison or not _may_be_denied(fact, comparison)]
        wording = Wording(text)
        found = [
            *wording_claims(note_wording, wording, summary_facts, settled),
            *closed_set_claims(note_wording, wording),
            *reversed_change_claims(note_wording, wording),
        ]
        found = _without_relatives(found, claims, wording)
        claims += _without_repeats(found, claims, len(text))
    claims += _sex_claims(text, summary_facts, note_facts, in_dialogue=in_dialogue)
    return FactCheck(tuple(sorted(claims, key=lambda claim: (claim.start, claim.end, claim.type))))


@lru_cache(maxsize=64)
def _read_written(note: str) -> tuple[UnreadNotation, Wording]:
    """Return what is read of a written note; several summaries of one note are checked in a row."""
    return UnreadNotation(note), Wording(note)


on_change(_read_written.cache_clear)


def _may_be_denied(fact: Fact, comparison: Comparison) -> bool:
    """Return whether the wording can settle an open finding: its word alone, because parts of a name prove nothing."""
    return comparison.verdict == UNVERIFIABLE and len(content_words(fact.text)) == 1


_PREGNANCIES = frozenset({"gravidity", "parity"})


def _is_unbound(fact: Fact) -> bool:
    """Return whether a side or frequency has no subject, or a number counts pregnancies.

    Conversations say these in too many ways to compare them.
    """
    return (fact.type, fact.key) in (("laterality", UNNAMED_PART), ("frequency", "")) or fact.key in _PREGNANCIES


def _without_repeats(found: Iterable[Claim], claims: Sequence[Claim], length: int) -> list[Claim]:
    """Return the found claims that no error among `claims` overlaps."""
    taken = covered(length, (claim for claim in claims if claim.is_wrong and claim.level == ERROR))
    return [claim for claim in found if not any(taken[claim.start : claim.end])]


def _without_relatives(found: Iterable[Claim], claims: Sequence[Claim], wording: Wording) -> list[Claim]:
    """Return the found claims without the wrong relatives of sentences whose family history has the error already."""
    family = (claim for claim in claims if claim.type == "family_history" and claim.is_wrong)
    told = {wording.sentence_at(claim.start) for claim in family}
    return [claim for claim in found if claim.type != "attribution" or wording.sentence_at(claim.start) not in told]


def _distinct(facts: Sequence[Fact], *, where_findings: bool = False) -> dict[object, Fact]:
    """Return {meaning: first fact with this meaning}. Long texts repeat facts, and comparing each fact once is enough.

    With `where_findings`, a finding is kept once per sentence, because words near it may belong to it.
    """
    distinct: dict[object, Fact] = {}
    for fact in facts:
        key: object = _meaning_of(fact)
        if where_findings and fact.type in FINDINGS:
            key = (key, fact.sentence)
        distinct.setdefault(key, fact)
    return distinct


_VALUES = frozenset({"age", "dose", "duration", "lab", "number", "vital"})
_SIDE_WORDS = {"left": "left", "right": "right", "bilateral": "both|bilateral|each|either", "both": "both|bilateral"}


def unsound_claims(note: str, summary: str) -> tuple[Claim, ...]:
    """Return the errors that are reliable enough to call the summary untrue.

    `FactCheck.errors` is tuned to miss few errors. Its false alarms cancel out when summaries are compared, but when
    they decide whether an example is used (the chosen text of a preference pair), each one costs a good example. If
    the note is written text, all errors count. A dialogue says the same thing in other words and over several turns,
    so only three kinds count there: a value whose number the dialogue does not have, a side that it does not name, and
    a drug. On 1,020 summaries of MTS-Dialog written by people (CC BY 4.0), fewer than half of the other alarms were
    real errors.
    """
    errors = check_summary(note, summary).errors
    if not dialogue_turns(note):
        return errors
    return tuple(claim for claim in errors if _is_sure(claim, note))


def _is_sure(claim: Claim, dialogue: str) -> bool:
    """Return whether a claim is wrong even if the parser joined the wrong words of the dialogue."""
    text = without_citations(claim.text)
    if claim.type in _VALUES:
        return not numbers_in(text) <= numbers_in(dialogue)
    if claim.type == "laterality" and claim.verdict == UNSUPPORTED:
        return not re.search(rf"\b(?:{_SIDE_WORDS.get(text.lower(), text)})", dialogue, re.IGNORECASE)
    return (claim.type, claim.verdict) == ("drug", UNSUPPORTED) and not _names_a_class(text)


def _names_a_class(text: str) -> bool:
    """Return whether the text names a class of drugs: "NSAIDs", "steroids"."""
    known = concepts("drug")
    return any("class" in known[fact.key].group for fact in extract_facts(text) if fact.key in known)


# the note may leave out these words after a name ("Boerhaave unlikely")
_KIND_WORDS = frozenset("syndrome disease disorder condition tear infection injury fracture score".split())


_OPERATED = re.compile(
    r"\b(?:post|pre)[- ]?op(?:erative)?|\bs/p\b|\bsurg|\w(?:ectomy|plasty|otomy|rrhaphy)\b", re.IGNORECASE
)


def _is_general(fact: Fact, note_facts: NoteFacts, note: str) -> bool:
    """Return whether the note may name the kind of a general finding: an operation, or a drug of a class."""
    if fact.negated:
        return False
    if fact.key == "surgery":
        return _OPERATED.search(note) is not None
    known = concepts("drug")
    if fact.type != "drug" or fact.key not in known or "class" not in known[fact.key].group:
        return False
    groups = (known[drug.key].group for drug in note_facts.by_type.get("drug", []) if drug.key in known)
    return any(fact.key.removesuffix("s") in group for group in groups)


def _is_list_number(text: str, fact: Fact) -> bool:
    """Return whether a number only counts the items of a list: the 2 in "1. Gout. 2. Asthma."."""
    before = text[max(0, fact.start - 20) : fact.start].rstrip(" \t")
    opens = not before or before[-1] in ".:;\n"
    return fact.type == "number" and opens and _LIST_MARK.match(text, fact.end) is not None


def _compare(
    fact: Fact, note_facts: NoteFacts, support: WordSupport, unread: UnreadNotation | None
) -> Comparison | None:
    """Compare a fact as `compare` does, but leave it open if the note may state it in a form that no rule reads.

    A finding is open if the note has all of its words. It is not supported: "no chest pain, abdominal x-ray" has
    both words of "abdominal pain". In a written note, it is also open if an abbreviation that no rule reads may stand
    for it, and a value is open if the note has its numbers without saying what they measure.
    """
    comparison = compare(fact, note_facts)
    if comparison and comparison.verdict in (CONTRADICTED, UNSUPPORTED) and unread and unread.may_also_state(fact):
        return Comparison(UNVERIFIABLE, comparison.note_fact, comparison.error_type)
    if not comparison or comparison.verdict != UNSUPPORTED:
        return comparison
    kinds = FINDINGS if unread is None else (*FINDINGS, "family_history")
    words = content_words(fact.text) if fact.type in kinds else []
    if unread is not None:
        named = [word for word in words if word[1].lower() not in _KIND_WORDS]
        words = named if named and all(word[0].isupper() for _, word in named) else words
    if unread is not None and words and _is_general(fact, note_facts, unread.note):
        return Comparison(UNVERIFIABLE, None, comparison.error_type)
    if unread is not None and fact.negated and words and unread.denies(words[-1][1]):
        return Comparison(UNVERIFIABLE, None, comparison.error_type)  # "no effusion" may deny a pleural effusion
    may_be_stated = bool(words) and all(support.has(word) for _, word in words)
    if may_be_stated or (unread is not None and (unread.may_state(fact) or _is_beyond(fact, unread))):
        return Comparison(UNVERIFIABLE, None, comparison.error_type)
    return comparison


def _is_beyond(fact: Fact, unread: UnreadNotation) -> bool:
    """Return whether a note in telegram style may state the finding in a short form that no list has.

    That is so for what is denied, for general words, and for tests and treatments, but not for operations.
    """
    if fact.type not in FINDINGS or not unread.is_terse:
        return False
    if fact.type == "procedure":
        return fact.negated or not _OPERATION.search(fact.key)
    return fact.negated or fact.key in _SAID_IN_PASSING


class _NoteSentences:
    """The sentences of a note, searched for the one nearest to a fact that the note does not state."""

    def __init__(self, note: str) -> None:
        self.bounds = sentences(note)
        self._texts = [note[start:end] for start, end in self.bounds]

    def nearest(self, fact: Fact) -> int | None:
        """Return the index of the first sentence with all numbers of a value, or with most words of another fact."""
        numbers = frozenset[str]() if fact.type in FINDINGS else numbers_in(fact.text)
        if numbers:
            return min(set.intersection(*(set(self._with_number.get(number, ())) for number in numbers)), default=None)
        words = [family(word.lower()) for _, word in content_words(fact.text)]
        found = Counter(i for roots in words for i in {i for root in roots for i in self._with_root.get(root, ())})
        return min(found, key=lambda i: (-found[i], i), default=None)

    @cached_property
    def _with_number(self) -> dict[str, list[int]]:
        return _places(numbers_in(text) for text in self._texts)

    @cached_property
    def _with_root(self) -> dict[str, list[int]]:
        return _places({root for _, w in content_words(text) for root in family(w.lower())} for text in self._texts)


def _places(keys: Iterable[Set[str]]) -> dict[str, list[int]]:
    """Return {key: indices of the first sentences that have it}."""
    places: dict[str, list[int]] = {}
    for index, found in enumerate(keys):
        for key in found:
            indices = places.setdefault(key, [])
            if len(indices) < _MAX_PLACES:
                indices.append(index)
    return places


def _claim(fact: Fact, comparison: Comparison, summary: str, note: str, note_sentences: _NoteSentences) -> Claim:
    sentence = comparison.note_fact.sentence if comparison.note_fact else None
    if comparison.verdict == UNSUPPORTED:
        sentence = note_sentences.nearest(fact)
    evidence = evidence_start = None
    if sentence is not None:
        evidence_start, end = note_sentences.bounds[sentence]
        evidence = note[evidence_start:end]
    error_type = comparison.error_type if comparison.verdict != SUPPORTED else fact.type
    text = summary[fact.start : fact.end]  # the fact's own text has blanks for a citation: "500 [Evidence: S1] mg"
    place = (text, fact.start, fact.end)
    contrast = contrast_of(fact, comparison)
    return Claim(error_type, *place, comparison.verdict, ERROR, evidence, evidence_start, contrast)


def _word_claims(text: str, facts: Sequence[Fact], support: WordSupport) -> Iterator[Claim]:
    """Yield a claim for each content word that is outside all `facts` and not in the note."""
    taken = covered(len(text), facts)
    for start, word in content_words(text):
        end = start + len(word)
        is_cut = end == len(text)  # without a full stop the last word may be incomplete
        if not any(taken[start:end]) and not (support.means(word) or (is_cut and support.completes(word))):
            yield Claim("word", word, start, end, UNSUPPORTED, REVIEW, None, None)


def _sex_claims(text: str, facts: Sequence[Fact], note_facts: Sequence[Fact], *, in_dialogue: bool) -> Iterator[Claim]:
    """Yield a claim for the first "he" or "she" that the note contradicts, or the first one if the note has no sex.

    In a dialogue "he" and "she" refer to other people, so only nouns and forms of address ("sir") give the sex.
    """
    told = {fact.value for fact in note_facts if fact.type == "sex" and (fact.key == "patient" or not in_dialogue)}
    said = [fact for fact in facts if fact.type == "sex"]
    doubtful = next((fact for fact in said if fact.value not in told), None)
    if len(told) > 1 or not doubtful or any(fact.key == "patient" for fact in said):
        return
    if not NamedRelatives(text, 0, doubtful.start).with_finding(doubtful.start):
        verdict = CONTRADICTED if told else UNVERIFIABLE
        yield Claim("sex", doubtful.text, doubtful.start, doubtful.end, verdict, REVIEW, None, None)


def coverage(reference: str, summary: str) -> tuple[int, int]:
    """Return (facts of the reference that the summary states, facts of the reference), each fact counted once."""
    facts = facts_of_reference(reference, summary)
    return sum(is_stated for _, is_stated in facts), len(facts)


def facts_of_reference(reference: str, summary: str) -> list[tuple[Fact, bool]]:
    """Return each fact of the reference once, in the order of the text, with whether the summary states it."""
    stated_facts = NoteFacts(extract_facts(without_citations(summary)))
    verdicts: dict[tuple[str, str, str, bool], tuple[Fact, bool]] = {}
    for fact in extract_facts(without_citations(reference)):
        comparison = compare(fact, stated_facts)
        if comparison is None or fact.type in STATUSES | ATTRIBUTES:
            continue
        verdicts[fact.type, fact.key, fact.value, fact.negated] = (fact, comparison.verdict == SUPPORTED)
    return sorted(verdicts.values(), key=lambda each: (each[0].start, each[0].end))
