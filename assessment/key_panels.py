"""The panel of the single-key form: one list of lines for each question."""

from __future__ import annotations

from collections.abc import Sequence

from assessment.key_screen import one_line
from assessment.keys import QUESTION
from assessment.ratings import COMPLETENESS, KINDS, SEVERITIES
from assessment.words import Span, in_context

# 1 to 4 are major errors of each kind, 5 to 8 minor ones
KIND_KEYS = {
    str(number): (kind, severity)
    for number, (severity, kind) in enumerate(((s, k) for s in SEVERITIES for k in KINDS), start=1)
}
PAGE_KEYS = "space, p: page"
HELP = {
    "y": "yes, hallucinated; then the phrase, and one key for kind and severity",
    "n": "no, the note supports every statement of the summary",
    "a": "a further error of this summary, or of the one just rated",
    "s": "skip; asked again in the next session, after all others",
    "b": "back: to the previous question, or to the previous summary",
    "Enter": "keep the rating as it is and go on",
    "o, c": "note an omission (not a hallucination); write a comment",
    "space, p": "next and previous page of the note; also the keys PgDn and PgUp",
    "/": "search the note; / and Enter show the next place",
    "t": "what you have rated so far",
    "q": "leave; everything is saved",
}


def help_lines() -> list[str]:
    """Return all keys with their meanings."""
    return ["Keys (without Enter):", "", *(f"{key:>10}  {meaning}" for key, meaning in HELP.items())]


def verdict(message: str, *, has_rating: bool) -> list[str]:
    """Return the main question."""
    keep = "Enter: keep   " if has_rating else ""
    return [
        *filter(None, [message]),
        QUESTION,
        f"{keep}y: yes   n: no   s: skip   b: back   {PAGE_KEYS}   /: search",
        "o: omission   c: comment   a: add an error   t: so far   ?: all keys   q: quit",
    ]


def phrase(message: str, digits: str, count: int) -> list[str]:
    """Return the question which phrase is not supported."""
    typed = f"   {digits}_ (Enter: {digits})" if digits else ""
    numbers = f"its number, 1 to {count}" if count > 1 else "1 for the only one"
    return [
        *filter(None, [message]),
        f"Which phrase is not supported? Type {numbers}.{typed}",
        f"Enter: none in particular   t: type the words   b: back   {PAGE_KEYS}",
    ]


def place(message: str, places: Sequence[Span], summary: str) -> list[str]:
    """Return the question which of several places is meant."""
    listed = [f"  {number}  {in_context(span, summary)}" for number, span in enumerate(places, start=1)]
    return [*filter(None, [message]), f"These words occur {len(places)} times. Which place? b: back", *listed]


def kind(message: str, words: str, width: int) -> list[str]:
    """Return the table of kinds and severities."""
    shown = f'"{" ".join(words.split())}"' if words else "No words in particular."
    keys = "" if message else "  +: next phrase  w: sentence  b: back"
    rows = {f"major: {SEVERITIES['major']}": ("major", "minor")}
    rows |= {
        f"{name}: {meaning}": (str(number), str(number + len(KINDS)))
        for number, (name, meaning) in enumerate(KINDS.items(), start=1)
    }
    wide = max(map(len, rows))
    return [
        f"{one_line(f'{message}{shown}', width - len(keys))}{keys}",
        *(one_line(f"{text:<{wide}}   {major:^5}  {minor:^5}", width) for text, (major, minor) in rows.items()),
    ]


def completeness(message: str) -> list[str]:
    """Return the question how complete the summary is."""
    return [
        *filter(None, [message]),
        "How complete is the summary? An error does not state a fact. b: back",
        *(f"  {level}  {meaning}" for level, meaning in COMPLETENESS.items()),
    ]


def typing(message: str, question: str) -> list[str]:
    """Return the question above the input line."""
    return [*filter(None, [message]), f"{question}. Esc: back"]
