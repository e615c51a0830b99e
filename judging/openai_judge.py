"""Judge summaries with a language model behind an OpenAI-compatible API; the key is read from OPENAI_API_KEY.

Requests ask for structured output at temperature 0. If a server refuses one of these settings, the judge leaves it out.
Replies are parsed strictly: after an unusable reply, the judge asks again; after the last attempt, the judge has failed
on the summary, which is never a verdict.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlparse

import openai

from clinical.facts import sentences
from fact_checking.claims import CITATION, FactCheck, without_citations
from judging.claim_replies import BadReply, instructions, parse_reply, response_format
from judging.judge import NoteAndSummary
from judging.rubrics import RUBRICS
from language_model.concurrent_calls import call_concurrently
from script_io.errors import InputError
from script_io.progress import progress_bar

_AGAIN = "That answer cannot be used ({problem}). Answer with the JSON object alone, its words copied from the texts."
# OpenAI's list prices in dollars per million tokens sent and received, without discounts for cached tokens. A dated
# model ("gpt-4o-mini-2024-07-18") costs the same.
_PRICES = {
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-5": (1.25, 10.00),
    "gpt-5-mini": (0.25, 2.00),
    "gpt-5-nano": (0.05, 0.40),
}
_PRICES_OF = "OpenAI's list prices of 2026-03, without discounts"
_DATED = re.compile(r"-\d{4}-\d\d-\d\d$")


class NoReply(Exception):
    """The server did not answer a request, or refused it, after all retries."""


class OpenAIJudge:
    """A language model behind an OpenAI-compatible API."""

    attempts = 3  # replies per summary before the judge has failed on it
    concurrency = 4  # requests at a time
    patience = 10  # failures without any reply after which the run stops

    def __init__(
        self,
        model: str,
        base_url: str,
        criterion: str | None = None,
        price_per_million: Sequence[float] | None = None,
        *,
        rubric: str | None = None,
        stays_here: bool = False,
    ) -> None:
        """`rubric` is a key of RUBRICS, whose items each summary is graded on as well.

        `stays_here`: the address is this machine, so no proxy and no redirect may send the notes elsewhere.
        """
        self.name = f"openai:{model}"
        if criterion is not None:  # with another criterion, it is another judge
            self.name += f", criterion {hashlib.sha256(criterion.encode()).hexdigest()[:8]}"
        if rubric is not None:  # the claims come from another prompt
            self.name += f", rubric {rubric}"
        self.model = model
        self.base_url = base_url
        self.failures = 0
        self.replies = self.replies_without_usage = self.prompt_tokens = self.completion_tokens = 0
        self.earlier_usage = Counter[str]()  # of a run that this one continues
        self.prices, self.prices_of = _prices(model, base_url, price_per_million)
        self.items = RUBRICS[rubric] if rubric else ()
        self.instructions = instructions(criterion, self.items)
        self.settings: dict[str, Any] = {"temperature": 0, "response_format": response_format(self.items)}
        self.refused: frozenset[str] = frozenset()  # names in `settings` that the server refuses
        # the package tries again after 408, 409, 429, 5xx and lost connections; it waits for 0.5 to 8 s
        self.client = openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=4,
            timeout=180.0,
            http_client=openai.DefaultHttpxClient(trust_env=False, follow_redirects=False) if stays_here else None,
        )
        self._lock = threading.Lock()

    @property
    def usage(self) -> dict[str, Any]:
        """Return the number of replies, their tokens, and the price in dollars if it is known."""
        names = ("replies", "replies_without_usage", "prompt_tokens", "completion_tokens")
        counts = {name: getattr(self, name) + self.earlier_usage[name] for name in names}
        sent, received = counts["prompt_tokens"], counts["completion_tokens"]
        price = (sent * self.prices[0] + received * self.prices[1]) / 1e6 if self.prices else None
        return {**counts, "price_usd": price, "prices": self.prices_of}

    def check(self, note: str, summary: str) -> FactCheck | None:
        """See `Judge`. Raises InputError if the server refuses all requests."""
        text = without_citations(summary)
        if not text.strip():
            return FactCheck(())
        texts = {"note": note, "summary": text, **self._cited(note, summary)}
        problem = ""
        for _ in range(self.attempts):
            try:
                return parse_reply(self._ask(texts, problem), note, text, self.items)
            except BadReply as error:
                problem = str(error)
            except NoReply as error:
                problem = str(error)
                break
        with self._lock:
            self.failures += 1
            if self.failures == 1:
                print(f"warning: the judge failed on a summary: {problem}", file=sys.stderr)
            if self.failures >= self.patience and not self.replies:
                raise InputError(f"--judge openai, {self.base_url}: no request has been answered; the last: {problem}")
        return None

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`. Sends `concurrency` requests at a time."""
        checks: list[FactCheck | None] = [None] * len(pairs)
        finished = call_concurrently(lambda number: self.check(*pairs[number]), range(len(pairs)), self.concurrency)
        for number, check in progress_bar(finished, label=progress, total=len(pairs), unit="summary"):
            checks[number] = check
        return checks

    def _cited(self, note: str, summary: str) -> dict[str, Any]:
        """Return what the grade of citations needs, if it is asked for: the citations and the numbered sentences."""
        if not any(item.reads_citations for item in self.items) or not CITATION.search(summary):
            return {}
        numbered = {f"S{n}": note[start:end] for n, (start, end) in enumerate(sentences(note), start=1)}
        return {"summary_with_citations": summary, "sentences_of_the_note": numbered}

    def _ask(self, texts: dict[str, Any], problem: str) -> str:
        """Return one reply about the texts; `problem` says what was wrong with the previous one, if anything."""
        messages = [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": json.dumps(texts, ensure_ascii=False)},
        ]
        if problem:
            messages.append({"role": "user", "content": _AGAIN.format(problem=problem)})
        try:
            reply = self._request(messages)
        except (
            openai.APIConnectionError,
            openai.AuthenticationError,
            openai.PermissionDeniedError,
            openai.NotFoundError,
        ) as error:
            raise self._refusal(error) from error
        except openai.APIError as error:
            raise (self._refusal(error) if error.code == "insufficient_quota" else NoReply(_one_line(error))) from error
        except ValueError as error:
            raise NoReply(f"an answer that is no JSON: {_one_line(error)}") from error
        try:
            text = reply.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError) as error:
            raise NoReply("an answer that is no chat completion; check the address") from error
        if not isinstance(text, str):  # openai checks no type
            raise NoReply("an answer whose content is no text; check the address")
        self._count(reply.usage)
        return text

    def _request(self, messages: list[dict[str, str]]) -> Any:
        """Return the answer to one request. Leaves out refused settings, and remembers them once that has helped."""
        refused = self.refused
        while True:
            settings = {name: value for name, value in self.settings.items() if name not in refused}
            try:
                reply = self.client.chat.completions.create(model=self.model, messages=messages, **settings)  # type: ignore[arg-type]
            except openai.APIStatusError as error:
                culprit = _refused_setting(error, settings)
                if culprit is None:
                    raise
                refused |= {culprit}
            else:
                self.refused = refused
                return reply

    def _refusal(self, error: Exception) -> Exception:
        """Return an InputError, which ends the run, or a NoReply if the run has paid for replies already."""
        reason = _one_line(error.__cause__ or error)
        if self.replies:
            return NoReply(reason)
        return InputError(f"--judge openai, {self.base_url}: {reason}; check the address, model and key")

    def _count(self, usage: Any) -> None:
        sent, received = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        with self._lock:
            self.replies += 1
            self.replies_without_usage += sent is None or received is None
            self.prompt_tokens += sent or 0
            self.completion_tokens += received or 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _refused_setting(error: Any, settings: dict[str, Any]) -> str | None:
    """Return the setting that the error names; for 400 and 422 without a name, the structured output."""
    message = str(error)
    named = next((name for name in settings if name in message), None)
    if error.status_code in (400, 422):
        return named or next((name for name in settings if name == "response_format"), None)
    return named if error.status_code == 500 else None  # some servers call their own refusal an internal error


def _prices(model: str, base_url: str, given: Sequence[float] | None) -> tuple[tuple[float, float] | None, str | None]:
    """Return ((dollars per million tokens sent, and received), their source), or None for what is not known."""
    if given is not None:
        return (given[0], given[1]), "prices given"
    listed = _PRICES.get(_DATED.sub("", model)) if urlparse(base_url).hostname == "api.openai.com" else None
    return listed, _PRICES_OF if listed else None
