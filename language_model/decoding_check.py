"""Decide whether the decoding loop may complete prompts for a model, by comparing it with the model's own forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from language_model.decoding_loop import DecodingLoop, Row
from language_model.loop_model import LoopModel
from language_model.sampler import Job, SamplingSettings
from language_model.shared_prompt_attention import UnsupportedAttention

# Largest share of draws at temperature 1 that may differ (total variation distance of the next-token distributions).
# Rounding explains up to a fifth of it (0.03 in bfloat16 for SmolLM2-135M); a wrong mask or wrong positions change the
# distributions of a trained model by more.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.03}
CHECKED_STEPS = 3
CHECKED_PROMPT_TOKENS = 64  # of a longer prompt, the last ones: a check must not take as long as a batch


def obstacle(model: LoopModel, prompt: Sequence[int]) -> str | None:
    """Return why the decoding loop cannot complete prompts for this model, or None.

    Two completions of the prompt, which differ from the first token on, and a shorter prompt are decoded for some
    steps. The probabilities of the next token must equal the probabilities of a plain forward pass without cache.
    """
    prompt = prompt[-CHECKED_PROMPT_TOKENS:]
    prompts = {0: prompt, 1: prompt[len(prompt) // 2 :]}
    jobs = [Job(0, 0, "", 0), Job(0, 1, "", 0), Job(1, 0, "", 0)]
    loop = DecodingLoop(model, prompts, (), SamplingSettings(2, CHECKED_STEPS + 1), len(jobs))
    try:
        with model.installed():
            found = list(_loop_logits(loop, jobs))
        expected = [_plain_logits(model.whole, [*prompts[row.job.index], *row.tokens]) for row in loop.rows]
    except torch.OutOfMemoryError:
        raise
    except (UnsupportedAttention, TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
        return f"the model does not take its attention ({str(error).splitlines()[0]})"
    distances = [
        0.5 * (logits[number].float().softmax(-1) - expected[number][step].softmax(-1)).abs().sum().item()
        for step, logits in enumerate(found)
        for number in range(len(jobs))
    ]
    is_same = max(distances) <= TOLERANCE.get(model.base.dtype, 0.0)
    return None if is_same else f"its probabilities differ by {max(distances):.1e} from the model's"


def _loop_logits(loop: DecodingLoop, jobs: Sequence[Job]) -> Iterator[torch.Tensor]:
    """Yield the logits (B, V) of the loop for the first token and for some steps with tokens taken from the prompt."""
    loop.prefill(jobs)
    loop.rows = [Row(job, ()) for job in jobs]
    yield torch.stack([loop.slots[job.index].first_logits for job in jobs])
    for step in range(CHECKED_STEPS):
        for number, row in enumerate(loop.rows):
            ids = loop.prompts[row.job.index]
            row.tokens.append(ids[(step + number) % len(ids)])
        yield loop.step_logits()


def _plain_logits(model: PreTrainedModel | PeftModel, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits (steps + 1, V) at the last token of the prompt and at the tokens after it."""
    logits: torch.Tensor = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
    return logits[-CHECKED_STEPS - 1 :].float()
