"""Find every dropout of a model, of a layer or of a call with a plain number, and turn it off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.dropout import _DropoutNd

Setting = tuple[torch.nn.Module, str, float]  # a module, the name of its attribute, and the share that it drops


def dropout_settings(model: torch.nn.Module) -> list[Setting]:
    """Return the dropouts that are above 0.

    Most models have layers of dropout. OPT and BioGPT pass a number of theirs to a function instead, and Mixtral's
    router multiplies its input by noise of such a number.
    """
    found: list[Setting] = []
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            names = ["p"]
        else:
            names = [name for name in vars(module) if "drop" in name or name.endswith("jitter_noise")]
        numbers = ((name, getattr(module, name)) for name in names)
        found += [(module, name, number) for name, number in numbers if isinstance(number, float) and number > 0]
    return found


def turn_dropout_off(model: torch.nn.Module) -> list[Setting]:
    """Set every dropout to 0 and return the settings before."""
    settings = dropout_settings(model)
    for module, name, _ in settings:
        setattr(module, name, 0.0)
    return settings


@contextmanager
def without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """Within the block, a forward pass in training mode drops nothing."""
    settings = turn_dropout_off(model)
    try:
        yield
    finally:
        for module, name, share in settings:
            setattr(module, name, share)
