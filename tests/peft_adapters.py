"""Adapters as users bring them: made and saved by peft itself, with weights that are not zero, as after training."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

LAYERS = ["q_proj", "v_proj", "down_proj"]


def save_with_peft(folder: Path, base: Path, config: PeftConfig) -> Path:
    """Save an adapter of `base` with the tokenizer of `base`, and return its folder."""
    torch.manual_seed(0)  # peft's own random start
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder
