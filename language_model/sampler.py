"""The interface of a sampler, for a model in this process or behind a server.

Sampling is reproducible for each prompt: the random numbers of a completion depend only on the seed, the text of the
prompt and the number of the completion. A resumed run, another order of the prompts or another batch size gives the
same texts, unless rounding differs between batch shapes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from script_io.errors import InputError
from script_io.progress import progress_bar

WAVE_BATCHES = 16  # size of a wave, in batches; while a wave ends, its last rows leave places of the batch unused


@dataclass(frozen=True)
class Completion:
    """One generated text, without special tokens and outer white space."""

    text: str
    finished: bool  # ended with an end-of-sequence token, not at the limit of new tokens
    num_tokens: int  # generated tokens including the end of sequence; 0 if a server does not say
    seconds: float  # wall time of its batch divided by the size of the batch; for a server, time of the request


@dataclass(frozen=True)
class SamplingSettings:
    """How prompts are completed. Raises InputError for a value out of range.

    A temperature of 0 is greedy; above 0, tokens are sampled from the whole vocabulary, or from a part of it.
    """

    num_completions: int = 1  # per prompt
    max_new_tokens: int = 150
    temperature: float = 0.7
    batch_size: int = 8  # sequences that a local model generates at a time
    seed: int = 42
    top_k: int = 0  # draw from this many most likely tokens; 0: from all
    top_p: float = 1.0  # draw from the fewest most likely tokens with this probability; 1: from all

    def __post_init__(self) -> None:
        for name in ("num_completions", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 1 or more")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"--temperature {self.temperature}: give 0 (greedy) or a positive number such as 0.7")
        if self.top_k < 0:
            raise InputError(f"--top_k {self.top_k}: give 0 (the whole vocabulary) or a number of tokens such as 50")
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top_p {self.top_p}: give a probability above 0, at most 1 (the whole vocabulary)")


@dataclass(frozen=True)
class Job:
    """One completion to make: number `sample` of the prompt at `index`."""

    index: int
    sample: int
    prompt: str
    seed: int

    @property
    def digest(self) -> bytes:
        """Return 32 bytes that depend on seed, sample and text, but not on the index."""
        return hashlib.sha256(f"{self.seed}\0{self.sample}\0{self.prompt}".encode()).digest()


class PromptTooLong(InputError):
    """A prompt leaves no room for its completion in the model's context. `index` is its index in the list given."""

    def __init__(self, index: int, prompt_tokens: int, max_new_tokens: int, context_tokens: int) -> None:
        self.index = index
        self.reason = (
            f"its {prompt_tokens} tokens and {max_new_tokens} new ones exceed the model's context of {context_tokens}; "
            "shorten the note or lower --max_new_tokens"
        )
        super().__init__(f"prompt {index}: {self.reason}")


class Sampler(Protocol):
    """A model that completes prompts."""

    name: str

    def complete(
        self,
        prompts: Sequence[str],
        settings: SamplingSettings,
        progress: str | None = None,
        done: Collection[int] = frozenset(),
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (index of a prompt, its completions) as they are ready, not in the order of the prompts.

        The prompts are plain texts from `build_prompt`. `progress` labels a progress bar; None: no bar. The indices
        `done` are prompts of an earlier call whose completions are not needed again; with them, the other texts equal
        the texts of a call for all prompts. A prompt that is too long and a server out of reach raise InputError in the
        call itself, before the first completion.
        """
        ...

    def too_long(self, prompts: Sequence[str], max_new_tokens: int) -> list[PromptTooLong]:
        """Return the errors that `complete` would raise for prompts that leave no room in the model's context."""
        ...


def jobs_of(prompts: Sequence[str], order: Iterable[int], settings: SamplingSettings) -> list[Job]:
    """Return the jobs of all prompts, in the order of their indices in `order`."""
    samples = range(settings.num_completions)
    return [Job(index, sample, prompts[index], settings.seed) for index in order for sample in samples]


def gather(results: Iterable[tuple[Job, Completion]], count: int) -> Iterator[tuple[int, list[Completion]]]:
    """Group finished jobs by prompt; yield a prompt with its `count` completions once it has them all."""
    waiting: dict[int, dict[int, Completion]] = {}
    for job, completion in results:
        samples = waiting.setdefault(job.index, {})
        samples[job.sample] = completion
        if len(samples) == count:
            del waiting[job.index]
            yield job.index, [samples[sample] for sample in range(count)]


def waves_of(prompts: int, settings: SamplingSettings) -> Iterator[range]:
    """Yield ranges of indices. A local model completes one range after the other, and starts each with no rows.

    A completion depends up to rounding on the rows that are computed with it. Those are all of its wave, so a resumed
    run that repeats unfinished waves gives the texts of an uninterrupted one.
    """
    size = max(1, WAVE_BATCHES * settings.batch_size // settings.num_completions)
    for start in range(0, prompts, size):
        yield range(start, min(start + size, prompts))


class SamplingProgress:
    """A progress bar on stderr that counts prompts and shows tokens per second; without a label, no bar."""

    def __init__(self, label: str | None, prompts: int, done: Collection[int] = frozenset()) -> None:
        """Count the prompts, except for the indices `done`, whose completions the caller has."""
        self._done = frozenset(done)
        self._bar = progress_bar(label=label, total=prompts - len(self._done), unit="prompt")
        self._tokens = 0
        self._started = time.perf_counter()

    def __enter__(self) -> SamplingProgress:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def is_done(self, indices: Iterable[int]) -> bool:
        """Return whether the caller has the completions of all these prompts."""
        return self._done.issuperset(indices)

    def new(self, items: Iterable[tuple[int, list[Completion]]]) -> Iterator[tuple[int, list[Completion]]]:
        """Yield the items that the caller does not have, and count them."""
        for index, completions in items:
            if index not in self._done:
                yield index, completions
                self._bar.update()

    def count(self, results: Iterable[tuple[Job, Completion]]) -> Iterator[tuple[Job, Completion]]:
        """Yield the results, and count their tokens."""
        for job, completion in results:
            self.add_tokens(completion.num_tokens)
            yield job, completion

    def add_tokens(self, count: int) -> None:
        """Count generated tokens, and show the speed."""
        self._tokens += count
        rate = self._tokens / max(time.perf_counter() - self._started, 1e-9)
        self._bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
        self._bar.update(0)  # draws the bar if it was drawn some time ago
