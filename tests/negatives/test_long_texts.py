"""Proposing changes takes time in proportion to the text, also on text that is made to be slow."""

import random
import time

import pytest

from negatives.case import Case, Corpus
from negatives.registry import EDITORS

CORPUS = Corpus.from_summaries([("another note", "He takes aspirin. She has asthma.")])


def seconds_of(category: str, piece: str, characters: int, runs: int) -> float:
    """Return the processor time of several runs, the shorter of two measurements."""
    text = piece * (characters // len(piece))
    case = Case(text, text, CORPUS)
    found = []
    for _ in range(2):
        start = time.process_time()
        for _ in range(runs):
            for _candidate in EDITORS[category][0](case, random.Random(0)):
                pass
        found.append(time.process_time() - start)
    return min(found)


@pytest.mark.parametrize(
    ("category", "piece"),
    [
        ("count", "1 to "),
        ("entity_merge", "metformin 500 mg daily, "),
        ("negation", "Patient has a cough. "),
        ("negation", "has no fever "),
        ("frequency", "metformin daily, "),
        ("drug", "Take metformin. "),
        ("allergy", "No known allergies. "),
        ("cause", "Pain due to gout. "),
        ("management", "metformin was started "),
        ("certainty", "may have gout "),
        ("certainty", "Known gout. "),
        ("status", "CT was done "),
        ("status", "CT was performed. "),
        ("relative", "Mother has gout. "),
        ("fabricated_detail", "Patient has a cough. "),
    ],
)
def test_ten_times_the_text_takes_about_ten_times_as_long(category: str, piece: str) -> None:
    """Each took a hundred times as long: the text before or after it, or all facts, were read for each mention."""
    # ten runs, so that both times are far above what the clock can tell apart
    ten_of_a_tenth = seconds_of(category, piece, 2_000, runs=10)
    assert seconds_of(category, piece, 20_000, runs=1) < 3 * max(ten_of_a_tenth, 0.01)
