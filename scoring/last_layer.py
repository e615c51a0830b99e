"""The last decoder layer over a packed row (packed_rows.py), computed only where a completion token is predicted.

Every other layer is read at all positions by the next one. The output head reads the last layer at `row.predicting`
only. So the last layer needs keys and values at every position, and everything else at `row.predicting`. The layer's
own forward is kept: hooks pass it the predicting positions as if they were the row, and pass its attention the whole
row:

    residual (N) -> [norm of the whole row (T) -> attention (T) -> output projection (N)] -> + -> norms, MLP (N)

Without a `row` among the arguments the hooks do nothing. Everything they need comes with each call, so gradient
checkpointing recomputes the layer as it was in the forward pass.

Shapes: T tokens of the row, N = len(row.predicting), C hidden size.
"""

from __future__ import annotations

from typing import Any

import torch

from scoring.packed_rows import PackedRow

_Arguments = tuple[tuple[torch.Tensor, ...], dict[str, Any]]


class LastLayer:
    """Makes the last layer of `decoder` return (1, N, C), in the order of `row.predicting`, until `restore`.

    Raises AttributeError if the layer lacks the parts that it knows.
    """

    def __init__(self, decoder: Any) -> None:
        layer = decoder.layers[-1]
        self._norm, projection = layer.input_layernorm, layer.self_attn.o_proj
        self._row: PackedRow | None = None  # the row that the attention is computing
        self._hooks = [
            layer.register_forward_pre_hook(_narrow, with_kwargs=True),
            layer.self_attn.register_forward_pre_hook(self._widen, with_kwargs=True),
            projection.register_forward_pre_hook(self._project),
        ]

    def restore(self) -> None:
        """Remove the hooks from the layer."""
        for hook in self._hooks:
            hook.remove()

    def _widen(self, _: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> _Arguments:
        whole = kwargs.pop("whole_row", None)
        self._row = None if whole is None else kwargs["row"]
        if whole is not None:
            kwargs |= {"hidden_states": self._norm(whole), "only_predicting": True}
        return args, kwargs

    def _project(self, _: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        return None if self._row is None else (args[0][:, self._row.predicting],)


def _narrow(_: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> _Arguments | None:
    if kwargs.get("row") is None:
        return None
    (whole,) = args
    return (whole[:, kwargs["row"].predicting],), kwargs | {"whole_row": whole}
