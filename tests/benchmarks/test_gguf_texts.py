"""The benchmark of GGUF layouts rounds weights as the file does, and counts the texts that stay the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import build_tiny_model
from training_helpers import CPU, tiny_base_and_adapter, write_phase1

from benchmarks.gguf_texts import LAYOUTS, Text, compare, main, parse_args, rounded
from language_model.loading import load_base_model, load_tokenizer
from publishing.gguf_export import export_gguf, read_gguf
from script_io.errors import InputError


def test_the_layout_q8_0_has_the_weights_of_the_file(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(build_tiny_model(tmp_path / "base"))
    model = load_base_model(tmp_path / "base", CPU, tokenizer).eval()
    path = export_gguf(tmp_path, model, tokenizer, "plain", "q8_0", "tiny", "Chest pain for 3 weeks.")
    expected = read_gguf(path, model).state_dict()
    exact = {name: weight.clone() for name, weight in model.state_dict().items()}
    with rounded(model, LAYOUTS["q8_0"]):
        found = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert not torch.equal(found["model.layers.0.mlp.up_proj.weight"], exact["model.layers.0.mlp.up_proj.weight"])
    assert all(torch.equal(weight, exact[name]) for name, weight in model.state_dict().items())


def test_a_text_counts_as_changed_at_its_first_changed_token() -> None:
    exact = [torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]), torch.tensor([[0.0, 0.0, 4.0]])]
    found = [torch.tensor([[1.0, 0.0, 1.5], [0.0, 1.0, 3.0]]), torch.tensor([[0.0, 0.0, 4.0]])]
    figures = compare("x", 10, 40, [Text([5], [0, 1]), Text([5], [2])], exact, found)
    assert (figures.changed_tokens, figures.tokens, figures.same_texts, figures.texts) == (2, 3, 1, 2)
    assert figures.decided_by == [1.0]  # 2 - 1 at the first token, whatever happens afterwards
    assert figures.size_of_f16 == 0.25
    # margins 1, 2 and 4 become -0.5, -2 and 4
    assert figures.margin_error == pytest.approx(((1.5**2 + 4**2) / 3) ** 0.5)


def test_the_table_has_a_row_for_each_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, adapter = tiny_base_and_adapter(tmp_path)
    flags = ["--model_path", str(adapter), "--notes", str(write_phase1(tmp_path / "notes.csv", 3))]
    flags += ["--max_new_tokens", "6", "--output_file", str(tmp_path / "figures.json"), "--layouts", "f16", "all"]
    assert main(parse_args([*flags, "--max_notes", "3"])) == 0
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[-2:]] == ["| f16", "| all"]
    f16, everything = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["layouts"]
    assert (f16["texts"], f16["same_texts"], f16["size_of_f16"]) == (3, 3, 1)
    assert everything["relative_error"] > 3 * f16["relative_error"]
    assert everything["size_of_f16"] < 0.7
    with pytest.raises(InputError, match="has 3 different notes; pass --max_notes 3"):
        main(parse_args(flags))
