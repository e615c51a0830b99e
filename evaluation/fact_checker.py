"""Holds every statement of a summary against its note, by rules alone: deterministic, offline, explained.

In:  a note and a summary, as text or as @FILE.
Out: the claims of the summary, each supported, contradicted, unsupported or unverifiable, with the sentence of the
     note that it was held against. Level `error` is a clinical fact (dose, side, negation, ...) that counts as
     hallucination where contradicted or unsupported; level `review` is a word that the note does not have.

    python evaluation/fact_checker.py --note "Started apixaban 5 mg twice daily." --summary "Apixaban 10 mg daily."
    python evaluation/fact_checker.py --note @note.txt --summary @summary.txt

What it misses: statements made of words outside its lexicons, relations between facts, and whatever needs medical
inference ("hypoxic" from a saturation of 84%).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.text import dialogue_turns
from evaluation.content_words import WordSupport, content_words
from evaluation.fact_comparison import (
    ATTRIBUTES,
    CONTRADICTED,
    FINDINGS,
    STATUSES,
    SUPPORTED,
    UNSUPPORTED,
    Comparison,
    compare,
    numbers_in,
)
from script_io import ArgumentParser, InputError, read_text, run_script

ERROR, REVIEW = "error", "review"
_CITATION = re.compile(r"\s*\[Evidence:[^\]\n]*\]?")
_LIST_MARK = re.compile(r"[.)](?:\s|$)")
# Of the score. A word that the note lacks is weaker evidence than a wrong fact; anything from 0.1 to 0.5 agrees with
# experts about as well (AUROC 0.80 to 0.81 on 200 MTS-Dialog summaries, benchmarks/fact_checker_agreement.py)
_WEIGHTS = {(ERROR, CONTRADICTED): 1.0, (ERROR, UNSUPPORTED): 1.0, (REVIEW, UNSUPPORTED): 0.25}


@dataclass(frozen=True)
class Claim:
    """One statement of the summary, `summary[start:end]`, and what became of it."""

    type: str
    text: str
    start: int
    end: int
    verdict: str  # supported | contradicted | unsupported | unverifiable
    level: str  # error | review
    evidence: str | None  # sentence of the note it was held against
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
        """Weighted count of wrong claims, or the judge's grade: higher is worse, 0 where all is supported."""
        if self.graded_score is not None:
            return self.graded_score
        return sum(_WEIGHTS.get((claim.level, claim.verdict), 0.0) for claim in self.claims)


def check_summary(note: str, summary: str) -> FactCheck:
    """Checks `summary` against `note`. Offsets of the claims are those of `summary` as it was given."""
    text = without_citations(summary)
    note_facts, note_sentences = extract_facts(note), sentences(note)
    support = WordSupport(note)
    summary_facts = [fact for fact in extract_facts(text) if not _is_list_number(text, fact)]
    judged = [(fact, _compare(fact, note_facts, support)) for fact in summary_facts]
    claims = [_claim(text, fact, comparison, note, note_sentences) for fact, comparison in judged if comparison]
    claims += _word_claims(text, [fact for fact, c in judged if c or fact.type not in ATTRIBUTES], support)
    return FactCheck(tuple(sorted(claims, key=lambda claim: (claim.start, claim.end, claim.type))))


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
    return _CITATION.sub(lambda match: " " * len(match[0]), summary)


def _is_list_number(text: str, fact: Fact) -> bool:
    """The "2" of "1. Gout. 2. Asthma."."""
    opens = not text[: fact.start].strip() or text[: fact.start].rstrip(" \t")[-1] in ".:;\n"
    return fact.type == "number" and opens and _LIST_MARK.match(text, fact.end) is not None


def _compare(fact: Fact, note_facts: Sequence[Fact], support: WordSupport) -> Comparison | None:
    """As `compare`; a finding that the note has in words which the lexicon does not join is no error."""
    comparison = compare(fact, note_facts)
    if comparison and comparison.verdict == UNSUPPORTED and fact.type in FINDINGS and not fact.negated:
        words = content_words(fact.text)
        if words and all(support.has(word) for _, word in words):
            return Comparison(SUPPORTED, None, fact.type)
    return comparison


def _claim(text: str, fact: Fact, comparison: Comparison, note: str, note_sentences: list[tuple[int, int]]) -> Claim:
    evidence = evidence_start = None
    if comparison.note_fact:
        evidence_start, end = note_sentences[comparison.note_fact.sentence]
        evidence = note[evidence_start:end]
    error_type = comparison.error_type if comparison.verdict != SUPPORTED else fact.type
    return Claim(error_type, fact.text, fact.start, fact.end, comparison.verdict, ERROR, evidence, evidence_start)


def _word_claims(text: str, facts: Sequence[Fact], support: WordSupport) -> Iterator[Claim]:
    """Content words outside all of `facts`, which the note does not have."""
    for start, word in content_words(text):
        end = start + len(word)
        inside = any(fact.start < end and start < fact.end for fact in facts)
        if not inside and not support.has(word):
            yield Claim("word", word, start, end, UNSUPPORTED, REVIEW, None, None)


def coverage(reference: str, summary: str) -> tuple[int, int]:
    """(facts of the reference that the summary states, facts of the reference), each fact counted once."""
    stated_facts = extract_facts(without_citations(summary))
    verdicts: dict[tuple[str, str, str, bool], bool] = {}
    for fact in extract_facts(without_citations(reference)):
        comparison = compare(fact, stated_facts)
        if comparison is None or fact.type in STATUSES | ATTRIBUTES:
            continue
        verdicts[fact.type, fact.key, fact.value, fact.negated] = comparison.verdict == SUPPORTED
    return sum(verdicts.values()), len(verdicts)


# ------------------------------------------------------------------------------------------ command line

_COLOURS = {SUPPORTED: "32", CONTRADICTED: "31", UNSUPPORTED: "35"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("--note", required=True, help="the clinical note, or @FILE to read it from a UTF-8 file")
    data.add_argument("--summary", required=True, help="the summary to check, or @FILE")
    return parser.parse_args(argv)


def _text_of(argument: str, flag: str) -> str:
    text = read_text(argument[1:], f"correct {flag}") if argument.startswith("@") else argument
    if not text.strip():
        raise InputError(f"{flag}: the text is empty; give the text itself or @FILE")
    return text


def claim_line(claim: Claim, *, colour: bool) -> str:
    """One claim in one line: verdict, level, type, its words, and the sentence of the note."""
    verdict = f"{claim.verdict:<13}"
    if colour and (code := _COLOURS.get(claim.verdict)):
        verdict = f"\x1b[{code}m{verdict}\x1b[0m"
    evidence = f'  <- "{claim.evidence}"' if claim.evidence else ""
    return f"{verdict} {claim.level:<6} {claim.type:<16} {claim.text}{evidence}"


def main(args: argparse.Namespace) -> int:
    """Prints the claims of one summary."""
    check = check_summary(_text_of(args.note, "--note"), _text_of(args.summary, "--summary"))
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for claim in check.claims:
        print(claim_line(claim, colour=colour))
    errors, checked = len(check.errors), sum(claim.level == ERROR for claim in check.claims)
    print(f"{errors} of {checked} facts contradicted or unsupported; score {check.score:.2f} (higher is worse)")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
