"""Sampling compared with the model's own probabilities, and the endpoint sampler with a real HTTP server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Server
from peft.tuners.lora import LoraLayer
from tiny_models import build_tiny_model
from training_helpers import tiny_base_and_adapter

from language_model.decoding_loop import DecodingLoop
from language_model.endpoint_sampler import EndpointSampler
from language_model.length_limits import SHORTENED_MARK
from language_model.loading import LoadedModel, load_for_inference
from language_model.local_sampler import LocalSampler, run_halving
from language_model.prompt_format import build_prompt, encode_prompt
from language_model.sampler import WAVE_BATCHES, Completion, Job, PromptTooLong, SamplingSettings
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
    ids = encode_prompt(sampler.loaded.tokenizer, prompt, sampler.loaded.prompt_format)
    new: list[int] = []
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            new.append(int(sampler.loaded.model(torch.tensor([ids + new])).logits[0, -1].argmax()))
        if new[-1] in sampler.end_ids:
            return new, True
    return new, False


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "gpt2"])
@pytest.mark.parametrize("has_loop", [True, False])
def test_batched_greedy_equals_one_by_one_without_padding_or_cache(
    tmp_path: Path, architecture: str, has_loop: bool
) -> None:
    sampler = LocalSampler(load_for_inference(build_tiny_model(tmp_path / "m", architecture), device="cpu"), "tiny")
    sampler._is_checked = not has_loop  # without a checked model, `generate` is used
    settings = SamplingSettings(max_new_tokens=12, temperature=0, batch_size=3)
    for index, [completion] in sampler.complete(PROMPTS, settings):
        ids, finished = greedy_by_hand(sampler, PROMPTS[index], 12)
        expected = sampler.loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert (completion.text, completion.finished, completion.num_tokens) == (expected, finished, len(ids))
    assert (sampler._loop_model is not None) == has_loop


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    base, adapter = tiny_base_and_adapter(tmp_path)
    loaded = load_for_inference(adapter, device="cpu")
    apart = texts_by_hand(LocalSampler(load_for_inference(base, device="cpu"), "base"))
    logits = logits_of(loaded)
    sampler = LocalSampler(loaded, "tiny")
    assert all(layer.merged for layer in lora_layers(sampler))
    assert torch.allclose(logits_of(loaded), logits, atol=1e-5)
    assert texts_by_hand(sampler) != apart
    assert texts_by_hand(sampler) == [text for [text] in texts(sampler, PROMPTS, max_new_tokens=12, temperature=0)]


def test_a_merged_bfloat16_adapter_differs_by_rounding_only(tmp_path: Path) -> None:
    _, adapter = tiny_base_and_adapter(tmp_path)
    exact = logits_of(load_for_inference(adapter, device="cpu"))
    loaded = load_for_inference(adapter, device="cpu", dtype="bfloat16")
    rounding = (logits_of(loaded) - exact).abs().mean()
    layers = lora_layers(LocalSampler(loaded, "tiny"))
    assert all(layer.merged for layer in layers)
    assert {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    assert (logits_of(loaded) - exact).abs().mean() < 1.5 * rounding


def lora_layers(sampler: LocalSampler) -> list[LoraLayer]:
    layers = [layer for layer in sampler.loaded.model.modules() if isinstance(layer, LoraLayer)]
    assert layers
    return layers


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


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_the_loop_and_generate_draw_the_same_texts(sampler: LocalSampler, batch_size: int) -> None:
    settings: dict[str, Any] = {"num_completions": 3, "max_new_tokens": 20, "temperature": 0.8, "top_k": 50}
    found = texts(sampler, PROMPTS, batch_size=batch_size, **settings)
    assert sampler._loop_model is not None
    by_generate = LocalSampler(sampler.loaded, "tiny")
    by_generate._is_checked = True
    assert texts(by_generate, PROMPTS, **settings) == found
    assert by_generate._loop_model is None


def test_a_model_that_the_loop_does_not_fit_is_named_once_and_generates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = LocalSampler(load_for_inference(build_tiny_model(tmp_path / "m", "bloom"), device="cpu"), "tiny")
    for _ in range(2):
        assert len(texts(sampler, PROMPTS, max_new_tokens=3)) == len(PROMPTS)
    assert capsys.readouterr().err.count("warning: sampling with `generate`, which is slower") == 1


def test_completions_that_the_caller_has_are_left_out_and_change_nothing(sampler: LocalSampler) -> None:
    settings = SamplingSettings(2, 8, 0.9, batch_size=3)
    whole = dict(sampler.complete(PROMPTS, settings))
    rest = dict(sampler.complete(PROMPTS, settings, done={0, 3}))
    assert {index: [c.text for c in whole[index]] for index in (1, 2, 4)} == {
        index: [c.text for c in completions] for index, completions in rest.items()
    }


def test_only_unfinished_waves_are_computed_again(sampler: LocalSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    waves: list[int] = []
    loop = sampler._loop

    def counted(model: Any, jobs: Sequence[Job], *rest: Any) -> Any:
        waves.append(len(jobs))
        return loop(model, jobs, *rest)

    monkeypatch.setattr(sampler, "_loop", counted)
    prompts = [PROMPTS[0]] * (WAVE_BATCHES + 3)
    settings = SamplingSettings(max_new_tokens=2, batch_size=1)
    assert len(list(sampler.complete(prompts, settings, done=range(WAVE_BATCHES + 1)))) == 2
    assert waves == [3]
    waves.clear()
    assert len(list(sampler.complete(prompts, settings, done={0}))) == WAVE_BATCHES + 2
    assert waves == [WAVE_BATCHES, 3]


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
    tries = []

    def decode(waiting: Sequence[Job], batch_size: int) -> Iterator[tuple[Job, Completion]]:
        tries.append((len(waiting), batch_size))
        for number, job in enumerate(waiting):
            if batch_size > 2 and number == 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            yield job, Completion(job.prompt, True, 1, 0.0)

    results = list(run_halving(jobs, 8, decode))
    assert [completion.text for _, completion in results] == [str(index) for index in range(11)]
    assert tries == [(11, 8), (8, 4), (5, 2)]
    assert "continuing with 4" in capsys.readouterr().err


def test_out_of_memory_with_one_sequence_is_an_input_error_and_other_errors_pass() -> None:
    def failing(message: str) -> Any:
        def decode(waiting: Sequence[Job], batch_size: int) -> Iterator[tuple[Job, Completion]]:
            raise RuntimeError(message)

        return decode

    with pytest.raises(InputError, match="prompt 3: out of memory even alone"):
        list(run_halving([Job(3, sample, "a", 0) for sample in range(4)], 8, failing("MPS backend out of memory")))
    with pytest.raises(RuntimeError, match="shapes"):
        list(run_halving([Job(3, 0, "a", 0)], 8, failing("shapes do not match")))


def test_out_of_memory_in_the_loop_gives_the_same_texts(
    sampler: LocalSampler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"num_completions": 2, "max_new_tokens": 6, "batch_size": 4}
    expected = texts(sampler, PROMPTS, **settings)
    step = DecodingLoop.step_logits

    def failing(loop: DecodingLoop) -> torch.Tensor:
        if loop.batch_size == 4 and len(loop.rows[0].tokens) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(loop)

    monkeypatch.setattr(DecodingLoop, "step_logits", failing)
    assert texts(sampler, PROMPTS, **settings) == expected
    assert "out of memory with 4 sequences at once; continuing with 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_completions", 0),
        ("max_new_tokens", 0),
        ("batch_size", 0),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
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


def test_endpoint_sends_top_k_and_top_p_and_never_drops_a_top_k_that_was_asked_for(server: Server) -> None:
    settings = SamplingSettings(top_k=7, top_p=0.5)
    list(EndpointSampler(server.url, "sft").complete(["one"], settings))
    assert {name: server.requests[-1][2][name] for name in ("top_k", "top_p")} == {"top_k": 7, "top_p": 0.5}
    server.refuses_top_k = True
    list(EndpointSampler(server.url, "sft").complete(["one"], settings))
    assert '"top_k": 7' in server.requests[-1][2]["generation_config"]


def test_endpoint_asks_only_for_prompts_that_the_caller_does_not_have(server: Server) -> None:
    found = dict(EndpointSampler(server.url, "sft").complete(["one", "two", "one"], SamplingSettings(), done={0, 2}))
    assert [found[1][0].text, list(found), len(server.requests)] == ["about two", [1], 1]


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
