"""Log metrics: one JSON line per step on disk, one aligned line on the console."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from training.run import TrainingRun

METRICS_FILE = "metrics.jsonl"


def log_metrics(folder: Path, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
    """Appends one line to `metrics.jsonl`. Numbers that are not finite become null, since JSON has none."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"kind": kind, "step": step, "epoch": round(epoch, 4), **finite}) + "\n")


def truncate_metrics(folder: Path, step: int) -> None:
    """Drops the lines after `step`, which a resumed run writes again."""
    path = folder / METRICS_FILE
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")


def log_step(run: TrainingRun, values: Mapping[str, float]) -> None:
    """One JSON line on disk every step, one aligned console line every `--logging_steps`."""
    if not run.accelerator.is_main_process:
        return
    step = run.state.step
    log_metrics(run.folder, "train", step, step / run.plan.steps_per_epoch, values)
    run.accelerator.log({f"train/{name}": value for name, value in values.items()}, step=step)
    if step % run.args.logging_steps == 0 or step == 1:
        from tqdm import tqdm

        tqdm.write(console_line(run, values))


def console_line(run: TrainingRun, values: Mapping[str, float]) -> str:
    """One aligned line a step: what a person watches."""
    plan, step = run.plan, run.state.step
    shown = {"loss": "loss {:.4f}", "rewards/margins": "margin {:+.4f}", "rewards/accuracies": "accuracy {:4.0%}"}
    shown |= {"grad_norm": "grad norm {:7.3f}", "learning_rate": "lr {:.2e}", "tokens_per_second": "{:>7,.0f} tokens/s"}
    parts = [text.format(values[name]) for name, text in shown.items() if name in values]
    return f"step {step:>{len(str(plan.total_steps))}}/{plan.total_steps}  " + "  ".join(parts)
