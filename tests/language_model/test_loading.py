"""The end token of tokenizer and configuration, compared before anything is trained or generated."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import build_tiny_model
from training_helpers import CPU

from language_model.loading import load_base_model, load_tokenizer
from script_io.files import read_json, write_json

END, OTHER = 2, 3  # ids of <eos> and <|im_start|>


def with_ends(folder: Path, config: int | list[int] | None, generation: int | list[int] | None) -> Path:
    """Save a tiny model whose tokenizer ends with <eos>, with other end tokens in its settings."""
    build_tiny_model(folder)
    for name, ends in (("config.json", config), ("generation_config.json", generation)):
        write_json(folder / name, {**read_json(folder / name), "eos_token_id": ends})
    return folder


@pytest.mark.parametrize(("config", "generation"), [(OTHER, OTHER), ([OTHER, 4], None), (None, OTHER)])
def test_another_end_token_in_the_configuration_is_one_warning(
    config: int | list[int] | None,
    generation: int | list[int] | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = with_ends(tmp_path / "base", config, generation)
    capsys.readouterr()
    model = load_base_model(folder, CPU, load_tokenizer(folder))
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert f"warning: {folder}: the tokenizer ends a text with <eos> (id {END})" in printed
    assert f"the model's configuration with id {OTHER}" in printed
    assert END in model.generation_config.eos_token_id  # where generation stops all the same


@pytest.mark.parametrize(
    ("config", "generation"), [(END, END), ([OTHER, END], OTHER), (OTHER, [OTHER, END]), (None, None)]
)
def test_the_same_end_token_anywhere_in_the_configuration_is_no_warning(
    config: int | list[int] | None,
    generation: int | list[int] | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = with_ends(tmp_path / "base", config, generation)
    capsys.readouterr()
    load_base_model(folder, CPU, load_tokenizer(folder))
    assert capsys.readouterr().err == ""
