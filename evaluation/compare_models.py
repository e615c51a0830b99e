"""Compare two or more evaluations of the same notes, note by note.

In:  folders of evaluate_model.py. Notes are paired by their text; notes that a folder lacks are counted, not used.
Out: in --output_dir `comparison.json` and `comparison.html`, for every two models: exact McNemar tests of the shares of
     hallucinated summaries, in total and for each kind of error, and paired bootstrap intervals of the differences in
     claim error rate, coverage, length and, where summaries cite, citation accuracy. With more than two models, the
     tests in total are adjusted for the number of pairs (Holm).

    python evaluation/compare_models.py evaluation_results/sft evaluation_results/dpo
    python -m evaluation.compare_models runs/sft runs/dpo runs/control --names SFT DPO control --output_dir comparison
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from evaluation.comparison_page import write_comparison_report
from evaluation.judge_accuracy import JudgeAccuracy, add_accuracy_argument, read_judge_accuracy
from evaluation.paired import Pair, adjust, compare
from evaluation.result_files import REMEDY, Row, read_evaluation
from evaluation.stats import p_text
from evaluation.verdicts_in_words import conclusion, names_of, outcome, warnings_of
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

COLUMNS = ("reference_summary", "hallucination_types", "claims", "claims_supported", "coverage", "summary_words")
Evaluation = tuple[dict[str, Any], dict[str, Row]]  # summary, {note: row}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="two or more evaluation folders, the baseline first, such as the SFT model",
    )
    data.add_argument(
        "--names", nargs="+", metavar="NAME", help="name of each model in the results (default: the folders' names)"
    )
    add_accuracy_argument(data)
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument(
        "--seed", type=at_least(0), default=42, help="seed of the bootstrap resamples (default: 42)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, help="folder for the comparison (default: the last folder)")
    return parser.parse_args(argv)


def names_for(folders: Sequence[Path], given: Sequence[str] | None) -> list[str]:
    """Return one name per folder: the given ones, or as many last parts of the paths as tell them apart."""
    if len(folders) < 2:
        raise InputError(f"{folders[0]}: one evaluation cannot be compared; name two or more folders")
    if given is not None:
        if len(given) != len(folders) or len(set(given)) < len(given):
            raise InputError(f"--names {' '.join(given)}: give {len(folders)} different names, one for each folder")
        return list(given)
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    names, seen = ["/".join(each[-1:]) for each in parts], Counter[str]()
    for index, name in enumerate(names):  # the same folder twice
        seen[name] += 1
        names[index] = f"{name} ({seen[name]})" if seen[name] > 1 else name
    return names


def read_by_note(folder: Path) -> Evaluation:
    """Return the summary and {note: row}. Raises InputError if a note has two rows, since they cannot be paired."""
    summary, rows = read_evaluation(folder)
    if missing := [column for column in COLUMNS if column not in rows[0]]:
        raise InputError(f"{folder}: evaluation_results.csv has no column {', '.join(missing)}; {REMEDY}")
    found: dict[str, Row] = {}
    for row in rows:
        if row["clinical_note"] in found:
            other = found[row["clinical_note"]]["example_id"]
            raise InputError(
                f"{folder}: examples {other} and {row['example_id']} have the same note; keep one summary for each note"
            )
        found[row["clinical_note"]] = row
    return summary, found


def judged_notes(rows: Sequence[Mapping[str, Row]]) -> tuple[list[str], int]:
    """Return (notes that are in every evaluation and judged in each, number of other notes that are in every one)."""
    shared = [note for note in rows[0] if all(note in each for each in rows)]
    judged = [note for note in shared if all(each[note]["has_hallucination"] != "" for each in rows)]
    return judged, len(shared) - len(judged)


def comparisons(names: Sequence[str], folders: Sequence[Path], read: Sequence[Evaluation], seed: int) -> list[Any]:
    """Return the comparison of every two models over the notes that all of them have. The first two come first."""
    rows = [each for _, each in read]
    notes, not_judged = judged_notes(rows)
    if not notes:
        raise InputError(
            f"{', '.join(map(str, folders))}: no judged note is in all of them; evaluate them on the same test data"
        )
    sides = [
        {"name": name, "model": summary["model"], "folder": str(folder)}
        for name, folder, (summary, _) in zip(names, folders, read, strict=True)
    ]
    left_out = [len(each) - len(notes) - not_judged for each in rows]
    found = []
    for first, second in combinations(range(len(read)), 2):
        result: dict[str, Any] = {"first": sides[first], "second": sides[second]}
        result |= {"only_in_first": left_out[first], "only_in_second": left_out[second], "not_judged": not_judged}
        found.append({**result, **compare(_pairs(rows, notes, first, second), seed)})
    adjust(found)
    for (first, second), result in zip(combinations(range(len(read)), 2), found, strict=True):
        result["conclusion"] = conclusion(result)
        pairs = _pairs(rows, notes, first, second)
        result["warnings"] = warnings_of((read[first][0], read[second][0]), pairs, result)
    return found


def _pairs(rows: Sequence[Mapping[str, Row]], notes: Sequence[str], first: int, second: int) -> list[Pair]:
    return [(rows[first][note], rows[second][note]) for note in notes]


def print_result(result: Mapping[str, Any]) -> None:
    """Print the paired table, the differences and the conclusion of two models."""
    table, (first, second) = result["mcnemar"], names_of(result)
    print(f"\n{second} compared with {first}\n")
    heads = (f"{second} hallucinated", f"{second} without error")
    wide = max(24, len(first) + 20)
    print(f"{'':<{wide}}{heads[0]}  {heads[1]}")
    for text, left, right in (
        ("hallucinated", table["both"], table["only_first"]),
        ("without error", table["only_second"], table["neither"]),
    ):
        print(f"{f'{first} {text}':<{wide}}{left:>{len(heads[0])}}  {right:>{len(heads[1])}}")
    _print_differences("", result["differences"], first, second)
    if result["by_type"]:
        _print_differences("summaries with an error of", result["by_type"], first, second)
        print("Exploratory: p is adjusted for the number of kinds; where no difference is shown, it may still be real.")
    print(f"\n{result['conclusion']}")
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)


def _print_differences(title: str, entries: Mapping[str, Any], first: str, second: str) -> None:
    """Print one line per measure or kind of error: both values, the difference, its interval and what it shows."""
    wide = max(8, len(first) + 2, len(second) + 2)
    print(f"\n{title:<28}{first:>{wide}}{second:>{wide}}{'difference':>12}   95% interval")
    for name, entry in entries.items():
        if entry is None:
            print(f"{name:<28} not measured")
            continue
        low, high = entry["ci95"]
        numbers = f"{entry['first']:>{wide}.3f}{entry['second']:>{wide}.3f}{entry['difference']:>+12.3f}"
        p = f"   Holm {p_text(entry['p_holm'])}" if "p_holm" in entry else ""
        print(f"{name:<28}{numbers}   {low:+.3f} to {high:+.3f}{p}   {outcome(name, entry)}")


def accuracy_of(path: Path | None, summaries: Sequence[Mapping[str, Any]]) -> JudgeAccuracy | None:
    """Return the accuracy of the judge of all evaluations, or None if it is unknown or the judges differ."""
    judges = {summary["judge"] for summary in summaries}
    accuracy = read_judge_accuracy(path, summaries[0]["judge"])
    return accuracy if len(judges) == 1 else None


def main(args: argparse.Namespace) -> int:
    """Pair the notes, test the differences and write the comparison."""
    names = names_for(args.folders, args.names)
    read = [read_by_note(folder) for folder in args.folders]
    accuracy = accuracy_of(args.judge_accuracy, [summary for summary, _ in read])
    found = comparisons(names, args.folders, read, args.seed)
    left_out = [len(rows) - found[0]["n"] - found[0]["not_judged"] for _, rows in read]
    apart = ", ".join(f"{count} of {name}" for name, count in zip(names, left_out, strict=True))
    print(f"{found[0]['n']} notes in all; left out: {apart}, {found[0]['not_judged']} without a verdict")
    for result in found:
        print_result(result)
    output_dir = args.output_dir or args.folders[-1]
    content = {"models": names, **found[0], "further": found[1:]}
    write_json(output_dir / "comparison.json", content, private=True)
    notes, _ = judged_notes([rows for _, rows in read])
    sides = [dict(zip(names, (rows[note] for _, rows in read), strict=True)) for note in notes]
    write_comparison_report(output_dir / "comparison.html", found, sides, read[0][0], accuracy)
    print(f"\nSaved comparison.json and comparison.html to {output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
