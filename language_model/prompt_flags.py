"""The command-line flags that say how prompts are rendered, the same for training, inference and the data checks."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from language_model.frozen_template import PromptSettings
from language_model.prompt_format import PROMPT_FORMATS
from script_io.errors import InputError
from script_io.files import read_text

PROMPT_FLAGS = ("prompt_format", "prompt_template", "system_prompt", "chat_template_kwargs")


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags about prompts. What is stored with a model need not be named again."""
    group = parser.add_argument_group("Prompt (stored with a trained model)")
    group.add_argument(
        "--prompt_format",
        choices=PROMPT_FORMATS,
        help="plain text, or the chat template of the tokenizer (default: the format stored with the model, else chat "
        "if its tokenizer has a chat template, else plain)",
    )
    group.add_argument(
        "--prompt_template",
        metavar="FILE",
        help="text with {note} instead of the prompt of the task, or Jinja that reads note, or messages as a chat "
        "template does (default: the prompt of the task)",
    )
    group.add_argument(
        "--system_prompt",
        metavar="TEXT",
        help="system message in front of each conversation without one, for the chat format (default: the template's)",
    )
    group.add_argument(
        "--chat_template_kwargs",
        metavar="JSON",
        help="variables of the chat template, such as '{\"enable_thinking\": false}' (default: none)",
    )


def prompt_settings(args: argparse.Namespace) -> PromptSettings:
    """Return the settings of `add_prompt_arguments`. Raises InputError for a file or JSON that cannot be read."""
    variables = _variables(args.chat_template_kwargs)
    return prompt_settings_of(args.prompt_format, args.prompt_template, args.system_prompt, variables)


def prompt_settings_of(
    prompt_format: str | None = None,
    prompt_template: str | Path | None = None,
    system_prompt: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> PromptSettings:
    """Return the settings of these values, as the flags of the same names give them; the template is a file."""
    if prompt_format not in (None, *PROMPT_FORMATS):
        raise InputError(f"--prompt_format {prompt_format}: choose {' or '.join(PROMPT_FORMATS)}")
    template = None
    if prompt_template is not None:
        template = read_text(prompt_template, "name a text file with {note}")
        if not template.strip():
            raise InputError(f"{prompt_template}: the prompt template is empty; write a text with {{note}} there")
    variables = dict(chat_template_kwargs or {})
    if not all(isinstance(name, str) and name.isidentifier() for name in variables):
        raise InputError(f"--chat_template_kwargs {json.dumps(variables)}: give a JSON object of names and values")
    return PromptSettings(prompt_format, template, system_prompt or None, variables)


def template_content(args: argparse.Namespace) -> dict[str, str]:
    """Return a hash of the file of `--prompt_template`, for the settings of texts that are kept; empty without one.

    The file may be edited while a run is stopped, and what was kept is then of another prompt.
    """
    if args.prompt_template is None:
        return {}
    text = read_text(args.prompt_template, "name a text file with {note}")
    return {"prompt_template_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _variables(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        variables = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"--chat_template_kwargs {text}: not valid JSON ({error.msg}); quote it in the shell"
        ) from error
    if not isinstance(variables, dict):
        raise InputError(f"--chat_template_kwargs {text}: give a JSON object of names and values")
    return variables
