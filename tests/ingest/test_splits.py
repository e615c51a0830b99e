"""Splits that share no note, no group and no near-duplicate note."""

import random
from itertools import combinations

import pytest

from ingest.near_duplicates import near_duplicates, similarity
from ingest.records import Record
from ingest.splits import SPLITS, bundled, sample_notes, split_records
from script_io.errors import InputError

WORDS = "pain cough fever left right mild severe since week knee chest daily mg tablet review denies stable".split()
SHARES = {"validation": 0.2, "test": 0.2}


def random_note(rng: random.Random, length: int) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def edited(note: str, rng: random.Random, edits: int) -> str:
    words = note.split()
    for _ in range(edits):
        place = rng.randrange(len(words))
        words[place : place + 1] = rng.choice(([], ["changed"], [words[place], "added"]))
        words = words or ["x"]
    return " ".join(words)


def record(index: int, note: str, group: str = "") -> Record:
    return Record(f"row {index}", str(index), note, f"Summary {index}.", "factual", group=group)


def notes_with_copies(seed: int) -> list[str]:
    rng = random.Random(seed)
    notes = [random_note(rng, rng.randint(1, 60)) for _ in range(40)]
    return notes + [edited(note, rng, rng.randint(1, 8)) for note in notes] + ["", "!"]


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_the_pairs_that_comparing_all_finds(seed: int) -> None:
    notes = notes_with_copies(seed)
    words = [note.replace("!", "").split() for note in notes]
    every = {(i, j) for i, j in combinations(range(len(notes)), 2) if similarity(words[i], words[j])}
    assert len(every) > 10
    found = list(near_duplicates(notes))
    assert set(found) == every
    assert len(found) == len(every)


def test_letters_and_punctuation_make_no_other_note() -> None:
    assert list(near_duplicates(["Denies pain; stable.", "DENIES PAIN, STABLE", "No pain; stable."])) == [(0, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_no_note_group_or_near_duplicate_is_in_two_splits(seed: int) -> None:
    rng = random.Random(seed)
    notes = notes_with_copies(seed)
    records = [record(i, note, rng.choice(["", f"p{i % 30}"])) for i, note in enumerate(notes + notes[:10]) if note]
    splits = split_records(records, bundled(records), SHARES, seed)
    assert sorted(r.id for part in splits.values() for r in part) == sorted(r.id for r in records)
    for one, other in combinations(SPLITS, 2):
        for key in ("note", "group"):
            shared = {getattr(r, key) for r in splits[one]} & {getattr(r, key) for r in splits[other]}
            assert shared <= {""}
        for first in splits[one]:
            for second in splits[other]:
                assert similarity(first.note.lower().split(), second.note.lower().split()) == 0


def test_the_splits_have_the_asked_sizes_and_depend_on_the_seed_alone() -> None:
    rng = random.Random(0)
    records = [record(i, random_note(rng, 40)) for i in range(100)]
    bundles = bundled(records)
    first = split_records(records, bundles, SHARES, 1)
    assert [len(first[name]) for name in SPLITS] == [60, 20, 20]
    assert split_records(records, bundles, SHARES, 1) == first
    assert split_records(records, bundles, SHARES, 2) != first


def test_a_split_that_would_stay_empty_is_refused() -> None:
    records = [record(i, f"Another note {i} {i * 7}.", "one patient") for i in range(10)]
    with pytest.raises(InputError, match=r"form 1 bundles .* --group_column"):
        split_records(records, bundled(records), SHARES, 0)


def test_a_share_of_0_makes_no_split() -> None:
    rng = random.Random(0)
    records = [record(i, random_note(rng, 40)) for i in range(10)]
    splits = split_records(records, bundled(records), {"validation": 0.2, "test": 0.0}, 0)
    assert [len(splits[name]) for name in SPLITS] == [8, 2, 0]


def test_a_sample_keeps_notes_whole() -> None:
    records = [record(i, f"Note {i // 3}") for i in range(30)]
    kept = sample_notes(records, 10, 0)
    assert len(kept) == 9
    assert all(sum(other.note == each.note for other in kept) == 3 for each in kept)
    assert sample_notes(records, 10, 0) == kept
