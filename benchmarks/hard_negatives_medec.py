"""Measure how many of the errors that clinicians wrote into MEDEC fall in a category of the generator.

MEDEC has clinical texts in which one sentence is given right and wrong (Ben Abacha et al., Findings of ACL 2025; CC BY
4.0). A pair is covered if its one changed span passes the checks of every generated negative: the parser reads the
change as one fact of a category, and all other facts stay the same. Support by the note is not checked, since the
right sentence is in the note, and the wrong one may name something that the note names elsewhere.
"""

from __future__ import annotations

import difflib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.stats import wilson_interval
from negatives.case import Candidate, Case, Replacement
from negatives.registry import EDITORS
from negatives.verification import NEW_SUPPORTED, OLD_NOT_SUPPORTED, reason_against, verified_negatives
from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.phase1_csv import FACTUAL, HALLUCINATED, REQUIRED_COLUMNS

COLUMNS = ("note_id", *REQUIRED_COLUMNS, "hallucination_type")
INSERTS = "fabricated_detail"
# A few shared words between two changes do not split a span: "has X" for "has a Y infection" is one change.
MAX_SHARED_WORDS_INSIDE = 2
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Pair:
    """The right and the wrong version of a sentence; `error` is MEDEC's type."""

    pair_id: str
    note: str
    right: str
    wrong: str
    error: str


@dataclass(frozen=True)
class Covered:
    """A pair with one changed span: `right[start:end]` became `new`."""

    pair: Pair
    start: int
    end: int
    new: str
    categories: tuple[str, ...]  # whose checks the change passes
    made: bool  # whether the generator changes this span of the right text, perhaps into something else
    reasons: tuple[str, ...]  # why the other categories refuse it, the most frequent reason first


def read_pairs(path: Path) -> list[Pair]:
    """Read the right and the wrong row of each note_id. Raises InputError if one of them is missing."""
    found: dict[str, dict[str, tuple[int, dict[str, str]]]] = defaultdict(dict)
    for line, row in read_csv(path, COLUMNS):
        if row["label"] not in (FACTUAL, HALLUCINATED):
            raise InputError(f"{path}, line {line}: label is {row['label']!r}; write factual or hallucinated")
        found[row["note_id"]][row["label"]] = line, row
    pairs = []
    for note_id, sides in found.items():
        if len(sides) != 2:
            line = next(iter(sides.values()))[0]
            raise InputError(f"{path}, line {line}: {note_id} has no second row; give a factual and a hallucinated one")
        right, wrong = sides[FACTUAL][1], sides[HALLUCINATED][1]
        texts = (right["clinical_note"], right["model_summary"], wrong["model_summary"])
        pairs.append(Pair(note_id, *texts, wrong["hallucination_type"]))
    return pairs


def changed_span(right: str, wrong: str) -> tuple[int, int, str] | None:
    """Return (start, end, new) with right[:start] + new + right[end:] == wrong; None if distant words differ."""
    words = [list(_WORD.finditer(text)) for text in (right, wrong)]
    lower = [[word[0].lower() for word in side] for side in words]
    blocks = difflib.SequenceMatcher(None, lower[0], lower[1], autojunk=False).get_opcodes()
    changed = [index for index, block in enumerate(blocks) if block[0] != "equal"]
    if not changed:
        return None
    inside = blocks[changed[0] : changed[-1] + 1]
    if any(end - start > MAX_SHARED_WORDS_INSIDE for kind, start, end, _, _ in inside if kind == "equal"):
        return None
    start, end = _span(words[0], inside[0][1], inside[-1][2], len(right))
    new_start, new_end = _span(words[1], inside[0][3], inside[-1][4], len(wrong))
    if right[:start] + wrong[new_start:new_end] + right[end:] != wrong:  # capitals or spaces differ elsewhere
        return _span_of_characters(right, wrong)
    return start, end, wrong[new_start:new_end]


def _span(words: Sequence[re.Match[str]], first: int, last: int, length: int) -> tuple[int, int]:
    """Return the characters of words[first:last]; without words, the place where they would be."""
    if first < last:
        return words[first].start(), words[last - 1].end()
    place = words[first].start() if first < len(words) else length
    return place, place


def _span_of_characters(right: str, wrong: str) -> tuple[int, int, str]:
    pairs = list(zip(right, wrong, strict=False))
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
    rest = zip(reversed(right[start:]), reversed(wrong[start:]), strict=False)
    tail = next((i for i, (a, b) in enumerate(rest) if a != b), min(len(right), len(wrong)) - start)
    return start, len(right) - tail, wrong[start : len(wrong) - tail]


def cover(pair: Pair, seed: int) -> Covered | None:
    """Return which categories of the generator cover the pair; None if more than one span differs."""
    span = changed_span(pair.right, pair.wrong)
    if span is None:
        return None
    start, end, new = span
    case, candidate = Case(pair.note, pair.right), Candidate((Replacement(start, end, new),))
    in_play = [name for name in EDITORS if name != INSERTS or start == end]
    reasons = {name: reason_against(case, name, candidate)[0] for name in in_play}
    fitting = tuple(n for n, reason in reasons.items() if reason in (None, OLD_NOT_SUPPORTED, NEW_SUPPORTED))
    refusals = Counter(reason for reason in reasons.values() if reason)
    made = any(_makes(case, name, start, end, seed) for name in fitting)
    return Covered(pair, start, end, new, fitting, made, tuple(reason for reason, _ in refusals.most_common()))


def _makes(case: Case, category: str, start: int, end: int, seed: int) -> bool:
    negatives = verified_negatives(case, category, random.Random(seed), 3, Counter())
    return any(edit.start < end and start < edit.end for negative in negatives for edit in negative.edits)


def measure(path: Path, seed: int) -> tuple[dict[str, Any], list[Covered]]:
    """Return the shares by MEDEC's type of error, and all pairs with one changed span."""
    pairs = read_pairs(path)
    single = [covered for pair in pairs if (covered := cover(pair, seed))]
    by_error: dict[str, Any] = {}
    for error in [*sorted({covered.pair.error for covered in single}), "all"]:
        group = [covered for covered in single if error in (covered.pair.error, "all")]
        by_error[error] = _shares(group)
    categories = Counter(name for covered in single for name in covered.categories)
    figures = {
        "pairs": len(pairs),
        "single_span": len(single),
        "by_error": by_error,
        "by_category": dict(categories.most_common()),
    }
    return figures, single


def _shares(group: Sequence[Covered]) -> dict[str, Any]:
    covered, made = sum(bool(each.categories) for each in group), sum(each.made for each in group)
    low, high = wilson_interval(covered, len(group))
    return {
        "n": len(group),
        "in_a_category": covered,
        "share": round(covered / max(1, len(group)), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "span_changed_by_the_generator": made,
    }


def report(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the lines to print."""
    yield f"MEDEC: {figures['single_span']} of {figures['pairs']} pairs differ in one span"
    for error, shares in figures["by_error"].items():
        low, high = shares["ci95"]
        yield (
            f"  {error:18} n = {shares['n']:3}  in a category {shares['share']:6.1%} ({low:.1%} to {high:.1%}), "
            f"span changed by the generator {shares['span_changed_by_the_generator'] / max(1, shares['n']):6.1%}"
        )
    yield "  categories: " + ", ".join(f"{name} {count}" for name, count in figures["by_category"].items())


def missed(single: Sequence[Covered]) -> Iterator[str]:
    """Yield a line for each pair that no category covers: what was changed, and why it is refused."""
    for each in single:
        if not each.categories:
            old = each.pair.right[each.start : each.end]
            yield f"  {each.pair.pair_id} {each.pair.error}: {old!r} -> {each.new!r} ({'; '.join(each.reasons)})"
