"""Examples longer than `--max_length`: left out and counted, or their note shortened. Nothing is cut silently."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from language_model.prompt_format import Text, build_prompt, encode_completion, encode_prompt, note_of_prompt
from script_io.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OVERFLOWS = ("drop", "shorten_note")
SHORTENED_MARK = " [...] "
WARN_SHARE, STOP_SHARE = 0.05, 0.5  # of examples left out


@dataclass
class LengthReport:
    """What became of the examples of one file: how long they are in tokens, which were left out or shortened."""

    max_length: int
    lengths: list[int] = field(default_factory=list)  # before anything is left out or shortened
    dropped_ids: list[str] = field(default_factory=list)
    shortened_ids: list[str] = field(default_factory=list)

    def length_that_keeps(self, share: float) -> int:
        """The `--max_length` under which `share` of the examples would be kept whole."""
        return sorted(self.lengths)[math.ceil(share * len(self.lengths)) - 1]

    def announce(self, path: str, overflow: str = "drop") -> None:
        """Prints kept, left out, shortened and the longest; warns over 5% left out, raises InputError over 50%."""
        total, dropped = len(self.lengths), len(self.dropped_ids)
        print(
            f"  {path}: kept {total - dropped} of {total}, left out {dropped}, shortened {len(self.shortened_ids)}; "
            f"longest {max(self.lengths)} tokens, --max_length {self.max_length}"
        )
        remedy = f"--max_length {self.length_that_keeps(0.99)} keeps 99% of them"
        if overflow == "drop":
            remedy += ", --overflow shorten_note all whose summaries are not too long themselves"
        if dropped > STOP_SHARE * total:
            raise InputError(f"{path}: {dropped} of {total} examples are over --max_length {self.max_length}; {remedy}")
        if dropped > WARN_SHARE * total:
            print(f"warning: {path}: {dropped} of {total} examples left out; {remedy}", file=sys.stderr)

    def as_dict(self) -> dict[str, object]:
        return {
            "total": len(self.lengths),
            "longest_tokens": max(self.lengths),
            "dropped_ids": self.dropped_ids,
            "shortened_ids": self.shortened_ids,
        }


def encode_within(
    tokenizer: PreTrainedTokenizerBase,
    example_id: str,
    prompt: Text,
    completions: Sequence[Text],
    prompt_format: str,
    overflow: str,
    report: LengthReport,
) -> tuple[list[int], list[list[int]]] | None:
    """Token ids of a prompt and of each of its completions, or None where the example is left out.

    The length that counts is the prompt's with the longest completion. Completions are never shortened.
    """
    encoded = [encode_completion(tokenizer, completion, prompt_format) for completion in completions]
    room = report.max_length - max(map(len, encoded))
    prompt_ids = encode_prompt(tokenizer, prompt, prompt_format)
    report.lengths.append(len(prompt_ids) + max(map(len, encoded)))
    if len(prompt_ids) <= room:
        return prompt_ids, encoded
    if overflow == "shorten_note" and isinstance(prompt, str) and room > 0:
        shortened = shorten_prompt(prompt, lambda text: len(encode_prompt(tokenizer, text, prompt_format)) <= room)
        if shortened is not None:
            report.shortened_ids.append(example_id)
            return encode_prompt(tokenizer, shortened, prompt_format), encoded
    report.dropped_ids.append(example_id)
    return None


def shorten_prompt(prompt: str, fits: Callable[[str], bool]) -> str | None:
    """The prompt with as many words of its note's head and tail as fit, the gap marked; None where none fit.

    A prompt of another form than `build_prompt` has no note that could be told from its instructions: None.
    """
    note = note_of_prompt(prompt)
    if note == prompt:
        return None
    words = re.findall(r"\S+\s*", note)

    def keeping(count: int) -> str:
        head, tail = words[: count - count // 2], words[len(words) - count // 2 :]
        return build_prompt("".join(head).rstrip() + SHORTENED_MARK + "".join(tail).strip())

    low, high = 0, len(words) - 1  # the largest count that fits is in [low, high]; 0 words fit nobody's purpose
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(keeping(middle)) else (low, middle - 1)
    return keeping(low) if low > 0 else None
