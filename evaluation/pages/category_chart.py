"""Lay out the chart of errors by category: a point for each share and a line for its Wilson interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.stats import wilson_interval

# (end of the axis, distance between ticks), as shares
_AXES = ((0.05, 0.01), (0.1, 0.02), (0.2, 0.05), (0.5, 0.1), (1.0, 0.2))


def chart(series: Mapping[str, Mapping[str, Any]], n: int) -> dict[str, Any]:
    """Return bars, names and ticks, with x in percent of the width and y in pixels. Frequent categories come first.

    `series` is {name: the `by_type` of an evaluation of `n` summaries}. The name of a single series is "", and its bars
    are labelled by category.
    """
    widest = max((entry["rate_ci95"][1] for entries in series.values() for entry in entries.values()), default=1.0)
    limit, step = next(axis for axis in _AXES if axis[0] >= min(widest, 1.0))
    none = {"summaries": 0, "rate": 0.0, "rate_ci95": wilson_interval(0, n)}
    bars, names, y = [], [], 0
    for kind in _by_frequency(series):
        if len(series) > 1:
            y += 22
            names.append({"name": kind, "y": y - 4})
        for index, (name, entries) in enumerate(series.items(), start=1):
            y += 32
            bars.append(
                {
                    "series": name,
                    "index": index,
                    "label": name or kind.replace("_", " "),
                    "y": y,
                    **_bar(entries.get(kind, none), limit),
                }
            )
        y += 12
    ticks = [{"x": _x(step * i, limit), "text": f"{step * i:.0%}"} for i in range(round(limit / step) + 1)]
    return {"bars": bars, "names": names, "ticks": ticks, "height": y + 24}


def _by_frequency(series: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rates: dict[str, float] = {}
    for entries in series.values():
        for kind, entry in entries.items():
            rates[kind] = max(entry["rate"], rates.get(kind, 0.0))
    return sorted(rates, key=lambda kind: (-rates[kind], kind))


def _bar(entry: Mapping[str, Any], limit: float) -> dict[str, Any]:
    low, high = entry["rate_ci95"]
    return {
        "text": f"{entry['summaries']}: {entry['rate']:.1%} ({low:.1%} to {high:.1%})",
        "at": _x(entry["rate"], limit),
        "low": _x(low, limit),
        "high": _x(high, limit),
    }


def _x(share: float, limit: float) -> float:
    """Return x in percent of the width. A margin of 1% on both sides keeps points at the ends of the axis whole."""
    return round(1 + 98 * share / limit, 2)
