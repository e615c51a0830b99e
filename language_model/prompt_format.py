"""Build the prompt of the task, tokenise prompts and completions, and store which format a model was trained with.

Training, data generation, inference and evaluation all use this module, so a model sees in generation exactly the
tokens that it saw in training. In the `plain` format, the prompt is `Clinical Note: {note}\\n\\nSummary:`, and the
completion is a space, the summary and the end of sequence. The `chat` format wraps the same content in the tokenizer's
chat template, in which frozen_template.py fixes what else a user asks for. Prompt and completion are tokenised
separately, then joined. `prompt_format.json` in each adapter's folder stores the format and a hash of an example in it,
which is checked when the adapter is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.chat_messages import Message, render
from language_model.frozen_template import (
    AS_STORED,
    PROMPT_PREFIX,
    PROMPT_SUFFIX,
    PromptSettings,
    differing_flag,
    freeze,
)
from language_model.hub import file_of_model
from language_model.thinking import CLOSES, OPENS, without_thinking
from script_io.errors import InputError
from script_io.files import read_json_object, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_FORMATS = ("plain", "chat")
FORMAT_FILE = "prompt_format.json"
_PROBE = ("A 54-year-old woman with chest pain.", "Chest pain.")

Text = str | list[Message]  # plain text, or chat messages


def build_prompt(note: str) -> str:
    """Return the prompt of the task for a note, as plain text."""
    return f"{PROMPT_PREFIX}{note.strip()}{PROMPT_SUFFIX}"


def note_of_prompt(prompt: str) -> str | None:
    """Return the note of a prompt from `build_prompt`, or None for a prompt of another form."""
    if prompt.startswith(PROMPT_PREFIX) and prompt.endswith(PROMPT_SUFFIX):
        return prompt[len(PROMPT_PREFIX) : -len(PROMPT_SUFFIX)]
    return None


def note_of_row(row: Mapping[str, Any]) -> str | None:
    """Return the note of a JSONL row: its `clinical_note`, else the note in its plain `prompt`, else None.

    Raises InputError, without the place of the row, if `clinical_note` is not text or is not the note in the prompt.
    """
    prompt, given = row.get("prompt"), row.get("clinical_note")
    in_prompt = note_of_prompt(prompt) if isinstance(prompt, str) else None
    if given is None or given == "":
        return in_prompt
    if not isinstance(given, str):
        raise InputError("clinical_note is not text; give the note as one string or leave it out")
    if in_prompt is not None and in_prompt.strip() != given.strip():
        raise InputError("clinical_note is not the note in prompt; correct one of them, or leave clinical_note out")
    return given.strip()


def replace_note(prompt: str, note: str, new_note: str) -> str:
    """Return the prompt with `new_note` instead of `note`, in a prompt of any form."""
    return build_prompt(new_note) if note_of_prompt(prompt) == note else prompt.replace(note, new_note, 1)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Text, prompt_format: str) -> list[int]:
    """Return the token ids of a prompt, with at most one beginning-of-sequence token, if the tokenizer uses it."""
    if prompt_format == "chat":
        return _ids(tokenizer, _opened(tokenizer, prompt))
    ids: list[int] = tokenizer(_plain(prompt), verbose=False).input_ids
    if ids and ids[-1] == tokenizer.eos_token_id:  # some tokenizers end every text with it
        ids = ids[:-1]
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def encode_completion(tokenizer: PreTrainedTokenizerBase, completion: Text, prompt_format: str) -> list[int]:
    """Return the token ids of a completion, which end with the end of sequence (the last trained token).

    Thinking blocks are left out, those in the completion as well as those that a template writes.
    """
    end = tokenizer.eos_token_id
    ids = _ids(tokenizer, rendered_completion(tokenizer, completion, prompt_format)[0])
    if prompt_format == "chat":
        # a template may write a line break after the end of the turn, but generation stops at the end
        return ids[: len(ids) - ids[::-1].index(end)] if end in ids else [*ids, end]
    return [*ids, end]


def rendered_completion(tokenizer: PreTrainedTokenizerBase, completion: Text, prompt_format: str) -> tuple[str, int]:
    """Return the text whose tokens `encode_completion` returns, and the place in it where the completion begins.

    The place is of the first character that is not white space or in a thinking block. Raises InputError if a chat
    template changes the completion.
    """
    first = completion if isinstance(completion, str) else completion[0]["content"]
    kept = without_thinking(first).strip()
    if not kept:
        raise InputError("a completion has nothing but a thinking block; fill it in or delete the row")
    if prompt_format == "chat":
        rendered = without_thinking(_chat_completion(tokenizer, completion))  # templates write blocks of their own
    else:
        rendered = f" {without_thinking(_plain(completion)).strip()}"
    start = rendered.find(kept)
    if start < 0:
        raise InputError("the chat template changes the text of an answer; pass --prompt_format plain")
    return rendered, start


def completion_opening(tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> str:
    """Return what precedes the text of a completion: a space in the plain format, usually nothing in a chat."""
    rendered, start = rendered_completion(tokenizer, _PROBE[1], prompt_format)
    return rendered[:start]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return ids


def _plain(text: Text) -> str:
    if isinstance(text, str):
        return text
    raise InputError(
        "the data are chat messages, but the prompt format is plain; pass --prompt_format chat, with a tokenizer that "
        "has a chat template"
    )


def _messages(text: Text, role: str) -> list[Message]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def _opened(tokenizer: PreTrainedTokenizerBase, prompt: Text) -> str:
    """Return a prompt in the chat template, up to where the answer begins."""
    return render(tokenizer, _messages(prompt, "user"), for_generation=True)


def _chat_completion(tokenizer: PreTrainedTokenizerBase, completion: Text) -> str:
    """Return the text that the template writes for the answer, after the generation prompt."""
    question = [{"role": "user", "content": "?"}]
    opened = _opened(tokenizer, question)
    if opened.count(OPENS) > opened.count(CLOSES):
        raise InputError(
            "the chat template opens a thinking block for every answer; close it with --chat_template_kwargs "
            "'{\"enable_thinking\": false}' if the template knows that, or pass another --prompt_template"
        )
    answer = [
        {**message, "content": without_thinking(message["content"]).strip()}
        for message in _messages(completion, "assistant")
    ]
    closed = render(tokenizer, question + answer, for_generation=False)
    if not closed.startswith(opened):
        raise InputError(
            "the chat template starts an answer in another way than it does for generation; pass --prompt_format plain"
        )
    return closed[len(opened) :]


def format_hash(tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> str:
    """Return the SHA-256 of a fixed example in this format. A changed chat template changes it."""
    note, summary = _PROBE
    prompt = build_prompt(note)
    if prompt_format == "chat":
        text = _opened(tokenizer, prompt) + _chat_completion(tokenizer, summary)
    else:
        text = f"{prompt} {summary}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_prompt_format(folder: str | Path, tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> None:
    """Write `prompt_format.json` into a model's folder."""
    content = {"prompt_format": prompt_format, "sha256": format_hash(tokenizer, prompt_format)}
    write_json(Path(folder) / FORMAT_FILE, content)


def stores_prompt_format(model: str | Path) -> bool:
    """Return whether a model, a folder or a hub id, says which format it was trained with."""
    return file_of_model(model, FORMAT_FILE) is not None


def load_prompt_format(
    folder: str | Path, tokenizer: PreTrainedTokenizerBase, asked: PromptSettings = AS_STORED
) -> str:
    """Return the format that the model in `folder`, which may be a hub id, was trained with.

    If none is stored there, the format is the one asked for, or else `chat` if the tokenizer has a chat template; the
    rendering is then fixed in the tokenizer's template. Raises InputError if `asked` differs from what is stored, if
    the tokenizer now renders the format in another way than in training, or if the template cannot render what is
    asked.
    """
    if stored := file_of_model(folder, FORMAT_FILE):
        prompt_format = _stored_format(stored, tokenizer, asked)
        print(f"Prompt format: {prompt_format} (stored with {folder})")
        return prompt_format
    usual = "chat" if tokenizer.chat_template else "plain"
    prompt_format = freeze(tokenizer, asked.prompt_format or usual, asked)
    if prompt_format == "chat":
        _check_rendering(tokenizer, asked)
    because = (
        "as asked"
        if asked.prompt_format or asked.prompt_template
        else (f"none is stored with {folder}, whose tokenizer has {'a' if usual == 'chat' else 'no'} chat template")
    )
    print(f"Prompt format: {prompt_format} ({because})")
    return prompt_format


def _stored_format(path: Path, tokenizer: PreTrainedTokenizerBase, asked: PromptSettings) -> str:
    stored = read_json_object(path)
    prompt_format = stored.get("prompt_format")
    if prompt_format not in PROMPT_FORMATS or not isinstance(stored.get("sha256"), str):
        raise InputError(f"{path}: does not say how prompts were rendered; restore the file, or train the model again")
    if asked.prompt_format not in (None, prompt_format) and not asked.prompt_template:
        raise InputError(
            f"{path}: the model was trained with --prompt_format {prompt_format}, not {asked.prompt_format}; leave the "
            "flag out, or train the model again"
        )
    if flag := differing_flag(tokenizer, asked):
        raise InputError(
            f"{path}: the model was trained with another {flag}, or none; leave the flag out, or train the model again"
        )
    if stored["sha256"] != format_hash(tokenizer, prompt_format):
        raise InputError(
            f"{path}: the prompt is no longer rendered as in training; restore the tokenizer's chat template, or train "
            "the model again"
        )
    return prompt_format


def _check_rendering(tokenizer: PreTrainedTokenizerBase, asked: PromptSettings) -> None:
    """Raise InputError if the template fails, or leaves out the note or the system prompt."""
    try:
        rendered = _opened(tokenizer, build_prompt(_PROBE[0]))
    except InputError as error:
        flag = next(iter(asked.flags()), None)
        raise InputError(f"{flag}: {error}" if flag else str(error)) from error
    if _PROBE[0] not in rendered:
        raise InputError("the chat template leaves out or changes the user's message; pass another --prompt_template")
    if asked.system_prompt and asked.system_prompt.strip() not in rendered:
        raise InputError("--system_prompt: the chat template leaves it out; write its text into a --prompt_template")
