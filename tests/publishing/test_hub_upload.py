"""An upload happens only when it is asked for, into a private repository, and never without a token."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from publishing.hub_upload import require_upload, upload
from script_io.errors import InputError


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")


def test_an_upload_that_cannot_be_is_refused_at_once(online, monkeypatch):
    require_upload("me/model")
    with pytest.raises(InputError, match="not the name of a repository; write OWNER/NAME"):
        require_upload("model")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match=r"no token of the hub; run `hf auth login`") as caught:
        require_upload("me/model")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        require_upload("me/model")


class Hub:
    """Stands in for the client of the hub, and keeps what it is asked."""

    calls: list[tuple[str, dict[str, object]]] = []  # noqa: RUF012

    def create_repo(self, repository, **settings):
        self.calls.append((repository, settings))

    def upload_folder(self, **settings):
        if settings["repo_id"] == "me/full":
            raise OSError("status 507\ndetails")
        self.calls.append((settings["repo_id"], {"files": settings["folder_path"]}))
        return SimpleNamespace(commit_url="https://hub.example/me/model/commit/1")


def test_the_folder_goes_to_a_private_repository(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    upload(tmp_path, "me/model")
    assert Hub.calls == [("me/model", {"private": True, "exist_ok": True}), ("me/model", {"files": tmp_path})]
    assert capsys.readouterr().out == "Uploaded to https://hub.example/me/model/commit/1\n"
    with pytest.raises(InputError, match=r"the hub took no upload \(status 507\); the model is in") as caught:
        upload(tmp_path, "me/full")
    assert "\n" not in str(caught.value)
