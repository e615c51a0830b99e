"""Plot the training curves of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from training.metrics_log import METRICS_FILE

Points = list[tuple[float, float]]  # (step, value)
_COLOURS = {"train": "tab:blue", "val": "tab:orange"}  # the same in all panels
_STYLES = ("-", "--", ":", "-.")  # of the metrics of a panel, in their order
_SMOOTHING = 20  # windows of this share of the steps: single batches are too noisy to show a trend
_MARGIN = 0.08  # of the height, free above and below what is drawn


def plot_curves(folder: Path, panels: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Draw `training_curves.png` from `metrics.jsonl`: one panel per title, with a line per (kind, metric).

    Training is drawn as the mean over a moving window, with the single steps faint behind it. The axis shows the
    range of these means and of the evaluations, so that outliers of single steps do not flatten the change.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False)
    for axis, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        _draw(axis, title, {curve: points_of(lines, *curve) for curve in curves})
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    figure.tight_layout()
    temporary = folder / ".training_curves.png"
    figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(folder / "training_curves.png")
    pyplot.close(figure)


def _draw(axis: Any, title: str, curves: Mapping[tuple[str, str], Points]) -> None:
    """Draw the curves of one panel: a colour for each kind, and a line style for each metric of that kind."""
    styles = {kind: count() for kind, _ in curves}
    drawn = []
    for (kind, metric), points in curves.items():
        style = _STYLES[next(styles[kind]) % len(_STYLES)]
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        colour, marker = _COLOURS[kind], "o" if kind == "val" else ""
        means = moving_mean(values, max(1, len(values) // _SMOOTHING)) if kind == "train" else list(values)
        if kind == "train":
            axis.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
        axis.plot(steps, means, style, color=colour, marker=marker, markersize=4, label=f"{kind} {metric}")
        drawn.append(means)
    axis.set(title=title, xlabel="optimiser step")
    if drawn:
        axis.set_ylim(*limits_of(value for means in drawn for value in means))
        axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def points_of(lines: Iterable[Mapping[str, Any]], kind: str, metric: str) -> Points:
    """Return the (step, value) pairs of a metric in the lines of a kind, in their order."""
    return [(line["step"], line[metric]) for line in lines if line["kind"] == kind and line.get(metric) is not None]


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """Return, for each value, the mean of it and the `window - 1` values before it, or of as many as there are."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means


def limits_of(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows these values with a margin, also if all are equal."""
    found = list(values)
    low, high = min(found), max(found)
    margin = _MARGIN * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin
