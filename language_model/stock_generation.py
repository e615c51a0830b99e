"""Complete prompts with the `generate` of transformers, for models that the decoding loop does not know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from language_model.sampler import Job, SamplingSettings
from language_model.token_draw import draw_tokens, uniform_numbers


def generate_batch(
    model: PreTrainedModel | PeftModel,
    jobs: Sequence[Job],
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    end_ids: list[int],
    pad_id: int,
) -> list[list[int]]:
    """Return the new tokens of one batch, for the token ids of its prompts; padding may follow the end."""
    input_ids, attention_mask = pad_left(prompts, pad_id)
    # `Draw` samples, so `generate` itself always takes the best token and ignores the settings of the model's own
    # generation_config.json (temperature, penalties).
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=end_ids,
        pad_token_id=pad_id,
        cache_implementation=cache_kind(model),
    )
    draw = [Draw(uniform_numbers(jobs, settings.max_new_tokens), input_ids.shape[1], settings)]
    output = model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=attention_mask.to(model.device),
        generation_config=config,
        logits_processor=draw if settings.temperature else [],
    )
    new_ids: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
    return new_ids


def cache_kind(model: PreTrainedModel | PeftModel) -> str | None:
    """Return the name of the key-value cache for `generate`, or None for its default.

    The default cache copies all keys and values for each token, which on a CPU takes half of the time. A static cache
    is written in place; on a GPU, transformers would compile the model for it.
    """
    can_be_static = getattr(model, "_can_compile_fullgraph", False)  # transformers asks this too
    return "static" if model.device.type == "cpu" and can_be_static else None


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both (B, T), with the padding on the left."""
    longest = max(len(row) for row in rows)
    ids = [[pad_id] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


class Draw:
    """A logits processor that leaves only the token that `draw_tokens` takes."""

    def __init__(self, uniform: torch.Tensor, prompt_tokens: int, settings: SamplingSettings) -> None:
        """Take the (B, new tokens) uniform numbers, and the length of the padded prompts."""
        self.uniform = uniform
        self.prompt_tokens = prompt_tokens
        self.settings = settings

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return (B, V) scores for (B, V) logits: 0 at the sampled token and -inf elsewhere."""
        step = input_ids.shape[1] - self.prompt_tokens
        token = draw_tokens(scores, self.uniform[:, step], self.settings)
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)
