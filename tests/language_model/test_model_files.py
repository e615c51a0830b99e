"""Which command makes a model that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from language_model.model_files import absolute_model_name, load_config, require_adapter, require_model
from script_io.errors import InputError


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        ("./models/sft_specialist/final_model", "run python stage_a_sft_training.py"),
        ("models/dpo_hallucination_resistant/final_model", "run python stage_b_dpo_training.py"),
        ("/data/models/dpo_hallucination_resistant/checkpoint_epoch_1", "run python stage_b_dpo_training.py"),
        ("runs/mine/final_model", "name an existing folder or a hub id"),
        ("models/mine", "name an existing folder or a hub id"),
        ("~/mine", "name an existing folder or a hub id"),
    ],
)
def test_the_remedy_for_a_missing_model_fits_the_folder(
    folder: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
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


def test_a_folder_without_a_configuration_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no model")
    with pytest.raises(InputError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no config.json could be read (the folder has none); name a model folder"
