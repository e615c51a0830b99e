"""17 architectures, made small on the spot, go through both stages, inference and export with the same greedy text."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.architecture_chain import Outcome, run_chain, write_data
from benchmarks.architectures import HEAD, main, parse_args, table_row
from benchmarks.tiny_architectures import ARCHITECTURES

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_adapter_and_export_write_the_same_text_as_the_table_says(name: str, data: Path, tmp_path: Path) -> None:
    outcome = run_chain(name, tmp_path, data)
    assert outcome.ran, outcome
    assert table_row(name, outcome) in DOCS


def test_the_table_has_all_17_architectures() -> None:
    assert len(ARCHITECTURES) == 17
    assert DOCS.startswith(HEAD)
    assert [row.split("`")[1] for row in DOCS.removeprefix(HEAD).splitlines()] == [
        each.model_type for each in ARCHITECTURES.values()
    ]


def test_a_refusal_and_another_text_are_written_as_such() -> None:
    refused = table_row("gpt2", Outcome(refusal="no such module"))
    assert "| refused: no such module | - |" in refused
    assert "| runs, the exported model writes another text |" in table_row("gpt2", Outcome("a", "b"))


def test_a_model_that_a_stage_refuses_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = type(ARCHITECTURES["gemma3"])(
        "Gemma 3, multimodal", "gemma3", ARCHITECTURES["gemma3"].shape, ("--lora_target_modules", "all-linear")
    )
    monkeypatch.setitem(ARCHITECTURES, "gemma3", everything)
    table = tmp_path / "docs" / "table.md"
    assert main(parse_args(["--architectures", "gemma3", "--docs_file", str(table)])) == 0
    assert "exclude it with --lora_exclude_modules vision_tower" in capsys.readouterr().out
    assert "refused: no gradient reaches" in table.read_text(encoding="utf-8")
