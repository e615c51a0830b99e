"""Find changes that a summary tells the wrong way round: "from 300 to 600" of a note with "600 -> 300"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fact_checking.claims import Claim
from fact_checking.worded_text import Word, Wording

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


def reversed_change_claims(note: Wording, summary: Wording) -> Iterator[Claim]:
    """Yield a claim for each change of the summary that the note has the other way round, and not this way."""
    told: dict[tuple[str, str], re.Match[str]] = {}
    for pattern in (_ARROW, _WAS):
        for match in pattern.finditer(note.form.text):
            told.setdefault((match["old"], match["new"]), match)
    for change in _FROM_TO.finditer(summary.form.text) if told else ():
        old, new = change["old"], change["new"]
        opposite = told.get((new, old))
        if opposite is not None and old != new and (old, new) not in told:
            yield summary.claim("change", _as_word(change), note, _as_word(opposite))


def _as_word(match: re.Match[str]) -> Word:
    """Return the words of a match as one, so that a claim can be made about them."""
    return Word(match[0], match.start(), match.end(), clause=0)
