"""The bounds that the figures of benchmarks/gpu_check.py are held against on an H100 or a faster GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Mapping[str, Any]]  # part -> its figures


@dataclass(frozen=True)
class Bound:
    """A figure, computed from the parts that it needs, and its lowest or highest value."""

    name: str
    parts: tuple[str, ...]
    figure: Callable[..., float]  # of the figures of `parts`
    lowest: float = -math.inf
    highest: float = math.inf


def _from_ln_2(dtype: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda step_0: abs(step_0[dtype]["loss"] - math.log(2))


BOUNDS = (
    Bound("seconds to the first step", ("first_step",), lambda part: part["seconds_from_process_start"], highest=20),
    Bound("packed rows equal the padded batch", ("packed",), lambda part: part["equal"], lowest=1),
    Bound("loss of step 0 from ln 2, float32", ("step_0",), _from_ln_2("float32"), highest=1e-5),
    Bound("loss of step 0 from ln 2, bfloat16", ("step_0",), _from_ln_2("bfloat16"), highest=1e-2),
    Bound(
        "Stage A 135M, all linear layers, tokens/s",
        ("stage_a_135M",),
        lambda part: part["dropout_0.05"]["tokens_per_second"],
        lowest=80_000,
    ),
    Bound("sampling, tokens/s", ("sampling",), lambda part: part["tokens_per_second"], lowest=10_000),
    Bound("Stage B 7B in 4 bits, GB", ("stage_b_7B_4bit",), lambda part: part["peak_bytes"] / 1e9, highest=8),
    Bound("Stage B 7B, utilisation", ("stage_b_7B",), lambda part: part["utilisation"], lowest=0.4),
    Bound(
        "Stage B 7B, times TRL's speed",
        ("stage_b_7B", "stage_b_7B_trl"),
        lambda ours, trl: ours["tokens_per_second"] / trl["tokens_per_second"],
        lowest=1.5,
    ),
)


def hold_against(found: Figures) -> list[dict[str, Any]]:
    """Return each bound whose figures are there: its name, figure, lowest and highest value, and whether it holds.

    A bound without a lowest or highest value has None there. There is no utilisation without the part `product`.
    """
    records = []
    for bound in BOUNDS:
        try:
            figure = float(bound.figure(*(found[name] for name in bound.parts)))
        except KeyError:  # a part that has not run, or that has only its error
            continue
        limits = {"lowest": bound.lowest, "highest": bound.highest}
        shown = {key: value if math.isfinite(value) else None for key, value in limits.items()}
        holds = bound.lowest <= figure <= bound.highest
        records.append({"bound": bound.name, "figure": figure, **shown, "holds": holds})
    return records


def bound_line(record: Mapping[str, Any]) -> str:
    """Return a record of `hold_against` as one line."""
    limit = f"at least {record['lowest']:g}" if record["lowest"] is not None else f"at most {record['highest']:g}"
    return f"{'holds' if record['holds'] else 'FAILS'}: {record['bound']} {record['figure']:.4g} ({limit})"
