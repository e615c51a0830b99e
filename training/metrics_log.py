"""Log metrics: one JSON line on disk, the tracker of `--report_to`, and an aligned line on the console."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from script_io.files import atomic_write
from training.run import TrainingRun

METRICS_FILE = "metrics.jsonl"
# metric -> how the console shows it; the others are on disk only
_CONSOLE = {
    "loss": "loss {:.4f}",
    "rewards/margins": "margin {:+.4f}",
    "rewards/accuracies": "accuracy {:4.0%}",
    "grad_norm": "grad norm {:7.3f}",
    "learning_rate": "lr {:.2e}",
    "tokens_per_second": "{:>7,.0f} tokens/s",
}


def finite_or_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Replace numbers that are not finite by None, since JSON has neither NaN nor infinity."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def log_metrics(run: TrainingRun, kind: str, values: Mapping[str, float]) -> None:
    """Append a line to `metrics.jsonl` and send the values to the tracker, on the main process only.

    `kind` is `train` or `val`; trackers show it before the name of each metric.
    """
    if not run.accelerator.is_main_process:
        return
    line = {"kind": kind, "step": run.state.step, "epoch": round(run.epoch, 4), **finite_or_none(values)}
    with (run.folder / METRICS_FILE).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")
    run.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=run.state.step)


def log_step(run: TrainingRun, values: Mapping[str, float]) -> None:
    """Log the metrics of a training step; print them every `--logging_steps` steps and after the first."""
    log_metrics(run, "train", values)
    step = run.state.step
    if run.accelerator.is_main_process and (step % run.args.logging_steps == 0 or step == 1):
        tqdm.write(console_line(run, values))


def console_line(run: TrainingRun, values: Mapping[str, float]) -> str:
    """Format the metrics of a step as one aligned line."""
    total = run.plan.total_steps
    parts = [text.format(values[name]) for name, text in _CONSOLE.items() if name in values]
    return f"step {run.state.step:>{len(str(total))}}/{total}  " + "  ".join(parts)


def first_validation(run: TrainingRun) -> dict[str, Any]:
    """Return the first validation of the run, the one before training; empty if none has been logged."""
    path = run.folder / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((values for values in map(json.loads, lines) if values["kind"] == "val"), {})


def truncate_metrics(folder: Path, step: int) -> None:
    """Delete the lines after `step`, which a resumed run writes again, and a last line that was cut off."""
    path = folder / METRICS_FILE
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        with atomic_write(path) as handle:
            handle.write("".join(kept))
