"""The question of the assessment, its keys, and the words that no free-text answer may consist of."""

from __future__ import annotations

from assessment.ratings import HALLUCINATED, NOT_HALLUCINATED, SKIPPED

QUESTION = "Does the summary contain a hallucination, that is, state anything that the note does not support?"
KEYS = {
    "y": ("yes", "hallucinated: at least one statement is not supported by the note; asks for its kind and words"),
    "n": ("no", "no hallucination: the note supports every statement of the summary"),
    "s": ("skip", "no rating for now; you are asked again in the next session, after all others"),
    "b": ("back", "go back: to the previous question, or to the previous summary, to change its rating"),
    "o": ("omission", "note an important fact that the summary leaves out; not a hallucination"),
    "c": ("comment", "write a comment on this summary"),
    "v": ("view", "show the note from its beginning, and the summary"),
    "p": ("previous", "show the previous page of the note"),
    "/": ("search", "search the note: / and the words; / alone shows the next place"),
    "stats": ("stats", "show what you have rated so far"),
    "?": ("help", "show this list"),
    "q": ("quit", "leave; everything is saved"),
}
VERDICTS = {"y": HALLUCINATED, "n": NOT_HALLUCINATED, "s": SKIPPED}
BACK = ("b", "back")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}


class Quit(Exception):
    """The assessor asked to leave."""


def key_of(answer: str) -> str | None:
    """Return the key that an answer names by itself or by its word, in any case; None if it names none."""
    wanted = answer.strip().lower()
    return next((key for key, (word, _) in KEYS.items() if wanted in (key, word)), None)


def unquoted(answer: str) -> str:
    """Return a text without the quotes around it. Quotes say that a text is meant although it looks like a key."""
    text = answer.strip()
    quoted = len(text) > 1 and _QUOTES.get(text[0]) == text[-1]
    return text[1:-1].strip() if quoted else text


def reserved_text(answer: str) -> str:
    """Say that a key is not stored as text."""
    return f'{answer} is a key of this tool, so it was not stored. To store it as text, put it in quotes: "{answer}".'
