"""Sample completions from a server with an OpenAI-compatible API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import openai

from language_model.concurrent_calls import call_concurrently
from language_model.sampler import Completion, Job, PromptTooLong, SamplingSettings, gather, jobs_of, with_progress
from script_io.errors import InputError

MAX_RETRIES = 5  # by the openai package, with exponential backoff from 0.5 to 8 seconds
REACHABLE_SECONDS = 10.0  # time limit of the first, small request; a completion may take much longer
LONGEST_ANSWER = 500  # characters of an error's body that are shown
# Settings outside OpenAI's API that make a server sample from the whole vocabulary. If a server refuses the first, the
# next is tried. vLLM and llama.cpp would otherwise apply their own top_k. `transformers serve` refuses top_k, and
# would otherwise take the most likely token at any temperature. OpenAI's own servers refuse both and need neither.
EXTRA_SETTINGS: tuple[dict[str, Any], ...] = (
    {"top_k": 0},
    {"generation_config": json.dumps({"do_sample": True, "top_k": 0, "repetition_penalty": 1.0})},
    {},
)


class EndpointSampler:
    """A model behind an OpenAI-compatible API: vLLM, `transformers serve`, llama.cpp, Ollama, or a hosted server.

    The key is read from the environment variable OPENAI_API_KEY; local servers need none. The server decides whether
    the same seed gives the same text: `transformers serve` seeds its whole process, so it needs a concurrency of 1.
    """

    def __init__(self, base_url: str, served_model: str, *, prompt_format: str = "plain", concurrency: int = 8) -> None:
        """`concurrency` is the number of requests at a time."""
        self.base_url = base_url
        self.name = served_model
        self.prompt_format = prompt_format
        self.concurrency = concurrency
        self.client = openai.OpenAI(
            base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=MAX_RETRIES
        )
        self.extra_settings = EXTRA_SETTINGS[0]

    def complete(
        self, prompts: Sequence[str], settings: SamplingSettings, progress: str | None = None
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See `Sampler`. `batch_size` is not used: the server forms its batches from the open requests."""
        self._check_reachable()
        # one request per completion, because some servers ignore `n`
        jobs = jobs_of(prompts, range(len(prompts)), settings)
        results = call_concurrently(partial(self._request, settings=settings), jobs, self.concurrency)
        return with_progress(gather(results, settings.num_completions), len(prompts), progress)

    def too_long(self, prompts: Sequence[str], max_new_tokens: int) -> list[PromptTooLong]:
        """Return no error: only the server knows its context, and refuses what is too long."""
        return []

    def _check_reachable(self) -> None:
        """Raise InputError if no server answers, without the waiting time of the retries."""
        try:
            self.client.with_options(max_retries=0, timeout=REACHABLE_SECONDS).models.list()
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise InputError(
                f"{self.base_url}: not reachable ({reason}); start the server or correct --base_url"
            ) from error
        except openai.APIStatusError:
            return  # it answers; a server need not list its models

    def _request(self, job: Job, settings: SamplingSettings) -> Completion:
        """Return one completion. Raises InputError if the server refuses the request."""
        extra, started = self.extra_settings, time.perf_counter()
        try:
            text, reason, num_tokens = self._ask(job, settings, extra)
        except openai.AuthenticationError as error:
            raise InputError(f"{self.base_url}: the key is refused; set OPENAI_API_KEY") from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if any(name in answer_of(error) for name in extra):
                if self.extra_settings is extra:  # another thread may have changed it already
                    self.extra_settings = EXTRA_SETTINGS[EXTRA_SETTINGS.index(extra) + 1]
                return self._request(job, settings)
            raise self._refused(job, error) from error
        except openai.APIError as error:
            raise self._refused(job, error) from error
        return Completion(text.strip(), reason == "stop", num_tokens, time.perf_counter() - started)

    def _refused(self, job: Job, error: openai.APIError) -> InputError:
        message = f"{self.base_url}, model {self.name}, prompt {job.index}: {answer_of(error)}"
        is_refusal = getattr(error, "status_code", 500) < 500
        return InputError(message if is_refusal else f"{message}; the server's own log may say why")

    def _ask(self, job: Job, settings: SamplingSettings, extra: dict[str, Any]) -> tuple[str, str | None, int]:
        """Return (text, reason why it ended, tokens) of one completion."""
        fields: dict[str, Any] = {
            "model": self.name,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": 1.0,
            "seed": int.from_bytes(job.digest[:4]) >> 1,  # servers take a signed 32-bit number
            "extra_body": extra,
        }
        if self.prompt_format == "chat":
            chat = self.client.chat.completions.create(messages=[{"role": "user", "content": job.prompt}], **fields)
            choice, text = chat.choices[0], chat.choices[0].message.content or ""
            return text, choice.finish_reason, chat.usage.completion_tokens if chat.usage else 0
        plain = self.client.completions.create(prompt=job.prompt, **fields)
        return (
            plain.choices[0].text,
            plain.choices[0].finish_reason,
            plain.usage.completion_tokens if plain.usage else 0,
        )


def answer_of(error: openai.APIError) -> str:
    """Return the error in one line, with the server's message even if it is not where OpenAI's servers put theirs."""
    message, body = str(error), error.body or error.__cause__
    if body and not (isinstance(body, dict) and "message" in body) and str(body) not in message:
        message = f"{message} - {body}"
    return " ".join(message.split())[:LONGEST_ANSWER]
