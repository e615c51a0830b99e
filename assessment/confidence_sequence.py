"""A confidence sequence for a proportion: an interval that stays valid when it is checked after every observation.

A Wilson interval misses the true proportion in 5% of samples of one planned size. Checked after every observation
until it excludes a threshold, it errs far more often (measured by benchmarks/stopping_rule.py).

With k hits in n observations, the beta-binomial mixture likelihood ratio compares all proportions q, weighted by a
Beta(a, b) density, with one proportion p:

    M_n(p) = integral of q^k (1-q)^(n-k) Beta(q; a, b) dq / (p^k (1-p)^(n-k))
           = B(a+k, b+n-k) / (B(a, b) p^k (1-p)^(n-k))

If p is the true proportion, M_n(p) is a martingale with mean 1. By Ville's inequality it ever reaches 1/alpha with
probability at most alpha. The confidence sequence is the interval of all p with M_n(p) < 1/alpha. With probability
1 - alpha it contains the true proportion at every n, whatever rule ends the sampling.

An observation may also be a share from 0 to 1, such as the share of hallucinated summaries among several of one note,
which are no independent observations: k is then the sum of the shares, and n the number of notes. The weight of one
observation x, (q/p)^x ((1-q)/(1-p))^(1-x), is convex in x. So its mean is at most that of a variable of 0 and 1 with
the same mean, which is 1. M_n(p) is then a supermartingale, and the bound holds as well: by this proof for checks after
whole notes, by an exact computation in the tests also for checks within a note.

Sources: Ville, Étude critique de la notion de collectif (1939); Robbins, Annals of Mathematical Statistics 41 (1970);
Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49 (2021), arXiv:1810.08240; for shares: the same authors,
Probability Surveys 17 (2020), arXiv:1808.03204.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from typing import Literal

from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

from evaluation.stats import Interval

CONFIDENCE = 0.95
# Any a, b > 0 are valid. These decide on a threshold of 15% soonest, on average over true shares of 5%, 30% and 50%.
PRIOR = (1.0, 4.0)
Prior = tuple[float, float]  # a, b of the Beta density
Side = Literal["over", "under"]


def log_ratio(hits: float, misses: float, share: float, prior: Prior = PRIOR) -> float:
    """Return ln M_n(share), the evidence against `share` in nats."""
    a, b = prior
    mixture = betaln(a + hits, b + misses) - betaln(a, b)
    return float(mixture - xlogy(hits, share) - xlog1py(misses, -share))


def log_limit(confidence: float = CONFIDENCE) -> float:
    """Return ln(1 / alpha): a share is excluded once its log ratio reaches this value."""
    return -math.log1p(-confidence)


def confidence_sequence(hits: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the shares that are not excluded after `hits` of `n` observations; (0, 1) for no observation."""
    a, b = PRIOR
    low = _lower_end(hits, n - hits, (a, b), log_limit(confidence))
    return low, 1 - _lower_end(n - hits, hits, (b, a), log_limit(confidence))


def _lower_end(hits: float, misses: float, prior: Prior, limit: float) -> float:
    """Return the smallest share that is not excluded. The log ratio falls from 0 to the observed share."""
    if hits == 0 or log_ratio(hits, misses, sys.float_info.min, prior) < limit:  # a small part of one observation
        return 0.0
    observed = hits / (hits + misses)
    return float(brentq(lambda share: log_ratio(hits, misses, share, prior) - limit, sys.float_info.min, observed))


def side_of(share: float, hits: float, n: int, confidence: float = CONFIDENCE) -> Side | None:
    """Return on which side of `share` the confidence sequence lies; None if it contains `share`."""
    if log_ratio(hits, n - hits, share) < log_limit(confidence):
        return None
    return "over" if hits > share * n else "under"


def further_observations(share: float, hits: float, n: int, most: int, confidence: float = CONFIDENCE) -> int | None:
    """Return after how many more observations `share` is excluded if the observed proportion stays the same.

    None if `most` more are too few. The log ratio is convex in the sample size and 0 for an empty sample, so it
    reaches the limit once and stays above it.
    """

    def excludes(more: int) -> bool:
        growth = (n + more) / n
        return log_ratio(hits * growth, (n - hits) * growth, share) >= log_limit(confidence)

    more = bisect_left(range(most + 1), True, key=excludes)
    return more if more <= most else None
