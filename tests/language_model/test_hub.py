"""Which names are hub ids, and how often a hub is asked about one; the hub is a server on this machine."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tiny_models import build_tiny_model
from training_helpers import random_adapter

from language_model import hub
from language_model.hub import hub_arguments, is_hub_id, local_adapter
from language_model.loading import load_for_inference, load_tokenizer
from language_model.model_files import load_config, require_model
from language_model.prompt_format import load_prompt_format, save_prompt_format
from script_io.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KNOWN = "owner/tiny"


def listing(folder: Path) -> list[dict[str, Any]]:
    return [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in folder.iterdir()]


class FakeHub:
    """Answers as the hub does: one model, with the files of a folder; the requests about models are kept."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        self.status = 200  # of every answer, if it is another
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/agent-harnesses" not in self.path:  # which the library asks for once, to name its caller
                    outer.requests.append(f"{self.command} {self.path}")
                tree = f"/api/models/{KNOWN}/tree/{COMMIT}"
                file = folder / self.path.replace("/main/", f"/{COMMIT}/").removeprefix(f"/{KNOWN}/resolve/{COMMIT}/")
                if outer.status != 200:
                    self.answer(outer.status, b"{}", {})
                elif self.path in (f"/api/models/{KNOWN}", f"/api/models/{KNOWN}/revision/main"):
                    siblings = [{"rfilename": each["path"]} for each in listing(folder)]
                    self.answer(200, json.dumps({"id": KNOWN, "sha": COMMIT, "siblings": siblings}).encode(), {})
                elif self.path.split("?")[0] == tree:
                    self.answer(200, json.dumps(listing(folder)).encode(), {})
                elif KNOWN in self.path and file.is_file():
                    self.answer(200, file.read_bytes(), {"ETag": f'"{file.name}"'})
                elif KNOWN in self.path:
                    self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                else:
                    self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

            do_HEAD = do_GET

            def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder and an empty cache of the hub; what earlier calls were answered is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub._ask.cache_clear()
    yield tmp_path
    hub._ask.cache_clear()


@pytest.fixture(scope="module")
def fake_hub(files: Path) -> Iterator[FakeHub]:
    fake = FakeHub(files)  # one for all tests, since transformers remembers the address
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def online(fake_hub: FakeHub, here: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", fake_hub.url)
    template = fake_hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    fake_hub.requests.clear()
    fake_hub.status = 200
    return fake_hub


@pytest.mark.parametrize("name", ["gpt2", "distilgpt2", "Qwen/Qwen2.5-0.5B", "EleutherAI/pythia-70m", "_x/y_1.0"])
def test_names_that_can_be_hub_ids(name: str, here: Path) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "./gpt2",
        "../gpt2",
        "/gpt2",
        "~/gpt2",
        "gpt2/",
        "a/b/c",
        "models/dpo/final_model",
        r"models\dpo",
        "models/dpo",
        "",
    ],
)
def test_names_that_can_only_be_paths(name: str, here: Path) -> None:
    (here / "models").mkdir()
    assert not is_hub_id(name)


@pytest.mark.parametrize("name", ["./none", "models/none", "models/none/final_model", r"models\none", "~/none"])
def test_a_missing_folder_is_an_error_without_a_request(name: str, here: Path, online: FakeHub) -> None:
    (here / "models").mkdir()
    with pytest.raises(InputError, match="no such model folder"):
        load_for_inference(name, device="cpu")
    assert online.requests == []


LOADERS = [require_model, load_config, load_tokenizer, lambda name: load_for_inference(name, device="cpu")]


@pytest.mark.parametrize("load", LOADERS)
def test_an_unknown_hub_id_costs_one_request(load: Callable[[str], object], online: FakeHub) -> None:
    with pytest.raises(InputError, match="no-such-model: no such folder, and no such model on the hub") as caught:
        load("no-such-model")
    assert "\n" not in str(caught.value)
    assert online.requests == ["GET /api/models/no-such-model"]


@pytest.mark.parametrize("load", LOADERS)
def test_offline_a_hub_id_costs_no_request(
    load: Callable[[str], object], online: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"no-such-model: no such folder.* not asked since HF_HUB_OFFLINE is set"):
        load("no-such-model")
    assert online.requests == []


def test_a_hub_that_gives_no_answer_is_asked_once(online: FakeHub) -> None:
    online.status = 503
    with pytest.raises(InputError, match=rf"{KNOWN}: .* the hub gave no answer \(status 503\)"):
        load_for_inference(KNOWN, device="cpu")
    assert len(online.requests) == 1


def test_a_model_of_the_hub_loads(online: FakeHub) -> None:
    assert load_for_inference(KNOWN, device="cpu").model.config.hidden_size == 32
    assert hub_arguments(KNOWN) == {"revision": COMMIT}


def test_of_a_cached_model_hardly_a_file_is_asked_about_though_each_part_is_loaded(online: FakeHub) -> None:
    load_for_inference(KNOWN, device="cpu")
    forget(online, status=200)
    assert load_for_inference(KNOWN, device="cpu").model.config.hidden_size == 32
    assert online.requests.count(f"GET /api/models/{KNOWN}") == 1
    files = [request for request in online.requests if "/resolve/" in request]
    assert sorted(files) == [  # the first, since a cache cannot know that a file is not there
        f"HEAD /{KNOWN}/resolve/{COMMIT}/adapter_config.json",
        f"HEAD /{KNOWN}/resolve/main/config.json",
    ]


def test_the_cache_is_used_if_the_hub_gives_no_answer(online: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    load_for_inference(KNOWN, device="cpu")
    forget(online, status=503)
    capsys.readouterr()
    assert load_for_inference(KNOWN, device="cpu").model.config.hidden_size == 32
    assert online.requests == [f"GET /api/models/{KNOWN}"]
    assert f"warning: {KNOWN}: loaded from the local cache; the hub gave no answer" in capsys.readouterr().err


def test_a_cached_model_loads_offline_without_a_request(
    online: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_for_inference(KNOWN, device="cpu")
    forget(online, status=503)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    capsys.readouterr()
    assert load_for_inference(KNOWN, device="cpu").model.config.hidden_size == 32
    assert online.requests == []
    assert "warning" not in capsys.readouterr().err


def test_the_prompt_format_of_a_model_of_the_hub_is_read(
    files: Path, here: Path, online: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    instruct = build_tiny_model(here / "instruct", "qwen2")  # whose usual format is the chat
    fake = FakeHub(instruct)
    monkeypatch.setattr(constants, "ENDPOINT", fake.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", fake.url + "/{repo_id}/resolve/{revision}/{filename}")
    assert load_prompt_format(KNOWN, load_tokenizer(KNOWN)) == "chat"
    save_prompt_format(instruct, load_tokenizer(instruct), "plain")
    shutil.rmtree(here / "cache")  # which remembers that the file was not there
    assert load_prompt_format(KNOWN, load_tokenizer(KNOWN)) == "plain"
    fake.http.shutdown()
    fake.http.server_close()


def test_an_adapter_of_the_hub_loads_on_its_base(
    files: Path, here: Path, online: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(here / "adapter", files)
    (adapter / "adapter_model.bin").write_bytes(b"a pickle, which nobody reads")
    fake = FakeHub(adapter)
    monkeypatch.setattr(constants, "ENDPOINT", fake.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", fake.url + "/{repo_id}/resolve/{revision}/{filename}")
    folder = Path(local_adapter(KNOWN))
    assert (folder / "adapter_model.safetensors").read_bytes() == (adapter / "adapter_model.safetensors").read_bytes()
    assert not (folder / "adapter_model.bin").exists()
    assert load_for_inference(KNOWN, device="cpu").model.active_peft_config.r == 4
    fake.http.shutdown()
    fake.http.server_close()


def forget(fake: FakeHub, status: int) -> None:
    """Forget what the hub answered, as a new process does; from now on every answer has this status."""
    hub._ask.cache_clear()
    fake.requests.clear()
    fake.status = status
