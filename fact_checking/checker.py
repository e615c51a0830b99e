"""Check every statement of a summary against its note by rules: deterministic and offline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import fields
from functools import cached_property
from operator import attrgetter

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.relatives import relatives_with
from clinical.text import dialogue_turns
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
from fact_checking.comparison import ATTRIBUTES, FINDINGS, STATUSES, Comparison, NoteFacts, compare, numbers_in
from fact_checking.content_words import WordSupport, content_words, family

_LIST_MARK = re.compile(r"[.)](?:\s|$)")
_WHAT = attrgetter(*(field.name for field in fields(Fact) if field.name not in ("start", "end", "sentence")))
_MOST_PLACES = 50  # sentences remembered for each word: a word of every sentence would take quadratic time


def check_summary(note: str, summary: str) -> FactCheck:
    """Checks `summary` against `note`. Offsets of the claims are those of `summary` as it was given."""
    text = without_citations(summary)
    in_dialogue = bool(dialogue_turns(note))
    note_facts = NoteFacts(_distinct(extract_facts(note), where_findings=True).values(), in_dialogue=in_dialogue)
    note_sentences, support = _NoteSentences(note), WordSupport(note)
    summary_facts = [fact for fact in extract_facts(text) if not _is_list_number(text, fact)]
    comparisons = {what: _compare(fact, note_facts, support) for what, fact in _distinct(summary_facts).items()}
    judged = [(fact, comparisons[_WHAT(fact)]) for fact in summary_facts]
    claims = [_claim(fact, comparison, note, note_sentences) for fact, comparison in judged if comparison]
    claims += _word_claims(text, [fact for fact, c in judged if c or fact.type not in ATTRIBUTES], support)
    claims += _sex_claims(text, summary_facts, note_facts, in_dialogue=in_dialogue)
    return FactCheck(tuple(sorted(claims, key=lambda claim: (claim.start, claim.end, claim.type))))


def _distinct(facts: Sequence[Fact], *, where_findings: bool = False) -> dict[object, Fact]:
    """What is said -> the first fact that says it. A long text says the same thing many times; once is enough.

    With `where_findings` a finding counts once a sentence, since what stands beside it may belong to it.
    """
    distinct: dict[object, Fact] = {}
    for fact in facts:
        what: object = _WHAT(fact)
        if where_findings and fact.type in FINDINGS:
            what = (what, fact.sentence)
        distinct.setdefault(what, fact)
    return distinct


_VALUES = frozenset({"age", "dose", "duration", "lab", "number", "vital"})
_SIDE_WORDS = {"left": "left", "right": "right", "bilateral": "both|bilateral|each|either", "both": "both|bilateral"}


def unsound_claims(note: str, summary: str) -> tuple[Claim, ...]:
    """The errors that are reliable enough to say that the text is not true of its note.

    `FactCheck.errors` is made to miss little; its false alarms do not matter where summaries are compared, but where
    a text is kept or left out because of one (the chosen text of a preference pair), each costs a true example. Of a
    written note all errors count. In a dialogue the same thing is said in other words and over several turns: there
    a value counts whose number the dialogue does not have, a side that it does not name, and a drug. Of the other
    kinds of alarm on 1,020 summaries of MTS-Dialog that people wrote (CC BY 4.0), fewer than half were real.
    """
    errors = check_summary(note, summary).errors
    if not dialogue_turns(note):
        return errors
    return tuple(claim for claim in errors if _is_sure(claim, note))


def _is_sure(claim: Claim, dialogue: str) -> bool:
    """Whether the error stands even if the parser did not see what belongs to what."""
    if claim.type in _VALUES:
        return not numbers_in(claim.text) <= numbers_in(dialogue)
    if claim.type == "laterality" and claim.verdict == UNSUPPORTED:
        return not re.search(rf"\b(?:{_SIDE_WORDS.get(claim.text.lower(), claim.text)})", dialogue, re.IGNORECASE)
    return (claim.type, claim.verdict) == ("drug", UNSUPPORTED) and not _names_a_class(claim.text)


def _names_a_class(text: str) -> bool:
    """Whether a drug's name is that of many: "NSAIDs", "steroids"."""
    known = concepts("drug")
    return any("class" in known[fact.key].group for fact in extract_facts(text) if fact.key in known)


def _is_list_number(text: str, fact: Fact) -> bool:
    """The "2" of "1. Gout. 2. Asthma."."""
    before = text[max(0, fact.start - 20) : fact.start].rstrip(" \t")
    opens = not before or before[-1] in ".:;\n"
    return fact.type == "number" and opens and _LIST_MARK.match(text, fact.end) is not None


def _compare(fact: Fact, note_facts: NoteFacts, support: WordSupport) -> Comparison | None:
    """As `compare`; a finding that the note has in words which the lexicon does not join is no error.

    It stays open, since words do not tell how they belong together: "no chest pain, abdominal x-ray" has those of
    abdominal pain.
    """
    comparison = compare(fact, note_facts)
    if comparison and comparison.verdict == UNSUPPORTED and fact.type in FINDINGS:
        words = content_words(fact.text)
        if words and all(support.has(word) for _, word in words):
            return Comparison(UNVERIFIABLE, None, comparison.error_type)
    return comparison


class _NoteSentences:
    """The sentences of a note, and which of them comes nearest to a fact that none of them states."""

    def __init__(self, note: str) -> None:
        self.bounds = sentences(note)
        self._texts = [note[start:end] for start, end in self.bounds]

    def nearest(self, fact: Fact) -> int | None:
        """The first sentence that has all numbers of a value, or most of the words of anything else."""
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
    """Key -> the first sentences that have it."""
    places: dict[str, list[int]] = {}
    for index, found in enumerate(keys):
        for key in found:
            indices = places.setdefault(key, [])
            if len(indices) < _MOST_PLACES:
                indices.append(index)
    return places


def _claim(fact: Fact, comparison: Comparison, note: str, note_sentences: _NoteSentences) -> Claim:
    sentence = comparison.note_fact.sentence if comparison.note_fact else None
    if comparison.verdict == UNSUPPORTED:
        sentence = note_sentences.nearest(fact)
    evidence = evidence_start = None
    if sentence is not None:
        evidence_start, end = note_sentences.bounds[sentence]
        evidence = note[evidence_start:end]
    error_type = comparison.error_type if comparison.verdict != SUPPORTED else fact.type
    return Claim(error_type, fact.text, fact.start, fact.end, comparison.verdict, ERROR, evidence, evidence_start)


def _word_claims(text: str, facts: Sequence[Fact], support: WordSupport) -> Iterator[Claim]:
    """Content words outside all of `facts`, which the note does not have."""
    covered = bytearray(len(text))
    for fact in facts:
        covered[fact.start : fact.end] = b"\1" * (fact.end - fact.start)
    for start, word in content_words(text):
        end = start + len(word)
        is_cut = end == len(text)  # no mark ends the text
        if not any(covered[start:end]) and not (support.means(word) or (is_cut and support.completes(word))):
            yield Claim("word", word, start, end, UNSUPPORTED, REVIEW, None, None)


def _sex_claims(text: str, facts: Sequence[Fact], note_facts: Sequence[Fact], *, in_dialogue: bool) -> Iterator[Claim]:
    """The first "he" or "she" of a summary that the note contradicts, or the first of all where the note is silent.

    In a dialogue "he" and "she" are somebody else, so that only nouns and forms of address ("sir") tell the sex.
    """
    told = {fact.value for fact in note_facts if fact.type == "sex" and (fact.key == "patient" or not in_dialogue)}
    said = [fact for fact in facts if fact.type == "sex"]
    doubtful = next((fact for fact in said if fact.value not in told), None)
    if len(told) > 1 or not doubtful or any(fact.key == "patient" for fact in said):
        return
    if not relatives_with(text, (doubtful.start, doubtful.end), (0, doubtful.start)):
        verdict = CONTRADICTED if told else UNVERIFIABLE
        yield Claim("sex", doubtful.text, doubtful.start, doubtful.end, verdict, REVIEW, None, None)


def coverage(reference: str, summary: str) -> tuple[int, int]:
    """(facts of the reference that the summary states, facts of the reference), each fact counted once."""
    stated_facts = NoteFacts(extract_facts(without_citations(summary)))
    verdicts: dict[tuple[str, str, str, bool], bool] = {}
    for fact in extract_facts(without_citations(reference)):
        comparison = compare(fact, stated_facts)
        if comparison is None or fact.type in STATUSES | ATTRIBUTES:
            continue
        verdicts[fact.type, fact.key, fact.value, fact.negated] = comparison.verdict == SUPPORTED
    return sum(verdicts.values()), len(verdicts)
