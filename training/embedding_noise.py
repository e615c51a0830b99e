"""Noise on the input embeddings in training: NEFTune, Jain et al. 2023, arXiv:2310.05914.

The noise is uniform in +-alpha / sqrt(L C), for L tokens of C features. The paper's L is the length of a padded
batch; here it is the mean length of the training examples, since a packed row holds several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch

from scoring.packed_rows import PromptCompletions


def add_embedding_noise(model: Any, alpha: float, examples: Sequence[PromptCompletions]) -> None:
    """From now on, add noise to the embeddings of `model` in training mode; 0: none."""
    if not alpha:
        return
    embeddings = model.get_input_embeddings()
    features = embeddings.weight.shape[1]  # an adapter around the embeddings has no `embedding_dim`
    largest = alpha / math.sqrt(fmean(example.tokens for example in examples) * features)

    def add_noise(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        return output + torch.empty_like(output).uniform_(-largest, largest)

    embeddings.register_forward_hook(add_noise)
    print(f"Noise on the embeddings in training: up to {largest:.1e} in each feature (alpha {alpha:g})")
