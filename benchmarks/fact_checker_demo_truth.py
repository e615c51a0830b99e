"""Compare the fact checker's verdict with the truth on the demo's notes, where every fact is known.

In:  nothing; notes, true summaries and wrong summaries are made here (demo/cases.py, demo/clinical_notes.py). With
     --results_csv also the summaries of a model: `evaluation_results.csv` files over notes of the split.
Out: on stdout, with n and Wilson 95% intervals: specificity (true summaries without a flag; short ones as in training,
     and full ones that state every kind of fact), sensitivity (wrong summaries with a flag; one per note), sensitivity
     by type of error, and both again for errors that no single word shows. With --output_dir also
     `fact_checker_demo_truth.json` and `demo_disagreements.html`, with both texts of every disagreement.

    python benchmarks/fact_checker_demo_truth.py
    python benchmarks/fact_checker_demo_truth.py --results_csv runs/demo/evaluation/*/evaluation_results.csv

A wrong summary is made in three ways: one fact of a full true summary comes from another patient,
`with_one_wrong_fact` changes a short one, or two facts of the note are exchanged, so that every word and number of the
summary is in the note. Only the facts decide what is wrong: if the note has "twice daily", "every 12 hours" is wrong by
the facts, while the checker takes both for the same. If a model's summary has a part that is no statement of the demo,
its exact truth is unknown, and it is left out and counted. The notes come from templates with simple negation and
reference, so these figures show what the rules do on text that is easy to parse.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from benchmarks.disagreements import Disagreement, Section, write_page
from benchmarks.shares import Share, share, share_line
from demo.cases import NOTES, DemoCase, make_cases
from demo.clinical_notes import Facts, check_summary, summary_and_kinds, true_statements, with_one_wrong_fact
from fact_checking import checker
from fact_checking.claims import FactCheck
from script_io.csv_files import read_csv
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

FIGURES_FILE, DISAGREEMENTS_FILE = "fact_checker_demo_truth.json", "demo_disagreements.html"
TRUE_SHORT, TRUE_FULL = "true, short", "true, full"
UNPARSED = "unparsed"


@dataclass(frozen=True)
class Judged:
    """A summary with its truth and the checker's verdict; `kind` is its type of error or the kind of true summary."""

    name: str
    kind: str
    note: str
    summary: str
    is_wrong: bool
    check: FactCheck

    @property
    def agrees(self) -> bool:
        """Return whether checker and truth say the same."""
        return self.check.has_hallucination == self.is_wrong


def judged(name: str, kind: str, note: str, summary: str, facts: Facts) -> Judged:
    """Compare the summary with the facts and, through the checker, with the note."""
    is_wrong = bool(check_summary(summary, facts).errors)
    return Judged(name, kind, note, summary, is_wrong, checker.check_summary(note, summary))


def full_summary(facts: Facts, wording: int) -> str:
    """Return a summary with one statement of every kind that the facts allow."""
    return ". ".join(true_statements(facts, random.Random(wording)).values()) + "."


def wrong_summaries(case: DemoCase, others: Sequence[DemoCase], rng: random.Random) -> dict[str, str]:
    """Return {type of error: a summary with only that error}.

    It holds the types that this note and the drawn patients allow.
    """
    wording = rng.getrandbits(32)
    found: dict[str, str] = {}
    for name in (each.name for each in fields(Facts)):
        other = replace(case.facts, **{name: getattr(rng.choice(others).facts, name)})
        _keep_if_wrong(found, case.facts, full_summary(other, wording))
    for _ in range(3):
        other, _kind = with_one_wrong_fact(case.facts, rng)
        _keep_if_wrong(found, case.facts, summary_and_kinds(other, random.Random(wording))[0])
    return found


def _keep_if_wrong(found: dict[str, str], facts: Facts, summary: str) -> None:
    errors = set(check_summary(summary, facts).errors)
    if len(errors) == 1:
        found.setdefault(errors.pop(), summary)


def misplaced_facts(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """Yield what is confused, and the facts in which one thing of the note replaces another thing of the note."""
    first, *rest = facts.started
    symptom, systolic = facts.symptom, facts.blood_pressure[0]
    yield "denied symptom as present", replace(facts, symptom=facts.denied[0])
    yield "present symptom as denied", replace(facts, denied=(symptom,))
    yield "diagnosis as ruled out", replace(facts, ruled_out=facts.diagnosis)
    yield "pressure as heart rate", replace(facts, heart_rate=systolic)
    if facts.second_symptom:
        yield "duration of other symptom", replace(facts, symptom=facts.second_symptom, second_symptom=symptom)
    if rest:
        exchanged = (
            replace(first, dose=rest[0].dose, unit=rest[0].unit),
            replace(rest[0], dose=first.dose, unit=first.unit),
        )
        yield "dose of other drug", replace(facts, started=(*exchanged, *rest[1:]))
    if facts.stopped:
        yield "started drug as stopped", replace(facts, stopped=first)
        yield "stopped drug as started", replace(facts, started=(facts.stopped, *rest))
    if facts.allergy:
        yield "allergy as started drug", replace(facts, started=(replace(first, drug=facts.allergy), *rest))
        yield "started drug as allergy", replace(facts, allergy=first.drug)
    if facts.ruled_out:
        yield "ruled out as diagnosis", replace(facts, diagnosis=facts.ruled_out, ruled_out=None)
    if facts.family_history:
        relative, condition = facts.family_history
        yield "relative's as diagnosis", replace(facts, diagnosis=condition, family_history=None)
        yield "diagnosis as relative's", replace(facts, family_history=(relative, facts.diagnosis))
    if facts.follow_up:
        yield "follow-up as duration", replace(facts, duration=facts.follow_up)
        yield "duration as follow-up", replace(facts, follow_up=facts.duration)


def misplaced_summaries(case: DemoCase, wording: int) -> dict[str, str]:
    """Return {what is confused: a full summary that confuses it}, without those pairs that happen to be equal."""
    texts = {name: full_summary(other, wording) for name, other in misplaced_facts(case.facts)}
    return {name: text for name, text in texts.items() if check_summary(text, case.facts).errors}


@dataclass
class DemoSummaries:
    """All made summaries: true ones, and wrong ones of two kinds.

    `one_wrong` and `one_misplaced` hold one summary of each wrong kind per note.
    """

    true: list[Judged] = field(default_factory=list)
    wrong: list[Judged] = field(default_factory=list)
    misplaced: list[Judged] = field(default_factory=list)
    one_wrong: list[Judged] = field(default_factory=list)
    one_misplaced: list[Judged] = field(default_factory=list)

    @property
    def all(self) -> list[Judged]:
        """Return each summary once."""
        return [*self.true, *self.wrong, *self.misplaced]


def judge_demo(cases: Sequence[DemoCase], seed: int) -> DemoSummaries:
    """Make and judge the summaries of the cases."""
    rng = random.Random(f"{seed}|demo truth")
    made = DemoSummaries()
    for case in cases:
        wording = rng.getrandbits(32)
        true = {TRUE_SHORT: case.summary, TRUE_FULL: full_summary(case.facts, wording)}
        made.true += _judge_all(case, true)
        made.wrong += (wrong := _judge_all(case, wrong_summaries(case, cases, rng)))
        made.misplaced += (misplaced := _judge_all(case, misplaced_summaries(case, wording)))
        made.one_wrong.append(rng.choice(wrong))
        made.one_misplaced.append(rng.choice(misplaced))
    return made


def _judge_all(case: DemoCase, texts: Mapping[str, str]) -> list[Judged]:
    return [judged(case.id, kind, case.note, text, case.facts) for kind, text in texts.items()]


def read_model_summaries(path: Path, facts: Mapping[str, Facts]) -> Iterator[Judged]:
    """Yield the summaries of one evaluation, judged; `facts` are by note. Raises InputError for an unknown note."""
    for line, row in read_csv(path, ("example_id", "clinical_note", "generated_summary")):
        note = row["clinical_note"]
        if note not in facts:
            raise InputError(f"{path}, line {line}: the note is none of the demo's split; name its --split")
        yield judged(row["example_id"], "model", note, row["generated_summary"], facts[note])


def agreement(summaries: Sequence[Judged]) -> dict[str, Any]:
    """Return sensitivity and specificity."""
    return {
        "sensitivity": share(each.agrees for each in summaries if each.is_wrong),
        "specificity": share(each.agrees for each in summaries if not each.is_wrong),
    }


def measure_demo(made: DemoSummaries) -> dict[str, Any]:
    """Return the figures of the summaries that were made here."""
    return {
        "specificity": _by_kind(made.true),
        "sensitivity_one_a_note": share(each.agrees for each in made.one_wrong),
        "sensitivity_by_type": _by_kind(made.wrong),
        "misplaced_one_a_note": share(each.agrees for each in made.one_misplaced),
        "misplaced_by_kind": _by_kind(made.misplaced),
    }


def _by_kind(summaries: Sequence[Judged]) -> dict[str, Share]:
    kinds = sorted({each.kind for each in summaries})
    return {kind: share(each.agrees for each in summaries if each.kind == kind) for kind in kinds}


def measure_model(path: Path, facts: Mapping[str, Facts]) -> tuple[dict[str, Any], list[Judged]]:
    """Return the figures of one model's summaries, and the summaries with a known exact truth."""
    found = list(read_model_summaries(path, facts))
    exact = [each for each in found if UNPARSED not in check_summary(each.summary, facts[each.note]).errors]
    return {"summaries": len(found), "without_exact_truth": len(found) - len(exact), **agreement(exact)}, exact


def print_figures(figures: dict[str, Any]) -> None:
    """Print the tables."""
    demo = figures["demo"]
    print(f"Demo notes: {figures['split']} split")
    for kind, figure in demo["specificity"].items():
        print(share_line(f"specificity, {kind}", figure))
    for title, one_a_note, by_kind in (
        ("sensitivity, one a note", "sensitivity_one_a_note", "sensitivity_by_type"),
        ("misplaced, one a note", "misplaced_one_a_note", "misplaced_by_kind"),
    ):
        print(share_line(title, demo[one_a_note]))
        for kind, figure in demo[by_kind].items():
            print(share_line(f"  {kind}", figure))
    for path, figure in figures["models"].items():
        print(f"{path}: {figure['summaries']} summaries, {figure['without_exact_truth']} without exact truth")
        print(share_line("sensitivity", figure["sensitivity"]))
        print(share_line("specificity", figure["specificity"]))


def write_disagreements(path: Path, summaries: Sequence[Judged]) -> None:
    """Write the page with the disagreements."""
    found = {
        wrong: [
            Disagreement(each.name, each.kind, each.note, each.summary, each.check.errors)
            for each in summaries
            if each.is_wrong == wrong and not each.agrees
        ]
        for wrong in (False, True)
    }
    sections = (
        Section("True, but flagged", "False alarms of the checker.", found[False]),
        Section("Wrong, not flagged", "The type of error follows the name.", found[True]),
    )
    write_page(path, "The fact checker and the truth", f"{len(summaries)} summaries.", sections)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument("--split", choices=sorted(NOTES), default="test", help="split of the demo")
    data.add_argument("--max_notes", type=at_least(1), help="notes to use (default: all notes of the split)")
    data.add_argument(
        "--results_csv",
        type=Path,
        nargs="+",
        default=[],
        help="evaluation_results.csv files over notes of the split (default: none)",
    )
    data.add_argument("--seed", type=at_least(0), default=42, help="seed of the wrong summaries")
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir", type=Path, help=f"folder for {FIGURES_FILE} and {DISAGREEMENTS_FILE} (default: print only)"
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Make and judge summaries, then print and write the figures."""
    cases = make_cases(args.split)
    facts = {case.note: case.facts for case in cases}
    models, everything = {}, []
    for path in args.results_csv:
        name = f"{path.parent.name}/{path.name}"  # without the folders of this machine
        models[name], exact = measure_model(path, facts)
        everything += exact
    made = judge_demo(cases[: args.max_notes], args.seed)
    everything += made.all
    figures = {"split": args.split, "seed": args.seed, "demo": measure_demo(made), "models": models}
    print_figures(figures)
    if args.output_dir:
        write_json(args.output_dir / FIGURES_FILE, figures)
        write_disagreements(args.output_dir / DISAGREEMENTS_FILE, everything)
        print(f"Wrote {FIGURES_FILE} and {DISAGREEMENTS_FILE} to {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
