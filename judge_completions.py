"""Judges sampled summaries and makes preference pairs of them: the best against the worst of each prompt.

In:  `completions.jsonl` from `generate_completions.py`: {prompt, completions} and, where there are, {id, reference,
     finished}.
Out: in --output_dir `preferences.jsonl` (every pair), `train.jsonl` and `val.jsonl` (the same pairs, split so that no
     prompt is in both; Stage B reads them) and `judge_stats.json` (what became of every prompt).

    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl
    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl --val_fraction 0.2

Chosen is the best completion if it is free of errors and states all that the reference truly states, else the
reference where there is one and the judge finds no error in it either: pairs of two flawed summaries would teach the
lesser flaw, and references that people wrote are not always faithful. Rejected is the worst completion if it has
errors or leaves out more than the chosen one.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.fact_checker import FactCheck, coverage
from evaluation.judges import Judge, add_judge_arguments, judge_of_arguments, usage_text
from evaluation.stats import ratio, ratio_interval
from prompt_format import note_of_prompt
from script_io import ArgumentParser, InputError, read_jsonl, run_script, write_json, write_jsonl

COMPLETIONS_REMEDY = "make it with: python generate_completions.py"
MOST_LENGTH_BIAS = 0.1  # relative difference of mean words from which the user is warned
# What can become of a prompt, in the order in which the statistics list it.
OUTCOMES = {
    "pair": "a preference pair",
    "tie": "all completions are equally good",
    "identical": "chosen and rejected are the same text",
    "unfinished_chosen": "the only one good enough was broken off",
    "nothing_to_choose": "every completion is flawed and no sound reference is known",
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

    @property
    def badness(self) -> tuple[int, float, float]:
        """Orders samples from best to worst: errors, then what is left out, then the judge's score."""
        return self.errors, -(1.0 if self.coverage is None else self.coverage), self.score

    @property
    def is_sound(self) -> bool:
        """Free of errors, and complete as far as can be known."""
        return self.errors == 0 and self.coverage in (None, 1.0)


@dataclass(frozen=True)
class Pair:
    """What a prompt came to: one of OUTCOMES, and the pair where it is one."""

    outcome: str
    chosen: str = ""
    chosen_sample: Sample | None = None  # None where the chosen text is the reference
    rejected: Sample | None = None


def make_pair(samples: Sequence[Sample], reference: str | None) -> Pair:
    """Chooses and rejects among the samples of one prompt (see the module's docstring)."""
    if not samples:
        return Pair("all_failed")
    ranked = sorted(samples, key=lambda sample: sample.badness)
    sound = [sample for sample in ranked if sample.is_sound]
    best = next((sample for sample in sound if sample.finished), None)
    chosen = best.text if best else reference
    if chosen is None:
        return Pair("unfinished_chosen" if sound else "nothing_to_choose")
    worst = ranked[-1]
    if worst.is_sound:
        return Pair("tie")
    if same_words(chosen, worst.text):
        return Pair("identical")
    return Pair("pair", chosen, best, worst)


def same_words(first: str, second: str) -> bool:
    return first.split() == second.split()


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
    reference_is_sound: bool = True

    @property
    def sound_reference(self) -> str | None:
        return self.reference if self.reference_is_sound else None


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
    asked = facts if row.reference_is_sound else coverage(row.reference, note_of_prompt(row.prompt))[0]
    return min(1.0, stated / asked) if asked else None


def finds_no_error(check: FactCheck | None) -> bool:
    return check is not None and not check.errors


def judge_references(judge: Judge, rows: Sequence[Row], counts: Counter[str]) -> list[Row]:
    """The rows, with the judge's word on their references; one that the judge failed on is not trusted either."""
    asked = [(note_of_prompt(row.prompt), row.reference) for row in rows if row.reference]
    checks = iter(judge.check_all(asked, "Judging references"))
    judged = [replace(row, reference_is_sound=finds_no_error(next(checks))) if row.reference else row for row in rows]
    counts["references"] = len(asked)
    counts["unsound_references"] = sum(not row.reference_is_sound for row in judged)
    return judged


def row_of(row: Row, pair: Pair, judge_name: str) -> dict[str, Any]:
    """The stored form of a pair: a DPO triplet, and what the judge found in its two texts."""
    assert pair.rejected is not None
    content: dict[str, Any] = {
        "id": f"{row.row_id}-on-policy",
        "source_id": row.row_id,
        "prompt": row.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected.text,
        "judge": judge_name,
        "chosen_from": "completion" if pair.chosen_sample else "reference",
    }
    for side, sample in (("chosen", pair.chosen_sample), ("rejected", pair.rejected)):
        if sample:  # a reference has no sample; it is chosen only where the judge found no error in it
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


def statistics(
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
        print(f"Mean words: chosen {chosen:.1f}, rejected {rejected:.1f}")
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
    results = [make_pair(found, row.sound_reference) for row, found in zip(rows, samples, strict=True)]
    pairs = [row_of(row, pair, judge.name) for row, pair in zip(rows, results, strict=True) if pair.outcome == "pair"]
    stats = statistics(results, samples, counts, pairs)
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
