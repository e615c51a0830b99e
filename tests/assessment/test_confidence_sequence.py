"""The confidence sequence, worked out by hand, and its exact risk of an error when checked after every rating."""

from __future__ import annotations

from itertools import product
from math import exp, log

import numpy as np
import pytest
from scipy.special import beta

from assessment.confidence_sequence import confidence_sequence, further_observations, log_ratio, side_of


def test_log_ratio_by_hand() -> None:
    # the prior is Beta(1, 4); B(1, 4) = 1/4
    # 1 of 1: B(2, 4) / B(1, 4) / p = (1/20) / (1/4) / p = 0.2 / p
    assert log_ratio(1, 0, 0.15) == pytest.approx(log(0.2 / 0.15))
    # 3 of 3: B(4, 4) / B(1, 4) / p^3 = (1/140) / (1/4) / 0.003375 = 8.4656
    assert log_ratio(3, 0, 0.15) == pytest.approx(log(1 / 35 / 0.003375))
    # 0 of n: B(1, 4 + n) / B(1, 4) / (1 - p)^n = 4 / (4 + n) / 0.85^n
    assert log_ratio(0, 32, 0.15) == pytest.approx(log(4 / 36) - 32 * log(0.85))
    # 1 of 2: B(2, 5) / B(1, 4) / (p (1 - p)) = (1/30) / (1/4) / 0.1275 = 1.0458
    assert log_ratio(1, 1, 0.15) == pytest.approx(log(2 / 15 / 0.1275))


def test_interval_by_hand() -> None:
    # the ends are the shares with a ratio of 20: 0.2 / p for 1 of 1, and 0.8 / (1 - p) for 0 of 1
    assert confidence_sequence(1, 1) == pytest.approx((0.01, 1))
    assert confidence_sequence(0, 1) == pytest.approx((0, 0.96))
    # with 90% confidence the ratio is 10
    assert confidence_sequence(1, 1, 0.9) == pytest.approx((0.02, 1))
    assert confidence_sequence(0, 0) == (0, 1)


@pytest.mark.parametrize(("hits", "n"), [(1, 1), (0, 9), (4, 30), (30, 50), (15, 100), (90, 100)])
def test_the_interval_holds_the_observed_share_and_ends_at_the_limit(hits: int, n: int) -> None:
    low, high = confidence_sequence(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    for end in {low, high} - {0, 1}:
        assert log_ratio(hits, n - hits, end) == pytest.approx(log(20), rel=1e-3)


def test_side_by_hand() -> None:
    # 0 of n is excluded from 4 / (4 + n) / 0.85^n >= 20 on: 17.6 for n = 31, 20.2 for n = 32
    assert side_of(0.15, 0, 31) is None
    assert side_of(0.15, 0, 32) == "under"
    # 3 of 3: 8.47, see above; 4 of 4: B(5, 4) / B(1, 4) / p^4 = (1/280) / (1/4) / 0.00050625 = 28.2
    assert side_of(0.15, 3, 3) is None
    assert side_of(0.15, 4, 4) == "over"
    assert side_of(0.15, 30, 50) == "over"
    assert side_of(0.15, 0, 0) is None
    assert side_of(0.15, 15, 100) is None


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (0, 5), (5, 5), (3, 17), (40, 90)])
@pytest.mark.parametrize("share", [0.02, 0.15, 0.6])
def test_the_ratio_is_a_martingale(hits: int, n: int, share: float) -> None:
    misses = n - hits
    after_hit, after_miss = log_ratio(hits + 1, misses, share), log_ratio(hits, misses + 1, share)
    expected = share * exp(after_hit) + (1 - share) * exp(after_miss)
    assert expected == pytest.approx(exp(log_ratio(hits, misses, share)))


@pytest.mark.parametrize("share", [0.02, 0.15, 0.5, 0.9])
def test_the_true_share_is_excluded_at_any_of_500_looks_with_at_most_5_percent(share: float) -> None:
    # probabilities[k]: k hits so far, and the true share excluded at no look
    probabilities, excluded = np.ones(1), 0.0
    for n in range(1, 501):
        probabilities = np.append(probabilities * (1 - share), 0) + np.append(0, probabilities * share)
        out = np.array([side_of(share, hits, n) is not None for hits in range(n + 1)])
        excluded += probabilities[out].sum()
        probabilities[out] = 0
    assert 0.01 < excluded <= 0.05
    assert excluded + probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("share", [0.05, 0.15, 0.5])
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_two_summaries_of_a_note_count_as_one_observation_and_keep_the_risk_below_5_percent(
    share: float, alike: float
) -> None:
    """Exact over 60 notes, with looks after every summary, also within a note. `alike` is the correlation in a note."""
    assert 0 < risk(share, alike, notes=60, by_note=True) <= 0.05
    if alike:  # if every summary counts, the risk is over 5%
        assert risk(share, alike, notes=60, by_note=False) > 0.07


def risk(share: float, alike: float, *, notes: int, by_note: bool) -> float:
    """Return the probability that the true share is excluded at some look."""
    both = share**2 + alike * share * (1 - share)
    after = {1: both / share, 0: (share - both) / (1 - share)}  # probability of a second hit in the note
    probabilities, excluded = {0: 1.0}, 0.0  # hits so far -> probability of excluding nothing so far
    for done in range(notes):
        before, probabilities = probabilities, {}
        for hits, probability in before.items():
            for first, second in product((0, 1), (0, 1)):
                here = probability * (share if first else 1 - share) * (after[first] if second else 1 - after[first])
                within = (hits / 2 + first, done + 1) if by_note else (hits + first, 2 * done + 1)
                total = hits + first + second
                at_end = (total / 2, done + 1) if by_note else (total, 2 * done + 2)
                if here and (side_of(share, *within) or side_of(share, *at_end)):
                    excluded += here
                else:
                    probabilities[total] = probabilities.get(total, 0) + here
    return excluded


def test_a_small_part_of_an_observation_excludes_no_share_below_its_own() -> None:
    low, high = confidence_sequence(0.01, 1000)
    assert low == 0
    assert 0 < high < 0.01
    assert confidence_sequence(1 / 3, 1)[0] == pytest.approx((4 * beta(4 / 3, 14 / 3) / 20) ** 3, rel=1e-2)


@pytest.mark.parametrize(
    ("hits", "n", "more"),
    [
        (0, 10, 22),  # 32 in all, see above
        (0, 31, 1),
        (4, 20, 587),
        (8, 30, 76),
        (30, 50, 0),
    ],
)
def test_further_observations(hits: int, n: int, more: int) -> None:
    assert further_observations(0.15, hits, n, most=10_000) == more

    def excluded(total: int) -> bool:
        return log_ratio(hits / n * total, (n - hits) / n * total, 0.15) >= log(20)

    assert excluded(n + more)
    assert more == 0 or not excluded(n + more - 1)
    assert further_observations(0.15, hits, n, most=more) == more
    assert more == 0 or further_observations(0.15, hits, n, most=more - 1) is None


def test_an_observed_share_at_the_threshold_is_never_excluded() -> None:
    assert further_observations(0.15, 15, 100, most=10_000) is None
    assert further_observations(0.15, 151, 1000, most=10_000) is None
