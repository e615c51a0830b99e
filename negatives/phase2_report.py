"""Count what happened to the summaries and candidates of a split, for `phase2_stats.json` and the printed table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from negatives.example_index import SplitSize

UNSOUND_IDS_SHOWN = 20


@dataclass
class Lengths:
    """Word counts of the chosen or the rejected texts."""

    words: int = 0
    longest: int = 0

    def add(self, words: int) -> None:
        self.words += words
        self.longest = max(self.longest, words)


@dataclass
class SplitReport:
    """The counts of one split. Memory use does not grow with the number of rows."""

    size: SplitSize
    looked_at: int = 0
    unsound: int = 0
    first_unsound: list[str] = field(default_factory=list)
    wanting: int = 0  # sound summaries that need a negative
    without_negative: int = 0  # summaries that need a negative and have none
    over_share: int = 0
    with_pair: int = 0  # summaries with a generated negative in the output
    rejected_for: Counter[str] = field(default_factory=Counter)
    by_type: Counter[str] = field(default_factory=Counter)
    by_verdict: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Lengths] = field(default_factory=lambda: {"chosen": Lengths(), "rejected": Lengths()})
    rejected_is: Counter[str] = field(default_factory=Counter)
    _last: tuple[str, str] = ("", "")

    @property
    def triplets(self) -> int:
        return self.by_type.total()

    def leave_out(self, row_id: str) -> None:
        """Count an unsound summary."""
        self.looked_at += 1
        self.unsound += 1
        self.first_unsound = [*self.first_unsound, row_id][:UNSOUND_IDS_SHOWN]

    def count_offer(self, wanted: int, taken: int, rejected_for: Mapping[str, int]) -> None:
        """Count a sound summary and its rejected candidates."""
        self.looked_at += 1
        self.wanting += bool(wanted)
        self.without_negative += bool(wanted and not taken)
        self.rejected_for.update(rejected_for)

    def count_pair(self, pair_type: str, row: Mapping[str, Any], *, made: bool = True) -> None:
        """Count a triplet of the output. Triplets of the same summary must be counted one after another."""
        self.by_type[pair_type] += 1
        self.by_verdict.update(edit["verdict"] for edit in row["edits"])
        words = {side: len(row[side].split()) for side in self.lengths}
        for side, count in words.items():
            self.lengths[side].add(count)
        longer, shorter = words["rejected"] > words["chosen"], words["rejected"] < words["chosen"]
        self.rejected_is["longer" if longer else "shorter" if shorter else "equal"] += 1
        source = row["prompt"], row["chosen"]
        self.with_pair += made and source != self._last
        self._last = source if made else self._last

    def as_dict(self) -> dict[str, Any]:
        """Return the part of `phase2_stats.json` about this split."""
        return {
            "triplets": self.triplets,
            "by_type": dict(self.by_type.most_common()),
            "by_verdict": dict(self.by_verdict.most_common()),
            "lengths": self._lengths(),
            "yield": round(self.with_pair / self.wanting, 4) if self.wanting else None,
            "examples": self.size.rows,
            "repeated_examples": self.size.repeated,
            "factual_examples": self.size.factual,
            "factual_looked_at": self.looked_at,
            "factual_left_out_as_unsound": self.unsound,
            "first_left_out_ids": self.first_unsound,
            "factual_without_negative": self.without_negative,
            "left_out_over_category_share": self.over_share,
            "rejected_candidates": rejected_by_category(self.rejected_for),
        }

    def _lengths(self) -> dict[str, Any]:
        total = max(1, self.triplets)
        sides = {
            side: {"mean_words": round(length.words / total, 1), "max_words": length.longest}
            for side, length in self.lengths.items()
        }
        shares = {
            f"rejected_{name}": round(self.rejected_is[name] / total, 4) for name in ("longer", "shorter", "equal")
        }
        return {**sides, **shares}


def rejected_by_category(rejected_for: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Group counts of "category: reason" by category, then by reason."""
    found: dict[str, dict[str, int]] = {}
    for name, count in sorted(rejected_for.items(), key=lambda item: (-item[1], item[0])):
        category, _, reason = name.partition(": ")
        found.setdefault(category, {})[reason] = count
    return found


def print_table(train: SplitReport, validation: SplitReport, types: Sequence[str]) -> None:
    """Print triplets and rejected candidates by type, then rejected candidates by reason."""
    rejected = rejected_by_category(train.rejected_for + validation.rejected_for)
    print(f"\n{'type':20}{'train':>8}{'share':>8}{'validation':>12}{'rejected candidates':>21}")
    for name in types:
        counts, thrown = (train.by_type[name], validation.by_type[name]), sum(rejected.get(name, {}).values())
        if any(counts) or thrown:
            print(f"{name:20}{counts[0]:8}{counts[0] / max(1, train.triplets):8.1%}{counts[1]:12}{thrown:21}")
    print(f"{'all':20}{train.triplets:8}{1:8.0%}{validation.triplets:12}{sum(map(_total, rejected.values())):21}\n")
    reasons: Counter[str] = Counter()
    for by_reason in rejected.values():
        reasons.update(by_reason)
    if reasons:
        print("Rejected candidates:", "; ".join(f"{count} {reason}" for reason, count in reasons.most_common()))
    if train.wanting:
        share = train.with_pair / train.wanting
        print(f"{train.with_pair} of {train.wanting} sound training summaries have a negative ({share:.0%})")


def _total(by_reason: Mapping[str, int]) -> int:
    return sum(by_reason.values())
