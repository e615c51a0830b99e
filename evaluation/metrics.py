"""The numbers of an evaluation: one row for each summary, and one aggregate over the rows.

A claim is a statement of level `error` that could be checked: supported, contradicted or unsupported. Defined here:

hallucination_rate      share of summaries with at least one claim contradicted or unsupported; Wilson interval
claim_error_rate        claims contradicted or unsupported, over all claims of all summaries; bootstrap over summaries
coverage                share of the reference's facts that the summary states, averaged over the summaries whose
                        reference has facts; bootstrap over summaries
rouge_l                 F1 of the longest common subsequence with the reference, stemmed (rouge-score), averaged
repeated_rate           share of summaries with a sentence twice, eight words in a row twice, or a word three times
                        in a row
unfinished_rate         share of summaries broken off at the limit of new tokens, where that is known
empty_rate              share of summaries without a word: they cannot hallucinate, so they are shown beside the rate
mean_summary_words      words between white space, citations left out
by_type                 for each kind of error: wrong claims, and the share of summaries with at least one

Summaries that the judge failed on are counted as `judge_failures` and are in no rate of the judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from clinical.facts import sentences
from evaluation.fact_checker import ERROR, SUPPORTED, Claim, FactCheck, coverage, without_citations
from evaluation.fact_comparison import UNVERIFIABLE
from evaluation.stats import ratio, ratio_interval, wilson_interval

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
    "coverage",
    "rouge_l",
    "summary_words",
    "finished",
    "repeated",
    "seconds",
)
_REPEATED_WORDS = 8  # in a row; fewer are shared by two prescriptions of the same frequency
Row = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A note and its factual summary; `reference` and `label` are empty where there is none."""

    example_id: str
    note: str
    reference: str
    label: str


@dataclass(frozen=True)
class Summary:
    """A generated summary; None where it is not known how it ended or how long it took."""

    text: str
    finished: bool | None = None
    seconds: float | None = None


def summary_row(example: Example, summary: Summary, check: FactCheck | None) -> Row:
    """One row of `evaluation_results.csv`; the judge's cells are empty where it failed."""
    text = without_citations(summary.text).strip()
    stated, facts = coverage(example.reference, text) if example.reference else (0, 0)
    return {
        "example_id": example.example_id,
        "clinical_note": example.note,
        "reference_summary": example.reference,
        "generated_summary": summary.text,
        "label": example.label,
        **_verdict_cells(check),
        "coverage": round(stated / facts, 6) if facts else "",
        "rouge_l": round(rouge_l(example.reference, text), 6) if example.reference else "",
        "summary_words": len(text.split()),
        "finished": "" if summary.finished is None else int(summary.finished),
        "repeated": int(is_repetitive(text)),
        "seconds": "" if summary.seconds is None else round(summary.seconds, 4),
    }


def _verdict_cells(check: FactCheck | None) -> Row:
    names = ROW_COLUMNS[ROW_COLUMNS.index("has_hallucination") : ROW_COLUMNS.index("coverage")]
    if check is None:
        return dict.fromkeys(names, "")
    claims = checked_claims(check)
    wrong = [asdict(claim) for claim in check.claims if claim.is_wrong]
    cells = (
        int(check.has_hallucination),
        round(check.score, 6),
        ";".join(sorted({claim.type for claim in check.errors})),
        json.dumps(wrong, ensure_ascii=False),
        len(claims),
        sum(claim.verdict == SUPPORTED for claim in claims),
    )
    return dict(zip(names, cells, strict=True))


def checked_claims(check: FactCheck) -> list[Claim]:
    """The claims that count: of level error, and verifiable."""
    return [claim for claim in check.claims if claim.level == ERROR and claim.verdict != UNVERIFIABLE]


def rouge_l(reference: str, summary: str) -> float:
    """ROUGE-L F1 (Lin 2004), with stemming."""
    return float(_scorer().score(reference, summary)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def is_repetitive(text: str) -> bool:
    """A sentence twice, eight words in a row twice, or a word three times in a row."""
    stated = [text[start:end].lower() for start, end in sentences(text)]
    words = text.lower().split()
    runs = [tuple(words[i : i + _REPEATED_WORDS]) for i in range(len(words) - _REPEATED_WORDS + 1)]
    thrice = any(words[i] == words[i + 1] == words[i + 2] for i in range(len(words) - 2))
    return thrice or len(set(stated)) < len(stated) or len(set(runs)) < len(runs)


# ------------------------------------------------------------------------------------------- aggregate


def aggregate(rows: Sequence[Mapping[str, Any]], seed: int = 42) -> dict[str, Any]:
    """The rates of `evaluation_summary.json`, each with its interval, from rows as `summary_row` makes them.

    Cells may be texts, as `csv` reads them. A rate without data is None.
    """
    judged = [row for row in rows if row["has_hallucination"] != ""]
    claims = numbers(judged, "claims")
    wrong = [total - good for total, good in zip(claims, numbers(judged, "claims_supported"), strict=True)]
    return {
        "n": len(judged),
        "summaries": len(rows),
        "judge_failures": len(rows) - len(judged),
        **_share("hallucination_rate", numbers(judged, "has_hallucination")),
        "claims": int(sum(claims)),
        "claim_error_rate": ratio(wrong, claims),
        "claim_error_rate_ci95": ratio_interval(wrong, claims, seed),
        **_mean("coverage", numbers(rows, "coverage"), seed),
        **_mean("rouge_l", numbers(rows, "rouge_l"), seed),
        **_mean("mean_summary_words", numbers(rows, "summary_words"), seed),
        **_share("empty_rate", [float(words == 0) for words in numbers(rows, "summary_words")]),
        **_share("repeated_rate", numbers(rows, "repeated")),
        **_share("unfinished_rate", [1 - finished for finished in numbers(rows, "finished")]),
        "by_type": by_type(judged),
        "seconds": round(sum(numbers(rows, "seconds")), 3) if numbers(rows, "seconds") else None,
    }


def numbers(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    """The cells of a column that are not empty."""
    return [float(row[column]) for row in rows if row[column] != ""]


def _share(name: str, values: Sequence[float]) -> dict[str, Any]:
    """A share of summaries with its Wilson interval and the number of summaries it is of."""
    count, n = int(sum(values)), len(values)
    return {
        name: count / n if n else None,
        f"{name}_ci95": wilson_interval(count, n) if n else None,
        f"{name}_n": n,
    }


def _mean(name: str, values: Sequence[float], seed: int) -> dict[str, Any]:
    ones = [1.0] * len(values)
    return {name: ratio(values, ones), f"{name}_ci95": ratio_interval(values, ones, seed), f"{name}_n": len(values)}


def by_type(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each kind of error its wrong claims and the share of summaries that have one, the most frequent first."""
    claims: dict[str, list[str]] = {}
    for row in rows:
        for span in json.loads(row["unsupported_spans"]):
            if span["level"] == ERROR:
                claims.setdefault(span["type"], []).append(row["example_id"])
    counts = {kind: (len(ids), len(set(ids))) for kind, ids in claims.items()}
    return {
        kind: {
            "claims": total,
            "summaries": summaries,
            "rate": summaries / len(rows),
            "rate_ci95": wilson_interval(summaries, len(rows)),
        }
        for kind, (total, summaries) in sorted(counts.items(), key=lambda item: (-item[1][1], item[0]))
    }
