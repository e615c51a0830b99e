"""Write the folder of bad files, bad model folders and a few good ones that test_bad_input.py runs the scripts on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_models import build_tiny_model
from training_helpers import random_adapter, write_phase1, write_triplets
from transformers import AutoConfig, AutoModelForCausalLM

from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv

NOTE, SUMMARY = "A 54-year-old woman with chest pain.", "Age 54, chest pain."
HEADER = "id,clinical_note,model_summary,label\n"
ROW = f"a,{NOTE},{SUMMARY.replace(',', '')},factual\n"
PAIR = {"id": "a", "prompt": build_prompt(NOTE), "chosen": "Age 54.", "rejected": "Age 45."}
FACTUAL = {"id": "a", "clinical_note": NOTE, "model_summary": SUMMARY, "label": "factual"}
LONG = 50_000_000  # bytes of a line
HALF = "\ud83d"  # half of a character

BAD_PHASE1: dict[str, bytes] = {
    "cp1252.csv": (HEADER + ROW.replace("pain", "pain 38 °C")).encode("cp1252"),
    "utf16.csv": (HEADER + ROW).encode("utf-16"),
    "nul.csv": (HEADER + ROW + "b,a\0b,s,factual\n").encode(),
    "twice.csv": b"id,clinical_note,label,model_summary,label\na,n,factual,s,factual\n",
    "label.csv": (HEADER + ROW + "b,Cough.,Cough.,good\n").encode(),
    "spelling.csv": (HEADER + ROW + "b,Cough.,Cough.,Factual\n").encode(),
    "blank_note.csv": (HEADER + ROW + "b, ,Cough.,factual\n").encode(),
    "blank_summary.csv": (HEADER + ROW + "b,Cough.,,factual\n").encode(),
    "blank_label.csv": (HEADER + ROW + "b,Cough.,Cough.,\n").encode(),
    "cells.csv": (HEADER + ROW + "b,Cough.,Cough.,factual,x\n").encode(),
    "quote.csv": (HEADER + 'a,"never closed,s,factual\n').encode(),
    "header.csv": HEADER.encode(),
    "hallucinated.csv": (HEADER + ROW.replace("factual", "hallucinated")).encode(),
    "ids.csv": (HEADER + ROW + "a,Cough.,Cough.,factual\n").encode(),
    "long.csv": (HEADER + ROW).encode() + b"b," + b"x" * LONG + b",s,factual\n",
    "texts.json": b'["a", "b"]',
    "number.json": b"7",
    "null.json": b"null",
    "no_rows.json": b"[]",
    "broken.json": b'[{"clinical_note": "a"},\n {"clinical_note": ]',
    "deep.json": b"[" * 200_000,
    "digits.json": b'[{"id": ' + b"7" * 5000 + b"}]",
    "list.json": json.dumps([FACTUAL, FACTUAL | {"clinical_note": [NOTE]}]).encode(),
    "null_note.json": json.dumps([FACTUAL, FACTUAL | {"clinical_note": None}]).encode(),
    "half.json": json.dumps([FACTUAL, FACTUAL | {"model_summary": HALF}]).encode(),
    "key_twice.json": json.dumps([FACTUAL]).replace('"id": "a"', '"id": "a", "id": "b"').encode(),
    "column.json": json.dumps([FACTUAL, {"clinical_note": NOTE, "label": "factual"}]).encode(),
    "object.json": b'{"a": [1], "b": {"c": 2}}',
    "label.jsonl": (json.dumps(FACTUAL) + "\n" + json.dumps(FACTUAL | {"label": "good"})).encode(),
    "object.jsonl": (json.dumps(FACTUAL) + "\n" + json.dumps(FACTUAL | {"model_summary": {"text": "s"}})).encode(),
    "long_cell.jsonl": json.dumps(FACTUAL | {"clinical_note": "x" * 10_000_001}).encode(),
    "table.parquet": b"PAR1 no table",
    "empty.parquet": b"",
}
BAD_PAIRS: dict[str, bytes] = {
    "cp1252_pairs.jsonl": b'{"prompt": "38 \xb0C"}',
    "utf16_pairs.jsonl": json.dumps(PAIR).encode("utf-16"),
    "nul_pairs.jsonl": json.dumps(PAIR).replace("Age 54.", "Age\0 54.").encode(),
    "long_pairs.jsonl": json.dumps(PAIR).encode() + b"\n" + b"x" * LONG,
    "deep_pairs.jsonl": b'{"a":' * 100_000,
    "array_line.jsonl": json.dumps([PAIR]).encode(),
    "number_line.jsonl": json.dumps(PAIR).encode() + b"\n7\n",
    "text_line.jsonl": json.dumps(PAIR).encode() + b'\n"text"\n',
    "null_line.jsonl": json.dumps(PAIR).encode() + b"\nnull\n",
    "digits_pairs.jsonl": b'{"prompt": ' + b"7" * 5000 + b"}",
    "key_twice_pairs.jsonl": json.dumps(PAIR).replace('"id"', '"chosen": "x", "id"').encode(),
}
BAD_ROWS: dict[str, dict[str, Any]] = {  # the second row of a DPO JSONL
    "prompt_number": {"prompt": 7},
    "prompt_null": {"prompt": None},
    "chosen_number": {"chosen": 7},
    "rejected_list": {"rejected": ["Age 45."]},
    "chosen_object": {"chosen": {"content": "Age 54."}},
    "no_messages": {"chosen": []},
    "no_content": {"chosen": [{"role": "assistant"}]},
    "content_parts": {"chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Age 54."}]}]},
    "user_answers": {"chosen": [{"role": "user", "content": "Age 54."}]},
    "same": {"rejected": "Age 54."},
    "same_tokens": {"rejected": " Age 54. "},
    "empty_prompt": {"prompt": " \n"},
    "empty_chosen": {"chosen": ""},
    "half": {"chosen": HALF},
    "other_note": {"clinical_note": "Cough."},
    "note_number": {"clinical_note": 7},
    "edits_number": {"edits": 7},
    "spans_text": {"chosen_spans": "x"},
    "spans_outside": {"chosen_spans": [[0, 99]], "rejected_spans": []},
    "pair_ids": {"prompt": build_prompt("Cough."), "id": "a"},
}


def write_all(folder: Path) -> None:
    """Write every file and folder into `folder`."""
    base = build_tiny_model(folder / "base")
    random_adapter(folder / "sft", base)
    write_phase1(folder / "good.csv", 4)
    write_triplets(folder / "good.jsonl", 4)
    for name, content in {**BAD_PHASE1, **BAD_PAIRS}.items():
        (folder / name).write_bytes(content)
    for name, change in BAD_ROWS.items():
        rows = [PAIR, {**PAIR, "id": "b"} | change]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist([{"clinical_note": NOTE}]), folder / "column.parquet")
    pq.write_table(pa.Table.from_pylist([PAIR, PAIR | {"rejected": "Age 54."}]), folder / "same.parquet")
    pq.write_table(pa.Table.from_pylist([PAIR])[:0], folder / "no_rows.parquet")
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "empty.json").write_bytes(b"")
    _marked(folder)
    (folder / "loop").symlink_to(folder / "loop")  # no file, not even for root
    (folder / "loop.jsonl").symlink_to(folder / "loop.jsonl")
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    (folder / "nothing").mkdir()
    (folder / "nothing.jsonl").mkdir()
    (folder / "nothing.parquet").mkdir()
    _phase1_folders(folder)
    _models(folder, base)
    _adapters(folder)
    _results(folder)


def _marked(folder: Path) -> None:
    """Write good files with a byte order mark and CRLF as line ends."""
    result = (
        f"example_id,clinical_note,generated_summary,has_hallucination,unsupported_spans\r\n1,{NOTE},Age 45.,,[]\r\n"
    )
    for name, text in (
        ("bom.csv", HEADER + ROW),
        ("bom.json", json.dumps([FACTUAL], indent=1)),
        ("bom.jsonl", json.dumps(PAIR) + "\n"),
        ("bom.txt", NOTE + "\n"),
        ("bom_completions.jsonl", json.dumps({"prompt": PAIR["prompt"], "completions": ["Age 54."]}) + "\n"),
        ("bom_predictions.csv", result),
    ):
        crlf = text.replace("\r", "").replace("\n", "\r\n")
        (folder / name).write_bytes(crlf.encode("utf-8-sig"))
    (folder / "phase1_bom").mkdir()
    shutil.copy(folder / "bom.csv", folder / "phase1_bom" / "train_set_processed.csv")


def _phase1_folders(folder: Path) -> None:
    for name in (
        "cp1252.csv",
        "nul.csv",
        "label.csv",
        "long.csv",
        "twice.csv",
        "half.json",
        "table.parquet",
        "good.csv",
    ):
        stem, suffix = name.split(".")
        (folder / f"phase1_{stem}").mkdir()
        for split in ("train", "validation", "test"):
            (folder / f"phase1_{stem}" / f"{split}_set_processed.{suffix}").symlink_to(folder / name)
    shutil.copytree(folder / "phase1_good", folder / "phase1_two", symlinks=True)
    (folder / "phase1_two" / "train_set_processed.jsonl").write_text(json.dumps(FACTUAL))


def _models(folder: Path, base: Path) -> None:
    def copy(name: str, file: str, content: bytes) -> None:
        shutil.copytree(base, folder / name)
        (folder / name / file).write_bytes(content)

    copy("model_list", "config.json", b"[]")
    copy("model_text", "config.json", b"no JSON")
    copy("model_utf16", "config.json", (base / "config.json").read_text().encode("utf-16"))
    copy("model_type", "config.json", b'{"model_type": "nonsense"}')
    copy("model_encoder", "config.json", b'{"model_type": "vit", "architectures": ["ViTModel"]}')
    copy("model_torn", "model.safetensors", (base / "model.safetensors").read_bytes()[:1000])
    copy("model_noise", "model.safetensors", b"noise" * 100)
    copy("model_pickle", "pytorch_model.bin", b"\x80\x04N.")
    (folder / "model_pickle" / "model.safetensors").unlink()
    copy("tokenizer_text", "tokenizer.json", b"no JSON")
    copy("tokenizer_list", "tokenizer.json", b"[]")
    shutil.copytree(base, folder / "tokenizer_none")
    for file in (folder / "tokenizer_none").glob("tokenizer*"):
        file.unlink()
    settings = json.loads((base / "tokenizer_config.json").read_text())
    copy("no_eos", "tokenizer_config.json", json.dumps(settings | {"eos_token": None}).encode())


def _adapters(folder: Path) -> None:
    def copy(name: str, file: str, content: bytes) -> None:
        shutil.copytree(folder / "sft", folder / name)
        (folder / name / file).write_bytes(content)

    settings = json.loads((folder / "sft" / "adapter_config.json").read_text())
    stored = json.loads((folder / "sft" / "prompt_format.json").read_text())
    for name, change in (
        ("adapter_base_gone", {"base_model_name_or_path": "./gone/base"}),
        ("adapter_base_number", {"base_model_name_or_path": 7}),
        ("adapter_no_base", {"base_model_name_or_path": None}),
        ("adapter_prompt", {"peft_type": "PROMPT_TUNING"}),
        ("adapter_kind", {"peft_type": "NONSENSE"}),
        ("adapter_rank", {"r": 5}),
    ):
        copy(name, "adapter_config.json", json.dumps(settings | change).encode())
    copy("adapter_list", "adapter_config.json", b"[]")
    copy("adapter_text", "adapter_config.json", b"no JSON")
    copy("adapter_noise", "adapter_model.safetensors", b"noise" * 100)
    copy("adapter_torn", "adapter_model.safetensors", (folder / "sft" / "adapter_model.safetensors").read_bytes()[:500])
    copy("format_list", "prompt_format.json", b"[]")
    copy("format_text", "prompt_format.json", b"no JSON")
    copy("format_empty", "prompt_format.json", b"{}")
    copy("format_unknown", "prompt_format.json", json.dumps(stored | {"prompt_format": "xml"}).encode())
    copy("format_changed", "prompt_format.json", json.dumps(stored | {"sha256": "0" * 64}).encode())
    _wider_base(folder)


def _wider_base(folder: Path) -> None:
    """Write a base of another width, which no adapter here is for."""
    config = AutoConfig.from_pretrained(folder / "base", hidden_size=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "other_base")
    for file in (folder / "base").glob("tokenizer*"):
        shutil.copy(file, folder / "other_base")


def _results(folder: Path) -> None:
    columns = ("example_id", "clinical_note", "generated_summary", "has_hallucination", "unsupported_spans")
    row = {"example_id": "1", "clinical_note": NOTE, "generated_summary": "Age 45.", "unsupported_spans": "[]"}
    for name in ("evaluation", "evaluation_list"):
        (folder / name).mkdir()
        write_csv(folder / name / "evaluation_results.csv", columns, [dict.fromkeys(columns, "") | row])
        (folder / name / "evaluation_summary.json").write_text("[]")
    shutil.copy(folder / "evaluation" / "evaluation_results.csv", folder / "predictions.csv")
    for name, prediction in (
        ("predictions_ids", [row | {"id": "1"}] * 2),
        ("predictions_number", [row | {"generated_summary": 7}]),
        ("predictions_blank", [row | {"clinical_note": ""}]),
    ):
        (folder / f"{name}.json").write_text(json.dumps(prediction))
    (folder / "on_policy").mkdir()
    completions = {"prompt": build_prompt(NOTE), "completions": ["Age 45.", "Age 54."]}
    (folder / "on_policy" / "train.jsonl").write_text(json.dumps(completions))
    for name, change in (
        ("completions_text", {"completions": "Age 45."}),
        ("completions_numbers", {"completions": [7]}),
        ("completions_prompt", {"prompt": ""}),
        ("completions_reference", {"reference": 7}),
        ("completions_finished", {"finished": [True]}),
    ):
        (folder / f"{name}.jsonl").write_text(json.dumps(completions | change))
    (folder / "sampled").mkdir()
    (folder / "sampled" / "c.jsonl").write_text("")
    (folder / "sampled" / "c.config.json").write_text("[]")
    (folder / "rated").mkdir()
    shutil.copy(folder / "predictions.csv", folder / "rated" / "results.csv")
    (folder / "rated" / "manual_assessment.json").write_text("[]")
    (folder / "accuracy.json").write_text("[]")
    (folder / "long.txt").write_bytes(b"x" * LONG)
    (folder / "cp1252.txt").write_bytes("38 °C\n".encode("cp1252"))
    (folder / "prepared").mkdir()
    shutil.copy(folder / "good.csv", folder / "prepared" / "train_set_processed.csv")
    shutil.copytree(folder / "sft", folder / "run" / "final_model")
    shutil.copytree(folder / "base", folder / "base_run" / "final_model")
