"""The phrases of a summary, their numbers, and which words an answer means."""

from __future__ import annotations

import pytest

from assessment.words import in_context, numbered, numbered_words, phrases, places_meant, sentence_of

SUMMARY = "A 64-year-old man, on metformin 500 mg (since 2020) and aspirin. Dr. Li saw him. Today, well."


def test_sentences_are_divided_into_numbered_phrases() -> None:
    assert numbered(SUMMARY) == (
        "[1] A 64-year-old man, [2] on metformin 500 mg [3] (since 2020) [4] and aspirin. "
        "[5] Dr. Li saw him. [6] Today, well."  # one word is no phrase
    )
    assert numbered("") == ""
    assert phrases("one") == [(0, 3)]


def test_phrases_hold_every_word_of_the_summary_once() -> None:
    found = [SUMMARY[slice(*span)] for span in phrases(SUMMARY)]
    assert " ".join(found).split() == SUMMARY.split()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("2", ["on metformin 500 mg"]),
        ("3 - 4", ["(since 2020) and aspirin."]),
        ("500", ["500"]),  # no phrase has this number, so it is a word
        ('"6"', ["6"]),
        ("'dr. li'", ["Dr. Li"]),
        ("4-3", []),
        ("9", []),
        ("li", ["Li"]),
        ("and", ["and"]),
    ],
)
def test_what_an_answer_means(answer: str, words: list[str]) -> None:
    assert [SUMMARY[slice(*span)] for span in places_meant(answer, SUMMARY)] == words


def test_numbers_beyond_the_phrases_are_none() -> None:
    assert numbered_words("7", SUMMARY) is None
    assert numbered_words("0", SUMMARY) is None


def test_a_place_is_shown_with_what_surrounds_it() -> None:
    start = SUMMARY.index("aspirin")
    assert (
        in_context((start, start + 7), SUMMARY) == "... 500 mg (since 2020) and [aspirin]. Dr. Li saw him. Today, ..."
    )
    assert sentence_of((start, start + 7), SUMMARY) == (0, SUMMARY.index(" Dr."))
