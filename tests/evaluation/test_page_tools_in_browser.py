"""What a reader does with the pages in headless Chromium: search, sort, share, mark, save, and print."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from benchmarks.fact_checker_agreement import read_labels
from evaluation.compare_models import main as compare
from evaluation.compare_models import parse_args as comparison_args
from evaluation.evaluate_model import main as evaluate
from evaluation.evaluate_model import parse_args as evaluation_args
from script_io.csv_files import read_csv
from script_io.files import write_jsonl

TWO_DRUGS = "Started azithromycin 250 mg every morning and cefuroxime 500 mg every 12 hours."
NOTES = {
    "drugs": (TWO_DRUGS, "Azithromycin 250 mg every 12 hours, it was said at length.", TWO_DRUGS),
    "quoted": ('Says "cough", for 3 days.\nNo fever.', 'Says "cough", for 3 days.', "Cough for 3 days. No fever."),
    "knee": ("Left knee pain.", "Left knee pain.", "- Left knee pain."),
}
OTHER = {**NOTES, "drugs": (TWO_DRUGS, "Azithromycin 250 mg every morning, it was said at length.", TWO_DRUGS)}


def evaluation(folder: Path, notes: dict[str, tuple[str, str, str]]) -> Path:
    """An evaluation of summaries by the rules."""
    keys = ("clinical_note", "generated_summary", "reference_summary")
    rows = [{"id": name, **dict(zip(keys, texts, strict=True))} for name, texts in notes.items()]
    write_jsonl(folder.with_suffix(".jsonl"), rows)
    evaluate(evaluation_args(["--predictions", str(folder.with_suffix(".jsonl")), "--output_dir", str(folder)]))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of SFT in `sft`, and the comparison of two models in `out`."""
    folder = tmp_path_factory.mktemp("pages")
    sft, dpo = evaluation(folder / "sft", NOTES), evaluation(folder / "dpo", OTHER)
    compare(comparison_args([str(sft), str(dpo), "--names", "SFT", "DPO", "--output_dir", str(folder / "out")]))
    return folder


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """The page of SFT, in a window without marks."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto((folder / "sft" / "report.html").as_uri())
    yield page
    page.context.close()


def shown(page: Page) -> list[str]:
    """Ids of the examples that can be seen, in the order of the page."""
    return [each.locator("h3 bdi").inner_text() for each in page.locator("article").all() if each.is_visible()]


def saved(page: Page, button: str, path: Path) -> list[dict[str, str]]:
    """The rows of the file that a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    download.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


# ------------------------------------------------------------------------------------------- explanations


def test_both_places_of_a_contradiction_are_marked(page: Page) -> None:
    article = page.locator("#x1")
    assert article.locator("mark.contradicted").inner_text() == "every 12 hours"
    assert article.locator(".note .told").inner_text() == "every morning"
    said = article.locator(".contrast").inner_text()
    assert said == "azithromycin: summary every 12 hours; note every morning"
    assert article.locator("q .told").inner_text() == "every morning"


def test_missing_facts_are_listed_and_marked_in_the_reference(page: Page) -> None:
    assert page.locator("#x2 .lacks li").all_inner_texts() == ["no fever, symptom"]
    assert page.locator("#x2 .lacking").all_inner_texts() == ["fever"]
    assert page.locator("#x3 .lacks").count() == 0


# ------------------------------------------------------------------------------------------- search, order, address


def test_search_looks_at_all_texts_and_keeps_the_letters(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("Jek")  # j and k are keys of the page elsewhere
    assert shown(page) == []
    page.get_by_label("Search").fill("CEFUROXIME")  # in the note only
    assert shown(page) == ["drugs"]
    page.get_by_label("Search").fill("no fever")
    assert shown(page) == ["quoted"]
    page.get_by_label("Search").fill("knee")  # an id too
    assert shown(page) == ["knee"]
    assert page.get_by_role("status").inner_text() == "1 of 3 shown: knee"


def test_examples_are_sorted_by_score_length_and_coverage(page: Page) -> None:
    order = page.get_by_label("Order")
    for value, first in (("score", "drugs"), ("length", "drugs"), ("coverage", "drugs"), ("", "drugs")):
        order.select_option(value)
        assert shown(page)[0] == first
    numbers = "[...document.querySelectorAll('article')].map(each => Number(each.dataset.{}))"
    for value, sign in (("score", -1), ("length", -1), ("coverage", 1)):
        order.select_option(value)
        found = page.evaluate(numbers.format(value))
        assert found == sorted(found, key=lambda number: sign * number)
        assert len(set(found)) > 1
    order.select_option("")
    assert shown(page) == list(NOTES)


def test_the_address_keeps_search_filters_and_order(page: Page) -> None:
    page.locator("select[name=verdict]").select_option("no error found")
    page.get_by_label("Order").select_option("length")
    page.get_by_label("Search").fill("days & knee")
    page.get_by_label("Search").fill("cough")
    address = page.evaluate("location.href")
    assert address.endswith("#search=cough&verdict=no+error+found&sort=length")
    again = page.context.new_page()
    again.goto(address)
    assert shown(again) == ["quoted"]
    assert again.get_by_label("Search").input_value() == "cough"
    assert again.get_by_label("Order").input_value() == "length"
    again.keyboard.press("c")
    assert shown(again) == list(NOTES)
    assert again.evaluate("location.hash") == ""
    again.goto(address.split("#")[0] + "#type=none&x3")  # a category that this page does not have
    assert again.locator("select[name=type]").input_value() == ""


# ------------------------------------------------------------------------------------------- marks and files


def test_marks_are_saved_in_the_form_that_the_agreement_benchmark_reads(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    save = page.get_by_role("button", name="Save the marks")
    assert save.is_disabled()
    page.locator("#x1").get_by_role("button", name="Right", exact=True).click()
    page.locator("#x2").get_by_role("button", name="Wrong", exact=True).click()
    knee = page.locator("#x3").get_by_role("button", name="Wrong", exact=True)
    knee.click()
    knee.click()  # taken back
    assert knee.get_attribute("aria-pressed") == "false"
    assert save.inner_text() == "Save the marks (2)"
    page.reload()
    assert save.inner_text() == "Save the marks (2)"  # kept by the browser
    rows = saved(page, "Save the marks", tmp_path / "marks.csv")
    assert [(row["id"], row["mark"], row["has_hallucination"]) for row in rows] == [
        (f"drugs {folder / 'sft.jsonl'}", "right", "1"),  # the model, so that files of two pages can be joined
        (f"quoted {folder / 'sft.jsonl'}", "wrong", "1"),  # no error was found
    ]
    assert rows[1]["clinical_note"] == NOTES["quoted"][0]  # quotes and line end as they were
    assert rows[0]["model_summary"] == NOTES["drugs"][1]
    page.locator("#x2").get_by_role("button", name="Right", exact=True).click()
    saved(page, "Save the marks", tmp_path / "marks.csv")
    assert [row["has_hallucination"] for row in read_labels(tmp_path / "marks.csv", None)] == ["1", "0"]


def test_the_rows_shown_are_saved_and_no_others(page: Page, tmp_path: Path) -> None:
    page.locator("select[name=verdict]").select_option("no error found")
    rows = saved(page, "Save the rows shown", tmp_path / "rows.csv")
    assert [row["example_id"] for row in rows] == ["quoted", "knee"]
    assert rows[1]["reference_summary"] == "'- Left knee pain."  # no formula for a spreadsheet
    columns = ("clinical_note", "generated_summary", "reference_summary", "has_hallucination", "coverage")
    kept = [row for _, row in read_csv(tmp_path / "rows.csv", columns)]
    assert kept[0]["reference_summary"] == NOTES["quoted"][2]
    assert kept[1]["reference_summary"] == NOTES["knee"][2]
    assert kept[0]["coverage"] == "0.666667"


# ------------------------------------------------------------------------------------------- comparison and print


def test_a_comparison_names_the_models_and_marks_the_words_that_differ(page: Page, folder: Path) -> None:
    page.goto((folder / "out" / "comparison.html").as_uri())
    article = page.locator("#x1")
    assert article.locator(".summary h4 bdi").all_inner_texts() == ["SFT", "DPO"]
    assert article.locator(".differs").all_inner_texts() == ["12 hours", "morning"]
    assert page.locator("#x2 .differs").count() == 0
    assert page.locator("article [data-of=reference]").count() == 3
    weight = "each => getComputedStyle(each).fontWeight"
    bold = article.locator(".differs").first
    assert bold.evaluate(weight) == "600"
    page.get_by_label("Show differences").uncheck()
    assert bold.evaluate(weight) == "400"
    assert not re.search(r"\b(First|Second)\b", page.locator("main").inner_text())
    assert shown(page) == list(NOTES)


@pytest.mark.parametrize("name", ["sft/report.html", "out/comparison.html"])
def test_controls_can_be_reached_at_390_pixels(name: str, page: Page, folder: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto((folder / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for control in page.locator(".bar :is(input, select, button), .marks button").all():
        box = control.bounding_box()
        assert box
        assert 0 <= box["x"] < box["x"] + box["width"] <= 390
    sides = [side.bounding_box() for side in page.locator("#x1 :is(.note, .summary)").all()]
    assert len({box["x"] for box in sides if box}) == 1  # one below the other


def test_an_example_that_fits_on_a_page_is_never_split_in_print(page: Page) -> None:
    """Three examples, each of 60% of a page: each on a page of its own, after what is printed before them."""
    page.emulate_media(media="print")
    assert page.locator("article").first.evaluate("each => getComputedStyle(each).breakInside") == "avoid"
    page.evaluate("""() => {
        document.querySelectorAll("main > :not(section:last-of-type)").forEach(each => each.remove());
        for (const each of document.querySelectorAll("article")) each.style.height = "60vh";
    }""")
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    for article in page.locator("article").all():
        article.evaluate("each => { each.style.breakInside = 'auto'; }")
    split = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    assert pages == 3
    assert split < pages
    assert page.locator(".marks button").first.is_hidden()
