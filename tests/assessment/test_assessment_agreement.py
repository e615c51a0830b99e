"""Agreement of two judges, compared with tables worked out by hand."""

from __future__ import annotations

import pytest

from assessment.agreement import Agreement, share_text


def test_counts() -> None:
    pairs = [(True, True), (True, False), (False, True), (False, False), (False, False), (True, False)]
    table = Agreement.of(pairs)
    assert table == Agreement(both=1, only_first=2, only_second=1, neither=2)
    assert (table.n, table.agreed) == (6, 3)


def test_kappa_and_its_interval() -> None:
    """Yes from both 20, from the first only 5, from the second only 10, from neither 15, of 50.

    They agree on 35/50 = 0.7. By chance: 0.5 * 0.6 + 0.5 * 0.4 = 0.5. Kappa = (0.7 - 0.5) / (1 - 0.5) = 0.4.
    Variance (Fleiss, Cohen and Everitt 1969), with 1 - kappa = 0.6:
      agreeing   0.4 (1 - 1.1 * 0.6)^2 + 0.3 (1 - 0.9 * 0.6)^2 = 0.04624 + 0.06348 = 0.10972
      differing  0.6^2 (0.1 * 1.1^2 + 0.2 * 0.9^2)             = 0.36 * 0.283      = 0.10188
      correction (0.4 - 0.5 * 0.6)^2                                               = 0.01
      (0.10972 + 0.10188 - 0.01) / (50 * 0.5^2) = 0.016128; 1.96 times its root is 0.24891
    """
    table = Agreement(20, 5, 10, 15)
    assert table.kappa == pytest.approx(0.4)
    assert table.kappa_interval == pytest.approx((0.4 - 0.24891, 0.4 + 0.24891), abs=1e-5)
    assert table.lines() == [
        "agree on 35 of 50 (70.0%, 95% interval 56.2% to 80.9%)",
        "Cohen's kappa 0.40 (95% interval 0.15 to 0.65), n = 50",
    ]


def test_the_order_of_the_judges_does_not_matter() -> None:
    table, turned = Agreement(3, 7, 1, 20), Agreement(3, 1, 7, 20)
    assert table.kappa == pytest.approx(turned.kappa)
    assert table.kappa_interval == pytest.approx(turned.kappa_interval)


def test_agreement_by_chance_alone_and_full_disagreement() -> None:
    assert Agreement(1, 1, 1, 1).kappa == 0
    assert (Agreement(0, 0, 3, 7).kappa, Agreement(0, 0, 3, 7).kappa_interval) == (0, None)  # the first never says yes
    assert (Agreement(0, 5, 5, 0).kappa, Agreement(0, 5, 5, 0).kappa_interval) == (-1, None)


def test_full_agreement_has_no_interval_since_the_formula_would_be_sure_of_it() -> None:
    table = Agreement(2, 0, 0, 3)
    assert (table.kappa, table.kappa_interval) == (1, None)
    assert table.lines() == [
        "agree on 5 of 5 (100.0%, 95% interval 56.6% to 100.0%)",  # 5 / (5 + 1.96^2) = 0.566
        "Cohen's kappa 1.00 (no interval: the answers vary too little), n = 5",
    ]


@pytest.mark.parametrize("table", [Agreement(0, 0, 0, 0), Agreement(4, 0, 0, 0), Agreement(0, 0, 0, 4)])
def test_kappa_is_undefined_where_there_is_one_answer_only(table: Agreement) -> None:
    assert (table.kappa, table.kappa_interval) == (None, None)
    assert "undefined" in table.lines()[1]


def test_shares() -> None:
    assert share_text(0, 0) == "0 of 0"
    assert share_text(1, 4) == "1 of 4 (25.0%, 95% interval 4.6% to 69.9%)"
