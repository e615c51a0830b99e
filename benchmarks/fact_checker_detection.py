"""Measure how many deliberate errors the fact checker finds, and how often it flags a true text.

In:  the Phase 1 CSV files, and the folder that generate_phase2_data.py made from them. Optional: MEDEC's right and
     wrong sentences as a CSV of `note_id, clinical_note, model_summary, label, hallucination_type`.
Out: on stdout, with n and Wilson 95% intervals: the share of hard negatives with an error that the true version does
     not have, also by category and for lexically invisible edits; the share with a flag of the true versions, of all
     factual summaries of the CSV files, and of MEDEC's right sentences. With --output_dir also
     `fact_checker_detection.json` (figures only) and `undetected_and_false_alarms.html` (with the texts).

    python benchmarks/fact_checker_detection.py
    python benchmarks/fact_checker_detection.py --phase1_dir real --phase2_dir real_dpo --medec_csv medec_pairs.csv

An edit is lexically invisible if the note has every word and number that the edit adds, so that comparing words cannot
find it. Edits of the categories entity_merge, cause and order always are; edits of the others can be.

The detected shares are upper bounds: the generator keeps a negative only if its parser reads the change, and the
checker uses the same parser. The kept true versions have passed `unsound_claims`, which counts only the surest errors
in a dialogue. The factual summaries of a CSV file are not filtered, so a flag on one is a false alarm only if its label
is right (the demo's training summaries are wrong on purpose, see demo/cases.py; fact_checker_demo_truth.py uses true
ones). MEDEC's right sentences are copied from their note.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.disagreements import Disagreement, Section, write_page
from benchmarks.hard_negatives_medec import read_pairs as read_medec
from benchmarks.hard_negatives_pairs import Pair, add_data_arguments, read_pairs, read_summaries
from benchmarks.shares import Share, share, share_line
from clinical.text import dialogue_turns, regular_form
from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from script_io.errors import ArgumentParser, run_script
from script_io.files import write_json

INVISIBLE = frozenset({"cause", "entity_merge", "order"})  # they move what the note says about something else
FIGURES_FILE, DISAGREEMENTS_FILE = "fact_checker_detection.json", "undetected_and_false_alarms.html"


@dataclass(frozen=True)
class Checked:
    """A hard negative with the checker's result for both of its texts."""

    pair: Pair
    chosen: FactCheck
    rejected: FactCheck

    @property
    def detected(self) -> bool:
        """Return whether the rejected text has an error that the chosen text does not have."""
        return bool(_errors(self.rejected) - _errors(self.chosen))

    @property
    def ranked(self) -> bool:
        """Return whether the rejected text has the worse score."""
        return self.rejected.score > self.chosen.score

    @property
    def invisible(self) -> bool:
        """Return whether the note has every word and number that the edits add."""
        return _words_of(" ".join(edit["new"] for edit in self.pair.edits)) <= _words_of(self.pair.note)


def _errors(check: FactCheck) -> Counter[tuple[str, str, str]]:
    return Counter((error.type, error.text, error.verdict) for error in check.errors)


@cache
def _words_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", regular_form(text).text.lower()))


def detection(checked: Sequence[Checked]) -> dict[str, Any]:
    """Return the detected shares: of all negatives, of the invisible ones, and by category."""
    by_category: dict[str, list[Checked]] = defaultdict(list)
    for each in checked:
        by_category[each.pair.category].append(each)
    return {
        "all": share(each.detected for each in checked),
        "scored_worse": share(each.ranked for each in checked),
        "lexically_invisible": share(each.detected for each in checked if each.invisible),
        "by_category": {
            name: {**share(each.detected for each in group), "lexically_invisible": sum(e.invisible for e in group)}
            for name, group in sorted(by_category.items())
        },
    }


def false_alarms(texts: Sequence[tuple[str, str]], check: Callable[[str, str], FactCheck]) -> dict[str, Share]:
    """Return the share of (note, true summary) pairs with an error: of all, of dialogues, of written notes."""
    flagged = [(bool(dialogue_turns(note)), check(note, summary).has_hallucination) for note, summary in texts]
    groups = {"all": (True, False), "dialogues": (True,), "written_notes": (False,)}
    return {name: share(flag for dialogue, flag in flagged if dialogue in kinds) for name, kinds in groups.items()}


def measure_medec(path: Path, check: Callable[[str, str], FactCheck]) -> dict[str, Any]:
    """Return the shares of flagged right sentences and of flagged wrong ones, also by MEDEC's type of error."""
    pairs = read_medec(path)
    wrong = [(pair.error, check(pair.note, pair.wrong).has_hallucination) for pair in pairs]
    return {
        "right_flagged": share(check(pair.note, pair.right).has_hallucination for pair in pairs),
        "wrong_flagged": share(flag for _, flag in wrong),
        "wrong_flagged_by_type": {
            kind: share(flag for error, flag in wrong if error == kind) for kind in sorted({e for e, _ in wrong})
        },
    }


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Checked]]:
    """Return all figures, and the checked hard negatives."""
    check = cache(check_summary)  # several negatives share their true version
    pairs = read_pairs(args.phase2_dir)
    checked = [Checked(p, check(p.note, p.chosen), check(p.note, p.rejected)) for p in pairs]
    true_versions = list(dict.fromkeys((pair.note, pair.chosen) for pair in pairs))
    summaries = [(note, summary.text) for summary, note in read_summaries(args.phase1_dir)]
    figures: dict[str, Any] = {
        "detected": detection(checked),
        "true_versions_flagged": false_alarms(true_versions, check),
        "factual_summaries_flagged": false_alarms(summaries, check),
    }
    if args.medec_csv:
        figures["medec"] = measure_medec(args.medec_csv, check)
    return figures, checked


def print_figures(figures: dict[str, Any]) -> None:
    """Print the tables."""
    detected = figures["detected"]
    print("Hard negatives detected (upper bounds: the generator and the checker share their parser)")
    print(share_line("all", detected["all"]))
    print(share_line("all, scored worse", detected["scored_worse"]))
    print(share_line("lexically invisible", detected["lexically_invisible"]))
    for category, figure in detected["by_category"].items():
        made_so = ", made to be lexically invisible" if category in INVISIBLE else ""
        print(f"{share_line(category, figure)}; {figure['lexically_invisible']} invisible{made_so}")
    for name, title in (
        ("true_versions_flagged", "True versions flagged (they have passed the generator's own check)"),
        ("factual_summaries_flagged", "Factual summaries of the CSV files flagged (unfiltered, as labelled)"),
    ):
        print(title)
        for group, figure in figures[name].items():
            print(share_line(group.replace("_", " "), figure))
    if "medec" in figures:
        print("MEDEC (the note contains the right sentence word for word)")
        print(share_line("right sentences flagged", figures["medec"]["right_flagged"]))
        print(share_line("wrong sentences flagged", figures["medec"]["wrong_flagged"]))
        for kind, figure in figures["medec"]["wrong_flagged_by_type"].items():
            print(share_line(f"  {kind}", figure))


def write_disagreements(path: Path, checked: Sequence[Checked]) -> None:
    """Write the page with the undetected negatives and the flagged true versions."""
    undetected = [
        Disagreement(
            each.pair.pair_id, _edits_in_words(each.pair), each.pair.note, each.pair.rejected, each.rejected.errors
        )
        for each in checked
        if not each.detected
    ]
    alarms = {
        (each.pair.note, each.pair.chosen): Disagreement(
            each.pair.source_id, each.pair.split, each.pair.note, each.pair.chosen, each.chosen.errors
        )
        for each in checked
        if each.chosen.has_hallucination
    }
    sections = (
        Section("Not detected", "The edit after the name is wrong by the generator's rules.", undetected),
        Section("True versions flagged", "Labelled factual; the label may be wrong.", list(alarms.values())),
    )
    lead = f"{len(checked)} hard negatives, {len(undetected)} not detected, {len(alarms)} true versions flagged."
    write_page(path, "The fact checker on hard negatives", lead, sections)


def _edits_in_words(pair: Pair) -> str:
    return f"{pair.category}: " + "; ".join(f"“{edit['old']}” → “{edit['new']}”" for edit in pair.edits)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = add_data_arguments(parser)
    data.add_argument("--medec_csv", type=Path, help="CSV of MEDEC sentences to measure on as well (default: none)")
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        type=Path,
        help=f"folder for {FIGURES_FILE} and {DISAGREEMENTS_FILE}, which contains the texts (default: print only)",
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    figures, checked = measure(args)
    print_figures(figures)
    if args.output_dir:
        write_json(args.output_dir / FIGURES_FILE, figures)
        write_disagreements(args.output_dir / DISAGREEMENTS_FILE, checked)
        print(f"Wrote {FIGURES_FILE} and {DISAGREEMENTS_FILE} to {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
