"""Words from tokens, stretches from words, and claims from stretches, by hand."""

from __future__ import annotations

from fact_checking.claims import CONTRADICTED, ERROR, REVIEW, SUPPORTED, UNSUPPORTED, Claim, FactCheck
from judging.learnt_check import joined_check, learnt_check
from judging.word_scores import WordScore, stretches, word_scores

SUMMARY = "No fever, 2.5 mg."
TOKENS = [(0, 2), (2, 6), (6, 8), (8, 9), (9, 11), (11, 13), (13, 16), (16, 17)]  # " fe", "ver", ",", " 2", ".5", ...


def test_a_word_has_the_joined_scores_of_its_tokens_and_punctuation_has_none() -> None:
    scores = [0.1, 0.9, 0.3, 0.99, 0.2, 0.4, 0.05, 0.99]
    assert word_scores(SUMMARY, TOKENS, scores, max) == [
        WordScore(0, 2, 0.1),
        WordScore(3, 8, 0.9),
        WordScore(10, 13, 0.4),
        WordScore(14, 16, 0.05),
    ]
    assert word_scores(SUMMARY, TOKENS, scores, sum)[1] == WordScore(3, 8, 0.9 + 0.3)


def test_neighbouring_words_are_one_stretch() -> None:
    words = [WordScore(0, 2, 0.6), WordScore(3, 8, 0.9), WordScore(10, 13, 0.4), WordScore(14, 16, 0.5)]
    assert stretches(words, 0.5) == [WordScore(0, 8, 0.9), WordScore(14, 16, 0.5)]
    assert stretches(words, 0.95) == []


def test_the_probability_of_the_summary_decides_the_level() -> None:
    words = [WordScore(0, 2, 0.1), WordScore(3, 8, 0.9)]
    low, high = (learnt_check(SUMMARY, words, 0.5, probability, 0.6) for probability in (0.59, 0.6))
    assert [(claim.text, claim.level, claim.verdict) for claim in low.claims] == [("fever", REVIEW, UNSUPPORTED)]
    assert [(claim.text, claim.level) for claim in high.claims] == [("fever", ERROR)]
    assert (low.has_hallucination, high.has_hallucination, high.score) == (False, True, 0.6)


def test_an_error_marks_the_most_doubtful_word_if_none_reaches_the_threshold() -> None:
    words = [WordScore(0, 2, 0.1), WordScore(3, 8, 0.2)]
    assert [claim.text for claim in learnt_check(SUMMARY, words, 0.5, 0.9, 0.6).errors] == ["fever"]
    assert learnt_check(SUMMARY, words, 0.5, 0.1, 0.6).claims == ()


def rule_claim(text: str, verdict: str, level: str = ERROR) -> Claim:
    start = SUMMARY.index(text)
    return Claim("finding", text, start, start + len(text), verdict, level, "The note.", 0)


def test_claims_of_the_rules_stay_and_learnt_words_are_added_where_they_have_no_error() -> None:
    rules = FactCheck((rule_claim("No fever", SUPPORTED), rule_claim("2.5 mg", CONTRADICTED)))
    words = [WordScore(0, 2, 0.1), WordScore(3, 8, 0.9), WordScore(10, 13, 0.8)]
    check = joined_check(rules, SUMMARY, words, 0.5, 0.7, 0.6)
    assert set(rules.claims) <= set(check.claims)
    added = [claim for claim in check.claims if claim not in rules.claims]
    assert [(claim.text, claim.level) for claim in added] == [("fever", ERROR)]  # 2.5 is an error already
    assert (check.probability, check.score) == (0.7, 0.7)
    assert check.has_hallucination
    unsure = joined_check(rules, SUMMARY, words, 0.5, 0.5, 0.6)
    assert (len(unsure.errors), unsure.has_hallucination) == (1, False)  # the rules' error stays, the sum decides
    assert check.claims == tuple(sorted(check.claims, key=lambda claim: (claim.start, claim.end)))
