"""Build the prompt of the task, tokenise prompts and completions, and store which format a model was trained with.

Training, data generation, inference and evaluation all use this module, so a model sees in generation exactly the
tokens that it saw in training. In the `plain` format, the prompt is `Clinical Note: {note}\\n\\nSummary:`, and the
completion is a space, the summary and the end of sequence. The `chat` format wraps the same content in the tokenizer's
chat template. Prompt and completion are tokenised separately, then joined. `prompt_format.json` in each adapter's
folder stores the format and a hash of an example in it, which is checked when the adapter is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_io.errors import InputError
from script_io.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_FORMATS = ("plain", "chat")
FORMAT_FILE = "prompt_format.json"
_PREFIX = "Clinical Note: "
_SUFFIX = "\n\nSummary:"
_PROBE = ("A 54-year-old woman with chest pain.", "Chest pain.")

Text = str | list[dict[str, str]]  # plain text, or chat messages with `role` and `content` as TRL takes them


def build_prompt(note: str) -> str:
    """Return the prompt of the task for a note, as plain text."""
    return f"{_PREFIX}{note.strip()}{_SUFFIX}"


def note_of_prompt(prompt: str) -> str | None:
    """Return the note of a prompt from `build_prompt`, or None for a prompt of another form."""
    if prompt.startswith(_PREFIX) and prompt.endswith(_SUFFIX):
        return prompt[len(_PREFIX) : -len(_SUFFIX)]
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
        return _ids(tokenizer, _render_chat(tokenizer, prompt))
    ids: list[int] = tokenizer(_plain(prompt), verbose=False).input_ids
    if ids and ids[-1] == tokenizer.eos_token_id:  # some tokenizers end every text with it
        ids = ids[:-1]
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def encode_completion(tokenizer: PreTrainedTokenizerBase, completion: Text, prompt_format: str) -> list[int]:
    """Return the token ids of a completion, which end with the end of sequence (the last trained token)."""
    end = tokenizer.eos_token_id
    ids = _ids(tokenizer, _rendered(tokenizer, completion, prompt_format))
    if prompt_format == "chat":
        # a template may write a line break after the end of the turn, but generation stops at the end
        return ids[: len(ids) - ids[::-1].index(end)] if end in ids else [*ids, end]
    return [*ids, end]


def rendered_completion(tokenizer: PreTrainedTokenizerBase, completion: str, prompt_format: str) -> tuple[str, int]:
    """Return the text whose tokens `encode_completion` returns, and the place in it where the completion begins.

    Raises InputError if a chat template changes the completion.
    """
    rendered = _rendered(tokenizer, completion, prompt_format)
    start = rendered.find(completion.strip())
    if start < 0:
        raise InputError("the chat template changes the text of an answer; pass --prompt_format plain")
    return rendered, start


def _rendered(tokenizer: PreTrainedTokenizerBase, completion: Text, prompt_format: str) -> str:
    if prompt_format == "chat":
        return _chat_completion(tokenizer, completion)
    return f" {_plain(completion).strip()}"


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return ids


def _plain(text: Text) -> str:
    if isinstance(text, str):
        return text
    raise InputError("the data are chat messages, but the prompt format is plain; pass --prompt_format chat")


def _messages(text: Text, role: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def _render_chat(tokenizer: PreTrainedTokenizerBase, prompt: Text) -> str:
    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template; pass --prompt_format plain")
    rendered: str = tokenizer.apply_chat_template(_messages(prompt, "user"), tokenize=False, add_generation_prompt=True)
    return rendered


def _chat_completion(tokenizer: PreTrainedTokenizerBase, completion: Text) -> str:
    """Return the text that the template writes for the answer, after the generation prompt."""
    question = [{"role": "user", "content": "?"}]
    opened = _render_chat(tokenizer, question)
    answer = [{**message, "content": message["content"].strip()} for message in _messages(completion, "assistant")]
    closed: str = tokenizer.apply_chat_template(question + answer, tokenize=False)
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
        text = _render_chat(tokenizer, prompt) + _chat_completion(tokenizer, summary)
    else:
        text = f"{prompt} {summary}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_prompt_format(folder: str | Path, tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> None:
    """Write `prompt_format.json` into a model's folder."""
    content = {"prompt_format": prompt_format, "sha256": format_hash(tokenizer, prompt_format)}
    write_json(Path(folder) / FORMAT_FILE, content)


def load_prompt_format(folder: str | Path, tokenizer: PreTrainedTokenizerBase, requested: str | None = None) -> str:
    """Return the format that the model in `folder` was trained with; `requested` or `plain` if none is stored.

    Raises InputError if `requested` differs from the stored format, or if the tokenizer now renders the format in
    another way than in training.
    """
    path = Path(folder) / FORMAT_FILE
    if not path.exists():
        return requested or "plain"
    stored = read_json(path)
    prompt_format: str = stored["prompt_format"]
    if requested and requested != prompt_format:
        raise InputError(
            f"{path}: the model was trained with --prompt_format {prompt_format}, not {requested}; leave the flag out, "
            "or train the model again"
        )
    if stored["sha256"] != format_hash(tokenizer, prompt_format):
        raise InputError(
            f"{path}: the prompt is no longer rendered as in training; restore the tokenizer's chat template, or train "
            "the model again"
        )
    return prompt_format
