"""Which pair a prompt comes to, the split by prompt, and the files, judged by the real fact checker."""

from __future__ import annotations

import json
import random
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_server import Server
from tiny_models import build_tokenizer

import stage_b_dpo_training
from dpo_dataset import DPODataset
from dpo_dataset import row_problem as triplet_problem
from evaluation.stats import ratio_interval, wilson_interval
from fact_checking.claims import Claim, FactCheck
from judge_completions import main, parse_args, read_completions, split_by_prompt, statistics_of
from judging.preference_pairs import OUTCOMES, JudgedCompletion, PairingResult, PairLimits, make_pair
from language_model.prompt_format import build_prompt
from script_io.errors import InputError

NOTE = (
    "A 58-year-old woman takes metformin 500 mg twice daily. She denies chest pain. Blood pressure 142/88 mmHg. "
    "Pain in the left knee."
)
REFERENCE = "58-year-old woman on metformin 500 mg twice daily, left knee pain."
COMPLETE = "A 58-year-old woman takes metformin 500 mg twice daily and has left knee pain."
SHORT = "A 58-year-old woman with left knee pain."
WRONG_DOSE = "58-year-old woman on metformin 850 mg twice daily, left knee pain."
WRONG_TWICE = "58-year-old woman on metformin 850 mg twice daily, right knee pain."


def completion(
    text: str, errors: int = 0, coverage: float | None = 1.0, *, score: float = 0.0, ends: bool = True
) -> JudgedCompletion:
    return JudgedCompletion(text, ends, errors, score, coverage)


SOUND_REFERENCE = JudgedCompletion("reference", True, 0, 0.0, 1.0, is_reference=True)


def test_sound_and_complete_against_flawed() -> None:
    good, half, bad = completion("good"), completion("half", 0, 0.5), completion("bad", 1)
    samples = [bad, good, half]
    for seed in range(5):
        random.Random(seed).shuffle(samples)
        assert make_pair(samples) == PairingResult("pair", good, bad)
    assert make_pair([half, good, good]) == PairingResult(
        "pair", good, half
    )  # nobody errs: complete against incomplete


def test_of_equals_the_nearest_in_wording() -> None:
    near, far = completion("knee pain, aspirin 50 mg daily"), completion("on aspirin 50 mg every day for knee pain")
    wrong, elsewhere = (
        completion("knee pain, aspirin 500 mg daily", 1),
        completion("aspirin taken for pain in both knees", 1),
    )
    samples = [far, elsewhere, near, wrong]
    for seed in range(5):
        random.Random(seed).shuffle(samples)
        assert make_pair(samples) == PairingResult("pair", near, wrong)


def test_the_score_decides_between_sound_texts() -> None:
    doubtful, sure = completion("take 50 mg", score=0.25), completion("another wording altogether")
    assert make_pair([doubtful, sure, completion("take 500 mg", 1)]).chosen == sure


def test_a_pair_never_teaches_to_say_less() -> None:
    short, long_and_wrong = completion("short", 0, 0.5), completion("long and wrong", 1, 1.0)
    assert make_pair([short, long_and_wrong, short]).outcome == "says_less"
    assert make_pair([short, long_and_wrong, short], SOUND_REFERENCE).chosen == SOUND_REFERENCE
    assert make_pair([short, completion("as short and wrong", 1, 0.5), completion("c", 0, 0.25)]).chosen == short


def test_the_reference_is_chosen_where_no_completion_is_sound() -> None:
    bad, short = completion("bad", 2), completion("short", 0, 0.2)
    assert make_pair([bad, short], SOUND_REFERENCE) == PairingResult("pair", SOUND_REFERENCE, bad)


def test_a_text_that_was_broken_off_is_never_chosen() -> None:
    cut, bad = completion("cut", ends=False), completion("bad", 1)
    assert make_pair([cut, bad], SOUND_REFERENCE) == PairingResult("pair", SOUND_REFERENCE, bad)
    assert make_pair([cut, bad]).outcome == "unfinished_chosen"
    bad_and_cut = completion("bad and cut", 1, ends=False)
    assert make_pair([completion("good"), bad_and_cut]).rejected == bad_and_cut


def test_prompts_that_come_to_no_pair() -> None:
    assert make_pair([], SOUND_REFERENCE).outcome == "all_failed"
    assert make_pair([completion("a"), completion("b", score=0.3)], SOUND_REFERENCE).outcome == "tie"
    assert make_pair([completion("a", 1), completion("b", 2)]).outcome == "nothing_to_choose"
    assert make_pair([completion("The  reference.", 1)], SOUND_REFERENCE).outcome == "pair"
    assert make_pair([completion(" Reference.", 1)], SOUND_REFERENCE).outcome == "identical"
    assert make_pair([completion("a", 0, None), completion("b", 0, None)]).outcome == "tie"


def test_no_pair_below_the_margin() -> None:
    good, bad = completion("50 mg", score=0.25), completion("500 mg", 1, score=1.0)
    assert make_pair([good, bad], limits=PairLimits(0.75)).outcome == "pair"
    assert make_pair([good, bad], limits=PairLimits(0.76)).outcome == "within_margin"


def graded(text: str, probability: float, *, errors: int = 0, coverage: float = 1.0) -> JudgedCompletion:
    return JudgedCompletion(text, True, errors, probability, coverage, probability=probability)


LIMITS = PairLimits(chosen_below=0.2, rejected_above=0.8, max_length_ratio=1.5)


def test_a_judge_with_probabilities_abstains_between_its_limits() -> None:
    sure, unsure, wrong = graded("left knee pain", 0.1), graded("left knee ache", 0.5), graded("right knee pain", 0.9)
    assert make_pair([unsure, sure, wrong], limits=LIMITS) == PairingResult("pair", sure, wrong)
    nothing_to_choose = make_pair([unsure, wrong], limits=LIMITS)
    assert nothing_to_choose.outcome == "uncertain"
    assert "no text to choose: lowest probability of an error 0.50, limit 0.20" in nothing_to_choose.reason
    nothing_to_reject = make_pair([unsure, sure], limits=LIMITS)
    assert nothing_to_reject.outcome == "uncertain"
    assert "no text to reject: highest probability of an error 0.50, limit 0.80" in nothing_to_reject.reason


def test_an_error_of_the_rules_is_never_chosen_however_low_the_probability() -> None:
    contradicted, wrong = graded("left knee pain", 0.1, errors=1), graded("right knee pain", 0.9)
    assert make_pair([contradicted, wrong], limits=LIMITS).outcome == "uncertain"
    reference = replace(graded("pain in left knee", 0.05), is_reference=True)
    assert make_pair([contradicted, wrong], reference, LIMITS).chosen == reference
    doubtful_reference = replace(reference, probability=0.3)
    assert make_pair([contradicted, wrong], doubtful_reference, LIMITS).outcome == "uncertain"


def test_the_hallucination_rate_is_that_of_the_verdicts_not_of_the_rules_errors() -> None:
    """Both completions have an error of the rules; the judge, all evidence weighed, flags one."""
    found = [replace(graded(text, 0.5, errors=1), flagged=flag) for text, flag in (("a", True), ("b", False))]
    assert statistics_of([make_pair(found)], [found], Counter(), [])["hallucination_rate"] == 0.5


def test_a_rate_of_none_or_all_has_the_interval_of_as_many_prompts() -> None:
    """Three prompts with two flawed completions each: Wilson's interval of 3 of 3."""
    found = [[completion("a", errors=1), completion("b", errors=2)]] * 3
    stats = statistics_of([make_pair(each) for each in found], found, Counter(), [])
    assert (stats["hallucination_rate"], stats["hallucination_rate_ci95"]) == (1.0, wilson_interval(3, 3))


def test_a_pair_of_sure_texts_is_near_in_length_and_wording() -> None:
    near, far = graded("left knee pain for two weeks", 0.19), graded("gonalgia", 0.01)
    wrong = graded("right knee pain for two weeks", 0.9)
    assert make_pair([far, near, wrong], limits=LIMITS).chosen == near
    assert make_pair([far, wrong], limits=LIMITS).outcome == "lengths_differ"
    assert make_pair([far, wrong], limits=replace(LIMITS, max_length_ratio=None)).outcome == "pair"


def test_no_text_is_chosen_with_a_finding_that_may_be_denied() -> None:
    claim = Claim("negation", "diabetes", 0, 8, "unverifiable", "review", None, None)
    unclear = JudgedCompletion.of("diabetes", FactCheck((claim,)), finished=True, coverage=1.0)
    wrong = completion("diabetes of the left knee", 1)
    assert make_pair([unclear, wrong]).outcome == "uncertain"
    clear = JudgedCompletion.of("diabetes", FactCheck(()), finished=True, coverage=1.0)
    assert make_pair([unclear, clear, wrong]) == PairingResult("pair", clear, wrong)


def test_the_outcome_of_each_prompt_is_stored_with_its_reason(completions_path: Path, tmp_path: Path) -> None:
    assert main(parse_args(["--completions_path", str(completions_path), "--output_dir", str(tmp_path / "out")])) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    stats = json.loads((tmp_path / "out" / "judge_stats.json").read_text())
    assert len(rows) == stats["prompts"]
    for name, count in stats["outcomes"].items():
        assert sum(row["outcome"] == name for row in rows) == count
    assert all(row["reason"] for row in rows)


def triplet(number: int) -> dict[str, Any]:
    return {"id": str(number), "prompt": f"prompt {number}"}


def test_split_keeps_a_prompt_on_its_side_whatever_else_is_there() -> None:
    rows = [triplet(number) for number in range(1000)]
    train, validation = split_by_prompt(rows, 0.1, 42)
    assert 70 <= len(validation) <= 130  # 100, and three standard deviations of 9.5
    assert len(train) + len(validation) == 1000
    held_out = {row["prompt"] for row in validation}
    few_train, few_validation = split_by_prompt(rows[300:700] * 2, 0.1, 42)
    assert {row["prompt"] for row in few_validation} == held_out & {row["prompt"] for row in rows[300:700]}
    assert not {row["prompt"] for row in few_train} & {row["prompt"] for row in few_validation}
    assert {row["prompt"] for row in split_by_prompt(rows, 0.1, 7)[1]} != held_out


def test_split_of_a_few_prompts_leaves_neither_side_empty() -> None:
    for count in range(2, 12):
        train, validation = split_by_prompt([triplet(number) for number in range(count)], 0.01, 42)
        assert (len(train), len(validation)) == (count - 1, 1)
        train, validation = split_by_prompt([triplet(number) for number in range(count)], 0.999, 42)
        assert (len(train), len(validation)) == (1, count - 1)
    for fraction in (0.1, 0.999):  # Stage B cannot train on nothing
        assert split_by_prompt([triplet(1)] * 2, fraction, 42) == ([triplet(1)] * 2, [])
    assert split_by_prompt([triplet(1), triplet(2)], 0.0, 42)[1] == []


def write_completions(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def completions_path(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": "a", "reference": REFERENCE, "completions": [WRONG_DOSE, COMPLETE, WRONG_TWICE]},
        {"id": "b", "reference": REFERENCE, "completions": [SHORT, WRONG_DOSE]},
        {"id": "c", "completions": [SHORT, SHORT]},
        {"id": "d", "completions": [WRONG_DOSE, " "]},
        {"id": "e", "completions": [COMPLETE, WRONG_DOSE], "finished": [False, True]},
    ]
    for row in rows:  # five notes that differ by one harmless word
        row["prompt"] = build_prompt(f"{NOTE} Case {row['id']}.")
    return write_completions(tmp_path / "completions.jsonl", rows)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_statistics_and_split_on_disk(
    completions_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(parse_args(["--completions_path", str(completions_path), "--output_dir", str(out)])) == 0
    pairs = rows_of(out / "preferences.jsonl")
    found = [(row["source_id"], row["chosen"], row["rejected"], row["chosen_from"]) for row in pairs]
    assert found == [("a", COMPLETE, WRONG_DOSE, "completion"), ("b", REFERENCE, WRONG_DOSE, "reference")]
    assert [row["rejected_errors"] for row in pairs] == [1, 1]
    assert not [triplet_problem(row) for row in pairs if triplet_problem(row)]
    train, validation = rows_of(out / "train.jsonl"), rows_of(out / "val.jsonl")
    assert sorted(row["id"] for row in train + validation) == sorted(row["id"] for row in pairs)
    assert (len(train), len(validation)) == (1, 1)

    stats = json.loads((out / "judge_stats.json").read_text())
    outcomes = {"pair": 2, "tie": 1, "nothing_to_choose": 1, "unfinished_chosen": 1}
    assert stats["outcomes"] == {name: outcomes.get(name, 0) for name in OUTCOMES}
    counts = {"sampled": 11, "judged": 10, "judge_failures": 0, "blank": 1, "unfinished": 1, "hallucinated": 5}
    assert stats["completions"] == counts
    assert stats["hallucination_rate"] == 0.5
    # by prompt 2 of 3, 1 of 2, 0 of 2, 1 of 1, 1 of 2
    assert stats["hallucination_rate_ci95"] == list(ratio_interval([2, 1, 0, 1, 1], [3, 2, 2, 1, 2]) or ())
    assert stats["chosen_from"] == {"completion": 1, "reference": 1}
    assert stats["mean_words_chosen"] == (14 + 11) / 2
    assert stats["mean_words_rejected"] == 11
    assert "learn length instead of truth" in capsys.readouterr().err  # 12.5 words against 11
    assert (stats["prompts"], stats["pairs"], stats["ties"]) == (5, 2, 1)


@pytest.mark.parametrize("fraction", ["0", "0.1"])
def test_stage_b_accepts_the_next_command(
    fraction: str, completions_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "on policy"  # a blank must be quoted
    flags = ["--completions_path", str(completions_path), "--output_dir", str(out), "--val_fraction", fraction]
    assert main(parse_args(flags)) == 0
    *_, last = capsys.readouterr().out.splitlines()
    script, *words = shlex.split(last.removeprefix("Next: python "))
    assert script == "stage_b_dpo_training.py"
    args = stage_b_dpo_training.parse_args(words)
    stage_b_dpo_training.check_arguments(args)
    tokenizer = build_tokenizer("llama")
    paths = (args.train_data_path, args.val_data_path)
    assert [len(DPODataset(path, tokenizer)) for path in paths] == ([2, 2] if fraction == "0" else [1, 1])


def test_the_note_is_judged_and_stored(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "plain", "prompt": build_prompt(f"{NOTE} Case 1.")},
        {"id": "both", "prompt": build_prompt(f"{NOTE} Case 2."), "clinical_note": f"{NOTE} Case 2.\n"},
        {"id": "other", "prompt": f"Example: metformin 850 mg twice daily. {NOTE}", "clinical_note": NOTE},
        {"id": "unknown", "prompt": f"Be brief. {NOTE}"},
    ]
    rows = [row | {"completions": [WRONG_DOSE, COMPLETE]} for row in rows]
    path = write_completions(tmp_path / "completions.jsonl", rows)
    assert main(parse_args(["--completions_path", str(path), "--output_dir", str(tmp_path / "out")])) == 0
    found = {row["source_id"]: row for row in rows_of(tmp_path / "out" / "preferences.jsonl")}
    # the instructions of `other` name the wrong dose, which would support it if they were taken for the note
    assert {name: row["rejected"] for name, row in found.items()} == dict.fromkeys(
        ("plain", "both", "other", "unknown"), WRONG_DOSE
    )
    assert found["plain"]["clinical_note"] == f"{NOTE} Case 1."
    assert found["both"]["clinical_note"] == f"{NOTE} Case 2."
    assert found["other"]["clinical_note"] == NOTE
    assert "clinical_note" not in found["unknown"]
    split = [row for name in ("train", "val") for row in rows_of(tmp_path / "out" / f"{name}.jsonl")]
    assert sorted(row["id"] for row in split if "clinical_note" in row) == [
        f"{name}-on-policy" for name in ("both", "other", "plain")
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p"}, "line 1: missing key completions"),
        ({"prompt": "", "completions": ["a"]}, "line 1: prompt is not a text"),
        ({"prompt": "p", "completions": "a"}, "line 1: completions is not a list of texts"),
        ({"prompt": "p", "completions": ["a", 1]}, "line 1: completions is not a list of texts"),
        ({"prompt": "p", "completions": ["a"], "reference": 1}, "line 1: reference is not a text"),
        ({"prompt": "p", "completions": ["a"], "finished": [True, True]}, "line 1: finished must hold one"),
        (
            {"prompt": build_prompt("p"), "clinical_note": "q", "completions": ["a"]},
            "line 1: clinical_note is not the note in prompt",
        ),
    ],
)
def test_rows_that_cannot_be_judged(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_completions(write_completions(tmp_path / "c.jsonl", [row]))


def test_no_pair_at_all_writes_nothing(tmp_path: Path) -> None:
    path = write_completions(tmp_path / "c.jsonl", [{"prompt": build_prompt(NOTE), "completions": [SHORT]}])
    with pytest.raises(InputError, match="no pair can be made"):
        main(parse_args(["--completions_path", str(path), "--output_dir", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


def test_a_judge_that_fails_is_counted_and_gives_no_verdict(
    completions_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server() as server:  # answers with words where a judge answers with JSON
        flags = ["--judge", "openai", "--judge_base_url", server.url, "--output_dir", str(tmp_path / "out")]
        with pytest.raises(InputError, match="no pair can be made"):
            main(parse_args(["--completions_path", str(completions_path), *flags]))
    printed = capsys.readouterr().out
    assert "Judged 0 of 11 completions; the judge failed on 10" in printed
    assert "Hallucinated" not in printed
    assert "5 prompts: the judge failed on every completion" in printed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--val_fraction", "1"], "--val_fraction 1.0"),
        (["--val_fraction", "-0.1"], "--val_fraction -0.1"),
        (["--min_margin", "-1"], "--min_margin -1.0"),
        (["--min_margin", "nan"], "--min_margin nan"),
        (["--criterion_file", "x"], "--criterion_file is for --judge openai"),
        (["--judge_model", "x"], "--judge_model is not for --judge facts"),
    ],
)
def test_flags_that_cannot_be_meant(completions_path: Path, flags: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        main(parse_args(["--completions_path", str(completions_path), *flags]))


def test_repaired_pairs_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completions = [
        "She denies chest pain. She takes metformin 850 mg twice daily.",
        "She takes metformin 500 mg twice daily. Her father had a stroke.",
    ]
    row = {"id": "a", "prompt": build_prompt(NOTE), "clinical_note": NOTE, "completions": completions}
    path, out = tmp_path / "completions.jsonl", tmp_path / "out"
    path.write_text(json.dumps(row) + "\n")
    command = ["--completions_path", str(path), "--output_dir", str(out), "--repair", "always", "--val_fraction", "0"]
    assert main(parse_args(command)) == 0
    (pair,) = rows_of(out / "preferences.jsonl")
    assert pair["chosen"] == "She denies chest pain. She takes metformin 500 mg twice daily."
    assert pair["rejected"] == completions[0]
    assert (pair["chosen_from"], pair["rejected_from"]) == ("repair", "repair")
    assert (pair["chosen_errors"], pair["rejected_errors"]) == (0, 1)
    assert "References" not in capsys.readouterr().out  # none is judged, since none can be chosen
    stats = json.loads((out / "judge_stats.json").read_text())
    assert (stats["outcomes"]["pair"], stats["chosen_from"]) == (1, {"repair": 1})


def test_pairs_of_unequal_lengths_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = f"{WRONG_DOSE} {SHORT}"
    rows = [
        {
            "id": f"r{number}",
            "prompt": build_prompt(f"{NOTE} Room {number}."),
            "clinical_note": f"{NOTE} Room {number}.",
            "completions": [COMPLETE, longer if number < 4 else WRONG_DOSE],
        }
        for number in range(24)
    ]
    path, out = tmp_path / "completions.jsonl", tmp_path / "out"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(parse_args(["--completions_path", str(path), "--output_dir", str(out), "--max_length_bias", "1"])) == 0
    assert len(rows_of(out / "preferences.jsonl")) == 24
    command = ["--completions_path", str(path), "--output_dir", str(out), "--max_length_bias", "0.1"]
    assert main(parse_args(command)) == 0
    stats = json.loads((out / "judge_stats.json").read_text())
    kept = rows_of(out / "preferences.jsonl")
    assert stats["left_out_for_length"] == 24 - len(kept) == 8  # 12 * 3 - 4 * 4 words more in chosen, of 204 in all
    words = [sum(len(pair[side].split()) for pair in kept) for side in ("chosen", "rejected")]
    assert abs(words[0] - words[1]) <= 0.1 * words[1]
    assert f"Left out {24 - len(kept)} pairs" in capsys.readouterr().out
