"""Compare the models of a blind assessment in pairs, over the notes with both summaries rated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from assessment.agreement import Agreement
from assessment.examples import Source
from assessment.ratings import Rating
from assessment.tally import Ratings, completeness_of, has_major_error, verdict_of
from evaluation.stats import holm, mcnemar_p, p_text, paired_difference, paired_share_interval

Group = Sequence[Rating]


@dataclass(frozen=True)
class Comparison:
    """Two models, and the ratings of both summaries of each note, without the notes with a draw on a summary."""

    first: Source
    second: Source
    pairs: list[tuple[Group, Group]]
    draws: int = 0  # notes left out

    @classmethod
    def of(cls, first: Source, second: Source, given: Ratings) -> Comparison:
        """Pair the rated summaries of the same notes."""
        notes = [(a.text_sha256, b.text_sha256) for a, b in zip(first.examples, second.examples, strict=True)]
        rated = [(given[a], given[b]) for a, b in notes if a in given and b in given]
        decided = [pair for pair in rated if None not in map(verdict_of, pair)]
        return cls(first, second, decided, len(rated) - len(decided))

    @property
    def hallucinated(self) -> Agreement:
        return Agreement.of((verdict_of(a) is True, verdict_of(b) is True) for a, b in self.pairs)

    @property
    def p(self) -> float:
        """Return the p-value of the exact McNemar test."""
        return mcnemar_p(self.hallucinated.only_first, self.hallucinated.only_second)

    @property
    def name(self) -> str:
        return f"{self.second.path} minus {self.first.path}"


def comparison_lines(sources: Sequence[Source], given: Ratings) -> list[str]:
    """Return the paired comparison of every two models. Several p-values are adjusted by Holm's method."""
    comparisons = [Comparison.of(first, second, given) for first, second in combinations(sources, 2)]
    tested = [each for each in comparisons if each.pairs]
    adjusted = iter(holm([each.p for each in tested]))
    lines: list[str] = []
    for each in comparisons:
        if not each.pairs:
            of = f" of {each.name}" if len(comparisons) > 1 else ""
            lines += ["", f"Comparison{of}: no note has both summaries rated yet{_draws_text(each)}."]
            continue
        notes = f"{len(each.pairs)} notes with both summaries rated{_draws_text(each)}"
        lines += ["", f"Comparison over the {notes}:", *_rates(each)]
        lines += [_test(each.p, next(adjusted), len(tested)), *_further_differences(each)]
    return lines


def _draws_text(each: Comparison) -> str:
    return f", {each.draws} with a draw left out" if each.draws else ""


def _rates(each: Comparison) -> list[str]:
    table = each.hallucinated
    return [
        f"  hallucinated in both {table.both}, only {each.first.path} {table.only_first}, "
        f"only {each.second.path} {table.only_second}, in neither {table.neither}",
        f"  {each.name}: {_points(table)}",
    ]


def _points(table: Agreement) -> str:
    points = 100 * (table.only_second - table.only_first) / table.n
    low, high = (100 * end for end in paired_share_interval(table.only_first, table.only_second, table.n))
    return f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"


def _test(p: float, adjusted: float, tests: int) -> str:
    by_holm = f", {p_text(adjusted)} adjusted for {tests} comparisons (Holm)" if tests > 1 else ""
    verdict = "significant" if adjusted < 0.05 else "not significant"
    return f"  McNemar's exact test: {p_text(p)}{by_holm}; {verdict} at the 5% level"


def _further_differences(each: Comparison) -> list[str]:
    """Return the differences of major errors and of completeness, where there are any to compare."""
    severities = [(has_major_error(a), has_major_error(b)) for a, b in each.pairs]
    major = Agreement.of((a, b) for a, b in severities if a is not None and b is not None)
    unknown = len(severities) - major.n
    left_out = f", {unknown} notes without a severity left out" if unknown else ""
    lines = [f"  with a major error, {each.name}: {_points(major)}{left_out}"] if major.neither < major.n else []
    levels = [(completeness_of(a), completeness_of(b)) for a, b in each.pairs]
    known = [(a, b) for a, b in levels if a is not None and b is not None]
    if not known:
        return lines
    first, second = ([float(value) for value in values] for values in zip(*known, strict=True))
    ones = [1.0] * len(known)
    found = paired_difference((first, ones), (second, ones))
    assert found is not None  # the denominators are ones
    low, high = found.interval
    interval = f"95% interval {low:+.2f} to {high:+.2f}" if low < high else "no interval: all differences are equal"
    return [*lines, f"  completeness, {each.name}: {found.difference:+.2f} of 3 over {found.n} notes ({interval})"]
