"""The words in which two texts differ."""

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
        ("", "Cough.", [], ["Cough"]),
        ("Gout. Cough.", "Cough. Gout.", ["Cough"], ["Cough"]),
    ],
)
def test_spans_of_the_words_that_differ(first: str, second: str, only_first: list[str], only_second: list[str]) -> None:
    found = word_differences(first, second)
    assert [first[start:end] for start, end in found[0]] == only_first
    assert [second[start:end] for start, end in found[1]] == only_second
