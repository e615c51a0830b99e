"""Leave out examples longer than `--max_length`, or shorten their notes, and report both. Nothing is cut silently."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from language_model.prompt_format import Text, encode_completion, encode_prompt, replace_note
from script_io.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OVERFLOWS = ("drop", "shorten_note")
SHORTENED_MARK = " [...] "
WARN_SHARE, STOP_SHARE = 0.05, 0.5  # of examples left out


@dataclass
class LengthReport:
    """The lengths in tokens of the examples of one file, and which of them were left out or shortened."""

    max_length: int
    lengths: list[int] = field(default_factory=list)  # before anything is left out or shortened
    dropped_ids: list[str] = field(default_factory=list)
    shortened_ids: list[str] = field(default_factory=list)

    def length_that_keeps(self, share: float) -> int:
        """Return the smallest `--max_length` that keeps at least this share of the examples, whole."""
        return sorted(self.lengths)[math.ceil(share * len(self.lengths)) - 1]

    def announce(self, path: str, overflow: str = "drop") -> None:
        """Print how many examples were kept, left out and shortened, and the longest length.

        Warns if over 5% are left out, and raises InputError if over 50% are.
        """
        total, dropped = len(self.lengths), len(self.dropped_ids)
        print(
            f"  {path}: kept {total - dropped} of {total}, left out {dropped}, shortened {len(self.shortened_ids)}; "
            f"longest {max(self.lengths)} tokens, --max_length {self.max_length}"
        )
        remedy = f"--max_length {self.length_that_keeps(0.99)} keeps 99% of them"
        if overflow == "drop":
            remedy += ", --overflow shorten_note keeps all whose summaries are not too long themselves"
        if dropped > STOP_SHARE * total:
            raise InputError(f"{path}: {dropped} of {total} examples are over --max_length {self.max_length}; {remedy}")
        if dropped > WARN_SHARE * total:
            print(f"warning: {path}: {dropped} of {total} examples left out; {remedy}", file=sys.stderr)

    def as_dict(self) -> dict[str, object]:
        """Return the report as it is stored in a run's statistics file."""
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
    *,
    note: str | None,
) -> tuple[list[int], list[list[int]]] | None:
    """Return the token ids of a prompt and of each of its completions, or None if the example is left out.

    The prompt and its longest completion may have `report.max_length` tokens together. Completions are never
    shortened, and a prompt only if `note`, the note in it, is known.
    """
    encoded = [encode_completion(tokenizer, completion, prompt_format) for completion in completions]
    room = report.max_length - max(map(len, encoded))
    prompt_ids = encode_prompt(tokenizer, prompt, prompt_format)
    report.lengths.append(len(prompt_ids) + max(map(len, encoded)))
    if len(prompt_ids) <= room:
        return prompt_ids, encoded
    if overflow == "shorten_note" and isinstance(prompt, str) and room > 0:
        shortened = shorten_prompt(
            prompt, note, lambda text: len(encode_prompt(tokenizer, text, prompt_format)) <= room
        )
        if shortened is not None:
            report.shortened_ids.append(example_id)
            return encode_prompt(tokenizer, shortened, prompt_format), encoded
    report.dropped_ids.append(example_id)
    return None


def shorten_prompt(prompt: str, note: str | None, fits: Callable[[str], bool]) -> str | None:
    """Return the prompt with as many words of the note's head and tail as fit, and a mark in the gap.

    Returns None if no word fits, or if `note` is not known (None) or not in the prompt.
    """
    if note is None or note not in prompt:
        return None
    words = re.findall(r"\S+\s*", note)

    def keeping(count: int) -> str:
        head, tail = words[: count - count // 2], words[len(words) - count // 2 :]
        return replace_note(prompt, note, "".join(head).rstrip() + SHORTENED_MARK + "".join(tail).strip())

    low, high = 0, len(words) - 1  # the largest count that fits is in [low, high]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(keeping(middle)) else (low, middle - 1)
    return keeping(low) if low > 0 else None
