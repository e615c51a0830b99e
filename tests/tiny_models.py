"""Tiny random-weight models with tokenizers of their own, in the shapes of the families people use."""

from __future__ import annotations

from pathlib import Path

import torch

TEXTS = [
    "Clinical Note: A 54-year-old woman with chest pain for 3 weeks. Denies fever.\n\nSummary: Chest pain.",
    "BP 142/88, HR 96 bpm. Started apixaban 10 mg twice daily. Follow up in 2 weeks.",
    "Suspected pulmonary embolism; Denies nausea. Left knee osteoarthritis was ruled out.",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tiny_model(folder: str | Path, architecture: str = "llama", seed: int = 0) -> Path:
    """Saves a model of some ten thousand parameters, float32, and its tokenizer to `folder`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(folder)
    tokenizer = build_tokenizer(architecture)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,
    }
    if architecture == "gemma3":
        shape |= {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    if architecture == "mistral":
        shape |= {"sliding_window": 16}
    model_type = {"gemma3": "gemma3_text"}.get(architecture, architecture)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **shape), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tokenizer(architecture: str):  # type: ignore[no-untyped-def]
    """A byte-level BPE; Llama and Gemma open with a beginning of sequence, Qwen has none and speaks ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    if architecture.startswith("qwen"):
        return PreTrainedTokenizerFast(
            tokenizer_object=bpe, pad_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE
        )
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
