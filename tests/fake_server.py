"""An OpenAI-compatible HTTP server for tests, on a free port of this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Server:
    """An OpenAI-compatible server whose completion repeats the prompt: `about PROMPT`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None, dict[str, Any]]] = []
        self.failures: list[tuple[int, str]] = []  # answered first, one per request
        self.refuses_top_k = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": []})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers["Authorization"], body))
                if outer.failures:
                    status, message = outer.failures.pop(0)
                    self.answer(status, {"error": {"message": message}})
                elif outer.refuses_top_k and "top_k" in body:
                    self.answer(400, {"error": {"message": "Unrecognized request argument supplied: top_k"}})
                else:
                    self.answer(200, outer.completion(self.path, body))

            def answer(self, status: int, content: dict[str, Any]) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        text = f" about {prompt} "
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if "long" in prompt else "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        usage = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
        return {"id": "1", "object": path, "created": 0, "model": body["model"], "choices": [choice], "usage": usage}
