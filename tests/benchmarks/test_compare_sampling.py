"""The comparison of samplers: its arithmetic, and a whole run with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare_sampling, sampling_worker
from benchmarks.compare_sampling import Setup
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from script_io.errors import RunError
from script_io.files import read_json, write_json

TINY = ["--parameters", "tiny", "--prompts", "2", "--completions", "2", "--new_tokens", "3", "--batch_size", "4"]
ROOT = Path(__file__).parents[2]


def test_a_whole_run_measures_every_variant_and_prints_one_document(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "document.json"
    flags = [*TINY, "--repeats", "1", "--before", str(ROOT), "--output_file", str(file)]
    assert compare_sampling.main(compare_sampling.parse_args(flags)) == 0
    printed = capsys.readouterr().out
    document = json.loads(printed.splitlines()[-1])
    assert document == read_json(file)
    assert [case["variant"] for case in document["cases"]] == ["ours", "generate", "before"]
    for case in document["cases"]:
        assert case["model_parameters"] == document["cases"][0]["model_parameters"] > 100_000
        assert case["tokens_per_second"] == pytest.approx(2 * 2 * 3 / case["seconds"][0])
        assert (case["dtype"], case["computed_in"], case["completions"]) == ("default", "float32", 2)
    assert [ratio["over"] for ratio in document["ratios"]] == ["generate", "before"]
    assert "tiny, default: ours is" in printed


def test_medians_and_ratios() -> None:
    args = compare_sampling.parse_args(TINY)
    shared = {"model_parameters": 5, "computed_in": "float32", "tokens": 12}
    fast = [shared | {"seconds": seconds, "cpu_seconds": seconds} for seconds in (1.0, 2.0, 60.0)]
    slow = [shared | {"seconds": seconds, "cpu_seconds": 6.0} for seconds in (7.0, 8.0, 9.0)]
    cases = [
        compare_sampling.case_of(Setup("tiny", "default", "ours"), fast, args),
        compare_sampling.case_of(Setup("tiny", "default", "generate"), slow, args),
    ]
    assert [case["tokens_per_second"] for case in cases] == [6.0, 1.5]
    [ratio] = compare_sampling.ratios(cases)
    assert ratio == {
        **{"model": "tiny", "dtype": "default", "over": "generate"},
        **{"tokens_per_second": 4.0, "tokens_per_cpu_second": 3.0},
    }
    assert compare_sampling.ratios(cases[1:]) == []


def test_prompts_have_the_length_that_was_asked_for() -> None:
    args = compare_sampling.parse_args(["--prompts", "40", "--prompt_tokens", "120"])
    tokenizer = load_tokenizer(DEMO_BASE)
    lengths = [len(tokenizer(prompt).input_ids) for prompt in compare_sampling.prompts_of(args)]
    assert len(set(lengths)) > 10
    assert sum(lengths) / len(lengths) == pytest.approx(120, rel=0.1)


def test_fewer_tokens_than_asked_for_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Done:
        returncode = 0

    def run(command: list[str], **_: Any) -> Done:
        write_json(Path(command[-1]), {"tokens": 11})
        return Done()

    monkeypatch.setattr(compare_sampling.subprocess, "run", run)
    args = compare_sampling.parse_args(TINY)
    with pytest.raises(RunError, match="sampled 11 tokens in place of 12"):
        compare_sampling.measure(Setup("tiny", "default", "ours"), "model", ["a", "b"], args, tmp_path)


@pytest.mark.parametrize("variant", ["ours", "generate"])
def test_the_worker_lets_no_token_end_a_completion(variant: str) -> None:
    job: dict[str, Any] = {"variant": variant, "dtype": None, "model": str(DEMO_BASE)}
    job |= {"completions": 2, "batch_size": 4, "temperature": 5.0, "seed": 0}
    sample, _ = (sampling_worker.generate_sampler if variant == "generate" else sampling_worker.suite_sampler)(job)
    assert sample(["a b", "c"], 60) == 2 * 2 * 60
