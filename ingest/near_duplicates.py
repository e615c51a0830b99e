"""Find all pairs of notes that are nearly the same: copies with an edited date, a corrected word or an added line.

Two notes are near-duplicates if 2 * LCS / (n + m) >= THRESHOLD, with n and m their words and LCS the length of their
longest common subsequence of words. Comparing all pairs would take quadratic time. The search skips only pairs that
cannot reach the threshold, so it misses none (prefix filtering: Chaudhuri, Ganti and Kaushik, ICDE 2006): such notes
share at least s * n words with s = THRESHOLD / (2 - THRESHOLD), so one of the n - ceil(s * n) + 1 rarest words of the
one is among the same number of rarest words of the other.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from rapidfuzz.distance import Indel

from script_io.progress import progress_bar

THRESHOLD = 0.9
_SHARED = THRESHOLD / (2 - THRESHOLD)  # share of a note's words that every near-duplicate of it has
_Token = tuple[str, int]  # a word, and how many times the note had it before


def near_duplicates(notes: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the index pairs (first, second), first < second, of notes that are near-duplicates."""
    words = [re.findall(r"\w+", note.lower()) for note in notes]
    tokens = [_numbered(each) for each in words]
    frequency = Counter(token for each in tokens for token in each)
    by_token: dict[_Token, list[int]] = defaultdict(list)
    # shorter notes first: of a pair, the shorter one is in the index when the longer one looks for it
    order = sorted(range(len(notes)), key=lambda index: (len(words[index]), index))
    for index in progress_bar(order, label="Near-duplicate notes", unit="note"):
        rarest = _prefix(tokens[index], frequency)
        found = {other for token in rarest for other in by_token[token]}
        if not words[index]:
            found = set(by_token["", 0])
            rarest = [("", 0)]
        least = _SHARED * len(words[index])
        for other in sorted(found):
            if len(words[other]) >= least and similarity(words[index], words[other]) >= THRESHOLD:
                yield min(index, other), max(index, other)
        for token in rarest:
            by_token[token].append(index)


def similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """Return 2 * LCS / (n + m) of two texts in words, or 0 if it is below the threshold."""
    return float(Indel.normalized_similarity(first, second, score_cutoff=THRESHOLD))


def _numbered(words: Sequence[str]) -> list[_Token]:
    """Return the words with their numbers of occurrence, so that a set of them is a multiset of words."""
    seen: Counter[str] = Counter()
    tokens = []
    for word in words:
        tokens.append((word, seen[word]))
        seen[word] += 1
    return tokens


def _prefix(tokens: Sequence[_Token], frequency: Counter[_Token]) -> list[_Token]:
    """Return the rarest tokens of a note, without those that no other note has."""
    count = len(tokens) - math.ceil(_SHARED * len(tokens)) + 1
    rarest = sorted(tokens, key=lambda token: (frequency[token], token))[:count]
    return [token for token in rarest if frequency[token] > 1]
