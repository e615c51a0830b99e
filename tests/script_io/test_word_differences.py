"""The words that texts do not share."""

from __future__ import annotations

import pytest

from script_io.word_differences import word_differences


@pytest.mark.parametrize(
    ("first", "second", "only_first", "only_second"),
    [
        ("Apixaban 10 mg daily.", "Apixaban 5 mg daily.", ["10"], ["5"]),
        ("Chest pain, fever.", "chest pain; FEVER", [], []),
        ("No fever.", "No fever or chills.", [], ["or chills"]),
        ("BP 142/88, HbA1c 7.9%.", "BP 142/80, HbA1c 7.9%.", ["142/88"], ["142/80"]),
        ("Troponin <0.01.", "Troponin 0.01.", ["<0.01"], ["0.01"]),
        ("", "Cough.", [], ["Cough"]),
        ("Gout. Cough.", "Cough. Gout.", ["Cough"], ["Cough"]),
    ],
)
def test_spans_of_the_words_that_differ(first: str, second: str, only_first: list[str], only_second: list[str]) -> None:
    found = word_differences([first, second])
    assert [first[start:end] for start, end in found[0]] == only_first
    assert [second[start:end] for start, end in found[1]] == only_second


def test_the_first_text_is_compared_with_all_others() -> None:
    """The first text is marked where no other agrees."""
    texts = ["Aged 54. Takes 500 mg daily.", "aged 54, takes 850 mg.", "Aged 60. Takes 500 mg daily"]
    found = [
        [text[start:end] for start, end in spans] for text, spans in zip(texts, word_differences(texts), strict=True)
    ]
    assert found == [[], ["850"], ["60"]]
    assert word_differences(["One", "Two words"]) == [[(0, 3)], [(0, 9)]]
