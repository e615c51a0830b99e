"""The rating tool as a person uses it: driven through a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assessment.desk import Desk
from assessment.examples import load_source
from assessment.ratings import Rating, RatingBook
from assessment.screen import cells
from assessment.session import PROMPT
from script_io.csv_files import write_csv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")

TOOL = Path(__file__).parents[1] / "manual_assessment_tool.py"
COLUMNS = ("example_id", "clinical_note", "reference_summary", "generated_summary", "has_hallucination", "model")
KIND, SEVERITY, WORDS, ANOTHER = "1 to 4, or b(ack) > ", "1 to 2, or b(ack) > ", "b: back)\r\n> ", "Enter: no > "
COMPLETENESS = "0 to 3, or b(ack) > "
PLACE = "or b(ack) > "
OMISSION, COMMENT = "remove all)\r\n> ", "remove it)\r\n> "


def write_results(path: Path, letters: str = "ABCD", dose: str = "850", **cells_of_all: str) -> Path:
    """One example for each letter; its summary gives metformin in another dose than its note."""
    rows = [
        {
            "example_id": f"case-{letter}",
            "clinical_note": f"Patient {letter} takes metformin 500 mg twice daily.\nDenies chest pain.",
            "reference_summary": "",
            "generated_summary": f"Summary {letter}: takes Metformin {dose} mg.",
            "has_hallucination": "1",
            "model": "secret-model",
            **cells_of_all,
        }
        for letter in letters
    ]
    write_csv(path, COLUMNS, rows)
    return path


@pytest.fixture
def results_csv(tmp_path: Path) -> Path:
    return write_results(tmp_path / "evaluation_results.csv")


class Terminal:
    """The tool in a pseudo-terminal: `answer` waits for a question and types a line."""

    def __init__(self, process: Any) -> None:
        self.process = process

    def answer(self, question: str, *lines: str) -> str:
        """Types the lines at `question`; returns what was printed before the question."""
        self.process.expect_exact(question)
        before: str = self.process.before
        self.process.send("".join(line + "\n" for line in lines))
        return before

    def end(self) -> tuple[str, int]:
        """What is printed to the end, and the exit code."""
        import pexpect

        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.before, self.process.exitstatus


@contextmanager
def terminal(
    *csvs: Path,
    flags: tuple[str, ...] = ("--show_verdicts",),
    columns: int = 200,
    rows: int = 50,
    sigint: signal.Handlers = signal.SIG_DFL,
) -> Iterator[Terminal]:
    """Start the tool in a pseudo-terminal, with the given disposition of SIGINT whatever this process has."""
    import pexpect

    command = [str(TOOL), "--results_csv", *map(str, csvs), *flags]
    # readline, which pytest loads, puts COLUMNS into the C environment behind Python's back: hand over our own.
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    env["TERM"] = "dumb"  # no escape sequences around what is typed
    process = pexpect.spawn(
        sys.executable,
        command,
        env=env,
        encoding="utf-8",
        timeout=30,
        dimensions=(rows, columns),
        preexec_fn=lambda: signal.signal(signal.SIGINT, sigint),
    )
    process.delaybeforesend = None
    try:
        yield Terminal(process)
    finally:
        process.close(force=True)


def ratings_of(csv: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The stored answers; a summary whose verdict was shown has a row without one."""
    rows = json.loads((csv.parent / "manual_assessment.json").read_text())["ratings"]
    answers = ("verdict", "omissions", "comment", "draft")
    return {(row["assessor"], row["example_id"]): row for row in rows if any(row[name] for name in answers)}


def test_rate_skip_back_quit_and_resume(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        shown = tool.answer(PROMPT, "n")
        assert "case-A" in shown
        assert "Does the summary contain a hallucination" in shown
        assert "y = yes, hallucinated" in shown
        assert "model secret-model; has_hallucination 1" in shown
        assert "case-B" in tool.answer(PROMPT, "s")
        assert ratings_of(results_csv)["assessor", "case-A"]["verdict"] == "not hallucinated"  # saved before the end
        assert "case-C" in tool.answer(PROMPT, "yes")
        tool.answer(KIND, "7")
        assert "Type one of 1, 2, 3, 4, b, or q to leave." in tool.answer(KIND, "contradiction")
        tool.answer(SEVERITY, "1")
        assert "Summary C: takes Metformin 850 mg." in tool.answer(WORDS, "500 mg")
        assert "These words are not in the summary" in tool.answer(WORDS, "metformin  850 MG")
        tool.answer(ANOTHER, "y")
        tool.answer(KIND, "4")
        tool.answer(SEVERITY, "minor")
        tool.answer(WORDS, "")
        tool.answer(ANOTHER, "")
        assert "case-D" in tool.answer(PROMPT, "b")
        back = tool.answer(PROMPT, "")  # keeps it
        assert "case-C" in back
        assert '- contradiction, major: "Metformin 850 mg"' in back
        assert "case-D" in tool.answer(PROMPT, "q")
        text, code = tool.end()
    assert code == 0
    assert "Summaries rated:        2 of 4" in text
    ratings = ratings_of(results_csv)
    assert {key[1]: row["verdict"] for key, row in ratings.items()} == {
        **{"case-A": "not hallucinated", "case-B": "skipped", "case-C": "hallucinated"}
    }
    assert ratings["assessor", "case-C"]["errors"] == [
        {"kind": "contradiction", "severity": "major", "start": 17, "end": 33, "text": "Metformin 850 mg"},
        {"kind": "unsupported detail", "severity": "minor", "start": None, "end": None, "text": ""},
    ]

    with terminal(results_csv) as tool:
        assert "case-D" in tool.answer(PROMPT, "n")
        assert "case-B" in tool.answer(PROMPT, "n")  # the skipped one comes last
        text, code = tool.end()
    assert code == 0
    assert "That was the last summary." in text
    assert "Hallucinated:           1" in text
    assert re.search(r"contradiction +1\b", text)
    assert "With a major error:     1 of 4" in text
    assert "of the hallucinated, flagged (sensitivity): 1 of 1" in text
    assert (results_csv.parent / "assessment_report.txt").read_text() in text.replace("\r\n", "\n")


def test_mistakes_are_taken_back(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "y")
        tool.answer(KIND, "1")
        tool.answer(SEVERITY, "b")
        tool.answer(KIND, "b")  # it was no hallucination after all
        assert "Your yes was taken back." in tool.answer(PROMPT, "y")
        tool.answer(KIND, "1")
        tool.answer(SEVERITY, "1")
        tool.answer(WORDS, "b")
        tool.answer(SEVERITY, "2")
        tool.answer(WORDS, "takes", "  metformin")  # a paste of two lines is one answer
        tool.answer(ANOTHER, "y")
        tool.answer(KIND, "2")
        tool.answer(SEVERITY, "b")
        tool.answer(KIND, "b")  # there was no second one
        tool.answer(ANOTHER, "n")
        assert "case-B" in tool.answer(PROMPT, "b")
        assert '- fabricated, minor: "takes Metformin"' in tool.answer(PROMPT, "y")
        tool.answer(KIND, "b")  # the earlier rating stands
        assert "Your yes was taken back." in tool.answer(PROMPT, "s")
        assert "Your rating stays as it is." in tool.answer(PROMPT, "b")
        tool.answer(PROMPT, "n")
        tool.answer(PROMPT, "q")
        text, _ = tool.end()
    assert len(ratings_of(results_csv)) == 1
    row = ratings_of(results_csv)["assessor", "case-A"]
    assert (row["verdict"], row["errors"]) == ("not hallucinated", [])
    assert "Summaries rated:        1 of 4" in text


def test_stats_help_omissions_comment_and_unknown_keys_stay_on_the_example(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "stats")
        shown = tool.answer(PROMPT, "help")
        assert "assessor: 0 of 4 rated, 0 skipped" in shown
        assert "undecided: nothing is rated yet; rate at least 10" in shown
        assert "or to the previous summary" in tool.answer(PROMPT, "b")
        assert "This is the first summary." in tool.answer(PROMPT, "o")
        tool.answer(OMISSION, "denies chest pain")
        tool.answer(OMISSION, "-")
        tool.answer(OMISSION, "twice daily")
        assert "Noted: twice daily." in tool.answer(OMISSION, "")
        tool.answer(PROMPT, "c")
        tool.answer(COMMENT, "look again")
        tool.answer(PROMPT, "x")
        assert "'x' is not a key." in tool.answer(PROMPT, "v")
        shown = tool.answer(PROMPT, "")
        assert "- left out: twice daily" in shown
        assert "- comment: look again" in shown
        assert "Type y or n" in tool.answer(PROMPT, "q")
        text, _ = tool.end()
    row = ratings_of(results_csv)["assessor", "case-A"]
    assert (row["verdict"], row["omissions"], row["comment"]) == (None, ["twice daily"], "look again")
    assert "Summaries rated:        0 of 4" in text


def test_keys_are_never_stored_as_words_omissions_or_comments(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "o")
        tool.answer(OMISSION, "n")
        assert "n is a key of this tool, so it was not stored" in tool.answer(OMISSION, "b")
        tool.answer(PROMPT, "c")
        tool.answer(COMMENT, "Back")  # in any case, by its word
        tool.answer(PROMPT, "c")
        tool.answer(COMMENT, '"q"')  # in quotes it is a text
        tool.answer(PROMPT, "y")
        tool.answer(KIND, "1")
        tool.answer(SEVERITY, "1")
        tool.answer(WORDS, "s")
        assert "s is a key of this tool" in tool.answer(WORDS, "q")
        text, code = tool.end()
    assert code == 0
    assert "Saved." in text
    row = ratings_of(results_csv)["assessor", "case-A"]
    assert (row["omissions"], row["comment"]) == ([], "q")
    assert [error["text"] for error in row["errors"]] == [""]


@pytest.mark.parametrize("question", [KIND, SEVERITY, ANOTHER, COMPLETENESS, OMISSION, COMMENT])
def test_q_leaves_at_every_question(results_csv: Path, question: str) -> None:
    answers = {
        KIND: (("y", PROMPT),),
        SEVERITY: (("y", PROMPT), ("1", KIND)),
        ANOTHER: (("y 1", PROMPT), ("1", KIND), ("1", SEVERITY)),
        COMPLETENESS: (("n", PROMPT),),
        OMISSION: (("o", PROMPT),),
        COMMENT: (("c", PROMPT),),
    }
    with terminal(results_csv, flags=("--rate_completeness",)) as tool:
        for answer, asked in answers[question]:
            tool.answer(asked, answer)
        tool.answer(question, "q")
        text, code = tool.end()
    assert code == 0
    assert "Saved. Start the same command again" in text


def test_the_place_of_words_that_occur_twice_is_asked(tmp_path: Path) -> None:
    summary = "Takes metformin 500 mg and aspirin 500 mg daily. No history of pain in his 500 mg days."
    csv = write_results(tmp_path / "r.csv", "A", generated_summary=summary)
    with terminal(csv) as tool:
        tool.answer(PROMPT, "y")
        tool.answer(KIND, "3")
        tool.answer(SEVERITY, "1")
        tool.answer(WORDS, "500 MG")
        asked = tool.answer(PLACE, "b")
        assert "These words occur 3 times" in asked
        assert " and aspirin [500 mg] daily." in asked
        tool.answer(WORDS, "500 mg")
        assert "Type one of 1, 2, 3, b" not in tool.answer(PLACE, "2")
        assert 'Words: "500 mg"' in tool.answer(ANOTHER, "y")
        tool.answer(KIND, "1")
        tool.answer(SEVERITY, "1")
        tool.answer(WORDS, "his")  # not the beginning of "history"
        tool.answer(ANOTHER, "b")  # back to the words
        tool.answer(WORDS, "2-3")
        tool.answer(ANOTHER, "")
        tool.end()
    errors = ratings_of(csv)["assessor", "case-A"]["errors"]
    second = summary.index("500 mg daily")
    assert [(error["start"], error["end"]) for error in errors] == [(second, second + 6), (23, len(summary))]


def test_a_no_on_an_unread_note_has_to_be_said_twice(tmp_path: Path) -> None:
    csv = write_results(tmp_path / "r.csv", "ABC", clinical_note="Patient denies pain.\n" * 60 + "Takes insulin.")
    with terminal(csv, rows=24, columns=80) as tool:
        tool.answer(PROMPT, "n")
        assert "You have not seen 7 of 8 pages of the note. Nothing is saved." in tool.answer(PROMPT, "/INSULIN")
        assert ratings_of(csv) == {}
        found = tool.answer(PROMPT, "p")
        assert "Takes insulin." in found
        assert "This is page 7 of 8" in found  # the automatic verdict comes after it
        assert "This is page 6 of 8" in tool.answer(PROMPT, "n")
        assert "case-B" in tool.answer(PROMPT, "")
        for key in ("", "", "", "", "", "", "n"):
            shown = tool.answer(PROMPT, key)
        assert "This is page 8 of 8" in shown
        shown = tool.answer(PROMPT, "/aspirin")  # every page was read, so the no counted at once
        assert "case-C" in shown
        assert "'aspirin' is not in the note." in tool.answer(PROMPT, "y")
        assert "Note: 7 of 8 pages of the note are unread." in tool.answer(KIND, "q")
        tool.end()
    verdicts = [row["verdict"] for row in ratings_of(csv).values()]
    assert verdicts == ["not hallucinated", "not hallucinated", None]


def test_names_that_differ_in_case_are_one_assessor(results_csv: Path) -> None:
    with terminal(results_csv, flags=("--assessor", "JS")) as tool:
        tool.answer(PROMPT, "n")
        tool.answer(PROMPT, "q")
        tool.end()
    with terminal(results_csv, flags=("--assessor", " js ")) as tool:
        shown = tool.answer(PROMPT, "n")
        assert "Your ratings are stored under JS, as before: js and JS are one assessor." in shown
        assert "1 of them rated already" in shown
        tool.answer(PROMPT, "q")
        tool.end()
    assert {name for name, _ in ratings_of(results_csv)} == {"JS"}
    assert len(ratings_of(results_csv)) == 2


def test_a_draw_is_settled_by_a_third_person_who_sees_both_ratings(results_csv: Path) -> None:
    for name, keys in (("KM", ("y 1", "1", "1", "")), ("JS", ("n",))):
        with terminal(results_csv, flags=("--assessor", name, "--max_examples", "1")) as tool:
            for question, key in zip((PROMPT, KIND, SEVERITY, ANOTHER), keys, strict=False):
                tool.answer(question, key)
            tool.end()
    report = results_csv.parent / "assessment_report.txt"
    assert "Draws:                  1" in report.read_text()
    with terminal(results_csv, flags=("--adjudicate", "--assessor", "km")) as tool:
        text, code = tool.end()
    assert code == 2
    assert "KM has rated 1 of the 1 drawn summaries" in text
    with terminal(results_csv, flags=("--adjudicate", "--assessor", "AB")) as tool:
        shown = tool.answer(PROMPT, "n")
        assert "1 summaries, 0 of them rated already" in shown
        assert "Assessor 1: hallucinated" in shown
        assert "Assessor 2: not hallucinated" in shown
        assert not {"KM", "JS"} & set(shown.split())
        tool.end()
    assert "Settled draws:          1" in report.read_text()
    with terminal(results_csv, flags=("--adjudicate", "--assessor", "CD")) as tool:
        text, code = tool.end()
    assert code == 2
    assert "no draw is left to settle" in text


def test_rating_is_blind_unless_the_verdicts_are_asked_for(results_csv: Path) -> None:
    with terminal(results_csv, flags=()) as tool:
        shown = tool.answer(PROMPT, "q")
        rest, _ = tool.end()
    for hidden in ("case-", "has_hallucination", "secret-model", "sensitivity"):
        assert hidden not in shown + rest
    assert "Decision:               undecided" in rest  # the session ends with the decision


def test_what_was_answered_survives_a_kill_ctrl_c_and_the_end_of_input(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "n")
        tool.answer(PROMPT, "y")
        tool.answer(KIND, "3")
        tool.process.expect_exact(SEVERITY)
        tool.process.kill(9)
    row = ratings_of(results_csv)["assessor", "case-B"]
    assert (row["verdict"], row["errors"][0]["kind"]) == ("hallucinated", "contradiction")

    with terminal(results_csv) as tool:
        assert "- contradiction, severity not given yet" in tool.answer(PROMPT, "n")  # B comes again, to be finished
        assert "case-C" in tool.answer(PROMPT, "y")
        tool.process.expect_exact(KIND)
        tool.process.sendintr()
        text, code = tool.end()
    assert code == 130
    assert "Traceback" not in text
    row = ratings_of(results_csv)["assessor", "case-C"]
    assert (row["verdict"], row["draft"]["error"]["kind"]) == (None, "")  # a yes without its kind is kept, not counted
    assert "Summaries rated:        2 of 4" in (results_csv.parent / "assessment_report.txt").read_text()

    with terminal(results_csv) as tool:
        shown = tool.answer(PROMPT, "n")
        assert "case-C" in shown
        assert "begun: yes; its kind is not given yet, so it does not count" in shown
        tool.process.expect_exact(PROMPT)
        tool.process.sendeof()
        text, code = tool.end()
    assert code == 0
    assert "Saved." in text
    assert [row["verdict"] for row in ratings_of(results_csv).values()] == ["not hallucinated"] * 3


def test_ctrl_c_ends_a_tool_that_was_started_with_sigint_ignored(results_csv: Path) -> None:
    # a non-interactive shell starts its background jobs so, and some CI systems all their jobs
    with terminal(results_csv, sigint=signal.SIG_IGN) as tool:
        tool.answer(PROMPT, "n")
        tool.process.expect_exact(PROMPT)
        tool.process.sendintr()
        text, code = tool.end()
    assert code == 130
    assert "interrupted" in text
    assert ratings_of(results_csv)["assessor", "case-A"]["verdict"] == "not hallucinated"


@pytest.mark.parametrize("leave", ["sendintr", "sendeof"])
def test_a_yes_without_its_kind_leaves_the_rating_there_was(results_csv: Path, leave: str) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "n")
        tool.process.expect_exact(PROMPT)
        before = ratings_of(results_csv)
        tool.process.sendline("b")
        assert "case-A" in tool.answer(PROMPT, "y")
        tool.process.expect_exact(KIND)
        getattr(tool.process, leave)()
        text, _ = tool.end()
    assert before["assessor", "case-A"]["verdict"] == "not hallucinated"
    after = ratings_of(results_csv)["assessor", "case-A"]
    assert after.pop("draft") == {
        "error": dict.fromkeys(("start", "end")) | dict.fromkeys(("kind", "severity", "text"), ""),
        "adds": False,
    }
    assert after == {name: cell for name, cell in before["assessor", "case-A"].items() if name != "draft"}
    assert "Summaries rated:        1 of 4" in text


def test_what_is_rated_at_another_terminal_is_not_asked_again(results_csv: Path) -> None:
    examples = load_source(results_csv).examples
    here, there = (RatingBook(results_csv.parent / "manual_assessment.json") for _ in range(2))
    desk = Desk(examples, here, "KM", blind=False)
    assert desk.next_open(0) == 0
    there.save(Rating("JS", examples[0].text_sha256, "case-A", "not hallucinated"))
    assert desk.next_open(0) == 0  # by another person
    there.save(Rating("KM", examples[0].text_sha256, "case-A", "not hallucinated"))
    assert desk.next_open(0) == 1


def test_assessors_are_kept_apart_and_compared(results_csv: Path) -> None:
    orders = {}
    for name, keys in (("KM", "nnnn"), ("JS", "nnns")):
        with terminal(results_csv, flags=("--show_verdicts", "--assessor", name)) as tool:
            orders[name] = [re.findall("case-(.)", tool.answer(PROMPT, key))[-1] for key in keys]
            text, _ = tool.end()
    assert sorted(orders["KM"]) == sorted(orders["JS"]) == list("ABCD")
    assert orders["KM"] != orders["JS"]
    assert len(ratings_of(results_csv)) == 8
    assert "JS and KM agree on 3 of 3" in text
    assert "Cohen's kappa: undefined" in text


def test_two_models_are_mixed_and_told_apart_in_the_report_only(tmp_path: Path) -> None:
    first = write_results(tmp_path / "sft" / "results.csv", "ABC", "850", model="secret", reference_summary="secret")
    second = write_results(tmp_path / "dpo" / "results.csv", "ABCD", "500", model="secret", reference_summary="secret")
    shown, doses = "", []
    with terminal(first, second, flags=("--blind", "--assessor", "KM")) as tool:
        for _ in range(6):
            tool.process.expect_exact(PROMPT)
            seen = tool.process.before
            doses.append("850" if "850 mg" in seen else "500")
            tool.process.sendline("y" if doses[-1] == "850" else "n")
            if doses[-1] == "850":
                seen += tool.answer(KIND, "1") + tool.answer(SEVERITY, "1") + tool.answer(WORDS, "850 mg")
                tool.answer(ANOTHER, "")
            shown += seen
        rest, _ = tool.end()
    assert sorted(doses) == ["500"] * 3 + ["850"] * 3
    assert "KM: 6 of 6 rated" in rest
    for hidden in ("secret", "sft", "dpo", "case-", "has_hallucination", "checker", "allucination rate", "McNemar"):
        assert hidden not in shown + rest, hidden
    report = (tmp_path / "sft" / "assessment_report.txt").read_text()
    assert f"{first}\nSummaries rated:        3 of 3\nHallucinated:           3\n" in report
    assert f"{second}\nSummaries rated:        3 of 3\nHallucinated:           0\n" in report
    assert f"hallucinated in both 0, only {first} 3, only {second} 0, in neither 0" in report
    assert "McNemar's exact test: p = 0.2500" in report  # 2 / 2^3
    assert "flagged (sensitivity): 3 of 3" in report


def test_completeness_is_asked_after_each_verdict_and_later_for_ratings_without_it(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "n")
        tool.answer(PROMPT, "s")
        tool.answer(PROMPT, "q")
        tool.end()
    flags = ("--show_verdicts", "--rate_completeness")
    with terminal(results_csv, flags=flags) as tool:
        shown = tool.answer(PROMPT, "")  # A again: its verdict stays, its completeness is missing
        assert "0 of them rated already" in shown
        assert "case-A" in shown
        assert "Enter: keep your rating and say how complete the summary is." in shown
        asked = tool.answer(COMPLETENESS, "4")
        for words in ("0  states none of the important facts", "1  states a few", "2  states most", "3  states all"):
            assert words in asked
        assert "Type one of 0, 1, 2, 3, b, or q to leave." in tool.answer(COMPLETENESS, "b")
        assert "case-A" not in tool.answer(PROMPT, "")  # still on the same summary
        tool.answer(COMPLETENESS, "3")
        assert "case-C" in tool.answer(PROMPT, "y")
        tool.answer(KIND, "1")
        tool.answer(SEVERITY, "1")
        tool.answer(WORDS, "")
        tool.answer(ANOTHER, "")
        tool.process.expect_exact(COMPLETENESS)
        tool.process.kill(9)
    saved = ratings_of(results_csv)
    assert saved["assessor", "case-A"]["completeness"] == 3
    assert (saved["assessor", "case-C"]["verdict"], saved["assessor", "case-C"]["completeness"]) == (
        "hallucinated",
        None,
    )
    with terminal(results_csv, flags=flags) as tool:
        assert "case-C" in tool.answer(PROMPT, "s")  # its verdict stays; not asked again in this session
        assert "case-D" in tool.answer(PROMPT, "n")
        tool.answer(COMPLETENESS, "0")
        assert "case-B" in tool.answer(PROMPT, "n")
        tool.answer(COMPLETENESS, "1")
        text, code = tool.end()
    assert code == 0
    assert "You skipped 1: start again to rate them." in text
    saved = ratings_of(results_csv)
    assert {name: row["completeness"] for (_, name), row in saved.items()} == {
        **{"case-A": 3, "case-B": 1, "case-C": None, "case-D": 0}
    }
    assert saved["assessor", "case-C"]["errors"][0]["severity"] == "major"
    assert "Completeness, 0 to 3:   1.33 over 3 summaries" in text


def test_three_models_are_mixed_without_names_and_compared_in_the_report(tmp_path: Path) -> None:
    doses = {"sft": "850", "control": "850", "dpo": "500"}
    paths = [write_results(tmp_path / name / "results.csv", "AB", dose) for name, dose in doses.items()]
    shown = ""
    with terminal(*paths, flags=("--blind", "--assessor", "KM", "--rate_completeness")) as tool:
        for _ in range(4):  # sft and control wrote the same
            tool.process.expect_exact(PROMPT)
            seen = tool.process.before
            wrong = "850 mg" in seen
            tool.process.sendline("y" if wrong else "n")
            if wrong:
                seen += tool.answer(KIND, "1") + tool.answer(SEVERITY, "1") + tool.answer(WORDS, "")
                seen += tool.answer(ANOTHER, "")
            shown += seen + tool.answer(COMPLETENESS, "1" if wrong else "2")
        rest, code = tool.end()
    assert code == 0
    assert "KM: 4 of 4 rated" in rest
    for hidden in ("sft", "dpo", "control", "case-", "has_hallucination", "McNemar", "Completeness, 0 to 3"):
        assert hidden not in shown + rest, hidden
    report = (tmp_path / "sft" / "assessment_report.txt").read_text()
    sft, control, dpo = paths
    assert f"only {sft} 0, only {control} 0, in neither 0" in report
    for other in (sft, control):
        assert f"  {dpo} minus {other}: -100.0 points" in report
        assert f"  completeness, {dpo} minus {other}: +1.00 of 3 over 2 notes (no interval" in report


def test_every_showing_fits_the_terminal_as_it_is_then(tmp_path: Path) -> None:
    note = "Der Patient 患者七十三岁 denies e\u0301tat fébrile and takes metformin 500 mg. " * 9 + "\x1b[31mEnd."
    csv = write_results(tmp_path / "r.csv", "A", clinical_note=note)
    with terminal(csv, rows=24) as tool:
        for columns in (60, 120, 200):
            tool.process.expect_exact(PROMPT)
            tool.process.setwinsize(24, columns)
            tool.process.sendline("v")
            tool.process.expect_exact("====")
            asked = "y = yes"  # not the prompt, which a change of size may make readline draw twice
            pages = [tool.answer(asked, "")]
            while "Enter: next page" in pages[-1]:
                pages.append(tool.answer(asked, ""))
            assert (len(pages) > 1) == (columns < 200)
            assert all("Summary A: takes Metformin 850 mg." in page for page in pages)
            lines = "".join(pages).splitlines()
            assert max(map(cells, lines)) <= columns
            beside = any("Clinical Note:" in line and "Generated Summary:" in line for line in lines)
            assert beside == (columns >= 100)
            assert not any("\x1b" in page for page in pages)
            assert "\ufffd[31mEnd." in pages[-1]
            tool.process.expect_exact(asked)
