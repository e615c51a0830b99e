"""The web form: a server on this machine that shows one page, and stores answers through the same desk and file.

    GET  /?token=T           the page (web_form.html), which needs nothing else
    GET  /state              the example on the screen, and the rating so far
    POST /answer             one answer; returns the new state

Only the loopback interface is served. Every request must carry the random token of the address, so that no other
page in the browser and no other user of the machine can read a note or give an answer.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from assessment.desk import Desk
from assessment.web_form import WebForm, WrongAnswer
from script_io.errors import InputError
from script_io.files import parsed_json

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("web_form.html")
LARGEST_ANSWER = 100_000  # bytes
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Serves one assessor's form. Requests wait for one another, since the desk has one example on the screen."""

    daemon_threads = True

    def __init__(self, desk: Desk, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.form = WebForm(desk)
        self.lock = Lock()
        self.token = secrets.token_urlsafe(24)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/?token={self.token}"


def serve(desk: Desk, port: int = 0) -> None:
    """Serve the form until Ctrl-C, SIGTERM or SIGHUP."""
    try:
        server = Server(desk, port)
    except OSError as error:
        raise InputError(
            f"--port {port}: cannot be served ({error.strerror}); choose another or leave the flag out"
        ) from error
    with server:
        print(f"Open this address in a browser on this machine (Ctrl-C ends):\n{server.address}", flush=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("\nSaved. Start the same command again to continue.")


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/" and self._is_allowed(parse_qs(url.query).get("token", [""])[0]):
            self._send(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif url.path == "/state" and self._is_allowed(self.headers.get("X-Token", "")):
            self._answer(self.server.form.state)
        else:
            self._refuse()

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/answer" or not self._is_allowed(self.headers.get("X-Token", "")):
            self._refuse()
        elif not length.isdecimal() or len(length) > 12 or int(length) > LARGEST_ANSWER:
            self._send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "The answer is too long."})
        else:
            self._take(self.rfile.read(int(length)))

    def _take(self, body: bytes) -> None:
        try:
            answer = parsed_json(body.decode())
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            self._answer(lambda: self.server.form.take(answer))
        else:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "Not a JSON object."})

    def _answer(self, state: Callable[[], Mapping[str, Any]]) -> None:
        try:
            with self.server.lock:
                content = state()
        except WrongAnswer as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except Exception as error:  # the file of ratings cannot be read or written: the page has to say so
            print(f"error: {error}", file=sys.stderr)
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"Not saved: {error}"})
        else:
            self._send_json(HTTPStatus.OK, content)

    def _is_allowed(self, token: str) -> bool:
        """Return whether the request has the token and is for this machine's own name."""
        own = self.headers.get("Host", "") == f"{HOST}:{self.server.server_address[1]}"
        return own and secrets.compare_digest(token.encode(), self.server.token.encode())

    def _refuse(self) -> None:
        self._send_json(HTTPStatus.FORBIDDEN, {"error": "Use the whole address that the tool printed."})

    def _send_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the requests would fill the terminal, and their addresses hold the token."""
