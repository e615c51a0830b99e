"""The numbers of an evaluation: one row for each summary, and one aggregate over the rows.

A claim is a statement of level `error` that could be checked: supported, contradicted or unsupported. What a claim is,
and its verdict, are the judge's: a fact (`facts`), a sentence (`nli`), what the model takes for one (`openai`). Rates
by different judges are not comparable. Every rate stands with its n and its 95% interval.

hallucination_rate      share of summaries with at least one claim contradicted or unsupported; Wilson interval
coverage                share of the reference's facts that the summary states, averaged over the summaries whose
                        reference has facts; bootstrap over summaries. It stands beside the rate, as do the lengths:
                        a model that says less has less to be wrong in
mean_summary_words      words between white space, citations left out; mean_reference_words are those of the references
empty_rate              share of summaries without a word, which cannot hallucinate
claim_error_rate        claims contradicted or unsupported, over all claims of all summaries. Its interval
                        (claim_error_rate_ci95) resamples summaries, since the claims of one summary are wrong together
                        more often than by chance: one misread note, three wrong claims. Wilson's interval takes every
                        claim for a new witness and is too narrow wherever they are;
                        claim_error_rate_wilson95 is there for those who compare with work that reports it
rouge_l                 F1 of the longest common subsequence with the reference, stemmed (rouge-score), averaged; it
                        rises for fluent errors too and says little about truth
repeated_rate           share of summaries with a sentence twice, eight words in a row twice, or a word three times
                        in a row
unfinished_rate         share of summaries broken off at the limit of new tokens, where that is known
by_type                 for each kind of error: `claims` that are wrong, `summaries` with at least one, their share
                        (`rate`, Wilson), and the wrong claims over the claims of all kinds (`claim_rate`, Wilson); the
                        claim rates of all kinds sum to claim_error_rate
citation_accuracy       evidence citations whose sentences exist and support the statement before them, over those that
                        can be told (citation_accuracy_n), malformed ones among the wrong; bootstrap over summaries.
                        `citations` counts all, `citations_malformed` those that cannot be read, and
                        `citations_unverifiable` those where the rules cannot tell (see citations.py)
calibration             how well the confidences stated in citations agree with their being right: `brier`, `ece`,
                        `bins` (see citations.py); null where none is stated
seconds                 time of generation, the sum. A summary's own is its share of its batch's time, so that only at
                        --batch_size 1 `median_seconds` and `p95_seconds` are what a reader would wait for;
                        `summaries_per_second` is the number of summaries over the sum

A bootstrap interval of a share that is exactly 0 or 1 would have no width; there it is Wilson's, with the summaries as
n. Summaries that the judge failed on are counted as `judge_failures` and are in no rate of the judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from clinical.facts import sentences
from evaluation.calibration import calibration
from evaluation.stats import ratio, ratio_interval, share_interval, wilson_interval
from fact_checking.checker import coverage
from fact_checking.citations import Citation, check_citations
from fact_checking.claims import ERROR, SUPPORTED, UNVERIFIABLE, Claim, FactCheck, without_citations

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
    "citations",
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
        "citations": json.dumps([asdict(citation) for citation in check_citations(example.note, summary.text)]),
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
    references = [float(len(row["reference_summary"].split())) for row in rows if row["reference_summary"]]
    return {
        "n": len(judged),
        "summaries": len(rows),
        "judge_failures": len(rows) - len(judged),
        **_share("hallucination_rate", numbers(judged, "has_hallucination")),
        **_mean_share("coverage", numbers(rows, "coverage"), seed),
        **_mean("mean_summary_words", numbers(rows, "summary_words"), seed),
        "mean_reference_words": ratio(references, [1.0] * len(references)),
        **_share("empty_rate", [float(words == 0) for words in numbers(rows, "summary_words")]),
        **claim_rates(judged, seed),
        **_mean("rouge_l", numbers(rows, "rouge_l"), seed),
        **_share("repeated_rate", numbers(rows, "repeated")),
        **_share("unfinished_rate", [1 - finished for finished in numbers(rows, "finished")]),
        "by_type": by_type(judged),
        **citation_figures(rows, seed),
        **latency(numbers(rows, "seconds")),
    }


def claim_rates(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The claim error rate over judged rows, with both of its intervals."""
    claims = numbers(rows, "claims")
    wrong = [total - good for total, good in zip(claims, numbers(rows, "claims_supported"), strict=True)]
    total = int(sum(claims))
    return {
        "claims": total,
        "claim_error_rate": ratio(wrong, claims),
        "claim_error_rate_ci95": share_interval(wrong, claims, seed),
        "claim_error_rate_wilson95": wilson_interval(int(sum(wrong)), total) if total else None,
    }


def citation_figures(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """How many evidence citations are right, and whether their confidences say so."""
    found = [[Citation(**cells) for cells in json.loads(row["citations"])] for row in rows]
    told = [[citation.supported for citation in each if citation.supported is not None] for each in found]
    right, counts = [float(sum(each)) for each in told], [float(len(each)) for each in told]
    every = [citation for each in found for citation in each]
    return {
        "citation_accuracy": ratio(right, counts),
        "citation_accuracy_ci95": share_interval(right, counts, seed),
        "citation_accuracy_n": int(sum(counts)),
        "citations": len(every),
        "citations_malformed": sum(not citation.sentences for citation in every),
        "citations_unverifiable": sum(citation.supported is None for citation in every),
        "calibration": calibration(found, seed),
    }


def latency(seconds: Sequence[float]) -> dict[str, float | None]:
    """Times of generation; None where no summary has one."""
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


def _mean_share(name: str, values: Sequence[float], seed: int) -> dict[str, Any]:
    """As `_mean`, of values from 0 to 1."""
    ones = [1.0] * len(values)
    return {name: ratio(values, ones), f"{name}_ci95": share_interval(values, ones, seed), f"{name}_n": len(values)}


def by_type(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each kind of error its wrong claims and the summaries that have one, the most frequent first."""
    checked = int(sum(numbers(rows, "claims")))
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
            "claim_rate": total / checked,
            "claim_rate_wilson95": wilson_interval(total, checked),
        }
        for kind, (total, summaries) in sorted(counts.items(), key=lambda item: (-item[1][1], item[0]))
    }
