"""Phase 1 data: factual (note, summary) pairs, tokenised with the loss on the summary alone.

python sft_dataset.py                                           # checks phase1_data/sft/train_set_processed.csv
python sft_dataset.py phase1_data/sft/test_set_processed.csv    # checks a file, line by line
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from language_model.length_limits import LengthReport, encode_within
from language_model.prompt_format import build_prompt
from scoring.packed_rows import Sample
from script_io.csv_files import read_csv
from script_io.errors import EXIT_BAD_INPUT, ArgumentParser, InputError, run_script

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = ("id", "clinical_note", "model_summary", "label", "hallucination_type")
REQUIRED_COLUMNS = COLUMNS[1:4]
FACTUAL_LABELS = ("factual", "factual_with_evidence")
LABELS = (*FACTUAL_LABELS, "hallucinated")
IGNORED = -100  # the label that PyTorch's cross-entropy passes over
DEFAULT_TRAIN_CSV = "phase1_data/sft/train_set_processed.csv"
DATA_REMEDY = "make the demo's data with: python demo/make_phase1_data.py"

Batch = dict[str, torch.Tensor]


class SFTDataset(Dataset[Batch]):
    """Factual rows of a Phase 1 CSV as `input_ids`, `attention_mask` and `labels`, each (T,) long.

    T is the longest example of the file, so that any collator can stack the items; `collate` trims the padding again.
    Labels are -100 on the prompt and on padding. Rows over `max_length` tokens are in `report`, not in the dataset.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        prompt_format: str = "plain",
        overflow: str = "drop",
    ) -> None:
        self.path = str(path)
        self.pad_id = tokenizer.pad_token_id
        self.report = LengthReport(max_length)
        self.ids: list[str] = []
        self.examples: list[tuple[list[int], list[int]]] = []  # prompt, completion
        rows = load_factual_rows(path)
        for row in rows:
            encoded = encode_within(
                tokenizer,
                row["id"],
                build_prompt(row["clinical_note"]),
                [row["model_summary"]],
                prompt_format,
                overflow,
                self.report,
            )
            if encoded:
                self.ids.append(row["id"])
                self.examples.append((encoded[0], encoded[1][0]))
        self.report.announce(self.path, overflow)
        self.longest = max(len(prompt) + len(completion) for prompt, completion in self.examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Batch:
        prompt, completion = self.examples[index]
        padding = self.longest - len(prompt) - len(completion)
        return {
            "input_ids": torch.tensor(prompt + completion + [self.pad_id] * padding),
            "attention_mask": torch.tensor([1] * (len(prompt) + len(completion)) + [0] * padding),
            "labels": torch.tensor([IGNORED] * len(prompt) + completion + [IGNORED] * padding),
        }

    def sample(self, index: int) -> Sample:
        """The example as training computes it."""
        prompt, completion = self.examples[index]
        return Sample(prompt, (completion,))

    def tokens(self, index: int) -> int:
        return sum(map(len, self.examples[index]))

    def supervised_tokens(self, index: int) -> int:
        return len(self.examples[index][1])


def collate(items: list[Batch]) -> Batch:
    """Stacks items to (B, T), T the longest of them."""
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    length = int(batch["attention_mask"].sum(dim=1).max())
    return {key: tensor[:, :length] for key, tensor in batch.items()}


def load_factual_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a Phase 1 CSV to train on, with an id each. Raises InputError naming line and remedy."""
    rows = read_csv(path, REQUIRED_COLUMNS, DATA_REMEDY)
    print(f"Loaded {len(rows)} examples from {path}")
    for line, row in rows:
        if problem := row_problem(row):
            raise InputError(f"{path}, line {line}: {problem}; run python sft_dataset.py {path} for every such line")
        row["id"] = row.get("id") or f"line-{line}"
    factual = [row for _, row in rows if row["label"] in FACTUAL_LABELS]
    print(f"Filtered to {len(factual)} factual examples")
    if not factual:
        raise InputError(f"{path}: no row is labelled {' or '.join(FACTUAL_LABELS)}; there is nothing to train on")
    return factual


def row_problem(row: dict[str, str]) -> str | None:
    """What is wrong with one row, or None."""
    empty = [column for column in REQUIRED_COLUMNS if not row[column].strip()]
    if empty:
        return f"empty {' and '.join(empty)}; fill in or delete the row"
    if row["label"] not in LABELS:
        return f"label {row['label']!r} is not known; use one of {', '.join(LABELS)}"
    return None


def create_sft_dataloaders(
    train_csv: str | Path,
    val_csv: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 8,
    max_length: int = 512,
    prompt_format: str = "plain",
    overflow: str = "drop",
    seed: int = 42,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Two loaders of (B, T) batches, the training one shuffled from `seed`; their `.dataset` suits any trainer."""
    options: dict[str, Any] = {"max_length": max_length, "prompt_format": prompt_format, "overflow": overflow}
    train, val = (SFTDataset(path, tokenizer, **options) for path in (train_csv, val_csv))
    generator = torch.Generator().manual_seed(seed)
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True, generator=generator, collate_fn=collate),
        DataLoader(val, batch_size=batch_size, collate_fn=collate),
    )


def find_problems(path: str | Path) -> list[str]:
    """Every problem of a Phase 1 CSV, one line each: bad rows, duplicates, notes that another split holds too."""
    rows = read_csv(path, REQUIRED_COLUMNS, DATA_REMEDY)
    problems = [f"line {line}: {problem}" for line, row in rows if (problem := row_problem(row))]
    first_lines: dict[tuple[str, str], int] = {}
    first_ids: dict[str, int] = {}
    for line, row in rows:
        pair = (row["clinical_note"], row["model_summary"])
        if first_lines.setdefault(pair, line) != line:
            problems.append(f"line {line}: the same note and summary as on line {first_lines[pair]}; delete one")
        if row.get("id") and first_ids.setdefault(row["id"], line) != line:
            problems.append(f"line {line}: the id {row['id']} is also that of line {first_ids[row['id']]}; rename one")
    return problems + _shared_notes(Path(path), rows)


def _shared_notes(path: Path, rows: list[tuple[int, dict[str, str]]]) -> list[str]:
    problems = []
    for other in sorted(path.parent.glob("*_set_processed.csv")):
        if other.resolve() == path.resolve():
            continue
        notes = {row["clinical_note"] for _, row in read_csv(other, REQUIRED_COLUMNS)}
        problems += [
            f"line {line}: the note is also in {other.name}; keep it in one split"
            for line, row in rows
            if row["clinical_note"] in notes
        ]
    return problems


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("file", nargs="?", default=DEFAULT_TRAIN_CSV, help="a Phase 1 CSV (default: %(default)s)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    rows = [row for _, row in read_csv(args.file, REQUIRED_COLUMNS, DATA_REMEDY)]
    labels = ", ".join(f"{label} {count}" for label, count in Counter(row["label"] for row in rows).most_common())
    words = sorted(len(row["clinical_note"].split()) for row in rows)
    print(f"{args.file}: {len(rows)} rows ({labels}); notes of {words[0]} to {words[-1]} words")
    problems = find_problems(args.file)
    print("\n".join(f"{args.file}, {problem}" for problem in problems) or "No problem found.")
    return EXIT_BAD_INPUT if problems else 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
