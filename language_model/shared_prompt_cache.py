"""Keys and values of a decoding loop: of each prompt once for all its completions, and of each completion's tokens.

Shapes: P prompt slots, R row slots (completions), H key heads, S tokens per prompt, L new tokens per row, D head size.
Prompts and rows in use are at the front of the buffers, and S and L follow the longest in use: buffers are written in
place and read without gaps. A gap behind every head costs a CPU half of its memory bandwidth.
"""

from __future__ import annotations

import torch

STEP = 16  # S and L are multiples of this number of tokens


class LayerCache:
    """The buffers of one layer, filled with zeros: a masked number must be finite, since 0 times NaN is NaN."""

    def __init__(self, prompts: tuple[int, int], rows: tuple[int, int], key: torch.Tensor, value: torch.Tensor) -> None:
        """Allocate for (P, S) and (R, L), with the heads, dtype and device of keys and values, both (T, H, D)."""
        heads = key.shape[1]
        self.prompt_keys = key.new_zeros(prompts[0], heads, prompts[1], key.shape[2])  # (P, H, S, D)
        self.prompt_values = value.new_zeros(prompts[0], heads, prompts[1], value.shape[2])
        self.own_keys = key.new_zeros(rows[0], heads, rows[1], key.shape[2])  # (R, H, L, D)
        self.own_values = value.new_zeros(rows[0], heads, rows[1], value.shape[2])


class SharedPromptCache:
    """The buffers of all layers, for at most `prompts` prompts and `rows` rows at a time."""

    def __init__(self, prompts: int, rows: int) -> None:
        self.prompts = prompts
        self.rows = rows
        self.prompt_tokens = 0  # S
        self.own_tokens = 0  # L
        self._layers: dict[int, LayerCache] = {}

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> LayerCache:
        """Return the buffers of a layer, allocated when it is first asked for; see LayerCache."""
        if index not in self._layers:
            prompts, rows = (self.prompts, self.prompt_tokens), (self.rows, self.own_tokens)
            self._layers[index] = LayerCache(prompts, rows, key, value)
        return self._layers[index]

    def fit_prompts(self, tokens: int) -> None:
        """Make room for prompts of up to `tokens`, and keep the keys of shorter ones."""
        size = fitting_size(self.prompt_tokens, tokens)
        if size != self.prompt_tokens:
            self.prompt_tokens = size
            for layer in self._layers.values():
                layer.prompt_keys = resized(layer.prompt_keys, size)
                layer.prompt_values = resized(layer.prompt_values, size)

    def fit_rows(self, tokens: int) -> None:
        """Make room for up to `tokens` new tokens per row, and keep the keys of shorter rows."""
        size = fitting_size(self.own_tokens, tokens)
        if size != self.own_tokens:
            self.own_tokens = size
            for layer in self._layers.values():
                layer.own_keys = resized(layer.own_keys, size)
                layer.own_values = resized(layer.own_values, size)

    def move_prompt(self, source: int, target: int) -> None:
        """Copy a prompt to another slot."""
        for layer in self._layers.values():
            _move((layer.prompt_keys, layer.prompt_values), source, target)

    def move_row(self, source: int, target: int) -> None:
        """Copy a row to another slot."""
        for layer in self._layers.values():
            _move((layer.own_keys, layer.own_values), source, target)


def fitting_size(size: int, tokens: int) -> int:
    """Return the size of a buffer for so many tokens: `size` unless it is too small or far too large."""
    needed = -(-tokens // STEP) * STEP
    return size if 0.75 * size <= needed <= size else needed


def resized(buffer: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return a copy of (N, H, L, D) with another L, filled up with zeros."""
    result = buffer.new_zeros(*buffer.shape[:2], tokens, buffer.shape[3])
    kept = min(tokens, buffer.shape[2])
    result[:, :, :kept] = buffer[:, :, :kept]
    return result


def _move(buffers: tuple[torch.Tensor, torch.Tensor], source: int, target: int) -> None:
    for buffer in buffers:
        buffer[target] = buffer[source]
