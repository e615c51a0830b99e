"""The words of an error in the summary, and the file of ratings with several writers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assessment.ratings import Draft, Rating, RatingBook, SummaryError, find_all_words, find_words, text_sha256
from script_io.errors import InputError
from script_io.files import write_json

SUMMARY = "Takes  Metformin\n850 mg twice daily; the patient’s pain – none."


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("850 mg", "850 mg"),
        ("  metformin 850 MG ", "Metformin\n850 mg"),  # pasted over a line end, in another case
        ("takes metformin", "Takes  Metformin"),
        ("patient's pain - none", "patient’s pain – none"),  # typed
        (SUMMARY, SUMMARY),
    ],
)
def test_words_are_found_in_spite_of_white_space_case_and_quotes(words: str, found: str) -> None:
    place = find_words(words, SUMMARY)
    assert place is not None
    assert SUMMARY[slice(*place)] == found


@pytest.mark.parametrize("words", ["500 mg", "850mg", "", "  \n "])
def test_words_that_are_not_there(words: str) -> None:
    assert find_words(words, SUMMARY) is None


def test_places_count_the_summary_s_own_characters() -> None:
    assert find_words("b", "a\u200b\x1bb b") == (3, 4)  # characters that are not shown have their place too
    assert find_words("strasse 5", "Straße 5.") == (0, 8)  # a letter that becomes two in lower case
    assert find_words("b", "b b") == (0, 1)
    assert find_words("b", "") is None


def test_every_place_of_the_words_is_found_and_whole_words_come_first() -> None:
    assert find_all_words("500 mg", "500 mg, then 500  MG, not 1500 mg") == [(0, 6), (13, 20)]
    assert find_all_words("his", "history of his pain") == [(11, 14)]
    assert find_all_words("hist", "history") == [(0, 4)]  # parts of words, where no whole word is meant
    assert find_all_words("", "a") == []


def test_names_are_joined_across_case_and_the_later_rating_counts(tmp_path: Path) -> None:
    rows = [
        {**RATING, "assessor": name, "verdict": verdict, "errors": [], "rated_at": at, "text_sha256": text}
        for name, verdict, at, text in (
            ("JS", "hallucinated", "2026-01-02", "t"),
            ("js", "not hallucinated", "2026-01-01", "t"),
            ("Js ", "skipped", "2026-01-01", "u"),
        )
    ]
    write_json(tmp_path / "m.json", {"version": 2, "ratings": rows})
    book = RatingBook(tmp_path / "m.json")
    assert {key: rating.verdict for key, rating in book.ratings.items()} == {
        ("JS", "t"): "hallucinated",
        ("JS", "u"): "skipped",
    }
    assert book.joined_names == ["Js ", "js"]
    assert (book.spelling_of("jS"), book.spelling_of("KM")) == ("JS", "KM")


def test_a_draft_survives_the_file_and_counts_nowhere(tmp_path: Path) -> None:
    draft = Draft(SummaryError("", "", 2, 8, "850 mg"), adds=True)
    rating = Rating("KM", "t", "a", "not hallucinated", draft=draft)
    RatingBook(tmp_path / "m.json").save(rating)
    (read,) = RatingBook(tmp_path / "m.json").ratings.values()
    assert read == rating
    assert not read.is_complete


def test_a_rating_survives_the_file(tmp_path: Path) -> None:
    error = SummaryError("contradiction", "major", 2, 8, "850 mg")
    rating = Rating("KM", text_sha256("n", "s"), "a", "hallucinated", [error], ["fever"], "see", True, 2.5, "2026", 2)
    RatingBook(tmp_path / "m.json").save(rating)
    assert RatingBook(tmp_path / "m.json").ratings == {("KM", text_sha256("n", "s")): rating}


def test_a_file_from_before_completeness_was_asked_is_read(tmp_path: Path) -> None:
    row = {**RATING, "verdict": "not hallucinated", "errors": [], "omissions": [], "comment": ""}
    row |= {"blind": True, "seconds": 1.5, "rated_at": ""}
    write_json(tmp_path / "m.json", {"version": 2, "ratings": [row]})
    (rating,) = RatingBook(tmp_path / "m.json").ratings.values()
    assert (rating.is_complete, rating.completeness) == (True, None)


def test_a_rating_belongs_to_note_and_summary() -> None:
    assert len({text_sha256("n", "s"), text_sha256("n", "s2"), text_sha256("n2", "s"), text_sha256("ns", "")}) == 4


def test_what_is_left_to_ask_after_a_broken_sitting() -> None:
    def rated(verdict: str | None, *errors: SummaryError) -> Rating:
        return Rating("KM", "", "", verdict, list(errors))

    assert rated("not hallucinated").is_complete
    assert rated("hallucinated", SummaryError("contradiction", "minor")).is_complete
    for open_rating in (rated(None), rated("skipped"), rated("hallucinated"), rated("hallucinated", SummaryError())):
        assert not open_rating.is_complete
    assert rated("hallucinated").is_given  # the verdict counts, its reason is missing
    assert not rated("skipped").is_given


SAVE_MANY = """
import sys
from pathlib import Path
from assessment.ratings import Rating, RatingBook
book = RatingBook(Path(sys.argv[1]))
for number in range(40):
    book.save(Rating(sys.argv[2], f"text {number}", f"{number}", "not hallucinated"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_sittings_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "manual_assessment.json"
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", SAVE_MANY, str(path), name], cwd=root) for name in ("KM", "JS", "AB")
    ]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    assert len(RatingBook(path).ratings) == 120
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


RATING = {"assessor": "KM", "text_sha256": "", "example_id": "a"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"ratings": []}, "not written by this version of the tool"),  # the first version had no number
        ([], "not written by this version of the tool"),
        ({"version": 2}, "not a list of ratings"),
        ({"version": 2, "ratings": [{**RATING, "verdict": "maybe", "errors": []}]}, "not a list of ratings"),
        ({"version": 2, "ratings": [{**RATING, "errors": [{"kind": "dose"}]}]}, "not a list of ratings"),
        ({"version": 2, "ratings": [{**RATING, "errors": [], "colour": "red"}]}, "not a list of ratings"),
        ({"version": 2, "ratings": [{**RATING, "errors": [], "completeness": 4}]}, "not a list of ratings"),
        ({"version": 2, "ratings": [{**RATING, "errors": [], "completeness": True}]}, "not a list of ratings"),
        ({"version": 2, "ratings": [{**RATING, "errors": [], "completeness": "2"}]}, "not a list of ratings"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, content: object, words: str) -> None:
    write_json(tmp_path / "m.json", content)
    with pytest.raises(InputError, match=words) as caught:
        RatingBook(tmp_path / "m.json")
    assert "move it aside" in str(caught.value)
    assert json.loads((tmp_path / "m.json").read_text()) == content
