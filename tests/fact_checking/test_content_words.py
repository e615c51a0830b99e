"""Which words of a summary carry content, and whether a note has them: by form, family, spelling or meaning."""

from __future__ import annotations

import pytest

from clinical.lexicons import sound_alikes
from fact_checking.content_words import WordSupport, content_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The patient comes in today complaining of swelling.", ["swelling"]),
        ("No known history; she returns for follow up.", []),
        ("Noncontributory.", ["Noncontributory"]),  # a judgement that somebody has to have made
        ("The patient's roommate left.", ["roommate", "left"]),
        ("REVIEW OF SYSTEMS: GI: Reflux; Social history: Retired.", ["Reflux", "Retired"]),
        ("Temperature: 38.5. Sleep: poor.", ["poor"]),
        ("Niño con fiebre, 患者", ["Niño", "con", "fiebre", "患者"]),
        ("x 5 mg", ["mg"]),
        ("", []),
    ],
)
def test_content_words_are_what_reporting_and_headings_leave(text: str, words: list[str]) -> None:
    found = content_words(text)
    assert [word for _, word in found] == words
    assert all(text.startswith(word, start) for start, word in found)


@pytest.mark.parametrize(
    ("note", "word"),
    [
        ("She had surgery.", "surgical"),
        ("Her allergies are worse.", "allergic"),
        ("I walked the dog.", "walking"),
        ("Seen by psychiatry.", "psychiatrist"),
        ("Shown a hemorrhoid.", "haemorrhoid"),
        ("Took levofloxicin.", "levofloxacin"),  # one letter replaced, in a long word
        ("I fell in an A B C store.", "ABC"),
        ("My mother's sister.", "mother"),
    ],
)
def test_a_word_is_there_in_any_form(note: str, word: str) -> None:
    assert WordSupport(note).has(word)
    assert WordSupport(note).means(word)


@pytest.mark.parametrize(
    ("note", "word"),
    [
        ("Symptomatic.", "asymptomatic"),
        ("Hypotension.", "hypertension"),
        ("Arthritis.", "arthroscopy"),
        ("Gastritis.", "gastrectomy"),
        ("I mention several things.", "severe"),  # "several" carries nothing, so that it has no family
        ("I see.", "sea"),
        ("", "cough"),
    ],
)
def test_a_word_of_another_meaning_is_not_there(note: str, word: str) -> None:
    assert not WordSupport(note).means(word)


def test_no_drug_is_taken_for_one_that_it_is_confused_with() -> None:
    pairs = [(drug, other) for drug, others in sound_alikes().items() for other in others]
    assert len(pairs) > 300
    for drug, other in pairs:
        if drug.isalpha() and other.isalpha():
            assert not WordSupport(drug).means(other), (drug, other)


def test_words_of_the_same_meaning_are_meant_but_not_written() -> None:
    support = WordSupport("My dad has trouble seeing.")
    for word in ("father", "difficulty", "visual"):
        assert support.means(word)
        assert not support.has(word)
    assert not support.means("mother")


def test_a_fragment_is_completed_by_a_word_of_the_note() -> None:
    support = WordSupport("Appendix removed.")
    assert support.completes("append")
    assert not support.completes("appendicular")


@pytest.mark.parametrize("text", ["A" * 100_000, "\n" * 100_000, "A b:" * 25_000, "word'" * 20_000, "ab " * 50_000])
def test_long_texts_of_one_kind_are_read(text: str) -> None:
    words = content_words(text)
    assert len(words) <= 50_000
    assert all(map(WordSupport(text).means, {word for _, word in words[:5]}))
