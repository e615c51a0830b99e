"""Fix how prompts are rendered, in the tokenizer's own chat template.

A prompt template, a system prompt, template variables and the date are written into the template, as lines in front of
it. The tokenizer is saved with the adapter, so every library and server that loads it renders what was trained on, on
any day. The lines change `messages` before the model's own template reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from script_io.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_PREFIX, PROMPT_SUFFIX = "Clinical Note: ", "\n\nSummary:"  # around the note, in the prompt of the task
PLACEHOLDER = "{note}"
# What a template sees that asks for today's date. Llama 3.2 uses this day where a renderer has no clock.
FIXED_DAY = datetime(2024, 7, 26)
_DIRECTIVES = "aAbBcCdDeFGHIjmMpRSTuUVwWxXyYzZ"  # of strftime
_NOT_VARIABLES = {
    "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "raise_exception",
    "strftime_now", "namespace", "dict", "note",
}  # fmt: skip


@dataclass(frozen=True)
class PromptSettings:
    """What a user asks for. Unset, the prompt is what is stored with the model, or else the tokenizer's usual one."""

    prompt_format: str | None = None  # one of PROMPT_FORMATS
    prompt_template: str | None = None  # a text with {note}, or Jinja that reads `note` or `messages`
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def flags(self) -> list[str]:
        """Return the flags that are set, other than --prompt_format."""
        names = ("prompt_template", "system_prompt", "chat_template_kwargs")
        return [f"--{name}" for name in names if getattr(self, name)]


AS_STORED = PromptSettings()

# ------------------------------------------------------------------------------------------------------- freezing


def freeze(tokenizer: PreTrainedTokenizerBase, prompt_format: str, settings: PromptSettings) -> str:
    """Write the settings and a fixed date into the tokenizer's chat template, and return the format.

    A prompt template for a `plain` prompt becomes the whole chat template, so the format is then `chat`. Raises
    InputError for settings that the template cannot take.
    """
    is_plain = prompt_format == "plain"
    if is_plain and not settings.prompt_template:
        if settings.flags():
            raise InputError(f"{settings.flags()[0]} needs a chat template, and this prompt is plain; leave it out")
        return "plain"
    macro = note_macro(settings.prompt_template) if settings.prompt_template else ""
    if is_plain:
        _check_plain(settings, macro)
        body = _plain_body(tokenizer, settings.prompt_template or "")
    else:
        body = settings.prompt_template if settings.prompt_template and not macro else _own_template(tokenizer)
    _check_variables(settings, macro + body)
    lines = [*_variables(settings), macro, "" if is_plain or not macro else _REWRITTEN, _system_line(settings)]
    if "strftime_now" in body + macro:
        print(
            f"The template prints the date; it is fixed at {FIXED_DAY:%d %b %Y}, so that every day has the same prompt"
        )
        lines.insert(0, _date_macro())
    if any(lines) or settings.prompt_template:
        tokenizer.chat_template = "".join(lines) + body
    return "chat"


def differing_flag(tokenizer: PreTrainedTokenizerBase, settings: PromptSettings) -> str | None:
    """Return a flag of the settings that the frozen template does not agree with, or None."""
    template = tokenizer.chat_template or ""
    own = settings.prompt_template or ""
    lines = {
        "--prompt_template": [note_macro(own) or own] if own else [],
        "--system_prompt": [_system_line(settings)],
        "--chat_template_kwargs": _variables(settings),
    }
    return next((flag for flag, texts in lines.items() if any(text not in template for text in texts)), None)


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template; pass --prompt_format plain, or a --prompt_template")
    try:
        template: str = tokenizer.get_chat_template()
    except ValueError as error:  # several templates, and none is the default
        raise InputError("the tokenizer has several chat templates; choose one with --prompt_template FILE") from error
    return template


def _check_plain(settings: PromptSettings, macro: str) -> None:
    if not macro:
        raise InputError("--prompt_template reads messages, so it is a chat template; pass --prompt_format chat")
    if settings.system_prompt:
        raise InputError("--system_prompt needs a chat template; write its text into --prompt_template")


def _check_variables(settings: PromptSettings, template: str) -> None:
    """Raise InputError if the template is not valid, draws at random, or does not read a variable of the settings."""
    tree, read = _parsed(template, "the chat template")
    if any(node.name == "random" for node in tree.find_all(nodes.Filter)):
        raise InputError(
            "the template draws at random, so the prompt is never the same; pass another --prompt_template"
        )
    if unknown := set(settings.chat_template_kwargs) - read:
        found = ", ".join(sorted(read - _NOT_VARIABLES)) or "none"
        raise InputError(
            f"--chat_template_kwargs: the template does not read {', '.join(sorted(unknown))}; it reads {found}"
        )


def _parsed(template: str, name: str) -> tuple[nodes.Template, set[str]]:
    """Return the syntax tree and the variables that it reads.

    `generation`, a tag of transformers that only marks a part, is left out.
    """
    known = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(known)
        return tree, meta.find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        raise InputError(f"{name} is not valid Jinja (line {error.lineno}: {error.message}); correct it") from error


# ------------------------------------------------------------------------------------ what is written in front

_TEXT_IS_PROMPT = (
    f"text is string and text.startswith({json.dumps(PROMPT_PREFIX)}) and text.endswith({json.dumps(PROMPT_SUFFIX)})"
)
_NOTE_OF_TEXT = f"text[{len(PROMPT_PREFIX)}:-{len(PROMPT_SUFFIX)}]"
# The prompt of the task, where a user message is one, becomes the prompt template's
_REWRITTEN = (
    "{% set rewritten = namespace(messages=[]) %}\n"
    "{% for message in messages %}{% set text = message['content'] %}"
    f"{{% if message['role'] == 'user' and {_TEXT_IS_PROMPT} %}}"
    f"{{% set task = {{'role': 'user', 'content': task_prompt({_NOTE_OF_TEXT})}} %}}"
    "{% set rewritten.messages = rewritten.messages + [task] %}"
    "{% else %}{% set rewritten.messages = rewritten.messages + [message] %}{% endif %}{% endfor %}\n"
    "{% set messages = rewritten.messages %}\n"
)


def note_macro(template: str) -> str:
    """Return the line that defines the prompt of a note, or "" if the template renders whole conversations.

    Raises InputError if the template is not valid, or has no place for a note or for messages.
    """
    template = template.removesuffix("\n")
    if PLACEHOLDER in template and "{{" not in template and "{%" not in template:
        parts = [json.dumps(part, ensure_ascii=False) for part in template.split(PLACEHOLDER)]
        return f"{{% macro task_prompt(note) %}}{{{{ {' ~ note ~ '.join(parts)} }}}}{{% endmacro %}}\n"
    read = _parsed(template, "--prompt_template")[1]
    if "messages" in read:
        return ""
    if "note" not in read:
        raise InputError("--prompt_template has no place for the note; write {note} there (in Jinja, {{ note }})")
    return f"{{% macro task_prompt(note) %}}{template}{{% endmacro %}}\n"


def _plain_body(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Return a chat template that renders one prompt and its answer as plain text, as `encode_prompt` would."""
    begins = tokenizer.bos_token_id is not None and tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    gap = "" if template.removesuffix("\n")[-1:].isspace() else " "
    return (
        "{% if messages | length > 2 or messages[0]['role'] != 'user' %}"
        "{{ raise_exception('this prompt template takes one note, not a conversation') }}{% endif %}\n"
        "{% set text = messages[0]['content'] %}\n"
        f"{'{{ bos_token }}' if begins else ''}"
        f"{{% if {_TEXT_IS_PROMPT} %}}{{{{ task_prompt({_NOTE_OF_TEXT}) }}}}{{% else %}}{{{{ text }}}}{{% endif %}}"
        f"{{% if messages | length > 1 %}}{{{{ '{gap}' ~ messages[1]['content'] ~ eos_token }}}}{{% endif %}}"
    )


def _system_line(settings: PromptSettings) -> str:
    """Return the line that puts the system prompt in front of a conversation that has none."""
    if not settings.system_prompt:
        return ""
    message = f"{{'role': 'system', 'content': {json.dumps(settings.system_prompt, ensure_ascii=False)}}}"
    return f"{{% if messages[0]['role'] != 'system' %}}{{% set messages = [{message}] + messages %}}{{% endif %}}\n"


def _variables(settings: PromptSettings) -> list[str]:
    return [f"{{% set {name} = {_literal(value)} %}}\n" for name, value in settings.chat_template_kwargs.items()]


def _literal(value: Any) -> str:
    """Return a JSON value as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _date_macro() -> str:
    """Return the line that hides the clock of the renderer; `%-d` and its like have no padding."""
    days = {f"%{letter}": FIXED_DAY.strftime(f"%{letter}") for letter in _DIRECTIVES}
    unpadded = {f"%-{key[1]}": str(int(text)) for key, text in days.items() if text.isdigit()}
    return (
        "{% macro strftime_now(format) %}{% set day = namespace(text=format) %}"
        f"{{% for key, text in {_literal(unpadded | days)}.items() %}}"
        "{% set day.text = day.text.replace(key, text) %}{% endfor %}{{ day.text }}{% endmacro %}\n"
    )
