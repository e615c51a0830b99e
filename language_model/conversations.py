"""Read multi-turn training data for Stage A: a JSONL file with `messages`, and optionally `id`.

Each message of the assistant is an example of its own. Its prompt is everything before it, in the chat template, as it
will be in inference; only the message itself is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_model.chat_messages import Message, conversation_problem
from script_io.errors import InputError
from script_io.files import read_jsonl

KEY = "messages"
REMEDY = "name a JSONL file with messages, a list of {role, content} in each line"


@dataclass(frozen=True)
class Turn:
    """One message of the assistant, and what it answers."""

    id: str
    line: int
    prompt: list[Message]
    answer: list[Message]  # of one message


def holds_conversations(path: str | Path) -> bool:
    """Return whether a file is JSONL whose first object has `messages`."""
    if Path(path).suffix.lower() not in (".jsonl", ".ndjson") or not Path(path).is_file():
        return False
    with Path(path).open(encoding="utf-8-sig", errors="replace") as handle:
        first = next((line for line in handle if line.strip()), "")
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and KEY in row


def read_turns(path: str | Path) -> list[Turn]:
    """Return the turns of all conversations, in order. Raises InputError with the line of a conversation of no use."""
    rows = read_jsonl(path, (KEY,), REMEDY)
    turns = []
    for line, row in rows:
        if problem := conversation_problem(row[KEY]):
            raise InputError(
                f"{path}, line {line}: {KEY}: {problem}; run python sft_dataset.py {path} for every such line"
            )
        turns += list(turns_of(line, row))
    print(f"Loaded {len(rows)} conversations from {path}, with {len(turns)} messages of the assistant to train on")
    return turns


def turns_of(line: int, row: dict[str, Any]) -> Iterator[Turn]:
    """Yield the turns of a conversation that has passed `conversation_problem`."""
    messages = row[KEY]
    name = str(row.get("id", f"line-{line}"))
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    for number, place in enumerate(places, start=1):
        turn_name = f"{name}, turn {number}" if len(places) > 1 else name
        yield Turn(turn_name, line, messages[:place], [messages[place]])
