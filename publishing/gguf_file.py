"""Write a model as one GGUF file, the format of llama.cpp and Ollama, with F16 or Q8_0 weights.

Matrices are stored in the chosen type, vectors (norms and biases) in float32. In a Q8_0 file the embeddings and the
output head stay F16, since rounding them changes the texts most, and so does a matrix whose rows are no multiple of 32
long. The rows of query and key are permuted for llama models only: there llama.cpp rotates neighbouring dimensions
together, where transformers rotates dimensions of the first half with dimensions of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from language_model.model_files import context_tokens
from publishing.gguf_vocabulary import CONVERTER, Vocabulary
from publishing.q8_0 import encode_q8_0
from script_io.errors import InputError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

GGUF_TYPES = ("f16", "q8_0")
# Model types of transformers, with llama.cpp's name of the architecture
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_F16_IN_Q8_0 = ("token_embd.weight", "output.weight")
_ROPE_OF_ALL = ("default", "linear")  # llama models also have `llama3`, whose factors are a tensor of the file


@dataclass(frozen=True)
class Settings:
    """What a GGUF file says apart from the weights and the tokens."""

    name: str
    adds_bos: bool  # whether llama.cpp puts the beginning of sequence before a prompt
    chat_template: str | None


def require_supported(config: PretrainedConfig) -> None:
    """Raise InputError if `write_gguf` cannot write models of this configuration."""
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"--gguf writes {known} models, not {config.model_type}; {CONVERTER}")
    rope = config.rope_parameters["rope_type"]
    if rope not in _ROPE_OF_ALL and (rope, ARCHITECTURES[config.model_type]) != ("llama3", "llama"):
        raise InputError(f"--gguf does not write rope_type {rope} for {config.model_type} models; {CONVERTER}")
    if config.hidden_act != "silu":
        raise InputError(f"--gguf writes models with the activation silu, not {config.hidden_act}; {CONVERTER}")


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    kind: str,
    settings: Settings,
) -> None:
    """Write the model to `path`, one tensor after the other; `kind` is one of GGUF_TYPES.

    Raises InputError for shapes that are not supported.
    """
    from gguf import GGML_QUANT_VERSION, GGUFWriter, LlamaFileType

    require_supported(model.config)
    writer = GGUFWriter(path, ARCHITECTURES[model.config.model_type])
    writer.add_type("model")
    writer.add_name(settings.name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if kind == "f16" else LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    _add_shape(writer, model)
    _add_vocabulary(writer, tokenizer, vocabulary, settings)
    tensors = dict(_tensors(model, kind))
    for name, tensor in tensors.items():
        writer.add_tensor_info(name, tensor.shape, np.dtype(tensor.dtype), tensor.bytes, tensor.raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors.values():
        writer.write_tensor_data(tensor.data())
    writer.close()


def _add_shape(writer: GGUFWriter, model: PreTrainedModel) -> None:
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(model.get_input_embeddings().num_embeddings)
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_dim)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def context_length(config: Any) -> int:
    """Return the context in tokens, at most the sliding window: llama.cpp knows none in these architectures."""
    tokens = context_tokens(config)
    assert tokens is not None, "these architectures name their positions"
    return min(tokens, getattr(config, "sliding_window", None) or tokens)


def _add_vocabulary(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, settings: Settings
) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.kind == "llama":
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.adds_space)
    else:
        writer.add_token_merges(vocabulary.merges)
    for kind in ("bos", "eos", "unk", "pad"):
        token_id = getattr(tokenizer, f"{kind}_token_id")
        if token_id is not None:
            getattr(writer, f"add_{kind}_token_id")(token_id)
    writer.add_add_bos_token(settings.adds_bos)
    writer.add_add_eos_token(False)
    if settings.chat_template:
        writer.add_chat_template(settings.chat_template)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the file: the shape and the type in which it is stored, and a function that makes its data."""

    shape: tuple[int, ...]
    dtype: type
    bytes: int
    raw_type: Any  # gguf.GGMLQuantizationType
    data: Callable[[], np.ndarray[Any, Any]]


def _tensors(model: PreTrainedModel, kind: str) -> Iterator[tuple[str, _Tensor]]:
    """Yield name and tensor of all weights. The output head is left out if it shares the embeddings' weights."""
    config = model.config
    if (factors := _rope_factors(model)) is not None:
        yield "rope_freqs.weight", _tensor(factors, stored_type(factors, kind), None)
    for stored, weight in named_weights(model):
        heads = None
        if ARCHITECTURES[config.model_type] == "llama" and ".attn_q." in stored:
            heads = config.num_attention_heads
        elif ARCHITECTURES[config.model_type] == "llama" and ".attn_k." in stored:
            heads = config.num_key_value_heads
        yield stored, _tensor(weight, stored_type(weight, "f16" if stored in _F16_IN_Q8_0 else kind), heads)


def named_weights(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield llama.cpp's name and the values of each weight; an output head with the embeddings' weights is left out."""
    import gguf

    architecture = ARCHITECTURES[model.config.model_type]
    key = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(key, model.config.num_hidden_layers)
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, weight in model.state_dict().items():
        if is_tied and name == "lm_head.weight":
            continue
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if stored is None:
            raise InputError(f"--gguf: llama.cpp's {architecture} has no tensor for {name}; {CONVERTER}")
        yield stored, weight


def _rope_factors(model: PreTrainedModel) -> torch.Tensor | None:
    """Return by what the frequencies of `llama3` are divided, of shape (head_dim / 2,), or None for other kinds."""
    rope = model.config.rope_parameters
    if rope["rope_type"] != "llama3":
        return None
    frequencies = model.get_decoder().rotary_emb.inv_freq.float().cpu()
    exponents = torch.arange(len(frequencies), dtype=torch.float32) / len(frequencies)
    return rope["rope_theta"] ** -exponents / frequencies


def stored_type(weight: torch.Tensor, kind: str) -> GGMLQuantizationType:
    """Return the type in which a file of this kind stores a weight: vectors in F32, rows that fill no blocks in F16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if weight.dim() == 1:
        return GGMLQuantizationType.F32
    fills_blocks = weight.shape[-1] % GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0][0] == 0
    return GGMLQuantizationType.Q8_0 if kind == "q8_0" and fills_blocks else GGMLQuantizationType.F16


def _tensor(weight: torch.Tensor, kind: GGMLQuantizationType, permuted_heads: int | None) -> _Tensor:
    """Return a weight as it is stored, permuted as query or key if `permuted_heads` is given."""
    from gguf import GGMLQuantizationType, quants

    def data() -> np.ndarray[Any, Any]:
        values = weight.detach().float().cpu().numpy()
        return encoded(values if permuted_heads is None else _permuted(values, permuted_heads), kind)

    if kind is GGMLQuantizationType.Q8_0:
        shape = quants.quant_shape_to_byte_shape(tuple(weight.shape), kind)
        return _Tensor(shape, np.uint8, int(np.prod(shape)), kind, data)
    dtype = np.float32 if kind is GGMLQuantizationType.F32 else np.float16
    return _Tensor(tuple(weight.shape), dtype, weight.numel() * np.dtype(dtype).itemsize, kind, data)


def encoded(values: np.ndarray[Any, Any], kind: GGMLQuantizationType) -> np.ndarray[Any, Any]:
    """Return float32 values (..., n) as they are stored in this type."""
    from gguf import GGMLQuantizationType, quants

    return encode_q8_0(values) if kind is GGMLQuantizationType.Q8_0 else quants.quantize(values, kind)


def _permuted(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Return rows (heads x head_dim, ...) so that dimensions i and i + head_dim / 2 of a head become neighbours."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
