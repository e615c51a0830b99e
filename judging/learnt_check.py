"""Turn the words and the probability of a learnt judge into claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fact_checking.claims import ERROR, REVIEW, UNSUPPORTED, Claim, FactCheck
from judging.word_scores import WordScore, overlaps, stretches

LEARNT_TYPE = UNSUPPORTED  # the type of every claim of a learnt judge, which knows no kinds of error


def learnt_check(
    summary: str, words: Sequence[WordScore], word_threshold: float, probability: float, threshold: float
) -> FactCheck:
    """Return the stretches of words with scores of at least `word_threshold` as unsupported claims.

    They are errors if the probability of the whole summary reaches `threshold`, and for review below it. An error has
    at least one stretch: the word with the highest score, if none reaches the threshold of words.
    """
    is_error = probability >= threshold
    found = marked_stretches(words, word_threshold, is_error)
    claims = tuple(claim_of(summary, stretch, ERROR if is_error else REVIEW) for stretch in found)
    return FactCheck(claims, graded_score=probability, probability=probability)


def marked_stretches(words: Sequence[WordScore], word_threshold: float, is_error: bool) -> list[WordScore]:
    """Return the stretches at the threshold, or for an error without any the word with the highest score."""
    found = stretches(words, word_threshold)
    return found or ([max(words, key=lambda word: word.score)] if is_error and words else [])


def claim_of(summary: str, stretch: WordScore, level: str) -> Claim:
    """Return the claim that a stretch of the summary is unsupported."""
    text = summary[stretch.start : stretch.end]
    return Claim(LEARNT_TYPE, text, stretch.start, stretch.end, UNSUPPORTED, level, None, None)


def joined_check(
    rules: FactCheck,
    summary: str,
    words: Sequence[WordScore],
    word_threshold: float,
    probability: float,
    threshold: float,
) -> FactCheck:
    """Return the claims of the rules, with learnt stretches wherever the rules have no error.

    The errors of the rules stay as they are, with their explanations. Whether the summary counts as hallucinated is
    decided by `probability`, the one of rules and detector together, since rules that err on a kind of claim would
    otherwise flag more true summaries than the threshold allows.
    """
    is_error = probability >= threshold
    left = [word if not overlaps(word, rules.errors) else replace(word, score=0.0) for word in words]
    found = marked_stretches(left, word_threshold, is_error and not rules.has_hallucination)
    level = ERROR if is_error else REVIEW
    claims = [*rules.claims, *(claim_of(summary, stretch, level) for stretch in found)]
    claims.sort(key=lambda claim: (claim.start, claim.end))
    return FactCheck(tuple(claims), graded_score=probability, probability=probability, flagged=is_error)
