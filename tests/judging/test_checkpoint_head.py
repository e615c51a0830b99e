"""Which checkpoints a judge reads, and the one line that refuses the others."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_classifiers import NLI_LABELS, build_classifier

from judging.checkpoint_head import EACH_TOKEN, WHOLE_TEXT, load_checkpoint
from judging.choice import make_judge
from judging.nli_judge import NliJudge
from judging.span_judge import SpanJudge
from script_io.errors import InputError

TOKENS = "AutoModelForTokenClassification"


def set_config(folder: str, **settings: Any) -> None:
    """Change entries of a checkpoint's config.json; None removes one."""
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_the_kind_of_head_decides_on_the_judge(tmp_path: Path) -> None:
    whole = build_classifier(tmp_path / "whole", NLI_LABELS)
    tokens = build_classifier(tmp_path / "tokens", ["supported", "hallucinated"], auto=TOKENS)
    assert (load_checkpoint(whole).head, load_checkpoint(tokens).head) == (WHOLE_TEXT, EACH_TOKEN)
    assert type(make_judge("nli", whole, device="cpu")) is NliJudge
    assert type(make_judge("nli", tokens, device="cpu")) is SpanJudge


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_is_read_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = build_classifier(tmp_path, NLI_LABELS, zero=False)
    weights = {name: weight.to(dtype) for name, weight in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    set_config(folder, dtype=str(dtype).removeprefix("torch."))
    assert load_checkpoint(folder, "cpu").model.dtype == torch.float32


@pytest.mark.parametrize(
    ("auto", "architecture", "says"),
    [
        ("AutoModel", "bert", r"has no classification head \(BertModel\)"),
        ("AutoModelForMaskedLM", "bert", r"has no classification head \(BertForMaskedLM\)"),
        ("AutoModelForCausalLM", "llama", r"has no classification head \(LlamaForCausalLM\)"),
        ("AutoModelForSeq2SeqLM", "t5", r"is a sequence-to-sequence model \(T5ForConditionalGeneration\)"),
    ],
)
def test_a_checkpoint_without_a_head_is_refused(auto: str, architecture: str, says: str, tmp_path: Path) -> None:
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "decoder_start_token_id": 0} if architecture == "t5" else {}
    folder = build_classifier(tmp_path, NLI_LABELS, architecture, auto=auto, zero=False, **shape)
    with pytest.raises(InputError, match=rf"^--judge_model {folder}: {says}.*; name an NLI model$"):
        load_checkpoint(folder)


def test_a_checkpoint_of_a_kind_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = build_classifier(tmp_path, NLI_LABELS)
    set_config(folder, architectures=None)
    with pytest.raises(InputError, match=r"names no architecture, so the kind of its head is not known"):
        load_checkpoint(folder)


def test_a_checkpoint_with_its_own_code_is_refused(tmp_path: Path) -> None:
    """The configuration of HHEM-2.1, next to a module that must not run."""
    (tmp_path / "modeling_hhem_v2.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "config.json").write_text("{}")
    set_config(
        str(tmp_path),
        architectures=["HHEMv2ForSequenceClassification"],
        auto_map={"AutoModelForSequenceClassification": "modeling_hhem_v2.HHEMv2ForSequenceClassification"},
        model_type="HHEMv2Config",
    )
    with pytest.raises(InputError, match=r"needs code from its own folder \(trust_remote_code\)"):
        load_checkpoint(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", ["missing", "mismatched"])
def test_a_head_without_weights_is_refused_in_one_line(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers would fill in random weights, print a table of them, and go on."""
    folder = build_classifier(tmp_path, NLI_LABELS)
    weights = load_file(tmp_path / "model.safetensors")
    head = weights.pop("score.weight")
    kept = weights if change == "missing" else weights | {"score.weight": head[:2].clone()}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.clear()
    with pytest.raises(InputError, match=r"has no weights for score\.weight, so its answers would be random"):
        load_checkpoint(folder)
    assert caplog.records == []


def test_the_head_of_another_kind_is_never_made_up(tmp_path: Path) -> None:
    """A token classifier under the name of a sequence classifier lacks the pooler of the latter."""
    folder = build_classifier(tmp_path, NLI_LABELS, "bert", auto=TOKENS)
    set_config(folder, architectures=["BertForSequenceClassification"])
    with pytest.raises(InputError, match=r"has no weights for bert\.pooler"):
        load_checkpoint(folder)


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: cannot be loaded"):
        load_checkpoint(str(tmp_path / "absent"))
    folder = build_classifier(tmp_path, NLI_LABELS)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device cuda: this machine"):
            load_checkpoint(folder, "cuda")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=rf"--judge_model {folder}: cannot be loaded \(.*; name an NLI model$"):
        load_checkpoint(folder)
