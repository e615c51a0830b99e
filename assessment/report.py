"""What the ratings of a manual assessment come to: rates, the decision, agreement, and every error that was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from assessment.agreement import Z95, Agreement, share_text
from assessment.examples import Example, Source
from assessment.ratings import HALLUCINATED, KINDS, SKIPPED, Rating
from assessment.screen import printable
from evaluation.stats import mcnemar_p, p_text, paired_share_interval, wilson_interval

THRESHOLD = 0.15  # share of hallucinated summaries above which Stage B is worth its effort
# One hallucinated summary of one has an interval above 15%, which at a rate of 15% happens in 15 cases of 100, not 2.5.
FEWEST_RATINGS = 10
MOST_FURTHER_RATINGS = 10_000  # beyond this nobody goes on rating; the report says "more than"
Ratings = Mapping[str, Sequence[Rating]]  # text_sha256 -> given ratings of all assessors


@dataclass(frozen=True)
class Tally:
    """Summaries, each counted once however many assessors rated it."""

    rated: int
    hallucinated: int
    disputed: int  # rated by several assessors who do not agree
    major: int  # hallucinated with a major error
    with_omission: int
    by_kind: Counter[str]


def given_ratings(ratings: Iterable[Rating]) -> dict[str, list[Rating]]:
    """The ratings with a verdict, by the text that was rated."""
    by_text: dict[str, list[Rating]] = {}
    for rating in ratings:
        if rating.is_given:
            by_text.setdefault(rating.text_sha256, []).append(rating)
    return by_text


def is_hallucinated(group: Sequence[Rating]) -> bool:
    """The majority of the assessors decides, and a draw counts as hallucinated."""
    return 2 * len(_against(group)) >= len(group)


def _against(group: Sequence[Rating]) -> list[Rating]:
    return [rating for rating in group if rating.verdict == HALLUCINATED]


def tally(groups: Iterable[Sequence[Rating]]) -> Tally:
    """Counts summaries; a group is all given ratings of one. Kinds and severities count where the summary does."""
    groups = [group for group in groups if group]
    hallucinated = [_against(group) for group in groups if is_hallucinated(group)]
    errors = [[error for rating in against for error in rating.errors] for against in hallucinated]
    return Tally(
        rated=len(groups),
        hallucinated=len(hallucinated),
        disputed=sum(0 < len(_against(group)) < len(group) for group in groups),
        major=sum(any(error.severity == "major" for error in found) for found in errors),
        with_omission=sum(any(rating.omissions for rating in group) for group in groups),
        by_kind=Counter(kind for found in errors for kind in {error.kind for error in found}),
    )


def decision(hallucinated: int, rated: int, unrated: int | None = None) -> str:
    """The sentence on which Stage B hangs. `unrated`: summaries of the results that are left to rate, where known."""
    if rated == 0:
        return f"undecided: rate {FEWEST_RATINGS} or more; nothing is rated yet"
    if rated < FEWEST_RATINGS:
        return f"undecided: rate {FEWEST_RATINGS - rated} more, since under {FEWEST_RATINGS} an interval says little"
    low, high = wilson_interval(hallucinated, rated)
    if low > THRESHOLD:
        return f"over {THRESHOLD:.0%}: go on to Stage B"
    if high < THRESHOLD:
        return f"under {THRESHOLD:.0%}: ready"
    more = further_ratings(hallucinated, rated)
    if more is None:
        return f"undecided: rate more than {MOST_FURTHER_RATINGS:,} more; the share is too close to {THRESHOLD:.0%}"
    side = "under" if hallucinated / rated < THRESHOLD else "over"
    hint = f"; {unrated} are left here" if unrated is not None and unrated < more else ""
    return (
        f"undecided: rate {more:,} more (should the share stay at {hallucinated / rated:.1%}, "
        f"the interval then lies {side} {THRESHOLD:.0%}{hint})"
    )


def further_ratings(hallucinated: int, rated: int) -> int | None:
    """How many further ratings take the threshold out of the interval if the share p stays as it is; None: too many.

    Wilson's interval leaves t out where the score test rejects it: (p - t)^2 > z^2 t (1 - t) / n. The n that is
    smallest follows at once. The share will not stay quite as it is, so this is the middle of what to expect.
    """
    distance = hallucinated / rated - THRESHOLD
    if abs(distance) < 1e-12:
        return None
    needed = math.floor(Z95**2 * THRESHOLD * (1 - THRESHOLD) / distance**2) + 1
    more = max(1, needed - rated)
    return more if more <= MOST_FURTHER_RATINGS else None


def report(sources: Sequence[Source], ratings: Iterable[Rating]) -> str:
    """The text of `assessment_report.txt`; of two sources it says which is which, and counts blind ratings only."""
    texts = {text for source in sources for text in source.by_text}
    everything = list(ratings)
    ratings = [r for r in everything if r.text_sha256 in texts and (r.blind or len(sources) == 1)]
    given = given_ratings(ratings)
    lines = ["Manual assessment of summaries"]
    for source in sources:
        lines += ["", *source_lines(source, given)]
    if len(sources) == 2:
        lines += ["", *comparison_lines(sources, given)]
    lines += ["", "By assessor:", *assessor_lines(ratings)]
    lines += assessor_agreement_lines(given)
    lines += checker_lines(sources, given)
    lines += [line for source in sources for line in finding_lines(source, given)]
    if len(ratings) < len(everything):
        reason = "of texts that the results do not hold now" + ", or not blind" * (len(sources) == 2)
        lines += ["", f"Ratings not counted:    {len(everything) - len(ratings)} ({reason})"]
    return "\n".join(lines) + "\n"


def progress(examples: Sequence[Example], ratings: Iterable[Rating], assessor: str, *, mixed: bool) -> str:
    """What one assessor has done so far; of `mixed` models no share, lest it colour the ratings to come."""
    texts = {example.text_sha256 for example in examples}
    own = [rating for rating in ratings if rating.assessor == assessor and rating.text_sha256 in texts]
    given = given_ratings(own)
    skipped = sum(rating.verdict == SKIPPED for rating in own)
    lines = [f"{assessor}: {len(given)} of {len(examples)} rated, {skipped} skipped"]
    if not mixed:
        lines += tally_lines(tally(given.values()), len(examples))
    return "\n".join(lines)


def source_lines(source: Source, given: Ratings) -> list[str]:
    """Rate, interval, decision and kinds of error of one model."""
    lines = [f"{source.path}", *tally_lines(tally(_groups(source, given)), len(source.examples))]
    if source.repeated:
        lines.append(f"Repeated rows:          {source.repeated} (note and summary of an earlier row; counted once)")
    if source.unpaired:
        lines.append(f"Left out:               {source.unpaired} (the other file has no summary of their notes)")
    return lines


def _groups(source: Source, given: Ratings) -> list[Sequence[Rating]]:
    return [given[text] for text in source.by_text if text in given]


def tally_lines(total: Tally, summaries: int) -> list[str]:
    """The figures of one model, aligned."""
    lines = [f"Summaries rated:        {total.rated} of {summaries}", f"Hallucinated:           {total.hallucinated}"]
    if total.rated:
        low, high = wilson_interval(total.hallucinated, total.rated)
        lines.append(f"Hallucination rate:     {total.hallucinated / total.rated:.1%}")
        lines.append(f"95% Wilson interval:    {low:.1%} to {high:.1%}")
    lines.append(f"Decision:               {decision(total.hallucinated, total.rated, summaries - total.rated)}")
    if total.disputed:
        lines.append(f"Assessors disagree on:  {total.disputed} (the majority counts; a draw counts as hallucinated)")
    if total.hallucinated:
        lines.append(f"With a major error:     {share_text(total.major, total.rated)}")
    if total.by_kind:
        lines.append("Hallucinated summaries by kind of error (one summary may have several):")
        lines += [f"  {kind:<20}{total.by_kind[kind]:>5}" for kind in KINDS if total.by_kind[kind]]
    if total.with_omission:
        lines.append(f"An omission was noted:  {total.with_omission} (counted apart: leaving out is no hallucination)")
    return lines


def comparison_lines(sources: Sequence[Source], given: Ratings) -> list[str]:
    """The paired comparison, over the notes whose two summaries are both rated."""
    first, second = sources
    notes = [(a.text_sha256, b.text_sha256) for a, b in zip(first.examples, second.examples, strict=True)]
    pairs = [(is_hallucinated(given[a]), is_hallucinated(given[b])) for a, b in notes if a in given and b in given]
    if not pairs:
        return ["Compared: no note has both its summaries rated yet."]
    table = Agreement.of(pairs)
    points = 100 * (table.only_second - table.only_first) / table.n
    low, high = (100 * end for end in paired_share_interval(table.only_first, table.only_second, table.n))
    p = mcnemar_p(table.only_first, table.only_second)
    return [
        f"Compared over the {len(pairs)} notes with both summaries rated:",
        f"  hallucinated in both {table.both}, only {first.path} {table.only_first}, "
        f"only {second.path} {table.only_second}, in neither {table.neither}",
        f"  {second.path} less {first.path}: {points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})",
        f"  McNemar's exact test: {p_text(p)}; {'the difference holds' if p < 0.05 else 'no difference is shown'}",
    ]


def assessor_lines(ratings: Sequence[Rating]) -> list[str]:
    """One line an assessor: what they rated, found and skipped."""
    lines = []
    for assessor in sorted({rating.assessor for rating in ratings}):
        verdicts = Counter(rating.verdict for rating in ratings if rating.assessor == assessor)
        rated = sum(rating.is_given for rating in ratings if rating.assessor == assessor)
        found = share_text(verdicts[HALLUCINATED], rated)
        lines.append(f"  {assessor}: hallucinated {found}, {verdicts[SKIPPED]} skipped")
    return lines or ["  nobody yet"]


def assessor_agreement_lines(given: Ratings) -> list[str]:
    """Every two assessors who have rated a summary in common."""
    verdicts: dict[str, dict[str, bool]] = {}
    for text, group in given.items():
        for rating in group:
            verdicts.setdefault(rating.assessor, {})[text] = rating.verdict == HALLUCINATED
    lines: list[str] = []
    for first, second in combinations(sorted(verdicts), 2):
        shared = [text for text in verdicts[first] if text in verdicts[second]]
        if shared:
            agreement = Agreement.of((verdicts[first][text], verdicts[second][text]) for text in shared)
            lines += [f"  {first} and {second} {'; '.join(agreement.lines())}"]
    return ["", "Agreement between assessors:", *lines] if lines else []


def checker_lines(sources: Sequence[Source], given: Ratings) -> list[str]:
    """The automatic verdict held against the assessors', over all summaries that have both."""
    examples = {text: example for source in sources for text, example in source.by_text.items()}
    pairs = [
        (example.flagged, is_hallucinated(given[text]))
        for text, example in examples.items()
        if example.flagged is not None and text in given
    ]
    if not pairs:
        return []
    table = Agreement.of(pairs)
    hallucinated, others = table.both + table.only_second, table.neither + table.only_first
    seen = sum(any(not rating.blind for rating in given[text]) for text in given if examples[text].flagged is not None)
    lines = ["", f"Automatic checker against the {'assessors' if _several(given) else 'assessor'}:"]
    lines.append(f"  of the hallucinated, flagged (sensitivity): {share_text(table.both, hallucinated)}")
    lines.append(f"  of the others, not flagged (specificity):   {share_text(table.neither, others)}")
    lines += [f"  {line}" for line in table.lines()]
    if seen:
        lines.append(f"  {seen} were rated with the automatic verdict in view, which draws people to it; rate --blind")
    return lines


def _several(given: Ratings) -> bool:
    return len({rating.assessor for group in given.values() for rating in group}) > 1


def finding_lines(source: Source, given: Ratings) -> list[str]:
    """Every error, omission and comment, with its example."""
    lines = []
    for text, example in source.by_text.items():
        for rating in given.get(text, ()):
            notes = [
                f"{error.severity or '(severity not given)'} {error.kind}{_quoted(error.text)}"
                for error in rating.errors
            ]
            notes += [f"omission{_quoted(omission)}" for omission in rating.omissions]
            notes += [f"comment{_quoted(rating.comment)}"] if rating.comment else []
            lines += [f"  {example.example_id}, {rating.assessor}: {note}" for note in notes]
    return ["", f"Found in {source.path}:", *lines] if lines else []


def _quoted(text: str) -> str:
    """`: "the words"` on one line."""
    return f': "{" ".join("".join(map(printable, text)).split())}"' if text.strip() else ""
