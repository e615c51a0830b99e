"""Export a model as a GGUF file with a Modelfile for Ollama, and read the file back before it is trusted."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from language_model.model_files import context_tokens
from language_model.prompt_format import build_prompt, encode_prompt
from publishing.gguf_file import Settings, context_length, require_supported, write_gguf
from publishing.gguf_vocabulary import CONVERTER, SPLIT_PROBE, tokenizer_of_file, vocabulary_of
from publishing.ollama import PromptFrame, modelfile, prompt_frame
from script_io.errors import RunError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Largest accepted error of the logits: root mean square, relative to their standard deviation. Rounding makes 0.02%
# (F16) and 0.4% (Q8_0) in the demo's model, 0% and 2.6% in SmolLM2-135M; a wrong permutation makes over 50%
TOLERANCE = {"f16": 0.01, "q8_0": 0.1}


def export_gguf(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    kind: str,
    name: str,
    probe_note: str,
) -> Path:
    """Write `model-F16.gguf` or `model-Q8_0.gguf` with a Modelfile into `folder`; return the path of the GGUF file.

    `name` is the model's name in the file. The logits are compared on the prompt of `probe_note`. Raises InputError for
    models and tokenizers that cannot be written, and RunError if the file that was read back differs from the model.
    """
    require_supported(model.config)
    vocabulary = vocabulary_of(tokenizer, model.get_input_embeddings().num_embeddings)
    frame = prompt_frame(tokenizer, prompt_format)
    path = folder / f"model-{kind.upper()}.gguf"
    template = tokenizer.chat_template if prompt_format == "chat" else None
    write_gguf(path, model, tokenizer, vocabulary, kind, Settings(name, frame.adds_bos, template))
    length = context_length(model.config)
    if length < (context_tokens(model.config) or length):
        print(f"Context length: {length} tokens, the model's sliding window, which llama.cpp does not have")
    check_tokens(path, tokenizer, prompt_format, frame)
    prompt = encode_prompt(tokenizer, build_prompt(probe_note), prompt_format)
    check_logits(path, model, prompt[:length], kind)
    (folder / "Modelfile").write_text(modelfile(path.name, frame, _stops(model, tokenizer), length), encoding="utf-8")
    return path


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    configured = model.generation_config.eos_token_id
    ids = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id} - {None}
    return [tokenizer.convert_ids_to_tokens(token_id) for token_id in sorted(ids)]


def check_tokens(path: Path, tokenizer: PreTrainedTokenizerBase, prompt_format: str, frame: PromptFrame) -> None:
    """Raise RunError unless the tokenizer in the file makes the prompt of the Modelfile the prompt of the model."""
    rebuilt = tokenizer_of_file(path)
    start = [tokenizer.bos_token_id] if frame.adds_bos else []
    note = SPLIT_PROBE.strip()
    ids = start + rebuilt.encode(frame.text(note), add_special_tokens=False).ids
    if ids != encode_prompt(tokenizer, build_prompt(note), prompt_format):
        raise RunError(f"{path.name}: its tokenizer splits a prompt in another way than the model's; {CONVERTER}")


def check_logits(path: Path, model: PreTrainedModel, prompt: list[int], kind: str) -> None:
    """Print how far the logits of the file are from the model's. Raises RunError if that is more than rounding."""
    ids = torch.tensor([prompt], device=model.device)
    read = read_gguf(path, model)
    with torch.no_grad():
        expected, found = (each(input_ids=ids).logits.float() for each in (model, read))
    difference = (found - expected).abs().max().item()
    error = ((found - expected).square().mean().sqrt() / expected.std()).item()
    print(
        f"Logits of {path.name}, read by transformers: largest difference {difference:.1e}, relative error {error:.2%} "
        f"(tolerance {TOLERANCE[kind]:.0%})"
    )
    if not error <= TOLERANCE[kind]:
        raise RunError(f"{path.name}: its logits differ from the model's, by {error:.0%} on average; {CONVERTER}")


def read_gguf(path: Path, model: PreTrainedModel) -> PreTrainedModel:
    """Return the model in a GGUF file, as transformers reads it, on the device and in the dtype of `model`.

    What the file says about the shape is taken from the file; what transformers does not read from it (biases, the
    scaling of rotations) from the configuration of `model`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    stored = load_gguf_checkpoint(str(path), return_tensors=False)["config"]
    rope = {**model.config.rope_parameters, "rope_theta": stored.pop("rope_theta")}
    known = {key: value for key, value in model.config.to_dict().items() if key not in ("model_type", "architectures")}
    config = AutoConfig.for_model(**{**known, **stored, "rope_parameters": rope})
    with redirect_stderr(io.StringIO()):  # a progress bar
        read: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, config=config, dtype=model.dtype, device_map={"": model.device}
        )
    return read.eval()
