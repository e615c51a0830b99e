"""Thinking blocks are left out of what a model writes, whether its tokens for them are special or not."""

from dataclasses import replace

import pytest
from fake_server import Server
from tiny_models import build_tiny_model

from language_model.endpoint_sampler import EndpointSampler
from language_model.loading import load_for_inference
from language_model.local_sampler import LocalSampler
from language_model.sampler import SamplingSettings
from language_model.thinking import without_thinking


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Chest pain.", "Chest pain."),
        ("<think>\nA note.\n\n</think>\n\nChest pain.", "Chest pain."),
        ("<think></think>Chest <think>or\nback?</think> pain.", "Chest pain."),
        ("The template opened it.</think>\nChest pain.", "Chest pain."),
        ("Chest pain.<think>Did I", "Chest pain."),
        ("<think>cut off", ""),
    ],
)
def test_blocks_are_left_out(text, expected):
    assert without_thinking(text) == expected


def test_starts_without_an_end_take_time_in_proportion():
    assert without_thinking("<think>" * 300_000) == ""  # hours, if each start were to search to the end of the text
    assert without_thinking("a<think>x</think> \n" * 100_000) == "a" * 100_000


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_for_inference(build_tiny_model(tmp_path_factory.mktemp("thinking") / "model"), device="cpu")


@pytest.mark.parametrize("special", [False, True])
def test_a_local_model_keeps_them_only_if_asked(loaded, special):
    tokenizer = loaded.tokenizer
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids = tokenizer("<think>Hm.</think> Chest pain.<eos>", add_special_tokens=False).input_ids
    for keep, expected in ((False, "Chest pain."), (True, "<think>Hm.</think> Chest pain.")):
        completion = LocalSampler(replace(loaded), "tiny", keep_thinking=keep)._read(ids, 0.0)
        assert (completion.text, completion.finished, completion.num_tokens) == (expected, True, len(ids))


def test_a_served_model_keeps_them_only_if_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    prompt = "<think>Hm.</think> pain"  # which the server repeats
    with Server() as server:
        for keep, expected in ((False, "about pain"), (True, f"about {prompt}")):
            sampler = EndpointSampler(server.url, "sft", keep_thinking=keep)
            assert dict(sampler.complete([prompt], SamplingSettings()))[0][0].text == expected
