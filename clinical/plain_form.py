"""Bring a text into the one form that all patterns read: sentences unwrapped, notation and abbreviations in words.

The form of a dialogue has only its spoken numbers in digits, because speakers use no notation.
"""

from __future__ import annotations

from functools import lru_cache

from clinical.abbreviations import abbreviation_rewrites
from clinical.layout import laid_out
from clinical.lexicons import on_change
from clinical.notation import notation_rewrites
from clinical.text import RegularForm, dialogue_turns, regular_form, rewritten, spoken_rewrites


@lru_cache(maxsize=2048)
def plain_form(text: str) -> RegularForm:
    """Return `text` in plain form. The form maps its spans to spans of `text`."""
    if dialogue_turns(text):
        return regular_form(text)
    flat = laid_out(text)
    rewrites = [*notation_rewrites(flat), *abbreviation_rewrites(flat), *spoken_rewrites(flat)]
    return rewritten(flat, rewrites)


on_change(plain_form.cache_clear)
