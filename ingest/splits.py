"""Divide records into training, validation and test splits that share no note, no group and no near-duplicate."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingest.near_duplicates import near_duplicates
from ingest.records import Record
from script_io.errors import InputError

SPLITS = ("train", "validation", "test")
LARGE_SHARE = 0.2  # of the records in one bundle; the splits may then be far from the asked sizes


@dataclass(frozen=True)
class Bundles:
    """Records that must stay in one split: same note, same group, near-duplicate notes, or a chain of these."""

    members: list[list[int]]  # indices of records
    near_pairs: int  # pairs of different notes that are near-duplicates

    @property
    def largest(self) -> int:
        """Return the number of records of the largest bundle."""
        return max(map(len, self.members))


def bundled(records: Sequence[Record]) -> Bundles:
    """Return the records in bundles, in the order of their first record."""
    notes = list(dict.fromkeys(record.note for record in records))
    first_with: dict[tuple[str, str], int] = {}
    sets = _DisjointSets(len(records))
    for index, record in enumerate(records):
        for key in (("note", record.note), ("group", record.group)):
            if key[1]:
                sets.join(index, first_with.setdefault(key, index))
    pairs = 0
    for one, other in near_duplicates(notes):
        pairs += 1
        sets.join(first_with["note", notes[one]], first_with["note", notes[other]])
    return Bundles(sets.all(), pairs)


class _DisjointSets:
    """Sets of indices that can be joined (union-find); the smallest index represents a set."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def find(self, index: int) -> int:
        while self.parents[index] != index:
            self.parents[index] = index = self.parents[self.parents[index]]
        return index

    def join(self, one: int, other: int) -> None:
        roots = sorted((self.find(one), self.find(other)))
        self.parents[roots[1]] = roots[0]

    def all(self) -> list[list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self.parents)):
            found[self.find(index)].append(index)
        return list(found.values())


def split_records(
    records: Sequence[Record], bundles: Bundles, shares: Mapping[str, float], seed: int
) -> dict[str, list[Record]]:
    """Return the records of each split, in the order of the input.

    `shares` are the shares of validation and test. Bundles come in random order; each goes to the first of validation
    and test that still has room for all of it, else to training. Raises InputError if a split with a share stays empty.
    """
    order = list(bundles.members)
    random.Random(f"{seed}|splits").shuffle(order)
    room = {name: max(1, round(share * len(records))) if share else 0 for name, share in shares.items()}
    of_split: dict[str, list[int]] = {name: [] for name in SPLITS}
    for bundle in order:
        name = next((name for name, left in room.items() if len(bundle) <= left), "train")
        of_split[name] += bundle
        if name != "train":
            room[name] -= len(bundle)
    empty = [name for name in SPLITS if not of_split[name] and shares.get(name, 1)]
    if empty:
        raise InputError(
            f"no record is left for the {empty[0]} split: {len(records)} records form {len(order)} bundles that "
            f"share a note, a group or near-duplicate notes, the largest with {bundles.largest}; add notes, drop "
            "--group_column, or change --val_fraction and --test_fraction"
        )
    return {name: [records[index] for index in sorted(indices)] for name, indices in of_split.items()}


def sample_notes(records: Sequence[Record], most: int | None, seed: int) -> list[Record]:
    """Return at most `most` records, drawn by whole notes, in the order of the input."""
    if most is None or len(records) <= most:
        return list(records)
    counts: dict[str, int] = defaultdict(int)
    for record in records:
        counts[record.note] += 1
    notes = list(counts)
    random.Random(f"{seed}|sample").shuffle(notes)
    kept, total = set(), 0
    for note in notes:
        if total + counts[note] <= most:
            kept.add(note)
            total += counts[note]
    return [record for record in records if record.note in kept]
