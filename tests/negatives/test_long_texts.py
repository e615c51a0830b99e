"""Proposing changes takes time in proportion to the text, also on text that is made to be slow."""

import math
import random
import time

import pytest

from negatives.case import Case
from negatives.registry import EDITORS


def seconds_of(category: str, piece: str, characters: int) -> float:
    text = piece * (characters // len(piece))
    case = Case(text, text)
    found = []
    for _ in range(3):
        start = time.process_time()
        for _candidate in EDITORS[category][0](case, random.Random(0)):
            pass
        found.append(time.process_time() - start)
    return min(found)


@pytest.mark.parametrize(
    ("category", "piece"),
    [("count", "1 to "), ("entity_merge", "metformin 500 mg daily, "), ("negation", "Patient has a cough. ")],
)
def test_ten_times_the_text_takes_about_ten_times_as_long(category: str, piece: str) -> None:
    """Each took a hundred times as long: the text before every mention, or all facts, were read for each mention."""
    growth = math.log10(seconds_of(category, piece, 20_000) / max(seconds_of(category, piece, 2_000), 1e-4))
    assert growth < 1.5
