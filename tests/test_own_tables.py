"""Scripts read a user's own table as they read the suite's files: other kinds and column names, the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import build_tokenizer

import generate_phase2_data
from dpo_dataset import DPODataset
from evaluation.evaluate_model import read_predictions, read_test_data
from generate_completions import read_prompts
from judging.calibrate import read_factual
from judging.pair_makers import judges_of_pairs
from language_model.conversations import holds_conversations, read_turns
from language_model.note_files import read_notes
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.files import write_json, write_jsonl
from script_io.phase1_csv import COLUMNS
from sft_dataset import SFTDataset

NOTES = [f"A {age}-year-old woman with chest pain. Started apixaban {dose} mg." for age, dose in ((54, 5), (61, 10))]
SUMMARIES = ["Age 54, chest pain, apixaban 5 mg.", "Age 61, chest pain, apixaban 10 mg."]
CELLS = [(f"v{n}", note, text, "factual", "") for n, (note, text) in enumerate(zip(NOTES, SUMMARIES, strict=True))]
ROWS: list[dict[str, Any]] = [dict(zip(COLUMNS, cells, strict=True)) for cells in CELLS]
THEIR_NAMES = {"id": "visit", "clinical_note": "dialogue", "model_summary": "section_text", "label": "truth"}
THEIRS = [{THEIR_NAMES.get(name, name): cell for name, cell in row.items()} for row in ROWS]
PAIRS = [
    {"id": f"p{n}", "prompt": build_prompt(note), "chosen": good, "rejected": good.replace("Age", "Not age")}
    for n, (note, good) in enumerate(zip(NOTES, SUMMARIES, strict=True))
]
KINDS = ("json", "jsonl", "parquet")
TABLE_KINDS = (*KINDS, "tsv")  # of cells that are text


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer("qwen2")


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".tsv":
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    else:
        (write_json if path.suffix == ".json" else write_jsonl)(path, rows)
    return path


def suite_csv(folder: Path) -> Path:
    write_csv(folder / "suite.csv", COLUMNS, ROWS)
    return folder / "suite.csv"


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_every_reader_of_phase_1(kind: str, tmp_path: Path, tokenizer: Any) -> None:
    ours, theirs = suite_csv(tmp_path), save(tmp_path / f"visits.{kind}", THEIRS)
    assert SFTDataset(theirs, tokenizer, columns=THEIR_NAMES).examples == SFTDataset(ours, tokenizer).examples
    assert read_prompts(theirs, THEIR_NAMES) == read_prompts(ours)
    assert read_test_data(theirs, THEIR_NAMES) == read_test_data(ours)
    assert [example.summary for example in read_factual(theirs, THEIR_NAMES)] == SUMMARIES
    assert [note.text for note in read_notes(theirs, "dialogue")] == NOTES


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_the_generator_makes_the_same_triplets(kind: str, tmp_path: Path) -> None:
    made = {}
    for name, rows, suffix, flags in (("ours", ROWS, "csv", []), ("theirs", THEIRS, kind, THEIR_NAMES)):
        (tmp_path / name).mkdir()
        for split, part in (("train", rows[:1]), ("validation", rows[1:])):
            path = tmp_path / name / f"{split}_set_processed.{suffix}"
            save(path, part) if suffix != "csv" else write_csv(path, COLUMNS, part)
        roles = ["id=visit", "note=dialogue", "summary=section_text", "label=truth"] if flags else []
        arguments = ["--phase1_dir", str(tmp_path / name), "--phase2_dir", str(tmp_path / f"{name}_out")]
        arguments += ["--columns", *roles] if roles else []
        assert generate_phase2_data.main(generate_phase2_data.parse_args(arguments)) == 0
        rows_made = (tmp_path / f"{name}_out" / "train_dpo.jsonl").read_text().splitlines()
        made[name] = [(row["prompt"], row["chosen"]) for row in map(json.loads, rows_made)]
    assert made["ours"] == made["theirs"] != []


@pytest.mark.parametrize("kind", KINDS)
def test_triplets_of_every_kind_and_of_chat_messages(kind: str, tmp_path: Path, tokenizer: Any) -> None:
    expected = DPODataset(save(tmp_path / "suite.jsonl", PAIRS), tokenizer, prompt_format="chat").triplets
    names = {"prompt": "question", "chosen": "better", "rejected": "worse"}
    renamed = [{names.get(key, key): value for key, value in row.items() if value} for row in PAIRS]
    found = DPODataset(save(tmp_path / f"a.{kind}", renamed), tokenizer, prompt_format="chat", columns=names)
    assert found.triplets == expected
    messages = [
        {
            "id": row["id"],
            "chosen": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["rejected"]}],
        }
        for row in PAIRS
    ]
    implicit = save(tmp_path / f"b.{kind}", messages)
    assert DPODataset(implicit, tokenizer, prompt_format="chat").triplets == expected
    assert DPODataset(implicit, tokenizer).triplets == DPODataset(tmp_path / "suite.jsonl", tokenizer).triplets


@pytest.mark.parametrize("kind", KINDS)
def test_the_judges_of_pairs_are_found(kind: str, tmp_path: Path) -> None:
    assert judges_of_pairs(save(tmp_path / f"a.{kind}", PAIRS)) == frozenset()
    checked = {"verdict": "contradicted"}
    judged = [{"judge": "openai:gpt-4o", "edits": None}, {"judge": None, "edits": [checked]}]
    assert judges_of_pairs(save(tmp_path / f"b.{kind}", judged)) == {"openai:gpt-4o", "facts"}


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_predictions(kind: str, tmp_path: Path) -> None:
    rows = [{"visit": "v0", "dialogue": NOTES[0], "answer": "Age 45.", "gold": SUMMARIES[0]}]
    columns = {"clinical_note": "dialogue", "generated_summary": "answer", "reference_summary": "gold", "id": "visit"}
    ((example,), (summary,)) = read_predictions(save(tmp_path / f"a.{kind}", rows), columns)
    assert (example.example_id, example.note, example.reference) == ("v0", NOTES[0], SUMMARIES[0])
    assert summary.text == "Age 45."


@pytest.mark.parametrize("kind", KINDS)
def test_conversations(kind: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", "name": "x"}]
    path = save(tmp_path / f"a.{kind}", [{"messages": turns}])
    assert holds_conversations(path)
    ((prompt, answer),) = [(turn.prompt, turn.answer) for turn in read_turns(path)]
    assert (prompt, answer) == (turns[:1], turns[1:])
