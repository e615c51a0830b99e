"""The presets of `--hardware` against the memory estimate, and the same commands and figures in all texts."""

import re
import shlex

import pytest
import torch
from training_helpers import ROOT
from transformers import AutoModelForCausalLM, LlamaConfig

from language_model.placement import Placement
from pipeline.hardware import PRESETS
from pipeline.script_flags import STAGE_A, STAGE_B, parser_of_script
from scoring.packed_rows import PromptCompletions, lay_out
from training.activation_memory import Adapters
from training.memory_estimate import GIB, estimate_memory

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROMPT, COMPLETION = 392, 120  # tokens, 512 together
# hidden, intermediate, layers, heads, key-value heads, vocabulary; 7B as Mistral-7B-v0.3, 8B as Llama-3.1-8B, 1B and 3B
# as Llama 3.2, 14B and 32B as Qwen2.5, 70B as Llama-3.1-70B
SIZES = {
    "1B": (2048, 8192, 16, 32, 8, 128_256), "3B": (3072, 8192, 28, 24, 8, 128_256),
    "7B": (4096, 14_336, 32, 32, 8, 32_768), "8B": (4096, 14_336, 32, 32, 8, 128_256),
    "14B": (5120, 13_824, 48, 40, 8, 152_064), "32B": (5120, 27_648, 64, 40, 8, 152_064),
    "70B": (8192, 28_672, 80, 64, 8, 128_256),
}  # fmt: skip
# preset, further flags, size of the model, memory of the machine in GiB, share of it that a training may fill. The
# rest is for the driver and for gaps, on a Mac and for CPUs also for the system.
FITTING = [
    ("cpu", "", "1B", 8, 0.75),
    ("cpu", "", "3B", 16, 0.75),
    ("cpu", "", "8B", 32, 0.75),
    ("mac", "", "3B", 16, 0.65),
    ("mac", "", "8B", 32, 0.65),
    ("12gb", "", "7B", 12, 0.9),
    ("12gb", "", "8B", 12, 0.9),
    ("24gb", "", "7B", 24, 0.9),
    ("24gb", "", "8B", 24, 0.9),
    ("24gb", "--use_4bit", "14B", 24, 0.9),
    ("80gb", "", "7B", 80, 0.9),
    ("80gb", "", "14B", 80, 0.9),
    ("80gb", "--gradient_checkpointing", "32B", 80, 0.9),
    ("80gb", "--use_4bit --gradient_checkpointing", "70B", 80, 0.9),
]


@pytest.fixture(scope="module")
def models():
    """Models of each size without weights."""
    built = {}
    for name, (hidden, intermediate, layers, heads, kv_heads, vocabulary) in SIZES.items():
        config = LlamaConfig(
            hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=kv_heads, vocab_size=vocabulary,
        )  # fmt: skip
        with torch.device("meta"):
            built[name] = AutoModelForCausalLM.from_config(config)
    return built


def estimated_gib(model, preset, script, flags):
    """Return the estimate of a stage with adapters on all linear layers, for its largest batch, in GiB."""
    words = [*preset.every, *preset.words(script), *shlex.split(flags)]
    args = parser_of_script(script).parse_args(words)
    completions, dropout = (1, 0.05) if script == STAGE_A else (2, 0.0)
    example = PromptCompletions([5] * PROMPT, tuple([6] * COMPLETION for _ in range(completions)))
    placement = Placement(torch.device(preset.device), torch.bfloat16, "4bit" if args.use_4bit else "none")
    adapters = Adapters(16, ALL_LINEAR, dropout=dropout)
    row = lay_out([example] * args.batch_size)
    found = estimate_memory(model, placement, adapters, row, checkpointing=args.gradient_checkpointing)
    process = 0.5 if preset.device == "cpu" else 0.0  # of a script; the tests' own process is larger
    return process + (found.total - found.process) / GIB


@pytest.mark.parametrize(("name", "flags", "size", "memory", "share"), FITTING)
def test_a_preset_fits_the_models_that_it_names(models, name, flags, size, memory, share):
    preset = PRESETS[name]
    needed = [estimated_gib(models[size], preset, script, flags) for script in (STAGE_A, STAGE_B)]
    assert max(needed) <= share * memory
    if size != "7B":  # the size that all presets are made for
        assert size in preset.fits
    page = (ROOT / "docs" / "speed_and_memory.md").read_text(encoding="utf-8")
    with_flags = f"`{name}`{f' with `{flags}`' if flags else ''}"
    row = re.search(rf"(?m)^\| {re.escape(with_flags)} \| {size} \| {memory} GB \| ([\d.]+) \| ([\d.]+) \|$", page)
    assert row, f"{with_flags}, {size}: {needed}"
    assert list(map(float, row.groups())) == pytest.approx(needed, abs=0.06)


def test_every_preset_takes_eight_examples_per_step():
    for preset in PRESETS.values():
        for script in (STAGE_A, STAGE_B):
            args = parser_of_script(script).parse_args(preset.words(script))
            assert args.batch_size * args.gradient_accumulation_steps == 8


def test_the_texts_have_the_commands_of_the_12gb_preset():
    preset = PRESETS["12gb"]
    for script in (STAGE_A, STAGE_B):
        asked = parser_of_script(script).parse_args([*preset.every, *preset.words(script)])
        for file in (script, "README.md"):
            text = (ROOT / file).read_text(encoding="utf-8").replace("\\\\\n", "\\\n").replace("\\\n", " ")
            line = next(line for line in re.findall(rf"(?m)^ *python {script} (.*)$", text) if "--use_4bit" in line)
            args = parser_of_script(script).parse_args(shlex.split(line, comments=True))
            for flag in ("use_4bit", "gradient_checkpointing", "batch_size", "gradient_accumulation_steps"):
                assert getattr(args, flag) == getattr(asked, flag), f"{file}: {flag}"
