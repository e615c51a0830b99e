"""Find changes that a summary tells the wrong way round: "from 300 to 600" of a note with "600 -> 300"."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from clinical.plain_form import plain_form
from clinical.text import sentences
from fact_checking.claims import CONTRADICTED, ERROR, Claim, Contrast

_VALUE = r"(?:\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?|[IVX]{1,4})"
_OFTEN = r"(?: (?:\d times|once|twice) daily)?"
_UNIT = r"(?: ?%| ?[a-zA-Z]{1,9}(?:/[a-z]+)?)?"
_THEN = r" ?(?:->|-->|→|=>|to) ?"
_FROM_TO = re.compile(
    rf"\bfrom (?:about |a |[a-z]+ )?(?P<old>{_VALUE}){_UNIT} to (?:about )?(?P<new>{_VALUE})(?![\w/]|\.\d)"
)
_ARROW = re.compile(rf"(?<![\w./])(?P<old>{_VALUE}){_UNIT}{_OFTEN}{_THEN}(?P<new>{_VALUE})(?![\w/]|\.\d)")
_WAS = re.compile(  # "8.4 (was 7.6 in Mar)", "1.7 (bl 1.2)", "Hb 89 (↓ from 104)"
    rf"(?<![\w./])(?P<new>{_VALUE}){_UNIT},? ?\(?"
    rf"(?:was|prev(?:iously)?|baseline|bl|(?:up|down|decreased|increased)? ?from) (?P<old>{_VALUE})(?![\w/]|\.\d)"
)


def reversed_change_claims(note: str, summary: str) -> Iterator[Claim]:
    """Yield a claim for each change of the summary that the note has the other way round, and not this way."""
    told_form, form = plain_form(note), plain_form(summary)
    told: dict[tuple[str, str], re.Match[str]] = {}
    for pattern in (_ARROW, _WAS):
        for match in pattern.finditer(told_form.text):
            told.setdefault((match["old"], match["new"]), match)
    for change in _FROM_TO.finditer(form.text) if told else ():
        old, new = change["old"], change["new"]
        opposite = told.get((new, old))
        if opposite is None or old == new or (old, new) in told:
            continue
        start, end = form.original_span(*change.span())
        place = told_form.original_span(*opposite.span())
        evidence_start, evidence = _sentence(note, place[0])
        contrast = Contrast("", summary[start:end], note[slice(*place)], *place)
        yield Claim("change", summary[start:end], start, end, CONTRADICTED, ERROR, evidence, evidence_start, contrast)


def _sentence(text: str, place: int) -> tuple[int, str]:
    """Return (start, text) of the sentence that holds a place."""
    spans = sentences(text)
    start, end = spans[max(0, bisect_right(spans, place, key=lambda span: span[0]) - 1)]
    return start, text[start:end]
