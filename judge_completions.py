"""Judge sampled summaries and make preference pairs from them: for each prompt, a sound and a flawed summary.

In:  `completions.jsonl` from `generate_completions.py`: {prompt, completions} and optionally {id, clinical_note,
     reference, finished}.
Out: in --output_dir `preferences.jsonl` (all pairs), `train.jsonl` and `val.jsonl` (the same pairs for Stage B, split
     so that no prompt is in both) and `judge_stats.json` (the number of prompts by outcome, and other figures)
     and `outcomes.jsonl` (what became of each prompt, and why). The same command continues a run that was stopped.

    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl
    python judge_completions.py --completions_path phase2_data/on_policy/completions.jsonl --val_fraction 0.2

The completeness of a completion is the share of the reference's true facts that it states. judging/preference_pairs.py
describes which two texts make a pair, judging/compared_sentences.py how --choose_by sentences and share differ, and
judging/repair.py how --repair makes one from sentences of several completions.
A judge with probabilities (--judge detector, --judge likelihood, --judge facts with --evidence_model) abstains where it
is not sure, instead of guessing. Of 20 pairs or more, some of very different lengths are left out, until chosen and
rejected texts have about as many words on average (--max_length_bias).
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons, lexicon_settings
from evaluation.stats import ratio, share_interval
from judging.choice import add_judge_arguments, judge_of_arguments, usage_text
from judging.compared_sentences import SHARE_LIMITS, SentenceLimits, make_compared_pairs
from judging.completion_rows import judge_all, judge_references, read_completions
from judging.judge import Judge
from judging.kept_checks import NAME as PARTIAL
from judging.kept_checks import KeptChecks
from judging.length_balance import balanced
from judging.pair_rows import outcome_row, rows_of, split_by_prompt
from judging.preference_pairs import OUTCOMES, JudgedCompletion, PairingResult, PairLimits, make_pair
from judging.repair import RepairLimits
from judging.repaired_prompts import REPAIR, repaired_results
from language_model.model_files import model_state
from language_model.placement import DEVICES
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import refuse_overwriting, write_json, write_jsonl
from script_io.folder_lock import lock_folder
from script_io.partial_file import PartialFile
from script_io.provenance import commit

FEWEST_TO_BALANCE = 20  # pairs of a file
OUTPUTS = ("preferences", "train", "val", "outcomes")  # JSONL files in --output_dir
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
        "--choose_by",
        choices=("text", "sentences", "share"),
        default="text",
        help="text: choose a text that the judge calls sound; sentences: choose one of which the judge expects fewer "
        "false sentences than of the rejected one, which also makes pairs of long texts; share: a smaller share of "
        "them and fewer, in a text of about the same length (default: text)",
    )
    data.add_argument(
        "--min_margin",
        type=float,
        help="smallest number, 0 or more, by which the score of the rejected text must exceed the score of the chosen "
        "one; the facts judge adds 1 to the score per error and less per doubtful claim; the score of a judge with "
        "probabilities is the probability; with --choose_by sentences, the expected number of false sentences, and "
        f"with share, their share (default: 0; with --choose_by sentences {SentenceLimits.min_difference}, with share "
        f"{SHARE_LIMITS.min_difference}, and {SHARE_LIMITS.min_fewer} in number)",
    )
    data.add_argument(
        "--max_length_ratio",
        type=float,
        metavar="RATIO",
        help="largest ratio, 1 or more, of the number of words of the rejected text and of the chosen one (default: "
        f"{LENGTH_RATIO} for a judge with probabilities, else none; with --choose_by sentences "
        f"{SentenceLimits.max_length_ratio}, with share {SHARE_LIMITS.max_length_ratio})",
    )
    data.add_argument(
        "--chosen_below",
        type=float,
        metavar="PROBABILITY",
        help="probability of an error, 0 to 1, below which a text may be chosen, for a judge with probabilities; with "
        "--choose_by sentences or share, of a sentence, as the mean over the text (default: stored with the judge; "
        f"with --choose_by sentences or share {SentenceLimits.mean_doubt})",
    )
    data.add_argument(
        "--rejected_above",
        type=float,
        metavar="PROBABILITY",
        help="probability of an error, 0 to 1, above which a text may be rejected, for a judge with probabilities "
        f"(default: stored with the judge; with --choose_by sentences or share {SentenceLimits.rejected_above})",
    )
    data.add_argument(
        "--max_length_bias",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share, 0 or more, of the words of all rejected texts by which the number of words of all chosen ones may "
        f"differ; pairs of very different lengths are left out until it does not; no effect on fewer than "
        f"{FEWEST_TO_BALANCE} pairs",
    )
    data.add_argument(
        "--seed",
        type=at_least(0),
        default=42,
        help="seed of the split; a run with the same seed puts a prompt in the same file",
    )
    add_lexicon_argument(data)
    _add_repair_arguments(parser)
    add_judge_arguments(parser)
    hardware = parser.add_argument_group("Hardware of a judge with a model")
    hardware.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto: CUDA, else MPS, else the CPU (default: auto)"
    )
    hardware.add_argument(
        "--num_threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of threads to compute with on a CPU; 0: OMP_NUM_THREADS if it is set, else one per core",
    )
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_dir", type=Path, default=Path("phase2_data/on_policy"), help="folder for pairs and statistics"
    )
    return parser.parse_args(argv)


def _add_repair_arguments(parser: argparse.ArgumentParser) -> None:
    repair = parser.add_argument_group("Repair")
    repair.add_argument(
        "--repair",
        choices=REPAIR,
        default="off",
        help="make pairs that differ in their flawed sentences alone: never (off), for prompts without another pair "
        "(fallback), or instead of other pairs, whose limits then have no effect (always) (default: off)",
    )
    repair.add_argument(
        "--sound_below",
        type=float,
        default=0.45,
        metavar="PROBABILITY",
        help="probability of an error, 0 to 1, below which a sentence may be in a chosen text",
    )
    repair.add_argument(
        "--flawed_above",
        type=float,
        default=0.8,
        metavar="PROBABILITY",
        help="probability of an error, 0 to 1, from which a sentence may be exchanged for a sound one",
    )
    repair.add_argument(
        "--growth",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="number of words that sound sentences are added up to, as a multiple of the mean of the completions, 0 or "
        "more; a large one adds every sound sentence that says something new",
    )
    repair.add_argument(
        "--pairs_per_prompt",
        type=at_least(1),
        default=1,
        metavar="N",
        help="most pairs of a prompt, 1 or more: repaired ones, each of which exchanges a flawed sentence of its own, "
        "or with --choose_by sentences or share pairs that have no text in common",
    )


def sentence_limits(args: argparse.Namespace) -> SentenceLimits:
    """Return the limits of the flags for `--choose_by sentences` or `share`."""
    flags = {
        "min_difference": args.min_margin,
        "mean_doubt": args.chosen_below,
        "rejected_above": args.rejected_above,
        "max_length_ratio": args.max_length_ratio,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    return replace(SHARE_LIMITS if args.choose_by == "share" else SentenceLimits(), **given)


def pair_limits(args: argparse.Namespace, judge: Judge) -> PairLimits:
    """Return the limits of the flags, or else of the judge."""
    margin = args.min_margin or 0.0
    stored = getattr(judge, "pair_limits", None)
    if stored is None:
        given = [name for name in ("chosen_below", "rejected_above") if getattr(args, name) is not None]
        if given:
            raise InputError(f"--{given[0]} is for a judge with probabilities, which {judge.name} does not give")
        return PairLimits(margin, max_length_ratio=args.max_length_ratio)
    low, high = (
        value if given is None else given
        for value, given in zip(stored, (args.chosen_below, args.rejected_above), strict=True)
    )
    if low > high:
        raise InputError(f"--chosen_below {low} is above --rejected_above {high}; lower the first or raise the second")
    print(f"Limits: chosen below a probability of {low:.3f}, rejected above {high:.3f}, abstains in between")
    return PairLimits(margin, low, high, args.max_length_ratio or LENGTH_RATIO)


def without_length_bias(pairs: Sequence[dict[str, Any]], bias: float) -> list[dict[str, Any]]:
    """Return the pairs that are left when the mean lengths of both sides differ by at most the share `bias`.

    With fewer than FEWEST_TO_BALANCE pairs, all are left: their mean lengths say little.
    """
    if len(pairs) < FEWEST_TO_BALANCE:
        return list(pairs)
    lengths = [(len(pair["chosen"].split()), len(pair["rejected"].split())) for pair in pairs]
    return [pairs[index] for index in balanced(lengths, bias)]


def statistics_of(
    results: Sequence[PairingResult],
    completions: Sequence[Sequence[JudgedCompletion]],
    counts: Counter[str],
    pairs: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the figures of `judge_stats.json`; `results` and `completions` have one entry per prompt.

    The interval of the hallucination rate resamples prompts, because completions of the same prompt are similar. At 0%
    and 100% it is Wilson's, with n the number of prompts.
    """
    outcomes = Counter(result.outcome for result in results)
    judged = [len(found) for found in completions]
    hallucinated = [sum(completion.is_hallucinated for completion in found) for found in completions]
    return {
        "prompts": len(results),
        "pairs": sum(len(result.pairs) for result in results),
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
        "hallucination_rate_ci95": share_interval(hallucinated, judged),
        "chosen_from": dict(Counter(row["chosen_from"] for row in pairs)),
        "left_out_for_length": counts["left_out_for_length"],
        "mean_words_chosen": mean_words([row["chosen"] for row in pairs]),
        "mean_words_rejected": mean_words([row["rejected"] for row in pairs]),
        "mean_closeness": statistics.fmean(row["closeness"] for row in pairs) if pairs else None,
    }


def mean_words(texts: Sequence[str]) -> float | None:
    """Return the mean number of words, or None without texts."""
    return round(sum(len(text.split()) for text in texts) / len(texts), 2) if texts else None


def print_statistics(stats: dict[str, Any], most_bias: float) -> None:
    """Print the results for the completions and the prompts, and warn if the lengths of both sides differ."""
    found = stats["completions"]
    print(f"Judged {found['judged']} of {found['sampled']} completions; the judge failed on {found['judge_failures']}")
    if stats["hallucination_rate"] is not None:
        low, high = stats["hallucination_rate_ci95"]
        rate = stats["hallucination_rate"]
        print(f"Hallucinated: {found['hallucinated']} ({rate:.1%}, 95% interval {low:.1%} to {high:.1%})")
    references = stats["references"]
    if references["references"]:
        print(f"References: {references['references']}, {references['unsound_references']} of them not sound")
    for name, meaning in OUTCOMES.items():
        print(f"  {stats['outcomes'][name]:>6} prompts: {meaning}")
    if stats["pairs"]:
        chosen, rejected = stats["mean_words_chosen"], stats["mean_words_rejected"]
        print(f"Mean words: chosen {chosen:.1f}, rejected {rejected:.1f}; closeness {stats['mean_closeness']:.0%}")
        if stats["left_out_for_length"]:
            print(f"Left out {stats['left_out_for_length']} pairs, so that lengths do not tell chosen from rejected")
        if abs(chosen - rejected) > most_bias * rejected:
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
    if args.choose_by != "text" and args.repair == "always":
        raise InputError(f"--choose_by {args.choose_by} has no effect with --repair always; leave one of them out")
    if args.pairs_per_prompt > 1 and args.choose_by == "text" and args.repair == "off":
        raise InputError("--pairs_per_prompt is for --repair and for --choose_by sentences or share; pass one of them")
    if args.min_margin is not None and not 0 <= args.min_margin < math.inf:
        raise InputError(f"--min_margin {args.min_margin}: give a number of 0 or more, such as 0.5")
    if not 0 <= args.max_length_bias < math.inf:
        raise InputError(f"--max_length_bias {args.max_length_bias}: give a share of 0 or more, such as 0.05")
    if not 0 <= args.sound_below <= args.flawed_above <= 1:
        raise InputError(
            f"--sound_below {args.sound_below} and --flawed_above {args.flawed_above}: give probabilities from 0 to 1, "
            "the second not below the first"
        )
    if not 0 <= args.growth < math.inf:
        raise InputError(f"--growth {args.growth}: give a number of 0 or more, such as 1.5")
    if args.max_length_ratio is not None and not 1 <= args.max_length_ratio < math.inf:
        raise InputError(f"--max_length_ratio {args.max_length_ratio}: give a number of 1 or more, such as 1.5")
    for name in ("chosen_below", "rejected_above"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"--{name} {value}: give a probability from 0 to 1")


def judge_settings(args: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    """Return what the verdicts depend on, apart from the texts; kept ones are used with the same settings only."""
    folders = [str(folder) for folder in (args.judge_model, args.evidence_model) if folder]
    return {
        "judge": judge.name,
        "files": [model_state(folder) for folder in folders],
        "base_url": getattr(judge, "base_url", None),  # from the flag, or from the variable OPENAI_BASE_URL
        "lexicons": lexicon_settings(args.lexicon_dir),
        "commit": commit(),  # of the rules, and of the instructions for a judge behind an API
    }


def main(args: argparse.Namespace) -> int:
    """Judge the completions, make pairs, split them and write them."""
    check_args(args)
    outputs = [args.output_dir / f"{name}.jsonl" for name in OUTPUTS]
    refuse_overwriting(args.completions_path, outputs, "--output_dir")
    add_lexicons(args.lexicon_dir)
    with lock_folder(args.output_dir, PARTIAL):
        return judge_rows(args, outputs)


def judge_rows(args: argparse.Namespace, outputs: Sequence[Path]) -> int:
    """Do what the script is for, while no other run judges into the same folder; return the exit code."""
    own_judge = judge_of_arguments(args, args.device, args.num_threads)
    limits = pair_limits(args, own_judge) if args.choose_by == "text" else sentence_limits(args)
    rows = read_completions(args.completions_path)
    print(f"Loaded {len(rows)} prompts from {args.completions_path}")
    partial = PartialFile(args.output_dir / PARTIAL, judge_settings(args, own_judge))
    judge = KeptChecks(own_judge, partial)
    counts = Counter[str]()
    if args.repair != "always" and args.choose_by == "text":  # the others never choose a reference
        rows = judge_references(judge, rows, counts)
    completions = judge_all(judge, rows, counts)
    if judge.usage:
        print(f"Judge usage: {usage_text(judge.usage)}")
    if isinstance(limits, SentenceLimits):
        results = [
            make_compared_pairs(found, limits, args.pairs_per_prompt, has_reference=row.reference is not None)
            for row, found in zip(rows, completions, strict=True)
        ]
    else:
        results = [make_pair(found, row.sound_reference, limits) for row, found in zip(rows, completions, strict=True)]
    if args.repair != "off":
        repair_limits = RepairLimits(args.sound_below, args.flawed_above, args.flawed_above, growth=args.growth)
        results = repaired_results(judge, rows, completions, results, repair_limits, args.repair, args.pairs_per_prompt)
    pairs = [pair for row, result in zip(rows, results, strict=True) for pair in rows_of(row, result, judge.name)]
    all_pairs = len(pairs)
    pairs = without_length_bias(pairs, args.max_length_bias)
    counts["left_out_for_length"] = all_pairs - len(pairs)
    stats = statistics_of(results, completions, counts, pairs)
    print_statistics(stats, args.max_length_bias)
    if not pairs:
        partial.remove()
        raise InputError(
            f"{args.completions_path}: no pair can be made from it (see the counts above); sample more completions, or "
            "at a higher temperature, with generate_completions.py --num_completions and --temperature"
        )
    train, validation = split_by_prompt(pairs, args.val_fraction, args.seed)
    outcomes = [outcome_row(*each) for each in zip(rows, results, completions, strict=True)]
    for path, content in zip(outputs, (pairs, train, validation, outcomes), strict=True):
        write_jsonl(path, content)
    split = {"seed": args.seed, "train_pairs": len(train), "val_pairs": len(validation)}
    made_by = {"judge": judge.name, "judge_usage": judge.usage, "lexicons": lexicon_settings(args.lexicon_dir)}
    write_json(args.output_dir / "judge_stats.json", {**made_by, **stats, **split, "limits": asdict(limits)})
    partial.remove()
    print(f"Training triplets: {len(train)}\nValidation triplets: {len(validation)}")
    print(f"Saved pairs to {args.output_dir}")
    if not validation:
        print("No pair is left for validation: the next command validates on the training pairs")
    print(f"Next: {next_command(args.output_dir, bool(validation))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
