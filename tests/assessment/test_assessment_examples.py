"""What is rated: one CSV or several, which examples of them, and in whose order."""

from __future__ import annotations

from pathlib import Path

import pytest

from assessment.examples import Example, Source, choose_examples, load_source, load_sources
from script_io.csv_files import write_csv
from script_io.errors import InputError

COLUMNS = ("example_id", "clinical_note", "generated_summary", "has_hallucination")


def write(path: Path, *rows: tuple[str, str, str, str]) -> Path:
    write_csv(path, COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
    return path


def source(count: int, words: str = "summary") -> Source:
    return Source(Path(words), [Example(f"e{i}", f"note {i}", f"{words} {i}") for i in range(count)])


def ids(examples: list[Example]) -> list[str]:
    return [example.example_id for example in examples]


def chosen(sources: list[Source], assessor: str = "assessor", blind: bool = False, **window: int) -> list[Example]:
    start, count = window.get("start", 0), window.get("count")
    own = assessor != "assessor" or len(sources) > 1
    return choose_examples(sources, assessor, blind=blind, start=start, count=count, own_order=own)


def test_rows_and_their_automatic_verdict(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", ("a", "n", "s", "1"), ("b", "n", "t", "0.0"), ("c", "n", "u", ""))
    assert [example.flagged for example in load_source(path).examples] == [True, False, None]
    assert load_source(path).examples[0].automatic == "has_hallucination 1"


def test_a_repeated_text_is_rated_once(tmp_path: Path) -> None:
    loaded = load_source(write(tmp_path / "r.csv", ("a", "n", "s", ""), ("b", "n", "s", ""), ("c", "m", "s", "")))
    assert ids(loaded.examples) == ["a", "c"]
    assert loaded.repeated == 1


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (("a", "m", "t", ""), r"r.csv, line 3: example_id a is already used on line 2"),
        (("b", " ", "t", ""), r"r.csv, line 3: the clinical_note is empty"),
        (("b", "m", "t", "maybe"), r"r.csv, line 3: has_hallucination is 'maybe'; write 1 or 0"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, second: tuple[str, str, str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_source(write(tmp_path / "r.csv", ("a", "n", "s", ""), second))


def test_two_files_are_paired_by_note(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", ("a", "n", "s", ""), ("b", "m", "s", ""), ("c", "only here", "s", ""))
    second = write(tmp_path / "2.csv", ("x", "m", "t", ""), ("y", "n", "t", ""))
    sources = load_sources([first, second], blind=True)
    assert [ids(source.examples) for source in sources] == [["a", "b"], ["y", "x"]]
    assert [source.unpaired for source in sources] == [1, 0]


def test_several_files_keep_the_notes_that_are_in_all(tmp_path: Path) -> None:
    rows = [("a", "n", "s", ""), ("b", "m", "s", ""), ("c", "k", "s", "")]
    paths = [write(tmp_path / f"{i}.csv", *chosen) for i, chosen in enumerate((rows, rows[::-1], rows[:2], rows[1:]))]
    sources = load_sources(paths, blind=True)
    assert [ids(source.examples) for source in sources] == [["b"]] * 4
    assert [source.unpaired for source in sources] == [2, 2, 1, 1]


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", ("a", "n", "s", ""))
    other = write(tmp_path / "2.csv", ("a", "m", "s", ""))
    twice = write(tmp_path / "3.csv", ("a", "n", "s", ""), ("b", "n", "t", ""))
    with pytest.raises(InputError, match="several files are rated blind only"):
        load_sources([first, other], blind=False)
    with pytest.raises(InputError, match=r"1\.csv is named twice"):
        load_sources([first, tmp_path / "." / "1.csv"], blind=True)
    with pytest.raises(InputError, match="no note is in all files"):
        load_sources([first, other], blind=True)
    with pytest.raises(InputError, match=r"3\.csv: examples a and b have the same note"):
        load_sources([first, twice], blind=True)


def test_the_file_s_order_unless_blind() -> None:
    assert ids(chosen([source(9)], start=3, count=2)) == ["e3", "e4"]
    blind = chosen([source(20)], blind=True)
    assert blind == chosen([source(20)], blind=True)
    assert ids(blind) != ids(source(20).examples)
    assert sorted(ids(blind)) == sorted(ids(source(20).examples))


@pytest.mark.parametrize("blind", [False, True])
def test_assessors_get_the_same_examples_in_orders_of_their_own(blind: bool) -> None:
    orders = [ids(chosen([source(50)], name, blind, start=5, count=12)) for name in ("assessor", "KM", "JS", "KM")]
    assert orders[1] == orders[3]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1
    for name in "ABCDEFGH":  # even of two examples the order is another than the file's
        assert ids(chosen([source(2)], name)) == ["e1", "e0"]


def test_two_models_are_mixed_and_a_window_holds_both_summaries_of_a_note() -> None:
    sources = [source(30, "one"), source(30, "two")]
    examples = chosen(sources, blind=True, count=10)
    assert len(examples) == 20
    notes = [example.clinical_note for example in examples]
    assert all(notes.count(note) == 2 for note in notes)
    models = [example.generated_summary[:3] for example in examples]
    assert models.count("one") == 10
    assert models not in (["one"] * 10 + ["two"] * 10, ["one", "two"] * 10)


def test_a_window_of_many_models_holds_all_summaries_of_a_note() -> None:
    names = ["one", "two", "three", "four", "five"]
    examples = chosen([source(30, name) for name in names], blind=True, count=10)
    assert len({(example.clinical_note, example.generated_summary) for example in examples}) == 50
    assert len({example.clinical_note for example in examples}) == 10
    first_ten = {example.generated_summary.split()[0] for example in examples[:10]}
    assert len(first_ten) == 5  # two notes with all their summaries
    order = [[example.generated_summary.split()[0] for example in examples[i : i + 5]] for i in range(0, 50, 5)]
    assert all(sorted(each) == sorted(names) for each in order)
    assert len(set(map(tuple, order))) > 2  # the models of each note are in an order of their own


def test_summaries_of_one_note_in_one_file_follow_one_another_when_they_are_shuffled() -> None:
    pairs = Source(Path("r"), [Example(f"e{i}", f"note {i % 6}", f"summary {i}") for i in range(12)])
    notes = [example.clinical_note for example in chosen([pairs], "KM", blind=True)]
    assert notes[0::2] == notes[1::2]
    assert ids(chosen([pairs])) == ids(pairs.examples)  # the order of the file otherwise


def test_equal_summaries_of_two_models_are_rated_once() -> None:
    first, second = source(5), source(5)
    second.examples[0] = Example("x", "note 0", "another summary")
    assert len(chosen([first, second], blind=True)) == 6


@pytest.mark.parametrize(
    ("start", "count", "words"), [(20, 1, "0 to 19"), (-1, 1, "0 to 19"), (0, 0, "must be at least 1")]
)
def test_a_window_outside_the_file_is_refused(start: int, count: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        chosen([source(20)], start=start, count=count)
