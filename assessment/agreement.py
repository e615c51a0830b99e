"""Agreement of two judges on the same summaries: two assessors, or the automatic checker and an assessor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.stats import (
    Z95,
    Interval,
    by_note,
    percentile_interval,
    resampled_sums,
    share_interval,
    wilson_interval,
    wilson_interval_by_note,
)

KAPPA_RESAMPLES = 2000
Cells = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """A two-by-two table: how many summaries each of two judges calls hallucinated."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool, bool]]) -> Agreement:
        """Count pairs of (first judge says hallucinated, second judge says hallucinated)."""
        pairs = list(pairs)
        kinds = ((True, True), (True, False), (False, True), (False, False))
        return cls(*(pairs.count(kind) for kind in kinds))

    @property
    def n(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def agreed(self) -> int:
        return self.both + self.neither

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (Cohen 1960); None if both judges give one and the same answer throughout."""
        return self._kappa_and_chance()[0] if self.n else None

    @property
    def kappa_interval(self) -> Interval | None:
        """95% interval from the large-sample variance (Fleiss, Cohen and Everitt 1969).

        None if kappa is undefined, or if the formula gives width 0 for any n: the judges agree on all summaries or on
        none, or one judge gives one answer only.
        """
        kappa = self.kappa
        if kappa is None or self.agreed in (0, self.n) or self._has_one_answer():
            return None
        half = Z95 * math.sqrt(self._kappa_variance(kappa))
        return max(-1.0, kappa - half), min(1.0, kappa + half)

    def _has_one_answer(self) -> bool:
        return bool({self.both + self.only_first, self.both + self.only_second} & {0, self.n})

    def _kappa_and_chance(self) -> tuple[float | None, float]:
        """Return kappa and the share of agreement expected by chance."""
        first, second = (self.both + self.only_first) / self.n, (self.both + self.only_second) / self.n
        chance = first * second + (1 - first) * (1 - second)
        return (None if chance == 1 else (self.agreed / self.n - chance) / (1 - chance)), chance

    def _kappa_variance(self, kappa: float) -> float:
        n, chance = self.n, self._kappa_and_chance()[1]
        first, second = (self.both + self.only_first) / n, (self.both + self.only_second) / n
        agreed = self.both / n * (1 - (first + second) * (1 - kappa)) ** 2
        agreed += self.neither / n * (1 - (2 - first - second) * (1 - kappa)) ** 2
        differing = self.only_first / n * (second + 1 - first) ** 2 + self.only_second / n * (first + 1 - second) ** 2
        correction = (kappa - chance * (1 - kappa)) ** 2
        return max(0.0, agreed + (1 - kappa) ** 2 * differing - correction) / (n * (1 - chance) ** 2)

    def lines(self, share: str | None = None, kappa_interval: Interval | None = None) -> list[str]:
        """Return the share of agreement and kappa in words, or with the given share and interval."""
        lines = [f"agree on {share or share_text(self.agreed, self.n)}"]
        if self.kappa is None:
            return [*lines, "Cohen's kappa: undefined, since both gave the same answer every time"]
        interval = kappa_interval or self.kappa_interval
        text = (
            f"95% interval {interval[0]:.2f} to {interval[1]:.2f}"
            if interval
            else "no interval: the answers vary too little"
        )
        return [*lines, f"Cohen's kappa {self.kappa:.2f} ({text}), n = {self.n}"]


class GroupedAgreement:
    """Agreement over summaries of which several may belong to one note; then its intervals resample notes."""

    def __init__(self, notes: Sequence[Agreement]) -> None:
        """Take the table of each note."""
        self.notes = len(notes)
        self.cells = np.array([[each.both, each.only_first, each.only_second, each.neither] for each in notes], float)
        self.table = Agreement(*map(int, self.cells.sum(axis=0)))
        self.n = self.table.n

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, tuple[bool, bool]]]) -> GroupedAgreement:
        """Count (note, (first judge says hallucinated, second judge says hallucinated))."""
        of_note: dict[str, list[tuple[bool, bool]]] = {}
        for note, pair in pairs:
            of_note.setdefault(note, []).append(pair)
        return cls([Agreement.of(pairs) for pairs in of_note.values()])

    @property
    def sensitivity(self) -> str:
        """The share of what the second judge calls hallucinated that the first one does, with its interval."""
        return self._share(self.cells[:, 0], self.cells[:, 0] + self.cells[:, 2])

    @property
    def specificity(self) -> str:
        """The share of what the second judge calls sound that the first one does, with its interval."""
        return self._share(self.cells[:, 3], self.cells[:, 3] + self.cells[:, 1])

    def _share(self, hits: Cells, of: Cells) -> str:
        count, n = int(hits.sum()), int(of.sum())
        return share_text(count, n, share_interval(hits.tolist(), of.tolist()) if of.max() > 1 else None)

    def lines(self) -> list[str]:
        """Return the share of agreement and kappa in words."""
        if self.n == self.notes:
            return self.table.lines()
        share = self._share(self.cells[:, 0] + self.cells[:, 3], self.cells.sum(axis=1))
        return self.table.lines(share, self._kappa_interval())

    def _kappa_interval(self) -> Interval | None:
        if self.table.kappa_interval is None:
            return None
        tables = (Agreement(*map(int, sums)) for sums in resampled_sums(self.cells, 42, KAPPA_RESAMPLES))
        return percentile_interval(np.array([table.kappa for table in tables], float))  # None becomes NaN


def share_text_by_note(values: Iterable[tuple[str, bool]]) -> str:
    """Return `share_text` of pairs (note of a summary, whether it counts). The summaries of one note are alike."""
    pairs = list(values)
    found = [float(counts) for _, counts in pairs]
    sums = by_note([note for note, _ in pairs], found, [1.0] * len(pairs))
    return share_text(int(sum(found)), len(pairs), wilson_interval_by_note(*sums) if pairs else None)


def share_text(count: int, n: int, interval: Interval | None = None) -> str:
    """Return `3 of 12 (25.0%, 95% interval 8.9% to 53.2%)`, or `0 of 0`. The interval is Wilson's by default."""
    if n == 0:
        return "0 of 0"
    low, high = interval or wilson_interval(count, n)
    return f"{count} of {n} ({count / n:.1%}, 95% interval {low:.1%} to {high:.1%})"
