"""The report on a manual assessment: rates, the decision on Stage B, agreement, and every error found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from assessment.agreement import GroupedAgreement, share_text_by_note
from assessment.comparison import comparison_lines
from assessment.confidence_sequence import confidence_sequence, further_observations, side_of
from assessment.examples import Example, Source
from assessment.ratings import HALLUCINATED, KINDS, SKIPPED, Rating
from assessment.tally import (
    Ratings,
    completeness_of,
    counted,
    given_ratings,
    has_major_error,
    independent,
    mean_interval,
    tally,
    verdict_of,
)
from evaluation.stats import by_note, wilson_interval_by_note
from fact_checking.claims import without_citations
from script_io.terminal import printable

THRESHOLD = 0.15  # share of hallucinated summaries above which Stage B is worth its effort
FEWEST_RATINGS = 10  # four hallucinated of four would decide; the slips of a new assessor must not
MOST_FURTHER_RATINGS = 10_000  # nobody rates more; the report then says "more than"
Rated = Sequence[tuple[Example, Sequence[Rating]]]  # summaries with all ratings of each


def decision(
    hallucinated: float, rated: int, unrated: int | None = None, *, mostly_empty: bool = False, of_notes: bool = False
) -> str:
    """Return the decision on Stage B in one sentence. A model whose rated summaries are mostly empty is never ready.

    The decision rests on the confidence sequence, so it may be read after every rating. The summaries count as a
    sample of what the model writes: rating all of them settles their own share, but not the model's.

    `unrated` is the number of summaries in the results that are still to rate, or None if unknown. With `of_notes`, all
    three count notes: a note with several rated summaries is one observation, its share of hallucinated ones.
    """
    if rated == 0:
        return f"undecided: nothing is rated yet; rate at least {FEWEST_RATINGS}"
    so_far = f"undecided, {_side_text(hallucinated, rated)} so far"
    if rated < FEWEST_RATINGS:
        notes = " notes" if of_notes else ""
        return f"{so_far}: rate at least {FEWEST_RATINGS - rated} more{notes}; a decision needs {FEWEST_RATINGS}{notes}"
    side = side_of(THRESHOLD, hallucinated, rated)
    if side == "over":
        return f"over {THRESHOLD:.0%}: go on to Stage B"
    if side == "under" and mostly_empty:
        return f"under {THRESHOLD:.0%}, but not ready: most rated summaries are empty, and an empty one cannot be wrong"
    if side == "under":
        return f"under {THRESHOLD:.0%}: ready"
    return f"{so_far}: {_further_text(hallucinated, rated, unrated, 'note' if of_notes else 'rating')}"


def _side_text(hallucinated: float, rated: int) -> str:
    """Return on which side of the threshold the observed share lies."""
    excess = hallucinated - THRESHOLD * rated
    side = "exactly" if abs(excess) < 1e-9 else "over" if excess > 0 else "under"
    return f"{side} {THRESHOLD:.0%}"


def _further_text(hallucinated: float, rated: int, unrated: int | None, unit: str) -> str:
    """Return how many more ratings, or notes, will probably decide, and whether the results hold that many."""
    more = further_observations(THRESHOLD, hallucinated, rated, MOST_FURTHER_RATINGS)
    condition = f"if the share stays near {hallucinated / rated:.1%}"
    if more is None:
        text = f"more than {MOST_FURTHER_RATINGS:,} more {unit}s are needed {condition}"
    else:
        text = f"about {more:,} more {unit}{'s' * (more > 1)} will probably decide {condition}"
    if unrated == 0:
        rated_text = f"{rated:,} notes" if unit == "note" else f"{rated:,} summaries"
        return f"{text}; all {rated_text} here are rated, so evaluate the model on more notes"
    if unrated is not None and (more is None or unrated < more):
        return f"{text}; {unrated:,} left here"
    return text


def report(sources: Sequence[Source], ratings: Iterable[Rating]) -> str:
    """Return the text of `assessment_report.txt`.

    For several sources it names the results behind each summary, and counts only blind ratings.
    """
    texts = {text for source in sources for text in source.by_text}
    everything = [rating for rating in ratings if rating.says_something]
    ratings = [r for r in counted(everything, mixed=len(sources) > 1) if r.text_sha256 in texts]
    given = given_ratings(ratings)
    lines = ["Manual assessment of summaries"]
    for source in sources:
        lines += ["", *source_lines(source, given)]
    if len(sources) > 1:
        lines += comparison_lines(sources, given)
    note_of = {text: example.clinical_note for source in sources for text, example in source.by_text.items()}
    lines += ["", "By assessor:", *assessor_lines(ratings, note_of)]
    lines += assessor_agreement_lines(given, note_of)
    lines += checker_lines(sources, given)
    lines += [line for source in sources for line in finding_lines(source, given)]
    if len(ratings) < len(everything):
        reason = "their text is not in the results" + ", or they were not blind" * (len(sources) > 1)
        lines += ["", f"Ratings not counted:    {len(everything) - len(ratings)} ({reason})"]
    return "\n".join(lines) + "\n"


def progress(examples: Sequence[Example], ratings: Iterable[Rating], assessor: str, *, mixed: bool) -> str:
    """Return what one assessor has rated so far.

    For `mixed` models it leaves out the share of hallucinated summaries, which could influence later ratings.
    """
    texts = {example.text_sha256 for example in examples}
    own = [rating for rating in ratings if rating.assessor == assessor and rating.text_sha256 in texts]
    given = given_ratings(own)
    skipped = sum(rating.verdict == SKIPPED for rating in own)
    lines = [f"{assessor}: {len(given)} of {len(examples)} rated, {skipped} skipped"]
    if not mixed:
        by_text = {example.text_sha256: example for example in examples}
        lines += tally_lines([(by_text[text], group) for text, group in given.items()], examples)
    return "\n".join(lines)


def source_lines(source: Source, given: Ratings) -> list[str]:
    """Return the lines on one model: rate, intervals, decision and kinds of error."""
    rated = [(example, given[text]) for text, example in source.by_text.items() if text in given]
    lines = [f"{source.path}", *tally_lines(rated, source.examples)]
    if source.repeated:
        lines.append(f"Repeated rows:          {source.repeated} (note and summary of an earlier row, counted once)")
    if source.unpaired:
        lines.append(f"Left out:               {source.unpaired} (another file has no summary of the same note)")
    return lines


def tally_lines(rated: Rated, examples: Sequence[Example]) -> list[str]:
    """Return the figures of one model, aligned in columns. `examples` are its summaries, rated or not.

    Length and completeness are next to the decision, because a model that says less has less to be wrong in.
    """
    total = tally(group for _, group in rated)
    words = [(example.clinical_note, len(without_citations(example.generated_summary).split())) for example, _ in rated]
    n = total.decided
    decided = f" of {n} that are no draw" if total.draws else ""
    lines = [f"Summaries rated:        {total.rated} of {len(examples)}"]
    lines.append(f"Hallucinated:           {total.hallucinated}{decided}")
    if n:
        lines.append(f"Hallucination rate:     {total.hallucinated / n:.1%}")
    lines += _decision_lines(rated, examples, mostly_empty=2 * sum(not count for _, count in words) > len(words))
    if words:
        lines.append(f"Mean words:             {sum(count for _, count in words) / len(words):.1f}")
        lines.append(f"Empty summaries:        {share_text_by_note((note, not count) for note, count in words)}")
    if total.completeness:
        notes = [example.clinical_note for example, group in rated if completeness_of(group) is not None]
        lines.append(f"Completeness, 0 to 3:   {_mean_text(total.completeness, notes)}")
    if total.disputed:
        lines.append(f"Assessors disagree on:  {total.disputed} (the majority decides)")
    if total.draws:
        lines.append(
            f"Draws:                  {total.draws} (not in the figures; a third person decides: --adjudicate)"
        )
    if total.adjudicated:
        lines.append(f"Settled draws:          {total.adjudicated} (by a person who saw the ratings of the others)")
    if total.hallucinated:
        unknown = f", {total.severity_unknown} without a severity left out" if total.severity_unknown else ""
        major = [(e.clinical_note, has_major_error(group)) for e, group in rated if verdict_of(group) is not None]
        share = share_text_by_note((note, is_major) for note, is_major in major if is_major is not None)
        lines.append(f"With a major error:     {share}{unknown}")
    if total.by_kind:
        lines.append("Hallucinated summaries by kind of error (one summary may have several):")
        lines += [f"  {kind:<20}{total.by_kind[kind]:>5}" for kind in KINDS if total.by_kind[kind]]
    if total.with_omission:
        lines.append(f"With an omission:       {total.with_omission} (an omission does not count as a hallucination)")
    return lines


def _decision_lines(rated: Rated, examples: Sequence[Example], *, mostly_empty: bool) -> list[str]:
    """Return both intervals of the share of hallucinated summaries, and the decision.

    If a note has several rated summaries, they are alike. Then Wilson's interval counts as many summaries as they are
    worth, and the decision counts each note once, with its share of hallucinated summaries.
    """
    verdicts = {example: verdict for example, group in rated if (verdict := verdict_of(group)) is not None}
    notes = [example.clinical_note for example in verdicts]
    hits, counts = by_note(notes, list(map(float, verdicts.values())), [1.0] * len(notes))
    hallucinated, n = sum(hit / count for hit, count in zip(hits, counts, strict=True)), len(counts)
    alike = len({example.clinical_note for example in examples}) < len(examples)
    unrated = len({example.clinical_note for example in examples if example not in verdicts})
    lines = []
    if n:
        low, high = wilson_interval_by_note(hits, counts)
        why = f" (of {n} notes, whose summaries are alike)" if n < len(notes) else ""
        lines.append(f"95% Wilson interval:    {low:.1%} to {high:.1%}{why}")
        low, high = confidence_sequence(hallucinated, n)
        once = "; each note counts once" if alike else ""
        lines.append(
            f"Decision interval:      {low:.1%} to {high:.1%} (95% confidence sequence: holds at every look{once})"
        )
    sentence = decision(hallucinated, n, unrated, mostly_empty=mostly_empty, of_notes=alike)
    return [*lines, f"Decision:               {sentence}"]


def _mean_text(values: Sequence[float], notes: Sequence[str]) -> str:
    """Return a mean with its n and its bootstrap interval."""
    interval = mean_interval(values, notes)
    text = f"95% interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else "no interval: all are equal"
    return f"{sum(values) / len(values):.2f} over {len(values)} summar{'y' if len(values) == 1 else 'ies'} ({text})"


def assessor_lines(ratings: Sequence[Rating], note_of: Mapping[str, str]) -> list[str]:
    """Return one line per assessor: summaries rated, found hallucinated and skipped.

    `note_of` has the note of each rated text.
    """
    lines = []
    for assessor in sorted({rating.assessor for rating in ratings}):
        own = [rating for rating in ratings if rating.assessor == assessor]
        alone = independent(own)
        found = share_text_by_note((note_of[r.text_sha256], r.verdict == HALLUCINATED) for r in alone if r.is_given)
        skipped = sum(rating.verdict == SKIPPED for rating in alone)
        settled = sum(rating.is_given and rating.adjudication for rating in own)
        end = f", {settled} draws settled" if settled else ""
        lines.append(f"  {assessor}: hallucinated {found}, {skipped} skipped{end}")
    return lines or ["  nobody yet"]


def assessor_agreement_lines(given: Ratings, note_of: Mapping[str, str]) -> list[str]:
    """Return the agreement of every two assessors who have rated at least one summary in common.

    `note_of` has the note of each rated text.
    """
    verdicts: dict[str, dict[str, bool]] = {}
    for text, group in given.items():
        for rating in independent(group):
            verdicts.setdefault(rating.assessor, {})[text] = rating.verdict == HALLUCINATED
    lines: list[str] = []
    for first, second in combinations(sorted(verdicts), 2):
        shared = [text for text in verdicts[first] if text in verdicts[second]]
        if shared:
            agreement = GroupedAgreement.of(
                (note_of[text], (verdicts[first][text], verdicts[second][text])) for text in shared
            )
            lines += [f"  {first} and {second} {'; '.join(agreement.lines())}"]
    return ["", "Agreement between assessors:", *lines] if lines else []


def checker_lines(sources: Sequence[Source], given: Ratings) -> list[str]:
    """Compare the automatic checker with the assessors, over all summaries with both verdicts."""
    examples = {text: example for source in sources for text, example in source.by_text.items()}
    pairs = [
        (example.clinical_note, (example.flagged, verdict))
        for text, example in examples.items()
        if example.flagged is not None and text in given and (verdict := verdict_of(given[text])) is not None
    ]
    if not pairs:
        return []
    table = GroupedAgreement.of(pairs)
    seen = sum(any(not rating.blind for rating in given[text]) for text in given if examples[text].flagged is not None)
    lines = ["", f"Automatic checker against the {'assessors' if _several(given) else 'assessor'}:"]
    lines.append(f"  of the hallucinated, flagged (sensitivity): {table.sensitivity}")
    lines.append(f"  of the others, not flagged (specificity):   {table.specificity}")
    lines += [f"  {line}" for line in table.lines()]
    if table.n > table.notes:
        lines.append(f"  intervals resample the {table.notes} notes, since summaries of one note are alike")
    if seen:
        lines.append(
            f"  {seen} were rated with the automatic verdict on the screen (--show_verdicts), which sways people"
        )
    return lines


def _several(given: Ratings) -> bool:
    return len({rating.assessor for group in given.values() for rating in group}) > 1


def finding_lines(source: Source, given: Ratings) -> list[str]:
    """Return every error, omission and comment on one source, with its example id and assessor."""
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
    """Return `: "the words"` on one line, or nothing if there are no words."""
    return f': "{" ".join(printable(text).split())}"' if text.strip() else ""
