"""Upload an exported folder to a repository on the Hugging Face Hub, when the user asks for it."""

from __future__ import annotations

from pathlib import Path

from language_model.hub import is_hub_id
from language_model.model_files import first_line
from script_io.errors import InputError


def require_upload(repository: str) -> None:
    """Raise InputError if nothing could be uploaded: a bad name, an offline hub or no token. Asks no server."""
    from huggingface_hub import constants, get_token

    if not is_hub_id(repository) or "/" not in repository:
        raise InputError(f"--push_to_hub {repository}: not the name of a repository; write OWNER/NAME")
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"--push_to_hub {repository}: HF_HUB_OFFLINE is set; unset it to upload")
    if get_token() is None:
        raise InputError(f"--push_to_hub {repository}: no token of the hub; run `hf auth login`, or set HF_TOKEN")


def upload(folder: Path, repository: str) -> None:
    """Upload the files of `folder`. A repository that does not exist is created as a private one.

    Raises InputError if the hub refuses. The folder stays in any case.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload a clinical summary model"
        )
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"--push_to_hub {repository}: the hub took no upload ({first_line(error)}); the model is in {folder}"
        ) from error
    print(f"Uploaded to {commit.commit_url}")
