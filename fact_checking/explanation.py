"""Print a fact check for people: the summary with its doubtful words marked, then every claim.

In:  a note, a summary and its `FactCheck`.
Out: lines for a terminal or a file. The summary shows each doubtful claim as [number words]. The list below gives the
     verdict for each number and quotes the sentence of the note, with the sentence's number.

A claim is doubtful if it is an error, a word for review, or left open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from clinical.facts import sentences
from fact_checking.citations import check_citations
from fact_checking.claims import CITATION, CONTRADICTED, ERROR, SUPPORTED, UNSUPPORTED, UNVERIFIABLE, Claim, FactCheck
from script_io.terminal import printable

_COLOURS = {SUPPORTED: "32", CONTRADICTED: "1;31", UNSUPPORTED: "1;35", UNVERIFIABLE: "33"}
_UNDERLINED = "4"
_GROUPS = ("Errors", "For review", "Supported")
_NO_EVIDENCE = {UNSUPPORTED: "not in the note", CONTRADICTED: "the note says otherwise", UNVERIFIABLE: "left open"}


def explain(note: str, summary: str, check: FactCheck, *, colour: bool) -> str:
    """Return the marked summary, its claims with the errors first, its citations, and the count of errors."""
    groups = _grouped(check.claims)
    starts = [start for start, _ in sentences(note)]
    lines = ["Summary", *_indented(marked(summary, doubtful_claims(check), colour=colour))]
    number = 0
    for title, claims in zip(_GROUPS, groups, strict=True):
        lines += ["", title] if claims else []
        for claim in claims:
            number += 1
            lines += _claim_lines(claim, f"{number:>3}" if claims is not groups[2] else "   ", starts, colour=colour)
    lines += ["", "Citations", *_citation_lines(note, summary)] if CITATION.search(summary) else []
    return "\n".join([*lines, "", _count(check)])


def explain_doubts(note: str, check: FactCheck, *, colour: bool) -> str:
    """Return the count of errors, and below it the doubtful claims with their numbers."""
    starts = [start for start, _ in sentences(note)]
    lines = [_count(check)]
    for number, claim in enumerate(doubtful_claims(check), start=1):
        lines += _claim_lines(claim, f"{number:>3}", starts, colour=colour)
    return "\n".join(lines)


def doubtful_claims(check: FactCheck) -> list[Claim]:
    """Return the errors, then the claims to review and the open ones. The number of a claim is its place, from 1."""
    errors, review, _ = _grouped(check.claims)
    return [*errors, *review]


def _grouped(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim], list[Claim]]:
    """Return the errors, the claims to review and the supported claims, each in the order of the text."""
    errors = [claim for claim in claims if claim.level == ERROR and claim.is_wrong]
    supported = [claim for claim in claims if claim.verdict == SUPPORTED]
    return errors, [claim for claim in claims if claim not in errors and claim not in supported], supported


def marked(
    summary: str, doubtful: Sequence[Claim], differences: Sequence[tuple[int, int]] = (), *, colour: bool
) -> str:
    """Return the summary with [number words] for each doubtful claim; of overlapping claims, only the first.

    Words in the spans `differences` are underlined, or without colour put in braces.
    """
    text = []
    for (code, differs), group in groupby(_runs(summary, doubtful, differences), key=lambda run: run[1:]):
        words = "".join(run[0] for run in group)
        if colour:
            words = _in_colour(words, ";".join(filter(None, (code, _UNDERLINED if differs else ""))))
        text.append(_in_braces(words) if differs and not colour else words)
    return "".join(text)


def _in_braces(words: str) -> str:
    """Return the words in braces, with white space around them outside."""
    inner = words.strip()
    return words.replace(inner, f"{{{inner}}}") if inner else words


_Run = tuple[str, str, bool]  # words, code of their colour or "", whether they are in a difference


def _runs(summary: str, doubtful: Sequence[Claim], differences: Sequence[tuple[int, int]]) -> Iterator[_Run]:
    done = 0
    for number, claim in sorted(enumerate(doubtful, start=1), key=lambda pair: (pair[1].start, pair[0])):
        if claim.start < done:
            continue
        code = _COLOURS[claim.verdict]
        yield from _parts(summary, (done, claim.start), "", differences)
        yield f"[{number} ", code, False
        yield from _parts(summary, (claim.start, claim.end), code, differences)
        yield "]", code, False
        done = claim.end
    yield from _parts(summary, (done, len(summary)), "", differences)


def _parts(summary: str, bounds: tuple[int, int], code: str, differences: Sequence[tuple[int, int]]) -> Iterator[_Run]:
    """Yield the text between the bounds, cut where a difference begins or ends."""
    inner = {place for span in differences for place in span if bounds[0] < place < bounds[1]}
    for start, end in pairwise(sorted({*bounds, *inner})):
        yield printable(summary[start:end]), code, any(first <= start < last for first, last in differences)


def _claim_lines(claim: Claim, number: str, starts: Sequence[int], *, colour: bool) -> Iterator[str]:
    verdict = f"{claim.verdict:<13}"
    verdict = _in_colour(verdict, _COLOURS[claim.verdict]) if colour else verdict
    yield f"{number}  {verdict} {claim.level:<6} {claim.type:<16} {_one_line(claim.text)}".rstrip()
    if claim.contrast is not None:
        yield f"     {_one_line(str(claim.contrast))}"
    if claim.evidence is not None and claim.evidence_start is not None:
        nearest = "nearest, " if claim.verdict == UNSUPPORTED else ""
        yield f"     {nearest}S{starts.index(claim.evidence_start) + 1}: {_one_line(claim.evidence)}"
    elif claim.verdict != SUPPORTED:
        yield f"     {_NO_EVIDENCE[claim.verdict]}"


def _citation_lines(note: str, summary: str) -> Iterator[str]:
    for citation in check_citations(note, summary):
        outcome = {True: SUPPORTED, False: "not supported", None: UNVERIFIABLE}[citation.supported]
        yield f"     {outcome if citation.exists else 'cites nothing':<14} {_one_line(citation.text)}"


def _count(check: FactCheck) -> str:
    """Return the number of errors among the facts that could be checked, and the number of open ones."""
    verdicts = [claim.verdict for claim in check.claims if claim.level == ERROR]
    unverifiable = verdicts.count(UNVERIFIABLE)
    left_open = f", {unverifiable} open" if unverifiable else ""
    return (
        f"{len(check.errors)} of {len(verdicts) - unverifiable} facts contradicted or unsupported{left_open}; "
        f"score {check.score:.2f} (higher is worse)"
    )


def _in_colour(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}".rstrip() for line in text.split("\n"))


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())
