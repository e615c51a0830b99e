"""Fused layers against peft's and transformers' own: values, gradients, dropout masks, and the check that chooses."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from tiny_models import build_tiny_model
from training_helpers import CPU, perturb

from language_model.adapters import add_lora, enable_gradient_checkpointing
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement
from scoring import fused_lora
from scoring.completion_scorer import CompletionScorer
from scoring.dropout_masks import DropoutMasks, Mask, keep_bits
from scoring.fused_layers import _GatedSiLU, _RMSNorm
from scoring.fused_lora import FusedLoRA, watch_inputs
from scoring.packed_rows import PromptCompletions

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEP = 1e-3  # length of a step of a finite difference
FUSED = "LoRA: layers that read the same input are one operation"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("llama"))


def examples(count: int = 3) -> list[PromptCompletions]:
    rng = random.Random(0)

    def words(low: int, high: int) -> list[int]:
        return [rng.randrange(6, 250) for _ in range(rng.randint(low, high))]

    return [PromptCompletions(words(20, 50), (words(10, 25), words(10, 25))) for _ in range(count)]


def scorer_of(
    base: Path, dropout: float = 0.0, placement: Placement = CPU, modules: list[str] = ALL_LINEAR
) -> CompletionScorer:
    torch.manual_seed(0)  # of lora_A
    policy = add_lora(load_base_model(base, placement, load_tokenizer(base)), 4, 8, dropout, modules)
    perturb(policy, 3, 0.2)
    return CompletionScorer(policy, pad_id=0).train()


def loss_of(scorer: CompletionScorer, seed: int = 5) -> torch.Tensor:
    torch.manual_seed(seed)
    sums, counts = scorer(examples())
    return -(sums / counts).mean()


def gradients_of(scorer: CompletionScorer, seed: int = 5) -> dict[str, torch.Tensor]:
    scorer.zero_grad()
    loss_of(scorer, seed).backward()
    return {name: each.grad.clone() for name, each in scorer.named_parameters() if each.grad is not None}


def trained(scorer: CompletionScorer) -> list[torch.nn.Parameter]:
    return [parameter for parameter in scorer.parameters() if parameter.requires_grad]


# ------------------------------------------------------------------------------------------ dropout masks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.05, 0.5])
def test_masks_drop_the_share_asked_for_independently(dtype: torch.dtype, probability: float) -> None:
    torch.manual_seed(1)
    masks = DropoutMasks(probability, 64, dtype, torch.device("cpu"))
    masks.draw(2000)
    kept = masks.window(2000 * 64).apply(torch.ones(2000, 64, dtype=dtype)).float()
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    dropped = 1 - kept
    n = dropped.numel()
    deviation = (probability * (1 - probability)) ** 0.5
    assert abs(dropped.mean().item() - probability) < 4 * deviation / n**0.5
    for shift in (1, 64):  # neighbours in a token, and the same feature of the next token
        flat = dropped.flatten() - probability
        correlation = (flat[shift:] * flat[:-shift]).mean().item() / deviation**2
        assert abs(correlation) < 4 / n**0.5


def test_masks_follow_torch_s_random_numbers() -> None:
    def windows(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        masks = DropoutMasks(0.5, 8, torch.float32, torch.device("cpu"))
        masks.draw(50)
        ones = torch.ones(50, 8)
        return [masks.window(400).apply(ones) for _ in range(3)]

    first = windows(1)
    assert all(map(torch.equal, first, windows(1)))
    assert not torch.equal(first[0], windows(2)[0])
    assert not torch.equal(first[0], first[1])


def test_bits_are_dropped_from_the_lowest_integers_up() -> None:
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    assert keep_bits(every, 0.25).tolist() == [0] * 2**14 + [-1] * (3 * 2**14)


def test_without_dropout_nothing_is_drawn() -> None:
    state = torch.get_rng_state()
    DropoutMasks(0.0, 8, torch.float32, torch.device("cpu")).draw(50)
    assert torch.equal(torch.get_rng_state(), state)


# -------------------------------------------------------------------------------- against the plain layers


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral", "gemma3"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients_equal_peft_s(tmp_path: Path, architecture: str, checkpointing: bool) -> None:
    base = build_tiny_model(tmp_path / "base", architecture)
    plain, fused = scorer_of(base), scorer_of(base)
    if checkpointing:
        enable_gradient_checkpointing(fused.policy)
    fused.choose(examples())
    assert loss_of(fused).item() == pytest.approx(loss_of(plain).item(), abs=1e-5)
    expected = gradients_of(plain)
    for name, gradient in gradients_of(fused).items():
        assert gradient.norm() > 0, name
        assert (gradient - expected[name]).norm() < 1e-4 * expected[name].norm(), name


def test_layers_that_read_one_input_are_one_group(base: Path) -> None:
    scorer = scorer_of(base)
    with watch_inputs(scorer.policy) as groups, torch.no_grad():
        scorer(examples())
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in scorer.policy.named_modules()}
    expected = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert [[names[id(layer)] for layer in group] for group in groups] == expected * 2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_with_dropout_are_the_slope_of_the_loss(base: Path, checkpointing: bool) -> None:
    """The backward pass applies the masks of the forward pass, or the finite difference would be another."""
    scorer = scorer_of(base, dropout=0.3)
    if checkpointing:
        enable_gradient_checkpointing(scorer.policy)
    scorer.choose(examples())
    gradients = gradients_of(scorer)
    parameters = dict(scorer.named_parameters())
    for part in ("lora_A", "lora_B"):
        chosen = {name: gradient for name, gradient in gradients.items() if part in name}
        norm = sum(gradient.square().sum().item() for gradient in chosen.values()) ** 0.5
        losses = []
        for step in (STEP, -2 * STEP, STEP):  # one step up the gradient, one step down, and back
            with torch.no_grad():
                for name, gradient in chosen.items():
                    parameters[name].add_(gradient, alpha=step / norm)
            losses.append(loss_of(scorer).item())
        assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(norm, rel=0.01)


def test_dropout_is_on_in_training_only_and_repeats_with_the_seed(base: Path) -> None:
    scorer, plain = scorer_of(base, dropout=0.3), scorer_of(base)
    scorer.choose(examples())
    assert loss_of(scorer).item() == loss_of(scorer).item()
    assert abs(loss_of(scorer).item() - loss_of(scorer, seed=6).item()) > 1e-3
    assert abs(loss_of(scorer).item() - loss_of(plain).item()) > 1e-3
    assert loss_of(scorer.eval()).item() == pytest.approx(loss_of(plain).item(), abs=1e-5)


def test_dropout_leaves_the_mean_of_the_adapter_s_output(base: Path) -> None:
    """Averaged over masks, a linear layer's output is that without dropout (inverted dropout)."""
    layer = next(module for module in scorer_of(base, dropout=0.4).policy.modules() if isinstance(module, LoraLayer))
    x = torch.randn(40, layer.in_features, generator=torch.Generator().manual_seed(0))
    fused = FusedLoRA([[layer]])
    torch.manual_seed(0)
    outputs = []
    for _ in range(2000):
        fused.masks.draw(len(x))
        outputs.append(layer(x).detach())
    fused.restore()
    stacked, expected = torch.stack(outputs), layer.eval()(x).detach()
    error = stacked.std(dim=0) / len(outputs) ** 0.5
    assert ((stacked.mean(dim=0) - expected) / error).pow(2).mean().item() == pytest.approx(1, abs=0.2)


def test_products_pass_gradcheck_in_double_precision(base: Path) -> None:
    scorer = scorer_of(base)
    layers = [module for module in scorer.policy.modules() if isinstance(module, LoraLayer)][:3]
    for layer in layers:
        layer.double()
    products = fused_lora._Products.of(layers)
    masks = DropoutMasks(0.3, layers[0].in_features, torch.float64, torch.device("cpu"))
    masks.draw(5)
    mask = masks.window(5 * layers[0].in_features)
    x = torch.randn(5, layers[0].in_features, dtype=torch.float64, requires_grad=True)

    def outputs(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        unused = [layer.lora_A["default"].weight for layer in layers] + [
            layer.lora_B["default"].weight for layer in layers
        ]
        found: tuple[torch.Tensor, ...] = fused_lora._LoRAProducts.apply(x, products, mask, 1 / 0.7, *unused)
        return found

    assert torch.autograd.gradcheck(outputs, (x,))


def test_norm_and_gate_pass_gradcheck_and_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    x, gate, up = (torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    weight = torch.rand(8, dtype=torch.float64) + 0.5
    assert torch.autograd.gradcheck(lambda x: _RMSNorm.apply(x, weight, 1e-5), (x,))
    assert torch.autograd.gradcheck(_GatedSiLU.apply, (gate, up))
    torch.testing.assert_close(_RMSNorm.apply(x, weight, 1e-5), torch.nn.functional.rms_norm(x, (8,), weight, 1e-5))
    torch.testing.assert_close(_GatedSiLU.apply(gate, up), torch.nn.functional.silu(gate) * up)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantised_bases_equal_peft_s(base: Path, bits: str, capsys: pytest.CaptureFixture[str]) -> None:
    placement = Placement(torch.device("cpu"), torch.bfloat16, bits)
    plain, fused = scorer_of(base, placement=placement), scorer_of(base, placement=placement)
    fused.choose(examples())
    assert (FUSED in capsys.readouterr().out) == (bits == "4bit")  # the products of 8-bit layers round their input
    assert loss_of(fused).item() == pytest.approx(loss_of(plain).item(), abs=0.02)
    expected = gradients_of(plain)
    for name, gradient in gradients_of(fused).items():
        assert (gradient - expected[name]).norm() < 0.1 * expected[name].norm(), name


# ----------------------------------------------------------------------------------- what it leaves to peft


def test_an_optimiser_step_is_seen_by_the_next_forward_pass(base: Path) -> None:
    scorer, plain = scorer_of(base), scorer_of(base)
    scorer.choose(examples())
    for each in (scorer, plain):
        loss_of(each).backward()
        torch.optim.SGD(trained(each), lr=1.0).step()
    assert loss_of(scorer).item() == pytest.approx(loss_of(plain).item(), abs=1e-4)


def test_disabled_and_merged_adapters_are_peft_s(base: Path) -> None:
    scorer, plain = scorer_of(base).eval(), scorer_of(base).eval()
    scorer.choose(examples())
    with scorer.policy.disable_adapter(), plain.policy.disable_adapter():
        assert loss_of(scorer).item() == pytest.approx(loss_of(plain).item(), abs=1e-5)
    adapted = loss_of(scorer).item()
    scorer.policy.merge_adapter()
    assert loss_of(scorer).item() == pytest.approx(adapted, abs=1e-4)


def test_two_active_adapters_are_summed_and_only_the_trained_one_gets_gradients(base: Path) -> None:
    def two_adapters() -> CompletionScorer:
        scorer = scorer_of(base)
        torch.manual_seed(2)
        scorer.policy.add_adapter("second", LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "down_proj"]))
        scorer.policy.base_model.set_adapter(["default", "second"])
        for name, parameter in scorer.policy.named_parameters():
            parameter.requires_grad_(".second." in name)
        perturb(scorer.policy, 4, 0.1)
        return scorer

    plain, fused = two_adapters(), two_adapters()
    fused.choose(examples())
    expected, found = gradients_of(plain), gradients_of(fused)
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 2 * 2
    for name, gradient in found.items():
        assert (gradient - expected[name]).norm() < 1e-4 * expected[name].norm(), name


def test_other_kinds_of_adapters_are_peft_s(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def dora() -> CompletionScorer:
        torch.manual_seed(0)
        model = load_base_model(base, CPU, load_tokenizer(base))
        return CompletionScorer(get_peft_model(model, LoraConfig(r=4, use_dora=True, target_modules=ALL_LINEAR)), 0)

    fused, plain = dora().train(), dora().train()
    fused.choose(examples())
    assert loss_of(fused).item() == pytest.approx(loss_of(plain).item(), abs=1e-5)
    assert "warning" not in capsys.readouterr().err


def test_restored_layers_are_peft_s_and_nothing_is_added_to_what_is_saved(base: Path) -> None:
    scorer = scorer_of(base)
    keys = set(scorer.state_dict())
    with watch_inputs(scorer.policy) as groups, torch.no_grad():
        scorer(examples())
    fused = FusedLoRA(groups)
    assert all("forward" in vars(layer) for group in groups for layer in group)
    assert set(scorer.state_dict()) == keys
    fused.restore()
    assert not any("forward" in vars(module) for module in scorer.modules())


# -------------------------------------------------------------------------------------------- the check


def test_the_check_changes_nothing_of_the_run(base: Path) -> None:
    scorer = scorer_of(base, dropout=0.3)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    before = [parameter.detach().clone() for parameter in scorer.parameters()]
    scorer.choose(examples())
    assert all(map(torch.equal, scorer.parameters(), before))
    assert all(parameter.grad is None for parameter in scorer.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def shifted_mask(self: Mask, x: torch.Tensor) -> torch.Tensor:
    """The mask of another offset each time that it is applied."""
    object.__setattr__(self, "offset", max(0, self.offset - 1))
    return APPLY(self, x)


APPLY = Mask.apply


@pytest.mark.parametrize("mutation", ["backward mask", "mask of each layer", "scaling", "layer norm"])
def test_the_check_finds_and_undoes_what_is_wrong(
    base: Path, mutation: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if mutation == "backward mask":
        monkeypatch.setattr("scoring.fused_lora.Mask.apply", shifted_mask)
    elif mutation == "mask of each layer":  # instead of one for each input
        monkeypatch.setattr(
            "scoring.fused_check.FusedLoRA", lambda groups: FusedLoRA([[layer] for group in groups for layer in group])
        )
    elif mutation == "scaling":
        of = fused_lora._Products.of

        def too_large(layers: list[LoraLayer]) -> fused_lora._Products:
            products = of(layers)
            return replace(products, up=tuple(1.1 * up for up in products.up))

        monkeypatch.setattr(fused_lora._Products, "of", too_large)
    else:
        forward = _RMSNorm.forward
        monkeypatch.setattr(
            _RMSNorm, "forward", staticmethod(lambda ctx, x, weight, eps: forward(ctx, x, weight, eps + 0.1))
        )
    scorer = scorer_of(base, dropout=0.3)
    scorer.choose(examples())
    printed = capsys.readouterr()
    assert "warning" in printed.err
    if mutation == "layer norm":
        assert FUSED in printed.out
        assert "norms and activations are computed separately" in printed.err
    else:
        assert FUSED not in printed.out
        assert "LoRA is computed by peft, which is slower" in printed.err
        assert not any("forward" in vars(module) for module in scorer.modules())
    monkeypatch.undo()
    assert loss_of(scorer.eval()).item() == pytest.approx(loss_of(scorer_of(base)).item(), abs=1e-5)
