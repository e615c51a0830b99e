"""Preference data in the forms of public sets come to the same prompt, chosen and rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from script_io.errors import InputError
from script_io.preference_files import KEYS, read_preferences


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PLAIN = {"prompt": "Q", "chosen": "Yes.", "rejected": "No."}
SUITE = "Clinical Note: Age 54.\n\nSummary:"
TURNS = [user("Hi"), assistant("Hello."), user("Q")]
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "TRL plain": (PLAIN, PLAIN),
    "TRL conversational": (
        {"prompt": [user("Q")], "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]},
        PLAIN,
    ),
    "TRL conversational of several turns": (
        {"prompt": TURNS, "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]},
        {"prompt": TURNS, "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]},
    ),
    "implicit prompt, conversational": (
        {"chosen": [user("Q"), assistant("Yes.")], "rejected": [user("Q"), assistant("No.")]},
        PLAIN,
    ),
    "implicit prompt of several turns": (
        {"chosen": [*TURNS, assistant("Yes.")], "rejected": [*TURNS, assistant("No.")]},
        {"prompt": TURNS, "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]},
    ),
    "implicit prompt of the suite": (
        {"chosen": f"{SUITE} Age 54.", "rejected": f"{SUITE} Age 45."},
        {"prompt": SUITE, "chosen": " Age 54.", "rejected": " Age 45."},
    ),
    "implicit prompt of HH-RLHF": (
        {"chosen": "\n\nHuman: Q\n\nAssistant: Yes.", "rejected": "\n\nHuman: Q\n\nAssistant: Yeast."},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": " Yes.", "rejected": " Yeast."},
    ),
    "implicit prompt without a mark": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " black."},
    ),
    "UltraFeedback, binarised": (
        {
            **{"prompt": "Q", "prompt_id": "a1", "messages": [user("Q"), assistant("Yes.")]},
            **{"chosen": [user("Q"), assistant("Yes.")], "rejected": [user("Q"), assistant("No.")]},
            **{"score_chosen": 9.0, "score_rejected": 2.0},
        },
        PLAIN,
    ),
    "UltraFeedback, scored": (
        {
            "instruction": "Q",
            "completions": [
                {"response": "No.", "overall_score": 2.0},
                {"response": "Perhaps.", "overall_score": 7.5},
                {"response": "Yes.", "overall_score": 8.5},
            ],
        },
        PLAIN,
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_a_form_is_read(form: str, kind: str, tmp_path: Path) -> None:
    row, expected = FORMS[form]
    path = tmp_path / f"pairs.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row if kind == "jsonl" else [row]))
    ((place, found),) = read_preferences(path)
    assert {key: found[key] for key in KEYS} == expected
    assert place.row_id == ("line-1" if kind == "jsonl" else "row-1")


def test_columns_and_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,better,worse\nQ,Yes.,No.\n")
    names = {"prompt": "question", "chosen": "better", "rejected": "worse"}
    assert [row for _, row in read_preferences(tmp_path / "a.csv", names)] == [PLAIN]


def test_keys_of_messages_that_parquet_adds_are_dropped(tmp_path: Path) -> None:
    turns = {"prompt": [{**user("Q"), "name": None}, {**user("R"), "name": "x"}]}
    pq.write_table(pa.Table.from_pylist([PLAIN | turns]), tmp_path / "a.parquet")
    ((_, row),) = read_preferences(tmp_path / "a.parquet")
    assert row["prompt"] == [user("Q"), user("R")]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"chosen": "a"}, "line 1: missing key prompt, rejected; found chosen; other names are given with --columns"),
        ({"chosen": "Yes.", "rejected": "No."}, "line 1: no prompt, and chosen and rejected share no beginning"),
        ({"chosen": [assistant("a")], "rejected": [assistant("b")]}, "share no first message; give a prompt"),
        ({"instruction": "Q", "completions": [{"response": "a"}]}, "need a response and a score each"),
        (
            {"instruction": "Q", "completions": [{"response": "a", "overall_score": 5}] * 2},
            "no answer has a better score than another; delete the row",
        ),
    ],
)
def test_what_has_no_pair_is_refused(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError) as caught:
        read_preferences(tmp_path / "a.jsonl")
    assert says in str(caught.value)
