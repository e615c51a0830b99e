"""The parts of the estimate by hand, on a model small enough to count, and what it does with a run that cannot fit."""

from __future__ import annotations

import argparse
import re

import pytest
import torch
from tiny_models import build_tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config

from language_model.placement import Placement
from scoring.packed_rows import PromptCompletions, lay_out, padded_size
from script_io.errors import InputError
from training import memory_estimate
from training.activation_memory import Adapters, decoder_layers, kept_bytes_per_token
from training.batch_plan import BatchPlan
from training.memory_estimate import MemoryEstimate, estimate_memory, fit_memory, largest_row, meta_model

# two layers of: q 32x32, k and v 16x32, o 32x32, gate and up 48x32, down 32x48; embedding and head of 366 tokens
MATRICES = 3 * 32 * 32 - 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32
NORMS = 5 * 32
ADAPTERS = Adapters(4, ("q_proj", "v_proj"))
SAMPLE = PromptCompletions([3] * 10, ([4] * 5, [5] * 3))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("base"))


def placement(dtype=torch.float32, quantisation="none", device="cpu"):
    return Placement(torch.device(device), dtype, quantisation)


def estimate(base, where, *, adapters=ADAPTERS, checkpointing=False) -> MemoryEstimate:
    row = lay_out([SAMPLE])
    return estimate_memory(meta_model(str(base), where), where, adapters, row, checkpointing=checkpointing)


def test_weights_are_counted_and_quantised_layers_shrink(base):
    model = meta_model(str(base), placement())
    vocabulary = model.config.vocab_size
    parameters = 2 * MATRICES + NORMS + vocabulary * 32 * (1 if model.config.tie_word_embeddings else 2)
    assert estimate(base, placement()).weights == 4 * parameters
    assert estimate(base, placement(torch.bfloat16)).weights == 2 * parameters
    eight_bits = 2 * (parameters - 2 * MATRICES) + 2 * MATRICES
    assert estimate(base, placement(torch.bfloat16, "8bit")).weights == eight_bits
    assert estimate(base, placement(torch.bfloat16, "4bit")).weights < eight_bits


def test_a_split_base_is_held_in_shares_and_gathered_layer_by_layer(base):
    where = placement(device="cuda")
    model, row = meta_model(str(base), where), lay_out([SAMPLE])

    def weights(processes):
        return estimate_memory(model, where, ADAPTERS, row, checkpointing=False, shards=processes).weights

    layer = MATRICES + 2 * 32  # two norms
    rest = sum(p.numel() for p in model.parameters()) - 2 * layer
    assert weights(1) == 4 * (2 * layer + rest)
    # both layers may be gathered at once, so two layers leave nothing to save
    assert weights(4) == weights(1)
    ten = torch.nn.ModuleList(layer for _ in range(5) for layer in meta_model(str(base), where).model.layers)
    model.model.layers = ten
    assert weights(4) == 4 * (2 * layer + rest) + (4 * (10 * layer + rest)) // 4


def test_adapters_carry_gradient_and_moments_and_frozen_ones_do_not(base):
    shapes = 2 * (32 + 32 + 32 + 16)  # in and out of q_proj and v_proj, two layers
    assert estimate(base, placement()).adapters == shapes * 4 * 16
    both = Adapters(4, ("q_proj", "v_proj"), frozen_rank=8)
    assert estimate(base, placement(), adapters=both).adapters == shapes * (4 * 16 + 8 * 4)


@pytest.fixture
def light_layers(monkeypatch):
    """The tiny model has two layers, too few for checkpointing to save anything at the measured cost of one."""
    monkeypatch.setattr(memory_estimate, "CHECKPOINTED_LAYERS", 1)
    monkeypatch.setattr(memory_estimate, "CPU_LEFTOVERS", 0.5)


@pytest.mark.usefixtures("light_layers")
def test_activations_are_what_autograd_keeps_of_the_row(base):
    # a token, of one layer: outputs 32 + 16 + 16 + 32 + 48 + 48 + 32, the adapters' input 32, its products with two A
    kept = 18 * 4 * (224 + 32 + 2 * 4)
    # four heads: 10 prompt queries on 10 keys, 5 on 15, 3 on 13
    probabilities = 4 * (100 + 75 + 39) * 4
    transient = 3 * 18 * 48 * 4
    factor = 1 + memory_estimate.CPU_FRAGMENTATION[4]
    assert estimate(base, placement()).activations == round(2 * (kept * factor + probabilities)) + transient
    passed_on, outputs = 2 * 18 * 32 * 4, 2 * 18 * (32 + 16) * 4  # what q_proj and v_proj give out
    checkpointed = round(passed_on * factor + kept * factor + probabilities + 0.5 * outputs) + transient
    assert estimate(base, placement(), checkpointing=True).activations == checkpointed


def test_a_file_of_another_dtype_counts_while_it_is_converted(base):
    file = (base / "model.safetensors").stat().st_size
    assert estimate(base, placement()).loading == 0
    converted = estimate(base, placement(torch.bfloat16))
    assert converted.loading == file
    training = converted.libraries + converted.adapters + converted.activations + converted.head
    largest = max(file, training)
    assert converted.total == converted.process + converted.weights + largest


def test_a_gpu_has_no_part_in_the_process_and_keeps_no_probabilities(base):
    on_gpu = estimate(base, placement(device="cuda"))
    assert on_gpu.process == on_gpu.libraries == 0
    tokens = padded_size(18)
    # FlexAttention keeps its output, 32 wide, and a float32 number for each of four heads
    assert on_gpu.activations == 2 * tokens * (4 * (224 + 32 + 2 * 4 + 32) + 4 * 4) + 3 * tokens * 48 * 4


def test_torch_keeps_compiled_products_in_half_precision(base, monkeypatch):
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    half = placement(torch.bfloat16)
    assert estimate(base, placement()).libraries == memory_estimate.CPU_LIBRARIES
    one = memory_estimate.COMPILED_PRODUCT_BYTES
    assert estimate(base, half).libraries == round(memory_estimate.CPU_LIBRARIES + 1024 * one)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "100")
    assert estimate(base, half).libraries == round(memory_estimate.CPU_LIBRARIES + 100 * one)


ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


FUSED = (
    32 + 32 + 32 + 48 + 7 * 4
)  # one input for q, k and v, one for gate and up, o's and down's; products with seven A
PLAIN = 6 * 32 + 48  # each of the seven keeps its own
HALF = torch.bfloat16


@pytest.mark.parametrize(
    ("where", "dropout", "per_token"),
    [
        (placement(), 0.0, 4 * FUSED),
        (placement(), 0.05, 4 * FUSED),  # masks are not kept
        (placement(HALF), 0.05, 2 * FUSED),
        (placement(HALF, "4bit"), 0.05, 2 * FUSED),
        # peft computes 8-bit layers; with dropout each keeps its masked input and a mask
        (placement(HALF, "8bit"), 0.0, 2 * PLAIN),
        (placement(HALF, "8bit"), 0.05, (2 + 4) * PLAIN),
        (placement(HALF, "8bit", "cuda"), 0.05, (2 + 1) * PLAIN),
    ],
)
def test_what_adapters_of_all_layers_keep_of_their_inputs(base, where, dropout, per_token):
    on_gpu, element = where.device.type == "cuda", where.dtype.itemsize
    factor = 1 if on_gpu else 1 + memory_estimate.CPU_FRAGMENTATION[element]
    plain = estimate(base, where, adapters=Adapters(4, ()))
    adapted = estimate(base, where, adapters=Adapters(4, ALL, dropout=dropout))
    # a dropped copy of down's input, and a string of dropout bits that is an eighth longer
    dropped = element * 48 * (2 + 1 / 8) if dropout else 0
    tokens = padded_size(18) if on_gpu else 18
    assert adapted.activations - plain.activations == pytest.approx(tokens * (2 * per_token * factor + dropped), abs=1)


def test_the_frozen_adapter_keeps_its_product_too(base):
    both, one = (kept_by(decoder_layer(base), Adapters(4, ALL, frozen)) for frozen in (8, 0))
    assert both - one == 4 * 7 * 8


def decoder_layer(base, **settings):
    config = AutoConfig.from_pretrained(base, **settings)
    with torch.device("meta"):
        return decoder_layers(AutoModelForCausalLM.from_config(config))[0]


def kept_by(layer, adapters=ADAPTERS, where=None):
    return kept_bytes_per_token(layer, adapters, where or placement())


def test_layers_of_another_form_keep_more(base):
    fused = kept_by(decoder_layer(base))
    assert kept_by(decoder_layer(base, hidden_act="gelu")) - fused == 4 * 48  # the value of the activation
    # peft's layers, which come with torch's norms and activations: also two float32 sums in place of two in bfloat16
    without = Adapters(4, ())
    eight_bit, half = (kept_by(decoder_layer(base), without, placement(HALF, bits)) for bits in ("8bit", "none"))
    assert eight_bit - half == 2 * 48 + 2 * (4 - 2) * 32


def test_adapters_of_gpt2_whose_matrices_are_transposed_are_computed_by_peft():
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(n_embd=32, n_inner=48, n_layer=2, n_head=4, vocab_size=40, **ends)
    with torch.device("meta"):
        layer = decoder_layers(AutoModelForCausalLM.from_config(config))[0]
    adapted = kept_by(layer, Adapters(4, ("c_attn", "c_fc")))
    assert adapted - kept_by(layer, Adapters(4, ())) == 4 * (32 + 32)  # their inputs, and no products with A


def test_a_regular_expression_counts_as_all_layers():
    assert Adapters(4, r".*layers\.[0-5]\..*").adapts("down_proj")
    assert Adapters(4, ["self_attn.q_proj"]).adapts("q_proj")
    assert not Adapters(4, ["self_attn.q_proj"]).adapts("k_proj")


def test_the_largest_row_is_the_longest_that_the_plan_computes():
    examples = [PromptCompletions([1] * n, ([2] * 2,)) for n in (5, 30, 20, 7)]
    for row_tokens in (1000, 40):
        plan = BatchPlan(4, 2, 1, num_epochs=1, seed=3, row_tokens=row_tokens)
        lengths = [example.tokens for example in examples]
        rows = [row for step in range(2) for row in plan.rows(step, lengths.__getitem__)]
        longest = max(sum(lengths[index] for index in row) for row in rows)
        assert largest_row(examples, plan).input_ids.shape == (1, longest)
        assert longest < 54 or {1, 2} in map(set, rows)  # the two longest count together only if they meet


def arguments(**changes):
    settings = {"batch_size": 8, "gradient_accumulation_steps": 2, "gradient_checkpointing": False}
    return argparse.Namespace(**settings | {"ignore_memory_estimate": False, "shard_base": False} | changes)


def fit(base, args, available, monkeypatch, where=None):
    monkeypatch.setattr(memory_estimate, "available_bytes", lambda device: available)
    monkeypatch.setattr(memory_estimate, "_process_bytes", lambda: 0)
    examples = [SAMPLE] * 16
    plan = BatchPlan(16, args.batch_size, args.gradient_accumulation_steps, 1, seed=0, row_tokens=10_000)
    return fit_memory(args, str(base), where or placement(), ADAPTERS, examples, plan)


def test_a_run_that_fits_is_left_alone(base, monkeypatch, capsys):
    args = arguments()
    needed = fit(base, args, 2**40, monkeypatch)
    assert not args.gradient_checkpointing
    assert re.search(r"Memory: about \d+\.\d\d GiB \(.*\) of 1024\.00 GiB that are free", capsys.readouterr().out)
    assert needed.total > 0


@pytest.mark.usefixtures("light_layers")
def test_checkpointing_goes_on_where_the_run_fits_with_it_alone(base, monkeypatch, capsys):
    plain = fit(base, arguments(), 2**40, monkeypatch).total
    checkpointed = fit(base, arguments(gradient_checkpointing=True), 2**40, monkeypatch).total
    assert checkpointed < plain
    args = arguments()
    assert fit(base, args, checkpointed, monkeypatch).total == checkpointed
    assert args.gradient_checkpointing
    assert "Gradient checkpointing: on" in capsys.readouterr().out


@pytest.mark.usefixtures("light_layers")
def test_a_run_that_cannot_fit_is_refused_with_the_flags_that_would(base, monkeypatch):
    smaller = fit(base, arguments(batch_size=1), 2**40, monkeypatch).total
    flags = "--batch_size 1 --gradient_accumulation_steps 16"
    with pytest.raises(InputError, match=f"it would fit with {flags}, or try it with --ignore_memory_estimate$"):
        fit(base, arguments(), smaller, monkeypatch)
    with pytest.raises(InputError, match="use a smaller model or a larger machine"):
        fit(base, arguments(), 1000, monkeypatch)


@pytest.mark.usefixtures("light_layers")
def test_quantisation_is_the_last_remedy(base, monkeypatch, capsys):
    gpu = placement(device="cuda")
    smallest = fit(base, arguments(batch_size=1, gradient_checkpointing=True), 2**40, monkeypatch, gpu).total
    fit(base, arguments(), smallest - 1, monkeypatch, gpu)
    told = capsys.readouterr().err
    # in 8-bit, peft's adapters keep more than these small weights save
    assert re.search(r"it would fit with --use_4bit --batch_size 1 .* --gradient_checkpointing", told)


@pytest.mark.parametrize(
    ("where", "args"),
    [
        (placement(device="cuda"), arguments()),
        (placement(device="mps"), arguments()),
        (placement(), arguments(ignore_memory_estimate=True)),
    ],
)
def test_a_gpu_only_warns_and_a_cpu_can_be_told_to_try(base, monkeypatch, capsys, where, args):
    fit(base, args, 1000, monkeypatch, where)
    assert "warning: the run needs about" in capsys.readouterr().err
