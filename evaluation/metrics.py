"""Compute the figures of an evaluation: one row per summary, and one aggregate over the rows.

A claim is a statement of level `error` that could be checked: supported, contradicted or unsupported. The judge decides
what a claim is and gives the verdict: `facts` uses facts, `nli` sentences, and `openai` whatever the model picks. Rates
by different judges cannot be compared. Every rate comes with its n and its 95% interval.

All figures follow the verdict on the summary. A judge that weighs all evidence (`facts` with an evidence model) can
leave a summary unflagged in which the rules found errors: these are then for review and count nowhere. `detector` and
`likelihood` mark doubtful words alone and call nothing supported, so that they have no claim error rate.

hallucination_rate      share of summaries with at least one claim contradicted or unsupported; Wilson interval
coverage                share of the reference's facts that the summary states, averaged over the summaries whose
                        reference has facts; bootstrap over summaries. Read the hallucination rate together with
                        coverage and length: a model that says less makes fewer errors
mean_summary_words      words separated by white space, without citations; mean_reference_words counts the references
empty_rate              share of summaries without words, which cannot hallucinate
claim_error_rate        claims contradicted or unsupported, over all claims of all summaries. The interval
                        claim_error_rate_ci95 resamples summaries, because the errors of one summary depend on each
                        other: one misread note makes several wrong claims. Wilson's interval treats claims as
                        independent and is then too narrow; claim_error_rate_wilson95 is given for comparison with
                        work that reports it
rouge_l                 mean F1 of the longest common subsequence with the reference, stemmed (rouge-score). Fluent
                        errors raise it too, so it says little about truth
repeated_rate           share of summaries with a repeated sentence, a repeated run of eight words, or a word three
                        times in a row
unfinished_rate         share of summaries that ended at the limit of new tokens, among those for which it is known
by_type                 for each kind of error: `claims` that are wrong, `summaries` with at least one, their share
                        (`rate`, Wilson), and the wrong claims over the claims of all kinds (`claim_rate`, Wilson). The
                        claim rates sum to claim_error_rate; like it, they are null for a judge that has none
judge_grades            for each item of the judge's rubric the mean grade, its bootstrap interval over summaries
                        (`ci95`) and the number of graded summaries (`n`); empty without --rubric. The interval is null
                        if all grades are equal, because then resampling shows no spread
citation_accuracy       citations whose sentences exist and support the statement before them, over the citations that
                        can be checked (citation_accuracy_n), where malformed ones count as wrong; bootstrap over
                        summaries. `citations` counts all, `citations_malformed` the ones that cannot be read, and
                        `citations_unverifiable` the ones that the rules cannot decide (fact_checking/citations.py)
calibration             how well the confidences stated in citations match their verdicts: `brier`, `ece`, `bins`
                        (evaluation/calibration.py); null if no citation states one
seconds                 total time of generation. The time of one summary is its share of the time of its batch, so
                        `median_seconds` and `p95_seconds` are waiting times only at --batch_size 1;
                        `summaries_per_second` is the number of summaries over the total time

If some notes have several summaries (`notes` is below `summaries`), all intervals but the two named Wilson95 resample
notes, since the summaries of one note are alike. A bootstrap interval of a share that is exactly 0 or 1 would have no
width, so Wilson's interval with n the number of notes is given instead. Summaries on which the judge failed are counted
in `judge_failures` and left out of the judge's rates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from clinical.facts import Fact, sentences
from evaluation.calibration import calibration
from evaluation.stats import (
    Interval,
    by_note,
    is_degenerate,
    ratio,
    ratio_interval,
    share_interval,
    wilson_interval,
)
from fact_checking.checker import facts_of_reference
from fact_checking.citations import Citation, check_citations
from fact_checking.claims import ERROR, REVIEW, SUPPORTED, UNVERIFIABLE, Claim, FactCheck, without_citations

ROW_COLUMNS = (
    "example_id",
    "clinical_note",
    "reference_summary",
    "generated_summary",
    "label",
    "has_hallucination",
    "hallucination_score",
    "hallucination_types",
    "unsupported_spans",
    "claims",
    "claims_supported",
    "judge_grades",
    "coverage",
    "rouge_l",
    "summary_words",
    "finished",
    "repeated",
    "seconds",
    "citations",
    "missing_facts",
)
_REPEATED_WORDS = 8  # in a row; two prescriptions with the same frequency share fewer
Row = dict[str, Any]
NoteValue = tuple[str, float]  # the note of a summary, and a figure of the summary


@dataclass(frozen=True)
class Example:
    """A note and its factual summary. `reference` and `label` are empty if there is none."""

    example_id: str
    note: str
    reference: str
    label: str


@dataclass(frozen=True)
class Summary:
    """A generated summary. `finished` and `seconds` are None if unknown."""

    text: str
    finished: bool | None = None
    seconds: float | None = None


def summary_row(
    example: Example, summary: Summary, check: FactCheck | None, *, marks_errors_alone: bool = False
) -> Row:
    """Return one row of `evaluation_results.csv`. The judge's cells are empty if the judge failed.

    `marks_errors_alone` says that the judge calls no claim supported; then the counts of claims are empty.
    """
    text = without_citations(summary.text).strip()
    facts = facts_of_reference(example.reference, text) if example.reference else []
    missing = [_place(fact) for fact, is_stated in facts if not is_stated]
    return {
        "example_id": example.example_id,
        "clinical_note": example.note,
        "reference_summary": example.reference,
        "generated_summary": summary.text,
        "label": example.label,
        **_verdict_cells(check, marks_errors_alone),
        "coverage": round((len(facts) - len(missing)) / len(facts), 6) if facts else "",
        "rouge_l": round(rouge_l(example.reference, text), 6) if example.reference else "",
        "summary_words": len(text.split()),
        "finished": "" if summary.finished is None else int(summary.finished),
        "repeated": int(is_repetitive(text)),
        "seconds": "" if summary.seconds is None else round(summary.seconds, 4),
        "citations": json.dumps([asdict(citation) for citation in check_citations(example.note, summary.text)]),
        "missing_facts": json.dumps(missing, ensure_ascii=False),
    }


def _place(fact: Fact) -> dict[str, Any]:
    """Return a fact of the reference as the results name it: its kind, its subject, and its words `[start:end]`."""
    return {name: getattr(fact, name) for name in ("type", "key", "text", "start", "end", "negated")}


def _verdict_cells(check: FactCheck | None, marks_errors_alone: bool) -> Row:
    names = ROW_COLUMNS[ROW_COLUMNS.index("has_hallucination") : ROW_COLUMNS.index("coverage")]
    if check is None:
        return dict.fromkeys(names, "")
    check = as_decided(check)
    claims = checked_claims(check)
    wrong = [asdict(claim) for claim in check.claims if claim.is_wrong]
    cells = (
        int(check.has_hallucination),
        round(check.score, 6),
        ";".join(sorted({claim.type for claim in check.errors})),
        json.dumps(wrong, ensure_ascii=False),
        "" if marks_errors_alone else len(claims),
        "" if marks_errors_alone else sum(claim.verdict == SUPPORTED for claim in claims),
        json.dumps(dict(check.grades)) if check.grades else "",
    )
    return dict(zip(names, cells, strict=True))


def as_decided(check: FactCheck) -> FactCheck:
    """Return the check with its errors for review if the judge, all evidence weighed, does not flag the summary."""
    if check.has_hallucination:
        return check
    claims = (replace(claim, level=REVIEW) if claim.is_wrong else claim for claim in check.claims)
    return replace(check, claims=tuple(claims))


def checked_claims(check: FactCheck) -> list[Claim]:
    """Return the claims that count in rates: of level error, and not unverifiable."""
    return [claim for claim in check.claims if claim.level == ERROR and claim.verdict != UNVERIFIABLE]


def rouge_l(reference: str, summary: str) -> float:
    """Return ROUGE-L F1 (Lin 2004) with stemming."""
    return float(_scorer().score(reference, summary)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def is_repetitive(text: str) -> bool:
    """Return whether a sentence or a run of eight words is repeated, or a word appears three times in a row."""
    stated = [text[start:end].lower() for start, end in sentences(text)]
    words = text.lower().split()
    runs = [tuple(words[i : i + _REPEATED_WORDS]) for i in range(len(words) - _REPEATED_WORDS + 1)]
    thrice = any(words[i] == words[i + 1] == words[i + 2] for i in range(len(words) - 2))
    return thrice or len(set(stated)) < len(stated) or len(set(runs)) < len(runs)


# ------------------------------------------------------------------------------------------- aggregate


def aggregate(rows: Sequence[Mapping[str, Any]], seed: int = 42) -> dict[str, Any]:
    """Return the figures of `evaluation_summary.json`, given rows of `summary_row`.

    Cells may be text, as read from a CSV. A rate without data is None.
    """
    judged = [row for row in rows if row["has_hallucination"] != ""]
    references = [float(len(row["reference_summary"].split())) for row in rows if row["reference_summary"]]
    return {
        "n": len(judged),
        "summaries": len(rows),
        "notes": len({row["clinical_note"] for row in rows}),
        "judge_failures": len(rows) - len(judged),
        **_share("hallucination_rate", values_of(judged, "has_hallucination"), seed),
        **_mean_share("coverage", values_of(rows, "coverage"), seed),
        **_mean("mean_summary_words", values_of(rows, "summary_words"), seed),
        "mean_reference_words": ratio(references, [1.0] * len(references)),
        **_share("empty_rate", [(note, float(n == 0)) for note, n in values_of(rows, "summary_words")], seed),
        **claim_rates(judged, seed),
        **_mean("rouge_l", values_of(rows, "rouge_l"), seed),
        **_share("repeated_rate", values_of(rows, "repeated"), seed),
        **_share("unfinished_rate", [(note, 1 - finished) for note, finished in values_of(rows, "finished")], seed),
        "by_type": by_type(judged, seed),
        "judge_grades": mean_grades(judged, seed),
        **citation_figures(rows, seed),
        **latency(numbers(rows, "seconds")),
    }


def claim_rates(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Return the claim error rate over judged rows, with both of its intervals."""
    claims = numbers(rows, "claims")
    wrong = [total - good for total, good in zip(claims, numbers(rows, "claims_supported"), strict=True)]
    total = int(sum(claims))
    notes = [row["clinical_note"] for row in rows if row["claims"] != ""]
    wrong_of_note, claims_of_note = by_note(notes, wrong, claims)
    return {
        "claims": total,
        "claim_error_rate": ratio(wrong, claims),
        "claim_error_rate_ci95": share_interval(wrong_of_note, claims_of_note, seed),
        "claim_error_rate_wilson95": wilson_interval(int(sum(wrong)), total) if total else None,
    }


def mean_grades(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    """Return mean, interval and n of each item that the judge has graded, by name."""
    grades: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        for item, grade in json.loads(row.get("judge_grades") or "{}").items():
            grades.setdefault(item, []).append((row["clinical_note"], grade))
    found = {}
    for item, given in grades.items():
        figures = _mean("mean", given, seed)
        interval = figures["mean_ci95"]
        found[item] = {
            "mean": figures["mean"],
            "ci95": None if is_degenerate(interval) else interval,
            "n": len(given),
        }
    return found


def grades_text(grades: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `accurate 4.20 (95% interval 3.90 to 4.50, n=20); cited 1.00 (n=20)` for figures of `mean_grades`."""
    parts = []
    for item, figures in grades.items():
        interval = "95% interval {:.2f} to {:.2f}, ".format(*figures["ci95"]) if figures["ci95"] else ""
        parts.append(f"{item} {figures['mean']:.2f} ({interval}n={figures['n']})")
    return "; ".join(parts)


def citation_figures(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Return the accuracy, the counts and the calibration of citations."""
    found = [[Citation(**cells) for cells in json.loads(row["citations"])] for row in rows]
    verdicts = [[citation.supported for citation in each if citation.supported is not None] for each in found]
    right, counts = [float(sum(each)) for each in verdicts], [float(len(each)) for each in verdicts]
    every = [citation for each in found for citation in each]
    notes = [row["clinical_note"] for row in rows]
    right_of_note, counts_of_note = by_note(notes, right, counts)
    of_note: dict[str, list[Citation]] = {}
    for note, each in zip(notes, found, strict=True):
        of_note.setdefault(note, []).extend(each)
    return {
        "citation_accuracy": ratio(right, counts),
        "citation_accuracy_ci95": share_interval(right_of_note, counts_of_note, seed),
        "citation_accuracy_n": int(sum(counts)),
        "citations": len(every),
        "citations_malformed": sum(not citation.sentences for citation in every),
        "citations_unverifiable": sum(citation.supported is None for citation in every),
        "calibration": calibration([*of_note.values()], seed),
    }


def latency(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return the times of generation, in seconds, or None for each if no time is known."""
    if not seconds:
        return dict.fromkeys(("seconds", "median_seconds", "p95_seconds", "summaries_per_second"))
    total = sum(seconds)
    return {
        "seconds": round(total, 3),
        "median_seconds": round(float(np.median(seconds)), 4),
        "p95_seconds": round(float(np.percentile(seconds, 95)), 4),
        "summaries_per_second": round(len(seconds) / total, 3) if total else None,
    }


def numbers(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    """Return the numbers of a column, without empty cells."""
    return [float(row[column]) for row in rows if row[column] != ""]


def values_of(rows: Sequence[Mapping[str, Any]], column: str) -> list[NoteValue]:
    """Return (note, number) of the rows whose cell is not empty."""
    return [(row["clinical_note"], float(row[column])) for row in rows if row[column] != ""]


def _sums(values: Sequence[NoteValue]) -> list[list[float]]:
    """Return the sums and the counts of the values of each note."""
    return by_note([note for note, _ in values], [value for _, value in values], [1.0] * len(values))


def share_of_summaries(values: Sequence[NoteValue], seed: int) -> Interval | None:
    """Return the 95% interval of a share of summaries: Wilson's, or by resampled notes if a note has several."""
    sums, counts = _sums(values)
    if len(counts) == len(values):
        return wilson_interval(int(sum(sums)), len(values)) if values else None
    return share_interval(sums, counts, seed)


def _share(name: str, values: Sequence[NoteValue], seed: int) -> dict[str, Any]:
    """Return a share of summaries with its interval and n; see `share_of_summaries`."""
    n = len(values)
    share = sum(value for _, value in values) / n if n else None
    return {name: share, f"{name}_ci95": share_of_summaries(values, seed), f"{name}_n": n}


def _mean(name: str, values: Sequence[NoteValue], seed: int) -> dict[str, Any]:
    """Return a mean with its bootstrap interval and n."""
    sums, counts = _sums(values)
    return {name: ratio(sums, counts), f"{name}_ci95": ratio_interval(sums, counts, seed), f"{name}_n": len(values)}


def _mean_share(name: str, values: Sequence[NoteValue], seed: int) -> dict[str, Any]:
    """Return a mean of values from 0 to 1 with its interval and n; see `share_interval`."""
    sums, counts = _sums(values)
    return {name: ratio(sums, counts), f"{name}_ci95": share_interval(sums, counts, seed), f"{name}_n": len(values)}


def by_type(rows: Sequence[Mapping[str, Any]], seed: int = 42) -> dict[str, dict[str, Any]]:
    """Return the counts and shares of each kind of error, the most frequent kind first."""
    checked = int(sum(numbers(rows, "claims")))
    places: dict[str, list[int]] = {}  # the row of each wrong claim
    for place, row in enumerate(rows):
        for span in json.loads(row["unsupported_spans"]):
            if span["level"] == ERROR:
                places.setdefault(span["type"], []).append(place)
    counts = {kind: (len(found), len(set(found))) for kind, found in places.items()}

    def interval(kind: str) -> Interval | None:
        found = set(places[kind])
        values = [(row["clinical_note"], float(place in found)) for place, row in enumerate(rows)]
        return share_of_summaries(values, seed)

    return {
        kind: {
            "claims": total,
            "summaries": summaries,
            "rate": summaries / len(rows),
            "rate_ci95": interval(kind),
            "claim_rate": total / checked if checked else None,
            "claim_rate_wilson95": wilson_interval(total, checked) if checked else None,
        }
        for kind, (total, summaries) in sorted(counts.items(), key=lambda item: (-item[1][1], item[0]))
    }
