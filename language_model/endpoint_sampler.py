"""Completions from a server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from language_model.sampler import Completion, Job, check_settings, gather, with_progress
from script_io.errors import InputError

if TYPE_CHECKING:
    from openai import APIError

MAX_RETRIES = 5  # of the openai package, with exponential backoff from 0.5 to 8 seconds
REACHABLE_SECONDS = 10.0  # to answer the first, small request; a completion may take far longer
LONGEST_ANSWER = 500  # characters of an error's body that are shown
# Settings outside OpenAI's protocol that make a server sample the whole vocabulary; those that it refuses give way to
# the next. vLLM and llama.cpp apply a top_k of their own otherwise; `transformers serve`, which refuses top_k, takes
# the likeliest token at any temperature. OpenAI's own servers refuse both and need neither.
EXTRA_SETTINGS: tuple[dict[str, Any], ...] = (
    {"top_k": 0},
    {"generation_config": json.dumps({"do_sample": True, "top_k": 0, "repetition_penalty": 1.0})},
    {},
)


class EndpointSampler:
    """A server that speaks OpenAI's protocol: vLLM, `transformers serve`, llama.cpp, Ollama, or a hosted one.

    The key comes from the environment variable OPENAI_API_KEY; local servers ask for none. Whether a seed gives the
    same text again is up to the server: `transformers serve` seeds its whole process, so only with concurrency 1.
    """

    def __init__(self, base_url: str, served_model: str, *, prompt_format: str = "plain", concurrency: int = 8) -> None:
        from openai import OpenAI

        self.base_url = base_url
        self.name = served_model
        self.prompt_format = prompt_format
        self.concurrency = concurrency
        self.client = OpenAI(
            base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=MAX_RETRIES
        )
        self.extra_settings = EXTRA_SETTINGS[0]

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
        """See `Sampler`. `batch_size` is not used: the server forms batches of the requests under way."""
        check_settings(num_completions, max_new_tokens, temperature, batch_size)
        self._check_reachable()
        # One request a completion: not every server obeys `n`.
        jobs = [
            Job(index, sample, text, seed) for index, text in enumerate(prompts) for sample in range(num_completions)
        ]
        results = self._run(jobs, max_new_tokens, temperature)
        return with_progress(gather(results, num_completions), len(prompts), progress)

    def _run(self, jobs: list[Job], max_new_tokens: int, temperature: float) -> Iterator[tuple[Job, Completion]]:
        """Sends all jobs, `concurrency` at a time; the first failure ends the run."""
        executor = ThreadPoolExecutor(self.concurrency)
        try:
            futures: dict[Future[Completion], Job] = {
                executor.submit(self._request, job, max_new_tokens, temperature): job for job in jobs
            }
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def _check_reachable(self) -> None:
        """Raises InputError where nobody answers, before the patience of the retries is spent on it."""
        import openai

        try:
            self.client.with_options(max_retries=0, timeout=REACHABLE_SECONDS).models.list()
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise InputError(
                f"{self.base_url}: not reachable ({reason}); start the server or correct --base_url"
            ) from error
        except openai.APIStatusError:
            return  # it answers; a server need not list its models

    def _request(self, job: Job, max_new_tokens: int, temperature: float) -> Completion:
        """Asks for one completion. Raises InputError for whatever the server refuses."""
        import openai

        extra, started = self.extra_settings, time.perf_counter()
        try:
            text, reason, num_tokens = self._ask(job, max_new_tokens, temperature, extra)
        except openai.AuthenticationError as error:
            raise InputError(f"{self.base_url}: the key is refused; set OPENAI_API_KEY") from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if any(name in answer_of(error) for name in extra):
                if self.extra_settings is extra:  # no other thread has been here before
                    self.extra_settings = EXTRA_SETTINGS[EXTRA_SETTINGS.index(extra) + 1]
                return self._request(job, max_new_tokens, temperature)
            raise self._refused(job, error) from error
        except openai.APIError as error:
            raise self._refused(job, error) from error
        return Completion(text.strip(), reason == "stop", num_tokens, time.perf_counter() - started)

    def _refused(self, job: Job, error: APIError) -> InputError:
        message = f"{self.base_url}, model {self.name}, prompt {job.index}: {answer_of(error)}"
        is_refusal = getattr(error, "status_code", 500) < 500
        return InputError(message if is_refusal else f"{message}; the server's own log may say why")

    def _ask(
        self, job: Job, max_new_tokens: int, temperature: float, extra: dict[str, Any]
    ) -> tuple[str, str | None, int]:
        """(text, why it ended, tokens) of one completion."""
        settings: dict[str, Any] = {
            "model": self.name,
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "seed": int.from_bytes(job.digest[:4]) >> 1,  # servers take a signed 32-bit number
            "extra_body": extra,
        }
        if self.prompt_format == "chat":
            chat = self.client.chat.completions.create(messages=[{"role": "user", "content": job.prompt}], **settings)
            choice, text = chat.choices[0], chat.choices[0].message.content or ""
            return text, choice.finish_reason, chat.usage.completion_tokens if chat.usage else 0
        plain = self.client.completions.create(prompt=job.prompt, **settings)
        return (
            plain.choices[0].text,
            plain.choices[0].finish_reason,
            plain.usage.completion_tokens if plain.usage else 0,
        )


def answer_of(error: APIError) -> str:
    """The error in one line, with the server's words: the package leaves out what does not stand where OpenAI's do."""
    told, body = str(error), error.body or error.__cause__
    if body and not (isinstance(body, dict) and "message" in body) and str(body) not in told:
        told = f"{told} - {body}"
    return " ".join(told.split())[:LONGEST_ANSWER]
