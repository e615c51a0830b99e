"""Sample completions from a model in this process, with a decoding loop of our own or `generate` of transformers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from language_model.adapters import is_mergeable
from language_model.decoding_check import obstacle
from language_model.decoding_loop import DecodingLoop
from language_model.length_limits import shorten_prompt
from language_model.loading import LoadedModel
from language_model.loop_model import LoopModel
from language_model.merging import probe_logits, require_same_logits
from language_model.model_files import context_tokens
from language_model.prompt_format import encode_prompt, note_of_prompt
from language_model.sampler import (
    Completion,
    Job,
    PromptTooLong,
    SamplingProgress,
    SamplingSettings,
    gather,
    jobs_of,
    waves_of,
)
from language_model.stock_generation import generate_batch
from language_model.thinking import CLOSES, OPENS, without_thinking
from script_io.errors import InputError

# Completes jobs with so many rows at a time; yields each job with its completion when that is ready
Decode = Callable[[Sequence[Job], int], Iterator[tuple[Job, Completion]]]


class LocalSampler:
    """A model in this process.

    With `overflow="shorten_note"`, a note that leaves no room for its completion is shortened in the middle, and the
    gap is marked; with `drop`, such a prompt is refused. Thinking blocks are left out of the texts, unless
    `keep_thinking` is set.
    """

    def __init__(self, loaded: LoadedModel, name: str, overflow: str = "drop", *, keep_thinking: bool = False) -> None:
        self.loaded = loaded
        self.name = name
        self.overflow = overflow
        self.keep_thinking = keep_thinking
        self.end_ids = end_of_sequence_ids(loaded)
        self.hidden_ids = hidden_ids(loaded.tokenizer)
        merge_checked(loaded, name)
        self.context_tokens = context_tokens(loaded.model.config)
        self._loop_model: LoopModel | None = None  # for the decoding loop, if it fits the model
        self._is_checked = False
        self.on_text: Callable[[str], None] | None = None  # called with the text so far, as it grows by a token

    def complete(
        self,
        prompts: Sequence[str],
        settings: SamplingSettings,
        progress: str | None = None,
        done: Collection[int] = frozenset(),
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See `Sampler`. If memory runs out, the batch size is halved for the rest of the wave."""
        encoded = [self._encode(text, settings.max_new_tokens) for text in prompts]
        for error in self._too_long(encoded, settings.max_new_tokens):
            raise error
        return self._complete(prompts, encoded, settings, SamplingProgress(progress, len(prompts), done))

    def _complete(
        self,
        prompts: Sequence[str],
        encoded: Sequence[list[int]],
        settings: SamplingSettings,
        progress: SamplingProgress,
    ) -> Iterator[tuple[int, list[Completion]]]:
        with progress:
            for wave in waves_of(len(prompts), settings):
                if progress.is_done(wave):
                    continue
                # Longest first: memory then runs out in the first batches or never, and batches need little padding.
                order = sorted(wave, key=lambda index: -len(encoded[index]))
                jobs = jobs_of(prompts, order, settings)
                decode = self._decoder(encoded, settings, progress)
                yield from progress.new(
                    gather(run_halving(jobs, settings.batch_size, decode), settings.num_completions)
                )

    def _decoder(self, encoded: Sequence[list[int]], settings: SamplingSettings, progress: SamplingProgress) -> Decode:
        """Return the decoding loop if it fits the model, else `generate`."""
        loop_model = self._checked_loop_model(encoded[0])

        def loop(jobs: Sequence[Job], batch_size: int) -> Iterator[tuple[Job, Completion]]:
            assert loop_model is not None
            return self._loop(loop_model, jobs, encoded, settings, batch_size, progress)

        def generate(jobs: Sequence[Job], batch_size: int) -> Iterator[tuple[Job, Completion]]:
            for start in range(0, len(jobs), batch_size):
                yield from self._generate(jobs[start : start + batch_size], encoded, settings, progress)

        return loop if loop_model else generate

    def _checked_loop_model(self, prompt: Sequence[int]) -> LoopModel | None:
        """Return the model for the decoding loop, or None if the loop does not fit it; the first call finds out."""
        if not self._is_checked:
            self._is_checked = True
            loop_model = LoopModel(self.loaded.model)
            with torch.inference_mode():
                reason = obstacle(loop_model, prompt)
            if reason is None:
                self._loop_model = loop_model
            else:
                print(f"warning: sampling with `generate`, which is slower: {reason}", file=sys.stderr)
        return self._loop_model

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

    def _loop(
        self,
        model: LoopModel,
        jobs: Sequence[Job],
        encoded: Sequence[list[int]],
        settings: SamplingSettings,
        batch_size: int,
        progress: SamplingProgress,
    ) -> Iterator[tuple[Job, Completion]]:
        """Yield the completions of the decoding loop."""
        prompts = {job.index: encoded[job.index] for job in jobs}
        decoding = DecodingLoop(model, prompts, self.end_ids, settings, batch_size)
        passes = decoding.run(jobs)
        while True:
            # entered anew for each pass: whoever reads this generator computes between two passes
            with torch.inference_mode(), model.installed():
                found = next(passes, None)
            if found is None:
                return
            progress.add_tokens(found.tokens)
            if self.on_text:
                for row in (*found.ended, *decoding.rows):
                    self.on_text(self._read(row.tokens, 0.0).text)
            for row in found.ended:
                yield row.job, self._read(row.tokens, row.seconds)

    def _generate(
        self,
        batch: Sequence[Job],
        encoded: Sequence[list[int]],
        settings: SamplingSettings,
        progress: SamplingProgress,
    ) -> Iterator[tuple[Job, Completion]]:
        """Yield the completions of one batch of `generate`."""
        pad_id = self.loaded.tokenizer.pad_token_id
        pad_id = self.end_ids[0] if pad_id is None else pad_id
        started = time.perf_counter()
        prompts = [encoded[job.index] for job in batch]
        with torch.inference_mode():
            new_ids = generate_batch(self.loaded.model, batch, prompts, settings, self.end_ids, pad_id)
        seconds = (time.perf_counter() - started) / len(batch)
        for job, ids in zip(batch, new_ids, strict=True):
            completion = self._read(ids, seconds)
            progress.add_tokens(completion.num_tokens)
            yield job, completion

    def _read(self, ids: list[int], seconds: float) -> Completion:
        """Cut a row of new tokens after its first end of sequence, and decode it."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), None)
        kept = ids if end is None else ids[: end + 1]
        shown = [token for token in kept if token not in self.hidden_ids]
        text = self.loaded.tokenizer.decode(
            shown, skip_special_tokens=not self.hidden_ids, clean_up_tokenization_spaces=False
        )
        text = text if self.keep_thinking else without_thinking(text)
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


def hidden_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the special tokens to leave out of texts if the marks of thinking blocks are special, else no token.

    Without the marks, thoughts could not be told from a summary.
    """
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks = {index for index in special if tokenizer.added_tokens_decoder[index].content in (OPENS, CLOSES)}
    return frozenset(special - marks if marks else ())


def merge_checked(loaded: LoadedModel, name: str) -> None:
    """Merge the adapter, if it can be merged, and check the logits. Raises RunError if that changed them."""
    if can_merge(loaded.model):
        probe = (loaded.tokenizer, loaded.prompt_format, loaded.model.device)
        before = probe_logits(loaded.model, *probe)
        merge_adapter(loaded.model)
        require_same_logits(name, before, probe_logits(loaded.model, *probe), loaded.model.dtype)


def can_merge(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether the model has an adapter that can be merged; quantised weights are left as they are."""
    is_known = isinstance(model, PeftModel) and is_mergeable(model)
    return is_known and all(weight.is_floating_point() for weight in model.parameters())


def merge_adapter(model: PreTrainedModel | PeftModel) -> None:
    """Add a LoRA adapter to the weights of its base, so that generation skips the products of the adapter.

    The sum is computed in float32 and rounded once to the dtype of the base, as the weights of the base were. In
    bfloat16 the result is as near to float32 as without merging, and 1.6 times as fast (SmolLM2-135M, r=16 on all
    linear layers).
    """
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            base = layer.get_base_layer()
            dtype = base.weight.dtype
            base.to(torch.float32)
            layer.merge()
            base.to(dtype)


def run_halving(jobs: Sequence[Job], batch_size: int, decode: Decode) -> Iterator[tuple[Job, Completion]]:
    """Yield the jobs with their completions. If memory runs out, decode the rest with half the batch size."""
    waiting = dict.fromkeys(jobs)  # in order
    while waiting:
        try:
            for job, completion in decode(list(waiting), batch_size):
                del waiting[job]
                yield job, completion
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if min(batch_size, len(waiting)) == 1:
                raise InputError(
                    f"prompt {next(iter(waiting)).index}: out of memory even alone; use --use_8bit or --use_4bit, "
                    "a smaller model or a shorter note"
                ) from error
        # outside the `except` block, whose traceback would keep the tensors of the failed batch alive
        free_memory()
        failed = min(batch_size, len(waiting))
        batch_size = failed // 2
        print(f"out of memory with {failed} sequences at once; continuing with {batch_size}", file=sys.stderr)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says so in the words of any backend; only CUDA has a class for it."""
    text = str(error).lower()
    is_named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_named or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> None:
    """Return cached GPU memory to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
