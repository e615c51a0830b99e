"""Judging goes on where it was stopped: the same files byte for byte, nothing judged twice, tokens added up."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fake_server import Server

from clinical.lexicons import remove_lexicon_dir
from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck, SentenceDoubt
from judge_completions import judge_settings, main, parse_args
from judging import kept_checks
from judging.choice import FactsJudge, judge_of_arguments, make_judge
from judging.judge import NoteAndSummary
from judging.kept_checks import NAME, KeptChecks, check_of, parts_of
from language_model.prompt_format import build_prompt
from script_io.files import write_jsonl
from script_io.partial_file import PartialFile

NOTE = "A {age}-year-old woman takes metformin 500 mg twice daily. Pain in the left knee."
TEXTS = (
    "A {age}-year-old woman takes metformin 500 mg twice daily and has left knee pain.",
    "{age}-year-old woman on metformin 850 mg twice daily, left knee pain. Her sister has gout.",
    "{age}-year-old woman on metformin 500 mg twice daily, right knee pain.",
)
PROMPTS = 9


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(kept_checks, "PART_SUMMARIES", 6)  # two prompts
    rows = [
        {
            "id": f"r{age}",
            "prompt": build_prompt(NOTE.format(age=age)),
            "reference": TEXTS[0].format(age=age),
            "completions": [text.format(age=age) for text in TEXTS],
        }
        for age in range(40, 40 + PROMPTS)
    ]
    write_jsonl(tmp_path / "completions.jsonl", rows)
    return ["--completions_path", str(tmp_path / "completions.jsonl"), "--repair", "fallback", "--output_dir"]


def judge(*flags: str) -> None:
    assert main(parse_args(list(flags))) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def judged_texts(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[NoteAndSummary]:
    """Note what the rules are asked; interrupt them at a part."""
    asked: list[NoteAndSummary] = []
    number, check_all = count(), FactsJudge.check_all

    def noted(self: FactsJudge, pairs: list[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        if next(number) == stop_at:
            raise KeyboardInterrupt
        asked.extend(pairs)
        return check_all(self, pairs, progress)

    monkeypatch.setattr(FactsJudge, "check_all", noted)
    return asked


@pytest.mark.parametrize("stop_at", [1, 4])  # among the references, of 2 parts, and among the completions, of 5
def test_an_interrupted_run_goes_on_and_writes_the_same(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stop_at: int,
) -> None:
    whole = tmp_path / "whole"
    with monkeypatch.context() as patch:
        everything = judged_texts(patch)
        judge(*command, str(whole))
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        before = judged_texts(patch, stop_at)
        with pytest.raises(KeyboardInterrupt):
            judge(*command, str(out))
    said = f"{out / NAME} keeps the results so far; the same command goes on from there.\n"
    assert said in capsys.readouterr().err
    assert contents(out).keys() == {NAME}
    assert contents(out)[NAME].count(b"\n") == 1 + stop_at
    with (out / NAME).open("ab") as handle:
        handle.write(b'{"part": "torn')
    after = judged_texts(monkeypatch)
    judge(*command, str(out))
    assert "summaries are judged already" in capsys.readouterr().out
    assert before + after == everything
    assert len(before) > 0 < len(after)
    assert contents(out) == contents(whole)
    assert json.loads(contents(out)["judge_stats.json"])["pairs"] == PROMPTS


def test_verdicts_of_another_judge_are_not_used(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        judged_texts(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            judge(*command, str(out))
    names = tmp_path / "names"
    names.mkdir()
    (names / "drugs.csv").write_text("name,group,synonyms\nzorbaxil,imaginary,\n")
    again = judged_texts(monkeypatch)
    judge(*command, str(out), "--lexicon_dir", str(names))
    remove_lexicon_dir(names)
    assert "left by a run of another model or other settings; it is not used" in capsys.readouterr().out
    assert len(again) >= PROMPTS * (1 + len(TEXTS))


def test_parts_hold_whole_notes_and_depend_on_the_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_checks, "PART_SUMMARIES", 4)
    sizes = {"a": 3, "b": 2, "c": 6, "d": 1, "e": 3}
    pairs = [(note, f"{note}{number}") for note, size in sizes.items() for number in range(size)]
    parts = list(parts_of(pairs))
    assert [sorted({note for note, _ in part}) for part in parts] == [["a"], ["b"], ["c"], ["d", "e"]]
    assert [pair for part in parts for pair in part] == pairs
    assert list(parts_of([])) == []


def test_a_check_is_the_same_after_it_was_stored() -> None:
    by_rules = check_summary(NOTE.format(age=50), TEXTS[1].format(age=50))
    assert any(claim.contrast for claim in by_rules.claims)
    doubts = (SentenceDoubt(0, 9, 0.1 + 0.2), SentenceDoubt(10, 19, 1e-17))
    learnt = FactCheck(by_rules.claims, 1 / 3, {"accuracy": 4}, 2 / 3, flagged=True, sentences=doubts)
    for check in (by_rules, learnt, FactCheck(())):
        assert check_of(json.loads(json.dumps(asdict(check)))) == check


class JudgeServer(Server):
    """Supports every summary, and answers for `bad` with words that are no answer."""

    def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        summary = json.loads(body["messages"][1]["content"])["summary"]
        claim = {"text": summary, "type": "finding", "verdict": "supported", "evidence": None}
        text = "words" if summary == "bad" else json.dumps({"claims": [claim]})
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        return {"id": "1", "object": path, "created": 0, "model": body["model"], "choices": [message], "usage": usage}


def test_failures_are_kept_and_the_tokens_of_both_runs_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_checks, "PART_SUMMARIES", 1)
    pairs = [(f"note {number}", summary) for number, summary in enumerate(("fine", "bad", "good", "fair"))]
    path = tmp_path / NAME
    with JudgeServer() as server:

        def judge_of_run() -> KeptChecks:
            own = make_judge("openai", "m", base_url=server.url, price_per_million=(1, 2))
            return KeptChecks(own, PartialFile(path, {"judge": "x"}))

        first = judge_of_run()
        first.check_all(pairs[:2])
        second = judge_of_run()
        checks = second.check_all(pairs)
        requests = len(server.requests)
    assert [check is None for check in checks] == [False, True, False, False]
    assert (first.failures, second.failures) == (1, 1)
    assert requests == 3 + 3  # the judge asks three times for an answer to the bad one
    usage = second.usage
    assert usage is not None
    assert (usage["replies"], usage["prompt_tokens"], usage["completion_tokens"]) == (6, 60, 18)
    assert usage["price_usd"] == pytest.approx((60 * 1 + 18 * 2) / 1e6)


def test_verdicts_of_another_server_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    args = parse_args(["--completions_path", "completions.jsonl", "--judge", "openai"])
    found = []
    for port in (8000, 8001):
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://localhost:{port}/v1")
        found.append(judge_settings(args, judge_of_arguments(args)))
    assert found[0] != found[1]
