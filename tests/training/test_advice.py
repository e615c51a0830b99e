"""Each sign gets its line, and figures without a sign get none."""

from __future__ import annotations

from typing import Any

import pytest

from training.advice import advice

LARGE, SMALL = 1_200_000_000, 135_000_000


def epoch(train: float | None, val: float | None, preference: float | None = 0.8) -> dict[str, Any]:
    row: dict[str, Any] = {"train_loss": train, "val_loss": val}
    return row if preference is None else row | {"val_chosen_preference": preference}


FALLING = [epoch(0.6, 0.65), epoch(0.5, 0.6)]


@pytest.mark.parametrize(
    ("epochs", "parameters", "rate", "text"),
    [
        (FALLING, LARGE, 2e-5, "--learning_rate 2e-05 is over 1e-05"),
        ([epoch(0.6, 0.6), epoch(0.5, 0.7)], SMALL, 5e-6, "validation loss rose while the training loss fell"),
        ([epoch(0.6, 0.6, None), epoch(0.5, 0.7, None)], LARGE, 2e-4, "validation loss rose while the training loss"),
        ([epoch(0.6, 0.6, 0.55)], SMALL, 5e-6, "in 55% of the validation pairs, little more than by chance"),
        ([epoch(0.6, 0.6, 0.995)], SMALL, 5e-6, "in 99.5% of the validation pairs: they are too easy"),
    ],
)
def test_a_sign_gets_a_line(epochs: list[dict[str, Any]], parameters: int, rate: float, text: str) -> None:
    assert text in (advice(epochs, parameters, rate) or "")


@pytest.mark.parametrize(
    ("epochs", "parameters", "rate"),
    [
        (FALLING, LARGE, 1e-5),
        (FALLING, SMALL, 1e-3),
        ([epoch(0.6, 0.6, None), epoch(0.5, 0.5, None)], LARGE, 2e-4),
        ([epoch(0.6, 0.6), epoch(None, 0.7)], SMALL, 5e-6),
        ([epoch(0.6, 0.6, 0.99)], SMALL, 5e-6),
        ([], LARGE, 5e-6),
    ],
)
def test_no_sign_gets_no_line(epochs: list[dict[str, Any]], parameters: int, rate: float) -> None:
    assert advice(epochs, parameters, rate) is None


def test_the_control_and_a_run_that_kept_its_best_model_get_no_advice_on_what_they_did() -> None:
    rising = [epoch(0.6, 0.6), epoch(0.5, 0.7)]
    assert advice(rising, SMALL, 5e-6, keeps_best=True) is None
    for preference in (0.5, 0.999):
        assert advice([epoch(0.6, 0.6, preference)], LARGE, 2e-5, prefers=False) is None
    assert "validation loss rose" in (advice(rising, LARGE, 2e-5, prefers=False) or "")
