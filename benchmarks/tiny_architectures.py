"""Models of 17 architectures with random weights, a few hundred thousand parameters each, made on the spot.

Each keeps what its family has and others lack: dropout in training, a tied head, soft-capped logits, a sliding window,
experts, a vision tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE

CONTEXT_TOKENS = 256
LLAMA_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT_TOKENS,
}
WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA_SHAPE = LLAMA_SHAPE | WINDOWS | {"query_pre_attn_scalar": 8}
OLD_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_TOKENS,
}
VISION_SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

ATTENTION = ("--lora_target_modules", "q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = ("--lora_target_modules", "all-linear")


@dataclass(frozen=True)
class Architecture:
    """One architecture: the name that people use, transformers' `model_type`, its small shape, and its LoRA flags."""

    title: str
    model_type: str
    shape: dict[str, Any]
    lora: tuple[str, ...] = ALL_LINEAR


ARCHITECTURES = {
    "llama": Architecture("Llama", "llama", LLAMA_SHAPE),
    "mistral": Architecture("Mistral", "mistral", LLAMA_SHAPE | {"sliding_window": 16}),
    "qwen2": Architecture("Qwen2", "qwen2", LLAMA_SHAPE),
    "qwen3": Architecture("Qwen3", "qwen3", LLAMA_SHAPE),
    "gemma2": Architecture("Gemma 2", "gemma2", GEMMA_SHAPE),
    "gemma3_text": Architecture("Gemma 3, text", "gemma3_text", GEMMA_SHAPE),
    "gemma3": Architecture(
        "Gemma 3, multimodal",
        "gemma3",
        {
            "text_config": {"model_type": "gemma3_text", **GEMMA_SHAPE},
            "vision_config": {"model_type": "siglip_vision_model", **VISION_SHAPE},
            "mm_tokens_per_image": 4,
            "boi_token_index": 0,
            "eoi_token_index": 1,
            "image_token_index": 2,
        },
        (*ALL_LINEAR, "--lora_exclude_modules", "vision_tower"),
    ),
    "phi": Architecture("Phi (phi-2)", "phi", OLD_SHAPE | {"intermediate_size": 48}),
    "phi3": Architecture("Phi-3", "phi3", LLAMA_SHAPE),
    "gpt2": Architecture("GPT-2", "gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT_TOKENS}),
    "gpt_neox": Architecture("GPT-NeoX", "gpt_neox", OLD_SHAPE | {"intermediate_size": 48}),
    "opt": Architecture("OPT", "opt", OLD_SHAPE | {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "biogpt": Architecture("BioGPT", "biogpt", OLD_SHAPE | {"intermediate_size": 48}),
    "falcon": Architecture("Falcon", "falcon", OLD_SHAPE),
    "bloom": Architecture("BLOOM", "bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mixtral": Architecture("Mixtral", "mixtral", LLAMA_SHAPE | {"num_local_experts": 4}, ATTENTION),
    "smollm3": Architecture("SmolLM3", "smollm3", LLAMA_SHAPE | {"no_rope_layers": [1, 0]}),
}


def build_architecture(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a model of the architecture with random weights, and the demo's tokenizer, to `folder`; return it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = load_tokenizer(DEMO_BASE)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("pad", "bos", "eos")}
    architecture = ARCHITECTURES[name]
    text = {"vocab_size": len(tokenizer) + 8, "initializer_range": 0.2, **ends}
    shape = dict(architecture.shape)
    if "text_config" in shape:
        shape |= {"text_config": shape["text_config"] | text, **ends}
    else:
        shape |= text
    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture.model_type, **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
