"""The single-key form without a terminal: what each key stores, and what the screen shows at 80x24 and 140x50."""

from __future__ import annotations

from pathlib import Path

import pytest

from assessment.desk import Desk
from assessment.examples import Example
from assessment.key_form import KeyForm
from assessment.ratings import Rating, RatingBook
from assessment.screen import cells

SIZES = [(79, 24), (139, 50)]
SUMMARY = "A 64-year-old man, on metformin 500 mg and aspirin 500 mg. No pain."
PHRASES = ["A 64-year-old man,", "on metformin 500 mg", "and aspirin 500 mg.", "No pain."]
MANY = ", ".join(f"finding number {number}" for number in range(1, 13)) + "."


def form_of(
    folder: Path, count: int = 4, summary: str = SUMMARY, note: str = "Takes metformin.", **how: bool
) -> KeyForm:
    examples = [Example(f"e{i}", f"Note {i}. {note}", f"{summary}") for i in range(count)]
    return opened(Desk(examples, RatingBook(folder / "manual_assessment.json"), "KM", **how))


def opened(desk: Desk, size: tuple[int, int] = SIZES[0]) -> KeyForm:
    form = KeyForm(desk)
    if not form.finished:
        form.view(*size)
    return form


def press(form: KeyForm, keys: str, size: tuple[int, int] = SIZES[0]) -> str:
    """Press keys, separated by spaces, drawing the screen after each as the terminal does. Returns the last screen."""
    text = ""
    for key in keys.split():
        form.press(key)
        text = "" if form.finished else "\n".join(form.view(*size))
    return text


def stored(form: KeyForm, number: int = 0) -> Rating:
    """Return what the file says of one example."""
    book = RatingBook(form.desk.book.path)
    return book.ratings["KM", form.desk.examples[number].text_sha256]


def test_a_no_is_one_key_and_a_yes_with_words_is_three(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    assert "Saved: not hallucinated." in press(form, "n")
    assert "Saved: contradiction, minor." in press(form, "y 2 7")
    assert stored(form, 0).verdict == "not hallucinated"
    rating = stored(form, 1)
    (error,) = rating.errors
    assert (error.kind, error.severity, error.text) == ("contradiction", "minor", PHRASES[1])
    assert SUMMARY[error.start : error.end] == PHRASES[1]
    assert rating.blind
    assert form.index == 2


def test_each_answer_is_stored_at_once_and_asked_for_again_after_a_kill(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    press(form, "y")
    assert stored(form).draft is not None
    again = form_of(tmp_path)
    assert "You had begun a yes here." in "\n".join(again.view(79, 24))
    press(again, "3")
    assert stored(form).draft.error.text == PHRASES[2]  # type: ignore[union-attr]
    assert stored(form).verdict is None  # without a kind it does not count
    again = form_of(tmp_path)
    assert f'"{PHRASES[2]}"' in "\n".join(again.view(79, 24))
    press(again, "1")
    assert [error.text for error in stored(form).errors] == [PHRASES[2]]
    assert stored(form).draft is None


def test_rating_again_replaces_errors_and_a_adds_one_even_after_a_kill(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    press(form, "y 1 1 a 2")  # a: of the summary just rated
    assert [error.text for error in stored(form).errors] == [PHRASES[0]]
    form = form_of(tmp_path)
    press(form, "5")
    assert [error.text for error in stored(form).errors] == [PHRASES[0], PHRASES[1]]
    press(form, "b y 4")
    assert len(stored(form).errors) == 2  # until the new error has a kind
    form = form_of(tmp_path)
    press(form, "8")
    assert [error.text for error in stored(form).errors] == [PHRASES[3]]


def test_back_takes_a_yes_back_at_every_question(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    press(form, "n b")
    press(form, "y 2 b b")
    assert form.message == "Your yes was taken back. "
    assert (stored(form).verdict, stored(form).draft) == ("not hallucinated", None)
    assert "Enter: keep   y: yes" in press(form, "b")
    assert form.message == "This is the first summary. "
    press(form, "enter")
    assert form.index == 1


def test_numbers_of_two_digits_wait_for_the_second_digit_only_where_there_is_one(tmp_path: Path) -> None:
    form = form_of(tmp_path, summary=MANY)
    press(form, "y 2 1")  # 12 phrases: none from 20 on
    press(form, "y 1 2 1")
    assert "1_ (Enter: 1)" in press(form, "y 1")
    press(form, "enter 1")
    press(form, "y 1 backspace 3 1")
    words = [stored(form, number).errors[0].text for number in range(4)]
    assert words == [
        f"finding number {number}" + "." * (number == 12) + "," * (number < 12) for number in (2, 12, 1, 3)
    ]
    assert form.complete


def test_a_number_that_no_phrase_has_stores_nothing(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    assert "The phrases have the numbers 1 to 4." in press(form, "y 9")
    assert "The phrases have the numbers 1 to 4." in press(form, "0")
    assert "x is not a key here." in press(form, "x")
    assert stored(form).draft.error.text == ""  # type: ignore[union-attr]


def test_words_are_widened_by_phrases_and_to_the_sentence(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    shown = press(form, "y 2 +")
    assert f'"{PHRASES[1]} {PHRASES[2][:15]}' in shown  # the end may be cut
    press(form, "+")
    assert "There is no further phrase." in press(form, "+")
    press(form, "b 2 w 1")
    assert stored(form).errors[0].text == " ".join(PHRASES[:3])
    press(form, "y enter 2")
    assert (stored(form, 1).errors[0].text, stored(form, 1).errors[0].start) == ("", None)


def test_the_place_of_typed_words_that_occur_twice_is_asked(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    press(form, "y t")
    form.submit("aspirin 400 mg")
    assert form.message == "These words are not in the summary. "
    press(form, "t")
    form.submit("500\nmg")
    assert "2  ...ormin 500 mg and aspirin [500 mg]. No pain." in "\n".join(form.view(79, 24))
    press(form, "2 1")
    assert stored(form).errors[0].start == SUMMARY.rindex("500 mg")


def test_keys_are_never_stored_as_text(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    press(form, "o")
    form.submit("N")
    assert "N is a key of this tool, so it was not stored." in form.message
    form.submit("denies fever")
    form.submit("b")  # ends the omissions
    press(form, "c")
    form.submit("'q'")
    assert (stored(form).omissions, stored(form).comment) == (["denies fever"], "q")
    press(form, "o")
    form.submit("-")
    form.submit("")
    press(form, "c")
    form.cancel()
    assert (stored(form).omissions, stored(form).comment, stored(form).verdict) == ([], "q", None)
    press(form, "y t")
    form.submit("q")
    assert form.finished
    assert not form.complete


@pytest.mark.parametrize("size", SIZES)
def test_an_unread_note_is_warned_of_before_a_no(tmp_path: Path, size: tuple[int, int]) -> None:
    form = form_of(tmp_path, note="Denies pain.\n" * 70 + "Takes insulin.")
    form.view(*size)
    pages = form.pages
    assert pages > 1
    shown = press(form, "n", size)
    assert f"{pages - 1} of {pages} pages are unread; nothing is saved." in shown
    assert not form.desk.book.path.exists()
    assert f"page 2 of {pages}" in press(form, "space", size)
    assert "page 1" in press(form, "p", size)
    press(form, "n n", size)  # twice: no, all the same
    assert (form.index, stored(form).verdict) == (1, "not hallucinated")
    press(form, "space " * (pages - 1) + "n", size)
    assert form.index == 2
    assert f"{pages - 1} of {pages} pages are unread." in press(form, "y", size)  # a yes is not held up


@pytest.mark.parametrize("size", SIZES)
def test_search_goes_from_place_to_place(tmp_path: Path, size: tuple[int, int]) -> None:
    note = "Takes insulin.\n" + "Denies pain.\n" * 70 + "Insulin again."
    form = form_of(tmp_path, note=note)
    form.view(*size)
    press(form, "/", size)
    form.submit("INSULIN  again")
    assert form.page == form.pages - 1
    press(form, "/", size)
    form.submit("insulin")
    assert form.page == 0
    press(form, "y /", size)  # also while a question is answered
    form.submit("")
    assert form.page == form.pages - 1
    assert "Which phrase is not supported" in "\n".join(form.view(*size))
    press(form, "/", size)
    form.submit("back")  # a word to look for, and no key: a search stores nothing
    assert form.message == '"back" is not in the note. '
    press(form, "/", size)
    form.submit("aspirin")  # in the summary, not in the note
    assert form.message == '"aspirin" is not in the note. '


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", ["", "y", "y 2", "y t", "n", "?", "t", "y 2 1", "o"])
def test_every_screen_fits_and_shows_the_note_with_the_numbered_summary(
    tmp_path: Path, size: tuple[int, int], keys: str
) -> None:
    form = form_of(tmp_path, note="Denies pain 患者. " * 30, rate_completeness=True)
    press(form, keys, size)
    lines = form.view(*size)
    assert len(lines) == size[1]
    assert max(map(cells, lines)) <= size[0]
    if keys not in ("?", "t"):
        text = "\n".join(lines)
        assert "Denies pain" in text
        assert f"[1] {PHRASES[0]}" in text
    assert lines[-1] == "" or form.typing is None  # room for the input line


@pytest.mark.parametrize("size", SIZES)
def test_the_keys_of_a_question_are_on_the_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    form = form_of(tmp_path)
    assert "q: quit" in "\n".join(form.view(*size))
    shown = press(form, "y 2", size)
    for text in ("contradiction: the note says the opposite or something else", "+: next phrase", "  4      8"):
        assert text in shown
    assert "?: all keys" in press(form, "1", size)


@pytest.mark.parametrize("size", SIZES)
def test_the_summaries_of_one_note_are_next_to_each_other(tmp_path: Path, size: tuple[int, int]) -> None:
    examples = [Example(name, "Takes aspirin.", f"{name} aspirin 500 mg.") for name in ("first", "second")]
    desk = Desk(examples, RatingBook(tmp_path / "manual_assessment.json"), "KM", mixed=True)
    form = opened(desk, size)
    lines = form.view(*size)
    assert any("Summary A, rate this one:" in line and "| Summary B:" in line for line in lines)
    assert any("[1] first aspirin" in line and "second aspirin" in line for line in lines)
    text = press(form, "n", size)
    assert "[1] second aspirin" in text
    assert "not hallucinated" in text  # the rating of the first


def test_a_long_summary_is_read_in_pages_as_well(tmp_path: Path) -> None:
    form = form_of(tmp_path, summary=f"{MANY} " * 9)
    assert form.pages > 1
    seen = "".join(press(form, "space") for _ in range(form.pages))
    assert "Takes metformin." in seen
    assert [number for number in range(1, 109) if f"[{number}] " not in seen] == []


def test_another_size_of_the_terminal_makes_pages_unread_again(tmp_path: Path) -> None:
    form = form_of(tmp_path, note="Denies pain.\n" * 20)
    assert form.pages == 2
    press(form, "space")
    form.view(79, 20)
    assert "pages are unread" in press(form, "n", (79, 20))


def test_completeness_is_one_more_key(tmp_path: Path) -> None:
    form = form_of(tmp_path, rate_completeness=True)
    assert "How complete is the summary?" in press(form, "n")
    press(form, "4")
    assert stored(form).completeness is None
    press(form, "2 y 1 1 0")
    assert (stored(form).completeness, stored(form, 1).completeness, form.index) == (2, 0, 2)


def test_the_end_and_skipped_summaries(tmp_path: Path) -> None:
    form = form_of(tmp_path, count=2)
    assert "Summary 2 of 2" in press(form, "s")
    press(form, "n")
    assert form.complete
    assert form.desk.skipped_now == {form.desk.examples[0].text_sha256}
    assert stored(form).verdict == "skipped"
    form = form_of(tmp_path, count=2)
    assert form.index == 0
    press(form, "q")
    assert (form.finished, form.complete) == (True, False)


def test_back_as_a_word_of_the_summary_is_not_taken_for_the_key_in_silence(tmp_path: Path) -> None:
    form = form_of(tmp_path, summary="Has back pain, no fever.")
    press(form, "y t")
    form.submit("back")
    assert "put it in quotes" in form.message
    form.submit('"back"')
    assert (form.error.text, stored(form).verdict) == ("back", None)


def test_a_second_yes_says_that_it_replaces_the_stored_errors(tmp_path: Path) -> None:
    form = form_of(tmp_path)
    press(form, "y 2 7 a 3 5 b")
    assert len(stored(form).errors) == 2
    assert "This replaces the 2 errors stored;" in press(form, "y")
    assert "replaces" not in press(form, "b a")
    press(form, "4 8")
    assert len(stored(form).errors) == 3


def test_the_question_for_a_phrase_names_the_numbers_there_are(tmp_path: Path) -> None:
    assert "Type its number, 1 to 4." in press(form_of(tmp_path), "y")
    assert "Type 1 for the only one." in press(form_of(tmp_path, summary="No pain."), "y")


def test_a_small_terminal_says_that_it_shows_one_of_several_summaries(tmp_path: Path) -> None:
    examples = [Example(name, "Takes aspirin.", f"{name} aspirin 500 mg.") for name in ("first", "second", "third")]
    desk = Desk(examples, RatingBook(tmp_path / "manual_assessment.json"), "KM", mixed=True)
    assert "Summary A of 3; a larger terminal shows the others:" in "\n".join(opened(desk).view(*SIZES[0]))
    assert "Summary A, rate this one:" in "\n".join(opened(desk).view(*SIZES[1]))
