"""Tell folders from hub ids, and ask the hub about a model once.

`from_pretrained` of transformers takes any name that is no folder for a hub id. It then asks for each file that it may
need, and again after each failure, so a mistyped folder costs dozens of requests and a minute. Here the hub is asked
once per id and process whether it has the model, before anything is loaded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from script_io.errors import InputError

ANSWER_SECONDS = 10.0  # how long the hub may take to answer
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
CONFIG = "config.json"
_FROM_CACHE = {"local_files_only": True}
_ADAPTER_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "adapter_model.safetensors"]  # with its tokenizer's
HUB_REMEDY = (
    "name an existing folder (--base_model for the base of an adapter), or check the id and the connection; a gated or "
    "private model needs `hf auth login`, and HF_HUB_OFFLINE=1 takes a model from the local cache"
)


def is_hub_id(name: str | Path) -> bool:
    """Return whether a name that is not a folder can be the id of a model on the hub: `model` or `owner/model`.

    A name is a path if it starts with `.`, `/` or `~`, if it has a backslash or two slashes, or if its first part is
    an existing folder, such as `models/sft`.
    """
    text = str(name)
    owner, slash, _ = text.partition("/")
    return _HUB_ID.fullmatch(text) is not None and not (slash and Path(owner).is_dir())


def hub_arguments(name: str | Path) -> dict[str, Any]:
    """Return the arguments that `from_pretrained` needs for a name; none for a folder.

    For a hub id this is the commit that the hub has now: files of a named commit that are in the local cache are used
    without another request, and all files are of one version. For a hub that is not reached, it is to use the cache.

    The hub is asked on the first call for an id only, and never about a folder or if HF_HUB_OFFLINE is set. Raises
    InputError if the hub has no such model, or if it is not reached and the local cache has no such model.
    """
    return {} if Path(name).exists() else dict(_ask(str(name)))


def local_adapter(name: str | Path) -> str:
    """Return the folder of the hub's cache that holds an adapter of the hub; any other name as it is.

    The adapter is downloaded first if the cache does not hold it. Raises InputError as `hub_arguments` does.
    """
    if Path(name).exists() or not is_hub_id(name):
        return str(name)
    arguments = hub_arguments(name)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    try:
        hf_hub_download(str(name), "adapter_config.json", **arguments)
        return str(snapshot_download(str(name), allow_patterns=_ADAPTER_FILES, **arguments))
    except EntryNotFoundError:  # a whole model
        return str(name)
    except (HTTPError, OSError) as error:
        raise _not_downloaded(name, error) from error


def file_of_model(name: str | Path, file: str) -> Path | None:
    """Return a file of a model, a folder or a hub id, or None if the model has no such file.

    A file of the hub is downloaded if the cache does not hold it. Raises InputError as `hub_arguments` does.
    """
    if Path(name).exists() or not is_hub_id(name):
        path = Path(name) / file
        return path if path.exists() else None
    arguments = hub_arguments(name)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

    cached = try_to_load_from_cache(str(name), file, revision=arguments.get("revision"))
    if cached is not None:  # a path, or the mark that the hub has no such file
        return Path(cached) if isinstance(cached, str) else None
    try:
        return Path(hf_hub_download(str(name), file, **arguments))
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError) and arguments != _FROM_CACHE:  # no answer, rather than no file
            raise _not_downloaded(name, error) from error
        return None
    except (HTTPError, OSError) as error:
        raise _not_downloaded(name, error) from error


@cache
def _ask(name: str) -> Mapping[str, Any]:
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        if _is_cached(name):
            return _FROM_CACHE
        raise InputError(
            f"{name}: no such folder, and no such model in the local cache of the hub, which is not asked since "
            f"HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE, or {HUB_REMEDY}"
        )
    try:
        commit = HfApi().model_info(name, timeout=ANSWER_SECONDS).sha
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: no such folder, and no such model on the hub; {HUB_REMEDY}") from error
    except (HTTPError, ValueError) as error:
        if not _is_cached(name):
            raise InputError(
                f"{name}: no such folder, and the hub gave no answer ({_reason(error)}); {HUB_REMEDY}"
            ) from error
        warning = f"warning: {name}: loaded from the local cache; the hub gave no answer ({_reason(error)})"
        print(warning, file=sys.stderr)
        return _FROM_CACHE
    if commit is None:
        return {}
    try:
        hf_hub_download(name, CONFIG)  # by its branch, so that the cache can name the commit to who is offline later
    except EntryNotFoundError:  # an adapter has no config.json
        pass
    except (HTTPError, OSError) as error:  # such as a gated model, which the hub lists and does not give
        raise _not_downloaded(name, error) from error
    return {"revision": commit}


def _not_downloaded(name: str | Path, error: Exception) -> InputError:
    return InputError(f"{name}: could not be downloaded from the hub ({_reason(error)}); {HUB_REMEDY}")


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(name, file), str) for file in (CONFIG, "adapter_config.json"))


def _reason(error: Exception) -> str:
    """Return the status that the hub answered, or the kind of error, such as ConnectError."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"status {status}" if status else type(error).__name__
