"""Plot the training curves of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.metrics_log import METRICS_FILE


def plot_curves(folder: Path, panels: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Draw `training_curves.png` from `metrics.jsonl`: one panel per title, with a line per (kind, metric)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for kind, metric in curves:
            points = [
                (row["step"], row[metric]) for row in lines if row["kind"] == kind and row.get(metric) is not None
            ]
            marker = {"train": "", "val": "o"}[kind]
            if points:
                axis.plot(*zip(*points, strict=True), marker=marker, label=f"{kind} {metric}")
        axis.set(title=title, xlabel="optimiser step")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    temporary = folder / ".training_curves.png"
    figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(folder / "training_curves.png")
    pyplot.close(figure)
