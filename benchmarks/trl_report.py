"""Summarise the measurements of benchmarks/compare_trl.py: records, a table, ratios, and the machine."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trl_inputs import Lora, Model

COLUMNS = (
    "stage", "shape", "variant", "dtype", "parameters", "tok/cpu-s", "tok/s", "peak MB", "loss diff", "grad diff",
    "utilisation",
)  # fmt: skip
SAME_TASK = ("stage", "shape", "model_parameters")  # the columns of a record that ratios need to be equal
Differences = tuple[float | None, float | None]  # of loss and gradient; None if they were not compared


@dataclass(frozen=True)
class Setup:
    """One combination that is measured. `shape` and `model` are names in SHAPES and MODELS."""

    stage: str
    shape: str
    model: str
    variant: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.stage} {self.shape} {self.model} {self.variant} {self.dtype}"


def tokens_per_second(result: dict[str, Any], clock: str) -> float:
    """Return useful tokens per second of a clock, `cpu` or `wall`.

    The seconds are the seconds of all steps plus half of the reference pass, if there is one.
    """
    seconds = result[f"training_{clock}"] + result.get(f"reference_{clock}", 0.0) / 2
    return float(result["tokens"] / seconds)


def summarise(
    setup: Setup,
    lora: Lora,
    model: Model,
    results: Sequence[dict[str, Any]],
    checked: Differences,
    ceiling: float | None,
) -> dict[str, Any]:
    """Return the record of one setup: median speeds and the largest peak, or None for them if memory ran out."""
    record = {
        "stage": setup.stage,
        "shape": setup.shape,
        "variant": setup.variant,
        "dtype": setup.dtype,
        "lora_target_modules": list(lora.target_modules),
        "lora_dropout": lora.dropout,
        "model_parameters": model.parameters,
        "tokens_per_cpu_second": None,
        "wall_tokens_per_second": None,
        "peak_bytes": None,
        "max_loss_difference": checked[0],
        "max_gradient_difference": checked[1],
    }
    if ceiling:
        record["model_flops_utilisation"] = None
    if all(results):
        speeds = {
            clock: statistics.median(tokens_per_second(each, clock) for each in results) for clock in ("cpu", "wall")
        }
        record["tokens_per_cpu_second"], record["wall_tokens_per_second"] = speeds["cpu"], speeds["wall"]
        record["peak_bytes"] = max(each["peak_bytes"] for each in results)
        if ceiling:
            flops = flops_per_token(model, setup.stage, results[0])
            record["model_flops_utilisation"] = speeds["wall"] * flops / ceiling
    return record


def flops_per_token(model: Model, stage: str, result: dict[str, Any]) -> float:
    """Return the FLOP that one useful token needs.

    Counted are a forward pass, the gradient with respect to its input, and in Stage B half a forward pass of the
    reference, at 2 FLOP per parameter and pass. The head counts for completion tokens only. Gradients of the frozen
    weights and attention scores are not counted.
    """
    passes = 2.5 if stage == "dpo" else 2.0
    head_share = result["completion_tokens"] / result["tokens"]
    return 2 * passes * (model.layer_parameters + model.head_parameters * head_share)


def matrix_product_ceiling() -> float:
    """Return the FLOP per second of a bfloat16 product of two large matrices on this GPU, the best of ten."""
    import torch

    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        left @ right
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    del left, right
    torch.cuda.empty_cache()
    return 2 * size**3 / min(seconds)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return the records as aligned text."""
    rows = [COLUMNS]
    for record in records:
        peak = record["peak_bytes"]
        numbers = (
            f"{record['model_parameters'] / 1e6:.0f}M",
            _number(record["tokens_per_cpu_second"], ".1f"),
            _number(record["wall_tokens_per_second"], ".1f"),
            _number(peak and peak / 1e6, ".0f"),
            _number(record["max_loss_difference"], ".1e"),
            _number(record["max_gradient_difference"], ".1e"),
            _number(record.get("model_flops_utilisation"), ".0%"),
        )
        rows.append((*(record[key] for key in ("stage", "shape", "variant", "dtype")), *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def ratios(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the speed and the peak of each record of ours as multiples of every other variant's.

    `before` is compared in the same dtype only. Speed is per second of wall-clock time on a GPU, and per CPU-second
    otherwise. Records of runs without enough memory are left out.
    """
    found = []
    for ours, other in itertools.product(records, records):
        if ours["variant"] != "ours" or not _comparable(ours, other):
            continue
        speed = "wall_tokens_per_second" if "model_flops_utilisation" in ours else "tokens_per_cpu_second"
        found.append(
            {
                **{key: ours[key] for key in (*SAME_TASK, "dtype")},
                "other_variant": other["variant"],
                "other_dtype": other["dtype"],
                "speed": ours[speed] / other[speed],
                "peak": ours["peak_bytes"] / other["peak_bytes"],
            }
        )
    return found


def _comparable(ours: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether both were measured on the same task."""
    if other["variant"] == "ours" or (other["variant"] == "before" and other["dtype"] != ours["dtype"]):
        return False
    return all(ours[key] == other[key] for key in SAME_TASK) and bool(ours["peak_bytes"] and other["peak_bytes"])


def ratio_lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line per record of ours, from the result of `ratios`."""
    lines: dict[str, list[str]] = {}
    for ratio in found:
        size = f"{ratio['model_parameters'] / 1e6:.0f}M"
        setup = f"ours, {ratio['stage']} {ratio['shape']} {size} {ratio['dtype']}"
        text = f"{ratio['other_variant']} {ratio['speed']:.2f}x (peak {ratio['peak']:.2f})"
        lines.setdefault(setup, []).append(text)
    return [f"{setup}: {', '.join(texts)}" for setup, texts in lines.items()]


def hardware(device: str, threads: int, ceiling: float | None) -> dict[str, Any]:
    """Return the properties of the machine that the figures depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    found: dict[str, Any] = {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "gpu": None}
    if device == "cuda":
        import torch

        found |= {"gpu": torch.cuda.get_device_name(), "matrix_product_flops": ceiling}
    return found
