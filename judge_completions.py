"""Judge sampled summaries and make preference pairs from them: for each prompt, a sound and a flawed summary.

In:  `completions.jsonl` from `generate_completions.py`: {prompt, completions} and optionally {id, clinical_note,
     reference, finished}.
Out: in --output_dir `preferences.jsonl` (all pairs), `train.jsonl` and `val.jsonl` (the same pairs for Stage B, split
     so that no prompt is in both) and `judge_stats.json` (the number of prompts by outcome, and other figures).

    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl
    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl --val_fraction 0.2

The completeness of a completion is the share of the reference's true facts that it states. The chosen text is the
completion with the best score of the judge among those that are finished, have no error and are at least as complete
as the median completion of the prompt. If there is none, the chosen text is the reference, provided that the judge
finds no error in it. The rejected text is a completion with errors or, if none has any, one below the median
completeness. The chosen text is never less complete than the rejected one, since such a pair would teach the model to
leave facts out. Among all such pairs, the script takes the two texts with the most similar wording, so that they differ
in the error; other differences would teach the model to avoid words that were right.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import shlex
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
from language_model.prompt_format import note_of_row
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import read_jsonl, write_json, write_jsonl

COMPLETIONS_REMEDY = "make it with: python generate_completions.py"
MOST_LENGTH_BIAS = 0.1  # a larger relative difference between the mean numbers of words is a warning
# what can become of a prompt, in the order of the statistics
OUTCOMES = {
    "pair": "a preference pair",
    "tie": "all completions are equally good",
    "identical": "chosen and rejected have the same words",
    "says_less": "every flawed completion is more complete than any sound text",
    "within_margin": "the judge does not score any rejected text worse than the chosen one by --min_margin",
    "unfinished_chosen": "no completion that is good enough is finished",
    "nothing_to_choose": "no completion is sound and complete enough, and no sound reference is known",
    "all_failed": "the judge failed on every completion, or all were blank",
}


@dataclass(frozen=True)
class JudgedCompletion:
    """A completion, or the reference, with the results of the judge."""

    text: str
    finished: bool
    errors: int
    score: float  # the judge's continuous score, higher is worse
    coverage: float | None  # share of the reference's true facts that it states; None if no reference is known
    is_reference: bool = False


@dataclass(frozen=True)
class PairingResult:
    """What became of a prompt: one of OUTCOMES, and if it is a pair, the two texts."""

    outcome: str
    chosen: JudgedCompletion | None = None
    rejected: JudgedCompletion | None = None


def make_pair(
    completions: Sequence[JudgedCompletion], reference: JudgedCompletion | None = None, min_margin: float = 0.0
) -> PairingResult:
    """Choose and reject among the completions of one prompt and its sound reference, as the module's docstring says."""
    if not completions:
        return PairingResult("all_failed")
    median = statistics.median(map(completeness, completions))
    sound = [each for each in completions if not each.errors and completeness(each) >= median]
    flawed = [each for each in completions if each.errors] or [each for each in completions if each not in sound]
    if not flawed:
        return PairingResult("tie")
    finished = [each for each in sound if each.finished] + ([reference] if reference else [])
    if not finished:
        return PairingResult("unfinished_chosen" if sound else "nothing_to_choose")
    tests = {
        "says_less": lambda chosen, rejected: completeness(chosen) >= completeness(rejected),
        "identical": lambda chosen, rejected: words_of(chosen.text) != words_of(rejected.text),
        "within_margin": lambda chosen, rejected: rejected.score - chosen.score >= min_margin,
    }
    pairs = list(product(finished, flawed))
    for outcome, is_passed in tests.items():
        pairs = [pair for pair in pairs if is_passed(*pair)]
        if not pairs:
            return PairingResult(outcome)
    pairs = [pair for pair in pairs if not pair[0].is_reference] or pairs
    best = min(chosen.score for chosen, _ in pairs)
    return PairingResult("pair", *max((pair for pair in pairs if pair[0].score == best), key=closeness))


def completeness(completion: JudgedCompletion) -> float:
    """Return the coverage, or 1 if it is not known."""
    return 1.0 if completion.coverage is None else completion.coverage


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text, without case and punctuation; a decimal point is part of its number."""
    return re.findall(r"\w+(?:\.\d+)?", text.casefold())


def closeness(pair: tuple[JudgedCompletion, JudgedCompletion]) -> float:
    """Return the share of words that both texts have in the same order, 0 to 1 (Ratcliff and Obershelp)."""
    first, second = (completion.text.split() for completion in pair)
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


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
        "one; the facts judge adds 1 to the score per error and less per doubtful claim",
    )
    data.add_argument(
        "--seed",
        type=at_least(0),
        default=42,
        help="seed of the split; a run with the same seed puts a prompt in the same file",
    )
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
        judged[number].append(JudgedCompletion(text, finished, len(check.errors), check.score, share))
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
    return JudgedCompletion(reference, True, 0, check.score, 1.0, is_reference=True)


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
    return content


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


def main(args: argparse.Namespace) -> int:
    """Judge the completions, make pairs, split them and write them."""
    check_args(args)
    judge = judge_of_arguments(args)
    rows = read_completions(args.completions_path)
    print(f"Loaded {len(rows)} prompts from {args.completions_path}")
    counts = Counter[str]()
    rows = judge_references(judge, rows, counts)
    completions = judge_all(judge, rows, counts)
    if judge.usage:
        print(f"Judge usage: {usage_text(judge.usage)}")
    results = [
        make_pair(found, row.sound_reference, args.min_margin) for row, found in zip(rows, completions, strict=True)
    ]
    pairs = [row_of(row, pair, judge.name) for row, pair in zip(rows, results, strict=True) if pair.outcome == "pair"]
    stats = statistics_of(results, completions, counts, pairs)
    print_statistics(stats)
    if not pairs:
        raise InputError(
            f"{args.completions_path}: no pair can be made from it (see the counts above); sample more completions, or "
            "at a higher temperature, with generate_completions.py --num_completions and --temperature"
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
    if not validation:
        print("No pair is left for validation: the next command validates on the training pairs")
    print(f"Next: {next_command(args.output_dir, bool(validation))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
