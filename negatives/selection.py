"""Choose among verified negatives, so that rejected texts cannot be recognised without the note.

In each pair, some words occur more often in the rejected text and others in the chosen text. `Balance` keeps the signed
sums over all pairs so far, and the next pair is the one that brings the sums closest to zero. At zero, every word is
as frequent in rejected as in chosen texts, so a classifier that does not read the note has nothing to learn. The
method is greedy online vector balancing (Spencer 1977, "Balancing games"). Its memory does not grow with the data.
"""

from __future__ import annotations

import random
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from negatives.verification import Negative

MAX_CATEGORY_SHARE = 0.2
FEWEST_CATEGORIES_TO_BALANCE = 6
# Cost of one more pair of a category with the average number of pairs; a word out of balance by one costs 1. With 0,
# the rarest of 21 categories had 1 of 500 pairs of synthetic notes, and the most frequent had 20%
EVENNESS = 20.0
# A phrase that is removed far more often than added ("No known drug allergies") would give rejected texts away. The
# difference is limited to this number of pairs, or to this share of all pairs if that is more
MOST_ONE_WAY, MOST_ONE_WAY_SHARE = 3, 0.01
_BUCKETS = 2**18
_LONGER_IN_WORDS, _LONGER_IN_CHARACTERS = _BUCKETS, _BUCKETS + 1
_TOKEN = re.compile(r"\d+(?:[.,/]\d+)*|\w+|[^\w\s]")
_LENGTH_WEIGHT = 5  # of a difference in length; a word or n-gram has weight 1
_NGRAM_SIZES = (3, 4, 5)  # characters
_WORDS_BEFORE = re.compile(r"\S*\s*\S*\Z")
_WORDS_AFTER = re.compile(r"\S*\s*\S*")

Difference = Mapping[int, int]


def changed_windows(chosen: str, rejected: str, start: int, end: int) -> tuple[str, str]:
    """Return the words that differ, `chosen[start:end]`, of both texts, with one more word on each side."""
    tail = len(chosen) - end
    before = _WORDS_BEFORE.search(chosen, max(0, start - 80), start)
    after = _WORDS_AFTER.match(chosen, end)
    start -= len(before[0]) if before else 0
    tail -= len(after[0]) if after else 0
    return chosen[start : len(chosen) - tail], rejected[start : len(rejected) - tail]


def difference(chosen: str, negative: Negative) -> Difference:
    """Map each bucket to its count in the rejected text minus its count in the chosen text.

    The buckets are hashed words, word pairs and character n-grams. Two more hold the difference in
    length, in words and in characters.
    """
    start, end = min(edit.start for edit in negative.edits), max(edit.end for edit in negative.edits)
    rejected = negative.rejected
    old, new = changed_windows(chosen, rejected, start, end)
    counts = Counter(_buckets(new))
    counts.subtract(_buckets(old))
    counts[_LONGER_IN_WORDS] = _LENGTH_WEIGHT * _sign(len(new.split()) - len(old.split()))
    counts[_LONGER_IN_CHARACTERS] = _LENGTH_WEIGHT * _sign(len(new) - len(old))
    return {bucket: count for bucket, count in counts.items() if count}


def _buckets(text: str) -> list[int]:
    text = text.lower()
    words = _TOKEN.findall(text)
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    # the leading "\0" keeps n-grams apart from words of the same letters
    ngrams = [f"\0{text[i : i + size]}" for size in _NGRAM_SIZES for i in range(len(text) - size + 1)]
    return [zlib.crc32(item.encode()) % _BUCKETS for item in (*words, *pairs, *ngrams)]  # hash() differs by process


def _exchange(negative: Negative) -> dict[int, int]:
    """Map the bucket of the added phrase to 1, of the removed phrase to -1. Empty for insertions: no two are alike."""
    (first, *_) = negative.edits
    if not first.old.strip():
        return {}
    phrases = ((first.old, -1), (first.new, 1))
    return {zlib.crc32(text.strip().lower().encode()) % _BUCKETS: count for text, count in phrases if text.strip()}


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


class Balance:
    """The sum of the differences of all selected pairs."""

    def __init__(self) -> None:
        self._sums = array("q", bytes(8 * (_BUCKETS + 2)))

    def add(self, change: Difference, times: int = 1) -> None:
        """Add the difference of a pair. With `times=-1`, remove it."""
        for bucket, count in change.items():
            self._sums[bucket] += times * count

    def cost(self, change: Difference, times: int = 1) -> int:
        """Return the amount by which `add` would increase the sum of squares."""
        sums, total = self._sums, 0
        for bucket, count in change.items():  # a plain loop, because most of the time of a selection is spent here
            total += count * (2 * times * sums[bucket] + count)
        return total

    def imbalance(self) -> int:
        """Return the sum of squares."""
        return sum(count * count for count in self._sums)


@dataclass
class Selection:
    """Takes negatives for one summary after another. `counts` is the number of pairs taken so far, by category."""

    categories: Sequence[str]
    balance: Balance = field(default_factory=Balance)
    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0
    # by bucket: how often a phrase was added minus how often it was removed
    phrases: array[int] = field(default_factory=lambda: array("q", bytes(8 * _BUCKETS)))

    def take(self, chosen: str, offered: Sequence[Negative], wanted: int) -> list[Negative]:
        """Take up to `wanted` negatives of one summary, each time the best for the balance."""
        left = [(negative, difference(chosen, negative)) for negative in offered if not self._is_one_way(negative)]
        taken: list[Negative] = []
        while left and len(taken) < wanted:
            best = min(range(len(left)), key=lambda index: self._cost(left[index][0].type, left[index][1]))
            negative, change = left.pop(best)
            self.balance.add(change)
            self._count(negative, 1)
            taken.append(negative)
        return taken

    def give_back(self, chosen: str, taken: Sequence[Negative]) -> None:
        """Undo `take`, so that the summary can choose again when the choices of all others are known."""
        for negative in taken:
            self.balance.add(difference(chosen, negative), -1)
            self._count(negative, -1)

    def _count(self, negative: Negative, times: int) -> None:
        self.counts[negative.type] += times
        self.total += times
        for bucket, count in _exchange(negative).items():
            self.phrases[bucket] += times * count

    def _is_one_way(self, negative: Negative) -> bool:
        """Return whether a phrase of the negative has been added or removed too often in the same direction."""
        limit = max(MOST_ONE_WAY, MOST_ONE_WAY_SHARE * self.total)
        return any(abs(self.phrases[bucket] + count) > limit for bucket, count in _exchange(negative).items())

    def _cost(self, category: str, change: Difference) -> tuple[bool, float]:
        """Return a sort key: categories at their limit come last, then the balance and the category's count decide."""
        count = self.counts[category]
        at_limit = len(self.categories) >= FEWEST_CATEGORIES_TO_BALANCE and count + 1 > max(
            2, MAX_CATEGORY_SHARE * (self.total + 1)
        )
        return at_limit, self.balance.cost(change) + EVENNESS * count * len(self.categories) / (self.total + 1)


# ------------------------------------------------------------------------------------------- the limit


def share_limit(counts: Mapping[str, int]) -> int | None:
    """Return the most pairs per category that keep every category within its share, or None if all are within it."""
    sizes = [count for count in counts.values() if count]
    if len(sizes) < FEWEST_CATEGORIES_TO_BALANCE or max(sizes) <= MAX_CATEGORY_SHARE * sum(sizes):
        return None
    limit = max(sizes)
    while limit > MAX_CATEGORY_SHARE * sum(min(size, limit) for size in sizes):
        limit -= 1
    return limit


class Trimming:
    """Drops the excess pairs of categories over their limit, more often if that helps the balance.

    Selection sampling (Knuth, TAOCP 3.4.2, algorithm S) drops the exact number: with `excess` pairs to drop among
    `left`, the next pair is dropped with probability excess / left. Here the probability is doubled if that helps the
    balance, and halved if it does not.
    """

    def __init__(self, selection: Selection, rng: random.Random) -> None:
        limit = share_limit(selection.counts)
        self._balance, self._rng = selection.balance, rng
        self._left = Counter(selection.counts)
        self._excess = {
            category: max(0, count - limit) if limit is not None else 0 for category, count in self._left.items()
        }

    def keeps(self, chosen: str, negative: Negative) -> bool:
        """Return whether a selected pair is kept. Must be called exactly once for each."""
        category = negative.type
        excess, left = self._excess[category], self._left[category]
        self._left[category] -= 1
        if not excess:
            return True
        change = difference(chosen, negative)
        weight = 2 if self._balance.cost(change, -1) < 0 else 0.5
        if excess < left and self._rng.random() >= weight * excess / left:
            return True
        self._excess[category] -= 1
        self._balance.add(change, -1)
        return False
