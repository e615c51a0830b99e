"""Complete prompts with a decoding loop of our own, for decoders whose attention transformers lets us replace.

Each prompt is computed once for all its completions. A completion that ends leaves the batch, and the next one enters.
The order depends on the jobs alone. decoding_check.py compares the loop with the model's own forward pass.

Shapes: B rows (completions in progress), V tokens of the vocabulary.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from language_model.loop_model import LoopModel
from language_model.sampler import Job, SamplingSettings
from language_model.shared_prompt_attention import DecodePass, PrefillPass
from language_model.shared_prompt_cache import SharedPromptCache
from language_model.token_draw import draw_tokens, uniform_numbers

PREFILL_TOKENS = 2048  # prompts are computed in passes of about this many tokens, which bounds the memory
# Prompts in progress, as a multiple of the number whose completions fill the batch: completions that end late hold the
# slot of their prompt
PROMPT_SLOTS = 2


@dataclass
class Row:
    """A completion in progress. `seconds` is its share of the wall time of the passes that it took part in."""

    job: Job
    uniform: Sequence[float]  # one number in (0, 1] per new token
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class PromptSlot:
    """A prompt in the cache: its index, its number of tokens, and the logits (V,) of the first new token."""

    index: int
    tokens: int
    first_logits: torch.Tensor


@dataclass(frozen=True)
class Pass:
    """The number of tokens that a pass has drawn, and the completions that have ended with it."""

    tokens: int
    ended: list[Row]


class DecodingLoop:
    """The state of one run: completions in progress and their keys and values.

    Args:
        model: the model; every pass must be inside its `installed`.
        prompts: token ids by prompt index.
        end_ids: tokens that end a completion; they are kept.
        batch_size: the largest number of rows.
    """

    def __init__(
        self,
        model: LoopModel,
        prompts: Mapping[int, Sequence[int]],
        end_ids: Sequence[int],
        settings: SamplingSettings,
        batch_size: int,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.end_ids = frozenset(end_ids)
        self.settings = settings
        self.batch_size = batch_size
        self.rows: list[Row] = []
        self.slots: list[PromptSlot] = []
        self._open: Counter[int] = Counter()  # completions of each prompt that have not ended
        filled = math.ceil(batch_size / settings.num_completions)
        slots = min(len(prompts), batch_size, PROMPT_SLOTS * filled)
        self.cache = SharedPromptCache(slots, min(batch_size, len(prompts) * settings.num_completions))

    def run(self, jobs: Sequence[Job]) -> Iterator[Pass]:
        """Complete the jobs; yield what each pass has drawn and ended."""
        self._open = Counter(job.index for job in jobs)
        waiting = deque(jobs)
        while waiting or self.rows:
            entering = self._next_jobs(waiting)
            yield self._enter(entering) if entering else self._step()

    # ------------------------------------------------------------------------------------- entering

    def _next_jobs(self, waiting: deque[Job]) -> list[Job]:
        """Take the jobs that enter now off the queue: as many as rows, prompt slots and a prefill pass allow."""
        entering: list[Job] = []
        known = {slot.index for slot in self.slots}
        tokens = 0
        while waiting and len(self.rows) + len(entering) < self.batch_size:
            index = waiting[0].index
            if index not in known:
                length = len(self.prompts[index])
                if len(known) == self.cache.prompts or (tokens and tokens + length > PREFILL_TOKENS):
                    break
                known.add(index)
                tokens += length
            entering.append(waiting.popleft())
        return entering

    def _enter(self, jobs: Sequence[Job]) -> Pass:
        """Compute the prompts that are new, and draw the first token of each job."""
        started = time.perf_counter()
        self.prefill(jobs)
        first_logits = {slot.index: slot.first_logits for slot in self.slots}
        logits = torch.stack([first_logits[job.index] for job in jobs])
        numbers = uniform_numbers(jobs, self.settings.max_new_tokens).tolist()
        rows = [Row(job, uniform) for job, uniform in zip(jobs, numbers, strict=True)]
        self._draw(rows, logits, started)
        self.rows += rows
        return Pass(len(rows), self._leave())

    def prefill(self, jobs: Sequence[Job]) -> None:
        """Compute the new prompts of the jobs, packed into one row without padding, and give each a slot."""
        known = {slot.index for slot in self.slots}
        indices = [index for index in dict.fromkeys(job.index for job in jobs) if index not in known]
        if not indices:
            return
        lengths = [len(self.prompts[index]) for index in indices]
        slots = range(len(self.slots), len(self.slots) + len(indices))
        self.cache.fit_prompts(max(*lengths, *(slot.tokens for slot in self.slots), 0))
        ids = torch.tensor([token for index in indices for token in self.prompts[index]])
        positions = torch.cat([torch.arange(length) for length in lengths])
        last = torch.tensor(lengths).cumsum(0) - 1
        logits = self.model.forward(ids, positions, PrefillPass(self.cache, slots, lengths), last)
        for index, length, first in zip(indices, lengths, logits, strict=True):
            self.slots.append(PromptSlot(index, length, first))

    # ------------------------------------------------------------------------------------- stepping

    def _step(self) -> Pass:
        """Compute one token of every row."""
        started = time.perf_counter()
        drawn = len(self.rows)
        self._draw(self.rows, self.step_logits(), started)
        return Pass(drawn, self._leave())

    def step_logits(self) -> torch.Tensor:
        """Append the last token of each row to the cache, and return the logits (B, V) of the next."""
        slot_of_prompt = {slot.index: number for number, slot in enumerate(self.slots)}
        step = DecodePass(
            self.cache,
            [slot_of_prompt[row.job.index] for row in self.rows],
            [slot.tokens for slot in self.slots],
            [len(row.tokens) - 1 for row in self.rows],
            self.model.device,
        )
        return self.model.forward(torch.tensor([row.tokens[-1] for row in self.rows]), step.positions, step)

    def _draw(self, rows: Sequence[Row], logits: torch.Tensor, started: float) -> None:
        """Append a token to each of the rows, and add its share of the time since `started`."""
        uniform = torch.tensor([row.uniform[len(row.tokens)] for row in rows], dtype=torch.float64)
        tokens = draw_tokens(logits, uniform, self.settings).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
            row.seconds += seconds

    # -------------------------------------------------------------------------------------- leaving

    def _leave(self) -> list[Row]:
        """Remove and return the rows that have ended. The last row moves to each place that becomes free."""
        ended = []
        for place in reversed(range(len(self.rows))):
            row = self.rows[place]
            if row.tokens[-1] in self.end_ids or len(row.tokens) == self.settings.max_new_tokens:
                ended.append(row)
                last = self.rows.pop()
                if last is not row:
                    self.rows[place] = last
                    self.cache.move_row(len(self.rows), place)
                self._close(row.job.index)
        return ended

    def _close(self, index: int) -> None:
        """Count an ended completion of a prompt. After its last one, the last prompt moves to its slot."""
        self._open[index] -= 1
        if self._open[index] == 0:
            number = next(number for number, slot in enumerate(self.slots) if slot.index == index)
            last = self.slots.pop()
            if number < len(self.slots):
                self.slots[number] = last
                self.cache.move_prompt(len(self.slots), number)
