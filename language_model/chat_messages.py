"""Check lists of chat messages, and render them with a tokenizer's chat template.

Templates come with models and run in the sandbox of transformers. Whatever goes wrong in one is an InputError of one
line, to which the caller adds the place of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from script_io.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]  # `role` and `content`, as TRL takes them
ROLES = ("system", "developer", "user", "assistant", "tool")
# What the code of a template can raise, next to jinja2's own errors
_TEMPLATE_ERRORS = (
    *(TemplateError, TypeError, ValueError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError),
)
_LONGEST_REASON = 200  # characters


def message_problem(messages: Any, *, is_prompt: bool) -> str | None:
    """Return what makes a list of messages unusable as a prompt or as a completion, and how to mend it, or None."""
    if not isinstance(messages, list) or not messages:
        return "neither text nor a list of messages with role and content"
    for number, message in enumerate(messages, start=1):
        if problem := _problem_of_one(message):
            return f"message {number} {problem}"
        if not is_prompt and message["role"] != "assistant":
            return (
                f"message {number} has the role {message['role']}; a completion is the assistant's, move it to prompt"
            )
    if is_prompt and messages[-1]["role"] == "assistant":
        return "ends with a message of the assistant, so there is nothing to answer; end it with the user's"
    return None


def conversation_problem(messages: Any) -> str | None:
    """Return what makes a conversation unusable for training, in which the assistant answers every prompt, or None."""
    if not isinstance(messages, list) or not messages:
        return "not a list of messages with role and content"
    for number, message in enumerate(messages, start=1):
        if problem := _problem_of_one(message):
            return f"message {number} {problem}"
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers or answers[-1] != len(messages) - 1:
        return "does not end with a message of the assistant, so an answer is missing; add it or delete the rest"
    if answers[0] == 0:
        return "begins with a message of the assistant; put what it answers in front"
    if twice := next((number for number in answers if number - 1 in answers), None):
        return f"message {twice + 1} follows another one of the assistant; join the two"
    return None


def _problem_of_one(message: Any) -> str | None:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return "is not an object with role and content; write each message as {role, content}"
    if message["role"] not in ROLES:
        return f"has the role {message['role']!r}; use one of {', '.join(ROLES)}"
    if not isinstance(message.get("content"), str):
        return "has no content as text; give it as one string, not as a list of parts"
    if not message["content"].strip():
        return "has an empty content; fill it in or delete the message"
    return None


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, for_generation: bool) -> str:
    """Return the messages in the tokenizer's chat template; `for_generation` opens an answer of the assistant.

    Raises InputError, in one line, if there is no template, or if it fails on these messages.
    """
    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template; pass --prompt_format plain, or a --prompt_template")
    try:
        rendered: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=for_generation
        )
    except _TEMPLATE_ERRORS as error:
        remedy = "change the messages, or pass another --prompt_template or --prompt_format plain"
        raise InputError(f"the chat template fails on these messages ({reason_of(error)}); {remedy}") from error
    return rendered


def reason_of(error: Exception) -> str:
    """Return the message of a template's error in one line, or the name of its class."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
