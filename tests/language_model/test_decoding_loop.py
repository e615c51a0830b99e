"""The decoding loop: what enters and leaves when, its buffers, and that the check notices a wrong attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build_tiny_model

from language_model import shared_prompt_attention
from language_model.decoding_check import obstacle
from language_model.decoding_loop import DecodingLoop
from language_model.loading import load_for_inference
from language_model.loop_model import LoopModel
from language_model.packed_linear import PackedLinears
from language_model.sampler import Job, SamplingProgress, SamplingSettings, waves_of
from language_model.shared_prompt_cache import STEP, SharedPromptCache, fitting_size, resized

LENGTHS = (40, 7, 23, 1)
PROMPTS = {index: [10 + (index + place) % 300 for place in range(length)] for index, length in enumerate(LENGTHS)}


def model_of(folder: Path, architecture: str = "llama") -> LoopModel:
    return LoopModel(load_for_inference(build_tiny_model(folder, architecture), device="cpu").model)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoopModel:
    return model_of(tmp_path_factory.mktemp("tiny") / "llama")


def jobs_for(completions: int) -> list[Job]:
    return [Job(index, sample, str(index), 3) for index in PROMPTS for sample in range(completions)]


def tokens_of(model: LoopModel, completions: int, batch_size: int, ends: Any = ()) -> dict[tuple[int, int], list[int]]:
    """Run the loop at temperature 1; return the tokens of each (prompt, sample)."""
    settings = SamplingSettings(completions, 40, 1.0, batch_size)
    loop = DecodingLoop(model, PROMPTS, ends, settings, batch_size)
    with torch.inference_mode(), model.installed():
        rows = [row for found in loop.run(jobs_for(completions)) for row in found.ended]
    assert not loop.rows
    assert not loop.slots
    return {(row.job.index, row.job.sample): row.tokens for row in rows}


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2"])
def test_each_completion_equals_the_same_one_alone(tmp_path: Path, architecture: str) -> None:
    """A window of 16 tokens ends within the prompts of mistral, and within its completions behind short prompts."""
    model = model_of(tmp_path / "m", architecture)
    ends = range(0, 300, 11)  # every eleventh token ends a completion, so that rows leave at different steps
    alone = tokens_of(model, 3, 1, ends)
    assert len({len(tokens) for tokens in alone.values()}) > 3
    for batch_size in (2, 5, 12):
        assert tokens_of(model, 3, batch_size, ends) == alone


def test_a_prompt_is_computed_once_and_the_batch_is_filled_again_at_once(
    model: LoopModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[int] = []
    rows: list[int] = []
    forward = LoopModel.forward

    def counted(self: LoopModel, ids: torch.Tensor, positions: torch.Tensor, attention_pass: Any, *kept: Any) -> Any:
        if isinstance(attention_pass, shared_prompt_attention.PrefillPass):
            prompts.extend(attention_pass.lengths)
        else:
            rows.append(len(ids))
        return forward(self, ids, positions, attention_pass, *kept)

    monkeypatch.setattr(LoopModel, "forward", counted)
    found = tokens_of(model, 4, 5, ends=range(0, 300, 7))
    assert len(found) == 16
    assert prompts == list(LENGTHS)
    assert rows == sorted(rows, reverse=True)  # a place that becomes free is filled while completions wait
    assert rows.count(5) > 10
    assert sum(rows) == sum(len(tokens) - 1 for tokens in found.values())


def test_seconds_of_all_completions_add_up_to_the_time_of_the_passes(
    model: LoopModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("language_model.decoding_loop.time.perf_counter", lambda: next(clock))
    loop = DecodingLoop(model, PROMPTS, (), SamplingSettings(2, 5, 1.0), 3)
    with torch.inference_mode(), model.installed():
        passes = list(loop.run(jobs_for(2)))
    assert sum(row.seconds for found in passes for row in found.ended) == pytest.approx(len(passes))
    assert sum(found.tokens for found in passes) == 8 * 5


# --------------------------------------------------------------------------------------------- the check


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_the_check_accepts_known_decoders(tmp_path: Path, architecture: str) -> None:
    model = model_of(tmp_path / "m", architecture)
    with torch.inference_mode():
        assert obstacle(model, PROMPTS[0]) is None


def wrong_place(slots: tuple[int, ...], *rest: Any) -> Any:
    return PLACES(slots[::-1], *rest)


def no_mask(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(seen.shape, dtype=dtype)


PLACES = shared_prompt_attention._places


@pytest.mark.parametrize(("name", "replacement"), [("_places", wrong_place), ("_bias", no_mask)])
def test_the_check_notices_a_wrong_attention(
    model: LoopModel, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any
) -> None:
    monkeypatch.setattr(shared_prompt_attention, name, replacement)
    with torch.inference_mode():
        assert "its probabilities differ by" in str(obstacle(model, PROMPTS[0]))


def test_the_check_notices_wrong_positions_and_leaves_the_model_as_it_was(
    model: LoopModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = model.base.config._attn_implementation
    step = DecodingLoop.step_logits

    def late(loop: DecodingLoop) -> torch.Tensor:
        for slot in loop.slots:
            slot.tokens -= 1
        return step(loop)

    monkeypatch.setattr(DecodingLoop, "step_logits", late)
    with torch.inference_mode():
        assert "its probabilities differ by" in str(obstacle(model, PROMPTS[0]))
    assert model.base.config._attn_implementation == attention
    assert not any("forward" in module.__dict__ for module in model.base.modules())


def test_unknown_arguments_of_the_attention_are_refused(model: LoopModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prompt_attention, "_KNOWN_ARGUMENTS", frozenset())
    with torch.inference_mode():
        assert "the model does not take its attention" in str(obstacle(model, PROMPTS[0]))


# ---------------------------------------------------------------------------------------- buffers, layers, waves


def test_buffers_follow_the_longest_and_keep_what_they_hold() -> None:
    assert [fitting_size(size, tokens) for size, tokens in ((0, 1), (16, 16), (16, 17), (64, 40), (64, 20))] == [
        *(STEP, STEP, 2 * STEP, 64, 2 * STEP)
    ]
    cache = SharedPromptCache(prompts=2, rows=3)
    cache.fit_rows(1)
    cache.fit_prompts(20)
    key = torch.randn(1, 2, 4)
    cache.layer(0, key, key).own_keys[1] = 7.0
    cache.fit_rows(STEP + 1)
    layer = cache.layer(0, key, key)
    assert layer.prompt_keys.shape == (2, 2, 2 * STEP, 4)
    assert layer.own_keys.shape == (3, 2, 2 * STEP, 4)
    assert (layer.own_keys[1, :, :STEP] == 7).all()
    assert layer.own_keys.sum() == 7 * 2 * STEP * 4
    assert torch.equal(resized(layer.own_keys, 3), layer.own_keys[:, :, :3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_linear_layers_equal_plain_ones_and_are_removed(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    first = torch.nn.Linear(24, 40, bias=bias)
    plain = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Linear(40, 7, bias=bias)).to(dtype)
    packed = PackedLinears(plain)
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no products of bfloat16")
    rows = torch.randn(5, 24, dtype=dtype)
    with torch.inference_mode():
        expected = plain(rows)
        with packed.installed():
            found = plain(rows)
            first.weight.zero_()  # the packed copy is what is used
            assert torch.equal(plain(rows), found)
        assert torch.allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 0.02)
        assert not torch.allclose(plain(rows), expected, atol=0.02)


def test_a_processor_without_bfloat16_keeps_the_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("language_model.packed_linear._can_multiply", lambda dtype: dtype == torch.float32)
    layers = {dtype: torch.nn.Linear(8, 8).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    for dtype, layer in layers.items():
        with PackedLinears(layer).installed():
            assert ("forward" in layer.__dict__) == (dtype == torch.float32)


def test_large_models_keep_their_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("language_model.packed_linear.LARGEST_COPY", 100)
    layer = torch.nn.Linear(8, 8)
    with PackedLinears(layer).installed():
        assert "forward" not in layer.__dict__


def test_waves_cover_the_prompts_in_order() -> None:
    settings = SamplingSettings(num_completions=8, batch_size=2)  # 16 batches are 32 rows, or 4 prompts
    assert list(waves_of(9, settings)) == [range(4), range(4, 8), range(8, 9)]
    assert list(waves_of(2, SamplingSettings(num_completions=50, batch_size=1))) == [range(1), range(1, 2)]


def test_progress_shows_tokens_per_second_from_the_first_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter((0.0, 0.0, 2.0))
    monkeypatch.setattr("language_model.sampler.time.perf_counter", lambda: next(seconds))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with SamplingProgress("Completions", 5, done={0}) as progress:
        progress._bar.mininterval = 0
        progress.add_tokens(30)
    shown = capsys.readouterr().err
    assert "Completions" in shown
    assert "0/4" in shown
    assert "15 tokens/s" in shown
