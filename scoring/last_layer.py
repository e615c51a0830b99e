"""The last decoder layer over a packed row (packed_rows.py), computed only where a completion token is predicted.

Of every other layer the next one reads all positions. Behind the last one comes the head, which reads `row.predicting`
alone: there, keys and values are needed at every position, and all else at those. The layer's own forward is kept;
hooks give it those positions as if they were the row, and give its attention the whole row:

    residual (N) -> [norm of the whole row (T) -> attention (T) -> output projection (N)] -> + -> norms, MLP (N)

Without a `row` among the arguments the hooks do nothing. All they need comes with each call, so that a layer recomputed
in the backward pass (gradient checkpointing) is computed as it was in the forward one.

Shapes: T tokens of the row, N = len(row.predicting), C hidden size.
"""

from __future__ import annotations

from typing import Any

import torch

from scoring.packed_rows import Row

_Arguments = tuple[tuple[torch.Tensor, ...], dict[str, Any]]


class LastLayer:
    """Has the last layer of `decoder` return (1, N, C), in the order of `row.predicting`, until `restore`.

    Raises AttributeError where the layer lacks the parts that it knows.
    """

    def __init__(self, decoder: Any) -> None:
        layer = decoder.layers[-1]
        self._norm, projection = layer.input_layernorm, layer.self_attn.o_proj
        self._row: Row | None = None  # that the attention is computing
        self._hooks = [
            layer.register_forward_pre_hook(_narrow, with_kwargs=True),
            layer.self_attn.register_forward_pre_hook(self._widen, with_kwargs=True),
            projection.register_forward_pre_hook(self._project),
        ]

    def restore(self) -> None:
        """Leaves the layer as it was."""
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
