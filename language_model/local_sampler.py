"""Sample completions from a model in this process, with the `generate` of transformers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from language_model.adapters import is_mergeable
from language_model.length_limits import shorten_prompt
from language_model.loading import LoadedModel
from language_model.prompt_format import encode_prompt, note_of_prompt
from language_model.sampler import Completion, Job, PromptTooLong, SamplingSettings, gather, jobs_of, with_progress
from script_io.errors import InputError


class LocalSampler:
    """A model in this process.

    With `overflow="shorten_note"`, a note that leaves no room for its completion is shortened in the middle, and the
    gap is marked; with `drop`, such a prompt is refused.
    """

    def __init__(self, loaded: LoadedModel, name: str, overflow: str = "drop") -> None:
        self.loaded = loaded
        self.name = name
        self.overflow = overflow
        self.end_ids = end_of_sequence_ids(loaded)
        merge_adapter(loaded.model)
        config = loaded.model.config.get_text_config()
        self.context_tokens: int | None = getattr(config, "max_position_embeddings", None)

    def complete(
        self, prompts: Sequence[str], settings: SamplingSettings, progress: str | None = None
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See `Sampler`. If memory runs out, the batch size is halved for the rest of the prompts."""
        encoded = [self._encode(text, settings.max_new_tokens) for text in prompts]
        for error in self._too_long(encoded, settings.max_new_tokens):
            raise error
        # Longest first: memory then runs out in the first batches or never, and batches need little padding.
        jobs = jobs_of(prompts, sorted(range(len(prompts)), key=lambda index: -len(encoded[index])), settings)

        def generate(batch: list[Job]) -> list[Completion]:
            return self._generate(batch, [encoded[job.index] for job in batch], settings)

        results = run_in_batches(jobs, settings.batch_size, generate)
        return with_progress(gather(results, settings.num_completions), len(prompts), progress)

    def too_long(self, prompts: Sequence[str], max_new_tokens: int) -> list[PromptTooLong]:
        """See `Sampler`."""
        return self._too_long([self._encode(text, max_new_tokens) for text in prompts], max_new_tokens)

    def _encode(self, prompt: str, max_new_tokens: int) -> list[int]:
        """Return the token ids of the prompt, with a shortened note if that is needed and allowed."""

        def encode(text: str) -> list[int]:
            return encode_prompt(self.loaded.tokenizer, text, self.loaded.prompt_format)

        ids = encode(prompt)
        if self.overflow == "drop" or self.context_tokens is None:
            return ids
        room = self.context_tokens - max_new_tokens
        if len(ids) <= room:
            return ids
        shortened = shorten_prompt(prompt, note_of_prompt(prompt), lambda text: len(encode(text)) <= room)
        return ids if shortened is None else encode(shortened)

    def _too_long(self, encoded: Sequence[Sequence[int]], max_new_tokens: int) -> list[PromptTooLong]:
        context = self.context_tokens
        return [
            PromptTooLong(index, len(ids), max_new_tokens, context)
            for index, ids in enumerate(encoded)
            if context is not None and len(ids) + max_new_tokens > context
        ]

    def _generate(self, batch: list[Job], encoded: list[list[int]], settings: SamplingSettings) -> list[Completion]:
        """Return the completions of one batch."""
        pad_id = self.loaded.tokenizer.pad_token_id
        pad_id = self.end_ids[0] if pad_id is None else pad_id
        started = time.perf_counter()
        input_ids, attention_mask = pad_left(encoded, pad_id)
        # `Draw` samples, so `generate` itself always takes the best token and ignores the settings of the model's own
        # generation_config.json (temperature, penalties).
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=self.end_ids,
            pad_token_id=pad_id,
            cache_implementation=cache_kind(self.loaded.model, self.loaded.device),
        )
        draw = [Draw(batch, input_ids.shape[1], settings.max_new_tokens, settings.temperature)]
        with torch.inference_mode():
            output = self.loaded.model.generate(
                input_ids=input_ids.to(self.loaded.device),
                attention_mask=attention_mask.to(self.loaded.device),
                generation_config=config,
                logits_processor=draw if settings.temperature else [],
            )
        new_ids: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
        seconds = (time.perf_counter() - started) / len(batch)
        return [self._read(ids, seconds) for ids in new_ids]

    def _read(self, ids: list[int], seconds: float) -> Completion:
        """Cut a row of new tokens after its first end of sequence, and decode it."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), None)
        kept = ids if end is None else ids[: end + 1]
        text = self.loaded.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(text.strip(), end is not None, len(kept), seconds)


def end_of_sequence_ids(loaded: LoadedModel) -> list[int]:
    """Return the tokens that end a completion, from the model's generation_config.json and from its tokenizer."""
    configured = loaded.model.generation_config.eos_token_id
    ids = set(configured) if isinstance(configured, list) else {configured}
    ids.add(loaded.tokenizer.eos_token_id)
    ids.discard(None)
    if not ids:
        raise InputError(f"{loaded.tokenizer.name_or_path}: the model has no end-of-sequence token; set eos_token_id")
    return sorted(ids)


def merge_adapter(model: PreTrainedModel | PeftModel) -> None:
    """Add a LoRA adapter to the weights of its base, so that generation skips the products of the adapter.

    Only float32 weights are merged: others would be rounded once more, or are quantised.
    """
    if (
        isinstance(model, PeftModel)
        and is_mergeable(model)
        and all(weight.dtype == torch.float32 for weight in model.parameters())
    ):
        model.merge_adapter()


def cache_kind(model: PreTrainedModel | PeftModel, device: torch.device) -> str | None:
    """Return the name of the key-value cache for `generate`, or None for its default.

    The default cache copies all keys and values for each token, which on a CPU takes half of the time. A static cache
    is written in place; on a GPU, transformers would compile the model for it.
    """
    can_be_static = getattr(model, "_can_compile_fullgraph", False)  # transformers asks this too
    return "static" if device.type == "cpu" and can_be_static else None


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both (B, T), with the padding on the left."""
    longest = max(len(row) for row in rows)
    ids = [[pad_id] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


class Draw:
    """A logits processor that samples the next token of each row with the row's own random numbers.

    Inverse transform sampling: take the first token whose cumulative probability reaches a uniform number in (0, 1].
    """

    def __init__(self, batch: Sequence[Job], prompt_tokens: int, max_new_tokens: int, temperature: float) -> None:
        self.prompt_tokens = prompt_tokens
        self.temperature = temperature
        self.uniform = uniform_numbers(batch, max_new_tokens)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return (B, V) scores for (B, V) logits: 0 at the sampled token and -inf elsewhere."""
        # float64, because a float32 sum over a large vocabulary loses digits; the Metal backend has no float64
        precision = torch.float32 if scores.device.type == "mps" else torch.float64
        cumulative = torch.softmax(scores.to(precision) / self.temperature, dim=-1).cumsum(dim=-1)
        step = input_ids.shape[1] - self.prompt_tokens
        target = self.uniform[:, step, None].to(cumulative) * cumulative[:, -1:]
        # the first index with cumulative >= target > 0 always has a probability above 0
        token = torch.searchsorted(cumulative, target)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


def uniform_numbers(batch: Sequence[Job], count: int) -> torch.Tensor:
    """Return (B, count) numbers in (0, 1]; the digest of a row's job is its seed."""
    generators = [np.random.default_rng(int.from_bytes(job.digest)) for job in batch]
    return torch.from_numpy(np.stack([1.0 - generator.random(count) for generator in generators]))


def run_in_batches(
    jobs: Sequence[Job], batch_size: int, generate: Callable[[list[Job]], list[Completion]]
) -> Iterator[tuple[Job, Completion]]:
    """Yield the jobs in order with their completions. If memory runs out, halve the batch size and try again."""
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
        # outside the `except` block, whose traceback would keep the tensors of the failed batch alive
        free_memory()
        print(f"out of memory with {len(batch)} sequences at once; continuing with {batch_size}", file=sys.stderr)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says so in the words of any backend; only CUDA has a class for it."""
    text = str(error).lower()
    is_named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_named or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> None:
    """Return cached GPU memory to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
