"""Measure how often a model's summaries state what their notes do not support.

In:  a model and a test CSV (`id, clinical_note, model_summary, label`), or with --predictions summaries from elsewhere
     (CSV or JSONL with `clinical_note, generated_summary` and optionally `id, reference_summary`).
Out: in --output_dir `evaluation_results.csv` (one row per summary), `evaluation_summary.json` (rates with intervals)
     and `report.html` (both, for a browser).

    python evaluation/evaluate_model.py --model_path models/dpo_hallucination_resistant/final_model
    python evaluation/evaluate_model.py --predictions predictions.csv --output_dir evaluation_results/elsewhere

Each distinct note is summarised once. Its reference is its first summary labelled factual or factual_with_evidence.
evaluation/metrics.py defines all figures. The same command continues a run that was stopped: --output_dir keeps each
finished summary as long as model, notes and settings are the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons, lexicon_settings
from evaluation.judge_accuracy import add_accuracy_argument, read_judge_accuracy
from evaluation.metrics import ROW_COLUMNS, Example, Row, Summary, aggregate, grades_text, summary_row
from evaluation.partial_summaries import PartialSummaries
from evaluation.report import write_evaluation_report
from fact_checking.claims import without_citations
from judging.choice import add_judge_arguments, independent_judge, judge_of_arguments, usage_text
from judging.judge import Judge
from judging.pair_makers import has_made_pairs, is_relative, judges_of_training_pairs, model_of_judge
from language_model.model_files import model_state
from language_model.placement import add_base_model_argument, add_model_arguments
from language_model.prompt_flags import PROMPT_FLAGS, template_content
from language_model.prompt_format import build_prompt
from language_model.sampler_flags import add_sampling_arguments, local_sampler, sampling_settings
from script_io.columns_flag import EVALUATION_ROLES, add_columns_argument, column_names
from script_io.csv_files import write_csv
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import refuse_overwriting, write_json
from script_io.folder_lock import lock_folder
from script_io.phase1_csv import DATA_REMEDY, FACTUAL_LABELS, REQUIRED_COLUMNS, row_problem
from script_io.phase1_files import stream_phase1
from script_io.provenance import package_versions
from script_io.stop_signals import told_when_stopped
from script_io.tables import Place, repeated_id, stream_table

if TYPE_CHECKING:
    from language_model.local_sampler import LocalSampler

TEST_REMEDY = f"{DATA_REMEDY}, or name yours with --test_data"
PACKAGES = ("torch", "transformers", "peft", "rouge-score", "nltk", "numpy", "scipy")  # what the figures depend on
# below this coverage, or this length relative to the references, the hallucination rate alone would mislead
LOW_COVERAGE, SHORT = 0.3, 0.5
# all settings that a summary depends on; the batch size, often lowered after running out of memory, is not one of them
GENERATION_SETTINGS = (
    *("model_path", "base_model", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "overflow"),
    *("device", "dtype", "use_8bit", "use_4bit", "trust_remote_code", "keep_thinking", *PROMPT_FLAGS),
)
RESULTS_FILE, SUMMARY_FILE, REPORT_FILE = "evaluation_results.csv", "evaluation_summary.json", "report.html"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    model = parser.add_argument_group("Model (or --predictions)")
    source = model.add_mutually_exclusive_group(required=True)
    source.add_argument("--model_path", help="adapter or whole model, a folder or a hub id (default: none)")
    source.add_argument(
        "--predictions",
        type=Path,
        help="table of summaries to evaluate without a model: CSV, TSV, JSONL, JSON array or Parquet (default: none)",
    )
    add_base_model_argument(model)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--test_data",
        type=Path,
        default=Path("phase1_data/sft/test_set_processed.csv"),
        help="Phase 1 file of notes and reference summaries, ignored with --predictions (default: %(default)s)",
    )
    add_columns_argument(data, EVALUATION_ROLES)
    data.add_argument(
        "--max_examples", type=at_least(1), help="number of notes to evaluate, from the top of the file (default: all)"
    )
    add_lexicon_argument(data)
    add_sampling_arguments(parser, temperature=0.0)
    add_judge_arguments(parser, with_rubric=True)
    add_model_arguments(parser)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        type=Path,
        default=Path("evaluation_results"),
        help="folder for the results (default: %(default)s)",
    )
    add_accuracy_argument(output)
    return parser.parse_args(argv)


def read_test_data(path: Path, columns: Mapping[str, str] | None = None) -> list[Example]:
    """Return one example for each distinct note, in the order of the file.

    The reference is the first factual summary of the note. A row may have a note alone, without summary and label.
    How many rows repeat a note is printed.
    """
    examples: dict[str, Example] = {}
    ids: dict[str, Place] = {}
    count = 0
    for place, row in stream_phase1(path, columns, ("id", *REQUIRED_COLUMNS), TEST_REMEDY):
        count += 1
        note = row["clinical_note"]
        is_note_alone = note.strip() and not row["model_summary"].strip() and not row["label"].strip()
        if not is_note_alone and (problem := row_problem(row)):
            raise InputError(f"{path}, {place}: {problem}")
        if note in examples and examples[note].reference:
            continue
        if note not in examples and (problem := repeated_id(row["id"], place, ids)):
            raise InputError(f"{path}, {place}: {problem}")
        if row["label"] in FACTUAL_LABELS:
            examples[note] = Example(row["id"], note, _plain(row["model_summary"]), row["label"])
        else:
            examples.setdefault(note, Example(row["id"], note, "", ""))
    if repeats := count - len(examples):
        print(f"{path}: {repeats} of {count} rows repeat an earlier note; each note is evaluated once")
    return list(examples.values())


def _plain(summary: str) -> str:
    return without_citations(summary).strip()


def read_predictions(path: Path, columns: Mapping[str, str] | None = None) -> tuple[list[Example], list[Summary]]:
    """Return the notes of a file, with references if it has any, and their summaries."""
    examples, summaries = [], []
    ids: dict[str, Place] = {}
    for place, row in stream_table(path, ("clinical_note", "generated_summary"), columns=columns):
        wrong = [key for key in ("clinical_note", "generated_summary") if not isinstance(row[key], str)]
        if wrong or not row["clinical_note"].strip():
            raise InputError(
                f"{path}, {place}: {(wrong or ['clinical_note'])[0]} is empty or not text; correct the row"
            )
        given = (row.get(key) for key in ("id", "example_id"))
        example_id = next((str(cell) for cell in given if cell not in (None, "")), place.row_id)  # 0 is a valid id
        if example_id in ids:
            raise InputError(f"{path}, {place}: id {example_id} is already used on {ids[example_id]}; rename one")
        ids[example_id] = place
        reference = _plain(_unix_lines(str(row.get("reference_summary") or "")))
        examples.append(Example(example_id, _unix_lines(row["clinical_note"]), reference, str(row.get("label") or "")))
        summaries.append(Summary(_unix_lines(row["generated_summary"]), _known_end(row.get("finished"))))
    return examples, summaries


def _unix_lines(text: str) -> str:
    """Return the text with \\n as the only line end, as the results are read back, so that offsets stay valid."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _known_end(cell: Any) -> bool | None:
    return {"1": True, "true": True, "0": False, "false": False}.get(str(cell).lower())


def partial_summaries(args: argparse.Namespace) -> PartialSummaries:
    """Return the file that keeps the summaries of this model with these settings."""
    settings = {name: getattr(args, name) for name in GENERATION_SETTINGS} | template_content(args)
    return PartialSummaries(args.output_dir, {**settings, "files": model_state(args.model_path, args.base_model)})


def generate(
    args: argparse.Namespace, examples: Sequence[Example], partial: PartialSummaries
) -> tuple[list[Example], list[Summary], list[str]]:
    """Return (examples, their summaries, ids of notes too long for the model). Each summary is kept in `partial`."""
    sampling = sampling_settings(args)
    sampler = local_sampler(args, args.model_path, partial.dtypes)
    kept, left_out = _fitting(sampler, examples, args.max_new_tokens)
    done = frozenset(index for index, example in enumerate(kept) if partial.of(example.note))
    if done:
        print(f"{len(done)} of {len(kept)} summaries are there already, from a run that was stopped")
    prompts = [build_prompt(example.note) for example in kept]
    # the batches are those of an uninterrupted run, since sums in other batches are rounded otherwise
    for index, (completion,) in sampler.complete(prompts, sampling, "Summaries", done):
        text = _unix_lines(completion.text)
        partial.append(kept[index].note, Summary(text, completion.finished, completion.seconds))
    summaries = [summary for example in kept if (summary := partial.of(example.note))]
    return kept, summaries, left_out


def _fitting(
    sampler: LocalSampler, examples: Sequence[Example], max_new_tokens: int
) -> tuple[list[Example], list[str]]:
    problems = sampler.too_long([build_prompt(example.note) for example in examples], max_new_tokens)
    too_long = {problem.index for problem in problems}
    if len(too_long) == len(examples):
        raise InputError(f"no note fits into the model; {examples[0].example_id}: {problems[0].reason}")
    for problem in problems:
        print(f"warning: {examples[problem.index].example_id} is left out: {problem.reason}", file=sys.stderr)
    kept = [example for index, example in enumerate(examples) if index not in too_long]
    return kept, [examples[index].example_id for index in sorted(too_long)]


def judge_summaries(judge: Judge, examples: Sequence[Example], summaries: Sequence[Summary]) -> list[Row]:
    """Return the rows of the results, in the order of the examples."""
    pairs = [(example.note, summary.text) for example, summary in zip(examples, summaries, strict=True)]
    checks = judge.check_all(pairs, "Judging")
    marks_errors_alone = getattr(judge, "marks_errors_alone", False)
    return [
        summary_row(*each, marks_errors_alone=marks_errors_alone)
        for each in zip(examples, summaries, checks, strict=True)
    ]


def settings_of(args: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    """Return the entries of `evaluation_summary.json` that say what the figures depend on."""
    generated = args.model_path is not None
    trained_on = judges_of_training_pairs(args.model_path) if generated else None
    return {
        "model": args.model_path or str(args.predictions),
        "judge": judge.name,
        "judge_made_training_pairs": None if trained_on is None else has_made_pairs(judge.name, trained_on),
        "judge_is_relative": is_relative(judge.name, args.model_path) if generated else None,
        "judge_usage": judge.usage,
        "lexicons": lexicon_settings(args.lexicon_dir),
        "test_data": str(args.test_data) if generated else str(args.predictions),
        "temperature": args.temperature if generated else None,
        "max_new_tokens": args.max_new_tokens if generated else None,
        "batch_size": args.batch_size if generated else None,
        "seed": args.seed,
        "versions": package_versions(PACKAGES),
    }


def second_opinion(
    args: argparse.Namespace, judge: Judge, examples: Sequence[Example], summaries: Sequence[Summary]
) -> dict[str, Any] | None:
    """Return the hallucination rate by a judge that made none of the model's training pairs, if `judge` made some."""
    makers = judges_of_training_pairs(args.model_path) if args.model_path else None
    other = independent_judge(judge, makers or ())
    if other is None:
        return None
    figures = aggregate(judge_summaries(other, examples, summaries), args.seed)
    names = ("hallucination_rate", "hallucination_rate_ci95", "n")
    return {"judge": other.name, **{name: figures[name] for name in names}}


def percent(summary: dict[str, Any], name: str) -> str:
    """Return `12.3% (95% interval 8.1% to 18.2%)`, or `not measured`."""
    if summary[name] is None:
        return "not measured"
    low, high = summary[f"{name}_ci95"]
    return f"{summary[name]:.1%} (95% interval {low:.1%} to {high:.1%})"


def print_result(summary: dict[str, Any], output_dir: Path) -> None:
    """Print the figures, the paths of the files and the next command."""
    of_notes = f" of {summary['notes']} notes" if summary["notes"] < summary["summaries"] else ""
    print(f"\nHallucination rate: {percent(summary, 'hallucination_rate')} of {summary['n']} summaries{of_notes}")
    print(f"  with coverage:    {percent(summary, 'coverage')} of the references' facts, n={summary['coverage_n']}")
    print(f"  with length:      {length_text(summary)}; {percent(summary, 'empty_rate')} empty")
    print(f"Claim error rate:   {percent(summary, 'claim_error_rate')}{claims_text(summary)}")
    print(f"Broken off:         {percent(summary, 'unfinished_rate')} of {summary['unfinished_rate_n']}")
    print(f"Repetitive:         {percent(summary, 'repeated_rate')} of {summary['repeated_rate_n']}")
    if summary["citations"]:
        print(f"Citations right:    {percent(summary, 'citation_accuracy')} of {summary['citation_accuracy_n']}")
    if summary["median_seconds"] is not None:
        median, p95 = summary["median_seconds"], summary["p95_seconds"]
        print(f"Seconds a summary:  median {median:.2f}, 95% within {p95:.2f}, at batch size {summary['batch_size']}")
    if summary["judge_grades"]:
        print(f"Grades:             {grades_text(summary['judge_grades'])}")
    print(f"Judge:              {summary['judge']}")
    if second := summary["second_judge"]:
        print(f"Another judge:      {percent(second, 'hallucination_rate')} of {second['n']}, by {second['judge']}")
    if summary["judge_failures"]:
        print(f"Judge failures:     {summary['judge_failures']} of {summary['summaries']} summaries, in no rate above")
    if summary["judge_usage"]:
        print(f"Judge usage:        {usage_text(summary['judge_usage'])}")
    for warning in warnings_of(summary):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"Saved {RESULTS_FILE}, {SUMMARY_FILE} and {REPORT_FILE} to {output_dir}")
    print(f"Next: python manual_assessment_tool.py --results_csv {output_dir / RESULTS_FILE}")
    print(f"  or: python evaluation/compare_models.py {output_dir} OTHER_EVALUATION_FOLDER")


def claims_text(summary: dict[str, Any]) -> str:
    """Return ` of 212 claims`, or why a judge that found errors has no claim error rate."""
    if summary["claim_error_rate"] is None and summary["by_type"]:
        return ": this judge marks what it doubts, and calls no claim supported"
    return f" of {summary['claims']} claims"


def length_text(summary: dict[str, Any]) -> str:
    """Return `12.3 words on average (references: 25.1)`."""
    words, references = summary["mean_summary_words"], summary["mean_reference_words"]
    return f"{words:.1f} words on average" + (f" (references: {references:.1f})" if references is not None else "")


def warnings_of(summary: dict[str, Any]) -> list[str]:
    """Return the reasons why the hallucination rate alone would mislead."""
    words, references = summary["mean_summary_words"], summary["mean_reference_words"]
    found = []
    covers_little = summary["coverage"] is not None and summary["coverage"] < LOW_COVERAGE
    if covers_little or (references is not None and words < SHORT * references):
        found.append(
            "these summaries say little, so a low hallucination rate does not mean much; see coverage and length"
        )
    if summary["judge_made_training_pairs"]:
        found.append(
            f"the judge {model_of_judge(summary['judge'])} made the pairs that this model was trained on, so it rates "
            "the model better than other judges do; use another judge (--judge nli, --judge openai) or people "
            "(manual_assessment_tool.py)"
        )
    if summary["judge_is_relative"]:
        found.append(
            f"the judge {summary['judge']} and the model come from the same base, so the judge shares its habits and "
            "rates it better than other judges do; use a judge with another base, or people"
        )
    return found


def main(args: argparse.Namespace) -> int:
    """Generate or read summaries, judge them and write the results."""
    refuse_overwriting(args.predictions, [args.output_dir / RESULTS_FILE], "--output_dir")
    with lock_folder(args.output_dir):
        return evaluate(args)


def evaluate(args: argparse.Namespace) -> int:
    """Do what the script is for, while no other run writes to the same folder; return the exit code."""
    add_lexicons(args.lexicon_dir)
    # a model that generates sets the threads itself
    judge = judge_of_arguments(args, args.device, args.num_threads if args.predictions else 0)
    read_judge_accuracy(args.judge_accuracy, judge.name)  # a wrong file fails here rather than after the summaries
    partial = None if args.predictions else partial_summaries(args)
    with told_when_stopped(lambda: partial.kept() if partial else ""):
        write_results(args, judge, partial)
    return 0


def write_results(args: argparse.Namespace, judge: Judge, partial: PartialSummaries | None) -> None:
    """Read summaries, or generate those that are not in `partial`; judge them, and write and print the figures."""
    left_out: list[str] = []
    columns = column_names(args.columns, EVALUATION_ROLES)
    if partial is None:
        examples, summaries = read_predictions(args.predictions, columns)
        examples, summaries = examples[: args.max_examples], summaries[: args.max_examples]
        print(f"Loaded {len(examples)} examples from {args.predictions}")
    else:
        examples = read_test_data(args.test_data, columns)[: args.max_examples]
        print(f"Loaded {len(examples)} examples from {args.test_data}")
        examples, summaries, left_out = generate(args, examples, partial)
    rows = judge_summaries(judge, examples, summaries)
    summary = {**settings_of(args, judge), "left_out": left_out, **aggregate(rows, args.seed)}
    summary["second_judge"] = second_opinion(args, judge, examples, summaries)
    write_csv(args.output_dir / RESULTS_FILE, ROW_COLUMNS, rows)
    write_json(args.output_dir / SUMMARY_FILE, summary)
    write_evaluation_report(args.output_dir, args.judge_accuracy)
    if partial:
        partial.remove()
    print_result(summary, args.output_dir)


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
