"""Answers about the text around a place are those of a search through the whole text."""

import random
import re

import pytest

from clinical.occurrences import Occurrences, right_before

WORDS = ("he ", "his", "and", "thinks ", "no ", "1.", "2) ", ". ", ";", "\n", "  ", ", ", "for 3 ", "history of ")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(3)
    return ["".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 16))) for _ in range(200)] + [""]


@pytest.mark.parametrize("expression", [r"[.;\n]", r"[.;]\s+|[.;\n]", r"\b(?:he|his)\b", r",|\band\b", r"\d"])
def test_matches_around_a_place(texts: list[str], expression: str) -> None:
    pattern = re.compile(expression)
    for text in texts:
        found = Occurrences(pattern, text)
        spans = [match.span() for match in pattern.finditer(text)]
        for place in range(len(text) + 1):
            after = [span for span in spans if span[0] >= place]
            before = [end for _, end in spans if end <= place]
            assert found.following(place) == (after[0] if after else (len(text), len(text)))
            assert found.last_end(place) == max(before, default=0)


@pytest.mark.parametrize("expression", [r"(?:^|[.;:\n])\s*$", r"\d[.)]\s*$", r"\b(?:for|no|of) $", r"\bhistory of\s*$"])
def test_words_right_before_a_place(texts: list[str], expression: str) -> None:
    pattern = re.compile(expression)
    for text in [*texts, "no history of" + " " * 200 + "gout", "1." + "\n" * 200 + "gout", " " * 200]:
        for place in range(len(text) + 1):
            found, expected = right_before(pattern, text, place), pattern.search(text[:place])
            assert (found and found.span()) == (expected and expected.span())
