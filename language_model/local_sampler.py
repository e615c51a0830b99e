"""Sample completions from a model in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from language_model.length_limits import shorten_prompt
from language_model.prompt_format import encode_prompt
from language_model.sampler import Completion, Job, PromptTooLong, check_settings, gather, with_progress
from script_io.errors import InputError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from language_model.loading import LoadedModel


class LocalSampler:
    """A model in this process, by `transformers`' `generate`."""

    def __init__(self, loaded: LoadedModel, name: str, overflow: str = "drop") -> None:
        """With `overflow` `shorten_note`, notes that leave no room for the answer lose their middle, marked."""
        self.loaded = loaded
        self.name = name
        self.overflow = overflow
        self.end_ids = end_of_sequence_ids(loaded)
        merge_adapter(loaded.model)
        config = loaded.model.config.get_text_config()
        self.context_tokens: int | None = getattr(config, "max_position_embeddings", None)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        num_completions: int = 1,
        max_new_tokens: int = 150,
        temperature: float = 0.7,
        batch_size: int = 8,
        seed: int = 42,
        progress: str | None = None,
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See `Sampler`. `batch_size` counts sequences; it is halved for good when memory runs out."""
        check_settings(num_completions, max_new_tokens, temperature, batch_size)
        encoded = [self._encode(text, max_new_tokens) for text in prompts]
        for error in self._too_long(encoded, max_new_tokens):
            raise error
        # Longest first: memory runs out at once or never, and neighbours in a batch need little padding.
        order = sorted(range(len(prompts)), key=lambda index: -len(encoded[index]))
        jobs = [Job(index, sample, prompts[index], seed) for index in order for sample in range(num_completions)]

        def generate(batch: list[Job]) -> list[Completion]:
            return self._generate(batch, [encoded[job.index] for job in batch], max_new_tokens, temperature)

        results = run_in_batches(jobs, batch_size, generate)
        return with_progress(gather(results, num_completions), len(prompts), progress)

    def too_long(self, prompts: Sequence[str], max_new_tokens: int) -> list[PromptTooLong]:
        """What `complete` would raise, for every prompt that leaves no room in the model's context."""
        return self._too_long([self._encode(text, max_new_tokens) for text in prompts], max_new_tokens)

    def _encode(self, prompt: str, max_new_tokens: int) -> list[int]:
        """The prompt's tokens, its note shortened where it must be and may be."""

        def encode(text: str) -> list[int]:
            return encode_prompt(self.loaded.tokenizer, text, self.loaded.prompt_format)

        ids = encode(prompt)
        if self.overflow == "drop" or self.context_tokens is None:
            return ids
        room = self.context_tokens - max_new_tokens
        if len(ids) <= room:
            return ids
        shortened = shorten_prompt(prompt, lambda text: len(encode(text)) <= room)
        return ids if shortened is None else encode(shortened)

    def _too_long(self, encoded: Sequence[Sequence[int]], max_new_tokens: int) -> list[PromptTooLong]:
        context = self.context_tokens
        return [
            PromptTooLong(index, len(ids), max_new_tokens, context)
            for index, ids in enumerate(encoded)
            if context is not None and len(ids) + max_new_tokens > context
        ]

    def _generate(
        self, batch: list[Job], encoded: list[list[int]], max_new_tokens: int, temperature: float
    ) -> list[Completion]:
        """Completes one batch."""
        import torch
        from transformers import GenerationConfig

        pad_id = self.loaded.tokenizer.pad_token_id
        pad_id = self.end_ids[0] if pad_id is None else pad_id
        started = time.perf_counter()
        input_ids, attention_mask = pad_left(encoded, pad_id)
        # Sampling is done by `Draw`, so `generate` itself always takes the best token, and a model's own settings
        # (temperature, penalties) stay out.
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.end_ids,
            pad_token_id=pad_id,
            cache_implementation=cache_kind(self.loaded.model, self.loaded.device),
        )
        with torch.inference_mode():
            output = self.loaded.model.generate(
                input_ids=input_ids.to(self.loaded.device),
                attention_mask=attention_mask.to(self.loaded.device),
                generation_config=settings,
                logits_processor=[Draw(batch, input_ids.shape[1], max_new_tokens, temperature)] if temperature else [],
            )
        new_ids: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
        seconds = (time.perf_counter() - started) / len(batch)
        return [self._read(ids, seconds) for ids in new_ids]

    def _read(self, ids: list[int], seconds: float) -> Completion:
        """Cuts a row of new tokens behind its first end of sequence and decodes it."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), None)
        kept = ids if end is None else ids[: end + 1]
        text = self.loaded.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(text.strip(), end is not None, len(kept), seconds)


def end_of_sequence_ids(loaded: LoadedModel) -> list[int]:
    """The tokens that end a completion: those the model was made to stop at, and the tokenizer's own."""
    configured = loaded.model.generation_config.eos_token_id
    ids = set(configured) if isinstance(configured, list) else {configured}
    ids.add(loaded.tokenizer.eos_token_id)
    ids.discard(None)
    if not ids:
        raise InputError(f"{loaded.tokenizer.name_or_path}: the model has no end-of-sequence token; set eos_token_id")
    return sorted(ids)


def merge_adapter(model: PreTrainedModel | PeftModel) -> None:
    """Adds a LoRA adapter into its base's weights, which saves its products at every token.

    Only in float32: coarser weights would be rounded once more, and quantised ones cannot be added to.
    """
    import torch
    from peft import PeftModel

    if isinstance(model, PeftModel) and all(weight.dtype == torch.float32 for weight in model.parameters()):
        model.merge_adapter()


def cache_kind(model: PreTrainedModel | PeftModel, device: torch.device) -> str | None:
    """How keys and values are kept while a text grows: transformers' name of it, None for its default.

    The default appends to them, a copy of everything at every token, which on a CPU takes as long as the rest of the
    work. A cache of fixed size is written in place; on a GPU it would make transformers compile the model.
    """
    can_be_static = getattr(model, "_can_compile_fullgraph", False)  # what transformers asks itself
    return "static" if device.type == "cpu" and can_be_static else None


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (B, T), every row ending at the last column."""
    import torch

    longest = max(len(row) for row in rows)
    ids = [[pad_id] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


class Draw:
    """A logits processor that draws each row's next token with that row's own random numbers.

    Inverse transform: the token is the first whose cumulative probability reaches a uniform number in (0, 1].
    """

    def __init__(self, batch: Sequence[Job], prompt_tokens: int, max_new_tokens: int, temperature: float) -> None:
        self.prompt_tokens = prompt_tokens
        self.temperature = temperature
        self.uniform = uniform_numbers(batch, max_new_tokens)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, V) logits -> (B, V) with 0 at the drawn token and -inf elsewhere."""
        import torch

        # The Metal backend has no float64; in float32 the sum over a large vocabulary loses some of its digits.
        precision = torch.float32 if scores.device.type == "mps" else torch.float64
        cumulative = torch.softmax(scores.to(precision) / self.temperature, dim=-1).cumsum(dim=-1)
        step = input_ids.shape[1] - self.prompt_tokens
        target = self.uniform[:, step, None].to(cumulative) * cumulative[:, -1:]
        # The first place with cumulative >= target > 0 always has a probability above 0.
        token = torch.searchsorted(cumulative, target)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


def uniform_numbers(batch: Sequence[Job], count: int) -> torch.Tensor:
    """(B, count) numbers in (0, 1], each row from its job's digest."""
    import numpy as np
    import torch

    generators = [np.random.default_rng(int.from_bytes(job.digest)) for job in batch]
    return torch.from_numpy(np.stack([1.0 - generator.random(count) for generator in generators]))


def run_in_batches(
    jobs: Sequence[Job], batch_size: int, generate: Callable[[list[Job]], list[Completion]]
) -> Iterator[tuple[Job, Completion]]:
    """Runs the jobs in order. Where memory runs out, the batch is halved and tried again."""
    start = 0
    while start < len(jobs):
        batch = list(jobs[start : start + batch_size])
        try:
            completions = generate(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise InputError(
                    f"prompt {batch[0].index}: out of memory even alone; use --use_8bit or --use_4bit, a smaller model "
                    "or a shorter note"
                ) from error
            batch_size = len(batch) // 2
        else:
            yield from zip(batch, completions, strict=True)
            start += len(batch)
            continue
        # Outside the handler, whose traceback would keep the failed batch's tensors alive.
        free_memory()
        print(f"out of memory with {len(batch)} sequences at once; going on with {batch_size}", file=sys.stderr)


def is_out_of_memory(error: BaseException) -> bool:
    """True for every backend's way of saying so; only CUDA's has a class of its own."""
    import torch

    text = str(error).lower()
    is_named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_named or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
