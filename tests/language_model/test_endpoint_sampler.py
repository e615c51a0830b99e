"""The scripts against a real server: `transformers serve` on this machine, with models exported from the demo's base.

What a healthy server does not show (retries, a refused key, no answer) is tested with a stand-in in
test_local_sampler.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Server
from training_helpers import CPU, LINEAR, ROOT, perturb

import export_model
import generate_completions
import sft_inference
from language_model import endpoint_sampler
from language_model.adapters import add_lora, save_adapter
from language_model.endpoint_sampler import EndpointSampler
from language_model.loading import load_base_model, load_tokenizer
from language_model.prompt_format import build_prompt
from language_model.sampler import SamplingSettings
from script_io.errors import InputError

DEMO_BASE = ROOT / "demo" / "base_model"
NOTES = [
    f"A {age}-year-old {person} with {symptom} for {age % 7 + 2} weeks. Denies fever. Started {drug} once daily."
    for age, person in ((54, "woman"), (31, "man"))
    for symptom in ("chest pain", "cough")
    for drug in ("apixaban 5 mg", "metformin 500 mg")
]
STARTUP_SECONDS = 300.0  # for a busy machine; about 6 on an idle one
# The command `transformers`, which ends when its standard input is closed, so also when the tests are killed.
TRANSFORMERS = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
from transformers.cli.transformers import main
main()
"""
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)

missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
needs_server = pytest.mark.skipif(
    bool(missing) and "CI" not in os.environ, reason=f"transformers serve needs {' and '.join(missing)}"
)


def documented_commands() -> list[list[str]]:
    """Return the commands of the first code block of docs/serving.md."""
    block = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").split("```")[1]
    return [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").strip().splitlines()]


@dataclass
class Served:
    """A running server, the folder it was started in, and its log."""

    url: str
    folder: Path
    log: Path

    def requests(self) -> int:
        """Return the number of completions answered so far."""
        return self.log.read_text().count('"POST /v1/completions HTTP/1.1" 200')


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run the commands of the page, with random adapters instead of trained ones, and its server on a free port."""
    root = tmp_path_factory.mktemp("serving")
    (root / "models").mkdir()
    export_sft, export_dpo, serve, _ = documented_commands()
    assert serve == ["cd", "models", "&&", "transformers", "serve"]
    log = root / "server.log"
    with log.open("w") as handle:
        process = subprocess.Popen(
            [sys.executable, "-c", TRANSFORMERS, "serve", "--host", "127.0.0.1", "--port", "0"],
            cwd=root / "models",
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(root / "none"), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root)
            for seed, (_, script, *flags) in ((2, export_sft), (1, export_dpo)):
                assert script == "export_model.py"
                adapt_demo_base(Path(flags[flags.index("--model_path") + 1]), seed)
                export(*flags)
        yield Served(f"http://127.0.0.1:{port_of(process, log)}/v1", root / "models", log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def adapt_demo_base(folder: Path, seed: int, chat_template: str | None = None) -> None:
    """Save a random adapter, small enough that the model still writes words and ends its texts, like its base."""
    tokenizer = load_tokenizer(DEMO_BASE)
    tokenizer.chat_template = chat_template
    torch.manual_seed(seed)
    model = add_lora(load_base_model(DEMO_BASE, CPU, tokenizer), 4, 8, 0.05, LINEAR)
    perturb(model, seed, 0.03)
    save_adapter(model, folder, tokenizer, "chat" if chat_template else "plain", base_model=str(DEMO_BASE))


def export(*flags: str) -> None:
    assert export_model.main(export_model.parse_args([*flags, "--device", "cpu"])) == 0


def port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port of the server once it answers."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    pytest.fail(f"the server did not start: {log.read_text()[-3000:]}")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [{"id": f"n{number}", "prompt": build_prompt(note)} for number, note in enumerate(NOTES)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def complete(prompts: Path, name: str, *flags: object) -> list[dict[str, Any]]:
    """Return the rows that generate_completions.py writes to a file of this name."""
    output = prompts.with_name(name)
    fixed = ["--prompts_path", str(prompts), "--output_path", str(output), "--device", "cpu"]
    assert generate_completions.main(generate_completions.parse_args([*fixed, *map(str, flags)])) == 0
    return rows_of(output)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@needs_server
def test_greedy_completions_are_the_local_model_s(served: Served, prompts: Path) -> None:
    flags = ("--temperature", 0, "--num_completions", 1, "--max_new_tokens", 80)
    remote = complete(prompts, "remote.jsonl", *flags, "--base_url", served.url, "--served_model", "sft")
    assert remote == complete(prompts, "local.jsonl", *flags, "--model_path", served.folder / "sft")
    assert {row["finished"][0] for row in remote} == {True, False}
    assert len({row["completions"][0] for row in remote}) == len(NOTES)


@needs_server
def test_greedy_chat_completions_are_the_local_model_s(served: Served, prompts: Path, tmp_path: Path) -> None:
    adapt_demo_base(tmp_path / "adapter", 3, CHAT_TEMPLATE)
    export("--model_path", str(tmp_path / "adapter"), "--output_dir", str(served.folder / "chat"))
    flags = ("--temperature", 0, "--num_completions", 1, "--max_new_tokens", 20, "--max_prompts", 4)
    server = ("--base_url", served.url, "--served_model", "chat", "--endpoint_prompt_format", "chat")
    remote = complete(prompts, "remote.jsonl", *flags, *server)
    assert remote == complete(prompts, "local.jsonl", *flags, "--model_path", served.folder / "chat")
    assert all(row["completions"][0] for row in remote)


@needs_server
def test_several_samples_a_prompt_are_drawn_and_differ(served: Served, prompts: Path) -> None:
    asked = served.requests()
    rows = complete(
        prompts,
        "samples.jsonl",
        *("--base_url", served.url, "--served_model", "sft", "--num_completions", 4, "--max_new_tokens", 12),
    )
    assert served.requests() - asked == 4 * len(NOTES)
    assert [row["id"] for row in rows] == [f"n{number}" for number in range(len(NOTES))]
    assert sum(len(set(row["completions"])) for row in rows) > 3 * len(NOTES)  # two in a thousand pairs are the same


@needs_server
def test_the_whole_vocabulary_is_sampled_and_a_seed_repeats_its_text(served: Served) -> None:
    def sample(count: int) -> list[str]:
        sampler = EndpointSampler(served.url, "sft", concurrency=1)
        settings = SamplingSettings(num_completions=count, max_new_tokens=1, temperature=100)
        results = sampler.complete([build_prompt(NOTES[0])], settings)
        return [completion.text for _, completions in results for completion in completions]

    texts = sample(70)
    assert len(set(texts)) > 50  # of 1,938 nearly equal tokens; a top_k of 50, the default of transformers, shows here
    assert sample(5) == texts[:5]


@needs_server
def test_a_killed_client_goes_on_and_samples_no_stored_prompt_again(served: Served, prompts: Path) -> None:
    output = prompts.with_name("killed.jsonl")
    flags = ["--prompts_path", str(prompts), "--base_url", served.url, "--served_model", "sft", "--concurrency", "2"]
    flags += ["--output_path", str(output), "--max_new_tokens", "40"]
    client = subprocess.Popen([sys.executable, str(ROOT / "generate_completions.py"), *flags])
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline and client.poll() is None:
            if output.exists() and output.read_bytes().count(b"\n") >= 2:
                break
            time.sleep(0.02)
    finally:
        client.kill()
        client.wait()
    stored = output.read_bytes()
    kept = stored[: stored.rfind(b"\n") + 1].decode().splitlines()
    assert 2 <= len(kept) < len(NOTES)

    next(EndpointSampler(served.url, "sft").complete(["last in the queue"], SamplingSettings(max_new_tokens=1)))
    asked = served.requests()
    assert generate_completions.main(generate_completions.parse_args(flags)) == 0
    assert served.requests() - asked == 3 * (len(NOTES) - len(kept))
    rows = output.read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["id"] for row in rows] == [f"n{number}" for number in range(len(NOTES))]
    assert set(kept) <= set(rows)


@needs_server
def test_the_readme_s_comparison_shows_both_models(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, script, *flags = documented_commands()[-1]
    assert script == "sft_inference.py"
    flags[flags.index("--base_url") + 1] = served.url
    flags += ["--max_new_tokens", "30", "--output_file", str(tmp_path / "both.jsonl")]
    assert sft_inference.main(sft_inference.parse_args(flags)) == 0
    printed = capsys.readouterr().out
    [row] = rows_of(tmp_path / "both.jsonl")
    for name, prefix in (("sft", ""), ("dpo", "compare_")):
        model = sft_inference.SFTInference(served.folder / name, "cpu")
        expected = model.generate_summary(row["clinical_note"], 30, 0)["generated_summary"]
        assert (row[f"{prefix}model"], row[f"{prefix}generated_summary"]) == (name, expected)
    assert row["generated_summary"] != row["compare_generated_summary"]
    assert re.search(r"(?m)^ sft +\| dpo$", printed)


@needs_server
def test_a_model_that_the_server_does_not_have_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_sampler, "MAX_RETRIES", 0)
    with pytest.raises(InputError, match=r"model nowhere, prompt 0: .*; the server's own log may say why$"):
        list(EndpointSampler(served.url, "nowhere").complete(["one"], SamplingSettings()))


def test_a_server_that_takes_openai_s_settings_alone_gets_no_other() -> None:
    with Server() as server:
        refusal = "Unrecognized request argument supplied: "
        server.failures = [(400, f"{refusal}top_k"), (400, f"{refusal}generation_config")]
        sampler = EndpointSampler(server.url, "gpt", concurrency=1)
        assert [dict(sampler.complete([text], SamplingSettings()))[0][0].text for text in ("one", "two")] == [
            "about one",
            "about two",
        ]
        extra = [{"top_k", "generation_config"} & set(body) for _, _, body in server.requests]
        assert extra == [{"top_k"}, {"generation_config"}, set(), set()]
