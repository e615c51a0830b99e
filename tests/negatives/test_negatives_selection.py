"""Balance, shares and trimming by hand-worked values."""

import random
from collections import Counter

import pytest

from negatives.selection import MOST_ONE_WAY, Balance, Selection, Trimming, changed_windows, difference, share_limit
from negatives.verification import Edit, Negative


def negative(category: str, chosen: str, old: str, new: str) -> Negative:
    start = chosen.index(old)
    edit = Edit(category, start, start + len(old), old, new, "contradicted")
    return Negative(category, chosen.replace(old, new, 1), (edit,))


def test_windows_hold_the_change_and_a_word_on_either_side() -> None:
    chosen, rejected = "He has type 2 diabetes and takes aspirin.", "He has type 1 diabetes and takes aspirin."
    assert changed_windows(chosen, rejected, 12, 13) == ("type 2 diabetes", "type 1 diabetes")
    assert changed_windows("Gout.", "Lupus.", 0, 4) == ("Gout.", "Lupus.")
    assert changed_windows("Gout. Ill.", "Gout. Old. Ill.", 6, 6) == ("Gout. Ill.", "Gout. Old. Ill.")


def test_a_difference_is_what_comes_less_what_goes() -> None:
    chosen = "Denies fever today."
    there = difference(chosen, negative("negation", chosen, "Denies", "Reports"))
    back = difference("Reports fever today.", negative("negation", "Reports fever today.", "Reports", "Denies"))
    # a letter more is one run more of 3, of 4 and of 5 characters; the words are as many; the text is longer: 5
    assert sum(there.values()) == 3 + 5
    assert {bucket: -count for bucket, count in there.items()} == back


def test_the_opposite_change_undoes_a_cost() -> None:
    chosen = "Denies fever today."
    there = difference(chosen, negative("negation", chosen, "Denies", "Reports"))
    back = {bucket: -count for bucket, count in there.items()}
    balance, squares = Balance(), sum(count * count for count in there.values())
    assert balance.cost(there) == squares
    balance.add(there)
    assert balance.imbalance() == squares
    assert balance.cost(there) == 3 * squares  # (2d)^2 - d^2
    assert balance.cost(back) == balance.cost(there, -1) == -squares
    balance.add(there, -1)
    assert balance.imbalance() == 0


def test_as_many_grow_as_shrink_where_each_summary_may_do_either() -> None:
    selection = Selection(["severity"])
    grown = Counter[bool]()
    for index in range(101):
        chosen = f"Patient has pain{index} today."
        offered = [negative("severity", chosen, f"pain{index}", new) for new in (f"a{index}", f"longer{index}")]
        (taken,) = selection.take(chosen, offered, 1)
        grown[len(taken.rejected) > len(chosen)] += 1
    assert abs(grown[True] - grown[False]) < 15


def test_a_phrase_that_goes_and_never_comes_is_exchanged_only_so_often() -> None:
    selection = Selection(["allergy"])
    for index in range(20):
        chosen = f"Patient{index} has no allergies."
        selection.take(chosen, [negative("allergy", chosen, "no allergies", f"allergy{index}")], 1)
    assert selection.total == MOST_ONE_WAY
    for index in range(20):  # once it has come as often as it went, it may go again
        chosen = f"Patient{index} has allergy{index}."
        selection.take(chosen, [negative("allergy", chosen, f"allergy{index}", "no allergies")], 1)
    assert selection.total == 3 * MOST_ONE_WAY


def test_all_that_is_offered_is_taken_where_more_is_wanted() -> None:
    chosen = "Left hip pain."
    offered = [negative("laterality", chosen, "Left", "Right")]
    assert Selection(["laterality"]).take(chosen, offered, 3) == offered
    assert Selection(["laterality"]).take(chosen, [], 3) == []


def test_rare_categories_are_taken_first() -> None:
    selection = Selection(["often", "rare"])
    for index in range(20):
        chosen = f"a{index} b{index}"
        offered = [negative("often", chosen, f"b{index}", f"c{index}")]
        if index >= 10:
            offered.append(negative("rare", chosen, f"a{index}", f"d{index}"))
        selection.take(chosen, offered, 1)
    assert selection.counts == {"often": 10, "rare": 10}


@pytest.mark.parametrize(
    ("counts", "limit"),
    [
        ({"a": 10, "b": 10, "c": 10, "d": 10, "e": 10, "f": 10}, None),
        ({"a": 50, "b": 10, "c": 10, "d": 10, "e": 10, "f": 10}, 12),  # 12 of 62 is 19.4%, 13 of 63 is 20.6%
        ({"a": 50, "b": 10, "c": 10, "d": 10, "e": 10}, None),  # five categories cannot all be under 20%
        ({"a": 2, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}, 1),
    ],
)
def test_share_limit(counts: dict[str, int], limit: int | None) -> None:
    assert share_limit(counts) == limit


def test_trimming_takes_out_the_exact_number() -> None:
    sizes = {"a": 50, "b": 10, "c": 10, "d": 10, "e": 10, "f": 10}
    pairs = [(f"x{name}{i} y", name) for name, size in sizes.items() for i in range(size)]
    random.Random(1).shuffle(pairs)
    selection = Selection(list(sizes))
    selection.counts.update(sizes)
    trimming = Trimming(selection, random.Random(2))
    kept = Counter(name for text, name in pairs if trimming.keeps(text, negative(name, text, "y", "z")))
    assert kept == {**sizes, "a": 12}


def test_trimming_prefers_what_is_out_of_balance() -> None:
    selection = Selection(list("abcdef"))
    pairs = [(f"{word} {i}", name) for i in range(60) for word, name in (("up", "a"), ("down", "a"))]
    pairs += [(f"u {i}", name) for name in "bcdef" for i in range(12)]
    for text, name in pairs:  # "down" goes 60 times; "up" too, but the sums are told that it came back
        change = difference(text, negative(name, text, text.split()[0], "z"))
        selection.counts[name] += 1
        if text.startswith("down"):
            selection.balance.add(change)
    trimming = Trimming(selection, random.Random(3))
    kept = Counter(
        text.split()[0]
        for text, name in pairs
        if name == "a" and trimming.keeps(text, negative(name, text, text.split()[0], "z"))
    )
    assert kept.total() == 15  # of 75; the other five have 12 each
    assert kept["up"] > kept["down"]
