"""Intervals and tests against values worked by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from evaluation.stats import (
    holm,
    mcnemar_p,
    paired_difference,
    paired_share_interval,
    ratio,
    ratio_interval,
    resampled_sums,
    share_interval,
    sign_flip_p,
    wilson_interval,
    wilson_interval_by_note,
)


def test_wilson_interval_of_six_in_ten() -> None:
    """z = 1.95996: centre (0.6 + z²/20) / (1 + z²/10) = 0.57225, half width 0.25942."""
    z = 1.959964
    centre = (0.6 + z * z / 20) / (1 + z * z / 10)
    half = z * math.sqrt(0.6 * 0.4 / 10 + z * z / 400) / (1 + z * z / 10)
    assert wilson_interval(6, 10) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert [round(100 * bound) for bound in wilson_interval(6, 10)] == [31, 83]


def test_wilson_interval_is_that_of_scipy_without_the_seconds_of_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.stats import binomtest

    cases = [(0, 1), (1, 1), (1, 2), (3, 17), (61, 191), (999, 1000), (0, 5000)]
    for confidence in (0.8, 0.95, 0.99):
        tests = [binomtest(*case).proportion_ci(confidence, method="wilson") for case in cases]
        monkeypatch.setitem(sys.modules, "scipy.stats", None)  # an import would raise
        found = [wilson_interval(*case, confidence) for case in cases]
        monkeypatch.undo()
        assert found == [pytest.approx((test.low, test.high), abs=1e-14) for test in tests]


def test_wilson_interval_at_the_ends() -> None:
    """0 of 10: upper bound z² / (10 + z²) = 0.27753; nothing counted: nothing known."""
    assert wilson_interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((1 - 0.27753, 1), abs=1e-5)
    assert wilson_interval(0, 0) == (0, 1)


def test_several_summaries_of_a_note_count_as_many_as_they_are_worth() -> None:
    """Two summaries of each of four notes, with 2, 0, 1 and 1 hits: share 1/2.

    Variance: (1 + 1 + 0 + 0) / 8² * 4/3 = 1/24. Effective n: 1/4 / (1/24) = 6, times (1.959964 / 3.182446)², where
    3.182446 is the quantile of t with 3 degrees of freedom.
    """
    effective = 6 * (1.959964 / 3.182446) ** 2
    twos = [2.0] * 4
    assert wilson_interval_by_note([2, 0, 1, 1], twos) == pytest.approx(wilson_interval(effective / 2, effective))
    assert wilson_interval_by_note([1, 1, 1, 0], [1, 1, 1, 1]) == wilson_interval(3, 4)  # one summary each
    for share in (0, 1, 2):  # no variance between the notes: as many as notes
        assert wilson_interval_by_note([share] * 4, twos) == wilson_interval(2 * share, 4)
    assert wilson_interval_by_note([2], [3]) == wilson_interval(2 / 3, 1)
    # notes that differ less than independent summaries would are worth no more than those
    assert wilson_interval_by_note([10, 10, 10, 9], [20.0] * 4) == pytest.approx(wilson_interval(39, 80))


@pytest.mark.parametrize("share", [0.15, 0.3])
@pytest.mark.parametrize("alike", [0.2, 0.5, 0.8])
def test_the_interval_keeps_its_level_with_three_alike_summaries_of_20_notes(share: float, alike: float) -> None:
    """Note shares of a beta distribution with the intraclass correlation `alike`; 2,000 samples."""
    rng = np.random.default_rng(0)
    total = (1 - alike) / alike
    of_notes = rng.binomial(3, rng.beta(total * share, total * (1 - share), (2000, 20)))

    def coverage(intervals: list[tuple[float, float]]) -> float:
        return sum(low <= share <= high for low, high in intervals) / len(intervals)

    threes = [3.0] * 20
    assert 0.93 < coverage([wilson_interval_by_note(hits, threes) for hits in of_notes]) < 0.98
    assert coverage([wilson_interval(int(hits.sum()), 60) for hits in of_notes]) < 0.95 - 0.15 * alike


def test_mcnemar_by_hand() -> None:
    """1 against 5 discordant pairs: 2 * (C(6,0) + C(6,1)) / 2**6 = 14/64."""
    assert mcnemar_p(1, 5) == pytest.approx(14 / 64)
    assert mcnemar_p(5, 1) == pytest.approx(14 / 64)
    assert mcnemar_p(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar_p(0, 0) == 1


def test_sign_flips_by_hand() -> None:
    """3 - 1 = 2 of the sums 4, 2, -2, -4: all are as far from 0; 3 + 1 = 4: two of four; of ones it is McNemar's."""
    assert sign_flip_p([3, -1, 0]) == 1
    assert sign_flip_p([3, 1]) == 0.5
    assert sign_flip_p([]) == sign_flip_p([0, 0]) == 1
    assert sign_flip_p([1, 1, 1, 1, 1, -1, 0]) == pytest.approx(mcnemar_p(1, 5))
    assert sign_flip_p([-1] * 34 + [1] * 2) == pytest.approx(mcnemar_p(34, 2))


def test_ratio_is_of_sums_not_of_ratios() -> None:
    assert ratio([1, 0], [1, 9]) == pytest.approx(0.1)
    assert ratio([0, 0], [0, 0]) is None


def test_bootstrap_of_a_mean_agrees_with_its_standard_error() -> None:
    """Denominators of one: the ratio is a mean, whose interval is near mean ± 1.96 * sd / sqrt(n)."""
    values = [float(i % 5 == 0) for i in range(500)]
    low, high = ratio_interval(values, [1.0] * 500) or (0, 0)
    half = 1.96 * math.sqrt(0.2 * 0.8 / 500)
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.004)


def test_bootstrap_resamples_summaries_not_claims() -> None:
    """All errors in half of the summaries: the interval must be that of 20 clusters, not of 200 claims."""
    errors, claims = [10, 0] * 10, [10] * 20
    low, high = ratio_interval(errors, claims) or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 20), abs=0.06)


def test_bootstrap_is_seeded_and_undefined_without_claims() -> None:
    errors, claims = [0, 1, 2, 0, 1, 3, 0, 0, 1, 0], [3, 4, 5, 2, 7, 6, 5, 4, 3, 8]
    assert ratio_interval(errors, claims, seed=1) == ratio_interval(errors, claims, seed=1)
    assert ratio_interval([0, 0], [0, 0]) is None
    assert ratio_interval([0, 1], [0, 2]) == (0.5, 0.5)  # resamples without a claim are left out


def test_paired_difference_uses_the_pairing() -> None:
    """Each note has exactly one error fewer of ten: the difference is the same in every resample."""
    first = [float(2 + i % 7) for i in range(40)]
    second = [value - 1 for value in first]
    result = paired_difference((first, [10.0] * 40), (second, [10.0] * 40))
    assert result is not None
    assert result.difference == pytest.approx(-0.1)
    assert result.interval == pytest.approx((-0.1, -0.1))
    assert result.holds


def test_a_difference_over_five_notes_never_holds() -> None:
    for notes, holds in ((1, False), (5, False), (6, True)):
        ones = [1.0] * notes
        result = paired_difference(([0.5] * notes, ones), ([0.6] * notes, ones))
        assert result is not None
        assert result.interval == pytest.approx((0.1, 0.1))
        assert result.holds is holds


def test_paired_difference_that_does_not_hold() -> None:
    first, second = [1.0, 0.0] * 10, [0.0, 1.0] * 10
    result = paired_difference((first, [1.0] * 20), (second, [1.0] * 20))
    assert result is not None
    assert result.difference == 0
    assert not result.holds
    assert paired_difference(([0], [0]), ([1], [1])) is None


def test_a_share_of_none_or_all_is_not_certain() -> None:
    """No error in 40 claims of 10 summaries (one claims nothing): Wilson's upper bound for 0 of 9, z² / (9 + z²)."""
    z2 = 1.959964**2
    claims = [4.0] * 8 + [8.0, 0.0]
    assert ratio_interval([0.0] * 10, claims) == (0, 0)
    assert share_interval([0.0] * 10, claims) == pytest.approx((0, z2 / (9 + z2)), abs=1e-6)
    assert share_interval(claims, claims) == pytest.approx((9 / (9 + z2), 1), abs=1e-6)
    assert share_interval([0.0], [0.0]) is None
    assert share_interval([1.0] * 8, [2.0] * 8) == wilson_interval(4, 8)  # half of each: no resample differs either
    errors = [1.0, *[0.0] * 9]
    assert share_interval(errors, claims, seed=3) == ratio_interval(errors, claims, seed=3)


def test_two_models_without_an_error_are_not_shown_to_be_equal() -> None:
    """No wrong claim in ten notes, of which one has claims by the second model alone: Bonett and Price for 0 of 9."""
    none, claims = [0.0] * 10, [3.0] * 10
    equal = paired_difference((none, [*claims[1:], 0.0]), (none, claims), of_shares=True)
    assert equal is not None
    assert (equal.difference, equal.interval, equal.holds) == (0, paired_share_interval(0, 0, 9), False)
    all_wrong = paired_difference((claims, claims), (none, claims), of_shares=True)
    assert all_wrong is not None
    assert (all_wrong.interval, all_wrong.holds) == (paired_share_interval(10, 0, 10), True)
    some = paired_difference(([1.0, *none[1:]], claims), (none, claims), of_shares=True)
    assert some == paired_difference(([1.0, *none[1:]], claims), (none, claims))


def test_equal_shares_in_every_note_are_not_certain() -> None:
    """3 of 10 claims wrong in each of 20 notes, then 1 of 5: as if 6 and 4 of 20 notes were wrong, and 2 had changed.

    Bonett and Price: shares 3/22 and 1/22, difference -1/11, half width z sqrt((4/22 - 1/121) / 22).
    """
    first, second = ([3.0] * 20, [10.0] * 20), ([1.0] * 20, [5.0] * 20)
    half = 1.959964 * math.sqrt((4 / 22 - 1 / 121) / 22)
    down = paired_difference(first, second, of_shares=True)
    assert down is not None
    assert (down.difference, *down.interval) == pytest.approx((-0.1, -1 / 11 - half, -1 / 11 + half))
    assert not down.holds
    up = paired_difference(second, first, of_shares=True)
    assert up is not None
    assert up.interval == pytest.approx((1 / 11 - half, 1 / 11 + half))
    same = paired_difference(first, first, of_shares=True)
    assert same is not None
    assert (same.interval, same.holds) == (paired_share_interval(0, 0, 20), False)
    # shares that differ from note to note by the same amount: every resample has this difference
    shares = [[0.5, 0.75] * 30, [0.125, 0.375] * 30]
    both = paired_difference((shares[0], [1.0] * 60), (shares[1], [1.0] * 60), of_shares=True)
    assert both is not None
    assert both.interval == paired_share_interval(0.375 * 60, 0, 60)
    assert both.holds
    # a mean that is no share, such as a length in words, may be exact
    lengths = paired_difference(first, second)
    assert lengths is not None
    assert lengths.interval == pytest.approx((-0.1, -0.1))


def test_paired_share_interval_by_hand() -> None:
    """5 against 1 discordant of 10: shares 6/12 and 2/12, difference -1/3, half width z sqrt((2/3 - 1/9) / 12)."""
    half = 1.959964 * math.sqrt((2 / 3 - 1 / 9) / 12)
    assert paired_share_interval(5, 1, 10) == pytest.approx((-1 / 3 - half, -1 / 3 + half))
    low, high = paired_share_interval(0, 0, 10)  # two equal evaluations of ten notes show no equality
    assert (low, high) == pytest.approx((-1.959964 / math.sqrt(72), 1.959964 / math.sqrt(72)))
    assert paired_share_interval(3, 0, 3)[0] == -1


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, then never below the one before."""
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_resampled_sums_keep_rows_together() -> None:
    """The second column is twice the first in every row, and so in every resample; each sums n rows."""
    values = np.array([[1.0, 2.0, 1.0], [5.0, 10.0, 1.0], [0.0, 0.0, 1.0]])
    sums = resampled_sums(values, seed=0, resamples=50)
    assert sums.shape == (50, 3)
    assert (sums[:, 1] == 2 * sums[:, 0]).all()
    assert (sums[:, 2] == 3).all()
    assert len(set(sums[:, 0])) > 3
