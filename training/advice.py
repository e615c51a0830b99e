"""One line of advice at the end of a run, if its figures show a sign that docs/tuning.md knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from language_model.adapters import count_parameters
from training.run import TrainingRun

LARGE_BASE = 1_000_000_000  # parameters
HIGH_DPO_RATE = 1e-5
LOW_PREFERENCE, HIGH_PREFERENCE = 0.60, 0.99


def print_advice(run: TrainingRun) -> None:
    """Print the first sign that the run shows, with the flag to change; nothing if it shows none."""
    parameters = count_parameters(run.policy)
    text = advice(
        run.state.epochs,
        parameters,
        run.args.learning_rate,
        prefers=bool(getattr(run.args, "preference_weight", 0)),  # which Stage A does not have
        keeps_best=run.args.early_stopping_patience > 0,
    )
    if text and run.accelerator.is_main_process:
        print(f"Advice: {text} (docs/tuning.md)")


def advice(
    epochs: Sequence[Mapping[str, Any]],
    parameters: int,
    learning_rate: float,
    *,
    prefers: bool = True,
    keeps_best: bool = False,
) -> str | None:
    """Return what the epochs of a run show, most serious sign first, or None.

    `epochs` are the rows of the statistics file; the rows of Stage B have `val_chosen_preference`, and only there the
    learning rate and the preference are signs. In its control they are not: `prefers` says whether the loss has a
    preference term. `keeps_best`: the run has kept the best model, so that it lost nothing by a later epoch.
    """
    last = epochs[-1] if epochs else {}
    preference = last.get("val_chosen_preference") if prefers else None
    if preference is not None and learning_rate > HIGH_DPO_RATE and parameters >= LARGE_BASE:
        return (
            f"--learning_rate {learning_rate:g} is over {HIGH_DPO_RATE:g}, which breaks the summaries of bases of 1B "
            "parameters or more; read some before you use the model, or train again with 5e-6"
        )
    if _overfits(epochs) and not keeps_best:
        return (
            "the validation loss rose while the training loss fell; keep the best model with "
            "--early_stopping_patience 1, or train for fewer --num_epochs"
        )
    if preference is not None and preference < LOW_PREFERENCE:
        return (
            f"the policy prefers the chosen summary in {preference:.0%} of the validation pairs, little more than by "
            "chance; raise --learning_rate or --num_epochs, and read ten pairs"
        )
    if preference is not None and preference > HIGH_PREFERENCE:
        return (
            f"the policy prefers the chosen summary in {preference:.1%} of the validation pairs: they are too easy; "
            "make harder ones with generate_completions.py and judge_completions.py"
        )
    return None


def _overfits(epochs: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether from the last epoch but one to the last, validation loss rose and training loss fell."""
    if len(epochs) < 2:
        return False
    before, last = epochs[-2:]
    losses = [row.get(name) for name in ("train_loss", "val_loss") for row in (before, last)]
    train_before, train, val_before, val = (math.nan if loss is None else loss for loss in losses)  # None: not finite
    return val > val_before and train < train_before
