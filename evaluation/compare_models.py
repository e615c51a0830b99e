"""Compare two evaluations of the same notes, note by note.

In:  two folders of evaluate_model.py. Notes are paired by their text; notes in only one folder are counted, not used.
Out: in --output_dir `comparison.json` and `comparison.html`: exact McNemar tests of the shares of hallucinated
     summaries, in total and for each kind of error, and paired bootstrap intervals of the differences in claim error
     rate, coverage and length.

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

from evaluation.report import REMEDY, read_evaluation, write_comparison_report
from evaluation.stats import (
    Difference,
    holm,
    mcnemar_p,
    p_text,
    paired_difference,
    paired_share_interval,
    wilson_interval,
)
from judging.pair_makers import model_of_judge
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

ALPHA = 0.05
SIDES = ("first", "second")
COLUMNS = ("reference_summary", "hallucination_types", "claims", "claims_supported", "coverage", "summary_words")
Row = Mapping[str, str]
Pair = tuple[Row, Row]
COMPARED_SETTINGS = ("judge", "lexicons", "temperature", "max_new_tokens")
SHORTER = 0.9  # ratio of the mean words below which fewer errors may be due to the length alone


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument("first", type=Path, help="evaluation folder of the baseline, such as the SFT model")
    data.add_argument("second", type=Path, help="evaluation folder of the model to compare with it")
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument(
        "--seed", type=at_least(0), default=42, help="seed of the bootstrap resamples (default: 42)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, help="folder for the comparison (default: the second folder)")
    return parser.parse_args(argv)


def by_note(folder: Path, rows: Sequence[Row]) -> dict[str, Row]:
    """Return {note: row}. Raises InputError if a note has two rows, since they could not be paired."""
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

    Coverage uses the notes for which both rows have it. `shares` are the shares of hallucinated summaries, whose
    difference holds or not by McNemar's test.
    """
    covered = [pair for pair in pairs if all(row["coverage"] != "" for row in pair)]
    return {
        "hallucination_rate": {name: shares[name] for name in ("first", "second", "difference", "ci95", "holds")},
        "claim_error_rate": _as_json(paired_difference(_errors(pairs, 0), _errors(pairs, 1), seed)),
        "coverage": _mean_difference(covered, "coverage", seed),
        "summary_words": _mean_difference(pairs, "summary_words", seed),
    }


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
    """Return (wrong claims, claims) per note of one of the two evaluations."""
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
    """Return whether the difference in hallucinated summaries holds, and whether the better model says less."""
    first, second = (side["rate"] for side in result["hallucination_rate"])
    p, n = result["mcnemar"]["p"], result["n"]
    rates = f"{first:.1%} of the first and {second:.1%} of the second summaries hallucinate"
    rates += f" ({n} notes, McNemar {p_text(p)})"
    if p >= ALPHA:
        return f"No difference is shown: {rates}."
    direction = "fewer" if second < first else "more"
    return f"The difference holds: the second hallucinates in {direction} summaries. {rates}.{_price(result)}"


def _price(result: Mapping[str, Any]) -> str:
    """Return a sentence if the model with the lower rate says less, else an empty text."""
    better = 0 if result["hallucination_rate"][0]["count"] < result["hallucination_rate"][1]["count"] else 1
    return "".join(f" But {text}." for side, text in says_less(result) if side == better)


def says_less(result: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return (0 for the first or 1 for the second model, a text) if the model's coverage or length is lower."""
    coverage, words = (result["differences"][name] for name in ("coverage", "summary_words"))
    found = []
    if coverage and coverage["holds"]:
        found.append(_less(coverage, "states less: its coverage is {:.1%}, the other's {:.1%}"))
    if words["holds"] and min(words["first"], words["second"]) < SHORTER * max(words["first"], words["second"]):
        found.append(_less(words, "is shorter: {:.1f} words on average, the other has {:.1f}"))
    return found


def _less(entry: Mapping[str, Any], text: str) -> tuple[int, str]:
    side = int(entry["difference"] < 0)
    values = (entry["first"], entry["second"])
    return side, f"the {SIDES[side]} " + text.format(values[side], values[1 - side])


def print_result(result: Mapping[str, Any]) -> None:
    """Print the paired table, the differences and the conclusion."""
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
        numbers = f"{entry['first']:>8.3f}{entry['second']:>8.3f}{entry['difference']:>+12.3f}"
        print(f"{name:<20}{numbers}   {low:+.3f} to {high:+.3f}{_mark(entry)}")
    if result["by_type"]:
        print_types(result["by_type"])
    print(f"\n{result['conclusion']}")
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)


def print_types(kinds: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the shares of summaries with each kind of error."""
    heading = f"{'summaries with an error of':<28}{'first':>8}{'second':>8}{'difference':>12}"
    print(f"\n{heading}   95% interval       Holm")
    for kind, entry in kinds.items():
        low, high = entry["ci95"]
        numbers = f"{entry['first']:>8.3f}{entry['second']:>8.3f}{entry['difference']:>+12.3f}"
        print(f"{kind:<28}{numbers}   {low:+.3f} to {high:+.3f}   {p_text(entry['p_holm'])}{_mark(entry)}")
    print("Exploratory: p is adjusted for the number of kinds; a difference that does not hold may still be real.")


def _mark(entry: Mapping[str, Any]) -> str:
    return "" if entry["holds"] else "  does not hold"


def warnings_of(summaries: Sequence[Mapping[str, Any]], pairs: Sequence[Pair], result: Mapping[str, Any]) -> list[str]:
    """Return the reasons why the comparison may mislead."""
    first, second = summaries
    found = [
        f"{name} differs: {first.get(name)} and {second.get(name)}"
        for name in COMPARED_SETTINGS
        if first.get(name) != second.get(name)
    ]
    references = sum(a["reference_summary"] != b["reference_summary"] for a, b in pairs)
    if references:
        found.append(f"{references} notes have different references; their coverage cannot be compared")
    for name, summary in zip(SIDES, summaries, strict=True):
        if summary.get("judge_made_training_pairs"):
            found.append(
                f"the judge {model_of_judge(summary['judge'])} made the pairs that the {name} was trained on, so it "
                "rates this model better than other judges do; compare by another judge as well"
            )
    return found + [text for _, text in says_less(result) if text not in result["conclusion"]]


def main(args: argparse.Namespace) -> int:
    """Pair the notes, test the differences and write the comparison."""
    (first_summary, first_rows), (second_summary, second_rows) = map(read_evaluation, (args.first, args.second))
    for folder, rows in ((args.first, first_rows), (args.second, second_rows)):
        if missing := [column for column in COLUMNS if column not in rows[0]]:
            raise InputError(f"{folder}: evaluation_results.csv has no column {', '.join(missing)}; {REMEDY}")
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
    result["warnings"] = warnings_of((first_summary, second_summary), judged, result)
    left_out = f"{result['only_in_first']} only in the first, {result['only_in_second']} only in the second"
    print(f"{len(judged)} notes in both; left out: {left_out}, {result['not_judged']} without a verdict")
    print_result(result)
    output_dir = args.output_dir or args.second
    write_json(output_dir / "comparison.json", result)
    write_comparison_report(output_dir / "comparison.html", result, judged)
    print(f"Saved comparison.json and comparison.html to {output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
