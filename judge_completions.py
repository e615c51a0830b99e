"""Judge sampled summaries and make preference pairs from them: for each prompt, a sound and a flawed summary.

In:  `completions.jsonl` from `generate_completions.py`: {prompt, completions} and optionally {id, clinical_note,
     reference, finished}.
Out: in --output_dir `preferences.jsonl` (all pairs), `train.jsonl` and `val.jsonl` (the same pairs for Stage B, split
     so that no prompt is in both) and `judge_stats.json` (the number of prompts by outcome, and other figures).

    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl
    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl --val_fraction 0.2

The completeness of a completion is the share of the reference's true facts that it states. judging/preference_pairs.py
describes which two texts make a pair. A judge with probabilities (--judge detector, --judge likelihood, --judge facts
with --evidence_model) abstains where it is not sure, instead of guessing.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons, lexicon_settings
from evaluation.stats import ratio, ratio_interval
from fact_checking.checker import coverage
from fact_checking.claims import FactCheck
from judging.choice import add_judge_arguments, judge_of_arguments, usage_text
from judging.judge import Judge
from judging.preference_pairs import OUTCOMES, JudgedCompletion, PairingResult, PairLimits, closeness, make_pair
from language_model.prompt_format import note_of_row
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import read_jsonl, write_json, write_jsonl

COMPLETIONS_REMEDY = "make it with: python generate_completions.py"
MOST_LENGTH_BIAS = 0.1  # a larger relative difference between the mean numbers of words is a warning
LENGTH_RATIO = 1.6  # default of --max_length_ratio for a judge with probabilities


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--completions_path", type=Path, required=True, metavar="FILE", help="JSONL of completions to judge"
    )
    data.add_argument(
        "--val_fraction",
        type=float,
        default=0.1,
        help="share of the prompts whose pairs go to val.jsonl, from 0 to below 1; above 0, at least one of several "
        "prompts",
    )
    data.add_argument(
        "--min_margin",
        type=float,
        default=0.0,
        help="smallest number, 0 or more, by which the score of the rejected text must exceed the score of the chosen "
        "one; the facts judge adds 1 to the score per error and less per doubtful claim; the score of a judge with "
        "probabilities is the probability",
    )
    data.add_argument(
        "--max_length_ratio",
        type=float,
        metavar="RATIO",
        help="largest ratio, 1 or more, of the number of words of the rejected text and of the chosen one (default: "
        f"{LENGTH_RATIO} for a judge with probabilities, else none)",
    )
    data.add_argument(
        "--chosen_below",
        type=float,
        metavar="PROBABILITY",
        help="probability of an error, 0 to 1, below which a text may be chosen, for a judge with probabilities "
        "(default: stored with the judge)",
    )
    data.add_argument(
        "--rejected_above",
        type=float,
        metavar="PROBABILITY",
        help="probability of an error, 0 to 1, above which a text may be rejected, for a judge with probabilities "
        "(default: stored with the judge)",
    )
    data.add_argument(
        "--seed",
        type=at_least(0),
        default=42,
        help="seed of the split; a run with the same seed puts a prompt in the same file",
    )
    add_lexicon_argument(data)
    add_judge_arguments(parser)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir", type=Path, default=Path("phase2_data/on_policy"), help="folder for pairs and statistics"
    )
    return parser.parse_args(argv)


@dataclass(frozen=True)
class CompletionsRow:
    """One prompt of the completions file."""

    row_id: str
    prompt: str
    note: str | None  # None if the row has no note and the prompt has another form than `build_prompt` gives
    reference: str | None
    completions: list[str]
    finished: list[bool]
    sound_reference: JudgedCompletion | None = None  # set if the judge finds no error in the reference

    @property
    def source(self) -> str:
        """Return the text that summaries are compared with: the note, or the whole prompt if the note is not known."""
        return self.prompt if self.note is None else self.note


def read_completions(path: Path) -> list[CompletionsRow]:
    """Return the rows of the file. Raises InputError with the line of a row that cannot be used."""
    rows = []
    for line, row in read_jsonl(path, ("prompt", "completions"), COMPLETIONS_REMEDY):
        problem = row_problem(row)
        if problem:
            raise InputError(f"{path}, line {line}: {problem}")
        reference = (row.get("reference") or "").strip() or None
        finished = row.get("finished") or [True] * len(row["completions"])
        row_id = str(row.get("id", f"line-{line}"))
        rows.append(CompletionsRow(row_id, row["prompt"], note_of_row(row), reference, row["completions"], finished))
    return rows


def row_problem(row: dict[str, Any]) -> str | None:
    """Return what makes a row unusable, or None."""
    completions, finished = row["completions"], row.get("finished")
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        return "prompt is not a text; give it as one string"
    if not isinstance(row.get("reference", ""), str | None):
        return "reference is not a text; give it as one string or leave it out"
    if not isinstance(completions, list) or not all(isinstance(text, str) for text in completions):
        return "completions is not a list of texts"
    if finished is not None and (not isinstance(finished, list) or len(finished) != len(completions)):
        return "finished must hold one true or false for each completion, or be left out"
    try:
        note_of_row(row)
    except InputError as error:
        return str(error)
    return None


def judge_all(judge: Judge, rows: Sequence[CompletionsRow], counts: Counter[str]) -> list[list[JudgedCompletion]]:
    """Return the judged completions of each prompt, without blank ones and failures of the judge; count all kinds."""
    to_judge = [
        (number, text, finished)
        for number, row in enumerate(rows)
        for text, finished in zip(row.completions, row.finished, strict=True)
        if text.strip()
    ]
    counts["completions"] = sum(len(row.completions) for row in rows)
    counts["unfinished"] = sum(not finished for row in rows for finished in row.finished)
    counts["blank"] = counts["completions"] - len(to_judge)
    judged: list[list[JudgedCompletion]] = [[] for _ in rows]
    checks = judge.check_all([(rows[number].source, text) for number, text, _ in to_judge], "Judging")
    for (number, text, finished), check in zip(to_judge, checks, strict=True):
        if check is None:
            counts["judge_failures"] += 1
            continue
        share = true_coverage(rows[number], text)
        judged[number].append(JudgedCompletion.of(text, check, finished=finished, coverage=share))
    return judged


def true_coverage(row: CompletionsRow, text: str) -> float | None:
    """Return the share of the reference's true facts that a text states, or None without a reference.

    A fact is true if the note supports it.
    """
    if not row.reference:
        return None
    stated, facts = coverage(row.reference, text)
    true_facts = facts if row.sound_reference else coverage(row.reference, row.source)[0]
    return min(1.0, stated / true_facts) if true_facts else None


def judge_references(judge: Judge, rows: Sequence[CompletionsRow], counts: Counter[str]) -> list[CompletionsRow]:
    """Return the rows with `sound_reference` set if the judge did not fail on the reference and finds no error."""
    checks = iter(judge.check_all([(row.source, row.reference) for row in rows if row.reference], "References"))
    judged = [
        replace(row, sound_reference=_if_sound(row.reference, next(checks))) if row.reference else row for row in rows
    ]
    counts["references"] = sum(row.reference is not None for row in rows)
    counts["unsound_references"] = counts["references"] - sum(row.sound_reference is not None for row in judged)
    return judged


def _if_sound(reference: str, check: FactCheck | None) -> JudgedCompletion | None:
    if check is None or check.errors:
        return None
    return JudgedCompletion.of(reference, check, finished=True, coverage=1.0, is_reference=True)


def row_of(row: CompletionsRow, pair: PairingResult, judge_name: str) -> dict[str, Any]:
    """Return the stored form of a pair: a DPO triplet, and the judge's results for its two texts."""
    assert pair.chosen
    assert pair.rejected
    content: dict[str, Any] = {
        "id": f"{row.row_id}-on-policy",
        "source_id": row.row_id,
        "prompt": row.prompt,
        **({} if row.note is None else {"clinical_note": row.note}),
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "judge": judge_name,
        "chosen_from": "reference" if pair.chosen.is_reference else "completion",
        "closeness": round(closeness((pair.chosen, pair.rejected)), 3),
    }
    for side, completion in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        content[f"{side}_errors"] = completion.errors
        content[f"{side}_score"] = completion.score
        content[f"{side}_coverage"] = completion.coverage
        if completion.probability is not None:
            content[f"{side}_probability"] = round(completion.probability, 6)
    return content


def outcome_row(row: CompletionsRow, result: PairingResult, judged: Sequence[JudgedCompletion]) -> dict[str, Any]:
    """Return a line of `outcomes.jsonl`: what became of a prompt, and why."""
    return {
        "id": row.row_id,
        "outcome": result.outcome,
        "reason": result.reason or OUTCOMES[result.outcome],
        "completions": len(judged),
        "with_errors": sum(each.errors > 0 for each in judged),
        "probabilities": [None if each.probability is None else round(each.probability, 4) for each in judged],
    }


def pair_limits(args: argparse.Namespace, judge: Judge) -> PairLimits:
    """Return the limits of the flags, or else of the judge."""
    stored = getattr(judge, "pair_limits", None)
    if stored is None:
        given = [name for name in ("chosen_below", "rejected_above") if getattr(args, name) is not None]
        if given:
            raise InputError(f"--{given[0]} is for a judge with probabilities, which {judge.name} does not give")
        return PairLimits(args.min_margin, max_length_ratio=args.max_length_ratio)
    low, high = (
        value if given is None else given
        for value, given in zip(stored, (args.chosen_below, args.rejected_above), strict=True)
    )
    if low > high:
        raise InputError(f"--chosen_below {low} is above --rejected_above {high}; lower the first or raise the second")
    print(f"Limits: chosen below a probability of {low:.3f}, rejected above {high:.3f}, abstains in between")
    return PairLimits(args.min_margin, low, high, args.max_length_ratio or LENGTH_RATIO)


def split_by_prompt(
    rows: Sequence[dict[str, Any]], val_fraction: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (train, validation). The side of a prompt depends only on seed and text, so it is the same in each round.

    Training gets at least one prompt, and so does validation if there are several and `val_fraction` is not 0: the
    prompt nearest to the limit is moved there.
    """
    places = {row["prompt"]: prompt_place(row["prompt"], seed) for row in rows}
    held_out = {prompt for prompt, place in places.items() if place < val_fraction}
    if not held_out and val_fraction > 0 and len(places) > 1:
        held_out = {min(places, key=places.__getitem__)}
    if len(held_out) == len(places) > 0:
        held_out.remove(max(places, key=places.__getitem__))
    train = [row for row in rows if row["prompt"] not in held_out]
    return train, [row for row in rows if row["prompt"] in held_out]


def prompt_place(prompt: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on seed and text."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def statistics_of(
    results: Sequence[PairingResult],
    completions: Sequence[Sequence[JudgedCompletion]],
    counts: Counter[str],
    pairs: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the figures of `judge_stats.json`; `results` and `completions` have one entry per prompt.

    The interval of the hallucination rate resamples prompts, because completions of the same prompt are similar.
    """
    outcomes = Counter(result.outcome for result in results)
    judged = [len(found) for found in completions]
    hallucinated = [sum(completion.errors > 0 for completion in found) for found in completions]
    return {
        "prompts": len(results),
        "pairs": outcomes["pair"],
        "ties": outcomes["tie"],
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
        "completions": {
            "sampled": counts["completions"],
            "judged": sum(judged),
            "hallucinated": sum(hallucinated),
            **{name: counts[name] for name in ("judge_failures", "blank", "unfinished")},
        },
        "references": {name: counts[name] for name in ("references", "unsound_references")},
        "hallucination_rate": ratio(hallucinated, judged),
        "hallucination_rate_ci95": ratio_interval(hallucinated, judged),
        "chosen_from": dict(Counter(row["chosen_from"] for row in pairs)),
        "mean_words_chosen": mean_words([row["chosen"] for row in pairs]),
        "mean_words_rejected": mean_words([row["rejected"] for row in pairs]),
        "mean_closeness": statistics.fmean(row["closeness"] for row in pairs) if pairs else None,
    }


def mean_words(texts: Sequence[str]) -> float | None:
    """Return the mean number of words, or None without texts."""
    return round(sum(len(text.split()) for text in texts) / len(texts), 2) if texts else None


def print_statistics(stats: dict[str, Any]) -> None:
    """Print the results for the completions and the prompts, and warn if chosen and rejected differ in length."""
    found = stats["completions"]
    print(f"Judged {found['judged']} of {found['sampled']} completions; the judge failed on {found['judge_failures']}")
    if stats["hallucination_rate"] is not None:
        low, high = stats["hallucination_rate_ci95"]
        rate = stats["hallucination_rate"]
        print(f"Hallucinated: {found['hallucinated']} ({rate:.1%}, 95% interval {low:.1%} to {high:.1%})")
    references = stats["references"]
    print(f"References: {references['references']}, {references['unsound_references']} of them not sound")
    for name, meaning in OUTCOMES.items():
        print(f"  {stats['outcomes'][name]:>6} prompts: {meaning}")
    if stats["pairs"]:
        chosen, rejected = stats["mean_words_chosen"], stats["mean_words_rejected"]
        print(f"Mean words: chosen {chosen:.1f}, rejected {rejected:.1f}; closeness {stats['mean_closeness']:.0%}")
        if abs(chosen - rejected) > MOST_LENGTH_BIAS * rejected:
            print(
                "warning: the lengths of chosen and rejected texts differ enough for Stage B to learn length instead "
                "of truth; watch mean_summary_words in the evaluation",
                file=sys.stderr,
            )


def next_command(output_dir: Path, has_validation: bool) -> str:
    """Return the command of Stage B; without validation pairs, it validates on the training pairs."""
    train = output_dir / "train.jsonl"
    val = output_dir / "val.jsonl" if has_validation else train
    return shlex.join(
        ["python", "stage_b_dpo_training.py", "--train_data_path", str(train), "--val_data_path", str(val)]
    )


def check_args(args: argparse.Namespace) -> None:
    """Raise InputError for a number out of range."""
    if not 0 <= args.val_fraction < 1:
        raise InputError(f"--val_fraction {args.val_fraction}: give a share from 0 to below 1, such as 0.1")
    if not 0 <= args.min_margin < math.inf:
        raise InputError(f"--min_margin {args.min_margin}: give a number of 0 or more, such as 0.5")
    if args.max_length_ratio is not None and not 1 <= args.max_length_ratio < math.inf:
        raise InputError(f"--max_length_ratio {args.max_length_ratio}: give a number of 1 or more, such as 1.5")
    for name in ("chosen_below", "rejected_above"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"--{name} {value}: give a probability from 0 to 1")


def main(args: argparse.Namespace) -> int:
    """Judge the completions, make pairs, split them and write them."""
    check_args(args)
    add_lexicons(args.lexicon_dir)
    judge = judge_of_arguments(args)
    limits = pair_limits(args, judge)
    rows = read_completions(args.completions_path)
    print(f"Loaded {len(rows)} prompts from {args.completions_path}")
    counts = Counter[str]()
    rows = judge_references(judge, rows, counts)
    completions = judge_all(judge, rows, counts)
    if judge.usage:
        print(f"Judge usage: {usage_text(judge.usage)}")
    results = [make_pair(found, row.sound_reference, limits) for row, found in zip(rows, completions, strict=True)]
    pairs = [row_of(row, pair, judge.name) for row, pair in zip(rows, results, strict=True) if pair.outcome == "pair"]
    stats = statistics_of(results, completions, counts, pairs)
    print_statistics(stats)
    if not pairs:
        raise InputError(
            f"{args.completions_path}: no pair can be made from it (see the counts above); sample more completions, or "
            "at a higher temperature, with generate_completions.py --num_completions and --temperature"
        )
    train, validation = split_by_prompt(pairs, args.val_fraction, args.seed)
    outcomes = [outcome_row(*each) for each in zip(rows, results, completions, strict=True)]
    for name, content in (("preferences", pairs), ("train", train), ("val", validation), ("outcomes", outcomes)):
        write_jsonl(args.output_dir / f"{name}.jsonl", content)
    split = {"seed": args.seed, "train_pairs": len(train), "val_pairs": len(validation)}
    made_by = {"judge": judge.name, "judge_usage": judge.usage, "lexicons": lexicon_settings(args.lexicon_dir)}
    write_json(args.output_dir / "judge_stats.json", {**made_by, **stats, **split, "limits": asdict(limits)})
    print(f"Training triplets: {len(train)}\nValidation triplets: {len(validation)}")
    print(f"Saved pairs to {args.output_dir}")
    if not validation:
        print("No pair is left for validation: the next command validates on the training pairs")
    print(f"Next: {next_command(args.output_dir, bool(validation))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
