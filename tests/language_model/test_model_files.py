"""Which names are hub ids, and which command makes a model that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from language_model.loading import load_for_inference
from language_model.model_files import absolute_model_name, is_hub_id, load_config, require_adapter, require_model
from script_io.errors import InputError


@pytest.mark.parametrize("name", ["gpt2", "distilgpt2", "Qwen/Qwen2.5-0.5B", "EleutherAI/pythia-70m", "_x/y_1.0"])
def test_names_that_can_be_hub_ids(name: str) -> None:
    assert is_hub_id(name)
    require_model(name)


@pytest.mark.parametrize(
    "name",
    ["./gpt2", "../gpt2", "/gpt2", "~/gpt2", "gpt2/", "a/b/c", "models/dpo/final_model", r"models\dpo", ""],
)
def test_names_that_can_only_be_paths(name: str) -> None:
    assert not is_hub_id(name)


def test_a_hub_id_that_cannot_be_reached_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for load in (load_config, lambda name: load_for_inference(name, device="cpu")):
        with pytest.raises(InputError, match=r"no-such-model: no .* from the hub .*check the id") as caught:
            load("no-such-model")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        ("./models/sft_specialist/final_model", "run python stage_a_sft_training.py"),
        ("models/dpo_hallucination_resistant/final_model", "run python stage_b_dpo_training.py"),
        ("/data/models/dpo_hallucination_resistant/checkpoint_epoch_1", "run python stage_b_dpo_training.py"),
        ("runs/mine/final_model", "name an existing folder or a hub id"),
    ],
)
def test_the_remedy_for_a_missing_model_fits_the_folder(
    folder: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        require_model(folder)
    assert str(caught.value) == f"{folder}: no such model folder; {remedy}"


def test_a_missing_adapter_names_the_stage_that_makes_it_or_what_the_caller_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    remedy = "run python stage_a_sft_training.py, or name its final_model"
    for folder, expected in {
        "models/sft_specialist/final_model": remedy,
        "models/dpo_hallucination_resistant/final_model": "run python stage_b_dpo_training.py",
        "mine": remedy,
    }.items():
        with pytest.raises(InputError) as caught:
            require_adapter(folder, remedy)
        assert str(caught.value) == f"{folder}: no adapter_config.json there; {expected}"


def test_a_folder_becomes_an_absolute_path_and_a_hub_id_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    assert absolute_model_name("base") == str(tmp_path / "base")
    assert absolute_model_name("gpt2") == "gpt2"
