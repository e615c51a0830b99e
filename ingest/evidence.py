"""Add evidence citations to summaries: the sentences of the note that support each sentence, and a confidence.

    Takes metformin 500 mg twice daily [Evidence: S3; Conf: 1.00].

A sentence of the summary cites the sentences of the note in which the fact checker found its claims. A citation is
written only if `fact_checking.citations`, which evaluation/evaluate_model.py uses as well, says that the cited
sentences alone support the statement; a sentence without such evidence stays as it is. `Conf` is the share of the
sentence's claims that are supported, or one minus the doubt of a judge that grades sentences.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clinical.facts import sentences
from fact_checking.checker import check_summary
from fact_checking.citations import Citation, check_citations
from fact_checking.claims import CITATION, SUPPORTED, FactCheck
from fact_checking.content_words import WordSupport, content_words
from ingest.records import Record
from script_io.phase1_csv import FACTUAL, FACTUAL_WITH_EVIDENCE, HALLUCINATED
from script_io.progress import progress_bar

Span = tuple[int, int]
_ENDS = ".!?;: \t\n"


@dataclass(frozen=True)
class Annotated:
    """A summary with its citations, and what was tried: one proposal for each sentence that could cite something."""

    summary: str
    sentences: int
    proposals: tuple[Citation, ...]

    @property
    def cited(self) -> int:
        """Return the number of sentences with a citation."""
        return sum(proposal.supported is True for proposal in self.proposals)


def without_old_citations(summary: str) -> str:
    """Return the summary without citations and without the blanks before them."""
    return CITATION.sub("", summary).strip()


def annotate(note: str, summary: str, check: FactCheck | None = None) -> Annotated:
    """Return the summary with a citation for each sentence that sentences of the note support.

    `check` is a judge's verdict on the summary without citations; without it the rules alone decide.
    """
    text = without_old_citations(summary)
    found = check or check_summary(note, text)
    spans = [span for span in sentences(text) if any(map(str.isalnum, text[slice(*span)]))]
    confidence = {span: _confidence(found, span) for span in spans}
    cited = {span: numbers for span in spans if (numbers := _evidence(note, text, span, found))}
    verdicts = _verdicts(note, text, cited, confidence)
    wider = {
        span: _with_neighbours(numbers, len(sentences(note)))
        for span, numbers in cited.items()
        if verdicts[span].supported is not True
    }
    if wider:  # a heading or a question before the sentence may hold what is missing
        second = _verdicts(note, text, wider, confidence)
        better = {span for span in wider if second[span].supported is True}
        cited |= {span: wider[span] for span in better}
        verdicts |= {span: second[span] for span in better}
    right = {span: numbers for span, numbers in cited.items() if verdicts[span].supported is True}
    return Annotated(_with_citations(text, right, confidence), len(spans), tuple(verdicts.values()))


def annotated_records(
    records: Sequence[Record], checks: Sequence[FactCheck | None]
) -> tuple[list[Record], list[Annotated]]:
    """Return the records with citations in the factual summaries, and the result for each of these.

    A factual record is labelled by whether it has a citation. A hallucinated one loses its citations.
    """
    found, results = [], []
    pairs = list(zip(records, checks, strict=True))
    for record, check in progress_bar(pairs, label="Evidence", unit="summary"):
        if record.label == HALLUCINATED:
            found.append(replace(record, summary=without_old_citations(record.summary)))
            continue
        result = annotate(record.note, record.summary, check)
        results.append(result)
        label = FACTUAL_WITH_EVIDENCE if result.cited else FACTUAL
        found.append(replace(record, summary=result.summary, label=label))
    return found, results


def _confidence(check: FactCheck, span: Span) -> float:
    """Return one minus the judge's doubt of a sentence, or the share of its claims that are supported."""
    start, end = span
    doubts = [doubt for doubt in check.sentences or () if doubt.start < end and start < doubt.end]
    if doubts:
        return 1 - max(doubt.doubt for doubt in doubts)
    claims = [claim for claim in check.claims if start <= claim.start < end]
    return sum(claim.verdict == SUPPORTED for claim in claims) / len(claims) if claims else 1.0


def _evidence(note: str, text: str, span: Span, check: FactCheck) -> list[int]:
    """Return the numbers, from 1, of the note's sentences that support a sentence; [] if none does.

    A sentence without supported facts cites the sentences that have its words, if all of its words are there.
    """
    bounds = sentences(note)
    starts = [start for start, _ in bounds]
    supported = {
        bisect_right(starts, claim.evidence_start)
        for claim in check.claims
        if span[0] <= claim.start < span[1] and claim.verdict == SUPPORTED and claim.evidence_start is not None
    }
    if supported:
        return sorted(supported)
    missing = {word for _, word in content_words(text[slice(*span)])}
    numbers = []
    while missing:
        has = {number: _words_in(note[slice(*bounds[number - 1])], missing) for number in range(1, len(bounds) + 1)}
        best = max(has, key=lambda number: len(has[number]), default=0)
        if not best or not has[best]:
            return []
        numbers.append(best)
        missing -= has[best]
    return sorted(numbers)


def _words_in(sentence: str, words: set[str]) -> set[str]:
    support = WordSupport(sentence)
    return {word for word in words if support.has(word)}


def _with_neighbours(numbers: Sequence[int], last: int) -> list[int]:
    return sorted({near for number in numbers for near in (number - 1, number, number + 1) if 1 <= near <= last})


def _verdicts(
    note: str, text: str, cited: Mapping[Span, Sequence[int]], confidence: Mapping[Span, float]
) -> dict[Span, Citation]:
    """Return the verdict on the citation of each sentence."""
    order = sorted(cited)
    return dict(zip(order, check_citations(note, _with_citations(text, cited, confidence)), strict=True))


def _with_citations(text: str, cited: Mapping[Span, Sequence[int]], confidence: Mapping[Span, float]) -> str:
    """Return the text with a citation before the full stop of each cited sentence."""
    pieces, done = [], 0
    for start, end in sorted(cited):
        place = start + len(text[start:end].rstrip(_ENDS))
        numbers = ",".join(map(str, cited[start, end]))
        pieces += [text[done:place], f" [Evidence: S{numbers}; Conf: {confidence[start, end]:.2f}]"]
        done = place
    return "".join([*pieces, text[done:]])
