"""Holds every statement of a summary against its note, by rules alone: deterministic, offline, explained.

In:  a note and a summary, as text, as @FILE, or - for what is piped in.
Out: the claims of the summary, each supported, contradicted, unsupported or unverifiable, with the sentence of the
     note that it was held against. Level `error` is a clinical fact (dose, side, negation, ...) that counts as
     hallucination where contradicted or unsupported; level `review` is a word that the note has in no form, or a
     "he" or "she" of which the note does not tell the sex.

    python evaluation/fact_checker.py --note "Started apixaban 5 mg twice daily." --summary "Apixaban 10 mg daily."
    python evaluation/fact_checker.py --note @note.txt --summary @summary.txt

What it misses: statements made of words outside its lexicons, which are words for review at most; relations between
facts (right words, wrongly joined); a denial of something whose words the note has elsewhere; and whatever needs
medical inference ("hypoxic" from a saturation of 84%). It knows English only: of a text in another language it compares
numbers and words, and takes a run of letters without spaces for one word.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.relatives import relatives_with
from clinical.text import dialogue_turns
from evaluation.content_words import WordSupport, content_words, family
from evaluation.fact_comparison import (
    ATTRIBUTES,
    CONTRADICTED,
    FINDINGS,
    STATUSES,
    SUPPORTED,
    UNSUPPORTED,
    UNVERIFIABLE,
    Comparison,
    NoteFacts,
    compare,
    numbers_in,
)
from script_io import ArgumentParser, InputError, read_text, run_script

ERROR, REVIEW = "error", "review"
# Sentence numbers and a confidence and nothing else: whatever else stands in the brackets is checked as any text is.
# The blanks before it are tried once.
CITATION = re.compile(
    r"(?<!\s)\s*\[Evidence:[S\d,;:.\t –-]*(?:Conf(?:idence)?[\d:.,%\t ]*)?(?:\]|(?:Co?n?)?$)|(?<!\s)\s*\[Evidence:",
    re.IGNORECASE,
)
_LIST_MARK = re.compile(r"[.)](?:\s|$)")
_WHAT = attrgetter(*(field.name for field in fields(Fact) if field.name not in ("start", "end", "sentence")))
_MOST_PLACES = 50  # sentences remembered for each word: a word of every sentence would take quadratic time
# Of the score: a word that the note lacks is weaker evidence than an error, what the note leaves open is weaker yet.
# Other weights in this order agree with experts about as well (benchmarks/RESULTS.md)
_ERROR_WEIGHT, _WORD_WEIGHT, _OPEN_WEIGHT = 1.0, 0.5, 0.25


@dataclass(frozen=True)
class Claim:
    """One statement of the summary, `summary[start:end]`, and what became of it."""

    type: str
    text: str
    start: int
    end: int
    verdict: str  # supported | contradicted | unsupported | unverifiable
    level: str  # error | review
    evidence: str | None  # sentence of the note it was held against, or that comes nearest to what the note lacks
    evidence_start: int | None

    @property
    def is_wrong(self) -> bool:
        """Contradicted or unsupported."""
        return self.verdict in (CONTRADICTED, UNSUPPORTED)


@dataclass(frozen=True)
class FactCheck:
    """All claims of a summary, in the order of the text.

    `graded_score` is the score of a judge that grades claims rather than sorting them.
    """

    claims: tuple[Claim, ...]
    graded_score: float | None = None

    @property
    def errors(self) -> tuple[Claim, ...]:
        """Claims of level error that are contradicted or unsupported."""
        return tuple(claim for claim in self.claims if claim.level == ERROR and claim.is_wrong)

    @property
    def has_hallucination(self) -> bool:
        return bool(self.errors)

    @property
    def score(self) -> float:
        """1 for each error, 1/2 for each word for review, 1/4 for what is open; or the judge's grade.

        Higher is worse, 0 where all is supported.
        """
        if self.graded_score is not None:
            return self.graded_score
        return sum(_weight(claim) for claim in self.claims)


def _weight(claim: Claim) -> float:
    if claim.verdict == SUPPORTED:
        return 0.0
    if claim.level == ERROR and claim.is_wrong:
        return _ERROR_WEIGHT
    return _WORD_WEIGHT if claim.is_wrong else _OPEN_WEIGHT


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


def without_citations(summary: str) -> str:
    """The summary with evidence citations blanked out, so that offsets stay right."""
    return CITATION.sub(lambda match: " " * len(match[0]), summary)


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


# ------------------------------------------------------------------------------------------ command line


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("--note", required=True, help="the clinical note; @FILE reads a UTF-8 file, - what is piped in")
    data.add_argument("--summary", required=True, help="the summary to check; @FILE or - as above")
    return parser.parse_args(argv)


def _text_of(argument: str, flag: str) -> str:
    if argument == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{flag}: what is piped in is not UTF-8 ({error.reason}); convert it") from error
    else:
        text = read_text(argument[1:], f"correct {flag}") if argument.startswith("@") else argument
    if not text.strip():
        raise InputError(f"{flag}: the text is empty; give the text itself, @FILE, or - for what is piped in")
    return text


def main(args: argparse.Namespace) -> int:
    """Prints the claims of one summary."""
    from evaluation.explanation import explain  # it needs the types above

    if args.note == args.summary == "-":
        raise InputError("--note and --summary: only one of them can be -; give the other as text or @FILE")
    note, summary = _text_of(args.note, "--note"), _text_of(args.summary, "--summary")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(explain(note, summary, check_summary(note, summary), colour=colour))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
