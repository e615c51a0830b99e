"""A server that is slow, dies in mid-answer, answers garbage, or is too busy: one line, or a second try."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from judging.openai_judge import OpenAIJudge
from language_model import endpoint_sampler
from language_model.endpoint_sampler import EndpointSampler
from language_model.sampler import SamplingSettings
from script_io.errors import InputError

GOOD = b'{"choices": [{"text": "fine", "finish_reason": "stop"}]}'
CUT_OFF = b'{"choices": [{"text": "fi'  # announced as longer, then the connection ends


class FaultyServer(ThreadingHTTPServer):
    """Answers the requests in turn with `answers`, (status, body) each, and the last one for ever."""

    answers: list[tuple[int, bytes]]
    delay = 0.0  # seconds

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def do_GET(self) -> None:
        self.send(200, b'{"object": "list", "data": []}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.delay)
        answers = self.server.answers
        self.send(*(answers.pop(0) if len(answers) > 1 else answers[0]))

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if body.startswith(b"<") else "application/json")
        self.send_header("Content-Length", str(len(body) + (100 if body == CUT_OFF else 0)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = body == CUT_OFF

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setattr(endpoint_sampler, "MAX_RETRIES", 1)  # after 0.5 s
    with FaultyServer() as server:
        yield server
        server.shutdown()


FAULTS = [
    pytest.param(200, b"<html>Welcome</html>", "no completion", id="a web page"),
    pytest.param(200, b"{broken", "no completion", id="broken JSON"),
    pytest.param(200, b"null", "no completion", id="null"),
    pytest.param(200, b"[1, 2]", "no completion", id="a list"),
    pytest.param(200, b'{"choices": []}', "no completion", id="no choice"),
    pytest.param(200, b'{"choices": [{"text": 5, "message": {"content": 5}}]}', "without a text", id="a number"),
    pytest.param(200, CUT_OFF, "without sending complete message body", id="cut off"),
    pytest.param(429, b'{"error": {"message": "slow down"}}', "slow down", id="429"),
    pytest.param(500, b"oops", "oops; the server's own log may say why", id="500"),
]


@pytest.mark.parametrize(("status", "body", "said"), FAULTS)
def test_sampling_ends_with_one_line(server: FaultyServer, status: int, body: bytes, said: str) -> None:
    server.answers = [(status, body)]
    with pytest.raises(InputError, match=said) as caught:
        list(EndpointSampler(server.url, "sft").complete(["one"], SamplingSettings()))
    assert str(caught.value).startswith(f"{server.url}, model sft, prompt 0: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("status", "body", "said"), FAULTS)
def test_judging_ends_with_one_line(server: FaultyServer, status: int, body: bytes, said: str) -> None:
    server.answers = [(status, body)]
    judge = OpenAIJudge("gpt", server.url)
    judge.client = judge.client.with_options(max_retries=0)
    judge.patience = 1
    with pytest.raises(InputError, match=r"no request has been answered|check the address") as caught:
        judge.check("A slow pulse.", "A slow pulse.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", [b'{"choices": [{"message": {"content": 5}}]}', b"<html>Welcome</html>"])
def test_the_judge_gives_no_verdict(server: FaultyServer, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    server.answers = [(200, body)]
    assert OpenAIJudge("gpt", server.url).check("A slow pulse.", "A slow pulse.") is None
    assert capsys.readouterr().err.startswith("warning: the judge failed on a summary: an answer ")


@pytest.mark.parametrize("first", [(429, b"{}"), (500, b"oops"), (200, CUT_OFF)], ids=["429", "500", "cut off"])
def test_a_fault_that_passes_is_no_fault(server: FaultyServer, first: tuple[int, bytes]) -> None:
    server.answers, server.delay = [first, (200, GOOD)], 0.05  # and the server is slow
    found = dict(EndpointSampler(server.url, "sft").complete(["one"], SamplingSettings()))
    assert found[0][0].text == "fine"
