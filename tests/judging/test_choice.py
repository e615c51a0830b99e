"""Which judge a command line chooses, and what it refuses."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging import choice
from judging.choice import FactsJudge, add_judge_arguments, judge_of_arguments, make_judge
from script_io.errors import InputError

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever. Pain in the left knee."
SUMMARY = "Takes metformin 850 mg. Denies fever."


@pytest.mark.parametrize(
    "address", ["https://example.org/v1", "http://localhost.example.org/v1", "http://127.0.0.1@example.org/v1"]
)
def test_notes_leave_the_machine_only_with_consent(address: str) -> None:
    with pytest.raises(InputError, match="add --yes"):
        make_judge("openai", "m", base_url=address)
    assert make_judge("openai", "m", base_url=address, assume_yes=True).name == "openai:m"


def test_settings_that_a_judge_would_not_read_are_refused() -> None:
    with pytest.raises(InputError, match="--judge_model is not for --judge facts"):
        make_judge("facts", "some/model")
    for name in ("facts", "nli"):
        with pytest.raises(InputError, match="--judge_base_url is for --judge openai"):
            make_judge(name, "some/model", base_url="http://localhost/v1")
        with pytest.raises(InputError, match="--rubric is for --judge openai; leave it out"):
            make_judge(name, "some/model", rubric="risk")
    with pytest.raises(InputError, match="is no address"):
        make_judge("openai", "m", base_url="localhost:8000/v1")


def test_facts_judge_is_the_fact_checker() -> None:
    judge = make_judge("facts")
    assert isinstance(judge, FactsJudge)
    assert judge.check(NOTE, SUMMARY) == check_summary(NOTE, SUMMARY)
    assert judge.check_all([(NOTE, SUMMARY), (NOTE, "")], "Judging") == [check_summary(NOTE, SUMMARY), FactCheck(())]
    assert judge.usage is None


def test_only_a_script_that_keeps_grades_offers_a_rubric() -> None:
    parser = argparse.ArgumentParser()
    add_judge_arguments(parser, with_rubric=True)
    command = ["--judge", "openai", "--judge_model", "m", "--judge_base_url", "http://localhost:8000/v1"]
    assert judge_of_arguments(parser.parse_args([*command, "--rubric", "risk"])).name == "openai:m, rubric risk"
    parser = argparse.ArgumentParser()
    add_judge_arguments(parser)
    assert judge_of_arguments(parser.parse_args(command)).name == "openai:m"
    with pytest.raises(SystemExit):
        parser.parse_args([*command, "--rubric", "risk"])


def test_threads_are_set_for_a_judge_with_a_model_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []
    monkeypatch.setattr(choice, "use_threads", lambda threads, hidden_size: asked.append(threads))
    parser = argparse.ArgumentParser()
    add_judge_arguments(parser)
    remote = ["--judge", "openai", "--judge_base_url", "http://localhost:8000/v1"]
    for words in ([], remote):
        judge_of_arguments(parser.parse_args(words), num_threads=3)
    assert not asked
    for flags in (["--evidence_model"], ["--judge", "detector", "--judge_model"], ["--judge", "nli", "--judge_model"]):
        with pytest.raises(InputError):  # the folder holds no model; the threads come first
            judge_of_arguments(parser.parse_args([*flags, str(tmp_path)]), "cpu", 3)
    assert asked == [3, 3, 3]
