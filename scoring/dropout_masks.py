"""Dropout masks for the inputs of LoRA, cheap enough to apply again in the backward pass.

Drawing one random number per element for each mask takes longer than the products of the adapter. Here one string of
independent bits is drawn per row. The mask of an input is a window of the string at a random offset: its bits are
independent of each other, and each is 0 with the probability of dropout. Masks of different layers overlap in the
string at another distance, so the same bit drops unrelated elements there.

A window is known by its offset. So the backward pass, and a forward pass that gradient checkpointing repeats (it
restores the state of torch's random numbers), find the same mask without keeping it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of an element -> integers of the same size
SPARE = 8  # the string is longer than its longest window by one part in SPARE


@dataclass(frozen=True)
class Mask:
    """A window of the string of a row: for each element all bits set (kept) or none (dropped)."""

    bits: torch.Tensor
    offset: int

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Return x, contiguous, with the dropped elements set to 0."""
        window = self.bits[self.offset : self.offset + x.numel()].view_as(x)
        integers = _INTEGERS[x.element_size()]
        return (x.view(integers) & window.to(integers)).view(x.dtype)


class DropoutMasks:
    """The string of the current row, and windows of it, for inputs of one dropout probability.

    `widest` is the largest input size of the layers, `dtype` the dtype of their inputs.
    """

    def __init__(self, probability: float, widest: int, dtype: torch.dtype, device: torch.device) -> None:
        self.probability, self.widest, self.dtype, self.device = probability, widest, dtype, device
        self._bits = torch.empty(0, dtype=_INTEGERS[dtype.itemsize])

    def draw(self, tokens: int) -> None:
        """Draw the string for a row of at most `tokens` tokens, seeded by torch's random numbers."""
        if not self.probability:
            return
        seed = int(torch.randint(2**62, ()))
        count = tokens * self.widest * (SPARE + 1) // SPARE + 1
        integers = _INTEGERS[self.dtype.itemsize]
        if self.device.type == "cpu":  # numpy draws eight bytes in the time that torch needs for one number
            words = np.random.SFC64(seed).random_raw(-(-count * self.dtype.itemsize // 8))
            random = torch.from_numpy(words).view(integers)[:count]
        else:
            generator = torch.Generator(self.device).manual_seed(seed)
            bounds = torch.iinfo(integers)
            random = torch.empty(count, dtype=integers, device=self.device)
            random.random_(bounds.min, bounds.max + 1, generator=generator)
        self._bits = keep_bits(random, self.probability)

    def window(self, elements: int) -> Mask:
        """Return the mask of an input of `elements` elements, at an offset from torch's random numbers."""
        room = len(self._bits) - elements
        assert room >= 0, "the dropout bits were drawn for fewer tokens"
        return Mask(self._bits, int(torch.randint(room + 1, ())))


def keep_bits(random: torch.Tensor, probability: float) -> torch.Tensor:
    """Turn uniform integers into 0 with `probability`, else -1 (all bits set); works in place and returns them.

    The probability is rounded to a multiple of 2^-16 (for half precision).
    """
    bits = 8 * random.element_size()
    threshold = round(probability * 2**bits) - 2 ** (bits - 1)
    return torch.lt(random, threshold, out=random).sub_(1)
