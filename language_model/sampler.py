"""What a sampler takes and gives, whether the model is in this process or behind a server.

Sampling is reproducible prompt by prompt: the random numbers of a completion come from the seed, the prompt's text
and the completion's number alone. So a run that is resumed, reordered, or given another batch size draws the same
texts (up to the rounding of the model's own arithmetic, which may differ between batch shapes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from script_io.errors import InputError


@dataclass(frozen=True)
class Completion:
    """One generated text, special tokens and outer white space stripped."""

    text: str
    finished: bool  # ended with an end-of-sequence token rather than at the limit of new tokens
    num_tokens: int  # generated tokens, the end of sequence included; 0 where a server does not say
    seconds: float  # share of its batch's wall time; for a server, the time of its request


@dataclass(frozen=True)
class Job:
    """One completion to make: the `sample`-th of prompt `index`."""

    index: int
    sample: int
    prompt: str
    seed: int

    @property
    def digest(self) -> bytes:
        """32 bytes that depend on seed, sample and text, not on the prompt's place in the list."""
        return hashlib.sha256(f"{self.seed}\0{self.sample}\0{self.prompt}".encode()).digest()


class PromptTooLong(InputError):
    """A prompt leaves no room for its completion. `index` is its place in the list that was given."""

    def __init__(self, index: int, prompt_tokens: int, max_new_tokens: int, context_tokens: int) -> None:
        self.index = index
        self.reason = (
            f"its {prompt_tokens} tokens and {max_new_tokens} new ones exceed the model's context of {context_tokens}; "
            "shorten the note or lower --max_new_tokens"
        )
        super().__init__(f"prompt {index}: {self.reason}")


class Sampler(Protocol):
    """Whatever turns prompts into completions."""

    name: str

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
        """Yields (index of the prompt, its completions) as they are ready, not in the order of the prompts.

        Bad settings, a prompt that is too long and a server out of reach raise InputError at once, before the first
        completion. The prompts are plain texts from `build_prompt`. A temperature of 0 is greedy; above it, the whole
        vocabulary is sampled (top_k 0, top_p 1). `progress` is the label of a progress bar, None for no bar.
        """
        ...


def check_settings(num_completions: int, max_new_tokens: int, temperature: float, batch_size: int) -> None:
    """Raises InputError for numbers that cannot be meant."""
    for name, value in (("num_completions", num_completions), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise InputError(f"--{name} {value}: give 1 or more")
    if batch_size < 1:
        raise InputError(f"--batch_size {batch_size}: give 1 or more")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"--temperature {temperature}: give 0 (greedy) or a positive number such as 0.7")


def gather(results: Iterable[tuple[Job, Completion]], count: int) -> Iterator[tuple[int, list[Completion]]]:
    """Groups finished jobs by prompt; yields a prompt as soon as its `count` completions are there, in order."""
    waiting: dict[int, dict[int, Completion]] = {}
    for job, completion in results:
        samples = waiting.setdefault(job.index, {})
        samples[job.sample] = completion
        if len(samples) == count:
            del waiting[job.index]
            yield job.index, [samples[sample] for sample in range(count)]


def with_progress(
    items: Iterator[tuple[int, list[Completion]]], total: int, label: str | None
) -> Iterator[tuple[int, list[Completion]]]:
    """Shows a progress bar over the prompts on stderr where there is a label."""
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=label, disable=True if label is None else None, unit="prompt")
