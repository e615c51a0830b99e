"""The preflight finds each fault before the first step, and leaves the run as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import files_below
from peft.tuners.lora import Linear
from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt
from safetensors.torch import load_file, save_file
from tiny_models import build_tiny_model
from training_helpers import metrics, random_adapter, stage_a_flags, train_stage_a, write_phase1, write_triplets
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

import stage_a_sft_training as stage_a
import stage_b_dpo_training as stage_b
from language_model.model_files import context_tokens
from scoring.completion_scorer import evaluating
from scoring.packed_rows import PromptCompletions
from script_io.errors import InputError, RunError
from training.dropouts import dropout_settings, turn_dropout_off, without_dropout

ONE_EPOCH = ("--num_epochs", "1", "--batch_size", "8")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    build_tiny_model(folder / "base")
    random_adapter(folder / "sft", folder / "base")
    for split in ("train", "val"):
        write_phase1(folder / f"{split}.csv", 8)
        write_triplets(folder / f"{split}.jsonl", 4)
    return folder


@pytest.fixture(autouse=True)
def _without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loop.plot_curves", lambda *_: None)


def prepare_a(inputs: Path, output: Path, *extra: str) -> Any:
    return stage_a.prepare(stage_a.parse_args(stage_a_flags(inputs, output, *ONE_EPOCH, *extra)))[0]


def prepare_b(inputs: Path, output: Path, *extra: str) -> Any:
    files = [f"--{split}_data_path={inputs / split}.jsonl" for split in ("train", "val")]
    flags = ["--sft_model_path", str(inputs / "sft"), "--device", "cpu", "--output_dir", str(output), *files, *extra]
    return stage_b.prepare(stage_b.parse_args(flags))[0]


PREPARE: dict[str, Callable[..., Any]] = {"A": prepare_a, "B": prepare_b}


FLAGS = [
    ("A", ()),
    ("A", ("--use_dora",)),
    ("A", ("--lora_init", "pissa", "--lora_dropout", "0")),
    ("B", ("--lora_r", "3")),
    ("B", ("--reference", "live")),
    ("A", ("--dtype", "bfloat16")),
    ("A", ("--use_4bit",)),
    ("B", ("--use_8bit",)),
]
EXAMPLES = [PromptCompletions(list(range(3, 3 + 9 * n)), ([40, 41, 42],)) for n in (1, 2)]


@pytest.mark.parametrize(("stage", "extra"), FLAGS)
def test_the_run_is_afterwards_as_it_was(
    stage: str, extra: tuple[str, ...], inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_it, without = (
        PREPARE[stage](inputs, tmp_path / name, *extra, *skip)
        for name, skip in (("with", ()), ("without", ("--skip_preflight",)))
    )
    printed = capsys.readouterr().out
    assert "Preflight: context, forward, backward, save, load, merge (" in printed
    assert "Preflight: skipped" in printed
    assert with_it.policy.active_adapters == without.policy.active_adapters
    modes = [[module.training for module in run.policy.modules()] for run in (with_it, without)]
    assert modes[0] == modes[1]  # else dropout and gradient checkpointing would be off
    assert any(modes[0])
    assert list(with_it.policy.peft_config) == list(without.policy.peft_config)
    expected = dict(without.policy.named_parameters())
    for name, tensor in with_it.policy.named_parameters():
        assert tensor.requires_grad == expected[name].requires_grad, name
        assert torch.equal(tensor, expected[name]), name
        assert tensor.grad is None
    trained = [id(tensor) for tensor in with_it.policy.parameters() if tensor.requires_grad]
    assert trained == [id(tensor) for tensor in with_it.optimizer.param_groups[0]["params"]]
    with torch.no_grad(), evaluating(with_it.policy), evaluating(without.policy):
        scores = [run.scorer(EXAMPLES)[0] for run in (with_it, without)]
    assert torch.equal(*scores)  # else the layers of a quantised base would compute otherwise


def test_training_does_not_depend_on_the_preflight(inputs: Path, tmp_path: Path) -> None:
    train_stage_a(inputs, tmp_path / "with", *ONE_EPOCH)
    train_stage_a(inputs, tmp_path / "without", *ONE_EPOCH, "--skip_preflight")
    losses = [[row["loss"] for row in metrics(tmp_path / name, "train")] for name in ("with", "without")]
    assert losses[0] == losses[1]


def test_an_example_longer_than_the_context_is_refused_before_the_model_is_loaded(inputs: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    build_tiny_model(short)
    config = json.loads((short / "config.json").read_text(encoding="utf-8"))
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 30}), encoding="utf-8")
    (short / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"8 of 8 examples are longer than .* 30 tokens .* pass --max_length 30"):
        prepare_a(inputs, tmp_path / "run", "--model_name", str(short))


def earlier_run(folder: Path) -> dict[str, int]:
    """Write what an earlier run might have left, and return it as `files_below` does."""
    for name in ("run_config.json", "metrics.jsonl", "final_model/adapter_model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("an earlier run")
    return files_below(folder)


@pytest.mark.parametrize(
    ("scaling", "tokens"),
    [
        (None, 30),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 30}, 120),
        ({"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 10}, 30),  # 30 is the whole context
        ({"rope_type": "linear", "factor": 2.0}, 60),
        ({"rope_type": "dynamic", "factor": 2.0}, 60),
        ({"full_attention": {"rope_type": "linear", "factor": 8.0}}, 30),  # as Gemma 3, whose layers differ
        (
            {
                **{"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 2},  # as Llama 3.2
                **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
            },
            30,
        ),
    ],
)
def test_scaled_positions_reach_further(scaling: dict[str, Any] | None, tokens: int) -> None:
    config = LlamaConfig(max_position_embeddings=30)
    if scaling:
        config.rope_parameters = {"rope_theta": 10_000.0, **scaling}
    assert context_tokens(config) == tokens


def noisy_mlp(self: LlamaMLP, x: torch.Tensor) -> torch.Tensor:
    """Drop out by a function and a constant, so that nothing on the model tells of it."""
    y = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    return torch.nn.functional.dropout(y, 0.1, self.training)


def test_noise_of_the_model_itself_stops_stage_b_and_warns_stage_a(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LlamaMLP, "forward", noisy_mlp)
    monkeypatch.setattr("scoring.fused_check.FusedLayers", lambda policy: None)  # it would replace the noisy layer
    monkeypatch.setattr("scoring.completion_scorer.fuse", lambda *_: None)
    before = earlier_run(tmp_path / "b")
    with pytest.raises(InputError, match=r"two forward passes in training mode differ by .* use another base model"):
        prepare_b(inputs, tmp_path / "b", "--overwrite_output_dir")
    assert files_below(tmp_path / "b") == before
    prepare_a(inputs, tmp_path / "a")
    assert "Stage B will refuse it" in capsys.readouterr().err


def test_a_layer_without_gradient_is_named_with_the_flag_that_excludes_it(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detached(self: LlamaMLP, x: torch.Tensor) -> torch.Tensor:
        return x + self.down_proj(self.act_fn(self.gate_proj(x))).detach()

    monkeypatch.setattr(LlamaMLP, "forward", detached)
    monkeypatch.setattr("scoring.completion_scorer.fuse", lambda *_: None)
    before = earlier_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"no gradient reaches 4 .* --lora_exclude_modules mlp"):
        prepare_a(inputs, tmp_path / "run", "--overwrite_output_dir")
    assert files_below(tmp_path / "run") == before


def test_an_adapter_that_is_saved_wrongly_stops_the_run(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = stage_a.save_adapter

    def save_half(model: Any, folder: Path, **settings: Any) -> None:
        save(model, folder, **settings)
        path = folder / "adapter_model.safetensors"
        save_file({name: tensor / 2 for name, tensor in load_file(path).items()}, path)

    monkeypatch.setattr(stage_a, "save_adapter", save_half)
    with pytest.raises(RunError, match="saving and loading the adapter changed the logits by"):
        prepare_a(inputs, tmp_path / "run")


@pytest.mark.parametrize(
    ("layer", "extra"),
    [
        (Linear, ()),
        (Linear, ("--dtype", "bfloat16")),
        (Linear8bitLt, ("--use_8bit",)),
        (Linear4bit, ("--use_4bit",)),
    ],
)
def test_a_merge_that_changes_the_model_stops_the_run(
    layer: Any, extra: tuple[str, ...], inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = layer.get_delta_weight
    monkeypatch.setattr(layer, "get_delta_weight", lambda self, name: 2 * delta(self, name))
    with pytest.raises(RunError, match=r"merging the adapter changed the logits by \d\d\.\d%"):
        prepare_a(inputs, tmp_path / "run", *extra)


def test_dora_on_a_quantised_base_is_said_not_to_be_merged(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_a(inputs, tmp_path / "run", "--use_4bit", "--use_dora")
    assert "save, load, (merge not checked: DoRA on a quantised base) (" in capsys.readouterr().out
    with pytest.raises(InputError, match="--use_dora: does not work on a base in 8 bits on a CPU; use --use_4bit"):
        prepare_a(inputs, tmp_path / "refused", "--use_8bit", "--use_dora")


def test_every_dropout_is_found_and_put_back() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.layerdrop, self.jitter_noise, self.scale = 0.1, 0.2, 0.3, 0.4
            self.drop = torch.nn.Dropout(0.5)
            self.dropped: list[int] = []

    layer = Layer()
    assert sorted(share for _, _, share in dropout_settings(layer)) == [0.1, 0.2, 0.3, 0.5]
    with without_dropout(layer):
        assert dropout_settings(layer) == []
        assert layer.scale == 0.4
    assert len(turn_dropout_off(layer)) == 4
    assert (layer.dropout, layer.drop.p) == (0.0, 0.0)
