"""Read multi-turn training data for Stage A: JSONL, a JSON array or Parquet with `messages`, and optionally `id`.

Each message of the assistant is an example of its own. Its prompt is everything before it, in the chat template, as it
will be in inference; only the message itself is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_model.chat_messages import Message, conversation_problem
from script_io.errors import InputError
from script_io.tables import JSON_SUFFIXES, PARQUET_SUFFIXES, Place, read_table, stream_table

KEY = "messages"
REMEDY = "name a file with messages, a list of {role, content} in each row"


@dataclass(frozen=True)
class Turn:
    """One message of the assistant, and what it answers."""

    id: str
    place: Place
    prompt: list[Message]
    answer: list[Message]  # of one message


def holds_conversations(path: str | Path) -> bool:
    """Return whether a file is JSONL, JSON or Parquet whose first row has `messages`."""
    if Path(path).suffix.lower() not in (*JSON_SUFFIXES, *PARQUET_SUFFIXES) or not Path(path).is_file():
        return False
    try:
        _, row = next(stream_table(path, ()))
    except InputError:  # which reading the file as Phase 1 then says
        return False
    return KEY in row


def read_conversations(path: str | Path) -> list[tuple[Place, dict[str, Any]]]:
    """Return the (place, row) pairs of a file of conversations; Parquet's keys without a value leave the messages."""
    rows = read_table(path, (KEY,), REMEDY)
    return [(place, row | {KEY: _without_missing(row[KEY])}) for place, row in rows]


def _without_missing(messages: Any) -> Any:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return messages
    return [{name: value for name, value in message.items() if value is not None} for message in messages]


def read_turns(path: str | Path) -> list[Turn]:
    """Return the turns of all conversations, in order. Raises InputError with the place of a conversation of no use."""
    rows = read_conversations(path)
    turns = []
    for place, row in rows:
        if problem := conversation_problem(row[KEY]):
            raise InputError(
                f"{path}, {place}: {KEY}: {problem}; run python sft_dataset.py {path} for every such {place.unit}"
            )
        turns += list(turns_of(place, row))
    print(f"Loaded {len(rows)} conversations from {path}, with {len(turns)} messages of the assistant to train on")
    return turns


def turns_of(place: Place, row: dict[str, Any]) -> Iterator[Turn]:
    """Yield the turns of a conversation that has passed `conversation_problem`."""
    messages = row[KEY]
    name = str(row.get("id", place.row_id))
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    for number, index in enumerate(answers, start=1):
        turn_name = f"{name}, turn {number}" if len(answers) > 1 else name
        yield Turn(turn_name, place, messages[:index], [messages[index]])
