"""Repair the completions of prompts (repair.py), judge the new texts, and keep the pairs that the judge agrees with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fact_checking.checker import coverage
from judging.completion_rows import CompletionsRow, true_coverage
from judging.judge import Judge
from judging.preference_pairs import JudgedCompletion, PairingResult
from judging.repair import Gain, RepairedPair, RepairLimits, repaired_pairs, sentences_of

REPAIR = ("off", "fallback", "always")  # never; for a prompt without another pair; for every prompt


def repaired_results(
    judge: Judge,
    rows: Sequence[CompletionsRow],
    completions: Sequence[Sequence[JudgedCompletion]],
    results: Sequence[PairingResult],
    limits: RepairLimits,
    mode: str,
    pairs_per_prompt: int = 1,
) -> list[PairingResult]:
    """Return the result of each prompt, with repaired pairs where `mode`, one of REPAIR, asks for them.

    With `always`, a prompt without a repaired pair keeps no other pair, so that a file has pairs of one kind.
    """
    wanted = [index for index, result in enumerate(results) if mode == "always" or result.outcome != "pair"]
    made = [
        (index, pair)
        for index in wanted
        for pair in _repairs(rows[index], completions[index], limits, pairs_per_prompt)
    ]
    texts = [(rows[index].source, text) for index, pair in made for text in (pair.chosen, pair.rejected)]
    checks = judge.check_all(texts, "Repaired")
    repaired: dict[int, list[PairingResult]] = {}
    for (index, pair), chosen_check, rejected_check in zip(made, checks[::2], checks[1::2], strict=True):
        if chosen_check is None or rejected_check is None:
            continue
        chosen, rejected = (
            JudgedCompletion.of(text, check, finished=True, coverage=true_coverage(rows[index], text), is_repaired=True)
            for text, check in ((pair.chosen, chosen_check), (pair.rejected, rejected_check))
        )
        if chosen.score < rejected.score and chosen.completeness >= rejected.completeness:
            repaired.setdefault(index, []).append(PairingResult("pair", chosen, rejected))
    unrepaired = [PairingResult("not_repaired") if mode == "always" else result for result in results]
    for index, (first, *others) in repaired.items():
        unrepaired[index] = replace(first, further=tuple(others))
    return unrepaired


def _repairs(
    row: CompletionsRow, completions: Sequence[JudgedCompletion], limits: RepairLimits, most: int
) -> list[RepairedPair]:
    finished = [sentences_of(each.text, each.sentences) for each in completions if each.finished]
    return repaired_pairs(finished, limits, _gain_of(row.reference), most) if finished else []


def _gain_of(reference: str | None) -> Gain | None:
    """Return a function that counts how many facts of the reference a sentence adds to a text."""
    if reference is None:
        return None
    stated: dict[str, int] = {}

    def facts(text: str) -> int:
        if text not in stated:
            stated[text] = coverage(reference, text)[0] if text else 0
        return stated[text]

    return lambda text, sentence: facts(f"{text} {sentence}".strip()) - facts(text)
