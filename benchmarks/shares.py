"""Compute and print a share with its interval, as all benchmarks do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evaluation.stats import wilson_interval

Share = dict[str, Any]


def share(hits: Iterable[bool]) -> Share:
    """Return n, count and share with its Wilson 95% interval; with n = 0 the share is None."""
    found = list(hits)
    low, high = wilson_interval(sum(found), len(found))
    value = round(sum(found) / len(found), 4) if found else None
    return {"n": len(found), "count": sum(found), "share": value, "ci95": [round(low, 4), round(high, 4)]}


def share_line(name: str, figure: Share) -> str:
    """Return one line of a table."""
    if figure["share"] is None:
        return f"  {name:28}     0 of     0"
    low, high = figure["ci95"]
    counts = f"{figure['count']:5} of {figure['n']:5}"
    return f"  {name:28} {counts}  {figure['share']:6.1%}  95% interval {low:.1%} to {high:.1%}"
