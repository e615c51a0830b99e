"""Read preference data in the forms that public sets have, as rows with a prompt, a chosen and a rejected answer.

- `prompt`, `chosen` and `rejected` as texts, or as lists of chat messages (TRL's plain and conversational sets)
- no `prompt`: chosen and rejected repeat it (an implicit prompt). It is the messages that both share, or the text that
  both begin with
- a text `prompt`, and chosen and rejected as messages that repeat it (UltraFeedback, binarised)
- `instruction` and `completions` with scores (UltraFeedback): the best answer is chosen, the worst rejected
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from script_io.errors import InputError
from script_io.tables import Place, Row, read_table

KEYS = ("prompt", "chosen", "rejected")
PREFERENCE_REMEDY = "make it with: python generate_phase2_data.py"
ANSWER_MARKS = ("\n\nSummary:", "\n\nAssistant:")  # the end of a prompt of the suite, of Anthropic's HH-RLHF
SCORES = ("overall_score", "fine-grained_score")  # of an answer of UltraFeedback, the more reliable first


def read_preferences(
    path: str | Path, columns: Mapping[str, str] | None = None, remedy: str = PREFERENCE_REMEDY
) -> list[Row]:
    """Return the (place, row) pairs of a preference file of any form above.

    Each row has KEYS, and keeps its other columns without a value of None. The values are as the file has them, which
    may be unusable; messages have `role` and `content` alone. A prompt of one user message and an answer of one
    assistant message become texts. Files of an unknown name are read as JSON lines. Raises InputError with the place
    of a row that lacks a part, and for a row of scores without a best answer.
    """
    rows: list[Row] = []
    implicit = scored = 0
    for place, cells in read_table(path, (), remedy, columns, other_names=".jsonl"):
        row = {name: cell for name, cell in cells.items() if cell is not None or name in KEYS}
        if not any(key in row for key in KEYS) and {"instruction", "completions"} <= row.keys():
            row, scored = _best_and_worst(f"{path}, {place}", row), scored + 1
        elif "prompt" not in row and {"chosen", "rejected"} <= row.keys():
            row, implicit = _with_prompt(f"{path}, {place}", row), implicit + 1
        _require_keys(path, place, row)
        rows.append((place, _plain_where_possible(_without_repeated_prompt(row))))
    if implicit:
        print(f"{path}: {implicit} rows have no prompt; it is what chosen and rejected both begin with")
    if scored:
        print(f"{path}: {scored} rows of scored answers; the best is chosen, the worst rejected")
    return rows


def _require_keys(path: str | Path, place: Place, row: Mapping[str, Any]) -> None:
    if missing := [key for key in KEYS if key not in row]:
        kind = "key" if place.unit == "line" else "column"
        raise InputError(
            f"{path}, {place}: missing {kind} {', '.join(missing)}; found {', '.join(row) or 'none'}; other names are "
            "given with --columns"
        )


# ------------------------------------------------------------------------------------ implicit prompts


def _with_prompt(place: str, row: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared = _shared_messages(chosen, rejected)
        if not shared:
            raise InputError(f"{place}: no prompt, and chosen and rejected share no first message; give a prompt")
        return {**row, "prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}
    if isinstance(chosen, str) and isinstance(rejected, str):
        end = _end_of_prompt(chosen, rejected)
        if not chosen[:end].strip():
            raise InputError(f"{place}: no prompt, and chosen and rejected share no beginning; give a prompt")
        return {**row, "prompt": chosen[:end], "chosen": chosen[end:], "rejected": rejected[end:]}
    return dict(row)


def _shared_messages(chosen: Sequence[Any], rejected: Sequence[Any]) -> int:
    """Return how many first messages both share; the last message of each is its answer."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return shared


def _end_of_prompt(chosen: str, rejected: str) -> int:
    """Return where two texts with the same prompt stop repeating it: after a mark of its end, else after a whole word.

    Without a mark, words with which both answers begin count as the prompt, as in TRL.
    """
    differs = (place for place, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other)
    shared = chosen[: next(differs, min(len(chosen), len(rejected)))]
    ends = [start + len(mark) for mark in ANSWER_MARKS if (start := shared.rfind(mark)) >= 0]
    if ends:
        return max(ends)
    end = len(shared)
    while end and not chosen[end - 1].isspace():
        end -= 1
    return len(chosen[:end].rstrip())


def _without_repeated_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without the messages of the prompt at the start of chosen and rejected."""
    prompt, chosen, rejected = (row[key] for key in KEYS)
    answers = [chosen, rejected]
    if not all(isinstance(answer, list) and len(answer) > 1 for answer in answers):
        return row
    shared = _shared_messages(chosen, rejected)
    repeats = chosen[:shared] == prompt or (
        isinstance(prompt, str) and shared and _contents(chosen[:shared])[-1].strip() == prompt.strip()
    )
    if not repeats:
        return row
    return {**row, "prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _contents(messages: Sequence[Any]) -> list[str]:
    return [str(message.get("content")) if isinstance(message, dict) else "" for message in messages]


# -------------------------------------------------------------------------------------- UltraFeedback


def _best_and_worst(place: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its prompt, its best and its worst answer by score, instead of all answers."""
    answers = row.pop("completions")
    prompt = row.pop("instruction")
    try:
        scored = [(_score(answer), answer["response"]) for answer in answers]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{place}: completions need a response and a score each ({', '.join(SCORES)})") from error
    if len(scored) < 2 or max(scored)[0] == min(scored)[0]:
        raise InputError(f"{place}: no answer has a better score than another; delete the row")
    return {**row, "prompt": prompt, "chosen": max(scored)[1], "rejected": min(scored)[1]}


def _score(answer: Any) -> float:
    given = [answer[name] for name in SCORES if name in answer and answer[name] is not None]
    score = float(given[0]) if given else math.nan
    if math.isnan(score):
        raise ValueError("no score")
    return score


# ---------------------------------------------------------------------------------------- messages


def _plain_where_possible(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with texts for a prompt of one user message and for answers of one assistant message."""
    cleaned = {key: _cleaned(row[key]) for key in KEYS}
    texts = {key: _text(cleaned[key], "user" if key == "prompt" else "assistant") for key in KEYS}
    return {**row, **(texts if None not in texts.values() else cleaned)}


def _cleaned(value: Any) -> Any:
    """Return messages with `role` and `content` alone: Parquet gives each message all keys that any message has."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return value
    return [{name: each[name] for name in ("role", "content") if name in each} for each in value]


def _text(value: Any, role: str) -> str | None:
    if isinstance(value, str):
        return value
    is_one = isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
    if is_one and value[0].get("role") == role and isinstance(value[0].get("content"), str):
        text: str = value[0]["content"]
        return text
    return None
