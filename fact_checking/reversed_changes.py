"""Find changes that a summary tells the wrong way round: "from 300 to 600" of a note with "600 -> 300"."""

from __future__ import annotations

import re
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
    told = [*_ARROW.finditer(told_form.text), *_WAS.finditer(told_form.text)]
    for change in _FROM_TO.finditer(form.text):
        old, new = change["old"], change["new"]
        opposite = [each for each in told if (each["old"], each["new"]) == (new, old)]
        if not opposite or old == new or any((each["old"], each["new"]) == (old, new) for each in told):
            continue
        start, end = form.original_span(*change.span())
        place = told_form.original_span(*opposite[0].span())
        evidence_start, evidence = _sentence(note, place[0])
        contrast = Contrast("", summary[start:end], note[slice(*place)], *place)
        yield Claim("change", summary[start:end], start, end, CONTRADICTED, ERROR, evidence, evidence_start, contrast)


def _sentence(text: str, place: int) -> tuple[int, str]:
    start, end = next((span for span in sentences(text)[::-1] if span[0] <= place), (0, len(text)))
    return start, text[start:end]
