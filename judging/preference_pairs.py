"""Choose and reject among the judged completions of one prompt.

A judge without probabilities sorts texts into sound and flawed. The chosen text is a sound, finished completion that is
at least as complete as the median, with the best score; if there is none, it is the reference. The rejected text is a
completion with errors or, if none has any, one below the median completeness.

A judge with probabilities (a learnt judge, alone or with the rules) abstains in between: the chosen text has a
probability of an error below one limit and no error of the rules, the rejected text a probability above another limit.

In both cases the chosen text is never less complete than the rejected one, since such a pair would teach the model to
leave facts out. Among all such pairs, a judge without probabilities takes the two texts with the most similar wording,
so that they differ in the error; other differences would teach the model to avoid words that were right. A judge with
probabilities treats the reference like a completion, and takes the pair that it is surest of, less a penalty for
different lengths: short texts have fewer errors, so without it chosen texts would be short.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from fact_checking.claims import UNVERIFIABLE, FactCheck, SentenceDoubt
from judging.sentence_doubts import sentence_doubts
from judging.word_scores import length_penalty, similarity, words_of

# what can become of a prompt, in the order of the statistics
OUTCOMES = {
    "pair": "a preference pair",
    "tie": "all completions are equally good",
    "identical": "chosen and rejected have the same words",
    "says_less": "every flawed completion is more complete than any sound text",
    "lengths_differ": "every text to choose is shorter than the rejected ones by more than --max_length_ratio",
    "within_margin": "the judge does not score any rejected text worse than the chosen one by --min_margin",
    "uncertain": "the judge is not sure enough of a text to choose, or of a text to reject",
    "unfinished_chosen": "no completion that is good enough is finished",
    "nothing_to_choose": "no completion is sound and complete enough, and no sound reference is known",
    "not_repaired": "no flawed sentence of a completion has a sound one of its length that could take its place",
    "all_failed": "the judge failed on every completion, or all were blank",
}
OPEN_POLARITY = "negation"  # type of a claim whose verdict is open because a denial in the note could not be read


@dataclass(frozen=True)
class JudgedCompletion:
    """A completion, or the reference, with the results of the judge."""

    text: str
    finished: bool
    errors: int
    score: float  # the judge's continuous score, higher is worse
    coverage: float | None  # share of the reference's true facts that it states; None if no reference is known
    is_reference: bool = False
    probability: float | None = None  # of at least one error; None for a judge without probabilities
    is_open: bool = False  # whether a finding may be denied or not
    sentences: tuple[SentenceDoubt, ...] = ()
    is_repaired: bool = False  # whether it is made of sentences of several completions, see repair.py
    flagged: bool | None = None  # the decision of a judge that weighs all evidence instead of counting errors

    @classmethod
    def of(
        cls,
        text: str,
        check: FactCheck,
        *,
        finished: bool,
        coverage: float | None,
        is_reference: bool = False,
        is_repaired: bool = False,
    ) -> JudgedCompletion:
        """Return the completion with the results of a check."""
        return cls(
            text,
            finished,
            len(check.errors),
            check.score,
            coverage,
            is_reference,
            check.probability,
            is_open=any(claim.type == OPEN_POLARITY and claim.verdict == UNVERIFIABLE for claim in check.claims),
            sentences=sentence_doubts(text, check),
            is_repaired=is_repaired,
            flagged=check.flagged,
        )

    @property
    def is_hallucinated(self) -> bool:
        """Return the judge's verdict; `errors` may hold errors of the rules that it does not share."""
        return self.errors > 0 if self.flagged is None else self.flagged

    @property
    def completeness(self) -> float:
        """Return the coverage, or 1 if it is not known."""
        return 1.0 if self.coverage is None else self.coverage

    @property
    def words(self) -> int:
        """Return the number of words, separated by white space."""
        return len(self.text.split())


@dataclass(frozen=True)
class PairLimits:
    """When a pair is made. The probabilities have no effect for a judge that gives none."""

    min_margin: float = 0.0  # of the scores of rejected and chosen
    chosen_below: float = 0.5
    rejected_above: float = 0.5
    max_length_ratio: float | None = None  # of the numbers of words of rejected and chosen text


@dataclass(frozen=True)
class PairingResult:
    """What became of a prompt: one of OUTCOMES with its reason, and if it is a pair, the two texts."""

    outcome: str
    chosen: JudgedCompletion | None = None
    rejected: JudgedCompletion | None = None
    reason: str = ""
    further: tuple[PairingResult, ...] = ()  # more pairs of the same prompt

    @property
    def pairs(self) -> tuple[PairingResult, ...]:
        """Return every pair of the prompt."""
        return (self, *self.further) if self.outcome == "pair" else ()


def make_pair(
    completions: Sequence[JudgedCompletion],
    reference: JudgedCompletion | None = None,
    limits: PairLimits | None = None,
) -> PairingResult:
    """Choose and reject among the completions of one prompt and its sound reference, as the module's docstring says."""
    limits = limits or PairLimits()
    if not completions:
        return PairingResult("all_failed")
    if any(each.probability is not None for each in completions):
        return _make_sure_pair(completions, reference, limits)
    median = statistics.median(each.completeness for each in completions)
    sound = [each for each in completions if not each.errors and each.completeness >= median]
    flawed = [each for each in completions if each.errors] or [each for each in completions if each not in sound]
    if not flawed:
        return PairingResult("tie")
    readable = [each for each in sound if not each.is_open]
    finished = [each for each in readable if each.finished] + ([reference] if reference else [])
    if not finished:
        if sound and not readable:
            return PairingResult("uncertain", reason="every sound text has a finding of which a denial is unclear")
        return PairingResult("unfinished_chosen" if sound else "nothing_to_choose")
    return _best_pair(finished, flawed, limits)


def _make_sure_pair(
    completions: Sequence[JudgedCompletion], reference: JudgedCompletion | None, limits: PairLimits
) -> PairingResult:
    """Choose and reject by the probabilities, and abstain where the judge is not sure."""
    candidates = [each for each in (*completions, *([reference] if reference else [])) if each.probability is not None]
    sound = [each for each in candidates if _is_surely_sound(each, limits)]
    flawed = [each for each in completions if (each.probability or 0.0) > limits.rejected_above]
    lowest = min(each.probability or 0.0 for each in candidates)
    highest = max(each.probability or 0.0 for each in completions)
    if not sound:
        reason = f"no text to choose: lowest probability of an error {lowest:.2f}, limit {limits.chosen_below:.2f}"
        return PairingResult("uncertain", reason=reason)
    if not flawed:
        reason = f"no text to reject: highest probability of an error {highest:.2f}, limit {limits.rejected_above:.2f}"
        return PairingResult("uncertain", reason=reason)
    finished = [each for each in sound if each.finished]
    if not finished:
        return PairingResult("unfinished_chosen")
    return _best_pair(finished, flawed, limits)


def _is_surely_sound(completion: JudgedCompletion, limits: PairLimits) -> bool:
    probability = completion.probability
    assert probability is not None
    return probability < limits.chosen_below and not completion.errors and not completion.is_open


def _best_pair(
    finished: Sequence[JudgedCompletion], flawed: Sequence[JudgedCompletion], limits: PairLimits
) -> PairingResult:
    """Return the best of all pairs that pass the tests, or the first test that none passes."""
    tests: dict[str, Callable[[JudgedCompletion, JudgedCompletion], bool]] = {
        "says_less": lambda chosen, rejected: chosen.completeness >= rejected.completeness,
        "identical": lambda chosen, rejected: words_of(chosen.text) != words_of(rejected.text),
        "lengths_differ": lambda chosen, rejected: (
            length_ratio(rejected, chosen) <= (limits.max_length_ratio or math.inf)
        ),
        "within_margin": lambda chosen, rejected: rejected.score - chosen.score >= limits.min_margin,
    }
    pairs = list(product(finished, flawed))
    for outcome, is_passed in tests.items():
        pairs = [pair for pair in pairs if is_passed(*pair)]
        if not pairs:
            return PairingResult(outcome)
    if any(chosen.probability is not None for chosen, _ in pairs):
        return PairingResult("pair", *max(pairs, key=sureness))
    pairs = [pair for pair in pairs if not pair[0].is_reference] or pairs
    best = min(chosen.score for chosen, _ in pairs)
    return PairingResult("pair", *max((pair for pair in pairs if pair[0].score == best), key=closeness))


def length_ratio(rejected: JudgedCompletion, chosen: JudgedCompletion) -> float:
    """Return the number of words of the rejected text over the number of the chosen one."""
    return rejected.words / max(chosen.words, 1)


def sureness(pair: tuple[JudgedCompletion, JudgedCompletion]) -> float:
    """Return the difference of the probabilities of an error, less the penalty for different lengths."""
    chosen, rejected = pair
    difference = (rejected.probability or 0.0) - (chosen.probability or 0.0)
    return difference - length_penalty(chosen.words, rejected.words)


def closeness(pair: tuple[JudgedCompletion, JudgedCompletion]) -> float:
    """Return the share of words that both texts have in the same order, 0 to 1 (Ratcliff and Obershelp)."""
    first, second = (completion.text.split() for completion in pair)
    return similarity(first, second)
