"""Measure the pairs of generate_phase2_data.py: yield, variety, and how far one text alone shows which it is.

In:  the Phase 1 CSV files, and the folder that generate_phase2_data.py made from them. Optional: MEDEC's right and
     wrong sentences as a CSV of `note_id, clinical_note, model_summary, label, hallucination_type`.
Out: on stdout, for training and validation pairs together: no-ops, repeats, shares of the categories, lengths; the
     share of factual summaries with a simple trigger that yield a negative; the accuracy on held-out notes of
     classifiers that see single texts without the note, compared with unverified edits of the same summaries; the
     share of MEDEC's errors that fall in a category. With --sample_file also 100 random pairs to read.

    python benchmarks/hard_negatives.py
    python benchmarks/hard_negatives.py --medec_csv medec_pairs.csv --sample_file sample.txt --output_file out.json

The intervals of the accuracies resample notes. MTS-Dialog, ACI-Bench and MEDEC are published under CC BY 4.0 by their
authors (Ben Abacha, Yim and others).
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks import hard_negatives_leakage as leakage
from benchmarks import hard_negatives_medec as medec
from benchmarks import hard_negatives_triggers as triggers
from benchmarks.hard_negatives_pairs import Pair, add_data_arguments, read_pairs, read_summaries, read_unsound
from script_io.errors import ArgumentParser, at_least, run_script
from script_io.files import atomic_write, write_json

SAMPLED_PAIRS = 100


def squeezed(text: str) -> str:
    """Return the text in lower case with single spaces."""
    return re.sub(r"\s+", " ", text).strip().lower()


def soundness(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Count no-ops, repeats, categories and lengths. Lengths are in words between white space."""
    categories = Counter(pair.category for pair in pairs)
    seen = Counter((squeezed(pair.note), squeezed(pair.chosen), squeezed(pair.rejected)) for pair in pairs)
    words = [(leakage.count_words(pair.chosen), leakage.count_words(pair.rejected)) for pair in pairs]
    largest, count = categories.most_common(1)[0]
    return {
        "triplets": len(pairs),
        "summaries": len({(pair.split, pair.source_id) for pair in pairs}),
        "no_ops": sum(pair.rejected == pair.chosen for pair in pairs),
        "no_ops_but_for_spaces_and_case": sum(squeezed(pair.rejected) == squeezed(pair.chosen) for pair in pairs),
        "duplicate_pairs": len(pairs) - len(seen),
        "categories": len(categories),
        "by_category": dict(categories.most_common()),
        "largest_category": {"name": largest, "share": round(count / len(pairs), 4)},
        "by_verdict": dict(Counter(pair.edits[0]["verdict"] for pair in pairs).most_common()),
        "mean_words": {
            "chosen": round(sum(chosen for chosen, _ in words) / len(words), 2),
            "rejected": round(sum(rejected for _, rejected in words) / len(words), 2),
        },
        "rejected_in_words": {
            "longer": sum(rejected > chosen for chosen, rejected in words),
            "equal": sum(rejected == chosen for chosen, rejected in words),
            "shorter": sum(rejected < chosen for chosen, rejected in words),
        },
        "edit_position_by_fifth": leakage.edit_positions(
            [(pair.edits[0]["start"], pair.edits[0]["end"], len(pair.chosen)) for pair in pairs]
        ),
    }


def measure(args: argparse.Namespace, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return all figures; print each part as soon as it is known."""
    summaries = read_summaries(args.phase1_dir)
    figures: dict[str, Any] = {"pairs": soundness(pairs)}
    print_soundness(figures["pairs"])
    with_negative = {(pair.split, pair.source_id) for pair in pairs}
    figures["yield"] = triggers.measure(
        [summary for summary, _ in summaries], with_negative, read_unsound(args.phase2_dir)
    )
    print_lines(triggers.report(figures["yield"]))
    texts = [leakage.TextPair(pair.note, pair.chosen, pair.rejected) for pair in pairs]
    figures["single_texts"] = leakage.measure(texts, args.seed)
    print_lines(leakage.report("Single texts, chosen or rejected", figures["single_texts"]))
    figures["unverified_edits"] = measure_unverified(summaries, args.seed)
    if args.medec_csv:
        figures["medec"], single = medec.measure(args.medec_csv, args.seed)
        print_lines(medec.report(figures["medec"]))
        print_lines(medec.missed(single) if args.verbose else [])
    return figures


def measure_unverified(summaries: Sequence[tuple[triggers.Summary, str]], seed: int) -> dict[str, Any]:
    """Measure the same classifiers on unverified edits of the same summaries."""
    pairs, shares = leakage.unverified_pairs([(note, summary.text) for summary, note in summaries], seed)
    figures = {**shares, **leakage.measure(pairs, seed)}
    print_lines(leakage.report("For comparison, unverified edits of the same summaries", figures))
    no_ops = ", ".join(f"{share:.1%} of {name}s" for name, share in shares["no_op_share"].items())
    print(f"  changed nothing: {no_ops}; of what is left {shares['template_share']:.1%} is a pasted sentence")
    return figures


def print_lines(lines: Iterable[str]) -> None:
    """Print the lines and flush, since the next part may take a minute."""
    for line in lines:
        print(line, flush=True)


def print_soundness(figures: dict[str, Any]) -> None:
    """Print the counts of `soundness`."""
    print(
        f"{figures['triplets']} triplets of {figures['summaries']} summaries, {figures['no_ops']} no-ops "
        f"({figures['no_ops_but_for_spaces_and_case']} but for spaces and case), {figures['duplicate_pairs']} repeats"
    )
    largest = figures["largest_category"]
    print(f"{figures['categories']} categories, the largest {largest['name']} with {largest['share']:.1%}")
    print("  " + ", ".join(f"{name} {count}" for name, count in figures["by_category"].items()))
    lengths, words = figures["rejected_in_words"], figures["mean_words"]
    print(f"Mean words {words['chosen']} chosen, {words['rejected']} rejected; rejected longer {lengths['longer']}, "
          f"equal {lengths['equal']}, shorter {lengths['shorter']}")  # fmt: skip
    print(f"Edits by fifth of the text: {figures['edit_position_by_fifth']}")


def marked(pair: Pair) -> str:
    """Return the chosen text with each edit as [[old -> new]]."""
    text = pair.chosen
    for edit in sorted(pair.edits, key=lambda edit: -edit["start"]):
        text = f"{text[: edit['start']]}[[{edit['old']} -> {edit['new']}]]{text[edit['end'] :]}"
    return text


def write_sample(path: Path, pairs: Sequence[Pair], seed: int) -> None:
    """Write random pairs with their notes, for a person to read."""
    sample = random.Random(seed).sample(list(pairs), min(SAMPLED_PAIRS, len(pairs)))
    with atomic_write(path) as handle:
        for number, pair in enumerate(sample, start=1):
            handle.write(f"=== {number}. {pair.pair_id}  {pair.category}  {pair.edits[0]['verdict']}\n")
            handle.write(f"NOTE\n{pair.note}\n\nCHOSEN [[old -> new]] \n{marked(pair)}\n\n")
    print(f"Wrote {len(sample)} pairs to {path}")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = add_data_arguments(parser)
    data.add_argument("--medec_csv", type=Path, help="CSV of MEDEC sentences to measure the recall on (default: none)")
    statistics = parser.add_argument_group("Statistics")
    statistics.add_argument(
        "--seed", type=at_least(0), default=42, help="seed of the folds, the bootstrap and the sample"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, help="JSON file for the figures (default: print only)")
    output.add_argument("--sample_file", type=Path, help="text file for 100 random pairs (default: none)")
    output.add_argument("--verbose", action="store_true", help="list the errors of --medec_csv that no category covers")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    pairs = read_pairs(args.phase2_dir)
    figures = measure(args, pairs)
    if args.sample_file:
        write_sample(args.sample_file, pairs, args.seed)
    if args.output_file:
        write_json(args.output_file, figures)
        print(f"Wrote {args.output_file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
