"""Prepare a model for the decoding loop, and give it back unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from language_model.packed_linear import PackedLinears
from language_model.shared_prompt_attention import SHARED_PROMPTS, AttentionPass, register


class LoopModel:
    """A model for the decoding loop: within `installed`, it has its attention, and linear layers with packed weights.

    The weights are packed when the object is made, and must not change after that.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        self.whole = model
        self.base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self._linears = PackedLinears(self.base)
        register()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block, a forward pass needs an `attention_pass`."""
        config = self.base.config
        stock = config._attn_implementation
        config._attn_implementation = SHARED_PROMPTS
        try:
            with self._linears.installed():
                yield
        finally:
            config._attn_implementation = stock

    @property
    def device(self) -> torch.device:
        device: torch.device = self.base.device
        return device

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, attention_pass: AttentionPass, kept: torch.Tensor | int = 0
    ) -> torch.Tensor:
        """Return the logits (K, V) at the indices `kept` of the tokens (T,); 0: of all."""
        output = self.base(
            input_ids=ids.to(self.device)[None],
            position_ids=positions.to(self.device)[None],
            use_cache=False,
            logits_to_keep=kept.to(self.device) if isinstance(kept, torch.Tensor) else kept,
            attention_pass=attention_pass,
        )
        logits: torch.Tensor = output.logits[0]
        return logits
