"""Read the flags of a script from a YAML or JSON file: `--config FILE`, which every script has.

The file maps flags, without their dashes, to values. A `run_config.json` that a run has written can be read as well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# How a run opened its folder. Read back from a run's settings, these could delete that run.
_OF_ONE_RUN = ("resume", "overwrite_output_dir")


class ConfigError(ValueError):
    """A file of flags cannot be used. The message is one line that names the file."""


def config_path(words: Sequence[str]) -> str | None:
    """Return the value of `--config` in a command line, or None."""
    probe = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    probe.add_argument("--config")
    try:
        found: str | None = probe.parse_known_args(list(words))[0].config
    except argparse.ArgumentError:  # no value: the script's own parser says so
        return None
    return found


def apply_config(path: str, parser: argparse.ArgumentParser, namespace: argparse.Namespace) -> None:
    """Make the values of a file the parser's defaults, and set them in `namespace`, where nothing has been parsed yet.

    Raises ConfigError for a file that cannot be read, a flag that the parser does not know, and a value of another type
    than the flag's.
    """
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    given = read_config(path)
    if unknown := [str(name) for name in given if name not in actions]:
        raise ConfigError(f"{path}: {parser.prog} has no flag --{unknown[0]}")
    values = {name: _converted(path, parser, actions[name], value) for name, value in given.items()}
    for name, value in values.items():
        actions[name].default, actions[name].required = value, False
        setattr(namespace, name, value)
    for group in parser._mutually_exclusive_groups:
        group.required = group.required and not any(action.dest in values for action in group._group_actions)


def read_config(path: str) -> dict[str, Any]:
    """Return the flags of a file with their values; `null` means the default, so such flags are left out."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not valid YAML or JSON ({' '.join(str(error).split())})") from error
    if isinstance(content, dict) and isinstance(content.get("arguments"), dict):  # what a run has written
        content = {name: value for name, value in content["arguments"].items() if name not in _OF_ONE_RUN}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: write one flag with its value per line, such as `batch_size: 2`")
    return {name: value for name, value in content.items() if value is not None}


def _converted(path: str, parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    """Return the value as the parser would make it of a command line."""
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            raise ConfigError(f"{path}: --{action.dest} {value}: must be true or false")
        return value
    if value == [] == action.default:  # which no command line could say
        return value
    takes_several = action.nargs is not None and action.nargs != "?"
    items = value if isinstance(value, list) else [value]
    if not takes_several and isinstance(value, list):
        raise ConfigError(f"{path}: --{action.dest} {value}: takes one value, not a list")
    if any(isinstance(item, bool | list) for item in items):
        raise ConfigError(
            f"{path}: --{action.dest} {value}: takes {'values' if takes_several else 'a value'}, no switch"
        )
    if action.type is None and any(isinstance(item, Mapping) for item in items):
        raise ConfigError(f"{path}: --{action.dest} {value}: takes a text, not a mapping")
    if not items:
        raise ConfigError(f"{path}: --{action.dest} []: takes at least one value")
    words = [json.dumps(item) if isinstance(item, Mapping) else str(item) for item in items]
    try:
        return parser._get_values(action, words)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{path}: --{action.dest}: {error.message}") from error
