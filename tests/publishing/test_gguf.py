"""A GGUF file has the model's logits and tokens, and its Modelfile renders the model's prompt."""

import json
import re

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, quants
from repository import ROOT
from tiny_models import TEXTS, build_tiny_model, build_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from training_helpers import CPU
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedTokenizerFast

from language_model.loading import LoadedModel, load_base_model, load_tokenizer
from language_model.local_sampler import LocalSampler
from language_model.model_files import DEMO_BASE, context_tokens
from language_model.prompt_format import build_prompt, encode_prompt
from language_model.sampler import SamplingSettings
from publishing import gguf_file
from publishing.gguf_export import export_gguf, read_gguf
from publishing.gguf_file import context_length, require_supported
from publishing.gguf_vocabulary import SPLIT_PROBE, byte_level_pre, tokenizer_of_file, vocabulary_of
from publishing.ollama import modelfile, prompt_frame
from publishing.q8_0 import encode_q8_0
from script_io.csv_files import read_csv
from script_io.errors import InputError, RunError

TEST_CSV = ROOT / "phase1_data/sft/test_set_processed.csv"
PROBE = "A 54-year-old woman with chest pain for 1234 days."


def load(folder):
    tokenizer = load_tokenizer(folder)
    return load_base_model(folder, CPU, tokenizer).eval(), tokenizer


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2", "qwen3"])
def tiny(request, tmp_path_factory):
    return load(build_tiny_model(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def demo():
    return load(DEMO_BASE)


def export(folder, loaded, kind, prompt_format="plain"):
    return export_gguf(folder, *loaded, prompt_format, kind, "tiny", PROBE)


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


def tensors(path):
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


# --------------------------------------------------------------------------------------------- weights


def test_transformers_reads_the_models_logits_back(tiny, tmp_path):
    path = export(tmp_path, tiny, "f16")
    ids = torch.arange(3, 3 + min(context_length(tiny[0].config), 40)).view(1, -1)
    if tiny[0].config.model_type == "qwen3":  # whose head size transformers does not read from a file
        read = read_gguf(path, tiny[0])
    else:
        read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    torch.testing.assert_close(logits(read, ids), logits(tiny[0], ids), atol=0.05, rtol=0)


def test_the_context_of_the_file_is_that_of_the_model_within_its_window():
    scaled = {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 2.0}
    linear = LlamaConfig(max_position_embeddings=64, rope_parameters=scaled)
    assert context_length(linear) == context_tokens(linear) == 128
    assert context_length(LlamaConfig(max_position_embeddings=64)) == 64
    assert context_length(MistralConfig(max_position_embeddings=64, sliding_window=48)) == 48
    assert context_length(MistralConfig(max_position_embeddings=64, sliding_window=None)) == 64


def test_q8_0_rounds_matrices_and_keeps_the_head(tiny, tmp_path):
    path = export(tmp_path, tiny, "q8_0")
    kinds = tensors(path)
    # rows of 32 fill blocks, and the rows of 48 of ffn_down do not
    assert {kinds[f"blk.0.{name}.weight"] for name in ("attn_q", "attn_output", "ffn_up")} == {"Q8_0"}
    assert {kinds[name] for name in ("token_embd.weight", "output.weight", "blk.1.ffn_down.weight")} == {"F16"}
    assert {kinds[name] for name in ("output_norm.weight", "blk.0.attn_norm.weight")} == {"F32"}
    rounded = read_gguf(path, tiny[0]).model.layers[0].mlp.up_proj.weight
    exact = tiny[0].model.layers[0].mlp.up_proj.weight
    assert 0 < (rounded - exact).abs().max() <= exact.abs().max() / 97  # a step, where the largest weight is cut


def test_blocks_of_q8_0_are_read_by_gguf_and_round_less_than_llama_cpps_own():
    values = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)).numpy()
    values[3, 32:64] = 0
    values[4, :32] = 1e-9  # its scale is 0 in float16
    stored, reference = encode_q8_0(values), quants.quantize(values, GGMLQuantizationType.Q8_0)
    assert (stored.shape, stored.dtype) == (reference.shape, reference.dtype)
    errors = [
        np.square(quants.dequantize(data, GGMLQuantizationType.Q8_0) - values).reshape(-1, 32).sum(axis=1)
        for data in (stored, reference)
    ]
    assert (errors[0] <= errors[1] * 1.001).all()  # the reference divides before it rounds the scale
    assert np.sqrt(errors[0].sum() / errors[1].sum()) < 0.92  # 0.89 when measured
    assert (stored.reshape(64, 3, 34)[3, 1] == 0).all()


def test_a_block_on_an_even_grid_is_stored_exactly():
    values = (torch.arange(-16, 16) * 7 / 32).view(1, 32).numpy()  # the largest is 3.5 = 112 / 32
    assert (quants.dequantize(encode_q8_0(values), GGMLQuantizationType.Q8_0) == values).all()
    assert (
        quants.dequantize(quants.quantize(values, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0) != values
    ).any()


def test_the_demos_model_keeps_its_logits_and_its_texts(demo, tmp_path):
    notes = dict.fromkeys(row["clinical_note"] for _, row in read_csv(TEST_CSV, ("clinical_note",)))
    prompts = [build_prompt(note) for note in list(notes)[:20]]
    ids = torch.tensor([encode_prompt(demo[1], prompts[0], "plain")])
    exact = read_gguf(export(tmp_path, demo, "f16"), demo[0])
    assert (logits(exact, ids) - logits(demo[0], ids)).abs().max() <= 1e-2
    rounded = read_gguf(export(tmp_path, demo, "q8_0"), demo[0])
    assert (logits(rounded, ids) - logits(demo[0], ids)).abs().max() > 1e-2
    expected = texts(demo[0], demo[1], prompts)
    assert len(set(expected)) == 20
    same = [text == other for text, other in zip(texts(rounded, demo[1], prompts), expected, strict=True)]
    assert sum(same) >= 17  # 18: the base model is undecided; the demo's trained model writes all 20 again


def texts(model, tokenizer, prompts):
    sampler = LocalSampler(LoadedModel(model, tokenizer, "plain", torch.device("cpu")), "model")
    found = dict(sampler.complete(prompts, SamplingSettings(1, 12, 0.0, 20, 42)))
    return [found[index][0].text for index in range(len(prompts))]


def test_a_file_with_other_weights_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "_permuted", lambda values, heads: values)
    loaded = load(build_tiny_model(tmp_path / "base"))
    with pytest.raises(RunError, match=r"logits differ from the model's.*convert_hf_to_gguf\.py"):
        export(tmp_path, loaded, "f16")


def test_rotation_factors_of_llama_3_are_a_tensor(tmp_path):
    model, tokenizer = load(build_tiny_model(tmp_path / "base"))
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model.config.rope_parameters = {"rope_type": "llama3", "rope_theta": 10000.0, **scaling}
    model = type(model)(model.config).eval()
    path = export(tmp_path, (model, tokenizer), "f16")
    factors = next(tensor.data for tensor in GGUFReader(path).tensors if tensor.name == "rope_freqs.weight")
    # wavelengths 2 pi 10^i: 6.3 is under 64 / 4 and stays, 628 and 6283 are over 64 and are stretched by 8
    assert factors[[0, 2, 3]] == pytest.approx([1, 8, 8], rel=1e-5)
    assert 1 < factors[1] < 8


@pytest.mark.parametrize(
    ("model_type", "settings", "reason"),
    [
        ("gemma3_text", {}, "not gemma3_text"),
        ("gpt2", {}, "not gpt2"),
        ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rope_type dynamic"),
        ("llama", {"hidden_act": "gelu"}, "not gelu"),
    ],
)
def test_other_shapes_are_one_line_with_the_remedy(model_type, settings, reason):
    with pytest.raises(InputError, match=rf"{reason}.*convert_hf_to_gguf\.py") as caught:
        require_supported(AutoConfig.for_model(model_type, **settings))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- tokens


def bpe(pre_tokenizer):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
PLAIN_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([BYTES], "gpt-2"),
        ([pre_tokenizers.Digits(individual_digits=True), BYTES], "smollm"),
        ([pre_tokenizers.Split(Regex(QWEN2), "isolated"), PLAIN_BYTES], "qwen2"),
        ([pre_tokenizers.Split(Regex(QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")), "isolated"), PLAIN_BYTES], "llama-bpe"),
    ],
)
def test_llama_cpps_name_of_a_pre_tokenizer_is_found(steps, name):
    assert byte_level_pre(bpe(pre_tokenizers.Sequence(steps))) == name


def test_tokenizers_that_llama_cpp_has_not_are_one_line():
    with pytest.raises(InputError, match=r"no pre-tokenizer.*convert_hf_to_gguf\.py"):
        byte_level_pre(bpe(pre_tokenizers.Whitespace()))
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordPiece({"a": 0}, unk_token="a")))
    with pytest.raises(InputError, match=r"this one is WordPiece; convert it with .*convert_hf_to_gguf\.py"):
        vocabulary_of(words, 1)


def test_the_files_tokenizer_splits_text_as_the_models_does(demo, tmp_path):
    rebuilt = tokenizer_of_file(export(tmp_path, demo, "f16"))
    expected = demo[1](SPLIT_PROBE, add_special_tokens=False).input_ids
    assert rebuilt.encode(SPLIT_PROBE, add_special_tokens=False).ids == expected
    assert rebuilt.token_to_id("<eos>") == demo[1].eos_token_id


def sentencepiece_tokenizer():
    """A tokenizer in the form of Llama 2: blanks as a character of their own, bytes for what it does not know."""
    special = ["<unk>", "<s>", "</s>"]
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=420, special_tokens=special + alphabet))
    vocab, merges = trained.get_vocab(), json.loads(trained.to_str())["model"]["merges"]
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(m) for m in merges], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    replace, fuse = decoders.Replace("▁", " "), decoders.Fuse()
    tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), fuse, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def test_sentencepiece_tokenizers_are_written_with_scores(tmp_path):
    base = build_tiny_model(tmp_path / "base")
    tokenizer = sentencepiece_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer) + 4)
    path = export(tmp_path, (model.eval(), tokenizer), "f16")
    fields = GGUFReader(path).fields
    assert fields["tokenizer.ggml.model"].contents() == "llama"
    assert fields["tokenizer.ggml.tokens"].contents()[-4:] == [f"[PAD{len(tokenizer) + i}]" for i in range(4)]
    note = "Left knee osteoarthritis, 9 µg ½"
    frame = prompt_frame(tokenizer, "plain")
    ids = tokenizer_of_file(path).encode(frame.text(note), add_special_tokens=False).ids
    assert [tokenizer.bos_token_id, *ids] == encode_prompt(tokenizer, build_prompt(note), "plain")


# ------------------------------------------------------------------------------------------- Modelfile


def rendered(text, note):
    """Render the template of a Modelfile as Ollama does: actions with a constant, and the prompt."""
    template = re.search(r'TEMPLATE """(.*?)"""\n', text, re.DOTALL)[1]
    constants = re.sub(r'\{\{ "((?:\\.|[^"\\])*)" \}\}', lambda match: match[1].replace('\\"', '"'), template)
    return constants.replace("{{ .Prompt }}", note)


@pytest.mark.parametrize(("architecture", "prompt_format"), [("llama", "plain"), ("qwen2", "chat"), ("qwen2", "plain")])
def test_the_modelfile_renders_the_prompt_of_training(architecture, prompt_format):
    tokenizer = build_tokenizer(architecture)
    frame = prompt_frame(tokenizer, prompt_format)
    text = modelfile("model.gguf", frame, [tokenizer.eos_token], 512)
    note = "A 54-year-old.\nDenies fever."
    start = [tokenizer.bos_token_id] if frame.adds_bos else []
    ids = start + tokenizer(rendered(text, note), add_special_tokens=False).input_ids
    assert ids == encode_prompt(tokenizer, build_prompt(note), prompt_format)
    assert frame.adds_bos is (architecture == "llama")
    assert f'PARAMETER stop "{tokenizer.eos_token}"' in text
    assert "PARAMETER temperature 0\n" in text


def test_text_that_go_would_read_as_code_is_escaped():
    tokenizer = build_tokenizer("qwen2")
    tokenizer.chat_template = 'a {% raw %}{{ .System }}{% endraw %} """ b {{ messages[0]["content"] }} c'
    frame = prompt_frame(tokenizer, "chat")
    text = modelfile("model.gguf", frame, ["<|im_end|>"], 100_000)
    assert '{{ "{{" }} .System }}' in text
    assert rendered(text, "N") == frame.text("N") == 'a {{ .System }} """ b Clinical Note: N\n\nSummary: c'
    assert "PARAMETER num_ctx 8192" in text


def test_a_template_that_drops_the_note_is_refused():
    tokenizer = build_tokenizer("qwen2")
    tokenizer.chat_template = '{{ messages[0]["content"] | lower }}'
    with pytest.raises(InputError, match="changes the text of a note"):
        prompt_frame(tokenizer, "chat")
