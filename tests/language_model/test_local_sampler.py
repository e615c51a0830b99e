"""Sampling compared with the model's own probabilities, and the endpoint sampler with a real HTTP server."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Server
from peft.tuners.lora import LoraLayer
from tiny_models import build_tiny_model
from training_helpers import tiny_base_and_adapter

from language_model.endpoint_sampler import EndpointSampler
from language_model.length_limits import SHORTENED_MARK
from language_model.loading import LoadedModel, load_for_inference
from language_model.local_sampler import Draw, LocalSampler, pad_left, run_in_batches
from language_model.prompt_format import build_prompt, encode_prompt
from language_model.sampler import Completion, Job, PromptTooLong, SamplingSettings
from script_io.errors import InputError

PROMPTS = [
    build_prompt(note)
    for note in (
        "A 54-year-old woman with chest pain.",
        "Denies fever.",
        "BP 142/88, HR 96 bpm. Started apixaban 10 mg twice daily. Follow up in 2 weeks. Denies nausea.",
        "Left knee osteoarthritis was ruled out.",
        "Suspected pulmonary embolism.",
    )
]


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny") / "llama")
    return LocalSampler(load_for_inference(folder, device="cpu"), "tiny")


def texts(sampler: LocalSampler, prompts: list[str], **settings: Any) -> list[list[str]]:
    found = {
        index: [c.text for c in completions]
        for index, completions in sampler.complete(prompts, SamplingSettings(**settings))
    }
    return [found[index] for index in range(len(prompts))]


def greedy_by_hand(sampler: LocalSampler, prompt: str, max_new_tokens: int) -> tuple[list[int], bool]:
    """Complete one prompt with one forward pass per token, no cache and no padding."""
    ids = encode_prompt(sampler.loaded.tokenizer, prompt, "plain")
    new: list[int] = []
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            new.append(int(sampler.loaded.model(torch.tensor([ids + new])).logits[0, -1].argmax()))
        if new[-1] in sampler.end_ids:
            return new, True
    return new, False


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_batched_greedy_equals_one_by_one_without_padding_or_cache(tmp_path: Path, architecture: str) -> None:
    sampler = LocalSampler(load_for_inference(build_tiny_model(tmp_path / "m", architecture), device="cpu"), "tiny")
    settings = SamplingSettings(max_new_tokens=12, temperature=0, batch_size=3)
    for index, [completion] in sampler.complete(PROMPTS, settings):
        ids, finished = greedy_by_hand(sampler, PROMPTS[index], 12)
        expected = sampler.loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert (completion.text, completion.finished, completion.num_tokens) == (expected, finished, len(ids))


@pytest.mark.parametrize(("dtype", "is_merged"), [("float32", True), ("bfloat16", False)])
def test_an_adapter_is_merged_where_that_rounds_nothing(tmp_path: Path, dtype: str, is_merged: bool) -> None:
    base, adapter = tiny_base_and_adapter(tmp_path)
    loaded = load_for_inference(adapter, device="cpu", dtype=dtype)
    apart = texts_by_hand(LocalSampler(load_for_inference(base, device="cpu", dtype=dtype), "base"))
    logits = logits_of(loaded)
    sampler = LocalSampler(loaded, "tiny")
    layers = [layer for layer in sampler.loaded.model.modules() if isinstance(layer, LoraLayer)]
    assert layers
    assert all(layer.merged == is_merged for layer in layers)
    assert torch.allclose(logits_of(loaded), logits, atol=1e-5 if is_merged else 0.0)
    assert texts_by_hand(sampler) != apart
    if is_merged:
        assert texts_by_hand(sampler) == [text for [text] in texts(sampler, PROMPTS, max_new_tokens=12, temperature=0)]


def logits_of(loaded: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(torch.tensor([encode_prompt(loaded.tokenizer, PROMPTS[0], "plain")])).logits


def texts_by_hand(sampler: LocalSampler) -> list[str]:
    decode = sampler.loaded.tokenizer.decode
    return [decode(greedy_by_hand(sampler, text, 12)[0], skip_special_tokens=True).strip() for text in PROMPTS]


def test_a_model_s_own_sampling_settings_and_penalties_stay_out(sampler: LocalSampler) -> None:
    expected = texts(sampler, PROMPTS, max_new_tokens=8, temperature=0)
    config = sampler.loaded.model.generation_config
    kept = config.to_dict()
    try:
        config.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=5.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert texts(sampler, PROMPTS, max_new_tokens=8, temperature=0) == expected
    finally:
        config.update(**kept)


def test_samples_do_not_depend_on_batches_order_or_company(sampler: LocalSampler) -> None:
    settings: dict[str, Any] = {"num_completions": 3, "max_new_tokens": 10, "temperature": 0.9, "seed": 7}
    together = texts(sampler, PROMPTS, batch_size=4, **settings)
    assert together == texts(sampler, PROMPTS, batch_size=1, **settings)
    assert together[::-1] == texts(sampler, PROMPTS[::-1], batch_size=15, **settings)
    assert together[2:3] == texts(sampler, PROMPTS[2:3], **settings)
    assert len({text for group in together for text in group}) == 15
    assert together != texts(sampler, PROMPTS, batch_size=4, **{**settings, "seed": 8})


def test_first_sampled_token_follows_the_model_s_distribution(sampler: LocalSampler) -> None:
    prompt, draws, temperature = PROMPTS[0], 4000, 0.7
    ids = encode_prompt(sampler.loaded.tokenizer, prompt, "plain")
    with torch.inference_mode():
        logits = sampler.loaded.model(torch.tensor([ids])).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, dim=-1)
    draw = Draw([Job(0, sample, prompt, 42) for sample in range(draws)], len(ids), 1, temperature)
    chosen = draw(torch.tensor([ids] * draws), logits.repeat(draws, 1)).argmax(dim=-1)
    counts = Counter(chosen.tolist())
    for token in expected.topk(10).indices.tolist():
        p = float(expected[token])
        assert abs(counts[token] / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5


def test_draw_takes_the_token_whose_share_of_the_unit_interval_holds_the_number() -> None:
    draw = Draw([Job(0, 0, "a", 1)] * 4, prompt_tokens=2, max_new_tokens=1, temperature=1.0)
    draw.uniform = torch.tensor([[0.1999], [0.2001], [1.0], [1e-12]], dtype=torch.float64)
    logits = torch.tensor([[0.2, 0.0, 0.5, 0.3, 0.0]]).log().repeat(4, 1)  # shares 0-0.2, none, 0.2-0.7, 0.7-1, none
    scores = draw(torch.zeros(4, 2), logits.double())
    assert scores.argmax(dim=-1).tolist() == [0, 2, 3, 0]
    assert torch.isinf(scores).sum(dim=-1).tolist() == [4, 4, 4, 4]


def test_a_completion_ends_behind_its_first_end_of_sequence(sampler: LocalSampler) -> None:
    tokenizer = sampler.loaded.tokenizer
    words = tokenizer(" chest pain", add_special_tokens=False).input_ids
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert sampler._read([*words, end, pad, pad], 0.5) == Completion("chest pain", True, len(words) + 1, 0.5)
    assert sampler._read([end, *words], 0.5) == Completion("", True, 1, 0.5)
    assert sampler._read(words, 0.5) == Completion("chest pain", False, len(words), 0.5)


def test_stops_at_every_token_that_the_model_ends_with(sampler: LocalSampler) -> None:
    [first] = greedy_by_hand(sampler, PROMPTS[0], 1)[0]
    config = sampler.loaded.model.generation_config
    config.eos_token_id = [first]
    try:
        ending = LocalSampler(sampler.loaded, "tiny")
        assert set(ending.end_ids) == {first, sampler.loaded.tokenizer.eos_token_id}
        [(_, [completion])] = ending.complete(PROMPTS[:1], SamplingSettings(temperature=0, max_new_tokens=5))
        assert (completion.finished, completion.num_tokens) == (True, 1)
    finally:
        config.eos_token_id = sampler.loaded.tokenizer.eos_token_id


def test_padding_stands_on_the_left() -> None:
    ids, mask = pad_left([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_prompt_beyond_the_context_is_named_with_its_tokens(sampler: LocalSampler) -> None:
    long = build_prompt("x " * 400)
    tokens = len(encode_prompt(sampler.loaded.tokenizer, long, "plain"))
    with pytest.raises(
        PromptTooLong, match=rf"prompt 1: its {tokens} tokens and 150 new ones .* context of 512"
    ) as info:
        sampler.complete([PROMPTS[0], long], SamplingSettings())
    assert info.value.index == 1
    room = 512 - len(encode_prompt(sampler.loaded.tokenizer, PROMPTS[0], "plain"))
    sampler.complete(PROMPTS[:1], SamplingSettings(max_new_tokens=room))
    with pytest.raises(PromptTooLong):
        sampler.complete(PROMPTS[:1], SamplingSettings(max_new_tokens=room + 1))


def test_out_of_memory_halves_the_batch_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job(index, 0, str(index), 0) for index in range(11)]
    sizes = []

    def generate(batch: list[Job]) -> list[Completion]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [Completion(job.prompt, True, 1, 0.0) for job in batch]

    results = list(run_in_batches(jobs, 8, generate))
    assert [completion.text for _, completion in results] == [str(index) for index in range(11)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert "continuing with 4" in capsys.readouterr().err


def test_out_of_memory_with_one_sequence_is_an_input_error_and_other_errors_pass() -> None:
    def failing(message: str) -> Callable[[list[Job]], list[Completion]]:
        def generate(_: list[Job]) -> list[Completion]:
            raise RuntimeError(message)

        return generate

    with pytest.raises(InputError, match="prompt 3: out of memory even alone"):
        list(run_in_batches([Job(3, 0, "a", 0)] * 4, 8, failing("MPS backend out of memory")))
    with pytest.raises(RuntimeError, match="shapes"):
        list(run_in_batches([Job(3, 0, "a", 0)] * 4, 8, failing("shapes do not match")))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_completions", 0),
        ("max_new_tokens", 0),
        ("batch_size", 0),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=f"--{name} {value}"):
        SamplingSettings(**settings)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as server:
        yield server


@pytest.mark.parametrize(("prompt_format", "path"), [("plain", "/v1/completions"), ("chat", "/v1/chat/completions")])
def test_endpoint_asks_the_right_path_and_reads_the_answer(server: Server, prompt_format: str, path: str) -> None:
    sampler = EndpointSampler(server.url, "sft", prompt_format=prompt_format)
    settings = SamplingSettings(num_completions=2, max_new_tokens=9, temperature=0.5)
    found = dict(sampler.complete(["one", "long"], settings))
    assert [(c.text, c.finished, c.num_tokens) for c in found[0]] == [("about one", True, 7)] * 2
    assert [(c.text, c.finished) for c in found[1]] == [("about long", False)] * 2
    assert {request[0] for request in server.requests} == {path}
    body = server.requests[0][2]
    sent = {name: body[name] for name in ("model", "max_tokens", "temperature", "top_p", "top_k")}
    assert sent == {"model": "sft", "max_tokens": 9, "temperature": 0.5, "top_p": 1.0, "top_k": 0}
    first = {request[2]["seed"] for request in server.requests}
    assert len(first) == 4
    assert max(first) < 2**31
    list(sampler.complete(["long", "one"], settings))
    assert {request[2]["seed"] for request in server.requests[4:]} == first  # seeds go with the texts
    assert server.requests[0][1] == "Bearer none"


def test_endpoint_sends_the_key_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    list(EndpointSampler(server.url, "sft").complete(["one"], SamplingSettings()))
    assert server.requests[0][1] == "Bearer a-key"


def test_endpoint_tries_again_after_a_server_error(server: Server) -> None:
    server.failures = [(503, "overloaded")]
    assert dict(EndpointSampler(server.url, "sft").complete(["one"], SamplingSettings()))[0][0].text == "about one"
    assert len(server.requests) == 2


def test_endpoint_leaves_top_k_out_where_it_is_not_known(server: Server) -> None:
    server.refuses_top_k = True
    found = dict(EndpointSampler(server.url, "gpt").complete(["one", "two", "three"], SamplingSettings()))
    assert [found[index][0].text for index in range(3)] == ["about one", "about two", "about three"]
    assert "top_k" not in server.requests[-1][2]


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (401, "bad key", "the key is refused; set OPENAI_API_KEY"),
        (404, "The model sft does not exist.", "model sft, prompt 0: .*does not exist"),
        (400, "maximum context length is 512", "prompt 0: .*maximum context length is 512"),
    ],
)
def test_endpoint_turns_a_refusal_into_one_line(server: Server, status: int, message: str, words: str) -> None:
    server.failures = [(status, message)]
    with pytest.raises(InputError, match=words) as info:
        list(EndpointSampler(server.url, "sft").complete(["one"], SamplingSettings()))
    assert server.url in str(info.value)
    assert "\n" not in str(info.value)


def test_endpoint_out_of_reach_names_the_url() -> None:
    with Server() as server:
        pass
    with pytest.raises(InputError, match=rf"{server.url}: not reachable .*start the server or correct --base_url"):
        list(EndpointSampler(server.url, "sft").complete(["one"], SamplingSettings()))


def test_shorten_note_makes_room_and_keeps_what_fits_as_it_is(tmp_path: Path) -> None:
    loaded = load_for_inference(build_tiny_model(tmp_path), device="cpu")
    short, long = build_prompt("Chest pain."), build_prompt(" ".join(f"word{i}" for i in range(400)))
    dropping, shortening = LocalSampler(loaded, "tiny"), LocalSampler(loaded, "tiny", "shorten_note")
    assert [error.index for error in dropping.too_long([short, long], 20)] == [1]
    assert shortening.too_long([short, long], 20) == []
    seen = loaded.tokenizer.decode(shortening._encode(long, 20))
    assert SHORTENED_MARK in seen
    assert "word0 " in seen
    assert "word399" in seen
    assert shortening._encode(short, 20) == dropping._encode(short, 20)
    assert shortening.context_tokens is not None
    assert len(shortening._encode(long, 20)) + 20 <= shortening.context_tokens
    assert len(list(shortening.complete([long], SamplingSettings(max_new_tokens=20, temperature=0)))) == 1
