"""The likelihood judge: evidence by hand, packed and plain, calibration, and the errors a user can cause."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import build_tiny_model
from training_helpers import random_adapter, write_phase1

from judging import calibrate
from judging.calibrate import calibration_of
from judging.combination import Combination, fit, out_of_fold, threshold_at
from judging.likelihood import EvidenceScorer
from judging.likelihood_judge import LikelihoodJudge, LikelihoodWords
from judging.word_scores import WordScore
from language_model.frozen_template import PromptSettings
from language_model.loading import load_for_inference
from language_model.prompt_format import build_prompt, encode_prompt
from script_io.errors import InputError

NOTE, SUMMARY = "A 61-year-old with chest pain. Denies fever.", "Age 61. Chest pain."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model that calibrate.py has given a threshold."""
    folder = build_tiny_model(tmp_path_factory.mktemp("likelihood") / "model")
    data = tmp_path_factory.mktemp("phase1")
    write_phase1(data / "validation_set_processed.csv", 40)
    command = ["--judge_model", str(folder), "--phase1_dir", str(data), "--device", "cpu"]
    assert calibrate.main(calibrate.parse_args(command)) == 0
    return folder


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_evidence_is_the_difference_of_two_log_probabilities(tmp_path: Path, architecture: str) -> None:
    build_tiny_model(tmp_path, architecture)
    loaded = load_for_inference(tmp_path, device="cpu", dtype="float32", prompt=PromptSettings("plain"))
    found = EvidenceScorer(loaded).evidence(NOTE, [SUMMARY, "Fever."])
    ids = loaded.tokenizer(f" {SUMMARY}", add_special_tokens=False).input_ids
    logps = []
    stock = load_for_inference(tmp_path, device="cpu", dtype="float32").model
    for note in (NOTE, ""):
        prompt = encode_prompt(loaded.tokenizer, build_prompt(note), "plain")
        with torch.no_grad():
            logits = stock(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(dim=-1)
        logps.append([float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(ids)])
    expected = [with_note - without for with_note, without in zip(*logps, strict=True)]
    assert found[0].evidence == pytest.approx(expected, abs=1e-4)
    assert found[0].summary.ids == ids


def test_a_blank_summary_has_no_error(model: Path) -> None:
    check = LikelihoodJudge(model, "cpu").check(NOTE, " ")
    assert check is not None
    assert (check.claims, check.probability) == ((), 0.0)


def test_packed_equals_plain(tmp_path: Path) -> None:
    scorer = EvidenceScorer(load_for_inference(build_tiny_model(tmp_path), device="cpu", dtype="float32"))
    assert scorer.is_packed
    packed = scorer.evidence(NOTE, [SUMMARY, "No fever."])
    plain = [scorer.evidence(NOTE, [text])[0] for text in (SUMMARY, "No fever.")]
    for first, second in zip(packed, plain, strict=True):
        assert first.evidence == pytest.approx(second.evidence, abs=1e-5)


def test_an_adapter_is_scored_with_its_base(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "base")
    adapter = random_adapter(tmp_path / "adapter", base)
    (own,), (plain,) = (LikelihoodWords(folder, "cpu").score([(NOTE, SUMMARY)]) for folder in (adapter, base))
    assert own is not None
    assert plain is not None
    assert [word.score for word in own] != pytest.approx([word.score for word in plain], abs=1e-3)


def test_the_stored_calibration_is_what_the_data_give(model: Path) -> None:
    stored = json.loads((model / "likelihood_calibration.json").read_text())
    assert stored["n"] >= 2 * calibrate.FEWEST_PAIRS
    assert 0 < stored["threshold"] < 1
    judge = LikelihoodJudge(model, "cpu")
    words = [WordScore(0, 3, -0.5), WordScore(4, 6, 1.5)]
    features = {"evidence_lowest": -0.5, "evidence_lowest_3": 0.5, "evidence_mean": 0.5, "log_words": np.log1p(2)}
    expected = Combination.from_dict(stored["combination"]).probability(features)
    check = judge._verdict("", "Age 61", words)
    assert check.probability == pytest.approx(expected)
    assert check.has_hallucination == (expected >= stored["threshold"])


def test_a_regression_on_separable_evidence_finds_it() -> None:
    words = [[WordScore(0, 3, 2.0 - 4.0 * (place % 2) + 0.01 * place)] for place in range(40)]
    labels = [float(place % 2) for place in range(40)]
    found = calibration_of([f"note {place // 2}" for place in range(40)], ["Age 6."] * 40, words, labels, 0.9)
    assert found["sensitivity"] == 1.0
    assert found["specificity"] >= 0.9
    assert 1.9 < -found["word_threshold"] < 2.4


def test_a_logistic_fit_by_hand() -> None:
    # one feature, 3 of 4 against 1 of 4: without a penalty the log odds are ln 3 and -ln 3
    values, labels = np.array([[1.0]] * 4 + [[0.0]] * 4), np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=float)
    fitted = fit(["x"], values, labels, penalty=1e-9)
    assert fitted.probability({"x": 1.0}) == pytest.approx(0.75, abs=1e-6)
    assert fitted.probability({"x": 0.0}) == pytest.approx(0.25, abs=1e-6)


def test_a_threshold_leaves_the_wanted_share_of_faultless_summaries() -> None:
    probabilities, labels = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.9]), np.array([0.0, 0, 0, 0, 1, 1])
    assert threshold_at(probabilities, labels, 1.0) == pytest.approx(0.5)
    assert threshold_at(probabilities, labels, 0.75) == pytest.approx(0.35)


def test_cross_validation_never_fits_on_the_dialogue_it_predicts() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(60, 30)), rng.integers(0, 2, 60).astype(float)  # noise, and room to overfit
    own, _ = out_of_fold([str(n) for n in range(30)], values, labels, [f"{place // 3}" for place in range(60)], 0.9)
    seen = fit([str(n) for n in range(30)], values, labels).probabilities(values)
    assert ((seen > 0.5) == labels).mean() > 0.75 > 0.65 > ((own > 0.5) == labels).mean()


def test_a_folder_without_threshold_names_the_command(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model")
    with pytest.raises(InputError, match=r"no threshold yet.*python -m judging\.calibrate --judge_model"):
        LikelihoodJudge(folder)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=20, **shape)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertModel is no causal language model"):
        LikelihoodWords(tmp_path)


def test_a_note_longer_than_the_context_is_not_judged(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = LikelihoodJudge(model, "cpu")
    assert judge.check("fever " * 600, SUMMARY) is None
    assert judge.failures == 1
    assert "more than the model's context; not judged" in capsys.readouterr().err
