"""Chooses among verified negatives so that nothing but the note tells chosen from rejected texts.

Every pair adds some words and takes others away. `Balance` keeps the sums over all pairs so far, signed; each new
pair is the one that brings them nearest to zero. Where they are near zero, a word is as often on the rejected side as
on the chosen one, and a classifier that reads single texts without their note has nothing to go by. This is the greedy
walk of online vector balancing (Spencer 1977, "Balancing games"), in memory that does not grow with the data.
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
# What one more of a category as frequent as the average weighs, against 1 for a word out of balance by one. With 0 the
# rarest of 21 categories had 1 of 500 pairs of synthetic notes and the most frequent 20%
EVENNESS = 20.0
# A phrase that is exchanged for others far more often than they for it ("No known drug allergies" for an allergy) would
# tell: the difference is held to this number of pairs, or to this share of them where that is more
MOST_ONE_WAY, MOST_ONE_WAY_SHARE = 3, 0.01
_BUCKETS = 2**18
_LONGER_IN_WORDS, _LONGER_IN_CHARACTERS = _BUCKETS, _BUCKETS + 1
_TOKEN = re.compile(r"\d+(?:[.,/]\d+)*|\w+|[^\w\s]")
_LENGTH_WEIGHT = 5  # one pair longer, against one word or run of characters more
_RUN_SIZES = (3, 4, 5)  # characters
_WORDS_BEFORE = re.compile(r"\S*\s*\S*\Z")
_WORDS_AFTER = re.compile(r"\S*\s*\S*")

Difference = Mapping[int, int]


def changed_windows(chosen: str, rejected: str, start: int, end: int) -> tuple[str, str]:
    """Where two texts differ, `chosen[start:end]`, in each of them, with the words cut and one more on either side."""
    tail = len(chosen) - end
    before = _WORDS_BEFORE.search(chosen, max(0, start - 80), start)
    after = _WORDS_AFTER.match(chosen, end)
    start -= len(before[0]) if before else 0
    tail -= len(after[0]) if after else 0
    return chosen[start : len(chosen) - tail], rejected[start : len(rejected) - tail]


def difference(chosen: str, negative: Negative) -> Difference:
    """What the rejected text has more of (above 0) and less of: words, pairs, runs of characters, both lengths."""
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
    # a leading mark keeps runs of characters apart from words of the same letters
    runs = [f"\0{text[i : i + size]}" for size in _RUN_SIZES for i in range(len(text) - size + 1)]
    return [zlib.crc32(item.encode()) % _BUCKETS for item in (*words, *pairs, *runs)]  # hash() differs by process


def _exchange(negative: Negative) -> dict[int, int]:
    """The phrases that come (1) and go (-1), by bucket; an insertion, of which each is another, exchanges nothing."""
    (first, *_) = negative.edits
    if not first.old.strip():
        return {}
    phrases = ((first.old, -1), (first.new, 1))
    return {zlib.crc32(text.strip().lower().encode()) % _BUCKETS: count for text, count in phrases if text.strip()}


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


class Balance:
    """The sum of the differences of all pairs."""

    def __init__(self) -> None:
        self._sums = array("q", bytes(8 * (_BUCKETS + 2)))

    def add(self, change: Difference, times: int = 1) -> None:
        """Counts a pair in; with `times=-1` out again."""
        for bucket, count in change.items():
            self._sums[bucket] += times * count

    def cost(self, change: Difference, times: int = 1) -> int:
        """What `add` would add to the sum of the squares."""
        sums, total = self._sums, 0
        for bucket, count in change.items():  # a plain loop: this is what choosing spends its time on
            total += count * (2 * times * sums[bucket] + count)
        return total

    def imbalance(self) -> int:
        """The sum of the squares."""
        return sum(count * count for count in self._sums)


@dataclass
class Selection:
    """Takes negatives for one summary after the other; `counts` are those of the categories so far."""

    categories: Sequence[str]
    balance: Balance = field(default_factory=Balance)
    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0
    phrases: array[int] = field(default_factory=lambda: array("q", bytes(8 * _BUCKETS)))  # came less went, by bucket

    def take(self, chosen: str, offered: Sequence[Negative], wanted: int) -> list[Negative]:
        """Up to `wanted` of the negatives of one summary, one by one the best for the balance."""
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
        """Undoes `take`, so that the summary can choose again in the light of all others."""
        for negative in taken:
            self.balance.add(difference(chosen, negative), -1)
            self._count(negative, -1)

    def _count(self, negative: Negative, times: int) -> None:
        self.counts[negative.type] += times
        self.total += times
        for bucket, count in _exchange(negative).items():
            self.phrases[bucket] += times * count

    def _is_one_way(self, negative: Negative) -> bool:
        """Whether what goes has gone, or what comes has come, too often already for how often it went the other way."""
        limit = max(MOST_ONE_WAY, MOST_ONE_WAY_SHARE * self.total)
        return any(abs(self.phrases[bucket] + count) > limit for bucket, count in _exchange(negative).items())

    def _cost(self, category: str, change: Difference) -> tuple[bool, float]:
        """Categories at their limit last; then the balance, and rare categories rather than frequent ones."""
        count = self.counts[category]
        at_limit = len(self.categories) >= FEWEST_CATEGORIES_TO_BALANCE and count + 1 > max(
            2, MAX_CATEGORY_SHARE * (self.total + 1)
        )
        return at_limit, self.balance.cost(change) + EVENNESS * count * len(self.categories) / (self.total + 1)


# ------------------------------------------------------------------------------------------- the limit


def share_limit(counts: Mapping[str, int]) -> int | None:
    """The most pairs of a category with which none is over its share; None where nothing is to be taken out."""
    sizes = [count for count in counts.values() if count]
    if len(sizes) < FEWEST_CATEGORIES_TO_BALANCE or max(sizes) <= MAX_CATEGORY_SHARE * sum(sizes):
        return None
    limit = max(sizes)
    while limit > MAX_CATEGORY_SHARE * sum(min(size, limit) for size in sizes):
        limit -= 1
    return limit


class Trimming:
    """Which pairs go so that no category is over its limit: the exact number of each, rather those out of balance.

    Selection sampling (Knuth, TAOCP 3.4.2, algorithm S): with `excess` to go of those `left`, one goes with the
    probability excess / left, here doubled where that helps the balance and halved where it does not.
    """

    def __init__(self, selection: Selection, rng: random.Random) -> None:
        limit = share_limit(selection.counts)
        self._balance, self._rng = selection.balance, rng
        self._left = Counter(selection.counts)
        self._excess = {
            category: max(0, count - limit) if limit is not None else 0 for category, count in self._left.items()
        }

    def keeps(self, chosen: str, negative: Negative) -> bool:
        """To be asked once for every pair that was selected."""
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
