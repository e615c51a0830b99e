"""What the page holds: escaped text, marked spans linked to the note, no network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evaluation.evaluate_model import main, parse_args
from evaluation.pages.category_chart import chart
from evaluation.pages.marked_text import (
    Flag,
    NotePiece,
    Segment,
    note_pieces,
    number_flags,
    parts_of,
    segments,
)
from evaluation.report import write_evaluation_report
from evaluation.result_files import SPAN_KEYS, SUMMARY_KEYS, listed, read_evaluation
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import write_json, write_jsonl

NOTE = "Takes metformin 500 mg daily. BP < 140 & stable."


def flag(start: int, end: int, number: int | None = None, sentence: int | None = None) -> Flag:
    return Flag({"start": start, "end": end}, "x7", number, sentence)


@pytest.fixture
def page(tmp_path: Path) -> str:
    rows = [
        {"id": "a", "clinical_note": NOTE, "generated_summary": "Metformin 850 mg. <script>alert(1)</script>"},
        {"id": "b", "clinical_note": NOTE, "generated_summary": "Metformin 500 mg."},
    ]
    write_jsonl(tmp_path / "p.jsonl", rows)
    main(parse_args(["--predictions", str(tmp_path / "p.jsonl"), "--output_dir", str(tmp_path)]))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_the_note_does_not_say_has_only_a_nearest_sentence(tmp_path: Path) -> None:
    cells = {"type": "dose", "verdict": "", "level": "error", "evidence": "Takes", "evidence_start": 0}
    spans = [
        {**cells, "text": "850", "start": 0, "end": 3, "verdict": "contradicted"},
        {**cells, "text": "mg", "start": 4, "end": 6, "verdict": "unsupported"},
    ]
    page = written_page(tmp_path, judged={"has_hallucination": "1", "unsupported_spans": json.dumps(spans)})
    assert re.search(r"contradicted</b>, dose\. Note: <a", page)
    assert re.search(r"unsupported</b>, dose\. Nearest in the note: <a", page)
    assert "For a claim that the note does not say, it is only the nearest sentence." in page


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_no_verdict_is_not_taken_for_no_error(tmp_path: Path, failures: int) -> None:
    page = written_page(tmp_path, summaries=2, judge_failures=failures)
    assert ("No claim was found wrong." in page) == (failures < 2)
    assert ("the judge failed on every summary." in page) == (failures == 2)


def test_the_report_has_the_grades_if_there_are_any(tmp_path: Path) -> None:
    page = written_page(tmp_path, judge_grades={"risk": {"mean": 1.5, "ci95": [1, 2], "n": 8}})
    assert "<p>Mean grades by the judge: risk 1.50 (95% interval 1.00 to 2.00, n=8).</p>" in page
    assert "Mean grades" not in written_page(tmp_path, judge_grades={})
    assert "Mean grades" not in written_page(tmp_path)  # an evaluation from before there were grades


def written_page(folder: Path, judged: dict[str, str] | None = None, **figures: Any) -> str:
    """The report of one summary, `850 mg`."""
    row = {"example_id": "a", "clinical_note": NOTE, "generated_summary": "850 mg", "has_hallucination": ""}
    row |= {"unsupported_spans": "", **(judged or {})}
    write_csv(folder / "evaluation_results.csv", list(row), [row])
    summary = dict.fromkeys(SUMMARY_KEYS) | {"summaries": 1, "judge_failures": 0, "by_type": {}, **figures}
    write_json(folder / "evaluation_summary.json", summary)
    return write_evaluation_report(folder).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Collects the tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_text_of_a_model_is_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "BP &lt; 140 &amp; stable." in page


def test_wrong_words_are_linked_to_the_sentence_and_listed(page: str) -> None:
    assert re.search(
        r'<a class="error" id="x1-mark1" href="#x1-s1" aria-describedby="x1-error1">'
        r'<mark class="contradicted">850 mg</mark><sup>1</sup></a>',
        page,
    )
    assert re.search(
        r'<li id="x1-error1" value="1".*850 mg.*contradicted</b>, dose.*Takes \w+ <span class="told">500 mg</span>',
        page,
    )
    assert re.search(r'id="x1-s1" tabindex="-1"><sup><a href="#x1-mark1"[^>]*>1</a></sup>Takes metformin', page)


def test_page_needs_no_network(page: str) -> None:
    elements = Elements(page)
    assert not elements.of("link")
    assert not elements.of("img")
    assert all("src" not in attributes for attributes in elements.of("script"))
    assert "http://" not in page
    assert "https://" not in page


def test_filters_have_what_they_filter_by(page: str) -> None:
    articles = Elements(page).of("article")
    assert [(a["data-verdict"], json.loads(a["data-claims"] or "")) for a in articles] == [
        ("hallucinated", [["contradicted", "dose"]]),
        ("no error found", []),
    ]


def test_segments_keep_the_text_and_prefer_errors() -> None:
    """A word to review gives way to the error over it; a second error on the same words goes along with the first."""
    error, inner = flag(5, 14, 1), flag(7, 9, 2)
    cut = segments("0123456789abcdefghijk", [flag(0, 9), error, inner, flag(16, 20)])
    assert [(segment.text, segment.flags) for segment in cut] == [
        ("01234", ()),
        ("56789abcd", (error, inner)),
        ("ef", ()),
        ("ghij", (flag(16, 20),)),
        ("k", ()),
    ]
    assert segments("", []) == []
    assert segments("text", []) == [Segment("text")]


def test_errors_are_numbered_through_both_summaries() -> None:
    """The note's sentences are 1 at 0 to 4 and 2 at 5 to 9; a place between them is of the one before."""
    word = {"start": 0, "end": 1, "level": "review", "evidence_start": None}
    errors = [{"start": 0, "end": 1, "level": "error", "evidence_start": start} for start in (None, 0, 4, 5, 8)]
    first, second = number_flags([[word, *errors[:2]], errors[2:]], [(0, 4), (5, 9)], "x1")
    assert [(each.number, each.sentence) for each in first] == [(None, None), (1, None), (2, 1)]
    assert [(each.number, each.sentence) for each in second] == [(3, 1), (4, 2), (5, 2)]
    assert [each.target for each in first[1:]] == ["x1-error1", "x1-s1"]


def test_note_is_cut_at_the_sentences_pointed_to() -> None:
    bounds = [(0, 4), (5, 9), (10, 16)]
    error = flag(0, 1, 1, sentence=2)
    assert note_pieces("One. Two. Three.", bounds, [error, flag(0, 1, 2)], cited={3, 77}) == [
        NotePiece("One. "),
        NotePiece("Two.", 2, (error,)),
        NotePiece(" "),
        NotePiece("Three.", 3, (), True),
    ]


def test_chart_draws_shares_and_intervals_to_scale() -> None:
    """The axis ends at 20%, since the widest interval ends at 18%: 98% of the width for 20 points, 1% of it free."""
    dose = {"summaries": 5, "rate": 0.1, "rate_ci95": (0.04, 0.18)}
    sex = {"summaries": 1, "rate": 0.02, "rate_ci95": (0.0, 0.1)}
    drawn = chart({"": {"sex": sex, "dose": dose}}, 50)
    assert [(bar["label"], bar["low"], bar["at"], bar["high"]) for bar in drawn["bars"]] == [
        ("dose", 20.6, 50.0, 89.2),
        ("sex", 1.0, 10.8, 50.0),
    ]
    assert drawn["bars"][0]["text"] == "5: 10.0% (4.0% to 18.0%)"
    assert [(tick["x"], tick["text"]) for tick in drawn["ticks"]] == [
        (1.0, "0%"), (25.5, "5%"), (50.0, "10%"), (74.5, "15%"), (99.0, "20%"),
    ]  # fmt: skip


def test_chart_of_two_has_a_bar_for_each_even_without_such_an_error() -> None:
    """0 of 50 has the Wilson interval 0 to 3.84 / 53.84 = 7.1%."""
    dose = {"summaries": 5, "rate": 0.1, "rate_ci95": (0.04, 0.21)}
    drawn = chart({"first": {}, "second": {"dose": dose}}, 50)
    assert [name["name"] for name in drawn["names"]] == ["dose"]
    assert [(bar["series"], bar["text"]) for bar in drawn["bars"]] == [
        ("first", "0: 0.0% (0.0% to 7.1%)"),
        ("second", "5: 10.0% (4.0% to 21.0%)"),
    ]


@pytest.mark.parametrize("cell", ["{", "7", '[{"start": 0}]', '["text"]'])
def test_a_cell_that_cannot_be_shown_is_named(cell: str) -> None:
    with pytest.raises(InputError, match=r"a: unsupported_spans is no list of objects with end, evidence, .*; make it"):
        listed({"example_id": "a", "unsupported_spans": cell}, "unsupported_spans", SPAN_KEYS)
    assert listed({"example_id": "a"}, "citations", SPAN_KEYS) == []


def test_a_verdict_that_is_none_is_named(tmp_path: Path) -> None:
    cells = {"example_id": "a", "clinical_note": NOTE, "generated_summary": "x", "unsupported_spans": "[]"}
    write_csv(
        tmp_path / "evaluation_results.csv", [*cells, "has_hallucination"], [cells | {"has_hallucination": "yes"}]
    )
    with pytest.raises(InputError, match="line 2: has_hallucination is neither 0 nor 1 nor empty"):
        read_evaluation(tmp_path)


# ------------------------------------------------------------------------- trust, missing, differences


def test_the_page_says_how_far_to_trust_it(tmp_path: Path) -> None:
    rate = {"hallucination_rate": 0.3, "hallucination_rate_ci95": [0.2, 0.42], "hallucination_rate_n": 60}
    page = written_page(tmp_path, judge="facts", **rate)
    assert "Research only." in page
    assert "Contains patient text." in page
    assert "mts_dialog_factuality_dev.csv" in page
    assert "Optimistic: rules were written on these rows." in page
    assert "<td>30.0% (20.0% to 42.0%)</td>" in page
    unknown = written_page(tmp_path, judge="openai:x", **rate)
    assert "How often the judge is right is not known." in unknown
    assert "Rogan" not in unknown
    assert "Corrected</th>" not in unknown


def test_what_a_summary_leaves_out_is_listed_and_marked_in_the_reference(tmp_path: Path) -> None:
    reference = "Takes metformin 500 mg twice daily. No chest pain."
    rows = [
        {"id": "a", "clinical_note": reference, "generated_summary": "Takes metformin.", "reference_summary": reference}
    ]
    write_jsonl(tmp_path / "p.jsonl", rows)
    main(parse_args(["--predictions", str(tmp_path / "p.jsonl"), "--output_dir", str(tmp_path)]))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    listing = re.search(r'<ul class="claims lacks">(.*?)</ul>', page, re.DOTALL)
    assert listing
    assert re.findall(r"<li><bdi>(.*?)</bdi>, (.*?)</li>", listing[1]) == [
        ("500 mg (metformin)", "dose"),
        ("twice daily (metformin)", "frequency"),
        ("no chest pain", "symptom"),
    ]
    assert re.findall(r'<span class="lacking">(.*?)</span>', page)[-3:] == ["500 mg", "twice daily", "chest pain"]


def test_a_text_is_cut_at_spans_of_the_text_around_it() -> None:
    assert parts_of("cdef", [(1, 4), (5, 99)], offset=2) == [("cd", True), ("e", False), ("f", True)]
    assert parts_of("cdef", []) == [("cdef", False)]
    (segment,) = segments("a b", [], [(2, 3)])
    assert segment.parts == (("a ", False), ("b", True))
