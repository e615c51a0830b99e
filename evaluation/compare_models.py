"""Compares two evaluations of the same notes, note by note.

In:  two folders of evaluate_model.py. Notes are paired by their text; those in only one are counted and left out.
Out: in --output_dir `comparison.json` and `comparison.html`: an exact McNemar test of the hallucinated summaries, and
     paired bootstrap intervals of the claim error rate, of coverage and of length.

    python evaluation/compare_models.py evaluation_results/sft evaluation_results/dpo
    python -m evaluation.compare_models evaluation_results/sft evaluation_results/dpo --output_dir comparison
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from evaluation.report import read_evaluation, write_comparison_report
from evaluation.stats import Difference, mcnemar_p, p_text, paired_difference, wilson_interval
from script_io import ArgumentParser, InputError, run_script, write_json

ALPHA = 0.05
Row = Mapping[str, str]
Pair = tuple[Row, Row]
COMPARED_SETTINGS = ("judge", "temperature", "max_new_tokens")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("first", type=Path, help="evaluation folder of the model to start from, such as the SFT model")
    data.add_argument("second", type=Path, help="evaluation folder of the model to compare with it")
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument("--seed", type=int, default=42, help="of the bootstrap (default: 42)")
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, help="folder of the comparison (default: the second folder)")
    return parser.parse_args(argv)


def by_note(folder: Path, rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by their note. Raises InputError where a note stands twice, since it could not be paired."""
    found: dict[str, Row] = {}
    for row in rows:
        if row["clinical_note"] in found:
            other = found[row["clinical_note"]]["example_id"]
            raise InputError(
                f"{folder}: examples {other} and {row['example_id']} have the same note; keep one summary for each note"
            )
        found[row["clinical_note"]] = row
    return found


def compare(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Tests and differences over judged pairs."""
    verdicts = [(first["has_hallucination"] == "1", second["has_hallucination"] == "1") for first, second in pairs]
    only_first, only_second = verdicts.count((True, False)), verdicts.count((False, True))
    counts = [sum(side) for side in zip(*verdicts, strict=True)]
    return {
        "n": len(pairs),
        "hallucination_rate": [
            {"rate": count / len(pairs), "count": count, "ci95": wilson_interval(count, len(pairs))} for count in counts
        ],
        "mcnemar": {
            "both": verdicts.count((True, True)),
            "only_first": only_first,
            "only_second": only_second,
            "neither": verdicts.count((False, False)),
            "p": mcnemar_p(only_first, only_second),
        },
        "differences": differences(pairs, seed),
    }


def differences(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Second minus first, resampling notes; coverage over the notes where both have it."""
    covered = [pair for pair in pairs if all(row["coverage"] != "" for row in pair)]
    return {
        "hallucination_rate": _mean_difference(pairs, "has_hallucination", seed),
        "claim_error_rate": _as_json(paired_difference(_errors(pairs, 0), _errors(pairs, 1), seed)),
        "coverage": _mean_difference(covered, "coverage", seed),
        "summary_words": _mean_difference(pairs, "summary_words", seed),
    }


def _errors(pairs: Sequence[Pair], side: int) -> tuple[list[float], list[float]]:
    """(wrong claims, claims) of one of the two evaluations."""
    claims = [float(pair[side]["claims"]) for pair in pairs]
    return [total - float(pair[side]["claims_supported"]) for total, pair in zip(claims, pairs, strict=True)], claims


def _mean_difference(pairs: Sequence[Pair], column: str, seed: int) -> dict[str, Any] | None:
    ones = [1.0] * len(pairs)
    first, second = ([float(pair[side][column]) for pair in pairs] for side in (0, 1))
    return _as_json(paired_difference((first, ones), (second, ones), seed))


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


def conclusion(result: Mapping[str, Any]) -> str:
    """Whether the difference in hallucinated summaries holds, and what it was bought with."""
    first, second = (side["rate"] for side in result["hallucination_rate"])
    p, n = result["mcnemar"]["p"], result["n"]
    rates = f"{first:.1%} of the first and {second:.1%} of the second summaries hallucinate"
    rates += f" ({n} notes, McNemar {p_text(p)})"
    if p >= ALPHA:
        return f"No difference is shown: {rates}."
    direction = "fewer" if second < first else "more"
    return f"The difference holds: the second hallucinates in {direction} summaries. {rates}.{_price(result)}"


def _price(result: Mapping[str, Any]) -> str:
    """A lower rate bought with silence is said in the same breath."""
    coverage = result["differences"]["coverage"]
    if coverage and coverage["holds"] and coverage["difference"] < 0:
        return f" But it states less: coverage falls by {-100 * coverage['difference']:.1f} points."
    return ""


def print_result(result: Mapping[str, Any]) -> None:
    """The paired table, aligned."""
    table = result["mcnemar"]
    print(f"\n{'':<24}second hallucinated  second without error")
    print(f"{'first hallucinated':<24}{table['both']:>19}  {table['only_first']:>20}")
    print(f"{'first without error':<24}{table['only_second']:>19}  {table['neither']:>20}\n")
    print(f"{'':<20}{'first':>8}{'second':>8}{'difference':>12}   95% interval")
    for name, entry in result["differences"].items():
        if entry is None:
            print(f"{name:<20} not measured")
            continue
        low, high = entry["ci95"]
        holds = "" if entry["holds"] else "  includes 0"
        numbers = f"{entry['first']:>8.3f}{entry['second']:>8.3f}{entry['difference']:>+12.3f}"
        print(f"{name:<20}{numbers}   {low:+.3f} to {high:+.3f}{holds}")
    print(f"\n{result['conclusion']}")


def warn_of_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Evaluations made in different ways are not comparable without a thought."""
    for name in COMPARED_SETTINGS:
        if first.get(name) != second.get(name):
            print(f"warning: {name} differs: {first.get(name)} and {second.get(name)}", file=sys.stderr)


def main(args: argparse.Namespace) -> int:
    """Pairs, tests, writes."""
    (first_summary, first_rows), (second_summary, second_rows) = map(read_evaluation, (args.first, args.second))
    warn_of_settings(first_summary, second_summary)
    first, second = by_note(args.first, first_rows), by_note(args.second, second_rows)
    paired = [(row, second[note]) for note, row in first.items() if note in second]
    judged = [pair for pair in paired if all(row["has_hallucination"] != "" for row in pair)]
    if not judged:
        raise InputError(f"{args.first}, {args.second}: no judged note is in both; evaluate both on the same test data")
    result: dict[str, Any] = {
        "first": {"model": first_summary["model"], "folder": str(args.first)},
        "second": {"model": second_summary["model"], "folder": str(args.second)},
        "only_in_first": len(first) - len(paired),
        "only_in_second": len(second) - len(paired),
        "not_judged": len(paired) - len(judged),
        **compare(judged, args.seed),
    }
    result["conclusion"] = conclusion(result)
    print(
        f"{len(judged)} notes in both; {result['only_in_first']} only in the first, {result['only_in_second']} only in"
    )
    print(f"the second, {result['not_judged']} without a verdict: left out")
    print_result(result)
    output_dir = args.output_dir or args.second
    write_json(output_dir / "comparison.json", result)
    write_comparison_report(output_dir / "comparison.html", result, judged)
    print(f"Saved comparison.json and comparison.html to {output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
