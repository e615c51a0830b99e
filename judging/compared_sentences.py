"""Choose and reject among the completions of one prompt by how many of their sentences are likely to be false.

A judge that sorts whole texts finds a sound one only among short texts, since each further sentence may be false. Here
the chosen text need not be sound: it has fewer false sentences than the rejected one, as the judge expects (the sum of
the sentences' doubts), is about as long or longer, and states as much of the reference. So pairs of long texts are
made as well, and a control that is trained on the chosen texts alone still learns from some false sentences.

The number of false sentences also falls where a text has fewer sentences, and their share where it has more; a model
that learns from such pairs says less, or more. With `by_share` the chosen text has a smaller share of false sentences
and fewer of them, at about the same length.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from judging.preference_pairs import JudgedCompletion, PairingResult, length_ratio
from judging.word_scores import words_of

LEAST_COVERAGE = 0.4  # of the reference's facts, by the chosen text
LEAST_WORDS = 0.8  # of the chosen text, as a multiple of the median of the prompt's completions
LONG_WORDS = 40  # by share, longer texts make better pairs up to this number of words


@dataclass(frozen=True)
class SentenceLimits:
    """When two completions make a pair."""

    min_difference: float = 0.6  # of the expected numbers of false sentences, or of their shares
    mean_doubt: float = 0.65  # highest mean doubt of the sentences of a chosen text
    rejected_above: float = 0.6  # probability that a rejected text has an error
    max_length_ratio: float = 1.25  # of the numbers of words of rejected and chosen text
    most_words: float = 2.0  # of the chosen text, as a multiple of the rejected one's
    by_share: bool = False  # compare the shares of false sentences instead of their numbers
    min_fewer: float = 0.0  # of the expected numbers of false sentences, also by share


SHARE_LIMITS = SentenceLimits(min_difference=0.2, max_length_ratio=1.1, most_words=1.2, by_share=True, min_fewer=0.3)


def false_sentences(completion: JudgedCompletion) -> float:
    """Return how many sentences the judge expects to be false."""
    return math.fsum(sentence.doubt for sentence in completion.sentences)


def false_share(completion: JudgedCompletion) -> float:
    """Return the share of the sentences that the judge expects to be false."""
    return false_sentences(completion) / len(completion.sentences)


def make_compared_pairs(
    completions: Sequence[JudgedCompletion], limits: SentenceLimits, pairs_per_prompt: int, *, has_reference: bool
) -> PairingResult:
    """Return up to `pairs_per_prompt` pairs of finished completions, no text in two of them; the clearest come first.

    Without a pair, the outcome is the first test that no two completions pass. `has_reference`: the prompt has one, so
    that it gives no pair if the reference states no fact to tell completeness by, as one of a single word.
    """
    if not completions:
        return PairingResult("all_failed")
    if has_reference and all(each.coverage is None for each in completions):
        return PairingResult("uncertain", reason="the reference states no fact that completeness could be told by")
    finished = [each for each in completions if each.finished and each.sentences]
    if not finished:
        return PairingResult("unfinished_chosen")
    median = statistics.median(each.words for each in finished)
    better = [each for each in finished if _may_be_chosen(each, limits, LEAST_WORDS * median)]
    worse = [each for each in finished if _error_probability(each) > limits.rejected_above]
    if not better:
        return PairingResult("nothing_to_choose")
    if not worse:
        return PairingResult("tie")
    tests: dict[str, Callable[[JudgedCompletion, JudgedCompletion], bool]] = {
        "says_less": lambda chosen, rejected: chosen.completeness >= rejected.completeness,
        "identical": lambda chosen, rejected: words_of(chosen.text) != words_of(rejected.text),
        "lengths_differ": lambda chosen, rejected: (
            1 / limits.most_words <= length_ratio(rejected, chosen) <= limits.max_length_ratio
        ),
        "within_margin": lambda chosen, rejected: (
            _difference(chosen, rejected, limits) >= limits.min_difference
            and false_sentences(rejected) - false_sentences(chosen) >= limits.min_fewer
        ),
    }
    pairs = list(product(better, worse))
    for outcome, is_passed in tests.items():
        pairs = [pair for pair in pairs if is_passed(*pair)]
        if not pairs:
            return PairingResult(outcome)
    best_first = sorted(pairs, key=partial(_clearness, limits=limits), reverse=True)
    first, *further = _without_shared_texts(best_first)[:pairs_per_prompt]
    return PairingResult("pair", *first, further=tuple(PairingResult("pair", *pair) for pair in further))


def _may_be_chosen(completion: JudgedCompletion, limits: SentenceLimits, least_words: float) -> bool:
    is_complete = completion.completeness >= LEAST_COVERAGE and completion.words >= least_words
    return not completion.errors and is_complete and false_share(completion) <= limits.mean_doubt


def _error_probability(completion: JudgedCompletion) -> float:
    """Return the judge's probability, or whether the rules found an error for a judge that gives none."""
    return float(completion.errors > 0) if completion.probability is None else completion.probability


def _difference(chosen: JudgedCompletion, rejected: JudgedCompletion, limits: SentenceLimits) -> float:
    measure = false_share if limits.by_share else false_sentences
    return measure(rejected) - measure(chosen)


def _clearness(pair: tuple[JudgedCompletion, JudgedCompletion], limits: SentenceLimits) -> float:
    """Return how good a pair of a prompt is: by share, a difference counts for more in a longer text."""
    return _difference(*pair, limits) * (min(pair[1].words, LONG_WORDS) if limits.by_share else 1)


def _without_shared_texts(
    pairs: Sequence[tuple[JudgedCompletion, JudgedCompletion]],
) -> list[tuple[JudgedCompletion, JudgedCompletion]]:
    """Return the pairs, in their order, that share no text with an earlier one."""
    used: set[str] = set()
    kept = []
    for chosen, rejected in pairs:
        if not used & {chosen.text, rejected.text}:
            used |= {chosen.text, rejected.text}
            kept.append((chosen, rejected))
    return kept
