"""The rating tool with single keys, in a pseudo-terminal at 80x24 and 140x50 whose screen is read back."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from screen_emulator import Screen

from assessment.words import phrases
from script_io.csv_files import write_csv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")

ROOT = Path(__file__).parents[1]
SIZES = [(80, 24), (140, 50)]
QUESTION, PHRASE, KIND = "Does the summary contain", "Which phrase is not supported?", "major: could change"
LONG_NOTE = "Takes insulin.\n" + "Denies chest pain.\n" * 160 + "Insulin was stopped."


class Terminal:
    """The tool in a pseudo-terminal, with what its screen shows."""

    def __init__(self, process: Any, columns: int, rows: int) -> None:
        self.process = process
        self.screen = Screen(columns, rows)
        self.output = ""
        self.keys = 0

    def wait(self, text: str | Callable[[str], bool]) -> str:
        """Return the screen once it shows the text."""
        import pexpect

        is_there = text if callable(text) else lambda shown: text in shown
        end = time.monotonic() + 40
        while not is_there(self.screen.text):
            assert time.monotonic() < end, self.screen.text
            try:
                self._feed(self.process.read_nonblocking(65536, 0.2))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break  # the tool has ended, so its report follows the last screen
        return self.screen.text

    def press(self, keys: str, then: str | Callable[[str], bool]) -> str:
        """Press keys at once and return the screen once it shows the text."""
        self.keys += len(keys)
        self.process.send(keys)
        return self.wait(then)

    def end(self) -> int:
        """Read to the end of the output; return the exit code, or minus the signal."""
        import pexpect

        self.process.expect(pexpect.EOF)
        self._feed(self.process.before)
        self.process.close()
        return self.process.exitstatus if self.process.signalstatus is None else -self.process.signalstatus

    def _feed(self, output: str) -> None:
        self.output += output
        self.screen.feed(output)


@contextmanager
def terminal(csv: Path, *more: str, size: tuple[int, int] = SIZES[0]) -> Iterator[Terminal]:
    import pexpect

    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env["TERM"] = "xterm"
    process = pexpect.spawn(
        sys.executable,
        [str(ROOT / "manual_assessment_tool.py"), "--results_csv", str(csv), *more],
        env=env,
        encoding="utf-8",
        timeout=40,
        dimensions=(size[1], size[0]),
    )
    process.delaybeforesend = None
    try:
        yield Terminal(process, *size)
    finally:
        process.close(force=True)


def write_results(path: Path, rows: list[tuple[str, str]]) -> Path:
    """One example for each (note, summary)."""
    write_csv(
        path,
        ("example_id", "clinical_note", "generated_summary"),
        [
            {"example_id": f"e{number}", "clinical_note": note, "generated_summary": summary}
            for number, (note, summary) in enumerate(rows)
        ],
    )
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_results(
        tmp_path / "r.csv", [(f"Note {n}. Takes aspirin.", f"Case {n} takes aspirin, and warfarin.") for n in range(4)]
    )


def ratings_of(csv: Path) -> dict[str, dict[str, Any]]:
    path = csv.parent / "manual_assessment.json"
    return {row["example_id"]: row for row in json.loads(path.read_text())["ratings"]} if path.exists() else {}


@pytest.mark.parametrize("size", SIZES)
def test_keystrokes_over_20_real_summaries(tmp_path: Path, size: tuple[int, int]) -> None:
    """A no takes at most 1.5 keys, with every page of the note read, and a yes with its words at most 4."""
    lines = (ROOT / "demo" / "labelled" / "real_samples.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines[::70][:20]]
    csv = write_results(tmp_path / "r.csv", [(s["clinical_note"], s["generated_summary"]) for s in samples])
    keys: dict[bool, list[int]] = {True: [], False: []}
    with terminal(csv, "--show_verdicts", size=size) as tool:
        for number, sample in enumerate(samples):
            title = tool.wait(lambda shown, n=number: f"Summary {n + 1} of 20," in shown and QUESTION in shown)
            before = tool.keys
            if pages := re.search(r"page 1 of (\d+)", title):
                for page in range(2, int(pages[1]) + 1):
                    tool.press(" ", f"page {page} of {pages[1]}")
            summary = sample["generated_summary"]
            if sample["has_hallucination"]:
                start = summary.find(sample["unsupported"][0]) if sample["unsupported"] else 0
                ends = [end > start for _, end in phrases(summary)]
                tool.press("y", PHRASE)
                phrase = ends.index(True) + 1
                tool.press(f"{phrase}{chr(13) if phrase < 10 and phrase * 10 <= len(ends) else ''}", KIND)
                tool.press("1", lambda shown: KIND not in shown)
            else:
                tool.press("n", lambda shown, n=number: f"Summary {n + 1} of 20," not in shown)
            keys[bool(sample["has_hallucination"])].append(tool.keys - before)
        assert tool.end() == 0
    stored = ratings_of(csv)
    assert len(stored) == 20
    for number, sample in enumerate(samples):
        row = stored[f"e{number}"]
        assert (row["verdict"] == "hallucinated") == bool(sample["has_hallucination"])
        assert all(error["text"] for error in row["errors"])
    means = {answer: sum(counts) / len(counts) for answer, counts in keys.items()}
    print(f"{size[0]}x{size[1]}: {means[False]:.2f} keys a no ({len(keys[False])}), {means[True]:.2f} a yes")
    assert means[False] <= 1.5
    assert means[True] <= 4
    assert min(map(len, keys.values())) >= 5


@pytest.mark.parametrize("size", SIZES)
def test_the_note_stays_in_place_while_a_question_is_answered(tmp_path: Path, size: tuple[int, int]) -> None:
    csv = write_results(tmp_path / "r.csv", [(LONG_NOTE, "Takes insulin, and no aspirin. Denies pain."), ("n", "s")])
    with terminal(csv, "--show_verdicts", size=size) as tool:
        first = tool.wait(QUESTION).splitlines()
        pages = int(re.findall(r"page 1 of (\d+)", first[0])[0])
        assert "[2] and no aspirin." in "\n".join(first)
        body = first[1 : size[1] - 8]
        for key, then in (("y", PHRASE), ("2", KIND)):
            assert tool.press(key, then).splitlines()[1 : size[1] - 8] == body
        tool.press("b", PHRASE)
        tool.press("/", "Search the note for")
        last_page = ("Insulin was stopped.", f"page {pages} of {pages}", PHRASE)
        tool.press("was stopped\r", lambda shown: all(text in shown for text in last_page))
        assert f"page {pages - 1} of {pages}" in tool.press("p", f"page {pages - 1} of")
        tool.press("b", QUESTION)
        shown = tool.press("n", "pages are unread; nothing is saved")
        assert "Summary 1 of 2" in shown
        assert ratings_of(csv)["e0"]["verdict"] is None
        tool.process.setwinsize(size[1] - 4, size[0])
        tool.screen = Screen(size[0], size[1] - 4)
        tool.process.kill(signal.SIGWINCH)
        tool.wait("q: quit")
        tool.press("q", lambda shown: "Saved." in tool.output)
        assert tool.end() == 0


def test_killed_after_any_key_it_loses_at_most_the_answer_being_typed(csv: Path) -> None:
    steps = [
        ("y", PHRASE, lambda row: row["draft"]["error"]["text"] == ""),
        ("2", KIND, lambda row: row["draft"]["error"]["text"] == "and warfarin."),
        ("3", QUESTION, lambda row: row["errors"][0]["kind"] == "contradiction"),
    ]
    asked = QUESTION
    for key, then, is_stored in steps:
        with terminal(csv, "--show_verdicts") as tool:
            shown = tool.wait(asked)
            assert "Summary 1 of 4" in shown
            tool.press(key, then)
            tool.process.kill(signal.SIGKILL)
            assert tool.end() == -signal.SIGKILL
        row = ratings_of(csv)["e0"]
        assert is_stored(row)
        asked = then
    with terminal(csv, "--show_verdicts") as tool:
        assert "Summary 2 of 4" in tool.wait(QUESTION)
        tool.press("o", "that is missing")
        tool.press("takes aspirin\r", "Another important fact")
        tool.press("half an ans", "half an ans")
        tool.process.kill(signal.SIGKILL)
        tool.end()
    assert ratings_of(csv)["e1"]["omissions"] == ["takes aspirin"]


@pytest.mark.parametrize(
    ("leave", "code"),
    [("\x03", 130), ("\x04", 0), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_however_it_ends_the_terminal_is_restored_and_the_report_written(
    csv: Path, leave: str | signal.Signals, code: int
) -> None:
    with terminal(csv) as tool:
        tool.wait(QUESTION)
        tool.press("n", "Saved: not hallucinated.")
        if isinstance(leave, str):
            tool.process.send(leave)
        else:
            tool.process.kill(leave)
        assert tool.end() == code
    assert "\x1b[?1049l" in tool.output  # leaves the full screen
    assert "\x1b[?2004l" in tool.output  # and the mode of pastes
    assert "Traceback" not in tool.output
    assert "Decision:" in tool.output.split("\x1b[?1049l")[1]
    assert "Summaries rated:        1 of 4" in (csv.parent / "assessment_report.txt").read_text()


def test_a_paste_answers_no_question_and_is_one_text_where_text_is_asked(csv: Path) -> None:
    with terminal(csv, "--show_verdicts") as tool:
        tool.wait(QUESTION)
        tool.press("\x1b[200~nnn\nyes\x1b[201~", "A pasted text answers no question here.")
        assert ratings_of(csv) == {}
        tool.press("y", PHRASE)
        tool.press("t", "Type or paste the words")
        tool.press("\x1b[200~takes\n  aspirin\x1b[201~\r", KIND)
        tool.press("6", "Saved: incorrect inference, minor.")
        tool.press("c", "Comment")
        tool.press("first\x1b", QUESTION)  # Esc stores nothing
        tool.press("q", lambda shown: "Saved." in tool.output)
        assert tool.end() == 0
    assert ratings_of(csv)["e0"]["errors"][0]["text"] == "takes aspirin"
    assert list(ratings_of(csv)) == ["e0"]


def test_the_time_left_is_shown_after_three_ratings(csv: Path) -> None:
    with terminal(csv) as tool:
        tool.wait(QUESTION)
        for number in (2, 3):
            time.sleep(0.1)  # a rating has at least a tenth of a second
            assert "left" not in tool.press("n", f"Summary {number} of 4").splitlines()[0]
        time.sleep(0.1)
        tool.press("n", "Summary 4 of 4, less than a minute left")
