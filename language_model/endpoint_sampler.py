"""Sample completions from a server with an OpenAI-compatible API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import openai

from language_model.concurrent_calls import call_concurrently
from language_model.sampler import (
    Completion,
    Job,
    PromptTooLong,
    SamplingProgress,
    SamplingSettings,
    gather,
    jobs_of,
)
from language_model.thinking import without_thinking
from script_io.errors import InputError

MAX_RETRIES = 5  # by the openai package, with exponential backoff from 0.5 to 8 seconds
REACHABLE_SECONDS = 10.0  # time limit of the first, small request; a completion may take much longer
LONGEST_ANSWER = 500  # characters of an error's body that are shown


def extra_settings(top_k: int) -> tuple[dict[str, Any], ...]:
    """Return settings outside OpenAI's API; if a server refuses the first, the next is tried.

    Without top_k, vLLM and llama.cpp would apply their own. `transformers serve` refuses top_k, and would otherwise
    take the most likely token at any temperature. OpenAI's own servers refuse both, and need neither for a top_k of 0.
    """
    config = {"do_sample": True, "top_k": top_k, "repetition_penalty": 1.0}
    known: tuple[dict[str, Any], ...] = ({"top_k": top_k}, {"generation_config": json.dumps(config)})
    return known if top_k else (*known, {})


class EndpointSampler:
    """A model behind an OpenAI-compatible API: vLLM, `transformers serve`, llama.cpp, Ollama, or a hosted server.

    The key is read from the environment variable OPENAI_API_KEY; local servers need none. The server decides whether
    the same seed gives the same text: `transformers serve` seeds its whole process, so it needs a concurrency of 1.
    """

    def __init__(
        self,
        base_url: str,
        served_model: str,
        *,
        prompt_format: str = "plain",
        concurrency: int = 8,
        keep_thinking: bool = False,
    ) -> None:
        """`concurrency` is the number of requests at a time; `keep_thinking` leaves thinking blocks in the texts."""
        self.base_url = base_url
        self.name = served_model
        self.prompt_format = prompt_format
        self.concurrency = concurrency
        self.keep_thinking = keep_thinking
        self.client = openai.OpenAI(
            base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=MAX_RETRIES
        )
        self.refused_settings = 0  # of `extra_settings`, the number that the server has refused

    def complete(
        self,
        prompts: Sequence[str],
        settings: SamplingSettings,
        progress: str | None = None,
        done: Collection[int] = frozenset(),
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See `Sampler`. `batch_size` is not used: the server forms its batches from the open requests."""
        self._check_reachable()
        # one request per completion, because some servers ignore `n`
        jobs = jobs_of(prompts, [index for index in range(len(prompts)) if index not in done], settings)
        return self._completions(jobs, settings, SamplingProgress(progress, len(prompts), done))

    def _completions(
        self, jobs: Sequence[Job], settings: SamplingSettings, progress: SamplingProgress
    ) -> Iterator[tuple[int, list[Completion]]]:
        with progress:
            results = call_concurrently(partial(self._request, settings=settings), jobs, self.concurrency)
            yield from progress.new(gather(progress.count(results), settings.num_completions))

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
        known, refused, started = extra_settings(settings.top_k), self.refused_settings, time.perf_counter()
        extra = known[refused]
        try:
            text, reason, num_tokens = self._ask(job, settings, extra)
        except openai.AuthenticationError as error:
            raise InputError(f"{self.base_url}: the key is refused; set OPENAI_API_KEY") from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if refused + 1 < len(known) and any(name in answer_of(error) for name in extra):
                self.refused_settings = max(self.refused_settings, refused + 1)  # other threads change it as well
                return self._request(job, settings)
            raise self._refused(job, error) from error
        except openai.APIError as error:
            raise self._refused(job, error) from error
        except (ValueError, AttributeError, IndexError, TypeError) as error:  # openai checks no type
            raise InputError(
                f"{self.base_url}, model {self.name}, prompt {job.index}: an answer that is no completion "
                f"({' '.join(str(error).split())[:LONGEST_ANSWER]}); check that --base_url is the address of the API"
            ) from error
        if not isinstance(text, str):
            raise InputError(f"{self.base_url}, model {self.name}, prompt {job.index}: an answer without a text")
        text = text if self.keep_thinking else without_thinking(text)
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
            "top_p": settings.top_p,
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
