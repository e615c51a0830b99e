"""Compare the rows of two evaluations of the same notes: tests and intervals of what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.result_files import Row
from evaluation.stats import Difference, holm, mcnemar_p, paired_difference, paired_share_interval, wilson_interval

ALPHA = 0.05
Pair = tuple[Row, Row]


def compare(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Return the tests and differences over judged pairs."""
    verdicts = [(is_wrong(first), is_wrong(second)) for first, second in pairs]
    counts = [sum(side) for side in zip(*verdicts, strict=True)]
    shares = paired_shares(verdicts)
    return {
        "n": len(pairs),
        "hallucination_rate": [
            {"rate": count / len(pairs), "count": count, "ci95": wilson_interval(count, len(pairs))} for count in counts
        ],
        "mcnemar": {
            "both": verdicts.count((True, True)),
            **{name: shares[name] for name in ("only_first", "only_second")},
            "neither": verdicts.count((False, False)),
            "p": shares["p"],
        },
        "differences": differences(pairs, shares, seed),
        "by_type": by_type(pairs),
    }


def differences(pairs: Sequence[Pair], shares: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the differences second minus first, with intervals from resampled notes.

    Coverage uses the notes for which both rows have it. Citation accuracy is there if a summary cites. `shares` are the
    shares of hallucinated summaries, whose difference holds or not by McNemar's test.
    """
    covered = [pair for pair in pairs if all(row["coverage"] != "" for row in pair)]
    found: dict[str, Any] = {
        "hallucination_rate": {name: shares[name] for name in ("first", "second", "difference", "ci95", "holds")},
        "claim_error_rate": _as_json(paired_difference(_errors(pairs, 0), _errors(pairs, 1), seed, of_shares=True)),
        "coverage": _mean_difference(covered, "coverage", seed, of_shares=True),
        "summary_words": _mean_difference(pairs, "summary_words", seed),
    }
    if any(json.loads(row.get("citations") or "[]") for pair in pairs for row in pair):
        found["citation_accuracy"] = _as_json(
            paired_difference(_cited(pairs, 0), _cited(pairs, 1), seed, of_shares=True)
        )
    return found


def is_wrong(row: Row) -> bool:
    return row["has_hallucination"] == "1"


def paired_shares(verdicts: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """Return the shares of two verdicts on the same notes, the interval of their difference, and McNemar's test."""
    n = len(verdicts)
    only_first, only_second = verdicts.count((True, False)), verdicts.count((False, True))
    first, second = (sum(side) / n for side in zip(*verdicts, strict=True))
    p = mcnemar_p(only_first, only_second)
    return {
        "first": first,
        "second": second,
        "difference": second - first,
        "ci95": paired_share_interval(only_first, only_second, n),
        "only_first": only_first,
        "only_second": only_second,
        "p": p,
        "holds": p < ALPHA,
    }


def by_type(pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Return the shares of summaries with each kind of error, the most frequent kind first.

    `holds` uses p-values adjusted for the number of kinds (Holm).
    """
    kinds = [tuple(frozenset(row["hallucination_types"].split(";")) - {""} for row in pair) for pair in pairs]
    every = sorted({kind for first, second in kinds for kind in first | second})
    shares = {kind: paired_shares([(kind in first, kind in second) for first, second in kinds]) for kind in every}
    for entry, adjusted in zip(shares.values(), holm([entry["p"] for entry in shares.values()]), strict=True):
        entry.update(p_holm=adjusted, holds=adjusted < ALPHA)
    return dict(sorted(shares.items(), key=lambda item: -item[1]["first"] - item[1]["second"]))


def _errors(pairs: Sequence[Pair], side: int) -> tuple[list[float], list[float]]:
    """Return (wrong claims, claims) per note of one of the two evaluations; zeros if its judge counts no claims."""
    claims = [float(pair[side]["claims"] or 0) for pair in pairs]
    supported = [float(pair[side]["claims_supported"] or 0) for pair in pairs]
    return [total - good for total, good in zip(claims, supported, strict=True)], claims


def _cited(pairs: Sequence[Pair], side: int) -> tuple[list[float], list[float]]:
    """Return (right citations, citations that can be checked) per note of one of the two evaluations."""
    cells = [json.loads(pair[side].get("citations") or "[]") for pair in pairs]
    checked = [[each["supported"] for each in found if each["supported"] is not None] for found in cells]
    return [float(sum(each)) for each in checked], [float(len(each)) for each in checked]


def _mean_difference(
    pairs: Sequence[Pair], column: str, seed: int, *, of_shares: bool = False
) -> dict[str, Any] | None:
    ones = [1.0] * len(pairs)
    first, second = ([float(pair[side][column]) for pair in pairs] for side in (0, 1))
    return _as_json(paired_difference((first, ones), (second, ones), seed, of_shares=of_shares))


def _as_json(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.difference,
        "ci95": difference.interval,
        "holds": difference.holds,
    }


def adjust(results: Sequence[dict[str, Any]]) -> None:
    """Adjust the tests of hallucinated summaries for the number of pairs of models (Holm), if there are several."""
    if len(results) == 1:
        return
    for result, adjusted in zip(results, holm([each["mcnemar"]["p"] for each in results]), strict=True):
        result["mcnemar"]["p_holm"] = adjusted
        result["differences"]["hallucination_rate"]["holds"] = adjusted < ALPHA
