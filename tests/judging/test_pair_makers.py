"""Which judges made the preference pairs that a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_classifiers import NLI_LABELS, build_classifier

from judging.choice import make_judge
from judging.pair_makers import has_made_pairs, judges_behind, judges_of_training_pairs, model_of_judge
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
