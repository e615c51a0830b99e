"""Which judges made the preference pairs that a model was trained on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_classifiers import NLI_LABELS, build_classifier

from judging.choice import FactsJudge, independent_judge, make_judge
from judging.pair_makers import (
    has_made_pairs,
    is_relative,
    judges_behind,
    judges_of_training_pairs,
    model_of_judge,
    parts_of_judge,
)
from script_io.files import write_json, write_jsonl


def trained_on(folder: Path, pairs: list[dict[str, Any]], earlier: Path) -> Path:
    """Write the configuration of a model that Stage B trained on these pairs, starting from `earlier`."""
    folder.mkdir()
    write_jsonl(folder / "pairs.jsonl", pairs)
    write_json(folder / "dpo_config.json", {"pair_judges": judges_behind(folder / "pairs.jsonl", earlier)})
    return folder


def test_which_judges_made_the_pairs_of_a_model(tmp_path: Path) -> None:
    sft = tmp_path / "sft"
    sft.mkdir()
    assert judges_of_training_pairs(sft) is None  # a base model: nobody knows
    write_json(sft / "sft_config.json", {})
    assert judges_of_training_pairs(sft) == set()
    labelled = {"prompt": "p", "edits": [{"verdict": "labelled"}]}
    first = trained_on(tmp_path / "first", [labelled, {"prompt": "p", "judge": "nli:x"}, {"prompt": "q"}], sft)
    assert judges_of_training_pairs(first) == {"nli:x"}
    made = {"prompt": "p", "edits": [{"verdict": "contradicted"}]}
    second = trained_on(tmp_path / "second", [made], first)
    assert judges_of_training_pairs(second) == {"facts", "nli:x"}  # both rounds
    assert judges_of_training_pairs(str(trained_on(tmp_path / "third", [labelled], sft))) == set()


def test_the_same_judge_is_known_by_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_classifier(tmp_path / "nli", NLI_LABELS)
    monkeypatch.chdir(tmp_path)
    names = {make_judge("nli", spelled, device="cpu").name for spelled in (model, "nli", "./nli/")}
    assert names == {f"nli:{model}"}
    assert has_made_pairs(f"nli:{model}", {"facts", "nli:./nli"})  # stored as it was spelled
    assert not has_made_pairs(f"nli:{model}", {"facts", "nli:hub/nli"})


def test_a_criterion_does_not_hide_the_judge_of_the_pairs(tmp_path: Path) -> None:
    (tmp_path / "criterion.txt").write_text("Only doses count.")
    url = "http://localhost:8000/v1"
    strict = make_judge("openai", "m", base_url=url, criterion_file=tmp_path / "criterion.txt").name
    assert model_of_judge(strict) == "openai:m"
    assert model_of_judge(f"{strict}, rubric risk") == model_of_judge("openai:m, rubric pdsqi9") == "openai:m"
    assert has_made_pairs(strict, {"openai:m"})
    assert has_made_pairs("openai:m", {strict})
    assert not has_made_pairs(strict, {"openai:m2", "facts", "nli:m"})
    assert not has_made_pairs(strict, ())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pair_judges": null}', '{"pair_judges": 3}'])
def test_pairs_that_cannot_be_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "dpo_config.json").write_text(content)
    assert judges_of_training_pairs(tmp_path) is None


def test_rules_with_a_detector_are_two_makers_of_pairs() -> None:
    assert parts_of_judge("facts+detector:/judge") == {"facts", "detector:/judge"}
    assert parts_of_judge("openai:a+b") == {"openai:a+b"}
    assert has_made_pairs("facts", {"facts+detector:/judge"})
    assert has_made_pairs("detector:/judge", {"facts+detector:/judge"})
    assert has_made_pairs("facts+detector:/judge", {"facts"})
    assert not has_made_pairs("facts+detector:/judge", {"detector:/other"})


def test_a_judge_is_related_to_a_model_with_the_same_base(tmp_path: Path) -> None:
    for name, base in (("judge", "base"), ("policy", "base"), ("other", "hub/other"), ("base", None)):
        (tmp_path / name).mkdir()
        if base:
            named = str(tmp_path / base) if base == "base" else base
            write_json(tmp_path / name / "adapter_config.json", {"base_model_name_or_path": named})
    for judge in (
        f"detector:{tmp_path / 'judge'}",
        f"facts+detector:{tmp_path / 'judge'}",
        f"likelihood:{tmp_path / 'base'}",
    ):
        assert is_relative(judge, tmp_path / "policy")
        assert is_relative(judge, tmp_path / "base")
        assert not is_relative(judge, tmp_path / "other")
    assert not is_relative("facts", tmp_path / "policy")
    assert not is_relative(f"nli:{tmp_path / 'judge'}", tmp_path / "policy")


def test_a_judge_that_made_no_pairs_is_found_if_there_is_one() -> None:
    facts: Any = FactsJudge()
    detector: Any = SimpleNamespace(name="detector:/judge")
    assert independent_judge(facts, ()) is None  # no second opinion is needed
    assert independent_judge(facts, {"openai:m"}) is None
    assert isinstance(independent_judge(detector, {"detector:/judge"}), FactsJudge)
    assert independent_judge(detector, {"facts+detector:/judge"}) is None
    assert independent_judge(facts, {"facts"}) is None
