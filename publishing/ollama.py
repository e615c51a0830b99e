"""The prompt of a model as fixed text around the note, and the Modelfile with which Ollama renders the same prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_model.prompt_format import build_prompt, encode_prompt
from script_io.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

_NOTE = "NOTE-GOES-HERE"
# Ollama's own limit is larger; a cache for the whole context of a large model would not fit into most memories
MOST_CONTEXT_TOKENS = 8192
NEW_TOKENS = 150  # as in sft_inference.py


@dataclass(frozen=True)
class PromptFrame:
    """The text before and after the note. `adds_bos`: a beginning of sequence comes first, which is not in `before`."""

    before: str
    after: str
    adds_bos: bool

    def text(self, note: str) -> str:
        return f"{self.before}{note}{self.after}"


def prompt_frame(tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> PromptFrame:
    """Return the text around the note in the prompts that the model was trained with.

    Raises InputError if the prompt format does not keep the text of a note.
    """
    ids = encode_prompt(tokenizer, build_prompt(_NOTE), prompt_format)
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and ids[:1] == [bos] == tokenizer("a").input_ids[:1]
    text = tokenizer.decode(ids[1:] if adds_bos else ids, clean_up_tokenization_spaces=False)
    before, found, after = text.partition(_NOTE)
    if not found:
        raise InputError("the chat template changes the text of a note, which a Modelfile cannot; leave --gguf out")
    return PromptFrame(before, after, adds_bos)


def modelfile(file_name: str, frame: PromptFrame, stops: Sequence[str], context_tokens: int) -> str:
    """Return the text of a Modelfile, with greedy decoding. `stops` are the texts that end a completion."""
    lines = [
        f"# ollama create summary -f Modelfile && ollama run summary < note.txt (the note is the whole message)\n"
        f"FROM ./{file_name}",
        f'TEMPLATE """{_escaped(frame.before)}{{{{ .Prompt }}}}{_escaped(frame.after)}"""',
        *(f'PARAMETER stop "{stop}"' for stop in stops),
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",  # Ollama's default changes greedy texts
        f"PARAMETER num_ctx {min(context_tokens, MOST_CONTEXT_TOKENS)}",
        f"PARAMETER num_predict {NEW_TOKENS}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return text as a Go template in triple quotes writes it."""
    return text.replace("{{", '{{ "{{" }}').replace('"""', r'{{ "\"\"\"" }}')
