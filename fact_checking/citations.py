"""Check the evidence citations of a summary: do the cited sentences exist, and do they support the statement?

    Takes metformin 500 mg twice daily [Evidence: S1,3; Conf: 0.85].

`S1,3` cites the first and the third sentence of the note. Sentences are counted from 1 as `clinical.facts.sentences`
splits the note; a line break also ends a sentence. `S1, S3` and ranges (`S1-3`) are valid too, and `Conf`, a confidence
from 0 to 1, is optional. Any other content is malformed.

A citation refers to the statement before it: from the previous citation, or from the start of the sentence, to the
bracket. Several citations in a row refer to the same statement together. The fact checker compares the statement with
the cited sentences only, whichever judge rates the summary:

supported      the cited sentences support every fact of the statement; a statement without facts is supported if they
               have all of its content words
not supported  a fact is not supported; or the statement has no facts and the cited sentences have none of its words; or
               a cited sentence does not exist; or the citation is malformed
unverifiable   all other cases, such as a statement without facts in other words; `supported` is None
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clinical.facts import sentences
from fact_checking.checker import check_summary
from fact_checking.claims import CITATION, ERROR, SUPPORTED, UNVERIFIABLE, Claim, without_citations
from fact_checking.content_words import WordSupport, content_words

_MAX_RANGE = 1000  # sentences; "S1-999999" cites nothing in particular
_ITEM = r"S?(\d{1,6})(?:\s*[-–]\s*S?(\d{1,6}))?"
_CONTENT = re.compile(
    r"\[Evidence:\s*(?P<sentences>S\d[\dS,\s–-]*)"
    r"(?:;\s*Conf(?:idence)?:\s*(?P<confidence>[01]?\.\d+|[01])\s*)?\]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Citation:
    """A citation, `summary[start:end]`, with its verdict. `sentences` is empty if it is malformed."""

    start: int
    end: int
    text: str
    sentences: tuple[int, ...]
    exists: bool  # it is not malformed, and the note has all cited sentences
    supported: bool | None  # None: unverifiable
    confidence: float | None


def parse_citation(text: str) -> tuple[tuple[int, ...], float | None]:
    """Return (cited sentences, stated confidence) of a citation, or ((), None) if it is malformed."""
    match = _CONTENT.fullmatch(text)
    confidence = float(match["confidence"]) if match and match["confidence"] else None
    if match is None or (confidence or 0) > 1:
        return (), None
    numbers: set[int] = set()
    for item in match["sentences"].split(","):
        bounds = re.fullmatch(_ITEM, item.strip(), re.IGNORECASE)
        if bounds is None:
            return (), None
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if not first <= last < first + _MAX_RANGE:
            return (), None
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers)), confidence


def check_citations(note: str, summary: str) -> list[Citation]:
    """Return all citations of the summary, in the order of the text."""
    spans = [(match.end() - len(match[0].lstrip()), match.end()) for match in CITATION.finditer(summary)]
    if not spans:
        return []
    text, note_sentences = without_citations(summary), sentences(note)
    parsed = [parse_citation(summary[start:end]) for start, end in spans]
    found: list[Citation] = []
    claims: dict[str, Sequence[Claim]] = {}  # by cited text, because many citations name the same sentences
    for group in _groups(text, spans):
        statement = _statement(text, spans[group[0] - 1][1] if group[0] else 0, spans[group[0]][0])
        numbers = sorted({number for index in group for number in parsed[index][0]})
        existing = [number for number in numbers if 1 <= number <= len(note_sentences)]
        cited_text = _cited_text(note, note_sentences, existing)
        if cited_text not in claims:
            claims[cited_text] = check_summary(cited_text, text).claims
        supported = is_supported(text, *statement, cited_text, claims[cited_text])
        for index in group:
            (start, end), (cited, confidence) = spans[index], parsed[index]
            exists = bool(cited) and set(cited) <= set(existing)
            verdict = supported if exists else False
            found.append(Citation(start, end, summary[start:end], cited, exists, verdict, confidence))
    return found


def _groups(text: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the indices of the citations, grouped: citations without words between them are one group."""
    groups = [[0]]
    for index in range(1, len(spans)):
        between = text[spans[index - 1][1] : spans[index][0]]
        if re.search(r"\w", between):
            groups.append([index])
        else:
            groups[-1].append(index)
    return groups


def _statement(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span of the last sentence between `start` and `end`."""
    spans = sentences(text[start:end])
    said = [span for span in spans if re.search(r"\w", text[start + span[0] : start + span[1]])]
    return (start + said[-1][0], start + said[-1][1]) if said else (end, end)


def _cited_text(note: str, note_sentences: Sequence[tuple[int, int]], numbers: Sequence[int]) -> str:
    """Return the cited sentences. Neighbours keep the text between them, so that a question keeps its answer."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "\n".join(note[note_sentences[first - 1][0] : note_sentences[last - 1][1]] for first, last in runs)


def is_supported(text: str, start: int, end: int, cited: str, claims: Sequence[Claim]) -> bool | None:
    """Return whether the cited sentences support `text[start:end]`, or None if the rules cannot tell.

    `claims` are the claims of the whole text checked against the cited sentences, because the statement may depend on
    a negation or a name before it: "Denies fever [..], chills [..]".
    """
    facts = [c for c in claims if start <= c.start < end and c.level == ERROR and c.verdict != UNVERIFIABLE]
    if facts:
        return all(claim.verdict == SUPPORTED for claim in facts)
    support = WordSupport(cited)
    there = [support.has(word) for _, word in content_words(text[start:end])]
    return all(there) if there and (all(there) or not any(there)) else None
