"""Make the inputs of benchmarks/compare_trl.py: models of random weights, an adapter, and data of given lengths.

Random weights take the same time as trained ones. Texts consist of words that are one token each in the demo's
tokenizer, so every library tokenises them alike. The benchmark checks this.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.recipes import LINEAR_LAYERS as LINEAR_LAYERS  # of MODELS as well
from language_model.adapters import save_adapter
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from language_model.prompt_format import build_prompt, encode_prompt
from script_io.csv_files import write_csv
from script_io.files import write_jsonl
from training.batch_plan import BatchPlan

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LORA_R, LORA_ALPHA = 16, 32
SPREAD, SHORTEST, LONGEST = 0.28, 0.5, 1.4  # standard deviation and bounds of a length, as shares of its mean
LENGTH_STEP = 8  # tokens


def _shape_of_model(
    width: int, layers: int, heads: int, key_heads: int, inner: int, model_type: str = "llama", **other: Any
) -> dict[str, Any]:
    """Return the settings of a transformers configuration."""
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": inner}
    attention = {"num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": 4096}
    head = {"vocab_size": 32000, "tie_word_embeddings": False}
    return {"model_type": model_type, **sizes, **attention, **head, **other}


MODELS = {
    "tiny": _shape_of_model(32, 2, 4, 2, 64, vocab_size=2000, initializer_range=0.2),  # for tests
    "58M": _shape_of_model(512, 8, 8, 8, 1408),
    "135M": _shape_of_model(576, 30, 9, 3, 1536),  # the layers of SmolLM-135M; 143 million parameters with this head
    "7B": _shape_of_model(4096, 32, 32, 8, 14336, model_type="mistral", sliding_window=None),
}


@dataclass(frozen=True)
class Lora:
    """The adapted layers of an adapter and its dropout. Its rank is LORA_R, and its alpha LORA_ALPHA."""

    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    dropout: float = 0.0


Q_V = Lora()


@dataclass(frozen=True)
class Shape:
    """Mean lengths in tokens. The answer includes its end of sequence."""

    prompt: int
    answer: int


SHAPES = {"short": Shape(40, 20), "clinical": Shape(350, 120), "long": Shape(1400, 400)}


@dataclass(frozen=True)
class Model:
    """A saved model with its adapter, and its numbers of parameters: all, in the layers, and in the head."""

    base: str
    adapter: str
    parameters: int
    layer_parameters: int
    head_parameters: int


@dataclass(frozen=True)
class Data:
    """The files of one stage and shape. `max_length` is the smallest multiple of LENGTH_STEP that cuts no example."""

    train: str
    val: str  # one short example, since our scripts evaluate at the end of an epoch and TRL does not
    check: str  # only the examples of the first batch
    max_length: int


def build_model(name: str, folder: Path, seed: int, lora: Lora = Q_V) -> Model:
    """Save a model of random weights with the demo's tokenizer, and a random adapter as Stage A would save it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = load_tokenizer(DEMO_BASE)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("pad", "bos", "eos")}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**MODELS[name], **ends), dtype=torch.bfloat16 if name == "7B" else torch.float32
    )
    base, adapter = folder / "base", folder / "adapter"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    sizes = {each: parameter.numel() for each, parameter in model.named_parameters()}
    policy = fresh_lora(model, lora)
    set_lora_values(lora_parameters(policy), seed)
    save_adapter(policy, adapter, tokenizer, "plain", base_model=str(base))
    layers = sum(size for each, size in sizes.items() if ".layers." in each)
    return Model(str(base), str(adapter), sum(sizes.values()), layers, sizes["lm_head.weight"])


def fresh_lora(model: PreTrainedModel, lora: Lora = Q_V) -> PeftModel:
    """Return the model with a new adapter of peft."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=LORA_R,
        lora_alpha=LORA_ALPHA,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def lora_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trainable LoRA tensors under `LAYER.MODULE.MATRIX`, the same names for every library."""
    found = {}
    for name, parameter in model.named_parameters():
        match = re.search(r"layers\.(\d+)\..*?(\w+)\.lora_([AB])\.", name)
        if match and parameter.requires_grad:
            found[".".join(match.groups())] = parameter
    assert found
    return found


def set_lora_values(parameters: Mapping[str, torch.nn.Parameter], seed: int) -> None:
    """Set random values that depend only on the seed, the names and the shapes.

    B is not zero, so A has a gradient as well, as it has during training.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(parameters.items()):
            scale = 0.02 if name.endswith("B") else parameter.shape[1] ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def write_data(stage: str, shape: Shape, steps: int, batch_size: int, folder: Path, seed: int) -> Data:
    """Write the examples of `steps` batches to `folder`, with a maximum length that cuts none of them.

    TRL would cut longer examples silently.
    """
    tokenizer = load_tokenizer(DEMO_BASE)
    write_text = TextWriter(tokenizer, random.Random(f"{seed}|{shape}"))
    rows = [write_text.triplet(f"t{index}", shape) for index in range(steps * batch_size)]
    first = BatchPlan(len(rows), batch_size, accumulation=1, num_epochs=1, seed=seed).step_indices(0)
    splits = {
        "train": rows,
        "val": [write_text.triplet("v0", SHAPES["short"])],
        "check": [rows[index] for index in first],
    }
    paths = {split: str(_write_split(stage, rows, folder / split)) for split, rows in splits.items()}
    longest = max(row["tokens"] for row in rows)
    return Data(**paths, max_length=math.ceil(longest / LENGTH_STEP) * LENGTH_STEP)


class TextWriter:
    """Write notes and answers of random words with exact numbers of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> None:
        self.rng = rng
        words = sorted(token[1:] for token in tokenizer.get_vocab() if re.fullmatch("Ġ[a-z]{3,}", token))
        self.words = [word for word in words if len(tokenizer.tokenize(f" {word}")) == 1]
        self.frame_tokens = len(encode_prompt(tokenizer, build_prompt(self.words[0]), "plain")) - 1

    def triplet(self, example_id: str, shape: Shape) -> dict[str, Any]:
        prompt, chosen, rejected = (self._length(mean) for mean in (shape.prompt, shape.answer, shape.answer))
        return {
            "id": example_id,
            "note": self._text(prompt - self.frame_tokens),
            "chosen": self._text(chosen - 1),  # the last token is the end of sequence
            "rejected": self._text(rejected - 1),
            "tokens": prompt + max(chosen, rejected),
        }

    def _length(self, mean: int) -> int:
        while True:
            length = round(self.rng.gauss(mean, SPREAD * mean))
            if SHORTEST * mean <= length <= LONGEST * mean:
                return length

    def _text(self, words: int) -> str:
        return " ".join(self.rng.choices(self.words, k=words))


def _write_split(stage: str, rows: list[dict[str, Any]], path: Path) -> Path:
    """Write triplets in the format of the stage's script. Stage A trains on the chosen answers."""
    if stage == "dpo":
        path = path.with_suffix(".jsonl")
        answers = ("id", "chosen", "rejected")
        write_jsonl(path, [{"prompt": build_prompt(row["note"]), **{key: row[key] for key in answers}} for row in rows])
    else:
        path = path.with_suffix(".csv")
        columns = {"id": "id", "clinical_note": "note", "model_summary": "chosen"}
        factual = [{column: row[key] for column, key in columns.items()} | {"label": "factual"} for row in rows]
        write_csv(path, (*columns, "label"), factual)
    return path
