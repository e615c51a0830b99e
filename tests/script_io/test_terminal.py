"""Text for the terminal, what is replaced in it and when it has colours; text that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from script_io.terminal import ask_lines, printable, shows_colour


def test_controls_are_harmless_and_line_ends_stay() -> None:
    assert printable("a\x1b[2Jb\x07c\u202ed\u200be\u00a0f\tg\x0bh") == "a\ufffd[2Jb\ufffdcde f    g\nh"
    assert printable("a\r\nb\rc\u2028d°") == "a\nb\nc\nd°"


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["first", "", "", "second", "", "."], "first\n\n\nsecond"),
        (["", "first", " . "], "first"),
        (["first\n\nsecond\n."], "first\n\nsecond"),  # a paste that the terminal hands over as one line
        (["first", "", "second", EOFError], "first\n\nsecond"),
        (["first", "quit", "."], "first\nquit"),
        (["."], ""),
        ([" Quit"], None),
        ([EOFError], None),
        (["", EOFError], None),
    ],
)
def test_a_text_of_several_lines_ends_at_its_end_line(
    typed: list[object], text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(typed)

    def answer(question: str) -> object:
        found = next(answers)
        if found is EOFError:
            raise EOFError
        return found

    monkeypatch.setattr("builtins.input", answer)
    assert ask_lines("Note> ", "> ", ".", ("quit",)) == text


@pytest.mark.parametrize(
    ("is_terminal", "variables", "expected"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colours_are_shown_in_terminals_that_have_them(
    is_terminal: bool, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    assert shows_colour() is expected


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_pasted_line_is_not_cut_at_the_limit_of_the_terminal() -> None:
    import pexpect

    code = "from script_io.terminal import ask_lines; print('length', len(ask_lines('Note> ', '> ', '.', ())))"
    root = str(Path(__file__).resolve().parents[2])
    process = pexpect.spawn(sys.executable, ["-c", code], cwd=root, encoding="utf-8", timeout=300, echo=False)
    process.expect_exact("Note> ")
    process.send("Denies fever.\t" * 400 + "\n\nend\n.\n")  # 5,600 characters; a terminal takes 4,095 by itself
    process.expect_exact(f"length {14 * 400 + len(chr(10) * 2 + 'end')}")
