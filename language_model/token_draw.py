"""Draw the next token of each row with the row's own random numbers.

Shapes: B rows, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from language_model.sampler import Job, SamplingSettings
from script_io.errors import RunError

BLOCK = 256  # tokens that are summed before the search, so that the search reads V / 256 sums and one block


def uniform_numbers(jobs: Sequence[Job], count: int) -> torch.Tensor:
    """Return (B, count) numbers in (0, 1], float64; the digest of a row's job is its seed."""
    generators = [np.random.default_rng(int.from_bytes(job.digest)) for job in jobs]
    return torch.from_numpy(np.stack([1.0 - generator.random(count) for generator in generators]))


def draw_tokens(logits: torch.Tensor, uniform: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """Return the (B,) next tokens for (B, V) logits and (B,) uniform numbers; a temperature of 0 takes the best.

    Raises RunError if the logits of a row are not numbers.
    """
    if settings.temperature == 0:
        best = logits.argmax(dim=-1)  # of a NaN, if there is one
        _require_numbers(logits.gather(1, best[:, None]))
        return best
    scaled = logits.float() / settings.temperature
    if 0 < settings.top_k < scaled.shape[1]:
        least = scaled.topk(settings.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = torch.softmax(scaled, dim=-1)
    _require_numbers(probabilities[:, 0])  # one NaN makes all probabilities of its row NaN
    if settings.top_p < 1:
        probabilities = nucleus(probabilities, settings.top_p)
    return inverse_transform(probabilities, uniform.to(probabilities.device))


def _require_numbers(values: torch.Tensor) -> None:
    if values.isnan().any():
        raise RunError(
            "the model's logits are not numbers (NaN), so no token can be drawn; pass --dtype float32 (float16 "
            "overflows in some models), or check that the weights are sound"
        )


def nucleus(probabilities: torch.Tensor, share: float) -> torch.Tensor:
    """Return (B, V) with 0 outside the fewest most likely tokens that hold `share` (Holtzman et al. 2020, top-p)."""
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    more_likely = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(probabilities).scatter_(1, tokens, ordered.masked_fill(more_likely >= share, 0.0))


def inverse_transform(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return (B,): the first token whose cumulative probability reaches the row's number in (0, 1].

    The (B, V) rows need not sum to 1. Sums are in float64 where the device has it. A token of probability 0 is never
    returned.
    """
    precision = torch.float32 if probabilities.device.type == "mps" else torch.float64
    missing = -probabilities.shape[1] % BLOCK
    padded = torch.nn.functional.pad(probabilities, (0, missing)) if missing else probabilities
    blocks = padded.view(len(padded), -1, BLOCK)
    sums = blocks.sum(dim=-1).to(precision)
    cumulative = sums.cumsum(dim=-1)
    target = uniform.to(precision)[:, None] * cumulative[:, -1:]
    block = torch.searchsorted(cumulative, target)
    share = (target - (cumulative - sums).gather(1, block)) / sums.gather(1, block)  # of the block, in (0, 1]
    rows = torch.arange(len(padded), device=padded.device)
    inner = blocks[rows, block[:, 0]].to(precision).cumsum(dim=-1)
    # the cumulative sum of a block and its sum differ by rounding; neither end of the block may be passed
    smallest = torch.finfo(precision).tiny
    place = torch.searchsorted(inner, torch.minimum(share.clamp(min=smallest) * inner[:, -1:], inner[:, -1:]))
    return (block * BLOCK + place)[:, 0]
