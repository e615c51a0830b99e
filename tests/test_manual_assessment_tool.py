"""The rating tool, driven through a real pseudo-terminal, and its three decisions."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assessment_report import Rating, decision, further_ratings, report, tally
from evaluation.stats import wilson_interval
from manual_assessment_tool import PROMPT, Example, RatingBook, load_examples, select_examples
from script_io import InputError, write_csv

TOOL = Path(__file__).parents[1] / "manual_assessment_tool.py"
COLUMNS = ("example_id", "clinical_note", "reference_summary", "generated_summary", "has_hallucination", "model")
needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


@pytest.fixture
def results_csv(tmp_path: Path) -> Path:
    rows = [
        {
            "example_id": f"case-{letter}",
            "clinical_note": f"Patient {letter} takes metformin 500 mg twice daily.\nDenies chest pain.",
            "reference_summary": "",
            "generated_summary": f"Summary {letter}: takes metformin 850 mg.",
            "has_hallucination": "1",
            "model": "secret-model",
        }
        for letter in "ABCD"
    ]
    write_csv(tmp_path / "evaluation_results.csv", COLUMNS, rows)
    return tmp_path / "evaluation_results.csv"


class Terminal:
    """The tool in a pseudo-terminal: `answer` waits for a question and types a line."""

    def __init__(self, process: Any) -> None:
        self.process = process

    def answer(self, question: str, line: str) -> str:
        """Types `line` at `question`; returns what was printed before the question."""
        self.process.expect_exact(question)
        before: str = self.process.before
        self.process.sendline(line)
        return before

    def end(self) -> tuple[str, int]:
        """What is printed to the end, and the exit code."""
        import pexpect

        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.before, self.process.exitstatus


@contextmanager
def terminal(csv: Path, *flags: str, columns: int = 200) -> Iterator[Terminal]:
    import pexpect

    command = [str(TOOL), "--results_csv", str(csv), *flags]
    # readline, which pytest loads, puts COLUMNS into the C environment behind Python's back: hand over our own.
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = pexpect.spawn(sys.executable, command, env=env, encoding="utf-8", timeout=30, dimensions=(50, columns))
    try:
        yield Terminal(process)
    finally:
        process.close(force=True)


def ratings_of(csv: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads((csv.parent / "manual_assessment.json").read_text())["ratings"]
    return {(row["assessor"], row["example_id"]): row for row in rows}


@needs_terminal
def test_rate_skip_back_quit_and_resume(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        shown = tool.answer(PROMPT, "f")
        assert "case-A" in shown
        assert "Summary A: takes metformin 850 mg." in shown
        assert "model secret-model; has_hallucination 1" in shown
        assert "case-B" in tool.answer(PROMPT, "s")
        assert ratings_of(results_csv)["assessor", "case-A"]["verdict"] == "factual"  # saved before the end
        assert "case-C" in tool.answer(PROMPT, "h")
        tool.answer("c to cancel > ", "1 99")
        assert "Not in the list: 99" in tool.answer("c to cancel > ", "negation, 1")
        tool.answer("Comment", "850 mg is not in the note")
        assert "case-D" in tool.answer(PROMPT, "b")
        assert "hallucinated, dose, negation" in tool.answer(PROMPT, "f")  # C after all is factual
        assert "case-D" in tool.answer(PROMPT, "q")
        text, code = tool.end()
    assert code == 0
    assert "Summaries rated:        2" in text
    verdicts = {key[1]: (row["verdict"], row["error_types"]) for key, row in ratings_of(results_csv).items()}
    assert verdicts == {"case-A": ("factual", []), "case-B": ("skipped", []), "case-C": ("factual", [])}

    with terminal(results_csv) as tool:
        assert "case-D" in tool.answer(PROMPT, "h")
        tool.answer("c to cancel > ", "dose")
        tool.answer("Comment", "")
        assert "case-B" in tool.answer(PROMPT, "f")  # the skipped one comes last
        text, code = tool.end()
    assert code == 0
    assert "Hallucinated:           1" in text
    assert re.search(r"dose +1\b", text)
    assert (results_csv.parent / "assessment_report.txt").read_text() in text.replace("\r\n", "\n")


@needs_terminal
def test_stats_help_note_view_and_unknown_keys_stay_on_the_example(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "t")
        assert "undecided: nothing is rated yet" in tool.answer(PROMPT, "help")
        assert "to the summary before this one" in tool.answer(PROMPT, "b")
        assert "This is the first one." in tool.answer(PROMPT, "n")
        tool.answer("Comment", "look again")
        tool.answer(PROMPT, "x")
        assert "? explains them" in tool.answer(PROMPT, "v")
        assert "look again" in tool.answer(PROMPT, "q")
        tool.end()
    row = ratings_of(results_csv)["assessor", "case-A"]
    assert (row["verdict"], row["comment"]) == (None, "look again")


@needs_terminal
def test_end_of_input_leaves_with_0_and_ctrl_c_with_130_and_both_save(results_csv: Path) -> None:
    with terminal(results_csv) as tool:
        tool.answer(PROMPT, "f")
        tool.process.expect_exact(PROMPT)
        tool.process.sendeof()
        text, code = tool.end()
        assert code == 0
        assert "Saved." in text
    with terminal(results_csv) as tool:
        assert "case-B" in tool.answer(PROMPT, "h")
        tool.answer("c to cancel > ", "dose")
        tool.process.expect_exact("Comment")
        tool.process.sendintr()
        text, code = tool.end()
    assert code == 130
    assert "Traceback" not in text
    assert ratings_of(results_csv)["assessor", "case-B"]["error_types"] == ["dose"]  # kept without its comment
    assert "Summaries rated:        2" in (results_csv.parent / "assessment_report.txt").read_text()


@needs_terminal
def test_two_assessors_are_kept_apart_in_one_file(results_csv: Path) -> None:
    for name, key in (("KM", "f"), ("JS", "s")):
        with terminal(results_csv, "--assessor", name, "--max_examples", "1") as tool:
            assert "case-A" in tool.answer(PROMPT, key)
            tool.end()
    found = {key: row["verdict"] for key, row in ratings_of(results_csv).items()}
    assert found == {("KM", "case-A"): "factual", ("JS", "case-A"): "skipped"}


@needs_terminal
def test_blind_hides_model_verdict_and_id(results_csv: Path) -> None:
    with terminal(results_csv, "--blind") as tool:
        shown = tool.answer(PROMPT, "q")
        rest, _ = tool.end()
    assert "takes metformin 850 mg" in shown
    for hidden in ("secret-model", "has_hallucination", "case-", str(results_csv.parent)):
        assert hidden not in shown + rest


@needs_terminal
def test_text_is_wrapped_to_the_terminal(results_csv: Path) -> None:
    with terminal(results_csv, columns=40) as tool:
        shown = tool.answer("Generated Summary:", "q")
    note = shown[shown.index("Clinical Note:") :]
    assert max(len(line) for line in note.splitlines()) <= 40
    assert "Denies chest pain." in note


def test_blind_order_is_the_same_every_time_and_not_the_file_s() -> None:
    examples = [Example(f"e{number}", "note", "summary") for number in range(20)]
    first = select_examples(examples, blind=True, start=0, count=None)
    assert first == select_examples(list(reversed(examples))[::-1], blind=True, start=0, count=None)
    assert first != examples
    assert sorted(e.example_id for e in first) == sorted(e.example_id for e in examples)
    assert select_examples(examples, blind=False, start=3, count=2) == examples[3:5]


@pytest.mark.parametrize(
    ("start", "count", "words"), [(20, None, "0 to 19"), (-1, None, "0 to 19"), (0, 0, "1 or more")]
)
def test_a_window_outside_the_file_is_refused(start: int, count: int | None, words: str) -> None:
    examples = [Example(f"e{number}", "note", "summary") for number in range(20)]
    with pytest.raises(InputError, match=words):
        select_examples(examples, blind=False, start=start, count=count)


def test_ratings_of_other_texts_are_refused(results_csv: Path) -> None:
    examples = load_examples(results_csv)
    path = results_csv.parent / "manual_assessment.json"
    RatingBook(path, examples).save(Rating("KM", "case-B", examples[1].text_sha256, "factual"))
    changed = [Example(e.example_id, e.clinical_note, e.generated_summary + " More.") for e in examples]
    with pytest.raises(InputError, match="case-B was given to another text"):
        RatingBook(path, changed)


def test_saving_keeps_what_another_sitting_added_meanwhile(results_csv: Path) -> None:
    examples = load_examples(results_csv)
    path = results_csv.parent / "manual_assessment.json"
    mine, yours = RatingBook(path, examples), RatingBook(path, examples)
    yours.save(Rating("JS", "case-A", examples[0].text_sha256, "hallucinated", ["dose"]))
    mine.save(Rating("KM", "case-A", examples[0].text_sha256, "factual"))
    assert set(ratings_of(results_csv)) == {("JS", "case-A"), ("KM", "case-A")}


def test_a_repeated_id_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("example_id,clinical_note,generated_summary\r\na,n,s\r\na,n,s\r\n")
    with pytest.raises(InputError, match=r"line 3: example_id a stands on line 2"):
        load_examples(path)


def test_decisions() -> None:
    # Wilson intervals by hand: 10/30 is 19.2% to 51.2%; 0/30 is 0% to 11.4%; 4/30 is 5.3% to 29.7%.
    assert decision(10, 30) == "over 15%: go on to Stage B"
    assert decision(0, 30) == "under 15%: ready"
    assert decision(4, 30).startswith("undecided: the interval holds 15%; about ")
    assert decision(0, 0) == "undecided: nothing is rated yet"


def test_further_ratings() -> None:
    # With none hallucinated the upper bound is z^2/(n+z^2): 3.8415/(21+3.8415) = 15.5%, 3.8415/(22+3.8415) = 14.9%.
    assert further_ratings(0, 5) == 17
    # At a rate of exactly 15% no number decides.
    assert further_ratings(15, 100) is None
    assert "more than 10,000" in decision(15, 100)
    # 30% of 20: one rating fewer leaves 15% inside the interval, at the unfavourable end of their spread.
    more = further_ratings(6, 20)
    assert more is not None
    spread = 0.8416 * (more * 0.3 * 0.7) ** 0.5
    assert wilson_interval(6 + int(more * 0.3 - spread), 20 + more)[0] > 0.15
    spread = 0.8416 * ((more - 1) * 0.3 * 0.7) ** 0.5
    assert wilson_interval(6 + int((more - 1) * 0.3 - spread), 20 + more - 1)[0] <= 0.15


def test_a_summary_counts_once_and_the_majority_decides() -> None:
    def rated(assessor: str, example: str, verdict: str | None, *types: str) -> Rating:
        return Rating(assessor, example, "", verdict, list(types))

    ratings = [
        rated("KM", "a", "hallucinated", "dose"),
        rated("JS", "a", "factual"),  # a draw: hallucinated
        rated("KM", "b", "hallucinated", "negation"),
        rated("JS", "b", "factual"),
        rated("AB", "b", "factual"),  # two against one: factual, and its types do not count
        rated("KM", "c", "hallucinated", "dose", "laterality"),
        rated("JS", "c", "skipped"),
        rated("JS", "d", None),
    ]
    total = tally(ratings)
    assert (total.rated, total.hallucinated, total.disputed) == (3, 2, 2)
    assert total.by_type == {"dose": 2, "laterality": 1}
    lines = report(ratings).splitlines()
    assert "  KM: 3 rated, 3 hallucinated (100.0%), 0 skipped" in lines
    assert "  JS: 2 rated, 0 hallucinated (0.0%), 1 skipped" in lines
    assert "95% Wilson interval:    20.8% to 93.9%" in lines
