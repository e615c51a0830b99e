"""The pages in headless Chromium: what is shown, hidden, focused, printed, and that nothing in a note can run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from evaluation.comparison_page import write_comparison_report
from evaluation.report import write_evaluation_report
from script_io.csv_files import write_csv
from script_io.files import write_json

HOSTILE = """<script>hacked = 1; alert(1)</script> </textarea></p></article>
<img src="http://example.org/x" onerror=alert(2)> "Double" & 'single' quotes.
Takes metformin 500 mg daily.
Pain in the left knee."""
ARABIC = "المريض رجل عمره 64 سنة.\nBlood pressure 130/80.\nيتناول metformin 500 mg."
OVERRIDE = "\u202e"  # right-to-left override, never closed
LONG_WORD = "pneumonoultramicroscopicsilicovolcanoconiosis" * 4


def claim(summary: str, words: str, kind: str, verdict: str, note: str = "", evidence: str = "") -> dict[str, Any]:
    """A claim of level error; without evidence none is named."""
    start = summary.index(words)
    return {
        "type": kind, "text": words, "start": start, "end": start + len(words), "verdict": verdict, "level": "error",
        "evidence": evidence or None, "evidence_start": note.index(evidence) if evidence else None,
    }  # fmt: skip


def row(
    example_id: str, note: str, summary: str, claims: Sequence[dict[str, Any]] = (), **cells: str
) -> dict[str, str]:
    """A row of evaluation_results.csv."""
    return {
        "example_id": example_id,
        "clinical_note": note,
        "reference_summary": "",
        "generated_summary": summary,
        "has_hallucination": "1" if claims else "0",
        "unsupported_spans": json.dumps(list(claims)),
        "claims": "4",
        "claims_supported": "1",
        "citations": "[]",
        **cells,
    }


WRONG = 'Metformin 850 mg daily. Warfarin. Right knee. <script>hacked = 1; alert(3)</script> "</textarea>'
WRONG_CLAIMS = [
    claim(WRONG, "850 mg", "dose", "contradicted", HOSTILE, "Takes metformin 500 mg daily."),
    claim(WRONG, "850 mg daily", "frequency", "unsupported"),
    claim(WRONG, "Warfarin", "drug", "unsupported"),
    claim(WRONG, "Right", "laterality", "contradicted", HOSTILE, "Pain in the left knee."),
]
OTHER = f"Metformin 850 mg. Aged 70. {LONG_WORD}"
OTHER_CLAIMS = [
    claim(OTHER, "850 mg", "dose", "unsupported"),
    claim(OTHER, "70", "age", "contradicted", ARABIC, "المريض رجل عمره 64 سنة."),
]
CITING = "Metformin 500 mg daily [Evidence: S4; Conf: 0.9]. Pain [Evidence: S77]."
CITATIONS = [
    {"start": 23, "end": 48, "text": "[Evidence: S4; Conf: 0.9]", "sentences": [4]}
    | {"exists": True, "supported": True, "confidence": 0.9},
    {"start": 55, "end": 70, "text": "[Evidence: S77]", "sentences": [77]}
    | {"exists": False, "supported": False, "confidence": None},
]
ROWS = [
    row("wrong", HOSTILE, WRONG, WRONG_CLAIMS, reference_summary="</p><script>alert(4)</script>"),
    row("right", f"Case 2. {LONG_WORD}\n" + HOSTILE * 20, CITING, citations=json.dumps(CITATIONS)),
    row(f"{OVERRIDE}other<b>", ARABIC, OTHER, OTHER_CLAIMS),
    row("failed", "No verdict.", "", has_hallucination="", unsupported_spans=""),
]
SUMMARY = {
    "model": "models/<script>alert(5)</script>", "judge": "facts", "test_data": "a&b.csv", "temperature": 0.0,
    "max_new_tokens": 150, "seed": 42, "left_out": ["<i>"], "summaries": 4, "judge_failures": 1, "claims": 9,
    "hallucination_rate": 2 / 3, "hallucination_rate_ci95": [0.2077, 0.9385], "hallucination_rate_n": 3,
    "claim_error_rate": 6 / 9, "claim_error_rate_ci95": [0.5, 0.8], "coverage": None, "coverage_ci95": None,
    "citation_accuracy": 0.5, "citation_accuracy_ci95": [0.0945, 0.9055], "citation_accuracy_n": 2,
    "calibration": {"n": 40, "brier": 0.1, "ece": 0.05, "bins": [
        {"low": 0.8, "high": 0.9, "n": 40, "mean_confidence": 0.85, "share_supported": 0.8, "ci95": [0.65, 0.9]}]},
    "judge_made_training_pairs": True,
    "by_type": {
        kind: {"claims": 1, "summaries": count, "rate": count / 3, "rate_ci95": [0.06, 0.94]}
        for kind, count in (("dose", 2), ("age", 1), ("drug", 1), ("frequency", 1), ("laterality", 1))
    },
}  # fmt: skip
_DIFFERENCE = {"first": 0.5, "second": 0.25, "difference": -0.25, "ci95": [-0.4, -0.1], "holds": True}
COMPARISON = {
    "first": {"name": "sft", "model": "<script>alert(6)</script>", "folder": "a"},
    "second": {"name": "dpo", "model": "dpo", "folder": "b"},
    "n": 3, "only_in_first": 0, "only_in_second": 1, "not_judged": 0, "conclusion": "The difference holds.",
    "warnings": ["<script>alert(7)</script>"],
    "hallucination_rate": [
        {"rate": 2 / 3, "count": 2, "ci95": [0.2077, 0.9385]},
        {"rate": 1 / 3, "count": 1, "ci95": [0.0615, 0.7923]},
    ],
    "mcnemar": {"both": 1, "only_first": 1, "only_second": 0, "neither": 1, "p": 1.0},
    "differences": {"hallucination_rate": _DIFFERENCE, "coverage": None, "summary_words": _DIFFERENCE},
    "by_type": {"dose": {**_DIFFERENCE, "only_first": 3, "only_second": 0, "p": 0.25, "p_holm": 0.5}},
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_csv(folder / "evaluation_results.csv", list(ROWS[0]), ROWS)
    write_json(folder / "evaluation_summary.json", SUMMARY)
    return write_evaluation_report(folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    wrong, _, other, _ = ROWS
    pairs = [
        (wrong, row("wrong", HOSTILE, "Metformin.")),
        (other, row("other", ARABIC, OTHER, OTHER_CLAIMS[1:])),
        (row("both", "Well.", "Well."), row("both", "Well.", "Well.")),
    ]
    sides = [dict(zip(("sft", "dpo"), pair, strict=True)) for pair in pairs]
    write_comparison_report(path, [COMPARISON], sides, SUMMARY)
    return path


class Watched:
    """A page, and everything on it that a note must not bring about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.happened: list[str] = []
        page.on("dialog", lambda dialog: (self.happened.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.happened.append(f"error {error}"))
        page.on("console", lambda message: self.happened.append(f"console {message.text}"))
        page.on("request", lambda request: self.happened.append(f"request {request.url}"))

    def open(self, path: Path) -> Page:
        self.page.goto(path.as_uri())
        assert self.happened.pop(0) == f"request {path.as_uri()}"
        return self.page


@pytest.fixture(scope="module")
def only_page(browser: Browser) -> Watched:
    return Watched(browser.new_page())


@pytest.fixture
def watched(only_page: Watched) -> Iterator[Watched]:
    only_page.page.set_viewport_size({"width": 1280, "height": 800})
    only_page.page.emulate_media(media="screen", color_scheme="light")
    yield only_page
    happened, only_page.happened = only_page.happened, []
    assert happened == []


def shown(page: Page) -> list[str]:
    """Ids of the examples that can be seen."""
    return [each.locator("h3 bdi").text_content() or "" for each in page.locator("article").all() if each.is_visible()]


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.localName"))


def press(page: Page, *keys: str) -> str:
    for key in keys:
        page.keyboard.press(key)
    return focused(page)


# ------------------------------------------------------------------------------------------- hostile text


def test_the_watch_sees_what_runs(browser: Browser, tmp_path: Path) -> None:
    """The control of the tests below: unescaped, the same text runs, and the watch notices."""
    (tmp_path / "bare.html").write_text(HOSTILE, encoding="utf-8")
    page = browser.new_page()
    watched = Watched(page)
    watched.open(tmp_path / "bare.html")
    page.wait_for_function("hacked === 1")
    assert {"dialog 1", "request http://example.org/x"} <= set(watched.happened)
    page.close()


_WITHOUT_NUMBERS = """element => {
  const copy = element.cloneNode(true);
  copy.querySelectorAll("sup").forEach(number => number.remove());
  return copy.textContent;
}"""


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_texts_are_shown_and_never_run(name: str, watched: Watched, request: pytest.FixtureRequest) -> None:
    page = watched.open(request.getfixturevalue(name))
    first = page.locator("article").first
    assert first.locator(".note .text").evaluate(_WITHOUT_NUMBERS) == HOSTILE
    assert first.locator(".summary .text").first.evaluate(_WITHOUT_NUMBERS) == WRONG
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("img, b:not([class]), i, textarea, article article").count() == 0
    assert page.locator("script").count() == 1


def test_the_policy_stops_a_script_that_would_slip_through(browser: Browser, report: Path) -> None:
    """Even unescaped: the page allows its own script by its hash, and no other."""
    page = browser.new_page()
    watched = Watched(page)
    watched.open(report)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'hacked = 1'}))")
    assert page.evaluate("typeof hacked") == "undefined"
    (refusal,) = watched.happened
    assert "violates the following Content Security Policy directive" in refusal
    page.close()


def test_right_to_left_text_keeps_to_itself(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    article = page.locator("article").nth(2)
    text = article.locator(".note .text")
    edges = """(p, words) => { const walker = document.createTreeWalker(p, NodeFilter.SHOW_TEXT); let node;
        while (node = walker.nextNode()) { const at = node.data.indexOf(words); if (at < 0) continue;
          const range = document.createRange(); range.setStart(node, at); range.setEnd(node, at + words.length);
          const [inner, outer] = [range.getBoundingClientRect(), p.getBoundingClientRect()];
          return [inner.left - outer.left, outer.right - inner.right]; } }"""
    left, right = text.evaluate(edges, "المريض")
    assert right < 10 < left  # Arabic begins at the right edge, after the number of the error
    left, right = text.evaluate(edges, "Blood")
    assert left < 2 < right  # the English line of the same note at the left
    name, verdict = article.locator("h3 bdi").bounding_box(), article.locator("h3 .verdict").bounding_box()
    assert name
    assert verdict
    assert verdict["x"] >= name["x"] + name["width"]  # the id's override does not reach the verdict


# ------------------------------------------------------------------------------------------- filters


def test_filters_show_what_fits(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    other = f"{OVERRIDE}other<b>"
    for chosen, expected in (
        ({}, ["wrong", "right", other, "failed"]),
        ({"verdict": "hallucinated"}, ["wrong", other]),
        ({"verdict": "no error found"}, ["right"]),
        ({"verdict": "judge failed"}, ["failed"]),
        ({"type": "laterality"}, ["wrong"]),
        ({"type": "dose"}, ["wrong", other]),
        ({"type": "dose", "claim": "unsupported"}, [other]),  # both of one claim, not only of the example
        ({"type": "age", "verdict": "no error found"}, []),
    ):
        press(page, "c")
        for name, value in chosen.items():
            page.locator(f"select[name={name}]").select_option(value)
        assert shown(page) == expected
        assert page.get_by_role("status").inner_text().startswith(f"{len(expected)} of 4 shown")


def test_comparisons_are_filtered_by_change(watched: Watched, comparison: Path) -> None:
    page = watched.open(comparison)
    page.get_by_label("Change").select_option("only sft hallucinated")
    assert shown(page) == ["wrong"]
    page.get_by_label("Change").select_option("both hallucinated")
    assert shown(page) == [f"{OVERRIDE}other<b>"]
    page.locator("select[name=type]").select_option("drug")
    assert shown(page) == []


# ------------------------------------------------------------------------------------------- keyboard


def test_keys_go_through_the_examples(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    assert press(page, "j") == "x1"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert press(page, "j", "j", "j") == "x4"
    assert press(page, "j") == "x4"  # the last one
    assert press(page, "k", "k") == "x2"
    page.locator("select[name=verdict]").select_option("hallucinated")
    assert press(page, "j") == "x1"  # from the first of them on
    assert press(page, "j") == "x3"  # x2 is filtered out
    assert press(page, "k") == "x1"


def test_a_key_begins_where_one_reads(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    page.locator("#x2").evaluate("element => scrollTo(0, element.offsetTop)")
    assert press(page, "j") == "x3"


def test_keys_go_through_the_errors_and_their_sentences(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    assert press(page, "e") == "x1-mark1"
    assert press(page, "Enter") == "x1-error1"  # without a sentence of the note: its place in the list
    assert press(page, "b") == "x1-mark1"
    assert press(page, "e") == "x1-mark2"  # on the same words
    assert press(page, "Enter") == "x1-s3"
    assert "Takes metformin 500 mg daily." in page.locator(":focus").inner_text()
    assert press(page, "b", "e", "e", "e") == "x3-mark1"
    assert press(page, "E") == "x1-mark4"
    page.locator("select[name=type]").select_option("age")
    assert press(page, "e") == "x3-mark1"


def test_a_jump_lands_in_view_below_the_bar(browser: Browser, report: Path) -> None:
    """At once, without waiting for a frame in which the browser might still move things."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script("ResizeObserver = class { observe() {} }")  # comes with a frame: too late for a quick key
    page.goto(report.as_uri())
    for jump in ("j", "j", "j", "e", "Enter", "E"):
        press(page, jump)
        bar, top = page.evaluate("""() => {
            const [bar, box] = ["#bar", ":focus"].map(name => document.querySelector(name).getBoundingClientRect());
            return [bar.bottom, box.top];
        }""")
        assert bar <= top < 800
    page.close()


def test_help_lists_the_keys_and_can_switch_them_off(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    dialog = page.get_by_role("dialog")
    press(page, "f")
    assert page.evaluate("document.activeElement.name") == "verdict"
    press(page, "e")  # letters belong to the list there
    assert page.evaluate("document.activeElement.name") == "verdict"
    assert press(page, "Escape") == "body"
    press(page, "?")
    assert dialog.locator("kbd").all_inner_texts() == ["j", "k", "e", "E", "b", "/", "f", "c", "?"]
    page.get_by_label("Use single letters as shortcuts").uncheck()
    press(page, "Escape")
    assert not dialog.is_visible()
    assert press(page, "j") == "body"
    for expected in ("x1", "x2", "x3"):
        page.get_by_role("button", name="Next", exact=True).click()  # buttons do the same for the mouse
        assert focused(page) == expected


# ------------------------------------------------------------------------------------------- layout and access


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_landmarks_labels_and_links(name: str, watched: Watched, request: pytest.FixtureRequest) -> None:
    page = watched.open(request.getfixturevalue(name))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('a')].map(a => a.hash.slice(1))")
    referred = page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby], [aria-describedby]')]"
        ".map(e => e.getAttribute('aria-labelledby') ?? e.getAttribute('aria-describedby'))"
    )
    assert set(targets) | set(referred) <= set(ids)
    assert page.get_by_role("main").count() == page.get_by_role("heading", level=1).count() == 1
    levels = page.evaluate("[...document.querySelectorAll('main h1, h2, h3, h4')].map(e => Number(e.localName[1]))")
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.get_by_role("form", name="Filters").get_by_role("combobox").count() == 4
    assert page.evaluate("[...document.querySelectorAll('select, input')].every(e => e.labels.length === 1)")
    for article in page.get_by_role("article").all():
        assert article.get_attribute("tabindex") == "-1"
    assert page.get_by_role("article", name="wrong").count() == 1


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("width", [360, 390, 700, 1280])
def test_nothing_is_wider_than_the_window(
    name: str, width: int, watched: Watched, request: pytest.FixtureRequest
) -> None:
    watched.page.set_viewport_size({"width": width, "height": 800})
    page = watched.open(request.getfixturevalue(name))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rights = "[...document.querySelectorAll('svg text, .text, .bar > *')].map(e => e.getBoundingClientRect().right)"
    assert max(page.evaluate(rights)) <= width


def test_labels_of_the_chart_do_not_meet(watched: Watched, report: Path) -> None:
    watched.page.set_viewport_size({"width": 360, "height": 800})
    page = watched.open(report)
    for group in page.locator("svg g").all():
        name, numbers = (text.bounding_box() for text in group.locator("text").all())
        assert name
        assert numbers
        assert name["x"] + name["width"] < numbers["x"]


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_print_has_every_word_and_no_controls(name: str, watched: Watched, request: pytest.FixtureRequest) -> None:
    page = watched.open(request.getfixturevalue(name))
    page.locator("select[name=type]").select_option("dose")
    page.emulate_media(media="print")
    assert not any(each.is_visible() for each in page.locator("select, button, .skip, dialog").all())
    assert page.locator("#shown").inner_text().endswith("shown: dose")
    cut = """[...document.querySelectorAll('article:not([hidden]) :is(.note, .summary, .text)')].filter(
        e => e.scrollHeight > e.clientHeight + 1 && getComputedStyle(e).overflowY !== 'visible'
             || getComputedStyle(e).position !== 'static')"""
    assert page.evaluate(f"{cut}.length") == 0
    assert page.locator("article").first.evaluate("e => getComputedStyle(e).contentVisibility") == "visible"
    numbers = page.locator("article").first.locator(".note sup").all_inner_texts()
    assert numbers == ["2", "4"]  # the ends of the links, in print too


_CONTRAST = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = channels(getComputedStyle(each).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const hasText = element => [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
  return [...document.querySelectorAll("body :not(script)")].filter(hasText).map(element => {
    const style = getComputedStyle(element);
    const text = luminance(channels(element.closest("svg") ? style.fill : style.color));
    const back = luminance(ground(element));
    const ratio = (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
    return [ratio, `${element.localName}.${element.getAttribute("class")}`];
  });
}"""


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    name: str, scheme: Any, watched: Watched, request: pytest.FixtureRequest
) -> None:
    """WCAG 2.2, 1.4.3: contrast of at least 4.5 to 1, for every text on the page."""
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(request.getfixturevalue(name))
    found = page.evaluate(_CONTRAST)
    assert {"mark.contradicted", "mark.unsupported", "p.text", "text.axis"} <= {element for _, element in found}
    assert [(ratio, element) for ratio, element in found if ratio < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}[scheme]


def test_kinds_of_error_differ_without_colour(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    line = "e => getComputedStyle(e).textDecorationStyle"
    assert page.locator("mark.contradicted").first.evaluate(line) == "double"
    assert page.locator("mark.unsupported").first.evaluate(line) == "wavy"
    assert page.locator("#x1-error2").inner_text().startswith("850 mg: contradicted, dose. Note: ")


def test_citations_are_judged_in_words(watched: Watched, report: Path) -> None:
    page = watched.open(report)
    assert page.locator("#x2 ul.claims li").all_inner_texts() == [
        "[Evidence: S4; Conf: 0.9]: supports the statement, sentence 4",
        "[Evidence: S77]: the note has no such sentence",
    ]
    assert page.locator("#x2-s4 sup").inner_text().strip() == "S4"
