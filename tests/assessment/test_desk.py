"""Which ratings are blind, which of them count for several models, and which draws are left to settle."""

from __future__ import annotations

from pathlib import Path

import pytest

from assessment.desk import Desk
from assessment.examples import Example
from assessment.ratings import HALLUCINATED, NOT_HALLUCINATED, Rating, RatingBook
from assessment.report import report
from manual_assessment_tool import RATINGS_FILE, open_desk, parse_args
from script_io.csv_files import write_csv
from script_io.errors import InputError

EXAMPLES = [Example(f"e{i}", f"note {i}", f"summary {i}", flagged=True) for i in range(3)]


def desk_of(folder: Path, *, blind: bool) -> Desk:
    return Desk(EXAMPLES, RatingBook(folder / RATINGS_FILE), "KM", blind=blind, rate_completeness=True)


def test_who_has_seen_the_verdict_of_a_summary_cannot_rate_it_blind_later(tmp_path: Path) -> None:
    rated, seen, other = EXAMPLES
    shown = desk_of(tmp_path, blind=False)
    shown.opened(rated)
    shown.say_no(rated)
    shown.opened(seen)  # and no answer
    later = desk_of(tmp_path, blind=True)
    for example in EXAMPLES:
        later.opened(example)
        later.say_no(example)
    assert [later.stored(example).blind for example in EXAMPLES] == [False, False, True]
    assert later.stored(other).verdict == NOT_HALLUCINATED


def test_completeness_that_is_added_with_the_verdict_in_view_leaves_no_blind_rating(tmp_path: Path) -> None:
    blind, *_ = EXAMPLES
    desk_of(tmp_path, blind=True).say_no(blind)
    shown = desk_of(tmp_path, blind=False)
    shown.opened(blind)
    assert shown.stored(blind).blind  # looking later changes no earlier answer
    shown.store_completeness(blind, 2)
    assert not shown.stored(blind).blind


def results(folder: Path, name: str) -> Path:
    rows = [[f"e{i}", f"note {i}", f"{name} {i}"] for i in range(2)]
    columns = ("example_id", "clinical_note", "generated_summary")
    write_csv(folder / f"{name}.csv", columns, [dict(zip(columns, row, strict=True)) for row in rows])
    return folder / f"{name}.csv"


def store(folder: Path, assessor: str, letter: str, summary: str, **rest: bool) -> None:
    example = Example("e", f"note {summary[-1]}", summary)
    verdict = {"y": HALLUCINATED, "n": NOT_HALLUCINATED}[letter]
    RatingBook(folder / RATINGS_FILE).save(Rating(assessor, example.text_sha256, "e", verdict, **rest))


def test_of_several_models_only_summaries_that_can_be_rated_blind_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--assessor", "KM", "--results_csv", *(str(results(tmp_path, name)) for name in ("sft", "dpo"))]
    store(tmp_path, "KM", "y", "sft 0", blind=False, verdict_shown=True)
    _, desk = open_desk(parse_args(flags))
    assert sorted(example.generated_summary for example in desk.examples) == ["dpo 0", "dpo 1", "sft 1"]
    assert "KM has seen the automatic verdicts of 1 of the 4 summaries" in capsys.readouterr().out
    for summary in ("sft 1", "dpo 0", "dpo 1"):
        store(tmp_path, "KM", "y", summary, blind=False)
    with pytest.raises(InputError, match="of 4 of the 4 summaries, so that no rating would be blind"):
        open_desk(parse_args(flags))


def test_the_draws_to_settle_are_those_of_the_report(tmp_path: Path) -> None:
    """Of two models, a rating that was not blind makes no draw; an adjudication without a severity settles one."""
    flags = ["--results_csv", *(str(results(tmp_path, name)) for name in ("sft", "dpo"))]
    adjudicate = [*flags, "--adjudicate", "--assessor", "AB"]
    store(tmp_path, "KM", "y", "sft 0", blind=True)
    store(tmp_path, "JS", "n", "sft 0", blind=False)
    sources, desk = open_desk(parse_args(flags))
    assert "Draws:" not in report(sources, desk.book.ratings.values())
    with pytest.raises(InputError, match="no draw is left to settle"):
        open_desk(parse_args(adjudicate))
    store(tmp_path, "CD", "n", "sft 0", blind=True)
    sources, desk = open_desk(parse_args(adjudicate))
    assert "Draws:                  1" in report(sources, desk.book.ratings.values())
    assert [example.generated_summary for example in desk.examples] == ["sft 0"]
    assert {rating.assessor for rating in desk.others(desk.examples[0])} == {"KM", "CD"}
    store(tmp_path, "EF", "y", "sft 0", blind=True, adjudication=True)
    sources, desk = open_desk(parse_args(flags))
    assert "Draws:" not in report(sources, desk.book.ratings.values())
    with pytest.raises(InputError, match="no draw is left to settle"):
        open_desk(parse_args(adjudicate))
