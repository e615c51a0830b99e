"""Judges sampled summaries and makes preference pairs of them: a sound one against a flawed one of each prompt.

In:  `completions.jsonl` from `generate_completions.py`: {prompt, completions} and, where there are, {id, reference,
     finished}.
Out: in --output_dir `preferences.jsonl` (every pair), `train.jsonl` and `val.jsonl` (the same pairs, split so that no
     prompt is in both; Stage B reads them) and `judge_stats.json` (what became of every prompt).

    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl
    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl --val_fraction 0.2

Chosen is a completion without errors that is no less complete than the prompt's usual one (the median of the shares
that they state of what the reference truly states), of those one that the judge scores best; where there is none, the
reference if the judge finds no error in it either. Rejected is a completion with errors or, where none has any, one
that is less complete than usual. A pair whose chosen text says less than the rejected one is never made: it would teach
to leave out. Of the pairs that are left the two texts nearest in wording are taken, so that what tells them apart is
the error; pairs that differ by wording as well teach the model to unlearn words that were right.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import product
from pathlib import Path
from typing import Any

from evaluation.stats import ratio, ratio_interval
from fact_checking.checker import coverage
from fact_checking.claims import FactCheck
from judging.choice import add_judge_arguments, judge_of_arguments, usage_text
from judging.judge import Judge
from language_model.prompt_format import note_of_prompt
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_jsonl, write_json, write_jsonl

COMPLETIONS_REMEDY = "make it with: python generate_completions.py"
MOST_LENGTH_BIAS = 0.1  # relative difference of mean words from which the user is warned
# What can become of a prompt, in the order in which the statistics list it.
OUTCOMES = {
    "pair": "a preference pair",
    "tie": "all completions are equally good",
    "identical": "chosen and rejected have the same words",
    "says_less": "every flawed completion is more complete than any sound text",
    "within_margin": "the judge does not score any rejected text worse than the chosen one by --min_margin",
    "unfinished_chosen": "the only one good enough was broken off",
    "nothing_to_choose": "every completion is flawed or less complete than usual, and no sound reference is known",
    "all_failed": "the judge failed on every completion, or all were blank",
}


@dataclass(frozen=True)
class Sample:
    """A completion and what the judge found in it."""

    text: str
    finished: bool
    errors: int
    score: float  # the judge's continuous score, higher is worse
    coverage: float | None  # share of the reference's true facts that it states; None where no reference is known
    is_reference: bool = False


@dataclass(frozen=True)
class Pair:
    """What a prompt came to: one of OUTCOMES, and the two texts where it is a pair."""

    outcome: str
    chosen: Sample | None = None
    rejected: Sample | None = None


def make_pair(samples: Sequence[Sample], reference: Sample | None = None, min_margin: float = 0.0) -> Pair:
    """Chooses and rejects among the samples of one prompt and its sound reference (see the module's docstring)."""
    if not samples:
        return Pair("all_failed")
    usual = statistics.median(completeness(sample) for sample in samples)
    sound = [sample for sample in samples if not sample.errors and completeness(sample) >= usual]
    flawed = [sample for sample in samples if sample.errors] or [each for each in samples if each not in sound]
    if not flawed:
        return Pair("tie")
    finished = [sample for sample in sound if sample.finished] + ([reference] if reference else [])
    if not finished:
        return Pair("unfinished_chosen" if sound else "nothing_to_choose")
    tests = {
        "says_less": lambda chosen, rejected: completeness(chosen) >= completeness(rejected),
        "identical": lambda chosen, rejected: words_of(chosen.text) != words_of(rejected.text),
        "within_margin": lambda chosen, rejected: rejected.score - chosen.score >= min_margin,
    }
    pairs = list(product(finished, flawed))
    for outcome, is_passed in tests.items():
        pairs = [pair for pair in pairs if is_passed(*pair)]
        if not pairs:
            return Pair(outcome)
    pairs = [pair for pair in pairs if not pair[0].is_reference] or pairs
    best = min(chosen.score for chosen, _ in pairs)
    return Pair("pair", *max((pair for pair in pairs if pair[0].score == best), key=closeness))


def completeness(sample: Sample) -> float:
    return 1.0 if sample.coverage is None else sample.coverage


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, without case and punctuation; a decimal point is part of its number."""
    return re.findall(r"\w+(?:\.\d+)?", text.casefold())


def closeness(pair: tuple[Sample, Sample]) -> float:
    """The share of the words of two texts that stand in the same order in both, 0 to 1 (Ratcliff and Obershelp)."""
    first, second = (sample.text.split() for sample in pair)
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("Data")
    data.add_argument("--completions_path", type=Path, required=True, help="completions.jsonl to judge")
    data.add_argument(
        "--val_fraction",
        type=float,
        default=0.1,
        help="share of the prompts whose pairs go to val.jsonl, at least one pair unless 0 (default: 0.1)",
    )
    data.add_argument(
        "--min_margin",
        type=float,
        default=0.0,
        help="by how much the judge must score the rejected text worse than the chosen one (default: 0)",
    )
    data.add_argument(
        "--seed", type=int, default=42, help="of the split; the same seed never moves a prompt (default: 42)"
    )
    add_judge_arguments(parser)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir",
        type=Path,
        default=Path("phase2_data/on_policy"),
        help="folder of the pairs (default: %(default)s)",
    )
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Row:
    """One prompt of the completions file."""

    row_id: str
    prompt: str
    reference: str | None
    completions: list[str]
    finished: list[bool]
    sound_reference: Sample | None = None  # once the judge has found no error in it


def read_completions(path: Path) -> list[Row]:
    """The rows of the file. Raises InputError naming the line where one cannot be used."""
    rows = []
    for line, row in read_jsonl(path, ("prompt", "completions"), COMPLETIONS_REMEDY):
        problem = row_problem(row)
        if problem:
            raise InputError(f"{path}, line {line}: {problem}")
        reference = (row.get("reference") or "").strip() or None
        finished = row.get("finished") or [True] * len(row["completions"])
        rows.append(Row(str(row.get("id", f"line-{line}")), row["prompt"], reference, row["completions"], finished))
    return rows


def row_problem(row: dict[str, Any]) -> str | None:
    """What is wrong with one row, or None."""
    completions, finished = row["completions"], row.get("finished")
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        return "prompt is not a text; give it as one string"
    if not isinstance(row.get("reference", ""), str | None):
        return "reference is not a text; give it as one string or leave it out"
    if not isinstance(completions, list) or not all(isinstance(text, str) for text in completions):
        return "completions is not a list of texts"
    if finished is not None and (not isinstance(finished, list) or len(finished) != len(completions)):
        return "finished must hold one true or false for each completion, or be left out"
    return None


def judge_samples(judge: Judge, rows: Sequence[Row], counts: Counter[str]) -> list[list[Sample]]:
    """For each prompt its judged completions, without the blank ones and those that the judge failed on."""
    asked = [
        (number, text, finished)
        for number, row in enumerate(rows)
        for text, finished in zip(row.completions, row.finished, strict=True)
        if text.strip()
    ]
    counts["completions"] = sum(len(row.completions) for row in rows)
    counts["unfinished"] = sum(not finished for row in rows for finished in row.finished)
    counts["blank"] = counts["completions"] - len(asked)
    samples: list[list[Sample]] = [[] for _ in rows]
    checks = judge.check_all([(note_of_prompt(rows[number].prompt), text) for number, text, _ in asked], "Judging")
    for (number, text, finished), check in zip(asked, checks, strict=True):
        if check is None:
            counts["judge_failures"] += 1
            continue
        share = true_coverage(rows[number], text)
        samples[number].append(Sample(text, finished, len(check.errors), check.score, share))
    return samples


def true_coverage(row: Row, text: str) -> float | None:
    """The share of the reference's facts that a text states; facts that the note does not support are not asked for."""
    if not row.reference:
        return None
    stated, facts = coverage(row.reference, text)
    asked = facts if row.sound_reference else coverage(row.reference, note_of_prompt(row.prompt))[0]
    return min(1.0, stated / asked) if asked else None


def judge_references(judge: Judge, rows: Sequence[Row], counts: Counter[str]) -> list[Row]:
    """The rows, with their references where the judge finds no error in them; one that it fails on is not trusted."""
    checks = iter(
        judge.check_all([(note_of_prompt(row.prompt), row.reference) for row in rows if row.reference], "References")
    )
    judged = [
        replace(row, sound_reference=_if_sound(row.reference, next(checks))) if row.reference else row for row in rows
    ]
    counts["references"] = sum(row.reference is not None for row in rows)
    counts["unsound_references"] = counts["references"] - sum(row.sound_reference is not None for row in judged)
    return judged


def _if_sound(reference: str, check: FactCheck | None) -> Sample | None:
    if check is None or check.errors:
        return None
    return Sample(reference, True, 0, check.score, 1.0, is_reference=True)


def row_of(row: Row, pair: Pair, judge_name: str) -> dict[str, Any]:
    """The stored form of a pair: a DPO triplet, and what the judge found in its two texts."""
    assert pair.chosen
    assert pair.rejected
    content: dict[str, Any] = {
        "id": f"{row.row_id}-on-policy",
        "source_id": row.row_id,
        "prompt": row.prompt,
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "judge": judge_name,
        "chosen_from": "reference" if pair.chosen.is_reference else "completion",
        "closeness": round(closeness((pair.chosen, pair.rejected)), 3),
    }
    for side, sample in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        content[f"{side}_errors"] = sample.errors
        content[f"{side}_score"] = sample.score
        content[f"{side}_coverage"] = sample.coverage
    return content


def split_by_prompt(
    rows: Sequence[dict[str, Any]], val_fraction: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(train, validation). A prompt's side depends on seed and text alone, so it is the same in every round.

    Only where no prompt falls to validation, the one nearest to it is moved there.
    """
    places = {row["prompt"]: prompt_place(row["prompt"], seed) for row in rows}
    held_out = {prompt for prompt, place in places.items() if place < val_fraction}
    if not held_out and val_fraction > 0 and len(places) > 1:
        held_out = {min(places, key=places.__getitem__)}
    train = [row for row in rows if row["prompt"] not in held_out]
    return train, [row for row in rows if row["prompt"] in held_out]


def prompt_place(prompt: str, seed: int) -> float:
    """A number in [0, 1) from seed and text."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def statistics_of(
    results: Sequence[Pair], samples: Sequence[Sequence[Sample]], counts: Counter[str], pairs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The content of `judge_stats.json` as far as it concerns judging; `results` and `samples` hold one entry a prompt.

    The interval of the hallucination rate resamples prompts, since completions of one prompt resemble each other.
    """
    outcomes = Counter(result.outcome for result in results)
    judged = [len(found) for found in samples]
    hallucinated = [sum(sample.errors > 0 for sample in found) for found in samples]
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
    return round(sum(len(text.split()) for text in texts) / len(texts), 2) if texts else None


def print_statistics(stats: dict[str, Any]) -> None:
    """What became of the completions and of the prompts."""
    found = stats["completions"]
    print(f"Judged {found['judged']} of {found['sampled']} completions; the judge failed on {found['judge_failures']}")
    if stats["hallucination_rate"] is not None:
        low, high = stats["hallucination_rate_ci95"]
        rate = stats["hallucination_rate"]
        print(f"Hallucinated: {found['hallucinated']} ({rate:.1%}, 95% interval {low:.1%} to {high:.1%})")
    references = stats["references"]
    print(
        f"References: {references['references']}, of which {references['unsound_references']} are not sound themselves"
    )
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


def main(args: argparse.Namespace) -> int:
    """Judges, pairs, splits, writes."""
    if not 0 <= args.val_fraction < 1:
        raise InputError(f"--val_fraction {args.val_fraction}: give a share from 0 to below 1, such as 0.1")
    judge = judge_of_arguments(args)
    rows = read_completions(args.completions_path)
    print(f"Loaded {len(rows)} prompts from {args.completions_path}")
    counts = Counter[str]()
    rows = judge_references(judge, rows, counts)
    samples = judge_samples(judge, rows, counts)
    if judge.usage:
        print(f"Judge usage: {usage_text(judge.usage)}")
    results = [make_pair(found, row.sound_reference, args.min_margin) for row, found in zip(rows, samples, strict=True)]
    pairs = [row_of(row, pair, judge.name) for row, pair in zip(rows, results, strict=True) if pair.outcome == "pair"]
    stats = statistics_of(results, samples, counts, pairs)
    print_statistics(stats)
    if not pairs:
        raise InputError(
            f"{args.completions_path}: no pair can be made of it (see the counts above); sample more completions, or "
            "hotter, with generate_completions.py --num_completions and --temperature"
        )
    train, validation = split_by_prompt(pairs, args.val_fraction, args.seed)
    for name, content in (("preferences", pairs), ("train", train), ("val", validation)):
        write_jsonl(args.output_dir / f"{name}.jsonl", content)
    split = {"seed": args.seed, "train_pairs": len(train), "val_pairs": len(validation)}
    write_json(
        args.output_dir / "judge_stats.json", {"judge": judge.name, "judge_usage": judge.usage, **stats, **split}
    )
    print(f"Training triplets: {len(train)}\nValidation triplets: {len(validation)}")
    print(f"Saved pairs to {args.output_dir}")
    paths = f"--train_data_path {args.output_dir / 'train.jsonl'} --val_data_path {args.output_dir / 'val.jsonl'}"
    print(f"Next: python stage_b_dpo_training.py {paths}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
