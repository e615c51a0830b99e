"""Read the pairs of generate_phase2_data.py and the Phase 1 rows that they were made from, for the benchmarks."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hard_negatives_triggers import Summary
from language_model.prompt_format import note_of_row
from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.files import read_jsonl
from script_io.phase1_csv import FACTUAL_LABELS, REQUIRED_COLUMNS

SPLITS = {"train": ("train_set_processed.csv", "train_dpo.jsonl"),
          "validation": ("validation_set_processed.csv", "val_dpo.jsonl")}  # fmt: skip
LEFT_OUT = "left_out.jsonl"
REMEDY = "run generate_phase2_data.py first, or check --phase2_dir"


@dataclass(frozen=True)
class Pair:
    """One line of a DPO file."""

    split: str
    pair_id: str
    source_id: str
    note: str
    chosen: str
    rejected: str
    edits: tuple[dict[str, Any], ...]

    @property
    def category(self) -> str:
        return str(self.edits[0]["type"])


def add_data_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the flags of the two folders; return the argument group, so that a benchmark can add its own."""
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--phase1_dir",
        type=Path,
        default=Path("phase1_data/sft"),
        help="folder of the Phase 1 CSV files",
    )
    data.add_argument(
        "--phase2_dir",
        type=Path,
        default=Path("phase2_data/dpo"),
        help="folder that generate_phase2_data.py made from them",
    )
    return data


def read_pairs(phase2_dir: Path) -> list[Pair]:
    """Read all pairs of both splits. Raises InputError if a file is missing or a line lacks a key."""
    keys = ("id", "source_id", "prompt", "chosen", "rejected", "edits")
    pairs = []
    for split, (_, name) in SPLITS.items():
        path = phase2_dir / name
        if path.is_file() and not path.stat().st_size:  # no validation pairs
            continue
        for line, row in read_jsonl(path, keys, REMEDY):
            if not row["edits"]:
                raise InputError(f"{path}, line {line}: edits is empty; {REMEDY}")
            note = note_of_row(row) or row["prompt"]
            texts = (row["id"], row["source_id"], note, row["chosen"], row["rejected"])
            pairs.append(Pair(split, *texts, tuple(row["edits"])))
    if not pairs:
        raise InputError(f"{phase2_dir}: no pairs; {REMEDY}")
    return pairs


def read_summaries(phase1_dir: Path) -> list[tuple[Summary, str]]:
    """Read the factual summaries of both splits, each with its note."""
    found = []
    for split, (name, _) in SPLITS.items():
        for _, row in read_csv(phase1_dir / name, ("id", *REQUIRED_COLUMNS)):
            if row["label"] in FACTUAL_LABELS:
                found.append((Summary((split, row["id"]), row["model_summary"]), row["clinical_note"]))
    return found


def read_unsound(phase2_dir: Path) -> set[tuple[str, str]]:
    """Return (split, id) of the summaries that the generator left out because their note does not support them."""
    path = phase2_dir / LEFT_OUT
    if path.is_file() and not path.stat().st_size:
        return set()
    return {(row["split"], row["id"]) for _, row in read_jsonl(path, ("split", "id"), REMEDY)}
