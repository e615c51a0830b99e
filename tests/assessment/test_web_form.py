"""The web form: the same stored ratings as in the terminal, for who has the address only; and the page in Chromium."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from assessment.desk import Desk
from assessment.examples import Example
from assessment.ratings import Rating, RatingBook
from assessment.web import HOST, Server
from script_io.errors import InputError

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>hacked = 1</script><img src=x onerror='hacked = 1'> Takes insulin.\n"
SUMMARY = "A 🙂 man on insulin, and aspirin. No <b>pain</b>."


def desk_of(folder: Path, note: str = HOSTILE, **how: bool) -> Desk:
    examples = [Example(f"e{number}", f"Note {number}. {note}", SUMMARY) for number in range(3)]
    return Desk(examples, RatingBook(folder / "manual_assessment.json"), "KM", **how)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    yield from served(desk_of(tmp_path))


def served(desk: Desk) -> Iterator[Server]:
    with Server(desk) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection(HOST, server.server_address[1], timeout=10)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def answer(server: Server, **content: Any) -> tuple[int, dict[str, Any]]:
    index = server.form.index or 0
    body = {"text_sha256": server.form.desk.examples[index].text_sha256, **content}
    status, reply = ask(server, "POST", "/answer", json.dumps(body).encode(), **{"X-Token": server.token})
    return status, json.loads(reply)


def stored(server: Server, number: int = 0) -> Rating:
    desk = server.form.desk
    return RatingBook(desk.book.path).ratings["KM", desk.examples[number].text_sha256]


def test_only_the_whole_address_opens_the_form(server: Server) -> None:
    token = {"X-Token": server.token}
    assert server.address.startswith("http://127.0.0.1:")
    assert ask(server, "GET", f"/?token={server.token}")[0] == 200
    assert ask(server, "GET", "/state", **token)[0] == 200
    for method, path, headers in (
        ("GET", "/", {}),
        ("GET", "/?token=wrong", {}),
        ("GET", "/state", {}),
        ("GET", "/manual_assessment.json", token),
        ("POST", "/answer", {}),
        ("GET", "/state", {**token, "Host": "evil.example"}),  # a name that another page had point to this machine
    ):
        status, body = ask(server, method, path, b"{}" if method == "POST" else None, **headers)
        assert status == 403
        assert b"insulin" not in body


def test_answers_are_stored_as_in_the_terminal(server: Server) -> None:
    status, state = answer(server, action="begin", start=15, end=22)
    assert (status, stored(server).draft.error.text) == (200, SUMMARY[15:22])  # type: ignore[union-attr]
    assert state["example"]["rating"]["draft"]["error"]["end"] == 22
    status, state = answer(server, action="error", kind="fabricated", severity="major", start=15, end=22)
    assert state["number"] == 1  # a further error may follow
    answer(server, action="omissions", omissions=["  fever ", ""])
    answer(server, action="comment", comment="see\nnote")
    rating = stored(server)
    assert [(e.kind, e.severity, e.text) for e in rating.errors] == [("fabricated", "major", SUMMARY[15:22])]
    assert (rating.verdict, rating.omissions, rating.comment, rating.draft) == (
        *("hallucinated", ["fever"], "see note"),
        None,
    )
    assert answer(server, action="next")[1]["number"] == 2
    assert answer(server, action="no")[1]["number"] == 3
    assert stored(server, 1).verdict == "not hallucinated"
    assert answer(server, action="back")[1]["number"] == 2
    assert answer(server, action="next")[1]["number"] == 3
    assert answer(server, action="skip")[1]["example"] is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"action": "delete"}, "no such question"),
        ({"action": "no", "text_sha256": "of another summary"}, "Another summary is on the screen"),
        ({"action": "back"}, "first summary"),
        ({"action": "error", "kind": "dose", "severity": "major"}, "Choose the kind"),
        ({"action": "error", "kind": "fabricated", "severity": "major", "start": 5, "end": 500}, "not in the summary"),
        ({"action": "begin", "start": "1", "end": 2}, "not in the summary"),
        ({"action": "completeness", "level": 4}, "from 0 to 3"),
        ({"action": "completeness", "level": True}, "from 0 to 3"),
        ({"action": "omissions", "omissions": "fever"}, "list of texts"),
        ({"action": "comment", "comment": 1}, "is a text"),
    ],
)
def test_answers_that_are_refused_store_nothing(server: Server, content: dict[str, Any], words: str) -> None:
    status, reply = answer(server, **content)
    assert status == 400
    assert words in reply["error"]
    assert not server.form.desk.book.path.exists()


def test_what_is_no_json_object_or_too_long_is_refused(server: Server) -> None:
    for body, status in ((b"[]", 400), (b"{", 400), (b"x" * 100_001, 413)):
        assert ask(server, "POST", "/answer", body, **{"X-Token": server.token})[0] == status


def test_a_blind_form_has_no_id_and_no_verdict(tmp_path: Path) -> None:
    for server in served(desk_of(tmp_path)):
        assert "e0" not in json.dumps({k: v for k, v in server.form.state()["example"].items() if k == "read"})
        assert "read" not in server.form.state()["example"]
    for server in served(desk_of(tmp_path, blind=False)):
        assert server.form.state()["example"]["read"]["example_id"] == "e0"


def test_a_port_in_use_is_an_input_error(server: Server, tmp_path: Path) -> None:
    from assessment.web import serve

    port = server.server_address[1]
    with pytest.raises(InputError, match=f"--port {port}: cannot be served"):
        serve(desk_of(tmp_path), port)


# ------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_summary_is_rated_on_the_page(tmp_path: Path, browser: Any, width: int) -> None:
    problems: list[str] = []
    for server in served(desk_of(tmp_path, note=HOSTILE * 60, rate_completeness=True)):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda request: HOST in request.url or problems.append(request.url))
        page.goto(server.address)
        page.get_by_text("Summary 1 of 3").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("button", name="No, everything").click()
        page.get_by_text("You have not read the note to its end").wait_for()
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        top = page.locator("#message").bounding_box()["y"]
        assert 0 <= top < 800  # next to the buttons that were pressed, not above the screen
        assert not server.form.desk.book.path.exists()
        page.get_by_role("button", name="and aspirin.").click()
        page.get_by_text('Not supported: "and aspirin."').wait_for()
        page.reload()  # as after a crash: the words are still marked
        page.get_by_text('Not supported: "and aspirin."').wait_for()
        page.get_by_label("contradiction").check()
        page.get_by_label("major").check()
        page.get_by_role("button", name="Save this error").click()
        page.get_by_text("Saved: hallucinated. Say how complete").wait_for()
        page.get_by_text("Omissions and comment").click()
        page.get_by_label("Comment", exact=True).fill("Seen on the phone.")
        page.get_by_label("2: states most").check()
        page.get_by_role("button", name="Next").click()
        page.get_by_text("Summary 2 of 3, 1 rated").wait_for()
        page.locator("#note").evaluate("note => note.scrollTo(0, note.scrollHeight)")
        page.get_by_role("button", name="No, everything").click()  # the note was read
        page.get_by_label("3: states all").check()
        page.get_by_text("Summary 3 of 3, 2 rated").wait_for()
        assert page.evaluate("typeof hacked") == "undefined"
        assert problems == []
        page.close()
        errors = stored(server).errors
        assert [(e.kind, e.severity, e.text) for e in errors] == [("contradiction", "major", "and aspirin.")]
        assert (stored(server).completeness, stored(server, 1).completeness) == (2, 3)
        assert stored(server, 1).verdict == "not hallucinated"
        assert stored(server).comment == "Seen on the phone."


def test_answers_arrive_in_the_order_in_which_they_were_given(tmp_path: Path, browser: Any) -> None:
    """A slow comment is stored before the Next that was clicked after it."""
    for server in served(desk_of(tmp_path)):
        page = browser.new_page()
        page.goto(server.address)
        page.get_by_text("Summary 1 of 3").wait_for()
        page.evaluate(
            """() => {
                const fetchNow = window.fetch;
                const wait = how => how.body && how.body.includes("comment") ? 300 : 0;
                const later = milliseconds => new Promise(done => setTimeout(done, milliseconds));
                window.fetch = (to, how) => later(wait(how)).then(() => fetchNow(to, how));
            }"""
        )
        page.get_by_text("Omissions and comment").click()
        page.get_by_label("Comment", exact=True).fill("Seen twice.")
        page.get_by_role("button", name="Skip").click()
        page.get_by_text("Summary 2 of 3").wait_for()
        page.close()
        assert (stored(server).comment, stored(server).verdict) == ("Seen twice.", "skipped")
