"""What the page holds: escaped text, marked spans linked to the note, no network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation.evaluate_model import main, parse_args
from evaluation.report import NotePiece, Segment, anchored, segments
from script_io import write_jsonl

NOTE = "Takes metformin 500 mg daily. BP < 140 & stable."


def span(start: int, end: int, level: str = "error", evidence_start: int | None = None) -> dict[str, object]:
    return {"start": start, "end": end, "level": level, "evidence_start": evidence_start, "type": "dose"}


@pytest.fixture
def page(tmp_path: Path) -> str:
    rows = [
        {"id": "a", "clinical_note": NOTE, "generated_summary": "Metformin 850 mg. <script>alert(1)</script>"},
        {"id": "b", "clinical_note": NOTE, "generated_summary": "Metformin 500 mg."},
    ]
    write_jsonl(tmp_path / "p.jsonl", rows)
    main(parse_args(["--predictions", str(tmp_path / "p.jsonl"), "--output_dir", str(tmp_path)]))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


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


def test_wrong_words_are_labelled_and_linked_to_the_sentence(page: str) -> None:
    assert re.search(r'<mark class="contradicted"><a href="#note0-0"[^>]*>850 mg</a><small>contradicted: dose', page)
    ids = {attributes.get("id") for attributes in Elements(page).of("span")}
    links = [attributes["href"] for attributes in Elements(page).of("a")]
    assert links
    assert {link.removeprefix("#") for link in links if link} <= ids


def test_page_needs_no_network(page: str) -> None:
    elements = Elements(page)
    assert not elements.of("link")
    assert not elements.of("img")
    assert all("src" not in attributes for attributes in elements.of("script"))
    assert "http://" not in page
    assert "https://" not in page


def test_filters_have_what_they_filter_by(page: str) -> None:
    articles = Elements(page).of("article")
    assert [(a["data-verdict"], a["data-types"]) for a in articles] == [
        ("hallucinated", "dose"),
        ("no error found", ""),
    ]


def test_segments_keep_the_text_and_prefer_errors() -> None:
    spans = [span(0, 9, "review"), span(5, 14, "error", 3), span(16, 20, "review")]
    cut = segments("0123456789abcdefghijk", spans, {3: "note-3"})
    assert [(s.text, s.span is not None, s.target) for s in cut] == [
        ("01234", False, None),
        ("56789abcd", True, "note-3"),
        ("ef", False, None),
        ("ghij", True, None),
        ("k", False, None),
    ]
    assert segments("", [], {}) == []
    assert segments("text", [], {}) == [Segment("text")]


def test_note_is_cut_at_the_sentences_pointed_to() -> None:
    pieces, anchors = anchored("One. Two. Three.", [span(0, 1, evidence_start=5), span(0, 1)], "note7")
    assert pieces == [NotePiece("One. "), NotePiece("Two.", "note7-5"), NotePiece(" Three.")]
    assert anchors == {5: "note7-5"}
