"""The one place that builds the task's prompt, tokenises it, and names its format.

Training, data generation, inference and evaluation all call this module, so a model sees at generation exactly
the tokens it saw in training. `plain` is `Clinical Note: {note}\\n\\nSummary:` and a completion of one space, the
summary and the end of sequence; `chat` wraps the same content in the tokenizer's chat template. Prompt and
completion are tokenised apart and joined. The format and a hash of what it renders to are stored beside each
adapter in `prompt_format.json` and checked when the adapter is loaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

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
    """The prompt of the task, in plain text."""
    return f"{_PREFIX}{note.strip()}{_SUFFIX}"


def note_of_prompt(prompt: str) -> str:
    """The inverse of `build_prompt`; a prompt of another form is returned as it is."""
    if prompt.startswith(_PREFIX) and prompt.endswith(_SUFFIX):
        return prompt[len(_PREFIX) : -len(_SUFFIX)]
    return prompt


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Text, prompt_format: str) -> list[int]:
    """Token ids of a prompt, with the tokenizer's beginning of sequence exactly once where it uses one."""
    if prompt_format == "chat":
        return _ids(tokenizer, _render_chat(tokenizer, prompt))
    ids: list[int] = tokenizer(_plain(prompt), verbose=False).input_ids
    if ids and ids[-1] == tokenizer.eos_token_id:  # some tokenizers close every text
        ids = ids[:-1]
    while len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        ids = ids[1:]
    return ids


def encode_completion(tokenizer: PreTrainedTokenizerBase, completion: Text, prompt_format: str) -> list[int]:
    """Token ids of a completion, ending with the end of sequence (its last trained token)."""
    end = tokenizer.eos_token_id
    if prompt_format == "chat":
        ids = _ids(tokenizer, _chat_completion(tokenizer, completion))
        # templates may write a line break after the end of the turn; generation stops at the end itself
        return ids[: len(ids) - ids[::-1].index(end)] if end in ids else [*ids, end]
    return [*_ids(tokenizer, f" {_plain(completion).strip()}"), end]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return ids


def _plain(text: Text) -> str:
    if isinstance(text, str):
        return text
    raise InputError("the data hold chat messages and the prompt format is plain; pass --prompt_format chat")


def _messages(text: Text, role: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def _render_chat(tokenizer: PreTrainedTokenizerBase, prompt: Text) -> str:
    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template; pass --prompt_format plain")
    rendered: str = tokenizer.apply_chat_template(_messages(prompt, "user"), tokenize=False, add_generation_prompt=True)
    return rendered


def _chat_completion(tokenizer: PreTrainedTokenizerBase, completion: Text) -> str:
    """What the template writes for the answer, after the generation prompt."""
    question = [{"role": "user", "content": "?"}]
    opened = _render_chat(tokenizer, question)
    answer = [{**message, "content": message["content"].strip()} for message in _messages(completion, "assistant")]
    closed: str = tokenizer.apply_chat_template(question + answer, tokenize=False)
    if not closed.startswith(opened):
        raise InputError(
            "the chat template renders an answer other than it opens one for generation; pass --prompt_format plain"
        )
    return closed[len(opened) :]


def format_hash(tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> str:
    """SHA-256 of what the format renders a fixed example to; a changed chat template changes it."""
    note, summary = _PROBE
    prompt = build_prompt(note)
    if prompt_format == "chat":
        text = _render_chat(tokenizer, prompt) + _chat_completion(tokenizer, summary)
    else:
        text = f"{prompt} {summary}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_prompt_format(folder: str | Path, tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> None:
    """Writes `prompt_format.json` into a model's folder."""
    content = {"prompt_format": prompt_format, "sha256": format_hash(tokenizer, prompt_format)}
    write_json(Path(folder) / FORMAT_FILE, content)


def load_prompt_format(folder: str | Path, tokenizer: PreTrainedTokenizerBase, requested: str | None = None) -> str:
    """The format that the model in `folder` was trained with; `plain` where none is stored.

    Raises InputError where the stored hash is not what the tokenizer renders now, or where `requested` differs.
    """
    path = Path(folder) / FORMAT_FILE
    if not path.exists():
        return requested or "plain"
    stored = read_json(path)
    prompt_format: str = stored["prompt_format"]
    if requested and requested != prompt_format:
        raise InputError(
            f"{path}: the model was trained with --prompt_format {prompt_format}, asked for is {requested}; "
            "leave the flag out or train anew"
        )
    if stored["sha256"] != format_hash(tokenizer, prompt_format):
        raise InputError(
            f"{path}: the prompt is no longer rendered as in training; restore the tokenizer's chat template, "
            "or train anew"
        )
    return prompt_format
