"""The fast way against the plain one on the architectures people use, and that a wrong fast way would be seen."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace

import pytest
import torch
from tiny_models import build_tiny_model
from training_helpers import CPU, LINEAR, perturb

from language_model.adapters import add_lora, enable_gradient_checkpointing
from language_model.loading import load_base_model, load_tokenizer
from scoring import completion_scorer, last_layer, packed_attention
from scoring.completion_scorer import CompletionScorer
from scoring.packed_rows import PromptCompletions, lay_out

ARCHITECTURES = ["llama", "qwen2", "qwen3", "mistral", "gemma3"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def base(request, tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


def examples(count: int = 3) -> list[PromptCompletions]:
    """Pairs longer than the sliding windows of the tiny models (16)."""
    rng = random.Random(0)

    def words(low: int, high: int) -> list[int]:
        return [rng.randrange(6, 250) for _ in range(rng.randint(low, high))]

    return [PromptCompletions(words(20, 50), (words(10, 25), words(10, 25))) for _ in range(count)]


def scorer_of(base, *, checkpointing: bool = False, dropout: float = 0.0) -> CompletionScorer:
    torch.manual_seed(0)  # of lora_A
    policy = add_lora(load_base_model(base, CPU, load_tokenizer(base)), 4, 8, dropout, LINEAR)
    perturb(policy, 3, 0.2)
    if checkpointing:
        enable_gradient_checkpointing(policy)
    return CompletionScorer(policy, pad_id=0).train()


def loss_and_gradients(scorer: CompletionScorer) -> tuple[float, dict[str, torch.Tensor]]:
    logps, tokens = scorer(examples())
    chosen, rejected = logps.view(-1, 2).unbind(1)
    loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean() - (logps / tokens).mean()
    loss.backward()
    gradients = {name: p.grad for name, p in scorer.named_parameters() if p.grad is not None}
    return loss.item(), gradients


@pytest.mark.parametrize("checkpointing", [False, True])
def test_fast_equals_plain(base, checkpointing):
    plain_loss, plain = loss_and_gradients(scorer_of(base))
    fast_scorer = scorer_of(base, checkpointing=checkpointing)
    fast_scorer.choose(examples())
    assert fast_scorer.is_packed
    widths: list[int] = []
    last_of(fast_scorer).mlp.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    fast_loss, fast = loss_and_gradients(fast_scorer)
    assert widths == [len(lay_out(examples()).predicting)] * (1 + checkpointing)  # also where it is recomputed
    assert fast_loss == pytest.approx(plain_loss, abs=1e-5)
    assert fast.keys() == plain.keys()
    for name, gradient in plain.items():
        assert gradient.norm() > 0, name
        assert (fast[name] - gradient).norm() < 1e-4 * gradient.norm(), name


def test_rows_padded_as_for_a_gpu_change_nothing(base):
    scorers = [scorer_of(base), scorer_of(base)]
    for scorer, pads_rows in zip(scorers, (False, True), strict=True):
        scorer.pads_rows = pads_rows
        scorer.choose(examples())
        assert scorer.is_packed
    tokens: list[int] = []
    scorers[1].policy.get_base_model().model.register_forward_pre_hook(
        lambda *call: tokens.append(call[2]["input_ids"].numel()), with_kwargs=True
    )
    (plain_loss, plain), (padded_loss, padded) = map(loss_and_gradients, scorers)
    assert tokens == [512]
    assert padded_loss == pytest.approx(plain_loss, abs=1e-6)
    for name, gradient in plain.items():
        torch.testing.assert_close(padded[name], gradient, atol=1e-6, rtol=1e-4)


def last_of(scorer: CompletionScorer) -> torch.nn.Module:
    return scorer.policy.get_base_model().model.layers[-1]


@pytest.mark.parametrize("part", ["residual", "output projection"])
def test_a_last_layer_computed_at_wrong_positions_is_found_and_left_whole(base, part, monkeypatch):
    def one_behind(arguments):
        return (arguments[0].roll(1, dims=1), *arguments[1:])

    if part == "residual":
        narrow = last_layer._narrow
        monkeypatch.setattr(last_layer, "_narrow", lambda _, args, kwargs: narrow(_, one_behind(args), kwargs))
    else:
        project = last_layer.LastLayer._project
        monkeypatch.setattr(last_layer.LastLayer, "_project", lambda self, _, args: project(self, _, one_behind(args)))
    scorer = scorer_of(base)
    scorer.choose(examples())
    assert scorer.is_packed
    widths: list[int] = []
    last_of(scorer).mlp.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    assert loss_and_gradients(scorer)[0] == pytest.approx(loss_and_gradients(scorer_of(base))[0], abs=1e-5)
    assert widths == [lay_out(examples()).input_ids.shape[1]]


def test_a_forward_pass_without_a_row_is_that_of_the_whole_model(base):
    scorer = scorer_of(base).eval()
    stock = scorer.policy.config._attn_implementation
    ids = torch.tensor([examples()[0].prompt])
    with torch.no_grad():
        before = scorer.policy(input_ids=ids).logits
        scorer.choose(examples())
        scorer.policy.get_base_model().set_attn_implementation(stock)
        torch.testing.assert_close(scorer.policy(input_ids=ids).logits, before, atol=1e-4, rtol=0)


def test_layers_of_other_parts_are_left_alone():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(AttributeError):
        last_layer.LastLayer(SimpleNamespace(layers=[layer]))
    assert not layer._forward_pre_hooks


def test_a_model_whose_last_layer_has_other_parts_is_packed_all_the_same(base, monkeypatch):
    def of_other_parts(decoder):
        raise AttributeError("input_layernorm")

    monkeypatch.setattr(completion_scorer, "LastLayer", of_other_parts)
    scorer = scorer_of(base)
    scorer.choose(examples())
    assert scorer.is_packed
    assert loss_and_gradients(scorer)[0] == pytest.approx(loss_and_gradients(scorer_of(base))[0], abs=1e-5)


def test_pairs_are_scored_in_order_with_their_token_counts(base):
    scorer = scorer_of(base)
    scorer.choose(examples())
    with torch.no_grad():
        together, tokens = scorer(examples())
        alone = torch.cat([scorer([example])[0] for example in examples()])
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert tokens.tolist() == [len(completion) for example in examples() for completion in example.completions]


@pytest.mark.parametrize(
    "mutation",
    ["completions see each other", "examples see each other", "positions run on", "the window is forgotten"],
)
def test_a_wrong_row_is_found_by_the_check(base, mutation, monkeypatch, capsys):
    attention, layout = packed_attention.packed_attention, completion_scorer.lay_out
    if mutation == "the window is forgotten":
        if not any(name in str(base) for name in ("mistral", "gemma3")):
            pytest.skip("the model has no window")

        def without_window(*args, **kwargs):
            return attention(*args, **kwargs | {"sliding_window": None})

        monkeypatch.setattr(packed_attention, "packed_attention", without_window)
    monkeypatch.setattr(completion_scorer, "lay_out", lambda given: mutated(layout(given), mutation))
    scorer = scorer_of(base)
    scorer.choose(examples())
    assert not scorer.is_packed
    assert "packed and padded differ by" in capsys.readouterr().err
    assert loss_and_gradients(scorer)[0] == pytest.approx(loss_and_gradients(scorer_of(base))[0], abs=1e-6)


def mutated(row, mutation):
    if mutation == "completions see each other":
        joined = tuple(
            segment._replace(completion_tokens=(sum(segment.completion_tokens),)) for segment in row.segments
        )
        return dataclasses.replace(row, segments=joined)
    if mutation == "examples see each other":
        length = row.input_ids.shape[1]
        first = row.segments[0]._replace(prompt_tokens=length - 1, completion_tokens=(1,))
        return dataclasses.replace(row, segments=(first,))
    if mutation == "positions run on":
        return dataclasses.replace(row, position_ids=torch.arange(row.input_ids.shape[1])[None])
    return row


def test_dropout_is_off_in_the_check_and_on_again_after_it(base):
    scorer = scorer_of(base, dropout=0.5)
    scorer.choose(examples())
    assert scorer.is_packed
    assert scorer.policy.training


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("final_logit_softcapping", 30.0, "the model sets final_logit_softcapping"),
        ("logits_scaling", 8.0, "the model sets logits_scaling"),
        ("layer_types", ["linear_attention", "full_attention"], "layers of type linear_attention"),
    ],
)
def test_models_that_rows_cannot_be_packed_for_fall_back(tmp_path, capsys, setting, value, reason):
    scorer = scorer_of(build_tiny_model(tmp_path / "llama"))
    setattr(scorer.policy.config, setting, value)
    scorer.choose(examples())
    assert not scorer.is_packed
    assert reason in capsys.readouterr().err


def test_attention_with_dropout_falls_back(tmp_path, capsys):
    scorer = scorer_of(build_tiny_model(tmp_path / "llama"))
    for layer in scorer.policy.get_base_model().model.layers:
        layer.self_attn.attention_dropout = 0.1
    scorer.choose(examples())
    assert not scorer.is_packed
    assert "its attention has dropout" in capsys.readouterr().err


def test_a_head_that_is_trained_falls_back(tmp_path):
    scorer = scorer_of(build_tiny_model(tmp_path / "llama"))
    scorer.policy.get_base_model().get_output_embeddings().weight.requires_grad_(True)
    scorer.choose(examples())
    assert not scorer.is_packed


def test_a_model_whose_attention_takes_no_rows_falls_back(tmp_path, capsys):
    scorer = scorer_of(build_tiny_model(tmp_path / "llama"))
    model = scorer.policy.get_base_model().model
    forward = model.forward

    def swallow(*args, row=None, **kwargs):
        return forward(*args, **kwargs)

    model.forward = swallow
    scorer.choose(examples())
    assert not scorer.is_packed
    assert "does not take packed rows" in capsys.readouterr().err
    scorer(examples())


def test_nothing_as_large_as_all_logits_is_allocated(tmp_path):
    """The largest tensor of forward and backward is far below (completion tokens, vocabulary)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            outputs = result if isinstance(result, tuple | list) else [result]
            sizes = [tensor.numel() for tensor in outputs if isinstance(tensor, torch.Tensor)]
            self.elements = max([self.elements, *sizes])
            return result

    base = build_tiny_model(tmp_path / "llama")
    scorer = scorer_of(base)
    vocabulary = scorer.policy.config.vocab_size
    scorer.choose(examples())
    completion_tokens = sum(len(c) for example in examples(40) for c in example.completions)
    with pytest.MonkeyPatch.context() as patch, Largest() as largest:
        patch.setattr("scoring.head_logps.CHUNK_ELEMENTS", 16 * vocabulary)
        scorer(examples(40))[0].sum().backward()
    assert largest.elements < completion_tokens * vocabulary / 2
